"""Which topics are whose at a broker that is not ours: the listener's, by the sensor's UUID.

Mosquitto's patterns know of a client its user name only, and a UUID can't be given to another
sensor, as a `device_id` can, nor be the name of the server's own account.
"""

import re
from typing import NamedTuple

from heliograph.broker_url import parse_broker_url
from heliograph.errors import StartError
from heliograph.mqtt.link import DROPPED, UPTIME
from heliograph.mqtt.topics import PUBLISHED, READ
from heliograph.settings import Settings

SERVER = "heliograph"
# What the server reads of the broker's own figures: see `heliograph.mqtt.link`.
FIGURES = (DROPPED, UPTIME)


class AccessRules(NamedTuple):
    """The topics of one device, in which `name` stands for it, and what all devices may read."""

    written: tuple[str, ...]
    read: tuple[str, ...]
    common: tuple[str, ...]

    @classmethod
    def of(cls, name: str, *, publish_topic: str, subscribe_topic: str) -> "AccessRules":
        """Return the rules for a user name, or a pattern's `%u`.

        `publish_topic` and `subscribe_topic` are MQTT_PUBLISH_TOPIC and MQTT_SUBSCRIBE_TOPIC. On
        the latter a device may publish where exactly one level is a wildcard, which then is its
        name: on any other topic it could speak as another device.
        """
        written = [f"{first}/{name}" for first in PUBLISHED]
        if (packets := packet_topic(subscribe_topic, name)) is not None:
            written.append(packets)
        return cls(tuple(written), tuple(f"{first}/{name}" for first in READ), (publish_topic,))


class ServerAccount(NamedTuple):
    """The server's own account; without a password the broker knows it from elsewhere."""

    name: str
    password: str | None = None


def packet_topic(subscribe_topic: str, name: str) -> str | None:
    """Return the topic of a device's own packets; None: the filter has none for each device."""
    levels = subscribe_topic.split("/")
    if levels.count("+") != 1 or "#" in levels:
        return None
    return "/".join(name if level == "+" else level for level in levels)


def is_user_name(name: str) -> bool:
    """Return whether Mosquitto's files can hold the name, and a rule for it means one account."""
    return re.fullmatch(r"[^\s:#+/%$\x00-\x1f\x7f]{1,128}", name) is not None


def server_account(settings: Settings) -> ServerAccount:
    """Return who the server is at the broker; without MQTT_USERNAME, `heliograph`.

    Raises:
        StartError: a broker's files can't hold that name.
    """
    url = parse_broker_url(settings.mqtt_url) if settings.mqtt_url else None
    secret = settings.mqtt_password
    password = secret.get_secret_value() if secret is not None else (url and url.password)
    name = settings.mqtt_username or (url and url.username) or SERVER
    if not is_user_name(name):
        raise StartError(f"MQTT_USERNAME: {name!r} can't stand in a broker's access rules")
    return ServerAccount(name, password or None)


def rules_for(settings: Settings, name: str) -> AccessRules:
    """Return the rules of a device of this user name, or of all of them by `%u`."""
    return AccessRules.of(
        name,
        publish_topic=settings.mqtt_publish_topic,
        subscribe_topic=settings.mqtt_subscribe_topic,
    )

"""What the settings say of a broker that is not ours."""

from heliograph.broker.mosquitto import ServerAccount
from heliograph.broker.rules import SERVER, Rules, is_user_name
from heliograph.broker_url import parse_broker_url
from heliograph.errors import StartError
from heliograph.settings import Settings


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


def rules_for(settings: Settings, name: str) -> Rules:
    """Return the rules of a device of this user name, or of all of them by `%u`."""
    return Rules.of(
        name,
        publish_topic=settings.mqtt_publish_topic,
        subscribe_topic=settings.mqtt_subscribe_topic,
    )

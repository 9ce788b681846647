"""The address of an external broker, as MQTT_URL has it."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_TLS = {"mqtt": False, "tcp": False, "mqtts": True, "ssl": True}
_PORTS = {False: 1883, True: 8883}


class BrokerUrl(NamedTuple):
    """Where a broker is, and who we are there as far as the URL says."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None

    def __str__(self) -> str:
        """Return the address without the credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_broker_url(text: str) -> BrokerUrl:
    """Return the parts of `mqtt://[user[:password]@]host[:port]`, or of `mqtts://…`.

    Raises:
        ValueError: it is none; the message holds nothing of the URL.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL; allowed: like mqtt://host:1883") from None
    tls = _TLS.get(parts.scheme)
    if tls is None:
        raise ValueError("should start with mqtt:// or, for TLS, mqtts://")
    if not parts.hostname:
        raise ValueError("should name a host, like mqtt://host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("should end with host and port, like mqtt://host:1883")
    if port == 0:
        raise ValueError("should have a port from 1 to 65535")
    return BrokerUrl(
        parts.hostname,
        port or _PORTS[tls],
        tls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password is not None else None,
    )

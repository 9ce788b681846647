"""A session of an MQTT client as servers on one database hand it on."""

from typing import NamedTuple


class WantedSession(NamedTuple):
    """A session that a client asks for; `clean`: it begins anew, `forced`: whoever has it."""

    key: bytes
    expiry: int
    client: bytes
    clean: bool
    forced: bool


class Found(NamedTuple):
    """A session that is this server's from now on, and what was known of it.

    `expiry` is in seconds, `ends_at` in microseconds; None: it had a connection. `position` says
    up to which ids what it is owed is in `owed`. Without a `client` it is new.
    """

    key: bytes
    epoch: int
    holder: str
    expiry: int
    ends_at: int | None
    client: bytes | None
    subscriptions: bytes | None
    owed: bytes | None
    position: str | None


class Row(NamedTuple):
    """What is kept of a session; an empty `holder` gives it up for whoever wants it."""

    key: bytes
    epoch: int
    holder: str
    expiry: int
    ends_at: int | None
    client: bytes
    subscriptions: bytes | None
    owed: bytes | None
    position: str | None

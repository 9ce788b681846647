"""A session as it is stored, as MessagePack: whose it is, what it subscribes to and is owed."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import structlog

from heliograph.model.mqtt_sessions import Found
from heliograph.model.principal import Principal
from heliograph.mqtt.codec.packets import Will
from heliograph.mqtt.host import Outgoing
from heliograph.mqtt.session import Entry, LastWill, Owner, Session

log = structlog.get_logger()


class _Will(msgspec.Struct, array_like=True):
    message: Will
    credential: bytes | None
    name: bytes
    at: int


class _Client(msgspec.Struct, array_like=True):
    principal: Principal
    client_id: str
    will: _Will | None


class _Filter(msgspec.Struct, array_like=True):
    filter: str
    qos: int
    no_local: bool
    identifier: int | None


class _Message(msgspec.Struct, array_like=True):
    topic: str
    payload: bytes
    qos: int
    sensor: int
    network: str
    identifiers: tuple[int, ...]
    retain: bool

    @classmethod
    def of(cls, message: Outgoing) -> "_Message":
        named = message.topic, message.payload, message.qos, message.sensor
        return cls(*named, message.network_identifier, message.identifiers, message.retain)

    @property
    def outgoing(self) -> Outgoing:
        named = self.topic, self.payload, self.qos, self.sensor, self.network
        return Outgoing(*named, self.identifiers, retain=self.retain)


class _Owed(msgspec.Struct, array_like=True):
    """`received` are QoS 2 packets that wait for PUBREL: told only by whoever gives it up."""

    unacknowledged: list[tuple[int, _Message]]
    queue: list[_Message]
    last: int
    received: list[int]


_pack = msgspec.msgpack.Encoder().encode
_clients = msgspec.msgpack.Decoder(_Client)
_filters = msgspec.msgpack.Decoder(list[_Filter])
_oweds = msgspec.msgpack.Decoder(_Owed)


class Stored(NamedTuple):
    """What was stored of a session; `will_at` is when its will is due, in microseconds; 0: never.

    `unacknowledged` are messages by their packet ids, of which `last` was the last that was used;
    `received` the QoS 2 packets that wait for PUBREL.
    """

    principal: Principal
    client_id: str
    will: LastWill | None
    will_at: int
    subscriptions: list[_Filter]
    unacknowledged: list[tuple[int, Outgoing]]
    queue: list[Outgoing]
    last: int
    received: list[int]


def key_of(owner: Owner, client_id: str) -> bytes:
    """Return by what a client's session is found."""
    name = "\0".join(map(str, (*owner, client_id))).encode("utf-8", "replace")
    return hashlib.blake2b(name, digest_size=16).digest()


def pack_client(
    principal: Principal, client_id: str, will: LastWill | None, will_at: int = 0
) -> bytes:
    """Return who has a session, and what is to be published once they are gone."""
    stored = None if will is None else _Will(will.message, will.credential, will.name, will_at)
    return _pack(_Client(principal, client_id, stored))


def pack_subscriptions(entries: Iterable[Entry]) -> bytes | None:
    """Return subscriptions; None: there is none."""
    filters = [_Filter(e.filter, e.qos, e.no_local, e.identifier) for e in entries]
    return _pack(filters) if filters else None


def pack_owed(session: Session, *, is_given: bool) -> bytes | None:
    """Return what a session is owed, and which QoS 2 packets it has received if it is given up."""
    received = session.received.committed() if is_given and len(session.received) else []
    if not (session.unacknowledged or session.queue or received or session.next_id):
        return None
    unacknowledged = [(at, _Message.of(each)) for at, each in session.unacknowledged.items()]
    queue = [_Message.of(each) for each in session.queue or ()]
    return _pack(_Owed(unacknowledged, queue, session.next_id, received))


def unpack(found: Found) -> Stored | None:
    """Return what was stored of a session; None: nothing, or by another version of the program."""
    if found.client is None:
        return None
    try:
        client = _clients.decode(found.client)
        subscriptions = _filters.decode(found.subscriptions) if found.subscriptions else []
        owed = _oweds.decode(found.owed) if found.owed else _Owed([], [], 0, [])
    except msgspec.MsgspecError as error:
        log.warning("session of another version of the program not read", reason=str(error))
        return None
    will, will_at = None, 0
    if client.will is not None:
        stored, will_at = client.will, client.will.at
        will = LastWill(stored.message, None, client.principal, stored.credential, stored.name)
    return Stored(
        client.principal,
        client.client_id,
        will,
        will_at,
        subscriptions,
        [(at, each.outgoing) for at, each in owed.unacknowledged],
        [each.outgoing for each in owed.queue],
        owed.last,
        owed.received,
    )

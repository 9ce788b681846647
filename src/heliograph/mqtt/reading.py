"""Reads what clients send: packets of MQTT 3.1.1 and 5 into plain values.

Whatever the bytes, the only error is ProtocolError. `frame` and `read_publish` run for every
message, and are written out where calls would cost more than the work.
"""

import msgspec

from heliograph.mqtt import fields
from heliograph.mqtt.fields import Cursor
from heliograph.mqtt.limits import MAXIMUM_SUBSCRIPTIONS
from heliograph.mqtt.properties import ALLOWED, Properties, read_properties
from heliograph.mqtt.reasons import (
    MQTT_3_1_1,
    MQTT_5,
    PacketType,
    ProtocolError,
    Reason,
    forbidden,
    malformed,
)
from heliograph.mqtt.topics import shared, valid_filter, valid_topic

_FLAGS = {
    PacketType.CONNECT: 0b0000,
    PacketType.PUBACK: 0b0000,
    PacketType.PUBREC: 0b0000,
    PacketType.PUBREL: 0b0010,
    PacketType.PUBCOMP: 0b0000,
    PacketType.SUBSCRIBE: 0b0010,
    PacketType.UNSUBSCRIBE: 0b0010,
    PacketType.PINGREQ: 0b0000,
    PacketType.DISCONNECT: 0b0000,
    PacketType.AUTH: 0b0000,
}

# DUP and QoS of a PUBLISH [MQTT-3.3.1-2] [MQTT-3.3.1-4].
_IMPOSSIBLE_FLAGS = {
    0b1000: "DUP is set with QoS 0",
    0b0110: "QoS 3 does not exist",
    0b1110: "QoS 3 does not exist",
}

_RECEIVED = frozenset(
    {
        Reason.SUCCESS,
        Reason.NO_MATCHING_SUBSCRIBERS,
        Reason.UNSPECIFIED_ERROR,
        Reason.IMPLEMENTATION_SPECIFIC_ERROR,
        Reason.NOT_AUTHORIZED,
        Reason.TOPIC_NAME_INVALID,
        Reason.PACKET_IDENTIFIER_IN_USE,
        Reason.QUOTA_EXCEEDED,
        Reason.PAYLOAD_FORMAT_INVALID,
    }
)
_RELEASED = frozenset({Reason.SUCCESS, Reason.PACKET_IDENTIFIER_NOT_FOUND})
_ACKNOWLEDGMENT_REASONS = {
    PacketType.PUBACK: _RECEIVED,
    PacketType.PUBREC: _RECEIVED,
    PacketType.PUBREL: _RELEASED,
    PacketType.PUBCOMP: _RELEASED,
}
_DISCONNECT_REASONS = frozenset(
    {
        Reason.NORMAL_DISCONNECTION,
        Reason.DISCONNECT_WITH_WILL_MESSAGE,
        Reason.UNSPECIFIED_ERROR,
        Reason.MALFORMED_PACKET,
        Reason.PROTOCOL_ERROR,
        Reason.IMPLEMENTATION_SPECIFIC_ERROR,
        Reason.TOPIC_NAME_INVALID,
        Reason.RECEIVE_MAXIMUM_EXCEEDED,
        Reason.TOPIC_ALIAS_INVALID,
        Reason.PACKET_TOO_LARGE,
        Reason.MESSAGE_RATE_TOO_HIGH,
        Reason.QUOTA_EXCEEDED,
        Reason.ADMINISTRATIVE_ACTION,
        Reason.PAYLOAD_FORMAT_INVALID,
    }
)


class Subscription(msgspec.Struct, frozen=True):
    """A topic filter that a client subscribes to, and how it wants what it selects."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, frozen=True):
    """A SUBSCRIBE packet; `identifier` is the subscriptions' number, if they have one.

    `unread` is how many filters follow that were not looked at, because no session has so many.
    """

    packet_id: int
    filters: list[Subscription]
    identifier: int | None = None
    unread: int = 0


class Unsubscribe(msgspec.Struct, frozen=True):
    """An UNSUBSCRIBE packet."""

    packet_id: int
    filters: list[str]


class Disconnect(msgspec.Struct, frozen=True):
    """A DISCONNECT packet; `session_expiry` is in seconds, None to leave it as it was."""

    reason: Reason = Reason.NORMAL_DISCONNECTION
    session_expiry: int | None = None


def frame(buffer: bytes, at: int, version: int = MQTT_3_1_1) -> tuple[int, int] | None:
    """Return where the body starts and stops of the packet whose first byte is at `at`.

    It may stop behind the buffer's end. None while its length is not all there. A length in
    more bytes than it needs is let pass in MQTT 3.1.1, which does not forbid it.

    Raises:
        ProtocolError: the length has more than four bytes, or with MQTT 5 more than it needs.
    """
    try:
        length = buffer[at + 1]
        if length < 0x80:
            return at + 2, at + 2 + length
        last = buffer[at + 2]
        length += (last << 7) - 0x80
        start = at + 3
        if last >= 0x80:
            last = buffer[at + 3]
            length += (last << 14) - 0x4000
            start = at + 4
            if last >= 0x80:
                last = buffer[at + 4]
                length += (last << 21) - 0x20_0000
                start = at + 5
                if last >= 0x80:
                    raise malformed("the packet's length has more than four bytes")
    except IndexError:
        return None
    if not last and version == MQTT_5:
        raise malformed("the packet's length has more bytes than it needs")
    return start, start + length


def check_flags(first: int) -> PacketType:
    """Return the type of the packet with this first byte.

    Raises:
        ProtocolError: the flags are not the type's [MQTT-2.1.3-1], or it is not for clients
            to send. Those of PUBLISH are left to `read_publish`.
    """
    number = first >> 4
    if not number:
        raise malformed("packet type 0 is reserved")
    packet = PacketType(number)
    if packet is PacketType.PUBLISH:
        return packet
    flags = _FLAGS.get(packet)
    if flags is None:
        raise forbidden(f"{packet.name} is for the server to send")
    if first & 0x0F != flags:
        raise malformed(f"the flags of {packet.name} are wrong")
    return packet


def read_publish(
    buffer: bytes, at: int, start: int, stop: int, version: int
) -> tuple[bytes, int, int, Properties | None]:
    """Return topic, packet id (0 with QoS 0), where the payload starts, and the properties.

    `start` and `stop` are those of `frame`, and all of it is in the buffer. The topic is to
    be decoded with `decode_topic`; it is empty only if there is an alias.
    """
    first = buffer[at]
    if first & 0b1110 in _IMPOSSIBLE_FLAGS:
        raise malformed(_IMPOSSIBLE_FLAGS[first & 0b1110])
    topic_start = start + 2
    if topic_start > stop:
        raise malformed("the packet ends within its topic")
    topic_stop = topic_start + (buffer[start] << 8 | buffer[start + 1])
    if first & 0b0110:
        payload = topic_stop + 2
        if payload > stop:
            raise malformed("the packet ends within its topic or packet id")
        packet_id = buffer[topic_stop] << 8 | buffer[topic_stop + 1]
        if not packet_id:
            raise forbidden("the packet id is 0")  # [MQTT-2.2.1-3]
    else:
        payload = topic_stop
        if payload > stop:
            raise malformed("the packet ends within its topic")
        packet_id = 0
    properties = None
    if version == MQTT_5:
        if payload < stop and not buffer[payload]:
            payload += 1
        else:
            cursor = Cursor(buffer, payload, stop)
            properties = read_properties(cursor, ALLOWED[PacketType.PUBLISH])
            payload = cursor.at
    if topic_stop == topic_start and (properties is None or properties.topic_alias is None):
        raise forbidden("the topic is empty, and there is no alias")  # [MQTT-4.7.3-1]
    return buffer[topic_start:topic_stop], packet_id, payload, properties


def decode_topic(topic: bytes) -> str:
    """Return the name of a topic that is not empty.

    Raises:
        ProtocolError: not a string of MQTT, or with wildcards [MQTT-3.3.2-2].
    """
    name = fields.decode(topic)
    if not valid_topic(name):
        raise malformed("the topic holds a wildcard, or nothing")
    return name


def _packet_id(cursor: Cursor) -> int:
    packet_id = cursor.two_bytes()
    if not packet_id:
        raise forbidden("the packet id is 0")  # [MQTT-2.2.1-3]
    return packet_id


def _reason(cursor: Cursor, allowed: frozenset[Reason]) -> Reason:
    code = cursor.byte()
    if code not in allowed:
        raise forbidden(f"reason 0x{code:02x} can't stand in this packet")
    return Reason(code)


def read_puback(body: bytes, version: int, packet: PacketType) -> tuple[int, Reason]:
    """Return packet id and reason of a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    reason = Reason.SUCCESS
    if version == MQTT_5 and not cursor.ended:
        reason = _reason(cursor, _ACKNOWLEDGMENT_REASONS[packet])
        if not cursor.ended:
            read_properties(cursor, ALLOWED[packet])
    cursor.finish()
    return packet_id, reason


def read_subscribe(body: bytes, version: int) -> Subscribe:
    """Return what a SUBSCRIBE asks for: at least one filter [MQTT-3.8.3-2]."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    identifier = None
    if version == MQTT_5:
        properties = read_properties(cursor, ALLOWED[PacketType.SUBSCRIBE])
        if properties.subscription_identifiers:
            identifier = properties.subscription_identifiers[0]
    filters: list[Subscription] = []
    while not cursor.ended and len(filters) < MAXIMUM_SUBSCRIPTIONS:
        topic_filter = _filter(cursor)
        filters.append(_subscription(topic_filter, cursor.byte(), version))
    if not filters:
        raise forbidden("SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, filters, identifier, _count_subscriptions(cursor))


def _count_subscriptions(cursor: Cursor) -> int:
    """Return how many filters with their options are left; a packet may hold 32,000."""
    body, at, stop, count = cursor.body, cursor.at, cursor.stop, 0
    while at + 2 < stop:
        at += 3 + (body[at] << 8 | body[at + 1])
        count += 1
    if at != stop:
        raise malformed("the packet ends within a filter")
    return count


def _filter(cursor: Cursor) -> str:
    topic_filter = cursor.string()
    if not valid_filter(topic_filter):
        raise malformed("not a topic filter")
    return topic_filter


def _subscription(topic_filter: str, options: int, version: int) -> Subscription:
    if options & (0b1100_0000 if version == MQTT_5 else 0b1111_1100):
        raise malformed("reserved bits are set")  # [MQTT-3.8.3-5], in 3.1.1 [MQTT-3-8.3-4]
    qos = options & 0b11
    retain_handling = options >> 4
    if qos == 3 or retain_handling == 3:
        raise forbidden("QoS 3 and retain handling 3 do not exist")
    no_local = bool(options & 0b100)
    if no_local and shared(topic_filter) is not None:
        raise forbidden("no local with a shared subscription")  # [MQTT-3.8.3-4]
    return Subscription(topic_filter, qos, no_local, bool(options & 0b1000), retain_handling)


def read_unsubscribe(body: bytes, version: int) -> Unsubscribe:
    """Return what an UNSUBSCRIBE gives up: at least one filter [MQTT-3.10.3-2].

    Raises:
        ProtocolError: it is malformed, or has more filters than there may be subscriptions.
    """
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    if version == MQTT_5:
        read_properties(cursor, ALLOWED[PacketType.UNSUBSCRIBE])
    filters: list[str] = []
    while not cursor.ended:
        if len(filters) >= MAXIMUM_SUBSCRIPTIONS:
            # No session has as many; a packet may hold 43,000.
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "more filters than a session may have")
        filters.append(_filter(cursor))
    if not filters:
        raise forbidden("UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, filters)


def read_pingreq(body: bytes) -> None:
    """Check that a PINGREQ has no body."""
    Cursor(body).finish()


def read_disconnect(body: bytes, version: int) -> Disconnect:
    """Return why a client leaves.

    That `session_expiry` can't become more than 0 if it was 0 in CONNECT is the session's
    to check [MQTT-3.1.2-23].
    """
    cursor = Cursor(body)
    if version != MQTT_5 or cursor.ended:
        cursor.finish()
        return Disconnect()
    reason = _reason(cursor, _DISCONNECT_REASONS)
    expiry = None
    if not cursor.ended:
        expiry = read_properties(cursor, ALLOWED[PacketType.DISCONNECT]).session_expiry_interval
    cursor.finish()
    return Disconnect(reason, expiry)

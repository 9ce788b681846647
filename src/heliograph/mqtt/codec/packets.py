"""Packets of MQTT 3.1.1 and 5, read and written, for both sides of a connection.

Whatever the bytes, reading raises ProtocolError and nothing else. `frame` and `read_publish` run
for every message, and are written out where calls would cost more than the work.

Texts longer than 65,535 bytes or with U+0000, and packet ids of more than 16 bits, raise
ValueError, OverflowError or struct.error when they are written: they are the caller's mistakes.
Reason strings are only for clients that request problem information [MQTT-3.1.2-29].
"""

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from heliograph.mqtt.codec import fields
from heliograph.mqtt.codec.fields import Cursor
from heliograph.mqtt.codec.properties import (
    FROM_CLIENT,
    FROM_SERVER,
    NONE,
    WILL,
    Properties,
    read_properties,
    write_properties,
)
from heliograph.mqtt.codec.reasons import (
    CONNECT_RETURNS,
    MQTT_3_1_1,
    MQTT_5,
    PacketType,
    ProtocolError,
    Reason,
    connect_return,
    forbidden,
    malformed,
)
from heliograph.mqtt.codec.topics import shared, valid_filter, valid_topic

# Filters of a SUBSCRIBE or UNSUBSCRIBE that are looked at: no session may have more.
MAXIMUM_SUBSCRIPTIONS: Final = 1_000

NEVER: Final = 0xFFFF_FFFF  # a session's expiry

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"
DISCONNECT: Final = b"\xe0\x00"  # a client's, when all is well


_BY_CLIENT = FROM_CLIENT.keys() | {PacketType.PINGREQ, PacketType.AUTH}
_BY_SERVER = FROM_SERVER.keys() | {PacketType.PINGRESP, PacketType.AUTH}
# Of all types but PUBLISH the flags are this, or 0.
_FLAGS: Final = 0b0010
_FLAGGED = frozenset({PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE})

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
_ANY = frozenset(Reason)

_USERNAME = 0b1000_0000
_PASSWORD = 0b0100_0000
_WILL_RETAIN = 0b0010_0000
_WILL_QOS = 0b0001_1000
_WILL = 0b0000_0100
_CLEAN_START = 0b0000_0010
_RESERVED = 0b0000_0001

_PUBACK: Final = PacketType.PUBACK << 4

# What Mosquitto's bridges add to the protocol level.
_BRIDGE: Final = 0x80
_ANSWERED_IN_3_1_1: Final = frozenset(
    {Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID}
)

_short = struct.Struct(">BBH").pack
_with_reason = struct.Struct(">BBHB").pack


# The fixed header


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


def check_flags(first: int, *, by_server: bool = False) -> PacketType:
    """Return the type of the packet with this first byte.

    Raises:
        ProtocolError: the flags are not the type's [MQTT-2.1.3-1], or it is not for this side
            to send. Those of PUBLISH are left to `read_publish`.
    """
    number = first >> 4
    if not number:
        raise malformed("packet type 0 is reserved")
    packet = PacketType(number)
    if packet is PacketType.PUBLISH:
        return packet
    if packet not in (_BY_SERVER if by_server else _BY_CLIENT):
        raise forbidden(f"{packet.name} is for the {'client' if by_server else 'server'} to send")
    if first & 0x0F != (_FLAGS if packet in _FLAGGED else 0):
        raise malformed(f"the flags of {packet.name} are wrong")
    return packet


# CONNECT and CONNACK


class Will(msgspec.Struct, frozen=True):
    """What is published for a client that goes without a word; `delay` is in seconds."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    delay: int = 0


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """Who connects, and how.

    `version` is the protocol level, 4 for MQTT 3.1.1. `keepalive` and `session_expiry` are
    seconds; a session of 3.1.1 ends with its connection or, without "clean session", never.
    Properties that no server of ours acts on are checked when they are read, and left out.
    """

    version: int
    clean_start: bool
    keepalive: int
    client_id: str
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    session_expiry: int = 0
    receive_maximum: int = 0xFFFF
    maximum_packet_size: int | None = None
    request_problem_information: bool = True
    authentication_method: str | None = None


def connect_version(body: bytes) -> int | None:
    """Return the protocol level of a CONNECT as far as it can be read, supported or not."""
    cursor = Cursor(body)
    try:
        name = cursor.binary()
        level = cursor.byte()
    except ProtocolError:
        return None
    return level if name in {b"MQTT", b"MQIsdp"} else None


def read_connect(body: bytes) -> Connect:
    """Return what a CONNECT says.

    Raises:
        ProtocolError: malformed, of another version than 3.1.1 and 5, or without a client id
            where one is due; `refusal` gives the answer.
    """
    cursor = Cursor(body)
    version = _version(cursor)
    flags = cursor.byte()
    _check_flags(flags, version)
    keepalive = cursor.two_bytes()
    properties = NONE
    if version == MQTT_5:
        properties = read_properties(cursor, FROM_CLIENT[PacketType.CONNECT])
        if properties.authentication_data is not None and properties.authentication_method is None:
            raise forbidden("authentication data without a method")
    client_id = cursor.string()
    will = _will(cursor, flags, version) if flags & _WILL else None
    username = cursor.string() if flags & _USERNAME else None
    password = cursor.binary() if flags & _PASSWORD else None
    cursor.finish()
    clean_start = bool(flags & _CLEAN_START)
    if version == MQTT_3_1_1 and not client_id and not clean_start:
        raise ProtocolError(  # 3.1.1's [MQTT-3.1.3-8]
            Reason.CLIENT_IDENTIFIER_NOT_VALID, "a session that is kept needs a client id"
        )
    session_expiry = properties.session_expiry_interval or 0
    if version == MQTT_3_1_1 and not clean_start:
        session_expiry = NEVER
    return Connect(
        version=version,
        clean_start=clean_start,
        keepalive=keepalive,
        client_id=client_id,
        will=will,
        username=username,
        password=password,
        session_expiry=session_expiry,
        receive_maximum=properties.receive_maximum or fields.LONGEST_STRING,
        maximum_packet_size=properties.maximum_packet_size,
        request_problem_information=properties.request_problem_information != 0,
        authentication_method=properties.authentication_method,
    )


def _version(cursor: Cursor) -> int:
    name = cursor.binary()
    if name == b"MQIsdp":
        raise ProtocolError(Reason.UNSUPPORTED_PROTOCOL_VERSION, "MQTT 3.1 is not supported")
    if name != b"MQTT":  # [MQTT-3.1.2-1]
        raise ProtocolError(Reason.UNSUPPORTED_PROTOCOL_VERSION, "another protocol than MQTT")
    version = cursor.byte()
    if version not in {MQTT_3_1_1, MQTT_5}:  # [MQTT-3.1.2-2]
        raise ProtocolError(
            Reason.UNSUPPORTED_PROTOCOL_VERSION, f"MQTT's protocol level {version} is not supported"
        )
    return version


def _check_flags(flags: int, version: int) -> None:
    if flags & _RESERVED:
        raise malformed("the reserved flag of CONNECT is set")  # [MQTT-3.1.2-3]
    if flags & _WILL_QOS == _WILL_QOS:
        raise malformed("QoS 3 does not exist")  # [MQTT-3.1.2-12]
    if not flags & _WILL and flags & (_WILL_QOS | _WILL_RETAIN):
        raise malformed("QoS or RETAIN of a will that is not there")  # [MQTT-3.1.2-11, -13]
    if version == MQTT_3_1_1 and flags & _PASSWORD and not flags & _USERNAME:
        raise malformed("a password without a user name")  # 3.1.1's [MQTT-3.1.2-22]


def _will(cursor: Cursor, flags: int, version: int) -> Will:
    delay = 0
    if version == MQTT_5:
        delay = read_properties(cursor, WILL).will_delay_interval or 0
    topic = cursor.string()
    if not valid_topic(topic):
        raise malformed("the will's topic holds a wildcard, or nothing")
    payload = cursor.binary()
    return Will(
        topic=topic,
        payload=payload,
        qos=(flags & _WILL_QOS) >> 3,
        retain=bool(flags & _WILL_RETAIN),
        delay=delay,
    )


def connect(connect: Connect) -> bytes:
    """Return a CONNECT, whose `session_expiry` MQTT 3.1.1 can't say."""
    flags = connect.clean_start << 1
    payload = fields.write_string(connect.client_id)
    will = connect.will
    if will is not None:
        flags |= _WILL | will.qos << 3 | will.retain << 5
        if connect.version == MQTT_5:
            payload += write_properties(Properties(will_delay_interval=will.delay or None))
        payload += fields.write_string(will.topic) + fields.write_binary(will.payload)
    if connect.username is not None:
        flags |= _USERNAME
        payload += fields.write_string(connect.username)
    if connect.password is not None:
        flags |= _PASSWORD
        payload += fields.write_binary(connect.password)
    head = b"\0\4MQTT" + struct.pack(">BBH", connect.version, flags, connect.keepalive)
    if connect.version == MQTT_5:
        head += write_properties(
            Properties(
                session_expiry_interval=connect.session_expiry or None,
                receive_maximum=connect.receive_maximum,
                maximum_packet_size=connect.maximum_packet_size,
                request_problem_information=int(connect.request_problem_information),
                authentication_method=connect.authentication_method,
            )
        )
    return _packet(PacketType.CONNECT << 4, head + payload)


class Connack(msgspec.Struct, frozen=True):
    """A CONNACK packet; MQTT 3.1.1 has no properties."""

    reason: Reason
    session_present: bool
    properties: Properties = NONE


def read_connack(body: bytes, version: int) -> Connack:
    """Return what a CONNACK says; of a return code of MQTT 3.1.1 the reason that it stands for."""
    cursor = Cursor(body)
    flags = cursor.byte()
    if flags > 1:
        raise malformed("reserved flags of CONNACK are set")
    if version == MQTT_5:
        reason = _reason(cursor, _ANY)
        properties = read_properties(cursor, FROM_SERVER[PacketType.CONNACK])
    else:
        reason, properties = _returned(cursor.byte()), NONE
    cursor.finish()
    return Connack(reason, flags == 1, properties)


def _returned(code: int) -> Reason:
    for reason, known in CONNECT_RETURNS.items():
        if known == code:
            return reason
    raise forbidden(f"there is no return code {code}")


def connack(
    version: int,
    reason: Reason = Reason.SUCCESS,
    *,
    session_present: bool = False,
    properties: Properties | None = None,
) -> bytes:
    """Return a CONNACK; for MQTT 3.1.1 the return code that comes closest to the reason.

    A refusal never says that a session is present [MQTT-3.2.2-6].
    """
    flags = int(session_present and reason == Reason.SUCCESS)
    if version != MQTT_5:
        return bytes((PacketType.CONNACK << 4, 2, flags, connect_return(reason)))
    return _packet(PacketType.CONNACK << 4, bytes((flags, reason)) + write_properties(properties))


def refusal(body: bytes, error: ProtocolError) -> bytes:
    """Return the CONNACK that answers a CONNECT of which `read_connect` raised the error.

    Nothing is said to a malformed CONNECT of MQTT 3.1.1 [MQTT-3.1.4-1], nor to what is not
    MQTT. An unknown version is answered in the form of 3.1.1 if it is an earlier one than 5.
    """
    version = connect_version(body)
    if version is None:
        return b""
    if version >= MQTT_5 and not version & _BRIDGE:
        return connack(MQTT_5, error.reason)
    return connack(MQTT_3_1_1, error.reason) if error.reason in _ANSWERED_IN_3_1_1 else b""


# PUBLISH and its acknowledgments


def read_publish(
    buffer: bytes, at: int, start: int, stop: int, version: int, *, by_server: bool = False
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
            allowed = FROM_SERVER if by_server else FROM_CLIENT
            properties = read_properties(cursor, allowed[PacketType.PUBLISH])
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


def publish(
    version: int,
    topic: str,
    payload: bytes,
    qos: int = 0,
    *,
    retain: bool = False,
    duplicate: bool = False,
    packet_id: int = 0,
    properties: Properties | None = None,
) -> bytes:
    """Return a PUBLISH; MQTT 3.1.1 has no properties.

    Raises:
        ValueError: a packet id without QoS or QoS without one [MQTT-2.2.1-2], or DUP with
            QoS 0 [MQTT-3.3.1-2].
    """
    if bool(qos) != bool(packet_id):
        raise ValueError("QoS 1 and 2 need a packet id, and QoS 0 has none")
    if duplicate and not qos:
        raise ValueError("DUP needs QoS 1 or 2")
    body = fields.write_string(topic)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == MQTT_5:
        body += write_properties(properties)
    return _packet(PacketType.PUBLISH << 4 | duplicate << 3 | qos << 1 | retain, body + payload)


def read_puback(body: bytes, version: int, packet: PacketType) -> tuple[int, Reason]:
    """Return packet id and reason of a PUBACK, PUBREC, PUBREL or PUBCOMP."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    reason = Reason.SUCCESS
    if version == MQTT_5 and not cursor.ended:
        reason = _reason(cursor, _ACKNOWLEDGMENT_REASONS[packet])
        if not cursor.ended:
            read_properties(cursor, FROM_CLIENT[packet])  # either side's are the same
    cursor.finish()
    return packet_id, reason


def _acknowledgment(
    first: int,
    version: int,
    packet_id: int,
    reason: Reason = Reason.SUCCESS,
    reason_string: str | None = None,
) -> bytes:
    """Return an acknowledgment; MQTT 3.1.1 has no reasons."""
    if version != MQTT_5 or (not reason and reason_string is None):
        return _short(first, 2, packet_id)
    if reason_string is None:
        return _with_reason(first, 3, packet_id, reason)
    properties = write_properties(Properties(reason_string=reason_string))
    return _packet(first, packet_id.to_bytes(2, "big") + bytes((reason,)) + properties)


puback = functools.partial(_acknowledgment, _PUBACK)
pubrec = functools.partial(_acknowledgment, PacketType.PUBREC << 4)
pubrel = functools.partial(_acknowledgment, PacketType.PUBREL << 4 | 0b0010)
pubcomp = functools.partial(_acknowledgment, PacketType.PUBCOMP << 4)


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return a successful PUBACK for each packet id, in their order, for either version."""
    count = len(packet_ids)
    numbers = [_PUBACK << 8 | 2] * (2 * count)
    numbers[1::2] = packet_ids
    return struct.pack(f">{2 * count}H", *numbers)


# SUBSCRIBE, UNSUBSCRIBE and their answers


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


def read_subscribe(body: bytes, version: int) -> Subscribe:
    """Return what a SUBSCRIBE asks for: at least one filter [MQTT-3.8.3-2]."""
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    identifier = None
    if version == MQTT_5:
        properties = read_properties(cursor, FROM_CLIENT[PacketType.SUBSCRIBE])
        if properties.subscription_identifiers:
            identifier = properties.subscription_identifiers[0]
    filters: list[Subscription] = []
    while not cursor.ended and len(filters) < MAXIMUM_SUBSCRIPTIONS:
        topic_filter = _filter(cursor)
        filters.append(_subscription(topic_filter, cursor.byte(), version))
    if not filters:
        raise forbidden("SUBSCRIBE without a topic filter")
    return Subscribe(packet_id, filters, identifier, _count_subscriptions(cursor))


def subscribe(version: int, subscribe: Subscribe) -> bytes:
    """Return a SUBSCRIBE; MQTT 3.1.1 has no options but QoS, and no identifier."""
    body = bytearray(fields.write_two_bytes(subscribe.packet_id))
    if version == MQTT_5:
        number = subscribe.identifier
        identifiers = () if number is None else (number,)
        body += write_properties(Properties(subscription_identifiers=identifiers))
    for one in subscribe.filters:
        options = one.qos
        if version == MQTT_5:
            options |= one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
        body += fields.write_string(one.filter) + bytes((options,))
    return _packet(PacketType.SUBSCRIBE << 4 | 0b0010, bytes(body))


def unsubscribe(version: int, unsubscribe: Unsubscribe) -> bytes:
    """Return an UNSUBSCRIBE."""
    head = fields.write_two_bytes(unsubscribe.packet_id) + (b"\0" if version == MQTT_5 else b"")
    filters = b"".join(map(fields.write_string, unsubscribe.filters))
    return _packet(PacketType.UNSUBSCRIBE << 4 | 0b0010, head + filters)


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
        read_properties(cursor, FROM_CLIENT[PacketType.UNSUBSCRIBE])
    filters: list[str] = []
    while not cursor.ended:
        if len(filters) >= MAXIMUM_SUBSCRIPTIONS:
            # No session has as many; a packet may hold 43,000.
            raise ProtocolError(Reason.QUOTA_EXCEEDED, "more filters than a session may have")
        filters.append(_filter(cursor))
    if not filters:
        raise forbidden("UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, filters)


def suback(version: int, packet_id: int, reasons: Iterable[Reason | int]) -> bytes:
    """Return a SUBACK with a reason for each filter; in MQTT 3.1.1 every failure is 0x80."""
    if version != MQTT_5:
        codes = bytes(min(reason, Reason.UNSPECIFIED_ERROR) for reason in reasons)
        return _packet(PacketType.SUBACK << 4, fields.write_two_bytes(packet_id) + codes)
    return _packet(
        PacketType.SUBACK << 4, fields.write_two_bytes(packet_id) + b"\0" + bytes(reasons)
    )


def unsuback(version: int, packet_id: int, reasons: Iterable[Reason | int]) -> bytes:
    """Return an UNSUBACK with a reason for each filter; MQTT 3.1.1 has no reasons."""
    if version != MQTT_5:
        return _short(PacketType.UNSUBACK << 4, 2, packet_id)
    return _packet(
        PacketType.UNSUBACK << 4, fields.write_two_bytes(packet_id) + b"\0" + bytes(reasons)
    )


class Suback(msgspec.Struct, frozen=True):
    """A SUBACK packet, with a reason for each filter."""

    packet_id: int
    reasons: list[Reason]


class Unsuback(msgspec.Struct, frozen=True):
    """An UNSUBACK packet, with a reason for each filter; in MQTT 3.1.1 it has none."""

    packet_id: int
    reasons: list[Reason]


def read_suback(body: bytes, version: int) -> Suback:
    """Return what became of the filters of a SUBSCRIBE."""
    return Suback(*_filter_reasons(body, version, PacketType.SUBACK))


def read_unsuback(body: bytes, version: int) -> Unsuback:
    """Return what became of the filters of an UNSUBSCRIBE."""
    return Unsuback(*_filter_reasons(body, version, PacketType.UNSUBACK))


def _filter_reasons(body: bytes, version: int, packet: PacketType) -> tuple[int, list[Reason]]:
    cursor = Cursor(body)
    packet_id = _packet_id(cursor)
    if version == MQTT_5:
        read_properties(cursor, FROM_SERVER[packet])
    reasons = []
    while not cursor.ended:
        reasons.append(_reason(cursor, _ANY))
    return packet_id, reasons


# PINGREQ, PINGRESP and DISCONNECT


def read_ping(body: bytes) -> None:
    """Check that a PINGREQ or PINGRESP has no body."""
    Cursor(body).finish()


class Disconnect(msgspec.Struct, frozen=True):
    """A DISCONNECT packet; `session_expiry` is in seconds, None to leave it as it was."""

    reason: Reason = Reason.NORMAL_DISCONNECTION
    session_expiry: int | None = None


def read_disconnect(body: bytes, version: int, *, by_server: bool = False) -> Disconnect:
    """Return why the other side leaves.

    That `session_expiry` can't become more than 0 if it was 0 in CONNECT is the session's
    to check [MQTT-3.1.2-23].
    """
    cursor = Cursor(body)
    if version != MQTT_5 or cursor.ended:
        cursor.finish()
        return Disconnect()
    reason = _reason(cursor, _ANY if by_server else _DISCONNECT_REASONS)
    expiry = None
    if not cursor.ended:
        expiry = read_properties(cursor, FROM_CLIENT[PacketType.DISCONNECT]).session_expiry_interval
    cursor.finish()
    return Disconnect(reason, expiry)


def disconnect(version: int, reason: Reason, reason_string: str | None = None) -> bytes:
    """Return a server's DISCONNECT: in MQTT 3.1.1 it just closes [MQTT-3.14.0-1]."""
    if version != MQTT_5:
        return b""
    body = bytes((reason,))
    if reason_string is not None:
        body += write_properties(Properties(reason_string=reason_string))
    return _packet(PacketType.DISCONNECT << 4, body)


def end_of_session() -> bytes:
    """Return a client's DISCONNECT of MQTT 5 by which its session ends, too."""
    properties = write_properties(Properties(session_expiry_interval=0))
    return _packet(PacketType.DISCONNECT << 4, bytes((Reason.SUCCESS,)) + properties)


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


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + fields.write_variable(len(body)) + body

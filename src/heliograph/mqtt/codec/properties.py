"""The properties of MQTT 5 packets (2.2.2): which may stand where, and what they may hold."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from heliograph.mqtt.codec import fields
from heliograph.mqtt.codec.fields import Cursor
from heliograph.mqtt.codec.reasons import PacketType, ProtocolError, Reason, forbidden, malformed
from heliograph.mqtt.codec.topics import valid_topic


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of any packet; None, or nothing, where one is absent."""

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: int | None = None
    will_delay_interval: int | None = None
    request_response_information: int | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: int | None = None
    subscription_identifier_available: int | None = None
    shared_subscription_available: int | None = None


NONE = Properties()


class _Property(NamedTuple):
    """How a property is called, read and written, and between what its number has to lie."""

    name: str
    read: Callable[[Cursor], Any]
    write: Callable[[Any], bytes]
    values: range | None = None


def _response_topic(cursor: Cursor) -> str:
    topic = cursor.string()
    if not valid_topic(topic):
        raise forbidden("the response topic holds a wildcard, or nothing")  # [MQTT-3.3.2-14]
    return topic


_FLAG: Final = (Cursor.byte, fields.write_byte, range(2))
_TWO_BYTES: Final = (Cursor.two_bytes, fields.write_two_bytes)
_FOUR_BYTES: Final = (Cursor.four_bytes, fields.write_four_bytes)
_STRING: Final = (Cursor.string, fields.write_string)
_BINARY: Final = (Cursor.binary, fields.write_binary)
_VARIABLE: Final = (Cursor.variable, fields.write_variable)

_PROPERTIES = {
    0x01: _Property("payload_format_indicator", *_FLAG),
    0x02: _Property("message_expiry_interval", *_FOUR_BYTES),
    0x03: _Property("content_type", *_STRING),
    0x08: _Property("response_topic", _response_topic, fields.write_string),
    0x09: _Property("correlation_data", *_BINARY),
    0x0B: _Property("subscription_identifiers", *_VARIABLE, range(1, fields.LARGEST_VARIABLE + 1)),
    0x11: _Property("session_expiry_interval", *_FOUR_BYTES),
    0x12: _Property("assigned_client_identifier", *_STRING),
    0x13: _Property("server_keep_alive", *_TWO_BYTES),
    0x15: _Property("authentication_method", *_STRING),
    0x16: _Property("authentication_data", *_BINARY),
    0x17: _Property("request_problem_information", *_FLAG),
    0x18: _Property("will_delay_interval", *_FOUR_BYTES),
    0x19: _Property("request_response_information", *_FLAG),
    0x1A: _Property("response_information", *_STRING),
    0x1C: _Property("server_reference", *_STRING),
    0x1F: _Property("reason_string", *_STRING),
    0x21: _Property("receive_maximum", *_TWO_BYTES, range(1, 0x1_0000)),
    0x22: _Property("topic_alias_maximum", *_TWO_BYTES),
    0x23: _Property("topic_alias", *_TWO_BYTES, range(1, 0x1_0000)),
    0x24: _Property("maximum_qos", *_FLAG),
    0x25: _Property("retain_available", *_FLAG),
    0x26: _Property("user_properties", Cursor.pair, fields.write_pair),
    0x27: _Property("maximum_packet_size", *_FOUR_BYTES, range(1, 0x1_0000_0000)),
    0x28: _Property("wildcard_subscription_available", *_FLAG),
    0x29: _Property("subscription_identifier_available", *_FLAG),
    0x2A: _Property("shared_subscription_available", *_FLAG),
}

# Which properties may stand in a packet, by who sends it. Those of a will stand in the payload of
# its CONNECT.
WILL = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26})
_PUBLISH = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26})
_ANSWER = frozenset({0x1F, 0x26})
_BOTH = {
    PacketType.PUBACK: _ANSWER,
    PacketType.PUBREC: _ANSWER,
    PacketType.PUBREL: _ANSWER,
    PacketType.PUBCOMP: _ANSWER,
    PacketType.DISCONNECT: frozenset({0x11, 0x1C, 0x1F, 0x26}),
}
FROM_CLIENT = _BOTH | {
    PacketType.CONNECT: frozenset({0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27}),
    PacketType.PUBLISH: _PUBLISH,
    PacketType.SUBSCRIBE: frozenset({0x0B, 0x26}),
    PacketType.UNSUBSCRIBE: frozenset({0x26}),
}
FROM_SERVER = _BOTH | {
    PacketType.CONNACK: frozenset({0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22})
    | frozenset({0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A}),
    # [MQTT-3.3.4-6]: the identifiers are those of all subscriptions that select the message.
    PacketType.PUBLISH: _PUBLISH | {0x0B},
    PacketType.SUBACK: _ANSWER,
    PacketType.UNSUBACK: _ANSWER,
}


def read_properties(cursor: Cursor, allowed: frozenset[int]) -> Properties:
    """Return the properties that begin at the cursor with their length, and move behind them.

    Raises:
        ProtocolError: one is unknown, not among the allowed, there twice, or out of range.
    """
    length = cursor.variable()
    if not length:
        return NONE
    properties = Cursor(cursor.body, cursor.at, cursor.at + length)
    if properties.stop > cursor.stop:
        raise malformed("the properties end behind their packet")
    cursor.at = properties.stop
    values: dict[str, Any] = {}
    pairs: list[tuple[str, str]] = []
    while not properties.ended:
        identifier = properties.byte()
        if identifier not in allowed:
            raise malformed(f"property 0x{identifier:02x} can't stand in this packet")
        known = _PROPERTIES[identifier]
        value = known.read(properties)
        if known.values is not None and value not in known.values:
            raise _out_of_range(known.name, value)
        if known.name == "user_properties":
            pairs.append(value)
        elif known.name == "subscription_identifiers" and (
            allowed is FROM_SERVER[PacketType.PUBLISH] or known.name not in values
        ):
            values[known.name] = (*values.get(known.name, ()), value)
        elif known.name in values:
            raise forbidden(f"{known.name} is there twice")
        else:
            values[known.name] = value
    return Properties(**values, user_properties=tuple(pairs))


def _out_of_range(name: str, value: int) -> ProtocolError:
    reason = Reason.TOPIC_ALIAS_INVALID if name == "topic_alias" else Reason.PROTOCOL_ERROR
    return ProtocolError(reason, f"{name} can't be {value}")


def write_properties(properties: Properties | None) -> bytes:
    """Return the properties with their length before them.

    Raises:
        ValueError: a text is longer than 65,535 bytes or holds U+0000.
    """
    if properties is None or properties == NONE:
        return b"\0"
    written = bytearray()
    for identifier, known in _PROPERTIES.items():
        value = getattr(properties, known.name)
        if value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            written.append(identifier)
            written += known.write(one)
    return fields.write_variable(len(written)) + bytes(written)

"""Writes what the server sends: packets of MQTT 3.1.1 and 5.

Texts longer than 65,535 bytes or with U+0000, and packet ids of more than 16 bits, raise
ValueError, OverflowError or struct.error: they are the caller's mistakes, not a client's.
Reason strings are only for clients that request problem information [MQTT-3.1.2-29].
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from heliograph.mqtt import fields
from heliograph.mqtt.connecting import connect_version
from heliograph.mqtt.properties import Properties, write_properties
from heliograph.mqtt.reasons import (
    MQTT_3_1_1,
    MQTT_5,
    PacketType,
    ProtocolError,
    Reason,
    connect_return,
)

PINGRESP: Final = b"\xd0\x00"

_PUBACK: Final = PacketType.PUBACK << 4
_PUBREC: Final = PacketType.PUBREC << 4
_PUBREL: Final = PacketType.PUBREL << 4 | 0b0010
_PUBCOMP: Final = PacketType.PUBCOMP << 4

# What Mosquitto's bridges add to the protocol level.
_BRIDGE: Final = 0x80
_ANSWERED_IN_3_1_1: Final = frozenset(
    {Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.CLIENT_IDENTIFIER_NOT_VALID}
)

_short = struct.Struct(">BBH").pack
_with_reason = struct.Struct(">BBHB").pack


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


def puback(
    version: int,
    packet_id: int,
    reason: Reason = Reason.SUCCESS,
    reason_string: str | None = None,
) -> bytes:
    """Return a PUBACK; MQTT 3.1.1 has no reasons."""
    return _acknowledgment(_PUBACK, version, packet_id, reason, reason_string)


def pubrec(
    version: int,
    packet_id: int,
    reason: Reason = Reason.SUCCESS,
    reason_string: str | None = None,
) -> bytes:
    """Return a PUBREC; MQTT 3.1.1 has no reasons."""
    return _acknowledgment(_PUBREC, version, packet_id, reason, reason_string)


def pubrel(
    version: int,
    packet_id: int,
    reason: Reason = Reason.SUCCESS,
    reason_string: str | None = None,
) -> bytes:
    """Return a PUBREL; MQTT 3.1.1 has no reasons."""
    return _acknowledgment(_PUBREL, version, packet_id, reason, reason_string)


def pubcomp(
    version: int,
    packet_id: int,
    reason: Reason = Reason.SUCCESS,
    reason_string: str | None = None,
) -> bytes:
    """Return a PUBCOMP; MQTT 3.1.1 has no reasons."""
    return _acknowledgment(_PUBCOMP, version, packet_id, reason, reason_string)


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """Return a successful PUBACK for each packet id, in their order, for either version."""
    count = len(packet_ids)
    numbers = [_PUBACK << 8 | 2] * (2 * count)
    numbers[1::2] = packet_ids
    return struct.pack(f">{2 * count}H", *numbers)


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


def disconnect(version: int, reason: Reason, reason_string: str | None = None) -> bytes:
    """Return a DISCONNECT, empty for MQTT 3.1.1, where a server just closes [MQTT-3.14.0-1]."""
    if version != MQTT_5:
        return b""
    body = bytes((reason,))
    if reason_string is not None:
        body += write_properties(Properties(reason_string=reason_string))
    return _packet(PacketType.DISCONNECT << 4, body)


def _acknowledgment(
    first: int, version: int, packet_id: int, reason: Reason, reason_string: str | None
) -> bytes:
    if version != MQTT_5 or (not reason and reason_string is None):
        return _short(first, 2, packet_id)
    if reason_string is None:
        return _with_reason(first, 3, packet_id, reason)
    properties = write_properties(Properties(reason_string=reason_string))
    return _packet(first, packet_id.to_bytes(2, "big") + bytes((reason,)) + properties)


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + fields.write_variable(len(body)) + body

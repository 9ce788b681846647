"""Reads CONNECT, the first packet of a client (MQTT 5, 3.1)."""

import msgspec

from heliograph.mqtt import fields
from heliograph.mqtt.fields import Cursor
from heliograph.mqtt.properties import ALLOWED, NONE, WILL, read_properties
from heliograph.mqtt.reasons import (
    MQTT_3_1_1,
    MQTT_5,
    PacketType,
    ProtocolError,
    Reason,
    forbidden,
    malformed,
)
from heliograph.mqtt.topics import valid_topic

NEVER = 0xFFFF_FFFF

_USERNAME = 0b1000_0000
_PASSWORD = 0b0100_0000
_WILL_RETAIN = 0b0010_0000
_WILL_QOS = 0b0001_1000
_WILL = 0b0000_0100
_CLEAN_START = 0b0000_0010
_RESERVED = 0b0000_0001


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
    topic_alias_maximum: int = 0
    request_problem_information: bool = True
    request_response_information: bool = False
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


def connect_version(body: bytes) -> int | None:
    """Return the protocol level of a CONNECT as far as it can be told, supported or not."""
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
        properties = read_properties(cursor, ALLOWED[PacketType.CONNECT])
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
        topic_alias_maximum=properties.topic_alias_maximum or 0,
        request_problem_information=properties.request_problem_information != 0,
        request_response_information=properties.request_response_information == 1,
        authentication_method=properties.authentication_method,
        authentication_data=properties.authentication_data,
        user_properties=properties.user_properties,
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

"""The properties of MQTT 5 (2.2.2): each in each packet."""

import pytest

from heliograph.mqtt.codec.fields import Cursor
from heliograph.mqtt.codec.properties import (
    FROM_CLIENT,
    WILL,
    Properties,
    read_properties,
    write_properties,
)
from heliograph.mqtt.codec.reasons import PacketType, ProtocolError, Reason
from unit.mqtt.client_packets import properties as written

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

# Table 2-4: identifier, name, a value and its bytes, and the client's packets it may stand in.
PUBLISHING = ("PUBLISH", "WILL")
ANSWERING = ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "DISCONNECT")
EVERYWHERE = ("CONNECT", "PUBLISH", "WILL", "SUBSCRIBE", "UNSUBSCRIBE", *ANSWERING)
TABLE = [
    (0x01, "payload_format_indicator", 1, b"\1", PUBLISHING),
    (0x02, "message_expiry_interval", 258, b"\0\0\1\2", PUBLISHING),
    (0x03, "content_type", "text", b"\0\4text", PUBLISHING),
    (0x08, "response_topic", "a/b", b"\0\3a/b", PUBLISHING),
    (0x09, "correlation_data", b"\xff\0", b"\0\2\xff\0", PUBLISHING),
    (0x0B, "subscription_identifiers", (128,), b"\x80\1", ("SUBSCRIBE",)),
    (0x11, "session_expiry_interval", 0xFFFFFFFF, b"\xff" * 4, ("CONNECT", "DISCONNECT")),
    (0x12, "assigned_client_identifier", "me", b"\0\2me", ()),
    (0x13, "server_keep_alive", 60, b"\0\x3c", ()),
    (0x15, "authentication_method", "SCRAM", b"\0\5SCRAM", ("CONNECT",)),
    (0x16, "authentication_data", b"\0", b"\0\1\0", ("CONNECT",)),
    (0x17, "request_problem_information", 0, b"\0", ("CONNECT",)),
    (0x18, "will_delay_interval", 5, b"\0\0\0\5", ("WILL",)),
    (0x19, "request_response_information", 1, b"\1", ("CONNECT",)),
    (0x1A, "response_information", "x", b"\0\1x", ()),
    (0x1C, "server_reference", "x", b"\0\1x", ("DISCONNECT",)),
    (0x1F, "reason_string", "ü", b"\0\2\xc3\xbc", ANSWERING),
    (0x21, "receive_maximum", 20, b"\0\x14", ("CONNECT",)),
    (0x22, "topic_alias_maximum", 0, b"\0\0", ("CONNECT",)),
    (0x23, "topic_alias", 3, b"\0\3", ("PUBLISH",)),
    (0x24, "maximum_qos", 1, b"\1", ()),
    (0x25, "retain_available", 0, b"\0", ()),
    (0x26, "user_properties", (("a", "b"),), b"\0\1a\0\1b", EVERYWHERE),
    (0x27, "maximum_packet_size", 1, b"\0\0\0\1", ("CONNECT",)),
    (0x28, "wildcard_subscription_available", 1, b"\1", ()),
    (0x29, "subscription_identifier_available", 0, b"\0", ()),
    (0x2A, "shared_subscription_available", 1, b"\1", ()),
]
PACKETS = {packet.name: allowed for packet, allowed in FROM_CLIENT.items()} | {"WILL": WILL}
ANY = frozenset(row[0] for row in TABLE)

each_property = pytest.mark.parametrize(
    ("identifier", "name", "value", "content", "packets"), TABLE, ids=[row[1] for row in TABLE]
)


def read(*items, allowed=ANY):
    return read_properties(Cursor(written(*items)), allowed)


def refused(*items, allowed=ANY):
    with pytest.raises(ProtocolError) as caught:
        read(*items, allowed=allowed)
    return caught.value.reason


def test_the_table_is_whole():
    assert sorted(row[1] for row in TABLE) == sorted(Properties.__struct_fields__)


@each_property
@pytest.mark.parametrize("packet", PACKETS)
def test_where_a_property_may_stand(identifier, name, value, content, packets, packet):
    item = bytes([identifier]) + content
    if packet in packets:
        assert read(item, allowed=PACKETS[packet]) == Properties(**{name: value})
    else:
        assert refused(item, allowed=PACKETS[packet]) is Reason.MALFORMED_PACKET


@each_property
def test_a_property_is_written_and_read(identifier, name, value, content, packets):
    assert write_properties(Properties(**{name: value})) == written(bytes([identifier]) + content)
    assert read(bytes([identifier]) + content) == Properties(**{name: value})


@each_property
def test_a_property_stands_there_once(identifier, name, value, content, packets):
    item = bytes([identifier]) + content
    if name == "user_properties":
        assert read(item, item).user_properties == (*value, *value)
    else:
        assert refused(item, item) is Reason.PROTOCOL_ERROR


@each_property
def test_a_property_that_ends_too_early_is_malformed(identifier, name, value, content, packets):
    for size in range(len(content)):
        assert refused(bytes([identifier]) + content[:size]) is Reason.MALFORMED_PACKET


def test_unknown_properties_are_malformed():
    for identifier in sorted(set(range(256)) - ANY):
        assert refused(bytes([identifier]) + b"\0\0\0\0") is Reason.MALFORMED_PACKET, identifier


@pytest.mark.parametrize("identifier", [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A], ids=hex)
@pytest.mark.parametrize("value", [2, 255])
def test_a_flag_is_0_or_1(identifier, value):
    assert read(bytes([identifier, 0])) != read(bytes([identifier, 1]))
    assert refused(bytes([identifier, value])) is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(b"\x21\0\0", Reason.PROTOCOL_ERROR, id="receive maximum"),
        pytest.param(b"\x27\0\0\0\0", Reason.PROTOCOL_ERROR, id="maximum packet size"),
        pytest.param(b"\x0b\0", Reason.PROTOCOL_ERROR, id="subscription identifier"),
        pytest.param(b"\x23\0\0", Reason.TOPIC_ALIAS_INVALID, id="MQTT-3.3.2-8 topic alias"),
    ],
)
def test_what_is_not_0(item, reason):
    assert refused(item) is reason


@pytest.mark.parametrize("item", [b"\x0b\x80\x00", b"\x0b\xff\xff\xff\xff\x01"])
def test_mqtt_1_5_5_1_variable_byte_integers_are_minimal(item):
    """[MQTT-1.5.5-1]."""
    assert refused(item) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("length", [b"", b"\x80", b"\x81\x00\0", b"\x05\x17\x01", b"\xff" * 5])
def test_wrong_lengths_are_malformed(length):
    with pytest.raises(ProtocolError) as caught:
        read_properties(Cursor(length), ANY)
    assert caught.value.reason is Reason.MALFORMED_PACKET


def test_the_cursor_moves_behind_the_properties():
    cursor = Cursor(b"\x02\x17\x01rest")
    read_properties(cursor, FROM_CLIENT[PacketType.CONNECT])
    assert cursor.take(4) == b"rest"


def test_absent_properties_are_written_as_their_length_alone():
    assert write_properties(None) == write_properties(Properties()) == b"\0"


def test_texts_that_mqtt_has_no_room_for_are_not_written():
    for text in ("x" * 65_536, "a\0b", "\ud800"):
        with pytest.raises(ValueError):
            write_properties(Properties(reason_string=text))

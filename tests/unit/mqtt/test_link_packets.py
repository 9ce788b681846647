"""What the link says to a broker, read back; and the reasons that it is given."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt import fields, link_packets
from heliograph.mqtt.packets import ProtocolError, frame
from heliograph.mqtt.reasons import MQTT_5
from mqtt_client import packet, publish, string

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(data):
    found, size = mqtt5.read(memoryview(data))
    assert size == len(data)
    return found


@given(NAMES, st.none() | NAMES, st.none() | NAMES, st.integers(0, 65_535), st.integers(1, 65_535))
def test_connect(client_id, username, password, keepalive, receive_maximum):
    connect = read(
        link_packets.connect(
            client_id, username, password, keepalive=keepalive, receive_maximum=receive_maximum
        )
    )
    assert connect.client_id == client_id
    assert connect.username == username
    assert connect.password == (None if password is None else password.encode())
    assert (connect.keep_alive, connect.receive_max) == (keepalive, receive_maximum)
    assert (connect.clean_start, connect.session_expiry_interval) == (False, 0xFFFF_FFFF)


def test_subscribe():
    found = read(link_packets.subscribe(1, ["a/+", "b/+"], ["s/+"], ["$SYS/x"]))
    assert found.packet_id == 1
    assert [
        (f.pattern, int(f.max_qos), int(f.retain_handling), f.retain_as_published)
        for f in found.topic_filters
    ] == [
        ("a/+", 1, 2, False),
        ("b/+", 1, 2, False),
        ("s/+", 1, 0, False),
        ("$SYS/x", 0, 0, False),
    ]


def test_unsubscribe():
    found = read(link_packets.unsubscribe(2, ["a/+", "$share/g/b"]))
    assert (found.packet_id, found.patterns) == (2, ["a/+", "$share/g/b"])


@given(
    NAMES.filter(lambda name: name and not {"+", "#"} & set(name)),
    st.binary(max_size=300),
    st.integers(1, 65_535),
    st.booleans(),
    st.booleans(),
)
def test_publish(topic, payload, packet_id, retain, again):
    found = read(link_packets.publish(topic, payload, packet_id, retain=retain, again=again))
    assert (found.topic, found.payload, found.packet_id) == (topic, payload, packet_id)
    assert (found.retain, found.duplicate) == (retain, again)
    assert found.qos == mqtt5.QoS.AT_LEAST_ONCE


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a" * 65_536])
def test_a_topic_that_nobody_could_publish_to(topic):
    with pytest.raises(ValueError, match=r"topic|65535"):
        link_packets.publish(topic, b"", 1, retain=False, again=False)


def test_packets_without_a_body():
    assert isinstance(read(link_packets.PING), mqtt5.PingReqPacket)
    # Without an expiry of its own: that of CONNECT stays, and with it the session.
    assert read(link_packets.DISCONNECT).session_expiry_interval is None


REASONS = [
    mqtt5.ConnAckReasonCode,
    mqtt5.DisconnectReasonCode,
    mqtt5.PubAckReasonCode,
    mqtt5.SubAckReasonCode,
]
CODES = [getattr(kind, name) for kind in REASONS for name in dir(kind) if name.isupper()]


@pytest.mark.parametrize("code", CODES)
def test_every_reason_that_the_codec_knows_has_words(code):
    for words in (link_packets.words(code), link_packets.refusal(code)):
        assert words
        assert "_" not in words.replace("MQTT_CLIENT_ID", "")


def test_the_commonest_refusals_say_what_to_do():
    code = mqtt5.ConnAckReasonCode
    assert "password" in link_packets.refusal(code.NOT_AUTHORIZED)
    assert "password" in link_packets.refusal(code.BAD_USER_NAME_OR_PASSWORD)
    assert "MQTT_CLIENT_ID" in link_packets.refusal(code.CLIENT_ID_NOT_VALID)
    assert "MQTT 5" in link_packets.refusal(code.UNSUPPORTED_PROTOCOL_VERSION)
    assert link_packets.refusal(code.QUOTA_EXCEEDED) == "quota exceeded"


def unread(data):
    start, stop = frame(data, 0, MQTT_5)
    topic, packet_id, payload = link_packets.read_publish(data, 0, start, stop)
    return topic, packet_id, data[payload:stop]


@given(st.binary(min_size=1, max_size=30), st.binary(max_size=50), st.integers(1, 65_535))
def test_a_publish_that_cannot_be_taken(topic, payload, packet_id):
    data = publish(topic, payload, packet_id=packet_id, version=5)
    assert unread(data) == (topic, packet_id, payload)


@pytest.mark.parametrize("properties", [b"\x02\x99\x01", b"\x7f", b"\xff\xff\xff\xff\xff", b""])
def test_properties_that_cannot_be_read_count_as_payload(properties):
    data = packet(0x32, string("a") + b"\0\x07" + properties + b"rest")
    assert unread(data) == (b"a", 7, properties + b"rest")


def test_a_publish_that_ends_early():
    with pytest.raises(ProtocolError):
        unread(packet(0x32, b"\0\x50ab"))


@pytest.mark.parametrize(
    ("topic", "expected"),
    [(b"a/b", True), ("a/\u00fc\U0001f321".encode(), True), (b"a/\xff", False), (b"\xc3", False)],
)
@pytest.mark.parametrize("size", [0, 1, 200, 20_000])
def test_whether_a_topic_is_text_is_seen_before_the_codec_reads_it(topic, expected, size):
    body = len(topic).to_bytes(2, "big") + topic + b"\0\7\0" + b"\xff" * size
    whole = b"\x32" + fields.write_variable(len(body)) + body
    before = b"\xd0\x00"
    assert link_packets.has_text(before + whole, len(before)) is expected
    for cut in range(1, min(len(whole), 12)):
        known = cut >= whole.index(topic) + len(topic)
        assert link_packets.has_text(before + whole[:cut], len(before)) is (expected or not known)

"""PUBLISH, as clients send it (MQTT 5, 3.3)."""

import pytest

from heliograph.mqtt.codec.packets import decode_topic, frame, read_publish
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import ProtocolError, Reason
from unit.mqtt.client_packets import packet, publish, text


def read(buffer, version):
    start, stop = frame(buffer, 0, version)
    assert stop == len(buffer)
    return read_publish(buffer, 0, start, stop, version)


def refused(buffer, version):
    with pytest.raises(ProtocolError) as caught:
        read(buffer, version)
    return caught.value.reason


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("size", [0, 1, 134, 20_000])
@pytest.mark.parametrize(
    ("first", "packet_id"),
    [(0x30, 0), (0x31, 0), (0x32, 1), (0x33, 256), (0x3A, 65_535), (0x34, 7), (0x3D, 7)],
)
def test_topic_packet_id_and_payload_are_found(version, first, packet_id, size):
    buffer = publish("measurements/a", b"x" * size, first, packet_id, version)
    topic, found, payload, properties = read(buffer, version)
    assert (topic, found, properties) == (b"measurements/a", packet_id, None)
    assert buffer[payload:] == b"x" * size


@pytest.mark.parametrize("version", [4, 5])
def test_a_packet_is_found_between_others(version):
    one = publish("measurements/a", b"1", version=version)
    two = publish("measurements/bb", b"22", packet_id=8, version=version)
    buffer = one + two + one
    start, stop = frame(buffer, len(one), version)
    topic, packet_id, payload, _ = read_publish(buffer, len(one), start, stop, version)
    assert (topic, packet_id, buffer[payload:stop]) == (b"measurements/bb", 8, b"22")


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_3_3_1_2_dup_needs_qos(version):
    """[MQTT-3.3.1-2]."""
    assert refused(publish(first=0x38, version=version), version) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("first", [0x36, 0x3E, 0x37])
def test_mqtt_3_3_1_4_qos_3_does_not_exist(version, first):
    """[MQTT-3.3.1-4]."""
    assert refused(publish(first=first, version=version), version) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("first", [0x32, 0x34])
def test_mqtt_2_2_1_3_a_packet_id_is_not_0(version, first):
    """[MQTT-2.2.1-3]; in 3.1.1 [MQTT-2.3.1-1]."""
    buffer = publish(first=first, packet_id=0, version=version)
    assert refused(buffer, version) is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_4_7_3_1_a_topic_is_not_empty(version):
    """[MQTT-4.7.3-1]."""
    assert refused(publish("", version=version), version) is Reason.PROTOCOL_ERROR


def test_mqtt_3_3_2_8_an_alias_is_not_0():
    """[MQTT-3.3.2-8]."""
    buffer = publish("", version=5, given=b"\x23\x00\x00")
    assert refused(buffer, 5) is Reason.TOPIC_ALIAS_INVALID


def test_an_alias_stands_for_an_empty_topic():
    buffer = publish("", b"{}", version=5, given=b"\x23\x00\x05")
    topic, packet_id, payload, properties = read(buffer, 5)
    assert (topic, packet_id, buffer[payload:]) == (b"", 7, b"{}")
    assert properties == Properties(topic_alias=5)


def test_mqtt_3_3_4_6_a_client_sends_no_subscription_identifier():
    """[MQTT-3.3.4-6]."""
    assert refused(publish(version=5, given=b"\x0b\x01"), 5) is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("topic", ["a/+", "#", "+", ""])
def test_mqtt_3_3_2_14_a_response_topic_has_no_wildcards(topic):
    """[MQTT-3.3.2-14]."""
    buffer = publish(version=5, given=b"\x08" + text(topic))
    assert refused(buffer, 5) is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("first", [0x30, 0x32, 0x34])
def test_a_packet_that_ends_too_early_is_malformed(version, first):
    whole = publish("topic/of/some/length", b"", first, version=version, given=b"\x23\x00\x05")
    start, stop = frame(whole, 0)
    body = whole[start:stop]
    for size in range(len(body)):
        # What follows in the buffer belongs to the next packet.
        buffer = packet(first, body[:size]) + body[size:]
        start, stop = frame(buffer, 0)
        with pytest.raises(ProtocolError) as caught:
            read_publish(buffer, 0, start, stop, version)
        assert caught.value.reason is Reason.MALFORMED_PACKET


def test_properties_that_end_behind_their_packet_are_malformed():
    buffer = packet(0x30, text("a") + b"\x03\x23\x00") + b"\x01\x00\x00"
    start, stop = frame(buffer, 0)
    with pytest.raises(ProtocolError) as caught:
        read_publish(buffer, 0, start, stop, 5)
    assert caught.value.reason is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("name", ["a", "/", "a//b", "$SYS/x", "ü/\U0001f321", "\ufeffa", " "])
def test_topics_are_decoded(name):
    """Also [MQTT-1.5.4-3]: U+FEFF is kept."""
    assert decode_topic(name.encode()) == name


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"a/+", id="MQTT-3.3.2-2 plus"),
        pytest.param(b"a/#", id="MQTT-3.3.2-2 hash"),
        pytest.param(b"a+b", id="MQTT-3.3.2-2 plus within a level"),
        pytest.param(b"a\0b", id="MQTT-1.5.4-2 NUL"),
        pytest.param(b"\xed\xa0\x80", id="MQTT-1.5.4-1 high surrogate"),
        pytest.param(b"\xed\xbf\xbf", id="MQTT-1.5.4-1 low surrogate"),
        pytest.param(b"\xed\xa0\xbd\xed\xb8\x80", id="MQTT-1.5.4-1 surrogate pair"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"\xc3", id="truncated UTF-8"),
        pytest.param(b"\xc0\x80", id="overlong NUL"),
        pytest.param(b"\xf4\x90\x80\x80", id="beyond U+10FFFF"),
    ],
)
def test_topics_that_are_none(topic):
    with pytest.raises(ProtocolError) as caught:
        decode_topic(topic)
    assert caught.value.reason is Reason.MALFORMED_PACKET

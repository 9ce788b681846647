"""The fixed header (MQTT 5, 2.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec.fields import write_variable
from heliograph.mqtt.codec.packets import check_flags, frame
from heliograph.mqtt.codec.reasons import PacketType, ProtocolError, Reason
from unit.mqtt.client_packets import length

LENGTHS = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("size", LENGTHS)
def test_frame_tells_where_the_body_lies(size, version):
    header = b"\x30" + length(size)
    before = b"before"
    start = len(before) + len(header)
    assert frame(before + header, len(before), version) == (start, start + size)


@given(st.integers(0, 268_435_455), st.binary(max_size=10), st.binary(max_size=10))
def test_any_length_is_read(size, before, behind):
    buffer = before + b"\x30" + length(size) + behind
    start = len(buffer) - len(behind)
    assert frame(buffer, len(before)) == (start, start + size)
    assert frame(buffer, len(before), 5) == (start, start + size)


@pytest.mark.parametrize("size", LENGTHS)
def test_lengths_are_written_as_they_are_read(size):
    assert write_variable(size) == length(size)


def test_a_length_beyond_the_longest_is_not_written():
    with pytest.raises(ValueError):
        write_variable(268_435_456)


@pytest.mark.parametrize("size", LENGTHS)
def test_frame_waits_for_the_whole_length(size):
    header = b"\x30" + length(size)
    for there in range(len(header)):
        assert frame(header[:there], 0) is None
        assert frame(b"x" + header[:there], 1) is None


@pytest.mark.parametrize("version", [4, 5])
def test_a_length_of_five_bytes_is_malformed(version):
    with pytest.raises(ProtocolError) as caught:
        frame(b"\x30\x80\x80\x80\x80\x01", 0, version)
    assert caught.value.reason is Reason.MALFORMED_PACKET


def test_the_fifth_byte_of_a_length_is_not_waited_for():
    with pytest.raises(ProtocolError):
        frame(b"\x30\xff\xff\xff\xff", 0)


@pytest.mark.parametrize(
    "written", [b"\x80\x00", b"\x85\x00", b"\x80\x80\x00", b"\x81\x80\x80\x00"]
)
def test_mqtt_1_5_5_1_a_length_has_no_more_bytes_than_it_needs(written):
    """[MQTT-1.5.5-1]: in MQTT 5; 3.1.1 does not forbid it."""
    with pytest.raises(ProtocolError) as caught:
        frame(b"\x30" + written, 0, 5)
    assert caught.value.reason is Reason.MALFORMED_PACKET
    start = 1 + len(written)
    assert frame(b"\x30" + written, 0, 4) == (start, start + (written[0] & 0x7F))


RIGHT = {
    PacketType.CONNECT: 0,
    PacketType.PUBACK: 0,
    PacketType.PUBREC: 0,
    PacketType.PUBREL: 2,
    PacketType.PUBCOMP: 0,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
    PacketType.PINGREQ: 0,
    PacketType.DISCONNECT: 0,
    PacketType.AUTH: 0,
}
FROM_SERVERS = {
    PacketType.CONNACK,
    PacketType.SUBACK,
    PacketType.UNSUBACK,
    PacketType.PINGRESP,
}


def test_mqtt_2_1_3_1_flags_are_those_of_the_type():
    """[MQTT-2.1.3-1], and with it [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]."""
    for first in range(256):
        number, flags = first >> 4, first & 0x0F
        if number == PacketType.PUBLISH or RIGHT.get(number) == flags:
            assert check_flags(first) is PacketType(number)
            continue
        with pytest.raises(ProtocolError) as caught:
            check_flags(first)
        expected = Reason.PROTOCOL_ERROR if number in FROM_SERVERS else Reason.MALFORMED_PACKET
        assert caught.value.reason is expected, f"{first:#04x}"

"""PUBACK, PUBREC, PUBREL, PUBCOMP, PINGREQ and DISCONNECT, as clients send them."""

import pytest

from heliograph.mqtt.codec.packets import Disconnect, read_disconnect, read_ping, read_puback
from heliograph.mqtt.codec.reasons import PacketType, ProtocolError, Reason

RECEIVED = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
RELEASED = {0x00, 0x92}
REASONS = {
    PacketType.PUBACK: RECEIVED,
    PacketType.PUBREC: RECEIVED,
    PacketType.PUBREL: RELEASED,
    PacketType.PUBCOMP: RELEASED,
}
FROM_CLIENTS = {0x00, 0x04, *range(0x80, 0x84), 0x90, *range(0x93, 0x9A)}

each_type = pytest.mark.parametrize("packet", REASONS, ids=lambda packet: packet.name)


def refused(read, *arguments):
    with pytest.raises(ProtocolError) as caught:
        read(*arguments)
    return caught.value.reason


@each_type
@pytest.mark.parametrize("version", [4, 5])
def test_the_short_form(packet, version):
    assert read_puback(b"\x12\x34", version, packet) == (0x1234, Reason.SUCCESS)


@each_type
def test_mqtt_3_4_2_1_reasons_are_those_of_the_type(packet):
    """[MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]."""
    for code in range(256):
        body = bytes([0, 1, code])
        if code in REASONS[packet]:
            assert read_puback(body, 5, packet) == (1, Reason(code))
            assert read_puback(body + b"\0", 5, packet) == (1, Reason(code))
        else:
            assert refused(read_puback, body, 5, packet) is Reason.PROTOCOL_ERROR, hex(code)


@each_type
def test_properties_of_acknowledgments(packet):
    body = b"\x00\x01\x00\x0b\x1f\x00\x01x\x26\x00\x01a\x00\x01b"
    assert read_puback(body, 5, packet) == (1, Reason.SUCCESS)
    twice = b"\x00\x01\x00\x08\x1f\x00\x01x\x1f\x00\x01x"
    assert refused(read_puback, twice, 5, packet) is Reason.PROTOCOL_ERROR


@each_type
@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_2_2_1_3_a_packet_id_is_not_0(packet, version):
    """[MQTT-2.2.1-3]."""
    assert refused(read_puback, b"\0\0", version, packet) is Reason.PROTOCOL_ERROR


@each_type
@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b"", 4),
        (b"\1", 4),
        (b"\0\1\0", 4),
        (b"", 5),
        (b"\1", 5),
        (b"\0\1\0\0x", 5),
        (b"\0\1\0\5", 5),
    ],
)
def test_malformed_acknowledgments(packet, body, version):
    assert refused(read_puback, body, version, packet) is Reason.MALFORMED_PACKET


def test_a_pingreq_has_no_body():
    read_ping(b"")
    assert refused(read_ping, b"\0") is Reason.MALFORMED_PACKET


def test_a_disconnect_of_3_1_1_has_no_body():
    assert read_disconnect(b"", 4) == Disconnect()
    assert refused(read_disconnect, b"\0", 4) is Reason.MALFORMED_PACKET


def test_mqtt_3_14_2_1_reasons_of_a_disconnect_are_a_clients():
    """[MQTT-3.14.2-1]."""
    for code in range(256):
        if code in FROM_CLIENTS:
            assert read_disconnect(bytes([code]), 5) == Disconnect(Reason(code))
        else:
            assert refused(read_disconnect, bytes([code]), 5) is Reason.PROTOCOL_ERROR, hex(code)


def test_a_disconnect_of_mqtt_5():
    assert read_disconnect(b"", 5) == Disconnect(Reason.NORMAL_DISCONNECTION, None)
    assert read_disconnect(b"\x04\x00", 5) == Disconnect(Reason.DISCONNECT_WITH_WILL_MESSAGE)
    assert read_disconnect(b"\x00\x05\x11\x00\x00\x01\x00", 5) == Disconnect(session_expiry=256)
    assert read_disconnect(b"\x00\x05\x11\x00\x00\x00\x00", 5) == Disconnect(session_expiry=0)


@pytest.mark.parametrize("body", [b"\0\0x", b"\0\5\x11\0\0\0", b"\0\x03\x21\x00\x01", b"\0\x80"])
def test_malformed_disconnects(body):
    assert refused(read_disconnect, body, 5) is Reason.MALFORMED_PACKET

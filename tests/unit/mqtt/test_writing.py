"""What the server sends, byte by byte."""

import pytest

from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import Reason, connect_return

STRING = "no"
STRING_PROPERTY = b"\x05\x1f\x00\x02no"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.SUCCESS, 0),
        (Reason.UNSUPPORTED_PROTOCOL_VERSION, 1),
        (Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (Reason.SERVER_UNAVAILABLE, 3),
        (Reason.SERVER_BUSY, 3),
        (Reason.QUOTA_EXCEEDED, 3),
        (Reason.BAD_USER_NAME_OR_PASSWORD, 4),
        (Reason.NOT_AUTHORIZED, 5),
        (Reason.BANNED, 5),
    ],
)
def test_connack(reason, code):
    assert connect_return(reason) == code
    assert packets.connack(4, reason) == bytes([0x20, 2, 0, code])
    assert packets.connack(5, reason) == bytes([0x20, 3, 0, reason, 0])


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason >= Reason.UNSPECIFIED_ERROR]
)
def test_no_failure_is_a_success_in_3_1_1(reason):
    assert connect_return(reason) != 0


def test_mqtt_3_2_2_6_a_refusal_has_no_session():
    """[MQTT-3.2.2-6]; in 3.1.1 [MQTT-3.2.2-4]."""
    assert packets.connack(4, session_present=True) == b"\x20\x02\x01\x00"
    assert packets.connack(5, session_present=True) == b"\x20\x03\x01\x00\x00"
    assert packets.connack(4, Reason.NOT_AUTHORIZED, session_present=True)[2] == 0
    assert packets.connack(5, Reason.NOT_AUTHORIZED, session_present=True)[2] == 0


def test_properties_of_connack():
    properties = Properties(receive_maximum=20, assigned_client_identifier="me")
    expected = b"\x20\x0b\x00\x00\x08\x12\x00\x02me\x21\x00\x14"
    assert packets.connack(5, properties=properties) == expected
    assert packets.connack(4, properties=properties) == b"\x20\x02\x00\x00"


@pytest.mark.parametrize(
    ("write", "first"),
    [
        (packets.puback, 0x40),
        (packets.pubrec, 0x50),
        (packets.pubrel, 0x62),
        (packets.pubcomp, 0x70),
    ],
)
def test_acknowledgments(write, first):
    short = bytes([first, 2, 0x12, 0x34])
    assert write(4, 0x1234) == write(5, 0x1234) == short
    assert write(4, 0x1234, Reason.NOT_AUTHORIZED, STRING) == short
    assert write(5, 0x1234, Reason.NOT_AUTHORIZED) == bytes([first, 3, 0x12, 0x34, 0x87])
    whole = bytes([first, 9, 0x12, 0x34, 0x87]) + STRING_PROPERTY
    assert write(5, 0x1234, Reason.NOT_AUTHORIZED, STRING) == whole


def test_pubacks_are_one_behind_the_other():
    assert packets.pubacks([]) == b""
    numbers = [1, 65_535, 258]
    assert packets.pubacks(numbers) == b"".join(packets.puback(4, number) for number in numbers)


def test_suback():
    reasons = [Reason.GRANTED_QOS_0, 1, 2, Reason.NOT_AUTHORIZED]
    assert packets.suback(4, 7, reasons) == b"\x90\x06\x00\x07\x00\x01\x02\x80"
    assert packets.suback(5, 7, reasons) == b"\x90\x07\x00\x07\x00\x00\x01\x02\x87"


def test_unsuback():
    reasons = [Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED]
    assert packets.unsuback(4, 7, reasons) == b"\xb0\x02\x00\x07"
    assert packets.unsuback(5, 7, reasons) == b"\xb0\x05\x00\x07\x00\x00\x11"


def test_publish():
    assert packets.publish(4, "a/b", b"xy") == b"\x30\x07\x00\x03a/bxy"
    assert packets.publish(5, "a/b", b"xy") == b"\x30\x08\x00\x03a/b\x00xy"
    whole = packets.publish(
        5,
        "a",
        b"x",
        2,
        retain=True,
        duplicate=True,
        packet_id=258,
        properties=Properties(subscription_identifiers=(1, 2)),
    )
    assert whole == b"\x3d\x0b\x00\x01a\x01\x02\x04\x0b\x01\x0b\x02x"
    without = packets.publish(4, "a", b"x", 1, packet_id=1, properties=Properties(topic_alias=1))
    assert without == b"\x32\x06\x00\x01a\x00\x01x"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"qos": 1}, id="MQTT-2.2.1-4 no packet id"),
        pytest.param({"packet_id": 1}, id="MQTT-2.2.1-2 packet id without QoS"),
        pytest.param({"duplicate": True}, id="MQTT-3.3.1-2 DUP without QoS"),
    ],
)
def test_a_publish_that_mqtt_forbids_is_not_written(given):
    with pytest.raises(ValueError):
        packets.publish(5, "a", b"", **given)


@pytest.mark.parametrize("topic", ["x" * 65_536, "a\0b", "\ud800"])
def test_a_topic_that_is_no_string_of_mqtt_is_not_written(topic):
    with pytest.raises(ValueError):
        packets.publish(4, topic, b"")


def test_disconnect():
    """Also [MQTT-3.14.0-1]: in 3.1.1 it is not for the server to send."""
    assert packets.disconnect(4, Reason.SESSION_TAKEN_OVER) == b""
    assert packets.disconnect(5, Reason.SESSION_TAKEN_OVER) == b"\xe0\x01\x8e"
    whole = packets.disconnect(5, Reason.SESSION_TAKEN_OVER, STRING)
    assert whole == b"\xe0\x07\x8e" + STRING_PROPERTY


def test_pingresp():
    assert packets.PINGRESP == b"\xd0\x00"

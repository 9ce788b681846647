"""CONNECT and the answer to a bad one (MQTT 5, 3.1)."""

import msgspec
import pytest

from heliograph.mqtt.codec.packets import NEVER, Connect, Will, read_connect, refusal
from heliograph.mqtt.codec.reasons import ProtocolError, Reason
from unit.mqtt.client_packets import (
    CLEAN,
    PASSWORD,
    USERNAME,
    WILL,
    WILL_QOS_1,
    WILL_QOS_2,
    WILL_RETAIN,
    Bare,
    connect,
    properties,
)

NO_PROPERTIES = Bare(b"\0")


def refused(body):
    with pytest.raises(ProtocolError) as caught:
        read_connect(body)
    return caught.value


def test_the_smallest_connect():
    expected = Connect(version=4, clean_start=True, keepalive=60, client_id="")
    assert read_connect(connect("")) == expected
    assert read_connect(connect("", version=5)) == msgspec.structs.replace(expected, version=5)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_everything_in_the_order_of_the_payload(version, qos, retain):
    """[MQTT-3.1.3-1], [MQTT-3.1.2-8], [MQTT-3.1.2-9]."""
    flags = CLEAN | WILL | USERNAME | PASSWORD | qos << 3 | (WILL_RETAIN if retain else 0)
    will = [NO_PROPERTIES] if version == 5 else []
    body = connect(
        "me", *will, "status/me", b"off\0", "user", b"\xff\0", version=version, flags=flags
    )
    assert read_connect(body) == Connect(
        version=version,
        clean_start=True,
        keepalive=60,
        client_id="me",
        will=Will("status/me", b"off\0", qos, retain),
        username="user",
        password=b"\xff\0",
    )


def test_empty_user_names_and_passwords_are_there():
    read = read_connect(connect("me", "", b"", flags=CLEAN | USERNAME | PASSWORD))
    assert (read.username, read.password) == ("", b"")


def test_how_long_a_session_of_3_1_1_is_kept():
    assert read_connect(connect("me", flags=CLEAN)).session_expiry == 0
    assert read_connect(connect("me", flags=0)).session_expiry == NEVER


def test_properties_of_connect():
    given = (
        b"\x11\xff\xff\xff\xff\x21\x00\x14\x27\x00\x01\x00\x00\x22\x00\x0a\x19\x01\x17\x00"
        b"\x15\x00\x05SCRAM\x16\x00\x02\x00\xff\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01c"
    )
    assert read_connect(connect("me", version=5, flags=0, given=given)) == Connect(
        version=5,
        clean_start=False,
        keepalive=60,
        client_id="me",
        session_expiry=NEVER,
        receive_maximum=20,
        maximum_packet_size=65_536,
        request_problem_information=False,
        authentication_method="SCRAM",
    )


def test_properties_of_a_will():
    given = properties(b"\x18\x00\x00\x00\x05", b"\x01\x01", b"\x26\x00\x01a\x00\x01b")
    body = connect("me", Bare(given), "status/me", b"offline", version=5, flags=CLEAN | WILL)
    assert read_connect(body).will == Will("status/me", b"offline", delay=5)


UNSUPPORTED = [
    pytest.param(connect("", name="MQIsdp", version=3), id="MQTT 3.1"),
    pytest.param(connect("", name="AMQP"), id="MQTT-3.1.2-1 another protocol"),
    pytest.param(connect("", name="mqtt"), id="MQTT-3.1.2-1 lower case"),
    pytest.param(connect("", version=3), id="MQTT-3.1.2-2 level 3"),
    pytest.param(connect("", version=6), id="MQTT-3.1.2-2 level 6"),
    pytest.param(connect("", version=0x84), id="MQTT-3.1.2-2 a bridge's level"),
]


@pytest.mark.parametrize("body", UNSUPPORTED)
def test_other_protocols(body):
    assert refused(body).reason is Reason.UNSUPPORTED_PROTOCOL_VERSION


BOTH = [
    pytest.param([""], CLEAN | 1, id="MQTT-3.1.2-3 reserved flag"),
    pytest.param([""], CLEAN | WILL_QOS_1, id="MQTT-3.1.2-11 QoS 1 of no will"),
    pytest.param([""], CLEAN | WILL_QOS_2, id="MQTT-3.1.2-11 QoS 2 of no will"),
    pytest.param([""], CLEAN | WILL_QOS_1 | WILL_QOS_2, id="MQTT-3.1.2-12 QoS 3 of no will"),
    pytest.param([""], CLEAN | WILL_RETAIN, id="MQTT-3.1.2-13 RETAIN of no will"),
    pytest.param([""], CLEAN | USERNAME, id="MQTT-3.1.2-17 user name missing"),
    pytest.param(["", "user"], CLEAN, id="MQTT-3.1.2-16 user name not announced"),
    pytest.param(["", "user"], CLEAN | USERNAME | PASSWORD, id="MQTT-3.1.2-19 password missing"),
    pytest.param(["", "u", "p"], CLEAN | USERNAME, id="MQTT-3.1.2-18 password not announced"),
    pytest.param(["", Bare(b"x")], CLEAN, id="more behind the payload"),
    pytest.param([b"\xff"], CLEAN, id="MQTT-3.1.3-4 client id is not UTF-8"),
    pytest.param([b"\xed\xa0\x80"], CLEAN, id="MQTT-1.5.4-1 client id with a surrogate"),
    pytest.param([b"a\0b"], CLEAN, id="MQTT-1.5.4-2 client id with NUL"),
    pytest.param(["", b"\xff"], CLEAN | USERNAME, id="MQTT-3.1.3-12 user name is not UTF-8"),
    pytest.param([Bare(b"\x00\x05me")], CLEAN, id="client id longer than the packet"),
]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("payload", "flags"), BOTH)
def test_malformed(version, payload, flags):
    body = connect(*payload, version=version, flags=flags)
    assert refused(body).reason is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    "will",
    [
        pytest.param(["a/+", "x"], id="wildcard"),
        pytest.param(["", "x"], id="empty topic"),
        pytest.param([b"\xff", "x"], id="MQTT-3.1.3-11 not UTF-8"),
        pytest.param([b"a\0", "x"], id="NUL"),
        pytest.param(["a"], id="no payload"),
    ],
)
def test_malformed_wills(version, will):
    will = [NO_PROPERTIES, *will] if version == 5 else will
    body = connect("me", *will, version=version, flags=CLEAN | WILL)
    assert refused(body).reason is Reason.MALFORMED_PACKET


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_3_1_2_12_a_will_has_no_qos_3(version):
    """[MQTT-3.1.2-12]."""
    flags = CLEAN | WILL | WILL_QOS_1 | WILL_QOS_2
    will = [NO_PROPERTIES] if version == 5 else []
    body = connect("me", *will, "a", "x", version=version, flags=flags)
    assert refused(body).reason is Reason.MALFORMED_PACKET


def test_mqtt_3_1_2_22_a_password_needs_a_user_name_in_3_1_1():
    """[MQTT-3.1.2-22] of 3.1.1; MQTT 5 allows it."""
    body = connect("me", "secret", flags=CLEAN | PASSWORD)
    assert refused(body).reason is Reason.MALFORMED_PACKET
    body = connect("me", "secret", version=5, flags=CLEAN | PASSWORD)
    assert read_connect(body).password == b"secret"


def test_mqtt_3_1_3_8_a_session_that_is_kept_needs_a_client_id_in_3_1_1():
    """[MQTT-3.1.3-8] of 3.1.1: return code 2; MQTT 5 allows it [MQTT-3.1.3-6]."""
    body = connect("", flags=0)
    error = refused(body)
    assert error.reason is Reason.CLIENT_IDENTIFIER_NOT_VALID
    assert refusal(body, error) == b"\x20\x02\x00\x02"
    assert read_connect(connect("", version=5, flags=0)).client_id == ""


def test_authentication_data_needs_a_method():
    body = connect("me", version=5, given=b"\x16\x00\x01x")
    assert refused(body).reason is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [4, 5])
def test_a_packet_that_ends_too_early_is_malformed(version):
    will = [NO_PROPERTIES] if version == 5 else []
    flags = CLEAN | WILL | USERNAME | PASSWORD
    body = connect("me", *will, "t", "p", "u", "s", version=version, flags=flags, given=b"\x17\x01")
    read_connect(body)
    for size in range(7, len(body)):
        assert refused(body[:size]).reason is Reason.MALFORMED_PACKET
    for size in range(7):
        refused(body[:size])


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param(connect("", version=3, name="MQIsdp"), b"\x20\x02\x00\x01", id="MQTT 3.1"),
        pytest.param(connect("", version=3), b"\x20\x02\x00\x01", id="level 3"),
        pytest.param(connect("", version=0x84), b"\x20\x02\x00\x01", id="a bridge of 3.1.1"),
        pytest.param(connect("", version=6), b"\x20\x03\x00\x84\x00", id="level 6"),
        pytest.param(connect("", name="AMQP"), b"", id="another protocol"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"", id="a browser"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(connect("", flags=1), b"", id="MQTT-3.1.4-1 malformed 3.1.1"),
        pytest.param(connect("", version=5, flags=1), b"\x20\x03\x00\x81\x00", id="malformed 5"),
        pytest.param(
            connect("", version=5, given=b"\x21\x00\x00"),
            b"\x20\x03\x00\x82\x00",
            id="receive maximum 0",
        ),
    ],
)
def test_what_is_answered(body, answer):
    assert refusal(body, refused(body)) == answer

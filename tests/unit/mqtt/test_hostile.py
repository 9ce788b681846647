"""Whatever either side sends, it is read or refused with a reason: nothing else is raised."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.properties import Properties
from heliograph.mqtt.codec.reasons import MQTT_3_1_1, MQTT_5, PacketType, ProtocolError, Reason
from unit.mqtt.client_packets import (
    CLEAN,
    PASSWORD,
    USERNAME,
    WILL,
    Bare,
    connect,
    numbered,
    packet,
    properties,
    publish,
    text,
)

pytestmark = pytest.mark.uncovered

REFUSALS = {
    Reason.MALFORMED_PACKET,
    Reason.PROTOCOL_ERROR,
    Reason.UNSUPPORTED_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID,
    Reason.TOPIC_ALIAS_INVALID,
}
ACKNOWLEDGMENTS = [PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP]


def refuse_connect(body):
    try:
        packets.read_connect(body)
    except ProtocolError as error:
        packets.refusal(body, error)
        raise


def read_publish(buffer, version):
    framed = packets.frame(buffer, 0, version)
    if framed is None or framed[1] > len(buffer):
        return
    start, stop = framed
    topic, _, payload, found = packets.read_publish(buffer, 0, start, stop, version)
    assert start + 2 + len(topic) <= payload <= stop
    if topic or found is None or found.topic_alias is None:
        packets.decode_topic(topic)


def read_any(buffer, version):
    framed = packets.frame(buffer, 0, version)
    if framed is None or framed[1] > len(buffer):
        return
    start, stop = framed
    kind = packets.check_flags(buffer[0])
    if kind is PacketType.PUBLISH:
        read_publish(buffer, version)
    elif kind in BODIES:
        BODIES[kind](buffer[start:stop], version)


BODIES = {
    PacketType.CONNECT: lambda body, version: refuse_connect(body),
    PacketType.SUBSCRIBE: packets.read_subscribe,
    PacketType.UNSUBSCRIBE: packets.read_unsubscribe,
    PacketType.DISCONNECT: packets.read_disconnect,
    PacketType.PINGREQ: lambda body, version: packets.read_ping(body),
} | {kind: functools.partial(packets.read_puback, packet=kind) for kind in ACKNOWLEDGMENTS}

USER = b"\x26\x00\x01a\x00\x02bc"


def valid(version):
    """One packet of each type, with all that it may hold."""
    will = [Bare(properties(b"\x18\0\0\0\5", b"\x08\0\1r", USER))] if version == 5 else []
    everything = b"\x11\0\0\0\5\x21\0\5\x15\0\1m\x16\0\1d" + USER
    reason = b"\0" + properties(b"\x1f\0\2no", USER) if version == 5 else b""
    leave = b"\x04" + properties(b"\x11\0\0\0\5\x1f\0\2no", USER) if version == 5 else b""
    alias = b"\x23\0\5\x01\1\x02\0\0\0\1\x03\0\1t\x08\0\1r\x09\0\1c" + USER
    return [
        packet(
            0x10,
            connect(
                "me",
                *will,
                "t",
                "p",
                "u",
                "s",
                version=version,
                flags=CLEAN | WILL | USERNAME | PASSWORD,
                given=everything,
            ),
        ),
        publish("measurements/a", b"{}", version=version, given=alias),
        publish("measurements/a", b"{}", 0x30, version=version),
        packet(
            0x82,
            numbered(
                1, text("a/+"), b"\1", text("$share/g/#"), b"\2", version=version, given=b"\x0b\1"
            ),
        ),
        packet(0xA2, numbered(1, text("a"), text("b/#"), version=version, given=USER)),
        *(packet(first, b"\0\1" + reason) for first in (0x40, 0x50, 0x62, 0x70)),
        packet(0xC0, b""),
        packet(0xE0, leave),
    ]


VALID = {version: valid(version) for version in (MQTT_3_1_1, MQTT_5)}
versions = st.sampled_from([MQTT_3_1_1, MQTT_5])
one_byte = st.integers(0, 255)


@st.composite
def mutated(draw):
    """A valid packet with some bytes changed, put in or taken out, mostly of the right length."""
    version = draw(versions)
    written = bytearray(draw(st.sampled_from(VALID[version])))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(len(written) - 1, 0)))
        change = draw(st.sampled_from(["replace", "insert", "remove", "flip"]))
        if change == "insert" or not written:
            written.insert(position, draw(one_byte))
        elif change == "remove":
            del written[position]
        elif change == "flip":
            written[position] ^= 1 << draw(st.integers(0, 7))
        else:
            written[position] = draw(one_byte)
    if len(written) > 1 and draw(st.booleans()):
        written[1] = min(len(written) - 2, 127)
    return bytes(written), version


def read_or_refuse(read, *arguments):
    refusal = None
    try:
        read(*arguments)
    except ProtocolError as error:
        refusal = error
    assert refusal is None or (refusal.reason in REFUSALS and refusal.detail)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_the_valid_packets_are_valid(version):
    for written in VALID[version]:
        read_any(written, version)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_each_bit_of_each_valid_packet(version):
    for written in VALID[version]:
        for position in range(len(written)):
            for value in range(256):
                changed = written[:position] + bytes([value]) + written[position + 1 :]
                read_or_refuse(read_any, changed, version)


@given(mutated())
def test_mutated_packets(case):
    read_or_refuse(read_any, *case)


@given(st.binary(max_size=60), versions)
def test_random_bytes(buffer, version):
    read_or_refuse(read_any, buffer, version)


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.name)
@given(body=st.binary(max_size=60), version=versions)
def test_random_bodies(kind, body, version):
    read_or_refuse(BODIES[kind], body, version)


@given(first=st.integers(0x30, 0x3F), body=st.binary(max_size=60), version=versions)
def test_random_publishes(first, body, version):
    read_or_refuse(read_publish, packet(first, body), version)


@given(st.binary(max_size=60))
def test_random_connects_of_the_right_protocol(rest):
    for version in (4, 5):
        read_or_refuse(refuse_connect, text("MQTT") + bytes([version]) + rest)


@given(st.binary(max_size=20))
def test_random_topics(topic):
    read_or_refuse(packets.decode_topic, topic)


def test_a_packet_full_of_user_properties():
    count = 100_000
    buffer = publish(version=5, given=b"\x26\0\0\0\0" * count)
    start, stop = packets.frame(buffer, 0)
    *_, found = packets.read_publish(buffer, 0, start, stop, MQTT_5)
    assert found.user_properties == (("", ""),) * count


def read_from_server(buffer, version):
    """Read what a server sends, as a client does."""
    framed = packets.frame(buffer, 0, version)
    if framed is None or framed[1] > len(buffer):
        return
    start, stop = framed
    kind = packets.check_flags(buffer[0], by_server=True)
    if kind is PacketType.PUBLISH:
        packets.read_publish(buffer, 0, start, stop, version, by_server=True)
    elif kind in FROM_SERVER:
        FROM_SERVER[kind](buffer[start:stop], version)


FROM_SERVER = {
    PacketType.CONNACK: packets.read_connack,
    PacketType.SUBACK: packets.read_suback,
    PacketType.UNSUBACK: packets.read_unsuback,
    PacketType.DISCONNECT: functools.partial(packets.read_disconnect, by_server=True),
    PacketType.PINGRESP: lambda body, version: packets.read_ping(body),
} | {kind: BODIES[kind] for kind in ACKNOWLEDGMENTS}

ALL_OF_CONNACK = Properties(
    session_expiry_interval=5,
    assigned_client_identifier="me",
    server_keep_alive=60,
    authentication_method="m",
    authentication_data=b"d",
    response_information="r",
    server_reference="s",
    reason_string="no",
    receive_maximum=5,
    topic_alias_maximum=5,
    maximum_qos=1,
    retain_available=1,
    user_properties=(("a", "bc"),),
    maximum_packet_size=5,
    wildcard_subscription_available=1,
    subscription_identifier_available=1,
    shared_subscription_available=1,
)


def sent_by_server(version):
    """One packet of each type, with all that it may hold."""
    identified = Properties(subscription_identifiers=(1, 300), topic_alias=5)
    return [
        packets.connack(version, session_present=True, properties=ALL_OF_CONNACK),
        packets.publish(version, "a", b"{}", 1, packet_id=7, properties=identified),
        packets.suback(version, 1, [0, 1, 0x80]),
        packets.unsuback(version, 1, [0, 0x11]),
        *(
            write(version, 1, Reason.SUCCESS, "no")
            for write in (packets.puback, packets.pubrec, packets.pubrel, packets.pubcomp)
        ),
        packets.disconnect(version, Reason.SERVER_SHUTTING_DOWN, "no"),
        packets.PINGRESP,
    ]


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_each_bit_of_each_packet_of_a_server(version):
    for written in sent_by_server(version):
        if written:
            read_from_server(written, version)
        for position in range(len(written)):
            for value in range(256):
                changed = written[:position] + bytes([value]) + written[position + 1 :]
                read_or_refuse(read_from_server, changed, version)
            read_or_refuse(read_from_server, written[:position], version)


@given(st.binary(max_size=60), versions)
def test_random_bytes_of_a_server(buffer, version):
    read_or_refuse(read_from_server, buffer, version)


@pytest.mark.parametrize("kind", FROM_SERVER, ids=lambda kind: kind.name)
@given(body=st.binary(max_size=60), version=versions)
def test_random_bodies_of_a_server(kind, body, version):
    read_or_refuse(FROM_SERVER[kind], body, version)

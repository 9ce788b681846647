"""Errors (MQTT 5, 4.13): a clean end with the right reason, and nothing that others notice."""

import struct

import pytest

from mqtt_client import (
    PUBACK,
    PUBREC,
    Client,
    connect,
    disconnect,
    numbered,
    packet,
    publish,
    string,
    subscribe,
    subscriptions,
    unsubscribe,
    variable,
)
from server import ADMIN_KEY, eventually

pytestmark = pytest.mark.uncovered

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
TOPIC = "measurements/device-1"

# Bytes that neither version allows: what they are, the bytes by version, the reason in MQTT 5.
BOTH = {
    "packet type 0 [2.1.2]": (lambda v: b"\0\0", MALFORMED),
    "QoS 3 [3.3.1-4]": (lambda v: publish(TOPIC, b"1", qos=3, version=v), MALFORMED),
    "DUP with QoS 0 [3.3.1-2]": (
        lambda v: publish(TOPIC, b"1", qos=0, dup=True, version=v),
        MALFORMED,
    ),
    "packet id 0 [2.2.1-3]": (lambda v: publish(TOPIC, b"1", packet_id=0, version=v), 0x82),
    "wildcard # in a topic [3.3.2-2]": (lambda v: publish("a/#", b"1", version=v), MALFORMED),
    "wildcard + in a topic [3.3.2-2]": (lambda v: publish("+/a", b"1", version=v), MALFORMED),
    "NUL in a topic [1.5.4-2]": (lambda v: publish(b"a\0", b"1", version=v), MALFORMED),
    "surrogate in a topic [1.5.4-1]": (
        lambda v: publish(b"\xed\xa0\x80", b"1", version=v),
        MALFORMED,
    ),
    "empty topic [4.7.3-1]": (lambda v: publish("", b"1", version=v), PROTOCOL_ERROR),
    "topic longer than its packet": (lambda v: packet(0x30, b"\xff\xffabc"), MALFORMED),
    "PUBLISH without anything": (lambda v: packet(0x30), MALFORMED),
    "length of five bytes [1.5.5]": (lambda v: b"\x30\xff\xff\xff\xff\x01", MALFORMED),
    "flags of SUBSCRIBE [3.8.1-1]": (lambda v: b"\x80" + subscribe("a")[1:], MALFORMED),
    "flags of UNSUBSCRIBE [3.10.1-1]": (lambda v: b"\xa0" + unsubscribe("a")[1:], MALFORMED),
    "flags of PUBREL [3.6.1-1]": (lambda v: numbered(0x60, 1), MALFORMED),
    "flags of PINGREQ": (lambda v: b"\xc1\0", MALFORMED),
    "PINGREQ with a body": (lambda v: b"\xc0\x01a", MALFORMED),
    "PUBACK of one byte": (lambda v: b"\x40\x01\0", MALFORMED),
    "PUBACK of id 0": (lambda v: numbered(PUBACK, 0), PROTOCOL_ERROR),
    "SUBSCRIBE without a filter [3.8.3-2]": (
        lambda v: subscriptions(version=v),
        PROTOCOL_ERROR,
    ),
    "UNSUBSCRIBE without a filter [3.10.3-2]": (lambda v: unsubscribe(version=v), PROTOCOL_ERROR),
    "empty filter [4.7.3-1]": (lambda v: subscribe("", version=v), MALFORMED),
    "filter a# [4.7.1-1]": (lambda v: subscribe("a#", version=v), MALFORMED),
    "filter #/a [4.7.1-1]": (lambda v: subscribe("#/a", version=v), MALFORMED),
    "filter a+ [4.7.1-2]": (lambda v: subscribe("a+/b", version=v), MALFORMED),
    "subscription to QoS 3": (lambda v: subscribe("a", qos=3, version=v), PROTOCOL_ERROR),
    "reserved options [3.8.3-5]": (lambda v: subscribe("a", qos=0xC0, version=v), MALFORMED),
    "CONNACK from a client": (lambda v: b"\x20\x02\0\0", PROTOCOL_ERROR),
    "SUBACK from a client": (lambda v: b"\x90\x03\0\x01\0", PROTOCOL_ERROR),
    "PINGRESP from a client": (lambda v: b"\xd0\0", PROTOCOL_ERROR),
    "a second CONNECT [3.1.0-2]": (lambda v: connect(version=v), PROTOCOL_ERROR),
    "a SUBSCRIBE over the limit": (lambda v: b"\x82" + variable((128 << 10) + 1) + b"\0\1", 0x95),
}


def aliased(alias, topic=""):
    return publish(topic, b"1", version=5, properties=b"\x23" + struct.pack(">H", alias))


ONLY_5 = {
    "a length longer than need be [1.5.5-1]": (b"\xc0\x80\0", MALFORMED),
    "alias 0 [3.3.2-8]": (aliased(0, TOPIC), 0x94),
    "alias over the maximum [3.3.2-9]": (aliased(65, TOPIC), 0x94),
    "an alias that was never set": (aliased(3), PROTOCOL_ERROR),
    "subscription identifier in PUBLISH [3.3.4-6]": (
        publish(TOPIC, b"1", version=5, properties=b"\x0b\x01"),
        MALFORMED,
    ),
    "response topic with a wildcard [3.3.2-14]": (
        publish(TOPIC, b"1", version=5, properties=b"\x08" + string("a/#")),
        PROTOCOL_ERROR,
    ),
    "a property twice": (
        publish(TOPIC, b"1", version=5, properties=b"\x01\x01\x01\x01"),
        PROTOCOL_ERROR,
    ),
    "an unknown property": (publish(TOPIC, b"1", version=5, properties=b"\x7f\0"), MALFORMED),
    "properties longer than their packet": (
        packet(0x30, string(TOPIC) + b"\x7f\x01\x01"),
        MALFORMED,
    ),
    "retain handling 3": (subscribe("a", qos=0x30, version=5), PROTOCOL_ERROR),
    "no local with $share [3.8.3-4]": (
        subscribe("$share/g/a", qos=0x04, version=5),
        PROTOCOL_ERROR,
    ),
    "AUTH without a method [4.12.0]": (b"\xf0\0", PROTOCOL_ERROR),
    "a PUBACK with an unknown reason": (numbered(PUBACK, 1, b"\x42"), PROTOCOL_ERROR),
    "a PUBREC with an unknown reason": (numbered(PUBREC, 1, b"\x01"), PROTOCOL_ERROR),
    "DISCONNECT that makes a session last [3.1.2-23]": (
        disconnect(0, b"\x11\0\0\0\x09"),
        PROTOCOL_ERROR,
    ),
    "DISCONNECT with a server's reason": (disconnect(0x8E), PROTOCOL_ERROR),
}


async def ends(server, client, data):
    """Send the bytes behind a good measurement; return the reason that the client is told."""
    client.send(data)
    answers = []
    while answer := await client.packet():
        answers.append(answer)
    await eventually(lambda: server.listener.connections == 1)
    if client.version == 4:
        assert answers == []
        return None
    assert [answer[0] for answer in answers] == [0xE0]
    return answers[0][1]


async def check(server, version, cases):
    """Send each bytes on a connection of their own, and see that nobody else notices."""
    device = await server.device()
    other = await server.connect(device, "other")
    stored = []
    for case, (data, reason) in cases.items():
        client = await server.connect(device, version=version)
        expected = None if version == 4 else reason
        # [MQTT-4.13.1-1], [MQTT-4.13.2-1]
        assert await ends(server, client, data) == expected, case
        other.send(publish(device.topic, b'{"value": 1}'))
        assert await other.packet() == b"\x40\0\x01", case
        stored.append("1")
        assert await server.values(device) == stored, case
        assert await server.rejected() == [], case


async def test_what_both_versions_forbid(server, version):
    cases = {case: (data(version), reason) for case, (data, reason) in BOTH.items()}
    await check(server, version, cases)


async def test_what_mqtt_5_forbids(server):
    await check(server, 5, ONLY_5)


async def test_a_length_longer_than_need_be_is_let_pass_in_3_1_1(server):
    client = await server.admin()
    client.send(b"\xc0\x80\0")
    assert await client.packet() == b"\xd0"


async def test_what_came_before_the_fault_is_kept_and_what_comes_after_is_not(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    good = [
        publish(device.topic, b'{"value": %d}' % n, packet_id=n, version=version) for n in (1, 2)
    ]
    client.send(good[0] + b"\0\0" + good[1])
    while await client.packet():
        pass
    await eventually(lambda: settled(server))
    assert await server.values(device) == ["1"]


async def test_a_fault_while_a_packet_is_answered(server, version):
    """The route of a topic's first message is looked up before the fault behind it is seen."""
    device = await server.device()
    client = await server.connect(device, version=version)
    client.send(publish(device.topic, b'{"value": 1}', qos=0, version=version) * 3 + b"\0\0")
    while await client.packet():
        pass
    await eventually(lambda: settled(server))
    assert len(await server.values(device)) == 3


async def test_problems_are_explained_only_to_who_asks(server):
    """[MQTT-3.1.2-29]."""
    for properties, explained in ((b"", True), (b"\x17\0", False)):
        client = await Client.connected(
            server.port, "c", "admin", ADMIN_KEY, version=5, properties=properties
        )
        client.send(publish("nowhere", b"1", version=5))
        answer = await client.parsed()
        assert answer.reason_code == 0x90
        assert bool(answer.reason_str) is explained
        client.send(b"\0\0")
        answer = await client.parsed()
        assert answer.reason_code == MALFORMED
        assert bool(answer.reason_str) is explained


async def test_no_payload_can_hurt_its_own_refusal(server):
    """What is quoted in a reason string may not break it, nor the server."""
    device = await server.device()
    client = await server.connect(device, version=5)
    payloads = {
        "NUL": b'{"value": 1, "\\u0000": 2}',
        "surrogate": b'{"value": 1, "\\ud800": 2}',
        "long member": b'{"value": 1, "%b": 2}' % (b"x" * 100_000),
        "long time": b'{"value": 1, "timestamp": "%b"}' % (b"x" * 100_000),
        "NUL in time": b'{"value": 1, "timestamp": "\\u0000"}',
        "no UTF-8": b"\xff\xfe",
    }
    for number, (case, payload) in enumerate(payloads.items(), 1):
        client.send(publish(device.topic, payload, version=5))
        assert (await client.parsed()).reason_code == 0x99, case
        client.send(publish(device.topic, b'{"value": 1}', version=5))
        assert await client.packet() == b"\x40\0\x01", case
        assert len(await server.rejected()) == number, case


def settled(server):
    return server.state.depth == 0 and server.listener.connections == 0

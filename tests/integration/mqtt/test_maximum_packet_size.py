"""The client's Maximum Packet Size holds for every packet that it is sent (MQTT 5, 3.1.2.11.4)."""

import asyncio
import struct

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from integration.mqtt.test_subscribing import configure, received, send, subscribed, value
from mqtt_client import (
    PUBREC,
    PUBREL,
    Client,
    connect,
    numbered,
    packet,
    publish,
    session_expiry,
    string,
    subscriptions,
    unsubscribe,
)
from server import ADMIN_KEY, eventually

# The rest of CONNACK is as large as this, so that no session has a smaller maximum.
CONNACK_BYTES = 16
TOO_LARGE = 0x95
BAD = b'{"value": '


def at_most(size, more=b""):
    """Return the options of a CONNECT to a kept session with this maximum."""
    properties = session_expiry(600) + b"\x27" + struct.pack(">I", size) + more
    return {"version": 5, "clean": False, "properties": properties}


async def test_no_packet_is_larger_than_the_client_takes(server):
    """Whatever is asked for and refused, at every size; what can't be left out ends it."""
    device = await server.device()
    await configure(server, device)
    login = (device.device_id, device.device_id, device.key)
    topic = f"configurations/{device.device_id}"
    asked = {
        publish(device.topic, BAD, packet_id=1, version=5): 0x40,
        publish(device.topic, BAD, qos=2, packet_id=2, version=5): 0x50,
        publish(device.topic, value(3), qos=2, packet_id=3, version=5): 0x50,
        numbered(PUBREL, 9): 0x70,
        numbered(PUBREC, 9): 0x62,
        subscriptions(*[(topic, 1)] * 3, version=5): 0x90,
        unsubscribe(*"abcdefghi", version=5): 0xB0,
        packet(0x30, b"\0\1+"): 0xE0,  # malformed
    }
    for size in (*range(1, 24), 31, 45, 69):
        for each, expected in asked.items():
            client = await Client.open(server.port, 5)
            client.send(connect(*login, **at_most(size)) + each)
            answers = [await client.packet()]
            while answers[-1] and answers[-1][0] != expected:
                answers.append(await client.packet())
            sizes = [len(packet(raw[0], raw[1:])) for raw in answers if raw]
            assert all(each <= size for each in sizes)
            assert answers[-1] or size < 40
            await client.close()


async def test_connack(server):
    """A refusal loses its text; where no refusal is small enough nothing is said."""
    device = await server.device()
    login = (device.device_id, device.device_id)
    text = b"unknown user name or wrong key"
    whole = packet(0x20, b"\0\x86" + bytes([len(text) + 3]) + b"\x1f" + string(text))
    bare = b"\x20\x03\0\x86\0"
    for size, expected in ((4, b""), (5, bare), (len(whole) - 1, bare), (len(whole), whole)):
        client = await Client.open(server.port, 5)
        client.send(connect(*login, "wrong", **at_most(size)))
        answer = await client.packet()
        assert (packet(answer[0], answer[1:]) if answer else b"") == expected
    for size in (3, 5, CONNACK_BYTES):
        client = await Client.open(server.port, 5)
        client.send(connect(*login, device.key, **at_most(size)))
        answer = await client.packet()
        assert answer[:3] == {3: b"", 5: b"\x20\0\x95", CONNACK_BYTES: b"\x20\0\0"}[size]
    await eventually(lambda: len(server.listener.sessions) == 1)


@pytest.mark.parametrize(("qos", "first"), [(1, 0x40), (2, 0x50)])
async def test_a_reason_text_is_left_out_if_the_packet_would_be_too_large(server, qos, first):
    """PUBACK and PUBREC carry it else; neither without request problem information."""
    device = await server.device()
    bare = bytes([first, 0, 7, 0x99])
    reached = []
    for options in (at_most(1_000), at_most(40), at_most(1_000, b"\x17\0")):
        client = await server.connect(device, **options)
        client.send(publish(device.topic, BAD, qos=qos, packet_id=7, version=5))
        answer = await client.packet()
        assert answer[:4] == bare
        reached.append(answer)
        await client.close()
    assert b"not JSON at character 10" in reached[0]
    assert reached[1:] == [bare, bare]
    size = len(packet(first, reached[0][1:]))
    for maximum, expected in ((size, reached[0]), (size - 1, bare)):
        client = await server.connect(device, **at_most(maximum))
        client.send(publish(device.topic, BAD, qos=qos, packet_id=7, version=5))
        assert await client.packet() == expected
        await client.close()


async def test_a_suback_that_is_too_large_ends_the_connection_and_subscribes_to_nothing(server):
    admin = await server.admin(**at_most(20))
    count = 20 - 5
    assert await subscribed(admin, *[("#", 0)] * count) == [0] * count
    filters = [f"measurements/{n}" for n in range(count + 1)]
    admin.send(subscriptions(*((name, 0) for name in filters), version=5))
    assert await admin.packet() == b"\xe0\x95"
    (session,) = server.listener.sessions._sessions.values()
    assert list(session.subscriptions) == ["#"]
    admin = await server.admin(**at_most(20))
    admin.send(unsubscribe("#", *filters, version=5))
    assert await admin.packet() == b"\xe0\x95"
    assert list(session.subscriptions) == ["#"]
    assert server.listener.counts.refusals["PACKET_TOO_LARGE"] == 2


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_publish_that_is_too_large_is_dropped_as_if_sent_and_counted(server, qos):
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: live, owed and retained; what follows it comes."""
    device = await server.device()
    admin = await server.admin(**at_most(100))
    await subscribed(admin, (device.topic, qos))
    client = await server.connect(device)
    large = b'{"value": "%b"}' % (b"x" * 100)
    for number in (1, 2):
        await send(client, device.topic, large)
        await send(client, device.topic, value(number))
        message = await received(admin)
        assert message.payload == value(number)
        if qos:
            admin.send(numbered(0x40, message.packet_id))
    (session,) = [s for s in server.listener.sessions._sessions.values() if s.subscriptions]
    await admin.quiet()
    assert not session.unacknowledged
    assert server.listener.counts.too_large == 2
    if qos:
        await admin.close()
        await eventually(lambda: session.connection is None)
        await send(client, device.topic, large)
        await send(client, device.topic, value(3))
        admin = await server.admin(**at_most(100))
        assert (await received(admin)).payload == value(3)
        assert server.listener.counts.too_large == 3
    await configure(server, device, '{"a": "%s"}' % ("x" * 100))
    await subscribed(admin, ("configurations/#", qos))
    await eventually(lambda: server.listener.counts.too_large == 3 + qos)
    await admin.quiet()
    metrics = (await server.http.get("/metrics")).text
    assert f"heliograph_mqtt_too_large_messages_total {3 + qos}.0\n" in metrics


async def test_what_was_sent_to_an_earlier_connection_that_took_more_is_dropped(server):
    device = await server.device()
    admin = await server.admin(**at_most(1_000))
    await subscribed(admin, (device.topic, 1))
    client = await server.connect(device)
    await send(client, device.topic, b'{"value": "%b"}' % (b"x" * 200))
    await send(client, device.topic, value(1))
    assert len((await received(admin)).payload) > 200
    await received(admin)
    await admin.close()
    admin = await server.admin(**at_most(100))
    again = await received(admin)
    assert (again.payload, again.dup) == (value(1), True)
    admin.send(numbered(0x40, again.packet_id))
    await admin.quiet()
    assert server.listener.counts.too_large == 1


async def test_a_disconnect_loses_its_text(server):
    for size, text in ((30, False), (1_000, True)):
        client = await Client.connected(server.port, "c", "admin", ADMIN_KEY, **at_most(size))
        await server.admin("c", **at_most(size))
        answer = await client.packet()
        assert answer[:2] == b"\xe0\x8e"
        assert (b"the client has connected again" in answer) is text


async def test_paho_gets_what_it_takes(server):
    """Refused in both qualities, shown small messages, and told no more than fits."""
    device = await server.device()
    answered, got = [], []

    def on_publish(client, userdata, packet_id, reason, properties):
        answered.append((reason.value, getattr(properties, "ReasonString", None)))

    def on_message(client, userdata, message):
        got.append(message.payload)

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="p", protocol=paho.MQTTv5)
    client.username_pw_set(device.device_id, device.key)
    client.on_publish, client.on_message = on_publish, on_message
    client.on_connect = lambda *_: client.subscribe(device.topic, 1)
    properties = Properties(PacketTypes.CONNECT)
    properties.MaximumPacketSize = 80
    await asyncio.to_thread(client.connect, "127.0.0.1", server.port, properties=properties)
    client.loop_start()
    try:
        await eventually(server.listener.fanout.watched)
        client.publish(device.topic, BAD, 1)
        await eventually(lambda: answered)
        assert answered == [(0x99, "not JSON at character 10: Expecting value")]
        client.publish(device.topic, BAD, 2)
        client.publish(device.topic, b'{"value": "%b"}' % (b"x" * 80), 1)
        client.publish(device.topic, value(1), 2)
        client.publish(device.topic, value(2), 0)
        await eventually(lambda: len(answered) == 5)
        await eventually(lambda: got == [value(1), value(2)])
    finally:
        client.loop_stop()
    assert server.listener.counts.too_large == 1
    assert not server.listener.counts.refusals

"""Subscription identifiers (MQTT 5, 3.8.2.1.2, 3.3.2.3.8), raw and by clients that people use."""

import asyncio
import contextlib
import shutil
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from integration.mqtt.test_subscribing import NO_LOCAL, configure, send, subscribed, value
from mqtt_client import (
    PUBACK,
    kept,
    numbered,
    session_expiry,
    subscriptions,
    unsubscribe,
    variable,
)
from server import ADMIN_KEY, eventually


def numbers(*identifiers):
    """Return the properties of packets with these subscription identifiers."""
    return b"".join(b"\x0b" + variable(identifier) for identifier in identifiers)


async def identified(client, identifier, *filters):
    """Subscribe to the filters under an identifier."""
    assert max(await subscribed(client, *filters, properties=numbers(identifier))) < 0x80


async def told(client):
    """Return the payload of the next message, and its identifiers in their order."""
    message = await client.parsed()
    if message.packet_id is not None:
        client.send(numbered(PUBACK, message.packet_id))
    return bytes(message.payload), sorted(message.subscription_ids or [])


async def test_a_message_has_the_identifiers_of_all_subscriptions_that_select_it(server):
    """[MQTT-3.3.4-3], [MQTT-3.3.4-4]: one copy, in the highest QoS, the same number twice too."""
    device, other = await server.device("one"), await server.device("two")
    admin = await server.admin(version=5)
    client, second = await server.connect(device), await server.connect(other)
    await identified(admin, 1, (device.topic, 0))
    await identified(admin, 268_435_455, ("measurements/+", 1), ("logs/x", 0))
    await identified(admin, 7, ("#", 0), ("+/one", 0))
    await subscribed(admin, ("measurements/#", 0))  # has none
    await send(client, device.topic, value(1))
    raw = await admin.packet()
    assert raw[0] == 0x32
    admin.send(numbered(PUBACK, 1))
    at = 3 + len(device.topic) + 2
    assert raw[at] == len(numbers(1, 7, 7, 268_435_455))
    assert sorted(raw[at + 1 : at + 1 + raw[at]]) == sorted(numbers(1, 7, 7, 268_435_455))
    await send(second, other.topic, value(2))
    assert await told(admin) == (value(2), [7, 268_435_455])
    await admin.quiet()


async def test_the_subscriptions_to_either_name_of_a_sensor_tell_theirs(server):
    """It comes once, under one of them; what selects both names is one subscription."""
    device = await server.device()
    admin = await server.admin(version=5)
    client = await server.connect(device)
    await identified(admin, 1, (f"measurements/{device.identifier}", 0))
    await identified(admin, 2, (device.topic, 0))
    await identified(admin, 3, ("measurements/+", 0))
    await send(client, device.topic, value(1))
    assert await told(admin) == (value(1), [1, 2, 3])
    await admin.quiet()


async def test_a_subscription_that_is_replaced_has_the_new_identifier_or_none(server):
    """[MQTT-3.8.4-3]."""
    device = await server.device()
    admin = await server.admin(version=5)
    client = await server.connect(device)
    for number, identifier in enumerate((1, 2, None, 3)):
        properties = b"" if identifier is None else numbers(identifier)
        await subscribed(admin, (device.topic, 0), properties=properties)
        await send(client, device.topic, value(number))
        assert await told(admin) == (value(number), [identifier] if identifier else [])
    await identified(admin, 4, ("measurements/#", 0))
    admin.send(unsubscribe(device.topic, version=5))
    await admin.packet()
    await send(client, device.topic, value(9))
    assert await told(admin) == (value(9), [4])


async def test_what_is_retained_has_that_of_the_subscription_that_asks_for_it(server):
    device = await server.device()
    await configure(server, device)
    admin = await server.admin(version=5)
    await identified(admin, 1, ("configurations/#", 1))
    assert (await told(admin))[1] == [1]
    await identified(admin, 2, (f"configurations/{device.device_id}", 1))
    assert (await told(admin))[1] == [2]
    await configure(server, device, "[2]")
    assert (await told(admin))[1] == [1, 2]
    await subscribed(admin, "configurations/#")
    assert (await told(admin))[1] == []


async def test_a_subscription_that_is_replaced_while_it_is_served_begins_anew(server):
    """What is retained comes wholly under the new identifier, whatever came under the old one."""
    for number in range(70):  # more than may be unacknowledged
        await configure(server, await server.device(f"d{number:02}"))
    admin = await server.admin(version=5)
    await identified(admin, 1, ("configurations/#", 1))
    first = [await admin.parsed() for _ in range(64)]
    await identified(admin, 2, ("configurations/#", 1))
    for message in first:
        assert message.subscription_ids == [1]
        admin.send(numbered(PUBACK, message.packet_id))
    found = set()
    while len(found) < 70:
        message = await admin.parsed()
        admin.send(numbered(PUBACK, message.packet_id))
        if message.subscription_ids == [2]:
            found.add(message.topic)
    await admin.quiet()


async def test_what_no_local_hides_tells_no_identifier(server):
    device = await server.device()
    client = await server.connect(device, "one", version=5)
    await identified(client, 1, (device.topic, NO_LOCAL))
    await identified(client, 2, (f"measurements/{device.identifier}", 0))
    other = await server.connect(device, "two")
    await send(other, device.topic, value(1))
    assert await told(client) == (value(1), [1, 2])
    client.send(b"\x30" + variable(len(device.topic) + 3 + len(value(2))))
    client.send(bytes([0, len(device.topic)]) + device.topic.encode() + b"\0" + value(2))
    assert await told(client) == (value(2), [2])


async def test_they_are_kept_over_the_reconnects_of_a_session(server):
    """With what it is owed or sent again, and what comes then; a client of 3.1.1 sees none."""
    device = await server.device()
    admin = await server.admin(version=5, **kept(5))
    client = await server.connect(device)
    await identified(admin, 5, (device.topic, 1))
    await identified(admin, 6, ("measurements/+", 0))
    await send(client, device.topic, value(1))
    assert sorted((await admin.parsed()).subscription_ids) == [5, 6]
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    # Without a connection nothing is owed at QoS 0, and nothing told of it.
    await send(client, device.topic, value(2))
    admin = await server.admin(version=5, **kept(5))
    assert admin.session_present
    assert await told(admin) == (value(1), [5, 6])
    assert await told(admin) == (value(2), [5])
    await send(client, device.topic, value(3))
    assert await told(admin) == (value(3), [5, 6])
    admin = await server.admin(version=4, **kept(4))
    assert admin.session_present
    await send(client, device.topic, value(4))
    raw = await admin.packet()
    assert raw.endswith(b"\0\x04" + value(4))
    assert len(raw) == 1 + 2 + len(device.topic) + 2 + len(value(4))


async def test_they_count_for_the_clients_maximum_packet_size(server):
    device = await server.device()
    size = 2 + 2 + len(device.topic) + 1 + len(value(1))
    properties = session_expiry(60) + b"\x27" + (size + 2).to_bytes(4, "big")
    admin = await server.admin(version=5, properties=properties)
    client = await server.connect(device)
    for identifier, comes in ((127, True), (128, False)):
        await identified(admin, identifier, (device.topic, 0))
        await send(client, device.topic, value(1 + comes))
        if comes:
            assert await told(admin) == (value(2), [127])
    await admin.quiet()
    assert server.listener.counts.too_large == 1


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (b"\x0b\0", 0x82),
        (numbers(1, 2), 0x82),
        (b"\x0b\xff\xff\xff\xff\x01", 0x81),
        (b"\x0b", 0x81),
    ],
    ids=["0", "two of them", "too large", "none"],
)
async def test_an_identifier_that_is_none_ends_the_connection(server, properties, reason):
    admin = await server.admin(version=5)
    admin.send(subscriptions(("#", 0), version=5, properties=properties))
    assert (await admin.packet())[:2] == bytes([0xE0, reason])


async def test_paho_is_told_by_which_subscription_a_message_comes(server):
    device = await server.device()
    await configure(server, device)
    got, ready = [], threading.Event()

    def on_message(client, userdata, message):
        got.append((message.topic, sorted(message.properties.SubscriptionIdentifier)))

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="paho", protocol=paho.MQTTv5)
    client.username_pw_set("admin", ADMIN_KEY)
    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    await asyncio.to_thread(client.connect, "127.0.0.1", server.port)
    client.loop_start()
    try:
        for number, name in ((11, "measurements/#"), (12, device.topic), (13, "configurations/+")):
            ready.clear()
            properties = Properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = number
            client.subscribe(name, options=SubscribeOptions(qos=1), properties=properties)
            assert await asyncio.to_thread(ready.wait, 60)
        await eventually(lambda: got == [(f"configurations/{device.device_id}", [13])])
        await send(await server.connect(device), device.topic, value(1))
        await eventually(lambda: got[1:] == [(device.topic, [11, 12])])
    finally:
        client.loop_stop()


async def test_mosquitto_sub_shows_the_identifier(server):
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed")
    device = await server.device()
    running = await asyncio.create_subprocess_exec(
        *(program, "-V", "5", "-h", "127.0.0.1", "-p", str(server.port), "-u", "admin"),
        *("-P", ADMIN_KEY, "-D", "subscribe", "subscription-identifier", "42"),
        *("-t", "measurements/#", "-q", "1", "-C", "1", "-F", "%S %t %p"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await eventually(server.listener.fanout.watched)
        await send(await server.connect(device), device.topic, value(1))
        async with asyncio.timeout(60):
            output, _ = await running.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()
    assert output.decode().strip() == f"42 {device.topic} {value(1).decode()}"

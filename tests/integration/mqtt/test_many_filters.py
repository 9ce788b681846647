"""What subscriptions may cost: strangers', overlapping, long and many ones, what is retained."""

import asyncio
import gc
import tracemalloc
import uuid

import pytest

from heliograph.mqtt.fanout import SubscriptionTree
from heliograph.mqtt.host import Outgoing
from heliograph.mqtt.session import OUTBOX_BYTES
from integration.mqtt.test_rights_that_end import configure
from integration.mqtt.test_sessions import received
from integration.mqtt.test_subscribing import subscribed
from integration.mqtt.test_users import PASSWORD, account, device
from mqtt_client import PINGREQ, Client, kept, packet, publish, published, subscribe
from server import eventually, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

# Every one selects measurements/victim.
OVERLAPPING = [
    *("#", "+/#", "+/+", "+/+/#", "+/victim", "+/victim/#", "measurements/#", "measurements/+"),
    *("measurements/+/#", "measurements/victim", "measurements/victim/#"),
]
LONGEST = "acknowledgments/" + "x" * 64
TOO_LONG, FULL = 0x8F, 0x97


async def user(server, name, client_id, version, **options):
    return await Client.connected(
        server.port, client_id, name, PASSWORD, version=version, **options
    )


@pytest.mark.parametrize("qos", [0, 1])
async def test_subscriptions_of_strangers_cost_a_batch_nothing(server, version, qos, monkeypatch):
    """Sessions that are kept, with overlapping filters; then somebody else sends a batch."""
    await account(server, "mallory")
    await device(server, "victim", "roof")
    for number in range(5):
        client = await user(server, "mallory", f"c{number}", version, **kept(version))
        assert await subscribed(client, *((name, qos) for name in OVERLAPPING)) == [qos] * 11
        await client.close()
    live = await user(server, "mallory", "live", version)
    await subscribed(live, *((name, qos) for name in OVERLAPPING))
    await eventually(lambda: server.listener.connections == 1)
    looked_for = []
    monkeypatch.setattr(
        SubscriptionTree, "matches", lambda _tree, topic: looked_for.append(topic) or ()
    )
    readings = [
        {"device_id": "victim", "temperature": number, "timestamp": 1_700_000_000 + number}
        for number in range(2_000)
    ]
    response = await server.http.post("/ingest/batch", json=readings)
    assert response.status_code == 201
    assert response.json()["accepted"] == len(readings)
    assert looked_for == []
    await live.quiet()


async def test_sessions_without_a_connection_make_no_events_at_qos_0(server, version):
    await account(server, "ada", roof="viewer")
    client = await user(server, "ada", "c", version, **kept(version))
    await subscribed(client, *((name, 0) for name in OVERLAPPING))
    assert server.listener.fanout.watched()
    await client.close()
    await eventually(lambda: not server.listener.fanout.watched())
    key = await device(server, "victim", "roof")
    victim = await Client.connected(server.port, "v", "victim", key)
    client = await user(server, "ada", "c", version, **kept(version))
    assert client.session_present
    victim.send(publish("measurements/victim", b'{"value": 1}'))
    assert published(await client.packet(), version).qos == 0
    await client.quiet()


async def test_a_large_batch_is_shown_in_turns_whole_and_in_order(server, version, monkeypatch):
    """Others' requests are answered while it goes out."""
    monkeypatch.setattr("heliograph.mqtt.fanout.TURN_SECONDS", 0.000_1)
    monkeypatch.setattr("heliograph.mqtt.fanout.DELIVERIES_BETWEEN_LOOKS", 1)
    await account(server, "ada", roof="viewer")
    await device(server, "victim", "roof")
    clients = [await user(server, "ada", f"c{number}", version) for number in range(10)]
    for client in clients:
        await subscribed(client, *((name, 0) for name in OVERLAPPING))
    readings = [
        {"device_id": "victim", "n": number, "timestamp": 1_700_000_000 + number}
        for number in range(300)
    ]
    assert (await server.http.post("/ingest/batch", json=readings)).status_code == 201
    for _ in range(3):
        assert server.listener.fanout._behind
        assert (await server.http.get("/ping")).status_code == 200
    for client in clients:
        payloads = [published(await client.packet(), version).payload for _ in readings]
        assert [b'"n":%d}' % number in payload for number, payload in enumerate(payloads)] == [
            True
        ] * len(readings)
        await client.quiet()


async def test_no_filter_is_longer_than_our_longest_topic(server, version):
    code = TOO_LONG if version == 5 else 0x80
    admin = await server.admin(version=version)
    long = [LONGEST + "x", "+/" + "x" * 80, "x" * 65_000]
    assert await subscribed(admin, LONGEST, LONGEST + "/#", *long) == [1, 1, code, code, code]
    metrics = (await server.http.get("/metrics")).text
    assert 'heliograph_mqtt_refused_filters_total{reason="topic_filter_invalid"} 3.0' in metrics


async def test_the_topic_of_commands_may_be_the_longest(tmp_path, version):
    topic = "commands/" + "x" * 100
    async with running(tmp_path, mqtt_publish_topic=topic) as server:
        code = TOO_LONG if version == 5 else 0x80
        client = await server.connect(await server.device(), version=version)
        assert await subscribed(client, topic, topic + "x") == [1, code]


async def test_a_sessions_filters_have_a_bound_in_bytes(server, version):
    code = FULL if version == 5 else 0x80
    admin = await server.admin(version=version)
    filters = [f"{number:04}" + "x" * 76 for number in range(850)]
    reasons = await subscribed(admin, *filters)
    fitting = (64 << 10) // 80
    assert reasons == [1] * fitting + [code] * (850 - fitting)
    (session,) = server.listener.sessions._sessions.values()
    assert session.filter_bytes == fitting * 80
    metrics = (await server.http.get("/metrics")).text
    assert 'heliograph_mqtt_refused_filters_total{reason="quota_exceeded"} 31.0' in metrics


async def test_the_filters_of_a_principals_sessions_have_a_bound(server, version, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.fanout.MAXIMUM_SUBSCRIPTIONS_OF_PRINCIPAL", 20)
    code = FULL if version == 5 else 0x80
    await account(server, "ada")
    await account(server, "bob")
    filters = [f"measurements/{number}" for number in range(15)]
    first = await user(server, "ada", "a", version)
    assert await subscribed(first, *filters) == [1] * 15
    second = await user(server, "ada", "b", version)
    assert await subscribed(second, *filters) == [1] * 5 + [code] * 10
    other = await user(server, "bob", "b", version)
    assert await subscribed(other, *filters) == [1] * 15
    await first.close()
    await eventually(lambda: server.listener.connections == 2)
    assert await subscribed(second, *filters) == [1] * 15
    for client_id in ("c", "d"):
        admin = await server.admin(client_id, version=version)
        assert await subscribed(admin, *filters) == [1] * 15


async def test_an_attack_of_long_and_deep_filters_holds_little(server):
    """1,000 of 65,000 bytes took 71 MiB for a session; deep ones as much by the tree."""
    await account(server, "mallory")
    gc.collect()
    tracemalloc.start()
    for number in range(5):
        client = await user(server, "mallory", f"c{number}", 5, **kept(5))
        # A packet with two at a time, so that none is over the bound of packets.
        for at in range(0, 20, 2):
            await subscribed(client, *(f"{at + n:x}/+/" + "x" * 60_000 for n in range(2)))
        deep = [f"{at:x}/" + "a/" * 14 + "+" for at in range(500)]
        wide = [f"{at:x}/+" for at in range(500)]
        assert set(await subscribed(client, *deep, *wide)) == {1}
        await client.close()
    await eventually(lambda: server.listener.connections == 0)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(server.listener.sessions) == 5
    assert held < 8 << 20


async def test_a_taken_over_connection_subscribes_to_nothing_any_more(server, monkeypatch):
    """Its session has ended, so that nothing would ever be taken back."""
    asked, free = asyncio.Event(), asyncio.Event()
    host = server.listener.host
    may_subscribe = host.may_subscribe

    async def slow(*arguments):
        asked.set()
        await free.wait()
        return await may_subscribe(*arguments)

    monkeypatch.setattr(host, "may_subscribe", slow)
    first = await server.admin("c", version=5)
    first.send(packet(0x82, b"\0\1\0\0\1#\0"))
    await asked.wait()
    second = await server.admin("c", version=5)
    free.set()
    assert (await first.packet())[:2] == b"\xe0\x8e"
    await second.quiet()
    assert not server.listener.fanout.watched()
    assert not server.listener.fanout._audiences


async def test_of_configurations_only_what_is_visible_is_read(server, version, read):
    await account(server, "mallory")
    await account(server, "ada", roof="viewer")
    for name, place in (("roof-1", "roof"), ("cellar-1", "cellar"), ("roof-2", "roof")):
        await device(server, name, place)
        await configure(server, name)
    read.clear()
    filters = [("configurations/+", 0), ("#", 0), ("+/+", 0), ("configurations/cellar-1", 0)]
    stranger = await user(server, "mallory", "m", version)
    assert await subscribed(stranger, *filters) == [0] * 4
    await stranger.quiet()
    await eventually(lambda: not server.listener.tasks)
    assert read == []
    ada = await user(server, "ada", "a", version)
    assert await subscribed(ada, filters[0]) == [0]
    topics = {published(await ada.packet(), version).topic for _ in range(2)}
    assert topics == {"configurations/roof-1", "configurations/roof-2"}
    assert [len(piece) for piece in read] == [2]


async def test_configurations_are_read_by_bytes(server, version, read):
    """A megabyte at once, or one that is larger; not a thousand of them, whatever their size."""
    count, text = 12, '"' + "x" * 299_998 + '"'
    store = server.store
    default = (await store.networks.default()).identifier
    for number in range(count):
        sensor = await store.sensors.create(
            identifier=str(uuid.uuid4()),
            network_identifier=default,
            device_id=f"d{number}",
            key_hash=None,
            created_at=1_700_000_000_000_000,
        )
        await store.configurations.add(sensor.number, text)
    await server.services.registry.changed()

    async def published_all():
        return await store.publications.count() == 0

    await eventually(published_all)
    read.clear()
    admin = await server.admin(version=version)
    await subscribed(admin, ("configurations/+", 0))
    for _ in range(count):
        assert len(published(await admin.packet(), version).payload) > 300_000
    assert [len(piece) for piece in read] == [3] * 4


async def test_a_filter_that_names_a_sensor_reads_nobody_elses(server, version, read):
    for name in ("roof-1", "roof-2"):
        await device(server, name, "roof")
        await configure(server, name)
    read.clear()
    admin = await server.admin(version=version)
    for topic_filter in ("+/roof-1", "configurations/roof-1/#", "+/roof-1/#"):
        await subscribed(admin, (topic_filter, 0))
        assert published(await admin.packet(), version).topic == "configurations/roof-1"
        await admin.quiet()
    assert read == []


async def test_what_is_committed_together_is_written_together(server, version):
    """A write for each message took most of what a subscriber costs; the order stays."""
    device = await server.device()
    admin = await server.admin(version=version)
    admin.send(subscribe("measurements/#", qos=0, version=version))
    await admin.packet()
    (subscriber,) = [c for c in server.listener._connections if c.principal.is_admin]
    written = []
    transport = subscriber.transport

    class Noting:
        def __getattr__(self, name):
            return getattr(transport, name)

        def write(self, data):
            written.append(len(data))
            transport.write(data)

    subscriber.transport = Noting()
    client = await server.connect(device)
    count = 1_000
    values = [b'{"value":%d,"timestamp":%d}' % (n, 1_700_000_000 + n) for n in range(count)]
    client.writer.write(b"".join(publish(device.topic, value, qos=0) for value in values))
    got = [(await received(admin)).payload for _ in range(count)]
    assert got == values
    assert len(written) < count / 10
    assert max(written) < 2 * OUTBOX_BYTES
    # What else is written comes behind what came before it.
    client.send(publish(device.topic, b'{"value":1}', qos=0))
    await received(admin)
    subscriber.send_publish(Outgoing("a", b"1", 0, 1, "x"), 0)
    admin.send(PINGREQ)
    assert (await received(admin)).payload == b"1"
    assert await admin.packet() == b"\xd0"
    # Nor is anything lost at the end.
    subscriber.send_publish(Outgoing("a", b"2", 0, 1, "x"), 0)
    subscriber.close()
    assert (await received(admin)).payload == b"2"
    assert await admin.packet() == b""

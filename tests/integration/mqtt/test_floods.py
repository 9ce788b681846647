"""Clients that send more than anybody could want: tiny packets, greetings without an end."""

import asyncio
import contextlib
import gc
import tracemalloc

import msgspec
import pytest

from heliograph.mqtt.connection import MAXIMUM_CONNECT_BYTES
from heliograph.mqtt.reading import MAXIMUM_PACKET_BYTES, SHARE, TURN_PACKETS
from heliograph.mqtt.shares import MESSAGE_BYTES, PACKET_COST
from mqtt_client import (
    PINGREQ,
    PUBACK,
    PUBREL,
    Client,
    connect,
    kept,
    numbered,
    publish,
    published,
    string,
    subscribe,
    unsubscribe,
    variable,
)
from server import eventually, running

TINY = publish("a/b", b"", qos=0)
TELLING = b'{"value": 1}'


async def warm(client, packet):
    """Have the server know where the topic leads, which it asks the database for."""
    client.send(packet)
    await client.quiet()


@pytest.mark.parametrize("what", [TINY, PINGREQ], ids=["publish", "ping"])
async def test_a_flood_of_tiny_packets_gives_turns_and_is_counted(server, version, what):
    """37,000 packets of 7 bytes fit into a read; a few hundred of them are taken in one go."""
    client = await server.admin(version=version)
    (connection,) = server.listener._connections
    other = await server.admin("other", version=version)
    if what == TINY:
        what = publish("a/b", b"", qos=0, version=version)
    if what != PINGREQ:
        await warm(client, what)
    count = 10 * TURN_PACKETS
    connection.data_received(what * count)  # as by one read of its socket
    assert len(connection.rest) == len(what) * (count - TURN_PACKETS)
    # Whoever else says something is heard meanwhile.
    await other.quiet()
    assert connection.rest
    await eventually(lambda: not connection.rest)
    assert server.listener.counts.turns == 9
    metrics = (await server.http.get("/metrics")).text
    assert "heliograph_mqtt_turns_total 9.0" in metrics
    if what != PINGREQ:
        await eventually(lambda: server.state.depth == 0)
        assert (
            'heliograph_ingest_rejected_total{reason="UNKNOWN_TOPIC"} 5001.0'
            in (await server.http.get("/metrics")).text
        )
    else:
        async with asyncio.timeout(60):
            assert set(await client.reader.readexactly(2 * count)) == {0xD0, 0}


async def test_floods_of_several_connections_take_turns(server):
    """One of them goes on at a time, however many there are."""
    clients = [await server.admin(f"c{number}") for number in range(4)]
    for client in clients:
        await warm(client, TINY)
    flooding = list(server.listener._connections)
    other = await server.admin("other")
    for connection in flooding:
        connection.data_received(TINY * (6 * TURN_PACKETS))
    left = [len(connection.rest) for connection in flooding]
    assert left == [5 * TURN_PACKETS * len(TINY)] * 4
    await asyncio.sleep(0)
    assert sorted(len(connection.rest) for connection in flooding) == [
        4 * TURN_PACKETS * len(TINY),
        *left[:3],
    ]
    await other.quiet()
    await eventually(lambda: not any(connection.rest for connection in flooding))
    assert len(clients) == 4


async def test_a_large_subscribe_is_a_turn_of_its_own(server):
    """Whoever sends many of them lets others go first."""
    client = await server.admin()
    other = await server.admin("other")
    (connection,) = [c for c in server.listener._connections if c.session.client_id == "admin"]
    large = unsubscribe(*["a/large/filter"] * 900)
    connection.data_received(large * 5)
    assert len(connection.rest) == len(large) * 4
    await other.quiet()
    for _ in range(5):
        assert (await client.packet())[0] == 0xB0
    assert server.listener.counts.turns == 5


async def test_what_follows_many_packets_of_one_read_keeps_its_order(server, version):
    """A DISCONNECT behind them too: none is lost, whatever their number."""
    device = await server.device()
    client = await server.connect(device, version=version)
    count = 3 * TURN_PACKETS + 7
    data = b"".join(
        publish(
            device.topic,
            b'{"value": %d, "timestamp": %d}' % (number, 1_700_000_000 + number),
            qos=0,
            version=version,
        )
        for number in range(count)
    )
    client.send(data + b"\xe0\0")
    assert await client.packet() == b""
    await eventually(lambda: server.state.depth == 0)
    assert await server.values(device) == [str(number) for number in range(count)]


async def test_before_connect_a_connection_holds_8_kib(server):
    """Of 64 KiB that never end nothing is kept, however many connections send them."""
    unfinished = b"\x10" + variable(65_000) + string("MQTT") + b"\x05\x02\0\0" + b"x" * 60_000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    clients = [await Client.open(server.port, 5) for _ in range(50)]
    for client in clients:
        client.send(unfinished)
    answers = [await client.packet() for client in clients]
    assert {answer[:3] for answer in answers} == {b"\x20\0\x95"}
    assert server.listener.counts.refusals["PACKET_TOO_LARGE"] == 50
    waiting = [await Client.open(server.port, 5) for _ in range(50)]
    whole = b"\x10" + variable(MAXIMUM_CONNECT_BYTES)
    for client in waiting:
        client.send(whole + b"\0\x04MQTT" + b"x" * 4_000)
    await eventually(lambda: sum(bool(c.rest) for c in server.listener._connections) == 50)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert max(len(c.rest) for c in server.listener._connections) < 8 << 10
    assert held < 50 * (40 << 10)


async def test_the_largest_connect_that_is_taken(server, version):
    """A will of some thousand bytes is no attack."""
    device = await server.device()

    def greeting(size):
        will = (device.topic, b'"' + b"x" * size + b'"', 1, False)
        return connect("c", device.device_id, device.key, version=version, will=will)

    size = MAXIMUM_CONNECT_BYTES - len(greeting(0)) + 2
    fitting = greeting(size)
    assert len(fitting) == MAXIMUM_CONNECT_BYTES + 3
    client = await Client.open(server.port, version)
    client.send(fitting)
    assert (await client.packet())[:3] == b"\x20\0\0"
    client = await Client.open(server.port, version)
    client.send(greeting(size + 1))
    assert (await client.packet())[:3] == (b"\x20\0\x95" if version == 5 else b"")


async def test_what_is_sent_behind_connect_is_not_read_before_its_answer(server, version):
    """It stays in the kernel while a password is being checked; then it is taken whole."""
    device = await server.device()
    asked, free = asyncio.Event(), asyncio.Event()
    host = server.listener.host
    login = host.login

    async def slow(*arguments):
        asked.set()
        await free.wait()
        return await login(*arguments)

    host.login = slow
    client = await Client.open(server.port, version)
    count = 2_000
    data = connect("c", device.device_id, device.key, version=version)
    for number in range(count):
        payload = b'{"value": %d, "timestamp": %d}' % (number, 1_700_000_000 + number)
        data += publish(device.topic, payload, qos=0, version=version)
    client.send(data)
    await asked.wait()
    (connection,) = server.listener._connections
    for _ in range(10):
        assert 4 << 10 < len(connection.rest) <= 8 << 10
        await asyncio.sleep(0)
    free.set()
    assert (await client.packet())[0] == 0x20
    await client.quiet()
    await eventually(lambda: server.state.depth == 0)
    assert await server.values(device) == [str(number) for number in range(count)]


async def test_exchanges_that_are_never_released_are_bounded(tmp_path, version):
    """By MQTT_RECEIVE_MAXIMUM, those of earlier connections of the session included."""
    async with running(tmp_path, mqtt_receive_maximum=10) as server:
        device = await server.device()
        client = await server.connect(device, version=version, **kept(version))
        for number in range(1, 8):
            client.send(
                publish(device.topic, b'{"value": 1}', qos=2, packet_id=number, version=version)
            )
            assert (await client.packet())[0] == 0x50
        await client.close()
        client = await server.connect(device, version=version, **kept(version))
        assert client.session_present
        for number in range(8, 11):
            client.send(
                publish(device.topic, b'{"value": 1}', qos=2, packet_id=number, version=version)
            )
            assert (await client.packet())[0] == 0x50
        # A repeat is none more.
        client.send(
            publish(device.topic, b'{"value": 1}', qos=2, packet_id=1, dup=True, version=version)
        )
        assert (await client.packet())[:3] == b"\x50\0\x01"
        client.send(numbered(PUBREL, 1))
        assert (await client.packet())[:3] == b"\x70\0\x01"
        client.send(publish(device.topic, b'{"value": 1}', qos=2, packet_id=1, version=version))
        assert (await client.packet())[:3] == b"\x50\0\x01"
        client.send(publish(device.topic, b'{"value": 1}', qos=2, packet_id=11, version=version))
        assert (await client.packet())[:2] == (b"\xe0\x93" if version == 5 else b"")
        assert server.listener.counts.refusals["RECEIVE_MAXIMUM_EXCEEDED"] == 1


async def test_who_sends_more_than_his_share_waits_while_others_send(tmp_path, version):
    """He is read no further, loses nothing, and has all of it stored once there is room."""
    async with running(tmp_path, rate_limit_mqtt=600) as server:  # sixty at once
        device = await server.device()
        flood = await server.connect(device, version=version)
        (connection,) = server.listener._connections
        shares = server.listener.shares
        count = 400
        messages = [
            publish(device.topic, b'{"value":%d}' % number, packet_id=number + 1, version=version)
            for number in range(count)
        ]
        flood.send(b"".join(messages[:200]))
        await eventually(lambda: server.state.messages_total == 200)
        assert connection.share.is_over
        assert server.listener.counts.held_back == 0  # nobody else sends
        shares._is_crowded = True  # as if others filled each commit
        host, shares._host = shares._host, Crowd(shares._host.committed)
        flood.send(b"".join(messages[200:]))
        flood.send(PINGREQ)
        await eventually(lambda: server.listener.counts.held_back > 0)
        metrics = (await server.http.get("/metrics")).text
        assert "heliograph_mqtt_held_back_total 1.0" in metrics
        # An administrator has no share, and others are heard.
        admin = await server.admin(version=version)
        await admin.quiet()
        shares._host = host
        await eventually(lambda: server.state.messages_total == count)
        assert len(await server.values(device)) == count


class Crowd:
    """What shares know of commits: each time that they look others have filled one more."""

    in_flight = 1

    def __init__(self, committed):
        self._bytes, self._commits = committed

    @property
    def committed(self):
        self._bytes += 1 << 40
        self._commits += 1
        return self._bytes, self._commits


@contextlib.contextmanager
def crowded(shares):
    """Have others fill a commit before each tick, so that nothing is forgiven, and nobody earn."""
    host, per_second = shares._host, shares._per_second
    shares._host = Crowd(host.committed)
    shares._is_crowded, shares._per_second = True, 0.0
    try:
        yield
    finally:
        shares._host, shares._per_second = host, per_second


async def overdrawn(server, device, version):
    """Return a client that has had its share, and what there is to know of its connection."""
    client = await server.connect(device, "flood", version=version)
    (connection,) = server.listener._connections
    for number in range(100):
        client.send(publish(device.topic, TELLING, packet_id=number + 1, version=version))
    for _ in range(100):
        assert (await client.packet())[0] == 0x40
    assert connection.share.is_over
    return client, connection


async def test_a_subscriber_of_who_is_held_back_is_heard_and_loses_nothing(tmp_path, version):
    """His acknowledgments are of what he is sent: unread, they would cost him what follows."""
    async with running(tmp_path, rate_limit_mqtt=600) as server:  # sixty at once
        device = await server.device()
        await overdrawn(server, device, version)
        subscriber = await server.connect(device, "subscriber", version=version)
        subscriber.send(subscribe(device.topic, version=version))
        assert (await subscriber.packet())[0] == 0x90
        share = next(iter(server.listener._connections)).share
        share.credit = -1.0
        with crowded(server.listener.shares):
            admin = await server.admin(version=version)
            for number in range(300):
                payload = b'{"value": %d}' % number
                admin.send(publish(device.topic, payload, packet_id=number + 1, version=version))
            for number in range(300):
                message = published(await subscriber.packet(5), version)
                assert message.payload == b'{"value": %d}' % number
                subscriber.send(numbered(PUBACK, message.packet_id))
            assert server.listener.counts.dropped == 0
            assert share.is_over
            assert share.credit == -1.0


async def test_acknowledgments_of_nothing_are_of_the_share(server):
    device = await server.device()
    client = await server.connect(device)
    (connection,) = server.listener._connections
    before = connection.share.credit
    client.send(numbered(PUBACK, 7) * 100)
    await client.quiet()
    assert connection.share.credit <= before - 100 * PACKET_COST * MESSAGE_BYTES


async def test_a_session_that_expires_ends_though_its_client_is_held_back(tmp_path, version):
    """Whoever sends more than there is room for is held back nearly always."""
    async with running(tmp_path, rate_limit_mqtt=600) as server:
        device = await server.device()
        client, connection = await overdrawn(server, device, version)
        connection.share.credit = -1.0
        with crowded(server.listener.shares):
            for number in range(2):
                client.send(publish(device.topic, TELLING, packet_id=number + 1, version=version))
            await eventually(lambda: connection.pauses & SHARE)
            connection.principal = msgspec.structs.replace(connection.principal, until=1)
            while await client.packet(5):
                pass
            assert server.listener.counts.refusals["NOT_AUTHORIZED"] == 1


@pytest.mark.parametrize("what", ["subscribe", "unsubscribe", "ping", "oversize"])
async def test_what_is_no_message_is_of_the_share_too(server, what):
    device = await server.device()
    client = await server.connect(device)
    (connection,) = server.listener._connections
    before = connection.share.credit
    packet = {
        "subscribe": subscribe(device.topic.replace("measurements", "configurations")),
        "unsubscribe": unsubscribe("a/b"),
        "ping": PINGREQ,
        "oversize": publish(device.topic, b"x" * MAXIMUM_PACKET_BYTES),
    }[what]
    client.send(packet)
    await client.packet()
    assert connection.share.credit < before


async def test_what_is_sent_with_a_goodbye_is_of_the_share_too(server, version):
    """Else whoever connects anew for each burst sends as much as they like."""
    device = await server.device()
    client = await server.connect(device, version=version)
    (connection,) = server.listener._connections
    await warm(client, publish(device.topic, TELLING, qos=0, version=version))
    before = connection.share.credit
    messages = [publish(device.topic, TELLING, qos=0, version=version)] * 10
    client.send(b"".join(messages) + b"\xe0\x00")
    while await client.packet():
        pass
    assert connection.share.credit <= before - 10 * MESSAGE_BYTES


async def test_an_unsubscribe_has_no_more_filters_than_there_may_be(server, version):
    """43,000 fit into a packet."""
    client = await server.admin(version=version)
    client.send(unsubscribe(*["a"] * 1_000, version=version))
    assert (await client.packet())[0] == 0xB0
    client.send(unsubscribe(*["a"] * 1_001, version=version))
    if version == 5:
        assert b"\x97" in await client.packet()
    assert await client.packet() == b""

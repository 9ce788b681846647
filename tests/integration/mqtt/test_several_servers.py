"""Clients of several servers on one PostgreSQL: one owner a client id, and sessions that go on."""

import asyncio
import contextlib
import json

import psycopg
import pytest

from heliograph.live.hub import Hub
from heliograph.model.records import Kind
from heliograph.mqtt import keeping, session
from mqtt_client import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Client,
    connect,
    disconnect,
    kept,
    numbered,
    publish,
    published,
    session_expiry,
    subscribe,
    unsubscribe,
)
from server import eventually, running


@pytest.fixture
async def start(tmp_path, postgresql_url):
    """Return a function that starts one more server on the database."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def start(stack=stack, **settings):
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            context = running(folder, database_url=postgresql_url, **settings)
            return await stack.enter_async_context(context)

        yield start


@pytest.fixture
async def pair(start):
    return await start(), await start()


@pytest.fixture
def presences(monkeypatch):
    """What is told of sensors' presence, wherever."""
    told = []
    publish_changes = Hub.publish_changes

    def noting(self, events):
        told.extend(json.loads(e.payload)["connected"] for e in events if e.kind is Kind.PRESENCE)
        publish_changes(self, events)

    monkeypatch.setattr(Hub, "publish_changes", noting)
    return told


@pytest.fixture
def quick(monkeypatch):
    """Have a server that is gone be taken for that soon."""
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(keeping, "LOOKS", 3)


def will(device, delay=0, payload=b"offline"):
    properties = b"\x18" + delay.to_bytes(4) if delay else b""
    return {
        "will": (f"status/{device.device_id}", payload, 1, False),
        "will_properties": properties,
    }


async def status(server, device):
    return (await server.store.sensors.find(device.device_id)).status


def reading(value, *, timed=False):
    time = f'"timestamp": {1_700_000_000 + value}, ' if timed else ""
    return f'{{{time}"value": {value}}}'.encode()


def becomes(server, device, expected):
    async def is_so():
        return await status(server, device) == expected

    return eventually(is_so)


def connected(server, device):
    async def is_so():
        return (await server.store.sensors.find(device.device_id)).connection_open

    return eventually(is_so)


async def end_of(client):
    """Return the packets until the connection's end, which comes within a second."""
    packets = []
    async with asyncio.timeout(1):
        while packet := await client.packet():
            packets.append(packet)
    return packets


async def subscribed(client, *filters, version=4, qos=1):
    for topic_filter in filters:
        client.send(subscribe(topic_filter, qos=qos, version=version))
        assert (await client.packet())[0] == 0x90


async def send(client, topic, payload, packet_id=1, **options):
    client.send(publish(topic, payload, packet_id=packet_id, **options))
    assert (await client.packet())[0] == PUBACK


def session_of(server, client_id):
    """Return the server's session of this client id; None: it has none."""
    sessions = server.listener.sessions._sessions.values()
    return next((each for each in sessions if each.client_id == client_id), None)


def value_of(payload):
    message = json.loads(payload)
    return message["measurements"][0]["value"] if "measurements" in message else message["value"]


async def values(client, count, version=4):
    """Return so many values as they come, acknowledged."""
    found = []
    for _ in range(count):
        message = published(await client.packet(), version)
        found.append(value_of(message.payload))
        client.send(numbered(PUBACK, message.packet_id))
    return found


def deaf(server):
    """Have a server not hear that others ask for its sessions, as one that stands still."""
    server.services.elsewhere._immediate.clear()


async def die(server, postgresql_url):
    """Have others take a server for dead: its lease has ended."""
    token = server.services.instance.token
    async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
        await connection.execute("UPDATE instance SET expires_at = 0 WHERE token = %s", [token])


async def test_a_client_that_connects_elsewhere_ends_its_older_connection(pair, version, presences):
    one, two = pair
    device = await one.device()
    first = await one.connect(device, version=version, **will(device))
    await connected(one, device)
    second = await two.connect(device, version=version, **will(device))
    assert not second.session_present
    ended = await end_of(first)
    assert [packet[:2] for packet in ended] == ([b"\xe0\x8e"] if version == 5 else [])
    await eventually(lambda: one.listener.connections == 0 and two.services.registry.connected)
    await send(second, device.topic, reading(1), version=version)
    # As long as it takes to note who is connected: nobody was gone in between.
    await eventually(lambda: not two.services.registry.connected.is_due)
    await asyncio.sleep(0.15)
    await connected(one, device)
    assert await status(one, device) is None
    # The will that counts is this connection's.
    await second.abort()
    await becomes(one, device, "offline")
    await eventually(lambda: presences and not presences[-1])
    assert presences.count(False) == 1
    assert presences.index(False) == len(presences) - 1 <= 2


@pytest.mark.parametrize("version", [5])
async def test_a_session_goes_from_server_to_server_with_what_it_is_owed(pair, version):
    one, two = pair
    device, pump = await one.device(), await one.device("pump")
    options = {"version": version, **kept(version)}
    sender = await two.connect(pump)
    client = await one.connect(device, "reader", **options)
    assert not client.session_present
    watcher = await one.admin("watcher", **options)
    await subscribed(watcher, "measurements/#", version=version)
    await send(sender, pump.topic, reading(1, timed=True))
    unacknowledged = published(await watcher.packet(), version)
    await watcher.abort()
    await send(sender, pump.topic, reading(2, timed=True))
    await eventually(lambda: len(session_of(one, "watcher").queue or ()))
    again = await two.admin("watcher", **options)
    assert again.session_present
    repeated = published(await again.packet(), version)
    assert repeated == unacknowledged._replace(dup=True)
    again.send(numbered(PUBACK, repeated.packet_id))
    assert await values(again, 1, version) == [2]
    # Its subscriptions came with it, and nothing is left behind.
    await send(sender, pump.topic, reading(3, timed=True))
    assert await values(again, 1, version) == [3]
    assert session_of(one, "watcher") is None
    assert not one.listener.fanout.watched()
    again.send(unsubscribe("measurements/#", version=version))
    assert (await again.packet())[0] == 0xB0
    third = await one.admin("watcher", **options)
    assert third.session_present
    await send(sender, pump.topic, reading(4, timed=True))
    await third.quiet()
    # Whoever begins anew finds nothing.
    fourth = await two.admin("watcher", version=version)
    assert not fourth.session_present
    await client.close()


async def test_what_is_committed_while_a_session_moves_is_owed_to_it(pair):
    pump = await pair[0].device("pump")
    senders = [await server.connect(pump, f"sender-{server.port}") for server in pair]
    reader = await pair[0].admin("reader", **kept(4))
    await subscribed(reader, "measurements/#")
    sent, found = 0, []
    for round_ in range(1, 5):
        moving = asyncio.create_task(pair[round_ % 2].admin("reader", **kept(4)))
        while not moving.done() or sent % 5:
            await send(senders[sent % 2], pump.topic, reading(sent, timed=True))
            sent += 1
        reader = await moving
        assert reader.session_present
        found += await values(reader, sent - len(found))
    # Of one server in its order; of two in any.
    assert sorted(found) == list(range(sent))


@pytest.mark.parametrize(("version", "step"), [(4, "PUBREL"), (5, "PUBLISH")])
async def test_a_qos_2_message_is_stored_once_wherever_it_is_completed(pair, version, step):
    one, two = pair
    device = await one.device()
    options = {"version": version, **kept(version)}
    client = await one.connect(device, **options)
    client.send(publish(device.topic, reading(1), qos=2, packet_id=7, version=version))
    assert (await client.packet())[0] == PUBREC
    await client.abort()
    again = await two.connect(device, **options)
    assert again.session_present
    if step == "PUBLISH":
        message = publish(device.topic, reading(1), qos=2, packet_id=7, dup=True, version=version)
        again.send(message)
        assert (await again.packet())[0] == PUBREC
    again.send(numbered(PUBREL, 7))
    # MQTT 5: without a reason, that is with success.
    assert await again.packet() == numbered(PUBCOMP, 7)[:1] + b"\x00\x07"
    assert await one.values(device) == ["1"]
    # The packet id is free again.
    again.send(publish(device.topic, reading(2), qos=2, packet_id=7, version=version))
    assert (await again.packet())[0] == PUBREC
    assert await one.values(device) == ["1", "2"]


async def test_who_does_not_answer_loses_its_clients_all_the_same(pair, version):
    one, two = pair
    device = await one.device()
    options = {"version": version, **kept(version), **will(device)}
    first = await one.connect(device, **options)
    await subscribed(first, f"measurements/{device.device_id}", version=version)
    deaf(one)
    began = asyncio.get_running_loop().time()
    second = await two.connect(device, **options)
    assert second.session_present
    assert asyncio.get_running_loop().time() - began >= keeping.PATIENCE_SECONDS
    # As if it had stood still: what it reads then is not taken before it has looked.
    one.listener.keeper._sure_until = 0.0
    first.send(publish(device.topic, reading(1), version=version))
    ended = await end_of(first)
    assert [packet[:2] for packet in ended] == ([b"\xe0\x8e"] if version == 5 else [])
    assert await one.values(device) == []
    await send(second, device.topic, reading(2), version=version)
    assert await values(second, 1, version) == [2]
    assert await status(one, device) is None


async def test_who_finds_another_owner_as_the_connection_ends_publishes_no_will(pair):
    one, two = pair
    device = await one.device()
    first = await one.connect(device, **will(device))
    deaf(one)
    second = await two.connect(device)
    await first.abort()
    await eventually(lambda: one.listener.connections == 0 and not one.listener.tasks)
    assert await status(one, device) is None
    await send(second, device.topic, reading(1))


async def test_a_server_that_stood_still_for_a_moment_goes_on(pair):
    one, _ = pair
    device = await one.device()
    client = await one.connect(device)
    one.listener.keeper._sure_until = 0.0
    await send(client, device.topic, reading(1))


@pytest.mark.parametrize("version", [5])
async def test_what_a_session_is_owed_outlives_its_server(
    pair, postgresql_url, version, monkeypatch
):
    """What was stored with it, and all that was committed since."""
    monkeypatch.setattr(session, "OUTGOING_MESSAGES", 3)
    one, two = pair
    pump = await one.device("pump")
    sender = await two.connect(pump)
    options = {"version": version, **kept(version)}
    reader = await one.admin("reader", **options)
    await subscribed(reader, "measurements/#", "commands", version=version)
    await reader.abort()
    await send(sender, pump.topic, reading(1, timed=True))
    two.listener.publish("commands", b'{"value": 2}', None)
    await eventually(lambda: len(session_of(one, "reader").queue or ()) == 2)
    keeper = one.listener.keeper
    await eventually(lambda: not keeper._unsaved)
    # From now on nothing of it is stored.
    deaf(one)

    async def lose(_token, rows, _stand=None):
        return {row.key for row in rows}

    keeper._shelf.save = lose
    await die(one, postgresql_url)
    await send(sender, pump.topic, reading(3, timed=True))
    two.listener.publish("commands", b'{"value": 4}', None)
    for value in range(5, 9):
        await send(sender, pump.topic, reading(value, timed=True))
    again = await two.admin("reader", **options)
    assert again.session_present
    found = await values(again, 8, version)
    assert sorted(found) == list(range(1, 9))
    await again.quiet()
    assert session_of(two, "reader").recovered is False
    assert two.listener.counts.dropped == 0


async def test_sessions_of_a_server_that_is_gone_are_taken_over(
    start, postgresql_url, quick, presences
):
    one, two = await start(), await start()
    devices = [await one.device(f"device-{number}") for number in range(4)]
    plain, delayed, ending, back = devices
    clients = [
        await one.connect(plain, **will(plain)),
        await one.connect(delayed, version=5, **will(delayed, 1), **kept(5)),
        await one.connect(ending, version=5, **will(ending, 60), **kept(5, 1)),
        await one.connect(back, version=5, **will(back, 2), **kept(5)),
    ]
    reader = await one.admin("reader", **kept(4))
    await subscribed(reader, "measurements/#")
    await reader.close()
    keeper = one.listener.keeper
    await eventually(lambda: not keeper._unsaved and not keeper._saving)
    await die(one, postgresql_url)
    await becomes(two, plain, "offline")
    await two.connect(back, version=5, **kept(5))
    await becomes(two, delayed, "offline")
    await becomes(two, ending, "offline")
    assert await status(two, back) is None
    # The one that was taken for dead lets go of all of them.
    one.listener.keeper._sure_until = 0.0
    for client in clients:
        await end_of(client)
    # What is committed is owed to them where they are now.
    sender = await two.connect(plain, "sender")
    await send(sender, plain.topic, reading(1))
    again = await two.admin("reader", **kept(4))
    assert again.session_present
    assert await values(again, 1) == [1]


@pytest.mark.parametrize("version", [5])
async def test_sessions_go_on_after_a_restart(start, version):
    async with contextlib.AsyncExitStack() as first:
        one = await start(first)
        device = await one.device()
        options = {"version": version, **kept(version)}
        reader = await one.admin("reader", **options)
        await subscribed(reader, "measurements/#", version=version)
        await reader.close()
        client = await one.connect(device, **will(device), version=version)
        await send(client, device.topic, reading(1), version=version)
        await eventually(lambda: session_of(one, "reader").queue)
    two = await start()
    assert await status(two, device) is None
    again = await two.admin("reader", **options)
    assert again.session_present
    assert await values(again, 1, version) == [1]


async def test_a_delayed_will_follows_its_session(pair):
    one, two = pair
    device = await one.device()
    first = await one.connect(device, version=5, **will(device, 60), **kept(5))
    await first.abort()
    await eventually(lambda: one.listener.connections == 0)
    second = await two.connect(device, version=5, **kept(5))
    assert second.session_present
    await second.abort()
    await eventually(lambda: two.listener.connections == 0)
    assert await status(one, device) is None
    # With a session's end it comes, wherever that is.
    third = await one.connect(device, version=5, **will(device, 60), **kept(5))
    await third.abort()
    await eventually(lambda: one.listener.connections == 0)
    await two.connect(device, version=5)
    await becomes(two, device, "offline")


async def test_a_session_that_has_ended_is_not_present_elsewhere(pair, postgresql_url):
    one, two = pair
    device = await one.device()
    client = await one.connect(device, version=5, **kept(5))
    client.send(disconnect(0, session_expiry(0)))
    assert await client.packet() == b""
    again = await two.connect(device, version=5, **kept(5))
    assert not again.session_present
    await again.close()
    await eventually(lambda: not two.listener.connections and not two.listener.keeper._saving)
    await die(two, postgresql_url)
    deaf(two)
    async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
        await connection.execute("UPDATE mqtt_session SET ends_at = 1")
    late = await one.connect(device, version=5, **kept(5))
    assert not late.session_present


async def test_a_client_that_is_gone_before_it_is_answered_leaves_nothing(pair, postgresql_url):
    one, _ = pair
    device = await one.device()
    claim, free = one.listener.keeper._shelf.claim, asyncio.Event()

    async def slow(*wanted):
        await free.wait()
        return await claim(*wanted)

    one.listener.keeper._shelf.claim = slow
    client = await Client.open(one.port)
    client.send(connect("gone", device.device_id, device.key))
    await eventually(lambda: one.listener.keeper._claims)
    [connection] = one.listener._connections
    connection.abort()
    await end_of(client)
    free.set()

    async def is_empty():
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            found = await connection.execute("SELECT count(*) FROM mqtt_session")
            return await found.fetchone() == (0,)

    await eventually(lambda: not one.listener.keeper._turns)
    await eventually(is_empty)


async def test_who_is_alone_claims_what_another_could_ask_for_alone(
    start, postgresql_url, monkeypatch
):
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.02)

    async def rows():
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            found = await connection.execute("SELECT count(*) FROM mqtt_session")
            return (await found.fetchone())[0]

    one = await start()
    devices = [await one.device(f"device-{number}") for number in range(3)]
    await eventually(lambda: one.listener.keeper._looks == {})
    first = await one.connect(devices[0])
    gone = await one.connect(devices[0], "gone")
    assert await rows() == 0
    others = [
        await one.connect(devices[1], **will(devices[1])),
        await one.connect(devices[2], **kept(4)),
    ]
    assert await rows() == len(others)
    await gone.close()
    await eventually(lambda: one.listener.connections == 3)
    # Once there is another, all are claimed.
    two = await start()

    async def are_claimed():
        return await rows() == 3

    await eventually(are_claimed)
    second = await two.connect(devices[0])
    assert await end_of(first) == []
    await send(second, devices[0].topic, reading(1))


async def test_a_client_that_has_come_elsewhere_first_stays_there(start, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 0.02)
    one = await start()
    device = await one.device()
    await eventually(lambda: one.listener.keeper._looks == {})
    first = await one.connect(device)
    keeper, claim_late, free = one.listener.keeper, one.listener.keeper._claim_late, asyncio.Event()

    async def late():
        await free.wait()
        await claim_late()

    keeper._claim_late = late
    two = await start()
    second = await two.connect(device)
    free.set()
    assert await end_of(first) == []
    await send(second, device.topic, reading(1))

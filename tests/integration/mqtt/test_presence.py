"""Who is shown as connected, by connections to the listener alone, on both engines."""

import asyncio

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from heliograph import presence as writing
from heliograph.errors import StoreUnavailableError
from heliograph.model.records import Kind
from mqtt_client import Client, connect, disconnect, kept, publish, subscribe
from server import ADMIN_KEY, SHARED_KEY, eventually, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered


@pytest.fixture
def version(engine):
    """Return one version on each engine: what is stored of a connection does not know which."""
    return {"sqlite": 5, "postgresql": 4}[engine]


@pytest.fixture
async def server(tmp_path, database_url):
    async with running(tmp_path, database_url=database_url) as server:
        yield server


async def shown(server, device):
    answer = await server.http.get(f"/devices/{device.device_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def connected(server, device):
    return (await shown(server, device))["connected"]


def becomes(server, device, wanted):
    async def condition():
        return await connected(server, device) is wanted

    return eventually(condition)


async def stored(server, device):
    """Return whether it is stored as connected; None: nothing is stored yet."""
    sensor = await server.store.sensors.find(device.device_id)
    return None if sensor.connection_at is None else sensor.connection_open


def is_stored(server, device, wanted):
    async def condition():
        return await stored(server, device) is wanted

    return eventually(condition)


async def test_a_device_is_connected_while_its_connection_lives(server, version):
    device, other = await server.device(), await server.device("other")
    assert (await connected(server, device), (await shown(server, device))["late"]) == (None, None)
    client = await server.connect(device, version=version)
    now = await shown(server, device)
    assert now["connected"] is True
    # To log in is a sign of life too.
    assert now["last_seen_at"] == now["connected_changed_at"]
    assert now["last_measurement_at"] is None
    await is_stored(server, device, True)
    assert await connected(server, device) is True
    client.send(disconnect())
    assert await client.packet() == b""
    await becomes(server, device, False)
    await is_stored(server, device, False)
    gone = await shown(server, device)
    assert gone["connected"] is False
    assert gone["connected_changed_at"] > now["connected_changed_at"]
    assert gone["last_seen_at"] == now["last_seen_at"]
    assert await connected(server, other) is None


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_connection_that_is_lost_is_an_end(server, version, end):
    device = await server.device()
    client = await server.connect(device, version=version, **kept(version))
    assert await connected(server, device) is True
    await getattr(client, end)()
    # Its session goes on, which is another thing.
    await becomes(server, device, False)


async def test_a_silent_client_is_disconnected_and_shown_so(server, version, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.session.CLOSING_SECONDS", 0.01)
    device = await server.device()
    client = await server.connect(device, version=version, keepalive=1)
    assert await connected(server, device) is True
    while await client.packet():
        pass
    await becomes(server, device, False)


async def test_one_of_several_connections_is_enough(server, version):
    device = await server.device()
    first = await server.connect(device, "a", version=version)
    # By its UUID it is the same sensor.
    second = await Client.connected(
        server.port, "b", device.identifier, device.key, version=version
    )
    await first.close()
    await eventually(lambda: server.listener.connections == 1)
    assert await connected(server, device) is True
    await second.close()
    await becomes(server, device, False)


async def test_a_take_over_goes_on_and_then_ends(server, version):
    device = await server.device()
    will = (f"status/{device.device_id}", b"offline", 1, True)
    first = await server.connect(device, version=version, will=will)
    before = await shown(server, device)
    second = await server.connect(device, version=version)
    await eventually(lambda: server.listener.connections == 1)

    # The older connection's will is not published: the device is not gone.
    await second.quiet()
    assert (await server.store.sensors.find(device.device_id)).status is None
    now = await shown(server, device)
    assert now["connected"] is True
    assert now["connected_changed_at"] == before["connected_changed_at"]
    await second.close()
    await becomes(server, device, False)
    await first.close()


async def test_who_connects_for_others_does_not_connect_them(server, version):
    device = await server.device()
    for username, password in ((device.device_id, SHARED_KEY), ("admin", ADMIN_KEY)):
        gateway = await Client.connected(server.port, "g", username, password, version=version)
        assert await connected(server, device) is None
        await gateway.close()
    gateway = await Client.connected(server.port, "g", "admin", ADMIN_KEY, version=version)
    topic = f"status/{device.device_id}"
    for number, word, wanted in ((1, b"online", True), (2, b"offline", False)):
        gateway.send(publish(topic, word, packet_id=number, retain=True, version=version))
        assert (await gateway.packet())[0] == 0x40
        assert await connected(server, device) is wanted
    # Connected it is, whatever anybody says of it.
    client = await server.connect(device, version=version)
    gateway.send(publish(topic, b"offline", packet_id=3, version=version))
    assert (await gateway.packet())[0] == 0x40
    assert await connected(server, device) is True
    await gateway.close()
    await client.close()


async def test_online_said_on_a_connection_ends_with_it(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    topic = f"status/{device.device_id}"
    client.send(publish(topic, b"online", retain=True, version=version))
    assert (await client.packet())[0] == 0x40
    await client.close()
    await becomes(server, device, False)
    await is_stored(server, device, False)
    assert await connected(server, device) is False


async def test_a_last_will_is_no_sign_of_life(server, version):
    device = await server.device()
    will = (f"status/{device.device_id}", b"offline", 1, True)
    client = await server.connect(device, version=version, will=will)
    seen = (await shown(server, device))["last_seen_at"]
    await client.abort()

    async def said():
        return (await server.store.sensors.find(device.device_id)).status == "offline"

    await eventually(said)
    assert (await shown(server, device))["last_seen_at"] == seen


async def test_out_of_service_nobody_is_connected(server, version):
    device, erased = await server.device(), await server.device("erased")
    clients = []
    for each in (device, erased):
        clients.append(await server.connect(each, each.device_id, version=version))
        assert await connected(server, each) is True
    assert (await server.http.delete(f"/devices/{device.device_id}")).status_code == 204
    assert (await server.http.delete("/sensors/erased?data=delete")).status_code == 204
    await becomes(server, device, False)
    await eventually(lambda: server.listener.connections == 0)
    assert (await shown(server, device))["late"] is None
    # What was theirs is stored for the one that there still is.
    await is_stored(server, device, False)
    again = await server.http.patch(f"/devices/{device.device_id}", json={"is_active": True})
    assert again.json()["connected"] is False
    for client in clients:
        await client.close()


async def test_after_a_stop_nobody_is_connected(tmp_path, database_url):
    async with running(tmp_path, database_url=database_url) as server:
        devices = [await server.device(f"d-{n}") for n in range(3)]
        clients = [await server.connect(device) for device in devices]
        await is_stored(server, devices[2], True)
        stop = server.services.store.connections.note
        noted = []

        async def note(rows, token):
            noted.append(rows)
            return await stop(rows, token)

        server.services.store.connections.note = note
    for client in clients:
        await client.close()
    # Their ends are stored, together, before the next start finds any.
    assert [sorted(live for _, live, _ in rows) for rows in noted] == [[False] * 3]
    async with running(tmp_path, database_url=database_url, mqtt_listen=()) as server:
        for device in devices:
            found = await shown(server, device)
            assert (found["connected"], found["connected_changed_at"] is None) == (False, False)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_paho(server, version):
    device = await server.device()
    protocol = {"3.1.1": paho.MQTTv311, "5": paho.MQTTv5}[version]
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="p", protocol=protocol)
    client.username_pw_set(device.device_id, device.key)
    await asyncio.to_thread(client.connect, "127.0.0.1", server.port)
    client.loop_start()
    try:
        await becomes(server, device, True)
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)
    await becomes(server, device, False)


@pytest.mark.uncovered
async def test_many_at_once_cost_few_transactions(server, monkeypatch):
    count, width = 500, 200
    batch = await server.http.post(
        "/devices/batch", json=[{"device_id": f"d-{n}"} for n in range(count)]
    )
    keys = {each["device_id"]: each["api_key"] for each in batch.json()}
    assert len(keys) == count
    connections, written = server.store.connections, []
    note = connections.note

    free = asyncio.Event()

    async def counted(rows, token):
        written.append(len(rows))
        await free.wait()  # however slow the machine is, the others come meanwhile
        return await note(rows, token)

    monkeypatch.setattr(connections, "note", counted)
    room = asyncio.Semaphore(width)

    async def enter(name, key):
        async with room:
            client = await Client.open(server.port)
            client.send(connect(name, name, key))
            assert (await client.packet(60))[:1] == b"\x20"
            return client

    clients = await asyncio.gather(*(enter(*each) for each in keys.items()))

    async def all_stored(wanted):
        page = await server.store.sensors.load(0, count)
        return [each.connection_open for each in page] == [wanted] * count

    assert {each["connected"] for each in (await server.http.get("/devices")).json()} == {True}
    free.set()
    await eventually(lambda: all_stored(True), 60)
    assert max(written) <= writing.STORED_AT_ONCE
    entered, few = len(written), 1 + count // writing.STORED_AT_ONCE
    assert entered <= few, "they were not gathered"
    free.clear()
    for client in clients:
        client.writer.transport.abort()
    await eventually(lambda: server.listener.connections == 0, 60)
    assert {each["connected"] for each in (await server.http.get("/devices")).json()} == {False}
    free.set()
    await eventually(lambda: all_stored(False), 60)
    assert len(written) - entered <= few
    # Nothing is left behind in memory.
    known = server.services.registry.connected
    assert (known.all(), known.is_due, known._ended, known._since) == ([], False, {}, {})


async def test_while_the_database_is_away_it_is_known_and_stored_later(server, monkeypatch):
    device = await server.device()
    connections = server.store.connections
    note, outage = connections.note, asyncio.Event()
    outage.set()
    tried = []

    async def away(rows, token):
        tried.append(rows)
        if outage.is_set():
            raise StoreUnavailableError("an outage to order")
        return await note(rows, token)

    monkeypatch.setattr(connections, "note", away)
    client = await server.connect(device)
    await eventually(lambda: len(tried) >= 2)
    assert await connected(server, device) is True
    await client.close()
    await becomes(server, device, False)
    outage.clear()
    await eventually(lambda: len(tried) >= 4)
    await is_stored(server, device, False)
    # What was noted first came first.
    assert [rows[0][1] for rows in tried if rows][-1] is False


async def test_those_who_watch_are_told(server, version):
    device = await server.device()
    events = []
    # The way that a live stream is told; it is the hub that the listener's own subscribers use.
    server.services.http_ingest._pipeline._hub.add(lambda: True, events.extend)
    watcher = await server.admin()
    watcher.send(subscribe("#"))
    assert (await watcher.packet())[0] == 0x90
    client = await server.connect(device, version=version)

    def told():
        return [
            (event.identifier, event.rows[0][1]) for event in events if event.kind is Kind.PRESENCE
        ]

    await eventually(lambda: told() == [(device.identifier, True)])
    await client.close()
    await eventually(lambda: told() == [(device.identifier, True), (device.identifier, False)])
    payload = events[-1].payload
    assert payload.startswith(b'{"connected":false,"timestamp":')
    # Over MQTT `status/` says what was said, and nothing was.
    await watcher.quiet()
    await watcher.close()


async def test_what_another_instance_has_noted_is_put_right(tmp_path, postgresql_url, monkeypatch):
    monkeypatch.setattr(writing, "CONFIRM_SECONDS", 0.05)
    async with running(tmp_path, database_url=postgresql_url) as server:
        device = await server.device()
        client = await server.connect(device)
        await is_stored(server, device, True)
        since = (await shown(server, device))["connected_changed_at"]
        await server.store.connections.end(1)
        # Here it is known to be connected all the time.
        assert await connected(server, device) is True
        await is_stored(server, device, True)
        assert (await shown(server, device))["connected_changed_at"] == since
        await client.close()


async def test_another_server_that_starts_takes_nobody_for_gone(
    tmp_path, postgresql_url, monkeypatch
):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with running(folders[0], database_url=postgresql_url) as one:
        device = await one.device()
        client = await one.connect(device)
        await is_stored(one, device, True)
        since = (await shown(one, device))["connected_changed_at"]
        async with running(folders[1], database_url=postgresql_url) as two:
            stored = await shown(two, device)
            assert (stored["connected"], stored["connected_changed_at"]) == (True, since)
            # It goes over to the other server, before its connection here ends.
            note, noted = two.store.connections.note, asyncio.Event()

            async def noting(rows, token):
                sensors = await note(rows, token)
                noted.set()
                return sensors

            monkeypatch.setattr(two.store.connections, "note", noting)
            there = await two.connect(device)
            await noted.wait()
            await client.close()
            number = (await one.store.sensors.find(device.device_id)).number
            here = one.services.registry.connected
            await eventually(lambda: here.find(number) is None)  # its end is noted
            for server in (one, two):
                assert await connected(server, device) is True
            await there.close()
            await is_stored(two, device, False)


async def test_who_was_connected_to_a_server_that_is_gone_is_no_more(
    tmp_path, postgresql_url, monkeypatch
):
    monkeypatch.setattr(writing, "LOOK_SECONDS", 0.02)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with (
        running(folders[0], database_url=postgresql_url) as one,
        running(folders[1], database_url=postgresql_url) as two,
    ):
        device, stays = await one.device(), await one.device("device-2")
        clients = [await one.connect(device), await two.connect(stays)]
        await is_stored(one, device, True)
        await is_stored(two, stays, True)
        events = []
        two.services.http_ingest._pipeline._hub.add(lambda: True, events.extend)
        # As it finds them while the other one stands still, or has lost the database.
        two.services.instance.others = []
        await asyncio.sleep(0.1)
        assert await connected(two, device) is True
        monkeypatch.setattr(writing, "GONE_SECONDS", 0.0)
        await becomes(two, device, False)
        assert await connected(two, stays) is True
        told = [(event.identifier, event.rows[0][1]) for event in events]
        assert [each for each in told if not each[1]] == [(device.identifier, False)]
        for client in clients:
            await client.close()

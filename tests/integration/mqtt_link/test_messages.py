"""What devices publish to a real broker, and what becomes of it."""

import asyncio
import json

import pytest

from mqtt_client import Client, kept, publish
from server import eventually, running

NOON = 1_768_478_400


def reading(value, at=0):
    return json.dumps({"value": value, "timestamp": NOON + at}).encode()


@pytest.fixture
async def server(mosquitto, linked):
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        yield server


@pytest.fixture
def publisher():
    """Return a coroutine function: publish, and return when the broker has taken it all."""

    async def publisher(broker, *messages, client_id="a-device", version=4):
        client = await Client.connected(broker.port, client_id, version=version)
        acknowledged = 0
        for topic, payload, qos, retain in messages:
            acknowledged += 1 if qos else 0
            packet = publish(
                topic, payload, qos=qos, retain=retain, packet_id=acknowledged or 1, version=version
            )
            client.send(packet)
        while acknowledged:
            answer = await client.packet()
            assert answer[0] in {0x40, 0x50, 0x70}
            if answer[0] == 0x50:  # QoS 2 has two rounds
                client.send(b"\x62\x02" + answer[1:3])
            else:
                acknowledged -= 1
        await client.quiet()
        await client.close()

    return publisher


def settled(server, count):
    return eventually(lambda: server.state.messages_total >= count and not server.state.depth)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_every_qos_is_stored(mosquitto, server, publisher, version_of_publisher, qos):
    device = await server.device()
    messages = [(device.topic, reading(n, n), qos, False) for n in range(20)]
    await publisher(mosquitto, *messages, version=version_of_publisher)
    await settled(server, 20)
    assert await server.values(device) == [str(n) for n in range(20)]


@pytest.fixture(params=[4, 5], ids=["3.1.1", "5"])
def version_of_publisher(request):
    return request.param


async def test_batches_logs_heartbeats_and_both_names(mosquitto, server, publisher):
    device = await server.device()
    batch = [{"value": n, "timestamp": NOON + n} for n in range(3)]
    log = {"severity": "warning", "subject": "s", "timestamp": NOON}
    await publisher(
        mosquitto,
        (f"measurements/{device.identifier}", json.dumps({"measurements": batch}).encode(), 1, 0),
        (f"log-messages/{device.device_id}", json.dumps({"log_messages": [log]}).encode(), 1, 0),
        (f"logs/{device.device_id}", json.dumps([{**log, "subject": "t"}]).encode(), 1, 0),
        (f"heartbeats/{device.identifier}", b"{}", 1, 0),
        (f"acknowledgments/{device.device_id}", b"{}", 1, 0),
    )
    await settled(server, 5)
    assert await server.values(device) == ["0", "1", "2"]
    assert server.state.rows_total == 7
    assert await server.rejected() == []


async def test_what_is_rejected_is_kept_under_the_sensors_name_and_acknowledged(
    mosquitto, server, publisher
):
    device, away = await server.device(), await server.device("away")
    assert (await server.http.delete("/devices/away")).status_code in {200, 204}
    mixed = [{"value": 1, "timestamp": NOON}, {"value": 2, "timestamp": "soon"}]
    await publisher(
        mosquitto,
        (device.topic, b"{", 1, 0),
        (device.topic, json.dumps(mixed).encode(), 1, 0),
        ("measurements/nobody", b'{"value": 1}', 1, 0),
        (away.topic, b'{"value": 1}', 1, 0),
        (device.topic, reading(3, 3), 1, 0),
    )
    await settled(server, 5)
    found = {(m.principal, m.reason) for m in await server.rejected()}
    assert found == {
        ("broker:device-1", "MALFORMED_JSON"),
        ("broker:device-1", "INVALID_TIMESTAMP"),
        ("broker:nobody", "UNKNOWN_SENSOR"),
        ("broker:away", "DEACTIVATED_SENSOR"),
    }
    assert await server.values(device) == ["1", "3"]
    link = server.services.link
    await eventually(lambda: not link._connection.in_flight)
    assert link.connects == 1


async def test_sensors_come_and_go_while_the_link_is_up(mosquitto, server, publisher):
    await publisher(mosquitto, ("measurements/late", reading(1, 1), 1, 0))
    await settled(server, 1)
    device = await server.device("late")
    await publisher(mosquitto, (device.topic, reading(2, 2), 1, 0))
    await settled(server, 2)
    assert (await server.http.delete("/devices/late")).status_code in {200, 204}
    await publisher(mosquitto, (device.topic, reading(3, 3), 1, 0))
    await settled(server, 3)
    assert await server.values(device) == ["2"]
    reasons = [m.reason for m in await server.rejected()]
    assert reasons == ["DEACTIVATED_SENSOR", "UNKNOWN_SENSOR"]


async def test_devices_are_registered_on_first_sight_with_auto_provision(
    mosquitto, linked, publisher
):
    async with linked(mosquitto, auto_provision=True) as server:
        await eventually(lambda: server.services.link.connected)
        await publisher(mosquitto, *[(f"measurements/d-{n}", reading(n), 1, 0) for n in range(5)])
        await settled(server, 5)
        devices = (await server.http.get("/devices")).json()
        assert sorted(device["device_id"] for device in devices) == [f"d-{n}" for n in range(5)]
        assert server.state.rows_total == 5


async def test_statuses_live_and_retained_ones_at_every_connect(mosquitto, linked, publisher):
    async def status(server, device):
        return (await server.store.sensors.find(device.device_id)).status

    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        device = await server.device()
        topic = f"status/{device.device_id}"
        for word in ("online", "offline", "online"):
            await publisher(mosquitto, (topic, word.encode(), 1, True))

            async def said(word=word):
                return await status(server, device) == word

            await eventually(said)
    # It changes while the server is away, and the queued message tells; or else the retained one.
    await publisher(mosquitto, (topic, b"offline", 0, True))
    async with linked(mosquitto) as server:

        async def offline():
            return await status(server, device) == "offline"

        await eventually(offline)


async def test_a_status_that_is_cleared_at_the_broker_is_none(mosquitto, linked, publisher):
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        device = await server.device()
        topic = f"status/{device.device_id}"

        async def status():
            return (await server.store.sensors.find(device.device_id)).status

        await publisher(mosquitto, (topic, b"online", 1, True))
        await eventually(status)
        await publisher(mosquitto, (topic, b"", 1, True))

        async def cleared():
            return await status() is None

        await eventually(cleared)
        assert await server.rejected() == []
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        assert await cleared()


async def test_a_retained_status_counts_and_is_no_sign_of_life(
    tmp_path, mosquitto, linked, publisher
):
    async def shown(server, device):
        return (await server.http.get(f"/devices/{device.device_id}")).json()

    async with running(tmp_path, mqtt_listen=()) as server:
        devices = [await server.device(name) for name in ("on", "off", "live")]
    for device, word in zip(devices, (b"online", b"offline"), strict=False):
        await publisher(mosquitto, (f"status/{device.device_id}", word, 1, True))
    async with linked(mosquitto) as server:
        await settled(server, 2)
        on, off, live = devices
        assert (await shown(server, on))["connected"] is True
        assert (await shown(server, off))["connected"] is False
        # It may have been said a year ago.
        assert [(await shown(server, each))["last_seen_at"] for each in devices] == [None] * 3
        await publisher(mosquitto, (f"status/{live.device_id}", b"online", 1, True))
        await settled(server, 3)
        assert (await shown(server, live))["last_seen_at"] is not None
        since = (await shown(server, on))["connected_changed_at"]
    # Said again at the next connection it is nothing new.
    async with linked(mosquitto) as server:
        await settled(server, 3)
        assert (await shown(server, on))["connected"] is True
        assert (await shown(server, on))["connected_changed_at"] == since


async def test_a_retained_measurement_is_stored_once_and_never_comes_back(
    mosquitto, linked, publisher
):
    retained = b'{"value": 1}'  # without a time a phantom would look like a new reading
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        device = await server.device()
        await publisher(mosquitto, (device.topic, retained, 1, True))
        await settled(server, 1)
        assert await server.values(device) == ["1"]
        for connects in (2, 3):
            server.services.link._connection.end("to see what comes then")
            await eventually(lambda n=connects: server.services.link.connects == n)
    await asyncio.to_thread(mosquitto.stop)
    await asyncio.to_thread(mosquitto.start)
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        # Live and behind whatever the subscription has brought.
        await publisher(mosquitto, (device.topic, b'{"value": 2}', 1, False))
        await settled(server, 1)
        assert await server.values(device) == ["1", "2"]
        assert await server.rejected() == []


async def test_what_was_published_while_the_server_was_away_arrives_once(
    mosquitto, linked, publisher
):
    async with linked(mosquitto) as server:
        await eventually(lambda: server.services.link.connected)
        device = await server.device()
        await publisher(mosquitto, (device.topic, reading(0, 0), 1, 0))
        await settled(server, 1)
    messages = [(device.topic, b'{"value": %d}' % n, 1, 0) for n in range(1, 301)]
    await publisher(mosquitto, *messages)
    for _ in range(2):
        async with linked(mosquitto) as server:
            await eventually(lambda: server.services.link.connected)

            async def all_there():
                return len(await server.measurements(device)) >= 301

            await eventually(all_there)
            await eventually(lambda: not server.state.depth)
            values = await server.values(device)
            assert sorted(map(int, values)) == list(range(301))


async def test_a_broker_that_goes_and_comes_back(mosquitto, server, publisher, problem):
    device = await server.device()
    client = await Client.connected(mosquitto.port, "other", **kept(4))
    await client.close()
    await asyncio.to_thread(mosquitto.stop)
    assert await problem(server)
    assert (await server.http.get("/readyz")).status_code == 503
    await asyncio.to_thread(mosquitto.start)
    await eventually(lambda: server.services.link.connected)
    await publisher(mosquitto, (device.topic, reading(1), 1, 0))
    await settled(server, 1)
    assert await server.values(device) == ["1"]
    assert (await server.http.get("/readyz")).status_code == 200


async def test_a_topic_that_leads_nowhere_is_asked_for_once(
    mosquitto, server, publisher, monkeypatch
):
    """However many lead somewhere: else each of its messages would hold up all others."""
    monkeypatch.setattr("heliograph.mqtt.reading.MAXIMUM_REFUSED_ROUTES", 3)
    host = server.services.link.host
    route, asked = host.route, []

    async def counted(principal, topic):
        asked.append(topic)
        return await route(principal, topic)

    monkeypatch.setattr(host, "route", counted)
    devices = [await server.device(f"device-{n}") for n in range(5)]
    unknown = [f"measurements/nobody-{n}" for n in range(3)]
    messages = []
    for at in range(3):
        for topic in unknown:
            messages += [(device.topic, b'{"value": 1}', 1, 0) for device in devices]
            messages.append((topic, reading(at), 1, 0))
    await publisher(mosquitto, *messages)
    await settled(server, len(messages))
    assert sorted(topic for topic in asked if topic in unknown) == unknown
    assert server.state.rows_total == len(messages) - 9

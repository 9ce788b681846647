"""Two servers on one PostgreSQL: who watches at one sees what comes to the other."""

import asyncio
import contextlib
import json

import pytest

from heliograph.ingest import elsewhere
from heliograph.live.frames import notice
from heliograph.mqtt import session
from heliograph.settings import Address
from integration.http.conftest import ADMIN, ADMIN_KEY, send, values
from mqtt_client import PUBACK, Client, numbered, publish, published, subscribe
from server import eventually

LISTEN = (Address("127.0.0.1", 0),)


@pytest.fixture
def pair(site, serving, postgresql_url):
    """Return a context manager that runs two servers, and gives them with their ports."""

    @contextlib.asynccontextmanager
    async def running(**options):
        options = {"database_url": postgresql_url, **options}
        async with (
            site(**options) as one,
            serving(one.web) as port,
            site(**options) as two,
            serving(two.web) as other_port,
        ):
            yield one, port, two, other_port

    return running


async def test_each_viewer_sees_everything_once(pair, watching):
    async with pair() as (one, port, two, other_port):
        await one.device("pump")
        async with (
            watching(port, "/events?kind=measurement") as here,
            watching(other_port, "/events?sensor=pump&kind=measurement") as there,
        ):
            for value in range(0, 20, 2):
                await send(one, value)
                await send(two, value + 1)
            for events in (here, there):
                assert sorted(await values(events, 20)) == list(range(20))
            await send(one, 20)
            assert await values(here, 1) == await values(there, 1) == [20]


async def test_what_is_no_telemetry_is_shown_elsewhere_too(pair, watching):
    async with pair(mqtt_listen=LISTEN) as (one, _, two, other_port):
        headers = await one.device("pump")
        key = headers["x-api-key"]
        port, far_port = (each.services.listener.addresses[0][1] for each in (one, two))
        subscriber = await Client.connected(far_port, "admin", "admin", ADMIN_KEY)
        for topic in ("status/pump", "configurations/pump", "news", "measurements/pump"):
            subscriber.send(subscribe(topic))
            await subscriber.packet()
        async with watching(other_port, "/events?kind=configuration,presence,alert") as events:
            device = await Client.connected(port, "pump", "pump", key)
            assert (await events.event("presence"))[1]["connected"]
            await one.http.post(
                "/sensors/pump/configurations", json={"configuration": {"rate": 5}}, headers=ADMIN
            )
            name, told = await events.event("configuration")
            assert (name, told["revision"], told["configuration"]) == (
                "configuration",
                0,
                {"rate": 5},
            )
            sensor = await one.services.registry.find("pump")
            names = sensor.number, sensor.identifier, "pump", sensor.network_identifier
            one.services.streams.show([notice("alert", names, {"event": "raised"})])
            assert (await events.event("alert"))[1]["event"] == "raised"
            device.send(publish("status/pump", b"online"))
            one.services.listener.publish("news", b"hello" * 3_000, None)
            await send(one, 1)
            seen = {}
            while len(seen) < 4:
                first, *_ = packet = await subscriber.packet()
                assert first >> 4 == 3
                end = 3 + int.from_bytes(packet[1:3])
                # Behind the topic a packet id, at QoS 1.
                seen[packet[3:end].decode()] = packet[end + (2 if first & 6 else 0) :]
            assert seen["news"] == b"hello" * 3_000
            assert json.loads(seen["configurations/pump"]) == {
                "revision": 0,
                "configuration": {"rate": 5},
            }
            assert seen["status/pump"] == b"online"
            await device.close()
        await subscriber.close()


async def test_a_stream_resumes_at_the_other_server(pair, watching):
    async with pair() as (one, port, two, other_port):
        await one.device("pump")
        last, seen, sent = "", [], iter(range(100))
        ports = [port, other_port]
        async with watching(port, "/events?kind=measurement") as events:
            await events.block()
            last = events.last_id
        for turn in range(6):
            for site in (one, two, one):
                await send(site, next(sent))
            path = f"/events?kind=measurement&last_event_id={last}"
            async with watching(ports[turn % 2], path) as events:
                # What is missed, then what is new; and left in the middle of both.
                seen += await values(events, 2)
                if turn % 3:
                    await send(two, next(sent))
                    seen += await values(events, 2)
                last = events.last_id
        path = f"/events?kind=measurement&last_event_id={last}"
        await send(one, 100)
        async with watching(other_port, path) as events:
            while 100 not in seen:
                seen += await values(events, 1)
        assert sorted(seen) == [*range(next(sent)), 100]


async def test_a_stream_resumes_where_nobody_watched_after_its_server_was_killed(pair, watching):
    async with pair() as (one, port, two, other_port):
        await one.device("pump")
        async with watching(port, "/events?kind=measurement") as events:
            # From here on it tells the other one nothing, as if it were killed before.
            one.services.elsewhere._send = asyncio.Event().wait
            await send(one, 0)
            await send(two, 1)
            seen = await values(events, 2)
            last = events.last_id
        await send(two, 2)
        path = f"/events?kind=measurement&last_event_id={last}"
        async with watching(other_port, path) as events:
            seen += await values(events, 1)
            await send(two, 3)
            seen += await values(events, 1)
        assert sorted(seen) == [0, 1, 2, 3]
        # Its end tells what it has to tell.
        del one.services.elsewhere._send


async def test_a_subscriber_gets_all_that_came_while_its_server_stood_still(pair, monkeypatch):
    monkeypatch.setattr(elsewhere, "PAGE_ROWS", 20)
    monkeypatch.setattr(elsewhere, "ROOM_SECONDS", 0.2)
    monkeypatch.setattr(session, "OUTGOING_WINDOW", 8)
    monkeypatch.setattr(session, "OUTGOING_MESSAGES", 40)
    monkeypatch.setattr(session, "ROOM_MESSAGES", 10)
    async with pair(mqtt_listen=LISTEN) as (one, _, two, _):
        keys = [(await one.device(name))["x-api-key"] for name in ("pump", "valve")]
        port, far_port = (each.services.listener.addresses[0][1] for each in (one, two))
        reader, sleeper = [
            await Client.connected(far_port, name, "admin", ADMIN_KEY)
            for name in ("reader", "sleeper")
        ]
        for client in (reader, sleeper):
            client.send(subscribe("measurements/#"))
            assert (await client.packet())[0] == 0x90
        show, goes_on = two.services.elsewhere._show_due, asyncio.Event()

        async def show_later():
            await goes_on.wait()
            await show()

        two.services.elsewhere._show_due = show_later
        devices = [
            await Client.connected(port, name, name, key)
            for name, key in zip(("pump", "valve"), keys, strict=True)
        ]
        for count in range(150):
            # In turns, so that no two are of one message.
            name = ("pump", "valve")[count % 2]
            device = devices[count % 2]
            device.send(publish(f"measurements/{name}", b'{"value": %d}' % count, packet_id=1))
            assert await device.packet() == b"\x40\0\1"
        goes_on.set()
        found = []
        while len(found) < 150:
            message = published(await reader.packet(10))
            (measurement,) = json.loads(message.payload)["measurements"]
            found.append(measurement["value"])
            reader.send(numbered(PUBACK, message.packet_id))
        assert found == list(range(150))
        # Who takes nothing has lost the oldest of it.
        assert two.services.listener.counts.dropped == 150 - 8 - 40
        for client in (reader, sleeper, *devices):
            await client.abort()


async def test_without_its_connection_a_server_looks_into_the_tables(pair, watching, monkeypatch):
    monkeypatch.setattr(elsewhere, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(elsewhere, "TICK_SECONDS", 0.1)
    monkeypatch.setattr(elsewhere, "RETRY_SECONDS", 0.05)
    async with pair() as (one, _, two, other_port):
        await one.device("pump")
        async with watching(other_port, "/events?kind=measurement") as events:
            await send(one, 0)
            assert await values(events, 1) == [0]
            connection = two.services.elsewhere._connection
            connect = connection._connect

            async def refuse():
                raise OSError("cut")

            monkeypatch.setattr(connection, "_connect", refuse)
            connection._connection.terminate()
            await eventually(lambda: not two.services.elsewhere.is_connected)
            await send(one, 1, 2, 3)
            assert await values(events, 3) == [1, 2, 3]
            readiness = (await two.http.get("/readyz")).json()
            assert "is shown late" in " ".join(readiness["warnings"])
            await send(one, 4)
            monkeypatch.setattr(connection, "_connect", connect)
            await eventually(lambda: two.services.elsewhere.is_connected)
            await send(one, 5)
            assert await values(events, 2) == [4, 5]

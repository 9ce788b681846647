"""Many times what the server can take, through Mosquitto: memory is bounded, nothing is lost.

HELIOGRAPH_FLOOD is the number of messages.
"""

import asyncio
import os
import time

from faults.database import values
from faults.process import condition
from faults.sender import Publication, Sender
from heliograph.mqtt.reading import IN_FLIGHT_BYTES
from mqtt_client import Client, publish

FLOOD = int(os.environ.get("HELIOGRAPH_FLOOD", "30000"))
CONNECTIONS = 3
PADDING = b"x" * 1_000
GROWTH_BYTES = 80 << 20
READ_BYTES = 1 << 20
SECONDS = 120


def padded(name, count):
    start = time.time() - 3_600
    return [
        Publication(
            f"measurements/{name}",
            b'{"timestamp":%.3f,"value":{"n":%d,"x":"%b"}}' % (start + n / 1_000, n, PADDING),
            f'{{"n":{n},"x":"{PADDING.decode()}"}}',
        )
        for n in range(count)
    ]


async def flood(server, database, broker, publish_all):
    """Publish while nothing can be stored, and for long after the server has its fill."""
    idle = server.resident_bytes()
    most = 0.0

    async def is_full():
        nonlocal most
        most = max(most, await server.metric("heliograph_ingest_bytes_in_flight"))
        return most >= IN_FLIGHT_BYTES

    async with asyncio.timeout(SECONDS):
        async with database.held_up():
            await publish_all
            await condition(is_full, what="as much in flight as may be")
            async with server.client() as http:
                reasons = (await http.get("/readyz")).json()["reasons"]
            # A slow machine holds it up for longer than a commit waits. To be full is no reason.
            assert set(reasons) <= {"The database is not available"}
        began = time.monotonic()
        await server.caught_up(broker.port)
    seconds = time.monotonic() - began
    growth = server.peak_bytes() - idle
    print(f"{FLOOD} messages, stored in {seconds:.1f} s, {growth >> 20} MiB more at most")
    assert await server.readiness() == 200
    assert await server.metric("heliograph_broker_connects_total") == 1
    # Full, and over it no more than what one read of the socket had brought.
    assert most < IN_FLIGHT_BYTES + READ_BYTES
    assert growth <= GROWTH_BYTES


async def test_a_flood_of_qos_1(linked, broker, database):
    names = [f"flood-{at}" for at in range(CONNECTIONS)]
    senders = [
        Sender(broker.port, name, await linked.device(name), padded(name, FLOOD // CONNECTIONS))
        for name in names
    ]
    await flood(linked, database, broker, asyncio.gather(*(sender.run() for sender in senders)))
    assert await linked.metric("heliograph_broker_dropped_messages_total") == 0
    await linked.stop()
    for sender in senders:
        assert values(database, sender.device_id) == dict.fromkeys(sender.values, 1)


async def test_a_flood_of_qos_0(make_server, broker, sqlite_database):
    """What the broker drops of it is dropped; what follows is not."""
    database = sqlite_database
    linked = await make_server(database.url, MQTT_URL=broker.url, MQTT_LISTEN="")
    await linked.device("flood")
    messages = padded("flood", FLOOD)

    async def publish_all():
        client = await Client.connected(broker.port, "flood")
        for message in messages:
            client.send(publish(message.topic, message.payload, qos=0))
            await client.writer.drain()
        await client.close()

    await flood(linked, database, broker, publish_all())
    await linked.stop()
    stored = values(database, "flood")
    print(f"{len(stored)} of {FLOOD} messages stored")
    assert stored.keys() <= {message.value for message in messages}
    assert set(stored.values()) == {1}

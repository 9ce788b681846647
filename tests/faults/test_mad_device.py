"""A device gone mad: what is kept of it is bounded, and nobody else notices.

HELIOGRAPH_REJECTED is how many messages it sends that have to be rejected.
"""

import asyncio
import os
import time

from faults.database import check_once, values
from faults.sender import Publication, Sender, timed

REJECTED = int(os.environ.get("HELIOGRAPH_REJECTED", "6000"))
LONG = {"REJECTED": 30_000}
PER_SOURCE = 1_000
IN_ALL_BYTES = 1 << 20
SECONDS = 120


def nonsense(device_id, count, size):
    padding = b"x" * size
    return [
        Publication(f"measurements/{device_id}", b'{"value":%d,"%b"' % (n, padding), "")
        for n in range(count)
    ]


async def test_what_is_kept_is_bounded(make_server, database):
    server = await make_server(
        database.url,
        REJECTED_PER_SOURCE_PER_HOUR=str(PER_SOURCE),
        REJECTED_MAX_BYTES=str(IN_ALL_BYTES),
    )
    start = time.time() - 3_600
    mad = [
        Sender(server.mqtt_port, "mad", await server.device("mad"),
               nonsense("mad", REJECTED, 40), window=2_000),
        Sender(server.mqtt_port, "large", await server.device("large"),
               nonsense("large", 500, 60_000), window=50),
    ]  # fmt: skip
    sane = Sender(
        server.mqtt_port, "sane", await server.device("sane"), timed("sane", 2_000, start),
        window=20,
    )  # fmt: skip
    before = database.bytes()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for sender in (*mad, sane):
            tasks.create_task(sender.run())
    rejected = await server.metric("heliograph_ingest_rejected_total")
    not_kept = await server.metric("heliograph_ingest_rejected_not_kept_total")
    grown = database.bytes() - before
    assert [sender.connections for sender in (*mad, sane)] == [1, 1, 1]
    await server.stop()

    kept = database.column("SELECT principal FROM rejected_message")
    kept_bytes = int(database.column("SELECT sum(length(payload)) FROM rejected_message")[0])
    assert rejected == REJECTED + 500
    assert not_kept == rejected - len(kept)
    assert 0 < kept.count("device:mad") <= PER_SOURCE
    assert kept_bytes <= IN_ALL_BYTES
    # Not the ledger of deliveries either: of what is not kept, no trace is left.
    assert len(database.column("SELECT id FROM delivery")) <= len(kept)
    assert grown < 16 << 20
    check_once(values(database, "sane"), sane.values)

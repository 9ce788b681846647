"""Ten times the load that a server can just take, over MQTT and HTTP at once.

Memory is bounded, as much is stored as ever, what is too much is refused or not read, what was
acknowledged is there, and afterwards all is as it was. HELIOGRAPH_OVERLOAD is for how many seconds.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

from faults.overload import BATCH

OVERLOAD = float(os.environ.get("HELIOGRAPH_OVERLOAD", "0.5"))
LONG = {"OVERLOAD": 60.0}
TESTS = Path(__file__).parents[1]
# What a server can just take, and ten times as much of it.
SUSTAINED = {"publishers": 2, "posters": 2, "connections": 8, "window": 1_000}
TENFOLD = {"publishers": 20, "posters": 20, "connections": 8, "window": 10_000}
# Over a server that is just busy; in the short form SQLite's cache still fills.
GROWTH_BYTES = 64 << 20
CACHE_BYTES = 16 << 20


async def registered(server, name, count):
    """Return new devices with their keys."""
    return {f"{name}-{n}": await server.device(f"{name}-{n}") for n in range(count)}


async def load(server, name, seconds, *, publishers, posters, **size):
    """Have devices of their own send for so long; return what they report, and what it took."""
    specification = {
        "port": server.port,
        "mqtt_port": server.mqtt_port,
        "publishers": await registered(server, f"{name}-publisher", publishers),
        "posters": await registered(server, f"{name}-poster", posters),
        "seconds": seconds,
        **size,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faults.overload", json.dumps(specification)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=TESTS,
        limit=1 << 28,
    )
    try:
        assert await process.stdout.readline() == b"ready\n"
        before, most, began = server.cpu_seconds(), 0, time.monotonic()
        process.stdin.write(b"\n")
        line = asyncio.create_task(process.stdout.readline())
        while not line.done():
            most = max(most, server.resident_bytes())
            await asyncio.sleep(0.02)
        said, took = line.result(), time.monotonic() - began
        assert said, server.said[-3_000:]
        found = json.loads(said)
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    rows = sum(found["published"].values()) + BATCH * sum(map(len, found["posted"].values()))
    cpu = server.cpu_seconds() - before
    print(
        f"{name}: {rows} rows, {rows / took:.0f}/s, {rows / cpu:.0f}/s of CPU,"
        f" at most {most >> 20} MiB, {found['answers']}"
    )
    return {**found, "cpu": cpu, "most": most}


def taken(found):
    """Return how many messages and how many batches were stored."""
    return sum(found["published"].values()), sum(map(len, found["posted"].values()))


async def latency(server, key):
    """Return how long a post takes, while nobody else sends."""
    seconds = []
    async with server.client({"X-API-Key": key}) as client:
        for n in range(21):
            began = time.perf_counter()
            assert (await client.post("/ingest", json={"n": n})).status_code == 201
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def check_stored(database, reported):
    """Check that what was acknowledged is there, and nothing twice."""
    stored = {}
    for line in database.column(
        "SELECT s.device_id || ' ' || m.value FROM measurement m"
        " JOIN sensor s ON s.number = m.sensor"
    ):
        device, value = line.split(" ", 1)
        stored.setdefault(device, []).append(int(value.strip("{} ").rpartition(":")[2]))
    expected = {device: range(count) for device, count in reported["published"].items()}
    for device, batches in reported["posted"].items():
        expected[device] = [at for n in batches for at in range(n * BATCH, (n + 1) * BATCH)]
    for device, numbers in expected.items():
        found = stored.get(device, [])
        assert len(found) == len(set(found)), device
        assert set(numbers) <= set(found), device


async def test_overload(make_server, database):
    server = await make_server(database.url, SQLITE_CACHE="16MiB", LOG_LEVEL="info")
    probe = await server.device("probe")
    calm = await latency(server, probe)
    before = await load(server, "before", OVERLOAD / 2, **SUSTAINED)
    assert set(before["answers"]) == {"201"}
    lines = server.said.count("\n")
    tenfold = await load(server, "tenfold", OVERLOAD, **TENFOLD)
    lines = server.said.count("\n") - lines
    # Refused until there is room, or not at all.
    assert set(tenfold["answers"]) <= {"201", "503 1"}
    assert await latency(server, probe) < 10 * calm
    # Each by itself: a message takes more than a reading of a batch, and the share of either is
    # another one in overload.
    messages = await load(server, "messages", OVERLOAD / 4, **{**SUSTAINED, "posters": 0})
    batches = await load(server, "batches", OVERLOAD / 4, **{**SUSTAINED, "publishers": 0})
    assert set(batches["answers"]) == {"201"}
    await server.stop()
    assert "Traceback" not in server.said
    for found in (before, tenfold, messages, batches):
        await asyncio.to_thread(check_stored, database, found)
    growth = tenfold["most"] - before["most"]
    print(f"{growth >> 20} MiB more, {lines} lines")
    is_filling = database.engine == "sqlite" and LONG["OVERLOAD"] > OVERLOAD
    cache = CACHE_BYTES if is_filling else 0
    assert growth <= GROWTH_BYTES + cache, f"{growth >> 20} MiB more"
    if LONG["OVERLOAD"] <= OVERLOAD:
        assert tenfold["answers"]["503 1"]
        # By the work that it takes, since the machine has other work too, and beside a table that
        # has grown as far.
        published, posted = taken(tenfold)
        saturated = published * messages["cpu"] / taken(messages)[0]
        saturated += posted * batches["cpu"] / taken(batches)[1]
        print(f"{saturated / tenfold['cpu']:.3f} of the saturated rate")
        assert saturated >= 0.9 * tenfold["cpu"]

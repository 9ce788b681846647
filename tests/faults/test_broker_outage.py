"""PostgreSQL, Mosquitto and the link between are away for a while; the server goes on by itself.

HELIOGRAPH_OUTAGE_SECONDS is how long PostgreSQL stays away; HELIOGRAPH_RESTARTS, HELIOGRAPH_CUTS
and HELIOGRAPH_MESSAGES are the numbers of Mosquitto's restarts, of cuts and of messages.
"""

import asyncio
import collections
import os
import time

import pytest

from faults.database import check_once, values
from faults.process import condition
from faults.proxy import CuttingProxy
from faults.sender import Sender, identified, timed, untimed

OUTAGE_SECONDS = float(os.environ.get("HELIOGRAPH_OUTAGE_SECONDS", "1"))
MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "4000"))
CUTS = int(os.environ.get("HELIOGRAPH_CUTS", "2"))
WINDOW = 30
RESTARTS = int(os.environ.get("HELIOGRAPH_RESTARTS", "1"))
KEEPALIVE = 5
SECONDS = 120


@pytest.fixture
def databases(sqlite_database, postgresql_database):
    """Both engines: what a fault costs in time, it costs once."""
    return [sqlite_database, postgresql_database]


async def linked_servers(make_server, databases, urls, **variables):
    """Return a server over each database, each linked by its URL under an id of its own."""
    return [
        await make_server(
            database.url, MQTT_URL=url, MQTT_LISTEN="", MQTT_CLIENT_ID=database.engine, **variables
        )
        for database, url in zip(databases, urls, strict=True)
    ]


async def load(servers, port, seconds):
    """Return devices of every kind that take so many seconds or more, on a broker's port."""
    count, start = MESSAGES // 3, time.time() - 3_600
    publications = {
        "timed": timed("timed", count, start),
        "identified": identified("identified", count),
        "untimed": untimed("untimed", count),
    }
    pace = seconds * WINDOW / count
    senders = []
    for name, messages in publications.items():
        keys = [await server.device(name) for server in servers]
        senders.append(Sender(port, name, keys[0], messages, window=WINDOW, pace=pace))
    return senders


async def check_all(servers, databases, senders, broker, seconds=SECONDS):
    """Check, with the servers that were started first, that everything is there once."""
    await asyncio.gather(*(server.caught_up(broker.port, seconds) for server in servers))
    repeated = [await server.metric("heliograph_ingest_duplicates_total") for server in servers]
    print(f"{MESSAGES // 3 * 3} messages, handed on twice: {repeated}")
    assert all(server.starts == 1 for server in servers)
    for server, database in zip(servers, databases, strict=True):
        await server.stop()
        for sender in senders:
            check_stored(values(database, sender.device_id), sender)


def start_all(tasks, senders):
    return asyncio.gather(*(tasks.create_task(sender.run()) for sender in senders))


async def progress(senders, share):
    """Wait until the broker has acknowledged a share of everything."""
    wanted = share * sum(len(sender.publications) for sender in senders)
    await condition(
        lambda: sum(len(sender.acknowledged) for sender in senders) >= wanted, what="progress"
    )


def check_stored(stored, sender):
    if sender.device_id == "untimed":
        # What the device itself repeats, for want of the broker's answer, is another message.
        repeated = {sender.values[at] for at in sender.repeated}
        stored = {v: 1 if v in repeated and c == 2 else c for v, c in stored.items()}
    check_once(collections.Counter(stored), sender.values)


async def test_postgresql_crashes_under_load(make_server, broker, stoppable_database):
    cluster = stoppable_database.cluster
    (server,) = await linked_servers(make_server, [stoppable_database], [broker.url])
    senders = await load([server], broker.port, OUTAGE_SECONDS + 1)
    async with asyncio.timeout(SECONDS + OUTAGE_SECONDS), asyncio.TaskGroup() as tasks:
        running = start_all(tasks, senders)
        await progress(senders, 0.25)
        await asyncio.to_thread(cluster.stop, immediate=True)
        assert not running.done(), "the load is too small"
        await server.ready(status=503)
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(cluster.start)
        await server.ready()
        await running
    assert await server.metric("heliograph_broker_connects_total") == 1
    await check_all([server], [stoppable_database], senders, broker)
    assert not any(sender.repeated for sender in senders)


async def test_mosquitto_is_restarted_under_load(make_server, broker, databases):
    servers = await linked_servers(make_server, databases, [broker.url] * 2)
    senders = await load(servers, broker.port, RESTARTS * 0.8)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = start_all(tasks, senders)
        for restart in range(RESTARTS):
            await progress(senders, (restart + 1) / (RESTARTS + 2))
            await asyncio.to_thread(broker.stop)
            assert not running.done(), "the load is too small"
            await asyncio.gather(*(server.ready(status=503) for server in servers))
            await asyncio.to_thread(broker.start)
            await asyncio.gather(*(server.ready() for server in servers))
        await running
    for server in servers:
        assert await server.metric("heliograph_broker_connects_total") == RESTARTS + 1
    await check_all(servers, databases, senders, broker)


async def cut(proxy, seconds):
    proxy.cutting = True
    await condition(lambda: proxy.cuts >= CUTS, seconds, what="cuts")
    proxy.cutting = False


async def test_the_link_is_cut_within_packets(make_server, broker, databases):
    proxies = [CuttingProxy(broker.port, up=(10, 3_000), down=(1, 30_000)) for _ in databases]
    seconds = SECONDS + 10 * CUTS
    async with proxies[0].running(), proxies[1].running():
        urls = [f"mqtt://127.0.0.1:{proxy.port}" for proxy in proxies]
        servers = await linked_servers(make_server, databases, urls)
        senders = await load(servers, broker.port, 1)
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            start_all(tasks, senders)
            await asyncio.gather(*(cut(proxy, seconds) for proxy in proxies))
        await check_all(servers, databases, senders, broker)
    assert not any(sender.repeated for sender in senders)


async def test_the_link_stalls_within_a_packet(make_server, broker, databases):
    """Of no byte and no end only the keepalive tells."""
    proxies = [CuttingProxy(broker.port, up=(50, 9_000), down=(20_000, 60_000)) for _ in databases]
    async with proxies[0].running(), proxies[1].running():
        urls = [f"mqtt://127.0.0.1:{proxy.port}" for proxy in proxies]
        servers = await linked_servers(make_server, databases, urls, MQTT_KEEPALIVE=str(KEEPALIVE))
        senders = await load(servers, broker.port, 0.5)
        for proxy in proxies:
            proxy.stalling = True
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
            await start_all(tasks, senders)
            await condition(lambda: all(proxy.stalls for proxy in proxies), what="stalls")
            for proxy in proxies:
                proxy.stalling = False
        await check_all(servers, databases, senders, broker, 5 * KEEPALIVE)
        # The two write to one file.
        assert servers[0].said.count("the broker has fallen silent") == len(servers)
    assert not any(sender.repeated for sender in senders)

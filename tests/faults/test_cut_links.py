"""Links that are cut in the middle of packets: nothing acknowledged is lost, nothing twice."""

import asyncio
import os
import time

from faults.database import check_once, values
from faults.proxy import CuttingProxy
from faults.sender import Sender, identified, timed, untimed

MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "10000"))
CUTS = 10
SECONDS = 120


async def load(server, port, count):
    """Return senders of every kind that reach the server by the port."""
    start = time.time() - 3_600
    publications = {
        "timed": timed("timed", count, start),
        "identified": identified("identified", count),
        "untimed": untimed("untimed", count),
    }
    return [
        Sender(port, name, await server.device(name), messages, window=100)
        for name, messages in publications.items()
    ]


async def run(senders):
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for sender in senders:
            tasks.create_task(sender.run())


async def test_links_of_devices(server, database):
    proxy = CuttingProxy(server.mqtt_port, up=(400, 60_000), down=(100, 1_500))
    async with proxy.running():
        proxy.cutting = True
        senders = await load(server, proxy.port, MESSAGES // 6)
        await run(senders)

    assert proxy.cuts >= CUTS
    assert server.is_running()
    await server.stop()
    print(f"{proxy.cuts} cuts, {MESSAGES // 6 * 3} messages")
    for sender in senders:
        check_once(values(database, sender.device_id), sender.values)


async def test_link_to_postgresql(make_server, postgresql_database):
    database = postgresql_database
    # A batch that comes again after an ambiguous commit takes 69,000 bytes up and 12,000 down.
    proxy = CuttingProxy(database.cluster.port, up=(8_000, 150_000), down=(2_000, 40_000))
    async with proxy.running():
        url = database.url.replace(f":{database.cluster.port}/", f":{proxy.port}/")
        server = await make_server(url)
        senders = await load(server, server.mqtt_port, MESSAGES // 3)
        proxy.cutting = True
        await run(senders)
        proxy.cutting = False
        await server.ready()
        assert server.starts == 1
        await server.stop()

    assert proxy.cuts >= CUTS / 2
    print(f"{proxy.cuts} cuts, {MESSAGES // 3 * 3} messages")
    for sender in senders:
        check_once(values(database, sender.device_id), sender.values)
        assert sender.connections == 1, "a device's connection was dropped"

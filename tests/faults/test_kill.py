"""`kill -9` of the server in the middle of a load: nothing acknowledged is lost, nothing twice.

HELIOGRAPH_KILLS is the number of kills a run, HELIOGRAPH_MESSAGES that of messages.
"""

import asyncio
import os
import random
import time

from faults.database import check_once, values
from faults.http_sender import HttpSender
from faults.sender import Sender, identified, timed, untimed

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "2"))
MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "3000"))
LONG = {"KILLS": 3, "MESSAGES": 10_000}
SECONDS = 120


async def kill_meanwhile(server, senders, total):
    """Kill and restart at random points of progress, until everything is acknowledged."""
    killed = asyncio.Event()
    point = left = 0

    def choose():
        nonlocal point, left
        left = KILLS - (server.starts - 1)
        acknowledged = sum(len(sender.acknowledged) for sender in senders)
        gap = random.uniform(0.1, 1.2) * (total - acknowledged) / (left + 1)
        point = acknowledged + max(1, int(gap))

    def progress(_count):
        acknowledged = sum(len(sender.acknowledged) for sender in senders)
        if killed.is_set() or not left or acknowledged < point:
            return
        # Sometimes wherever it is, sometimes between commits and what the clients hear of them.
        if random.random() < 0.5:
            time.sleep(random.uniform(0, 0.02))
            for sender in senders:
                sender.cut()
        server.kill()
        killed.set()

    async def revive():
        while True:
            await killed.wait()
            await server.ended()
            await server.start()
            choose()
            killed.clear()

    choose()
    for sender in senders:
        sender.on_progress = progress
    reviving = asyncio.create_task(revive())
    try:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
            for sender in senders:
                tasks.create_task(sender.run())
    except TimeoutError:
        counts = [(len(sender.acknowledged), len(sender.values)) for sender in senders]
        raise AssertionError(f"the load did not end: {counts}, {server.said[-2000:]}") from None
    finally:
        reviving.cancel()
    repeated = sum(len(sender.repeated) for sender in senders)
    print(f"{server.starts - 1} kills, {total} messages, {repeated} repeated")
    # Two points of progress may fall into one life of a fast server.
    assert server.starts - 1 >= max(1, KILLS // 2)


async def test_kills_during_a_qos_1_load(server, database):
    count = MESSAGES // 6
    start = time.time() - 3_600
    makes = {
        "timed": lambda name: timed(name, count, start),
        "identified": lambda name: identified(name, count),
        "untimed": lambda name: untimed(name, count),
        "timed-again": lambda name: timed(name, count, start),
        "identified-again": lambda name: identified(name, count),
        "untimed-again": lambda name: untimed(name, count),
    }
    senders = [
        Sender(
            server.mqtt_port,
            name,
            await server.device(name),
            make(name),
            window=30,
            renumber=name.endswith("-again"),
        )
        for name, make in makes.items()
    ]

    await kill_meanwhile(server, senders, count * len(senders))

    await server.stop()
    for sender in senders:
        stored = values(database, sender.device_id)
        if sender.device_id == "untimed-again":
            # What the client itself repeats under another packet id is another message.
            repeated = {sender.values[at] for at in sender.repeated}
            stored = {v: 1 if v in repeated and c > 1 else c for v, c in stored.items()}
        check_once(stored, sender.values)
    assert any(sender.repeated for sender in senders)


async def test_kills_during_posts(server, database):
    senders = {
        name: HttpSender(
            server.port, await server.device(name), MESSAGES // 5, idempotent=name == "keyed"
        )
        for name in ("timed", "keyed")
    }

    await kill_meanwhile(server, list(senders.values()), MESSAGES // 5 * 2)

    await server.stop()
    for name, sender in senders.items():
        check_once(values(database, name), sender.values)

"""`kill -9` of the server under load through Mosquitto: all that Mosquitto acknowledged is there.

HELIOGRAPH_KILLS is the number of kills a run, HELIOGRAPH_MESSAGES that of messages.
"""

import asyncio
import os
import random
import time

from faults.database import check_once, values
from faults.sender import Sender, identified, timed, untimed

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "1"))
MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "3000"))
LONG = {"KILLS": 3, "MESSAGES": 10_000}
KINDS = {
    "timed": lambda count: timed("timed", count, time.time() - 3_600),
    "identified": lambda count: identified("identified", count),
    "untimed": lambda count: untimed("untimed", count),
}
SECONDS = 120


async def send(senders):
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        for sender in senders:
            tasks.create_task(sender.run())


def kill_within(server, senders):
    """Kill the server once the broker has acknowledged so much; the load goes on meanwhile."""
    point = random.randint(1, sum(len(sender.publications) for sender in senders) * 9 // 10)
    acknowledged = []

    def progress(_count):
        if acknowledged or sum(len(sender.acknowledged) for sender in senders) < point:
            return
        # Sometimes wherever it is, sometimes when the broker is hardly ahead of it.
        if random.random() < 0.5:
            time.sleep(random.uniform(0, 0.01))
        server.kill()
        acknowledged.append(sum(len(sender.acknowledged) for sender in senders))

    for sender in senders:
        sender.on_progress = progress
    return acknowledged


def stored_count(database):
    return int(database.column("SELECT count(*) FROM measurement")[0])


async def test_kills_of_the_server_during_a_qos_1_load(linked, broker, database):
    server = linked
    publications = {name: make(MESSAGES // len(KINDS)) for name, make in KINDS.items()}
    keys = {name: await server.device(name) for name in publications}
    sent = under_way = repeated = 0
    for life in range(KILLS + 1):
        share = slice(
            MESSAGES // 3 * life // (KILLS + 1), MESSAGES // 3 * (life + 1) // (KILLS + 1)
        )
        senders = [
            Sender(broker.port, name, keys[name], messages[share], window=30)
            for name, messages in publications.items()
        ]
        killed_at = kill_within(server, senders) if life < KILLS else []
        await send(senders)
        # The broker never was away: the senders repeat nothing.
        assert [sender.connections for sender in senders] == [1, 1, 1]
        if killed_at:
            await server.ended()
            under_way += stored_count(database) < sent + killed_at[0]
            await server.start()
            repeated += await server.metric("heliograph_ingest_duplicates_total")
        sent += sum(len(sender.publications) for sender in senders)

    await server.caught_up(broker.port)
    await server.stop()
    print(
        f"{server.starts - 1} kills, {under_way} with messages under way, {sent} messages,"
        f" {repeated:.0f} handed on twice"
    )
    assert server.starts == KILLS + 1
    for name, messages in publications.items():
        check_once(values(database, name), [message.value for message in messages])

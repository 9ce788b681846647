"""`kill -9` of Mosquitto under load: what it had acknowledged and not handed on is its own promise.

HELIOGRAPH_KILLS is the number of kills a run, HELIOGRAPH_MESSAGES that of messages.
"""

import asyncio
import os
import time

import pytest

from broker import PLAIN, running_mosquitto
from faults.database import values
from faults.process import condition
from faults.sender import Sender, timed

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "1"))
MESSAGES = int(os.environ.get("HELIOGRAPH_MESSAGES", "600"))
OPTIONS = {
    "nothing saved": PLAIN,
    "session saved": PLAIN,
    "each change saved": f"{PLAIN}autosave_on_changes true\nautosave_interval 1\n",
}
WINDOW = 50
SECONDS = 120


def kill_within(sender, broker):
    """Kill the broker once it has acknowledged half; return what it had acknowledged then."""
    acknowledged = set()

    def progress(count):
        if not acknowledged and count >= len(sender.publications) // 2:
            broker.kill()
            acknowledged.update(sender.acknowledged_values)

    sender.on_progress = progress
    return acknowledged


@pytest.mark.parametrize("saving", OPTIONS)
async def test_kills_of_mosquitto(make_server, sqlite_database, saving):
    database = sqlite_database
    messages = timed("timed", MESSAGES, time.time() - 3_600)
    acknowledged = set()
    with running_mosquitto(OPTIONS[saving]) as broker:
        server = await make_server(database.url, MQTT_URL=broker.url, MQTT_LISTEN="")
        key = await server.device("timed")
        if saving == "session saved":
            broker.stop()
            broker.start()
            await server.ready()
        for kill in range(KILLS):
            share = messages[MESSAGES * kill // KILLS : MESSAGES * (kill + 1) // KILLS]
            sender = Sender(broker.port, "timed", key, share, window=WINDOW)
            before = kill_within(sender, broker)
            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
                tasks.create_task(sender.run())
                await condition(lambda before=before: before, what="a kill")
                stored = values(database, "timed")
                await server.ready(status=503)
                await asyncio.to_thread(broker.start)
            await server.ready()
            assert stored.keys() <= values(database, "timed").keys(), "what was stored stays"
            acknowledged |= before
        await server.caught_up(broker.port)
        assert server.starts == 1
        await server.stop()
    found = values(database, "timed")
    expected = {message.value for message in messages}
    lost = expected - found.keys()
    print(
        f"{saving}: {KILLS} kills, {MESSAGES} messages, {len(lost)} lost, of these"
        f" {len(lost & acknowledged)} acknowledged before a kill"
    )
    assert found.keys() <= expected
    assert max(found.values()) == 1
    if saving != "nothing saved":
        # Else the broker has forgotten that there is anybody to keep them for.
        assert lost <= acknowledged, "what came after the kill is lost"
    if saving == "each change saved":
        # It acknowledges first and saves then: a pass of its loop lies between the two.
        assert len(lost) <= WINDOW * KILLS

"""SIGTERM under load: what was read is committed and acknowledged, or will be sent again."""

import asyncio
import time

from faults.database import check_once, values
from faults.http_sender import HttpSender
from faults.process import condition
from faults.sender import Sender, timed, untimed

# Twice as many as are sent until the server has ended, and more.
MESSAGES = 8_000
SECONDS = 90


async def test_stops_cleanly_under_load(server, database):
    start = time.time() - 3_600
    senders = [
        Sender(server.mqtt_port, "timed", await server.device("timed"),
               timed("timed", MESSAGES, start), window=300),
        Sender(server.mqtt_port, "untimed", await server.device("untimed"),
               untimed("untimed", MESSAGES), window=300),
    ]  # fmt: skip
    poster = HttpSender(server.port, await server.device("posting"), 1_500, idempotent=False)
    everyone = [*senders, poster]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(sender.run()) for sender in everyone]
        await condition(lambda: all(len(s.acknowledged) >= 50 for s in everyone), what="progress")
        server.terminate()
        assert await server.ended() == 0, server.said[-2_000:]
        await asyncio.sleep(0)
        assert not any(task.done() for task in running), "the load is too small"
        acknowledged = [(s, [s.values[at] for at in s.acknowledged]) for s in everyone]
        for sender, names in zip(everyone, ("timed", "untimed", "posting"), strict=True):
            stored = values(database, names)
            known = next(texts for one, texts in acknowledged if one is sender)
            assert not set(known) - stored.keys(), "what was acknowledged is lost"
            assert not [value for value, count in stored.items() if count > 1]
        await server.start()
    await server.stop()
    for sender in senders:
        check_once(values(database, sender.device_id), sender.values)
    check_once(values(database, "posting"), poster.values)

"""Many times what the server can take, at once: memory is bounded, nothing acknowledged is lost.

HELIOGRAPH_FLOOD is the number of messages.
"""

import asyncio
import os
import time

from faults.database import values
from faults.sender import Sender, timed

FLOOD = int(os.environ.get("HELIOGRAPH_FLOOD", "48000"))
LONG = {"FLOOD": 120_000}
CONNECTIONS = 6
GROWTH_BYTES = 64 << 20
SECONDS = 120


async def test_memory_is_bounded(server, database):
    start = time.time() - 3_600
    count = FLOOD // CONNECTIONS
    senders = []
    for at in range(CONNECTIONS):
        name = f"flood-{at}"
        messages = timed(name, count, start)
        # All that MQTT's packet ids allow is under way at once.
        senders.append(
            Sender(server.mqtt_port, name, await server.device(name), messages, window=65_000)
        )
    idle = server.resident_bytes()
    most = idle
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(sender.run()) for sender in senders]
        while not all(task.done() for task in running):
            most = max(most, server.resident_bytes())
            await asyncio.sleep(0.02)
    growth = most - idle
    print(f"{FLOOD} messages, {idle >> 20} MiB idle, {growth >> 20} MiB more at most")
    await server.stop()
    for sender in senders:
        stored = values(database, sender.device_id)
        assert stored == dict.fromkeys(sender.values, 1)
    assert growth <= GROWTH_BYTES, f"{growth >> 20} MiB over idle"

"""A backup in the middle of a load: all acknowledged before it is in it, once, and a prefix."""

import asyncio

from faults.http_sender import HttpSender

COUNT = 20_000
BEFORE = 40
SENDERS = 3
LONG = {"BEFORE": 2_000}


async def test_everything_acknowledged_before_is_in_it(server, database, other, run_command):
    senders = []
    for number in range(SENDERS):
        key = await server.device(f"device-{number}")
        # One connection each: what a sender sends next it sends once the last is acknowledged.
        senders.append(HttpSender(server.port, key, COUNT, idempotent=False, connections=1))
    load = [asyncio.create_task(sender.run()) for sender in senders]

    async def acknowledged(count):
        while any(len(sender.acknowledged) < count for sender in senders):
            assert not any(task.done() for task in load)
            await asyncio.sleep(0.005)

    await acknowledged(BEFORE)
    before = [set(sender.acknowledged) for sender in senders]
    await run_command("backup", "backup", url=database.url)
    during = [len(sender.acknowledged) for sender in senders]
    # The load has gone on meanwhile.
    assert sum(during) > sum(map(len, before))
    await acknowledged(max(during) + 1)
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)

    await run_command("restore", "backup", url=other.url)
    for number, sent in enumerate(before):
        stored = await asyncio.to_thread(
            other.column,
            "SELECT value FROM measurement JOIN sensor ON sensor.number = measurement.sensor"
            f" WHERE sensor.device_id = 'device-{number}' ORDER BY measurement.id",
        )
        values = [int(value.strip("{} ").rpartition(":")[2]) for value in stored]
        assert values == list(range(len(values)))
        assert len(values) >= len(sent)

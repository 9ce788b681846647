"""Packing while devices send, and what ends it anywhere: nothing is lost, nothing is there twice.

HELIOGRAPH_KILLS is the number of kills, HELIOGRAPH_READINGS that of each device's messages.
"""

import asyncio
import os

from faults.packing import check_readings, readings, send

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "2"))
READINGS = int(os.environ.get("HELIOGRAPH_READINGS", "300"))
LONG = {"KILLS": 50, "READINGS": 3_000, "SECONDS": 900}
SECONDS = 60


async def test_kills_while_it_packs(make_packing, database):
    server = await make_packing(database.url, kills=KILLS)
    sent = readings(READINGS)
    # It kills itself in the first transactions that pack: not before all devices are there.
    alive = asyncio.create_task(server.keep_alive())
    await send(server, sent, times=2)
    await server.packed(database, sum(each.left for each in sent), SECONDS)
    alive.cancel()
    await server.stop()
    await check_readings(database.url, sent)

"""The disk beneath the packer: copied while it works, and full."""

import asyncio

from faults.full_disk import fill
from faults.packing import check_readings, readings, rows_left, send
from faults.process import condition

SECONDS = 120
FEW = 300


async def test_a_backup_while_it_packs_has_each_row_once(
    make_packing, database, other, run_command
):
    server = await make_packing(database.url)
    sent = readings(FEW)
    server.allow(0)
    await send(server, sent, times=1)
    server.allow(2)
    await condition(lambda: rows_left(database) < 3 * FEW, SECONDS, "some are packed")
    backup = asyncio.create_task(run_command("backup", "backup", url=database.url))
    server.allow(1 << 60)
    await backup
    await server.packed(database, sum(each.left for each in sent), SECONDS)
    await run_command("restore", "backup", url=other.url)
    await check_readings(other.url, sent)
    await server.stop()
    await check_readings(database.url, sent)


async def test_a_full_disk_while_it_packs(make_packing, database_on_small_disk, small_disk):
    database = database_on_small_disk
    server = await make_packing(database.url)
    sent = readings(FEW)
    server.allow(0)
    await send(server, sent, times=1)

    async def is_rolled_up():
        marks = await server.metric("heliograph_rollup_late_marks")
        return not marks and await server.metric("heliograph_rollup_stored_total") > 0

    # On a full disk no rows would be, and none be packed.
    await condition(is_rolled_up, SECONDS, "the rollups")
    # Its log is short when it starts again.
    await server.stop()
    await server.start()
    ballast = fill(small_disk)
    server.allow(1 << 60)

    async def has_failed():
        return await server.metric("heliograph_packing_failures_total") > 0

    await condition(has_failed, SECONDS, "a run that has failed")
    ballast.unlink()
    await server.ready()
    await server.packed(database, sum(each.left for each in sent), SECONDS)
    await server.stop()
    await check_readings(database.url, sent)

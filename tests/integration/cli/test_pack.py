"""`heliograph pack`, on a database that no server uses."""

import asyncio
import contextlib
import sqlite3
import uuid

from commands import called
from heliograph.model.time import DAY, MINUTE
from heliograph.rollups.task import Rolling
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, measurement


async def fill(url):
    store = await open_store(url)
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    rows = [measurement(sensor.number, NOON - 3 * DAY + at * MINUTE) for at in range(2 * 1_440)]
    await store.write(Batch(measurements=rows))

    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    await rolling.redo(await rolling.newest_mark())
    await store.close()


def test_what_has_ended_by_then_is_packed(sqlite_url, tmp_path):
    asyncio.run(fill(sqlite_url))

    def packed(*arguments):
        result = called(
            "pack", *arguments, environment={"DATABASE_URL": sqlite_url}, folder=tmp_path
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[-1]

    # Half a day has too few rows for a piece, and waits for its week.
    assert packed("--until", "2026-01-14T12:00:00Z") == "packed 1,440 measurements"
    assert packed("--until", "2026-01-15T12:00:00Z") == "packed 1,439 measurements"
    assert packed() == "packed 0 measurements"


def test_an_export_says_what_is_damaged_and_has_all_else(sqlite_url, tmp_path):
    asyncio.run(fill(sqlite_url))
    environment = {"DATABASE_URL": sqlite_url}
    called("pack", "--until", "2026-01-14T12:00:00Z", environment=environment, folder=tmp_path)
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        with connection:
            connection.execute("UPDATE chunk SET body = zeroblob(length(body))")
        [(number,)] = connection.execute("SELECT id FROM chunk")
    result = called("export", "all.csv", environment=environment, folder=tmp_path)
    assert result.returncode == 1
    assert f"damaged chunks: {number}" in result.stderr
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 1_440

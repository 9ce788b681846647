"""Room that SQLite's file no longer needs: it is given back, a little at a time or all at once."""

import asyncio
import contextlib
import shutil
import sqlite3

import pytest

from commands import called
from heliograph.store import open_store, sqlite
from heliograph.store.engine import Batch
from rows import NOON, measurement


@pytest.fixture
def url(tmp_path, monkeypatch, sqlite_template):
    monkeypatch.setattr(sqlite, "KEPT_PAGES", 20)
    shutil.copy(sqlite_template, tmp_path / "h.db")
    return f"sqlite:///{tmp_path / 'h.db'}"


@contextlib.asynccontextmanager
async def emptied(url):
    """Give an open store of which most has been deleted."""
    store = await open_store(url)
    try:
        sensor = (await store.sensors.create(identifier="s", created_at=1)).number
        rows = [measurement(sensor, NOON + at, "x" * 1_000) for at in range(1_500)]
        await store.write(Batch(measurements=rows))
        while (prepared := await store.chunks.prepare(sensor, NOON, NOON + 1_400)) is not None:
            await store.chunks.put([prepared])
        await store.engine.empty_log()
        yield store
    finally:
        await store.close()


async def test_a_new_file_is_shortened_in_steps_but_for_what_new_rows_take(url, tmp_path):
    path = tmp_path / "h.db"
    async with emptied(url) as store:
        while await store.engine.sweep():
            pass
        before = path.stat().st_size
        steps = 1
        while await store.removal.shorten():
            steps += 1
        await store.engine.empty_log()
        after = path.stat().st_size
        assert steps > 1
        assert after < before / 2
        assert not await store.removal.shorten()
        page = await store.measurements.page(1, key=0, limit=2_000)
        assert len(page) == 1_500
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        [(free,)] = connection.execute("PRAGMA freelist_count")
    assert 0 < free <= after // 4_096 // sqlite.KEPT_SHARE + 20


async def test_an_older_file_is_compacted_and_then_shortened(url, tmp_path):
    path = tmp_path / "h.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    async with emptied(url) as store:
        assert not await store.removal.shorten()
    before = path.stat().st_size
    environment = {"DATABASE_URL": url}
    done = await asyncio.to_thread(called, "compact", environment=environment, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{before:,} bytes before" in done.stdout
    assert path.stat().st_size < before / 2
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)

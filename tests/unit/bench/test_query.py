"""What the benchmarks of queries ask for, and how what they ask of is made."""

import asyncio
import contextlib
import shutil
import sqlite3

import pytest
from bench import query
from bench.bare_query import LATEST, NEWEST, RANGE, ROLLUPS, open_query
from bench.catalogue import catalogue, chosen
from bench.scale import QUICK, Profile
from bench.server_schema import fill_sqlite
from bench.stored_rows import StoredRows
from hypothesis import given
from hypothesis import strategies as st

from heliograph.store import migrate

WIDTH = 9 * 3_600 * 1_000_000
START = 1_700_000_000_000_000
ROWS = StoredRows(Profile("left", 2, 5, step=1_000_000, left=True), START)


@given(st.integers(0, 1 << 50), st.integers(WIDTH * 2, WIDTH * 2_000))
def test_the_buckets_are_whole_and_stored(oldest, span):
    start, end = query.whole_buckets(oldest, oldest + span)
    assert start % WIDTH == end % WIDTH == 0
    assert oldest <= start < end <= oldest + span
    assert (end - start) // WIDTH in (query.BUCKETS, span // WIDTH, span // WIDTH - 1)
    assert (end - start) // WIDTH <= query.BUCKETS


def test_the_groups_are_chosen_by_their_names():
    names = list(catalogue())
    assert chosen(["query"], names) == [
        *("query-year", "query-year-all", "query-chart", "query-deep-page"),
        *("query-newest", "query-rollup-cost", "query-export", "query-export-memory"),
    ]
    live = {"live-fan-out", "live-fan-out-4", "live-idle-viewer", "live-stalled-p99"}
    assert live <= set(chosen(["live"], names))


def test_a_quick_year_has_buckets():
    assert QUICK.year.rows * QUICK.year.step > 2 * WIDTH


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return a file with the server's schema and the rows."""
    path = tmp_path_factory.mktemp("filled") / "rows.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        fill_sqlite(database, ROWS)
    return path


def test_what_is_left_to_be_rolled_up_is_all_there_is(filled, tmp_path):
    with contextlib.closing(sqlite3.connect(shutil.copy(filled, tmp_path))) as database:
        ranges = database.execute("SELECT * FROM rollup_backlog ORDER BY sensor").fetchall()
        (frontier,) = database.execute("SELECT frontier FROM rollup_state").fetchone()
    hour = 3_600_000_000
    assert ranges == [(sensor, START // hour * hour, frontier) for sensor in (1, 2)]


async def test_the_bare_queries_find_what_they_are_to_find(filled):
    bare = await open_query(str(filled))
    try:
        times = [START + index * 1_000_000 for index in range(0, 10, 2)]
        found = await bare.read(RANGE, 1, START, times[-1])
        assert [row[0] for row in found] == times[:-1]
        newest = await bare.read(NEWEST)
        assert [row[0] for row in newest] == [times[-1], times[-1] + 1_000_000]
        assert [tuple(row) for row in newest[:1]] == [
            tuple(row) for row in await bare.read(LATEST, 1)
        ]
        assert await bare.read(ROLLUPS, 1, 0, START) == []
    finally:
        await bare.close()

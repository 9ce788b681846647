"""Benchmarks of reading: a year in buckets, a week for a chart, pages, newest values.

The year of one sensor, a row a second on SQLite, takes some gigabytes; it is made once, rolled up
by the server itself, and used where it lies: nothing is written to it.
"""

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator

from bench.databases import Database
from bench.packets import identifier
from bench.result import Goal, Result, Sample, alternate, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError
from bench.stored_rows import middle

# What a year takes, and once more while it is made.
SPACE = 12 << 30
YEAR = Goal(20, "figure", "at most")
CHART = Goal(2.0, "ratio", "at most")
PAGE = Goal(1.5, "ratio", "at most")
NEWEST = Goal(15, "figure", "at most")
SENSOR = f"/sensors/{identifier(1)}"
SECOND = 1_000_000
BUCKET_HOURS = 9
BUCKETS = 973
WEEK = 7 * 86_400 * SECOND
POINTS = 1_000
OF_THE_YEAR = frozenset(("query-year", "query-year-all", "query-chart", "query-deep-page"))
ROWS_OF_A_PAGE = 64
ROLLUP_TIMEOUT = 3 * 3_600.0
ROLLUP_POLL = 0.5

Asking = Callable[[Database], tuple[str, str]]


def year(name: str, attribute: str | None) -> Callable[[Workbench], Result]:
    """Return the benchmark of a year in buckets of nine hours, of one attribute or of all three.

    The ceiling reads the rollups that it takes, and does nothing with them.
    """

    def asked(database: Database) -> tuple[str, str]:
        start, end = whole_buckets(*database.times())
        span = f"start={start / SECOND}&end={end / SECOND}"
        path = f"{SENSOR}/aggregates?bucket={BUCKET_HOURS}h&{span}"
        return path + (f"&attribute={attribute}" if attribute else ""), f"/rollups?{span}"

    def run(bench: Workbench) -> Result:
        with of_the_year(bench) as database:
            return _compared(bench, name, YEAR, database, asked, samples=100)

    return run


def chart(bench: Workbench) -> Result:
    """Return how long a week takes of which a chart is to show a thousand points.

    The ceiling reads all of its rows.
    """

    def asked(database: Database) -> tuple[str, str]:
        oldest, newest = database.times()
        end = oldest + (newest - oldest) // 2
        span = f"start={max(oldest, end - WEEK) / SECOND}&end={end / SECOND}"
        return (
            f"{SENSOR}/measurements?attribute=temperature&points={POINTS}&{span}",
            f"/range?{span}",
        )

    with of_the_year(bench) as database:
        return _compared(bench, "query-chart", CHART, database, asked, samples=5)


def deep_page(bench: Workbench) -> Result:
    """Return how long a page from anywhere in the middle of the year takes."""

    def asked(_: Database) -> tuple[str, str]:
        page = f"creation_timestamp={{key}}&limit={ROWS_OF_A_PAGE}"
        return f"{SENSOR}/measurements?{page}", f"/page?{page}"

    with of_the_year(bench) as database:
        return _compared(bench, "query-deep-page", PAGE, database, asked, bench.scale.samples)


def newest_of_network(bench: Workbench) -> Result:
    """Return how long the newest values of all sensors take.

    The ceiling asks the database for the newest row of each.
    """

    def asked(database: Database) -> tuple[str, str]:
        network = database.text("SELECT identifier FROM network WHERE name = 'default'")
        sensors = database.profile.sensors
        return f"/networks/{network}/latest?limit={sensors}", "/newest"

    with bench.database("sqlite", bench.scale.standard, bare=False) as database:
        return _compared(bench, "query-newest", NEWEST, database, asked, samples=30)


def whole_buckets(oldest: int, newest: int) -> tuple[int, int]:
    """Return the newest range of whole buckets that lies between the times; as many as goal."""
    width = BUCKET_HOURS * 3_600 * SECOND
    end = newest // width * width
    count = min(BUCKETS, (end - oldest) // width)
    return end - max(1, count) * width, end


def settle(side: Side) -> float:
    """Wait until the server has rolled up all that lies behind; return the seconds it took."""
    started = time.monotonic()
    while side.database.count("rollup_backlog") or side.database.count("touched"):
        if time.monotonic() - started > ROLLUP_TIMEOUT:
            raise LoadError("the rollups do not get ready")
        time.sleep(ROLLUP_POLL)
    return time.monotonic() - started


@contextlib.contextmanager
def of_the_year(bench: Workbench) -> Iterator[Database]:
    """Yield the year's rows, rolled up, to be read."""
    with bench.in_place(bench.scale.year) as database:
        if database.count("rollup_backlog"):
            with bench.serving(database) as side:
                settle(side)
            _rest(database)
        yield database


def _rest(database: Database) -> None:
    """Let a file that has been written to be as one that is opened."""
    with contextlib.closing(sqlite3.connect(database.address, timeout=30)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def history_page(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of a page from the middle of a long history."""
    page = f"creation_timestamp={{key}}&limit={ROWS_OF_A_PAGE}"
    return _of_long_history(name, engine, f"{SENSOR}/measurements?{page}", f"/page?{page}")


def last_value(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of the newest value of each attribute."""
    return _of_long_history(name, engine, f"{SENSOR}/latest", "/latest")


def _of_long_history(name: str, engine: str, *paths: str) -> Callable[[Workbench], Result]:
    def run(bench: Workbench) -> Result:
        with bench.database(engine, bench.scale.deep, bare=False) as database:
            samples = bench.scale.samples
            return _compared(bench, name, PAGE, database, lambda _: (paths[0], paths[1]), samples)

    return run


def _compared(
    bench: Workbench, name: str, goal: Goal, database: Database, asked: Asking, samples: int
) -> Result:
    """Return the medians of the server's route and of the bare one, over one database."""
    count = min(samples, bench.scale.samples)
    paths = asked(database)
    keys = middle(*database.times())
    with bench.serving(database) as server, bench.beside("bare_http", database, "--reads") as bare:

        def measure(side: Side, path: str) -> Sample:
            with Load(
                "http_load",
                mode="latency",
                port=side.http_port,
                path=path,
                key=ADMIN_KEY,
                keys=keys,
                samples=count,
                warm_up=min(50, count),
            ) as load:
                found, spent = load.measured(side.process)
            latencies = sorted(found["latencies"])
            return Sample(
                statistics.median(latencies),
                spent / count * 100_000,
                {"p99": percentile(latencies, 0.99), "bytes": found["bytes"]},
            )

        sides = alternate(
            bench.scale.rounds, lambda: measure(server, paths[0]), lambda: measure(bare, paths[1])
        )
    return Result(name, "ms", goal, *sides)

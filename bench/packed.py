"""Benchmarks of packed history: what a row takes, and what it takes to read it.

Reading is measured over HTTP, in CPU milliseconds of the server; the ceiling is InfluxDB's for the
like, where it is installed, over the same rows. The databases are made as the packer makes them, a
chunk an hour, rolled up by the server itself, and used where they lie. What a row takes is measured
of rows that `heliograph pack` has packed.
"""

import contextlib
import itertools
import resource
import sqlite3
import statistics
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg

from bench import packed_rows, stored_rows, transfers
from bench.databases import Database
from bench.processes import Measured, Watch
from bench.programs import influxd
from bench.query import BUCKET_HOURS, SECOND, SENSOR, settle, whole_buckets
from bench.requests import DATABASE, device_id
from bench.result import Goal, Result, Sample, alternate
from bench.scale import Profile
from bench.sides import ADMIN_KEY, Workbench
from bench.starting_line import WORK, Load, LoadError
from bench.stored_rows import COMMAND, StoredRows, make_partitions, middle, server_environment
from heliograph.model.time import DAY

ENGINES = ("sqlite", "postgresql")
BYTES = Goal(7, "figure", "at most")
MEMORY = Goal(100, "figure", "at most")
EXPORT = Goal(0.8)
# What is read at a time to be inserted.
ROWS_AT_ONCE = 10_000
MEAN = "count(temperature),mean(temperature),min(temperature),max(temperature),last(temperature)"


class Density(NamedTuple):
    """How many sensors measure how often, in one of so many parts of the days."""

    sensors: int
    step: int
    part: int = 1
    doubles: bool = False
    goal: Goal | None = BYTES


DENSITIES = {
    "1hz": Density(1, SECOND, part=10),
    "1min": Density(10, 60 * SECOND),
    "10min": Density(100, 600 * SECOND),
    "doubles": Density(1, SECOND, part=10, doubles=True, goal=None),
}


class Read(NamedTuple):
    """A request, its goal in milliseconds (None: it has none over HTTP), and how often it is sent.

    `path` and `peer` are made of the times of the rows; `peer` is what InfluxDB is asked, if it has
    the like.
    """

    goal: float | None
    samples: int
    path: Callable[[int, int], str]
    peer: Callable[[int, int], str] | None = None
    of_year: bool = False


def _buckets(span: int, width: str) -> Read:
    """Return the read of a span (microseconds) in buckets of one attribute."""

    def times(oldest: int, newest: int) -> tuple[int, int]:
        # Not at whole minutes, as a chart's range is.
        end = newest - (newest - oldest) // 20
        return max(oldest, end - span), end

    def path(*ends: int) -> str:
        return _aggregates(width, *times(*ends), "temperature")

    def peer(*ends: int) -> str:
        start, end = times(*ends)
        return _select(MEAN, f"{_between(start, end)} GROUP BY time({width})")

    return Read(0, 0, path, peer)


def _aggregates(width: str, start: int, end: int, attribute: str | None) -> str:
    path = f"{SENSOR}/aggregates?bucket={width}&start={start / SECOND}&end={end / SECOND}"
    return path + (f"&attribute={attribute}" if attribute else "")


def _of_year(attribute: str | None) -> Callable[[int, int], str]:
    width = f"{BUCKET_HOURS}h"
    return lambda *ends: _aggregates(width, *whole_buckets(*ends), attribute)


def _points(start: int, end: int) -> str:
    span = f"start={start / SECOND}&end={end / SECOND}"
    return f"{SENSOR}/measurements?attribute=temperature&points=1000&{span}"


def _least_and_greatest(start: int, end: int) -> str:
    width = f"{(end - start) // 500_000}ms"
    wanted = "min(temperature),max(temperature)"
    return _select(wanted, f"{_between(start, end)} GROUP BY time({width})")


def _page(limit: int) -> Read:
    return Read(
        None,
        0,
        lambda *_: f"{SENSOR}/measurements?creation_timestamp={{key}}&limit={limit}",
        lambda *_: _select("*", f"time >= {{key:.0f}}s LIMIT {limit}"),
    )


def _between(start: int, end: int) -> str:
    return f"time >= {start}u AND time < {end}u"


def _select(wanted: str, behind: str) -> str:
    query = f"SELECT {wanted} FROM reading WHERE device_id='{device_id(1)}' AND {behind}"
    text = urllib.parse.quote(query, safe="{}:")
    return f"/query?db={DATABASE}&epoch=u&q={text.replace('%7B', '{').replace('%7D', '}')}"


READS = {
    "day": _buckets(DAY, "90s")._replace(goal=10, samples=100),
    "week": _buckets(7 * DAY, "605s")._replace(goal=30, samples=40),
    "month": _buckets(30 * DAY, "2600s")._replace(goal=90, samples=15),
    "year": Read(13, 50, _of_year("temperature"), of_year=True),
    "year-all": Read(20, 50, _of_year(None), of_year=True),
    "points-month": Read(200, 5, _points, _least_and_greatest),
    "points-year": Read(1_200, 3, _points, of_year=True),
    "page-64": _page(64)._replace(samples=400),
    "page-1000": _page(1_000)._replace(samples=150),
}


def kinds() -> dict[str, Callable[[Workbench], Result]]:
    """Return the benchmarks by name."""
    found = {f"packed-{name}": _reading(f"packed-{name}", read) for name, read in READS.items()}
    found["packed-points-year-memory"] = memory
    found["packed-export-csv"] = exporting
    for engine, (kind, density) in itertools.product(ENGINES, DENSITIES.items()):
        name = f"packed-bytes-{engine}-{kind}"
        found[name] = _packing(name, engine, density)
    return found


@contextlib.contextmanager
def _of(bench: Workbench, profile: Profile) -> Iterator[Database]:
    """Yield packed rows, rolled up, to be read."""
    with bench.in_place(profile) as database:
        if database.count("rollup_backlog"):
            with bench.serving(database, PACK_AFTER="never") as side:
                settle(side)
        yield database


def _reading(name: str, read: Read) -> Callable[[Workbench], Result]:
    def run(bench: Workbench) -> Result:
        profile = bench.scale.packed_year if read.of_year else bench.scale.packed_month
        samples = min(read.samples, bench.scale.samples)
        goal = None if read.goal is None else Goal(read.goal, "figure", "at most")
        with _of(bench, profile) as database, bench.serving(database) as side:
            times = database.times()

            def figure() -> Sample:
                return _asked(side.http_port, read.path(*times), times, samples, side.process)

            if read.peer is None or not influxd():
                return Result(name, "ms", goal, [figure() for _ in range(bench.scale.rounds)])
            with bench.influxdb(profile) as peer:
                query = read.peer(*times)

                def ceiling() -> Sample:
                    return _asked(peer.http_port, query, times, samples, peer.process)

                return Result(name, "ms", goal, *alternate(bench.scale.rounds, figure, ceiling))

    return run


def _asked(port: int, path: str, times: tuple[int, int], samples: int, process: Measured) -> Sample:
    """Return the CPU milliseconds that a request takes a process, and how long it lasts."""
    with Load(
        "http_load",
        mode="latency",
        port=port,
        path=path,
        key=ADMIN_KEY,
        keys=middle(*times),
        samples=samples,
        warm_up=min(5, samples),
    ) as load:
        found, spent = load.measured(process)
    lasted = statistics.median(found["latencies"])
    return Sample(spent / samples * 1_000, None, {"lasted": lasted, "bytes": found["bytes"]})


def memory(bench: Workbench) -> Result:
    """Return what the server's memory grows by while it makes a chart of a year."""
    read = READS["points-year"]
    with _of(bench, bench.scale.packed_year) as database:
        times = database.times()

        def figure() -> Sample:
            with bench.serving(database) as side, Watch(side.process) as watch:
                _asked(side.http_port, read.path(*times), times, 2, side.process)
                return Sample(watch.growth)

        found = [figure() for _ in range(bench.scale.rounds)]
    return Result("packed-points-year-memory", "MiB", MEMORY, found)


def exporting(bench: Workbench) -> Result:
    """Return how many rows of a month a second are written as a table, a column an attribute."""
    profile = bench.scale.packed_month

    def rate(load: Load, process: Measured) -> Sample:
        with load as reading:
            found, spent = reading.measured(process)
        if any(lines < profile.rows for lines in found["lines"]):
            raise LoadError(f"{profile.rows} lines were to be written, not {found['lines']}")
        count = profile.rows * len(found["lines"])
        return Sample.rate(count, found, spent, bytes=found["bytes"])

    with _of(bench, profile) as database, bench.serving(database) as side:
        # What InfluxDB writes, too.
        columns = ("timestamp", "device_id", *stored_rows.ATTRIBUTES)
        chosen = "".join([f"&column={name}" for name in columns])
        path = f"{SENSOR}/export?{transfers.QUERIES['wide']}{chosen}"

        def figure() -> Sample:
            headers = {"X-API-Key": ADMIN_KEY}
            return rate(transfers.download(side.http_port, path, headers), side.process)

        rounds = min(2, bench.scale.rounds)
        if not influxd():
            return Result("packed-export-csv", "rows/s", EXPORT, [figure() for _ in range(rounds)])
        with bench.influxdb(profile) as peer:
            wanted = _select("*", _between(*database.times())) + "&chunked=true"

            def ceiling() -> Sample:
                load = transfers.download(peer.http_port, wanted, {"Accept": "application/csv"})
                return rate(load, peer.process)

            found = alternate(rounds, figure, ceiling)
    return Result("packed-export-csv", "rows/s", EXPORT, *found)


def _packing(name: str, engine: str, density: Density) -> Callable[[Workbench], Result]:
    """Return the benchmark of what packed rows take; its CPU time is that of packing them."""

    def run(bench: Workbench) -> Result:
        days = max(bench.scale.packed_days // density.part, 1)
        rows = days * DAY // density.step
        empty = Profile(f"packing-{rows}", density.sensors, 0, step=density.step)
        with bench.database(engine, empty, bare=False) as database:
            _fill(database, density, rows)
            before = bench.postgresql_cpu_seconds()
            spent = _packed_by_command(database)
            spent += bench.postgresql_cpu_seconds() - before
            count = int(database.text("SELECT sum(row_count) FROM chunk"))
            taken = int(database.text(SIZE[engine]))
        return Result(name, "bytes", density.goal, [Sample(taken / count, spent / count * 100_000)])

    return run


SIZE = {
    "sqlite": "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'chunk%'",
    "postgresql": "SELECT pg_total_relation_size('chunk')",
}


def _fill(database: Database, density: Density, rows: int) -> None:
    """Add rows of all sensors from the beginning of a month that has ended."""
    start = _month_before_last()
    connection: sqlite3.Connection | psycopg.Connection
    if database.engine == "sqlite":
        connection = sqlite3.connect(database.address, timeout=30)
    else:
        profile = Profile("", 1, rows, step=density.step)
        make_partitions(database.url, StoredRows(profile, start))
        connection = psycopg.connect(database.address)
    with contextlib.closing(connection):
        for sensor in range(1, density.sensors + 1):
            found = packed_rows.readings(start, rows, density.step, sensor, doubles=density.doubles)
            made = packed_rows.rows_of(sensor, found)
            while part := list(itertools.islice(made, ROWS_AT_ONCE)):
                packed_rows.fill(connection, part)
        connection.commit()


def _month_before_last() -> int:
    """Return when it began (microseconds)."""
    month = time.gmtime().tm_mon - 3
    date = datetime(time.gmtime().tm_year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(date.timestamp()) * SECOND


def _packed_by_command(database: Database) -> float:
    """Pack all; return the CPU seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [COMMAND, "pack"],
            cwd=folder,
            env=server_environment(DATABASE_URL=database.url, DATA_DIRECTORY=folder),
            capture_output=True,
            text=True,
            timeout=WORK,
            check=False,
        )
    if done.returncode:
        raise LoadError(f"heliograph pack failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

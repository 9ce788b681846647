"""Benchmarks of an export beside ingest: what it takes from ingest, and the memory it takes.

On SQLite: millions of rows of the year's sensor, from a copy of the year to which a gateway adds
what other sensors measure now.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Literal, TypeAlias

from bench import query
from bench.comparison import alternate
from bench.database import Database
from bench.memory import MEBIBYTE, Watch
from bench.result import Goal, Result, Sample
from bench.scale import Profile
from bench.server_schema import add_silent_sensors
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError
from bench.stored_rows import StoredRows

Form: TypeAlias = Literal["csv", "jsonl"]

NAMES = frozenset(("query-export", "query-export-memory"))
# The year, a copy of it, and what is added to that.
SPACE = 24 << 30
RATE = Goal(0.8)
MEMORY = Goal(200, "figure", "at most")
LONGEST = 3_600.0
# What is exported sooner is exported again.
SHORTEST = 2.0


def beside_ingest(bench: Workbench) -> Result:
    """Return the listener's rate while the rows are exported; the ceiling is without."""
    return Result("query-export", "rows/s", RATE, *_measured(bench))


def memory(bench: Workbench) -> Result:
    """Return the highest resident memory meanwhile."""
    figures, ceilings = (
        [Sample(sample.extra["peak"]) for sample in samples] for samples in _measured(bench)
    )
    return Result("query-export-memory", "MiB", MEMORY, figures, ceilings)


def _measured(bench: Workbench, form: Form = "csv") -> tuple[list[Sample], list[Sample]]:
    """Return what both names are taken of."""
    key = f"export beside ingest, {form}"
    if key not in bench.kept:
        # The ceiling is the rate over as long: what comes makes the file larger.
        lasted: list[float] = []

        def figure() -> Sample:
            sample = _beside(bench, form)
            lasted.append(sample.extra["seconds"])
            return sample

        # Minutes each, over which a busier moment of the machine is evened out.
        rounds = min(2, bench.scale.rounds)
        bench.kept[key] = alternate(rounds, figure, lambda: _alone(bench, lasted[-1]))
    found: tuple[list[Sample], list[Sample]] = bench.kept[key]
    return found


def _beside(bench: Workbench, form: Form) -> Sample:
    """Return the rate while the rows are exported."""
    rows = min(bench.scale.exported, bench.scale.year.rows)
    lines = rows + (form == "csv")
    with _loaded(bench) as (side, load, watch):
        path = export_path(side.database, rows, form)
        with Load(
            "export_download",
            port=side.http_port,
            path=path,
            key=ADMIN_KEY,
            shortest=SHORTEST,
        ) as reading:
            reading.ready()
            before = side.process.cpu_seconds()
            load.signal()
            reading.signal()
            found = reading.result(LONGEST)
        if any(each != lines for each in found["lines"]):
            raise LoadError(f"{lines} lines were to be exported, not {found['lines']}")
        exported, seconds = rows * len(found["lines"]), found["seconds"]
        extra = {
            "rows": exported,
            "seconds": seconds,
            "rate": exported / seconds,
            "bytes": found["bytes"],
            "peak": watch.highest / MEBIBYTE,
        }
        return _ended(side, load, before, extra)


def _alone(bench: Workbench, seconds: float) -> Sample:
    """Return the rate of the same load."""
    with _loaded(bench) as (side, load, watch):
        before = side.process.cpu_seconds()
        load.signal()
        load.wait(seconds)
        return _ended(side, load, before, {"peak": watch.highest / MEBIBYTE})


def _ended(side: Side, load: Load, before: float, extra: dict[str, float]) -> Sample:
    """End the load, and return its sample once all that was acknowledged is found stored."""
    load.signal()
    found = load.result()
    spent = side.process.cpu_seconds() - before
    side.expect(found["messages"] + found["warm_up"])
    return Sample(found["messages"] / found["seconds"], spent / found["messages"] * 100_000, extra)


def export_path(database: Database, rows: int, form: Form) -> str:
    """Return the path of the export of so many of the oldest rows."""
    oldest, _ = database.times()
    start, end = (at / query.SECOND for at in (oldest, oldest + rows * database.profile.step))
    return f"{query.SENSOR}/export?format={form}&start={start}&end={end}"


@contextlib.contextmanager
def _loaded(bench: Workbench) -> Iterator[tuple[Side, Load, Watch]]:
    """Yield the server on a copy of the year, a load that is ready, and the watch."""
    scale = bench.scale
    with query.of_the_year(bench):
        pass  # it is rolled up from here on
    sensors = scale.standard.sensors
    with bench.database("sqlite", scale.year, bare=False) as database:
        added = StoredRows.until_now(Profile("added", sensors + 1, 0))
        with contextlib.closing(sqlite3.connect(database.address, timeout=30)) as connection:
            with connection:
                add_silent_sensors(connection, added)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (
            bench.serving(database) as side,
            Load(
                "steady_load",
                port=side.mqtt_port,
                sensors=(2, sensors + 1),
                key=ADMIN_KEY,
                warm_up=scale.warm_up,
                window=scale.window,
            ) as load,
            Watch(side) as watch,
        ):
            load.ready()
            yield side, load, watch

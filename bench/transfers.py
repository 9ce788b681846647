"""Benchmarks of files: an import by the command, an export over HTTP, an export beside ingest.

What is imported is an export's CSV. The clock runs over the whole command, its start included; the
ceiling is `http-batch`'s figure, the same server. The ceiling of an export reads the same rows with
one cursor and writes the same file to nowhere. Beside ingest millions of rows of the year's sensor
are exported from a copy of the year to which a gateway adds what other sensors measure now.
"""

import contextlib
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench import query
from bench.http_ingest import batches
from bench.packets import identifier
from bench.processes import Watch
from bench.requests import device_id
from bench.result import Goal, Result, Sample, alternate
from bench.scale import Profile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import WORK, Load, LoadError
from bench.stored_rows import COMMAND, StoredRows, add_silent_sensors, server_environment
from heliograph.exchange.formats import Format, Names, encode_rows, heading
from heliograph.model.records import Kind

GOAL = Goal(0.6)
RATE = Goal(0.8)
MEMORY = Goal(200, "figure", "at most")
# The year, a copy of it, and what is added to that.
SPACE = 24 << 30
BESIDE_INGEST = frozenset(("query-export", "query-export-memory"))
# What is exported sooner is exported again.
SHORTEST = 2.0
QUERIES = {
    "csv": "format=csv",
    "jsonl": "format=jsonl",
    "parquet": "format=parquet",
    "wide": "format=csv&layout=wide",
}
# Lines beside those of the rows; a file of Parquet has none to be counted.
HEADINGS = {"csv": 1, "jsonl": 0, "wide": 1}
LONGEST = 3_600.0
VALUE = '{"humidity":0.43,"pressure":1013.2,"temperature":21.5}'
# A file has so many times the readings that the ceiling sends: beside it the command's start and
# the look at its sensors are to be a small part of what is measured.
FILES_TIMES = 4


def importing(name: str, engine: str, *, in_turn: bool) -> Callable[[Workbench], Result]:
    """Return the benchmark of a file whose lines are of one sensor after the other.

    `in_turn`: each line is of another sensor; otherwise all lines of one stand together.
    """

    def run(bench: Workbench) -> Result:
        profile, scale = bench.scale.standard, bench.scale
        rows = FILES_TIMES * scale.batches * scale.readings_a_batch

        def figure() -> Sample:
            with bench.server(engine, profile) as side, tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "readings.csv"
                _write(file, rows, profile.sensors, in_turn=in_turn)
                return _imported(side, file, rows)

        def ceiling() -> Sample:
            with bench.server(engine, profile) as side:
                return batches(bench, side)

        return Result(name, "rows/s", GOAL, *alternate(scale.rounds, figure, ceiling))

    return run


def _write(file: Path, rows: int, sensors: int, *, in_turn: bool) -> None:
    """Write an export of so many rows, a millisecond apart."""
    start = time.time_ns() // 1_000_000 * 1_000 - 3_600_000_000
    with file.open("wb") as out:
        out.write(heading(Format.CSV, Kind.MEASUREMENT))
        for sensor, numbers in _order(rows, sensors, in_turn=in_turn):
            found = [(start + number * 1_000, 0, start, 1, None, VALUE, None) for number in numbers]
            names = Names(identifier(sensor), device_id(sensor))
            out.write(encode_rows(Format.CSV, Kind.MEASUREMENT, names, found))


def _order(rows: int, sensors: int, *, in_turn: bool) -> Iterator[tuple[int, Iterable[int]]]:
    """Yield sensors, each with the numbers of the rows that follow."""
    if in_turn:
        yield from ((number % sensors + 1, (number,)) for number in range(rows))
    else:
        yield from ((first + 1, range(first, rows, sensors)) for first in range(sensors))


def _imported(side: Side, file: Path, rows: int) -> Sample:
    before, started = side.process.cpu_seconds(), time.perf_counter()
    url = f"http://127.0.0.1:{side.http_port}"
    done = subprocess.run(
        [COMMAND, "import", str(file), "--url", url, "--api-key", ADMIN_KEY],
        cwd=file.parent,
        env=server_environment(DATA_DIRECTORY=str(file.parent)),
        capture_output=True,
        text=True,
        timeout=WORK,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise LoadError(f"heliograph import failed:\n{done.stdout}{done.stderr}")
    spent = side.process.cpu_seconds() - before
    side.expect(rows)
    return Sample.rate(rows, {"seconds": seconds}, spent)


def exporting(name: str, engine: str, form: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of a long history of one sensor as a file."""

    def run(bench: Workbench) -> Result:
        # Both sides read one database in turn: the server writes nothing meanwhile.
        with bench.server(engine, bench.scale.deep) as side:
            found = alternate(
                bench.scale.rounds, lambda: _exported(side, form), lambda: _bare(side, form)
            )
        return Result(name, "rows/s", GOAL, *found)

    return run


def _exported(side: Side, form: str) -> Sample:
    rows, path = side.database.profile.rows, f"{query.SENSOR}/export?{QUERIES[form]}"
    with _download(side, path) as reading:
        found, spent = reading.measured(side.process)
    if form in HEADINGS:
        _expect(rows + HEADINGS[form], found["lines"])
    return Sample.rate(rows * len(found["lines"]), found, spent, bytes=found["bytes"])


def _bare(side: Side, form: str) -> Sample:
    rows, names = side.database.profile.rows, [identifier(1), device_id(1)]
    address = side.database.address
    with Load("bare_export", url=address, form=form, names=names, shortest=SHORTEST) as writing:
        found, _ = writing.measured()
    _expect(rows, found["rows"])
    count = rows * len(found["rows"])
    return Sample.rate(count, found, found["cpu_seconds"], bytes=found["bytes"])


def _download(side: Side, path: str) -> Load:
    return download(side.http_port, path, {"X-API-Key": ADMIN_KEY})


def download(port: int, path: str, headers: dict[str, str]) -> Load:
    """Return a load that downloads a file, again if that is quick."""
    return Load("export_download", port=port, path=path, headers=headers, shortest=SHORTEST)


def _expect(count: int, found: list[int]) -> None:
    if any(each != count for each in found):
        raise LoadError(f"{count} lines were to be written, not {found}")


def beside_ingest(bench: Workbench) -> Result:
    """Return the listener's rate while the rows are exported; the ceiling is without."""
    return Result("query-export", "rows/s", RATE, *_measured(bench))


def memory(bench: Workbench) -> Result:
    """Return the highest resident memory meanwhile."""
    figures, ceilings = (
        [Sample(sample.extra["peak"]) for sample in samples] for samples in _measured(bench)
    )
    return Result("query-export-memory", "MiB", MEMORY, figures, ceilings)


def _measured(bench: Workbench) -> tuple[list[Sample], list[Sample]]:
    """Return what both names are taken of."""
    key = "export beside ingest"
    if key not in bench.kept:
        # The ceiling is the rate over as long: what comes makes the file larger.
        lasted: list[float] = []

        def figure() -> Sample:
            sample = _beside(bench)
            lasted.append(sample.extra["seconds"])
            return sample

        # Minutes each, over which a busier moment of the machine is evened out.
        rounds = min(2, bench.scale.rounds)
        bench.kept[key] = alternate(rounds, figure, lambda: _alone(bench, lasted[-1]))
    found: tuple[list[Sample], list[Sample]] = bench.kept[key]
    return found


def _beside(bench: Workbench) -> Sample:
    """Return the rate while the oldest rows are exported."""
    rows = min(bench.scale.exported, bench.scale.year.rows)
    with _loaded(bench) as (side, load, watch):
        start, _ = side.database.times()
        end = start + rows * side.database.profile.step
        span = f"start={start / query.SECOND}&end={end / query.SECOND}"
        with _download(side, f"{query.SENSOR}/export?format=csv&{span}") as reading:
            reading.ready()
            before = side.process.cpu_seconds()
            load.signal()
            reading.signal()
            found = reading.result(LONGEST)
        _expect(rows + 1, found["lines"])
        exported, seconds = rows * len(found["lines"]), found["seconds"]
        extra = {"rows": exported, "seconds": seconds, "rate": exported / seconds}
        extra |= {"bytes": found["bytes"], "peak": watch.highest}
        return _ended(side, load, before, extra)


def _alone(bench: Workbench, seconds: float) -> Sample:
    """Return the rate of the same load."""
    with _loaded(bench) as (side, load, watch):
        before = side.process.cpu_seconds()
        load.signal()
        load.wait(seconds)
        return _ended(side, load, before, {"peak": watch.highest})


def _ended(side: Side, load: Load, before: float, extra: dict[str, float]) -> Sample:
    """End the load, and return its sample once all that was acknowledged is found stored."""
    load.signal()
    found = load.result()
    spent = side.process.cpu_seconds() - before
    side.expect(found["messages"] + found["warm_up"])
    return Sample.rate(found["messages"], found, spent, **extra)


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
            Watch(side.process) as watch,
        ):
            load.ready()
            yield side, load, watch

"""Benchmarks of importing a file: the command against batches that are ready to be sent.

The file is an export's CSV. The clock runs over the whole command, its start included; the
ceiling is `http-batch`'s figure, the same server.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.comparison import alternate
from bench.http_ingest import batches
from bench.migration import COMMAND, server_environment
from bench.packets import identifier
from bench.requests import device_id
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import WORK, LoadError
from heliograph.exchange.formats import Format, Names, encode_rows, heading
from heliograph.model.records import Kind

GOAL = Goal(0.6)
VALUE = '{"humidity":0.43,"pressure":1013.2,"temperature":21.5}'
ROWS_AT_ONCE = 1_000
# A file has so many times the readings that the ceiling sends: beside it the command's start and
# the look at its sensors are to be a small part of what is measured.
FILES_TIMES = 4


def rate(name: str, engine: str, *, in_turn: bool) -> Callable[[Workbench], Result]:
    """Return the benchmark of a file whose lines are of one sensor after the other.

    `in_turn`: each line is of another sensor; otherwise all lines of one stand together.
    """

    def run(bench: Workbench) -> Result:
        profile, scale = bench.scale.standard, bench.scale
        rows = FILES_TIMES * scale.batches * scale.readings_a_batch

        def figure() -> Sample:
            with bench.server(engine, profile) as side, tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "readings.csv"
                write(file, rows, profile.sensors, in_turn=in_turn)
                return _imported(side, file, rows)

        def ceiling() -> Sample:
            with bench.server(engine, profile) as side:
                return batches(bench, side)

        return Result(name, "rows/s", GOAL, *alternate(scale.rounds, figure, ceiling))

    return run


def write(file: Path, rows: int, sensors: int, *, in_turn: bool) -> None:
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
    before = side.process.cpu_seconds()
    started = time.perf_counter()
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
    return Sample(rows / seconds, spent / rows * 100_000)

"""Benchmarks of an export over HTTP that has the server to itself.

The ceiling reads the same rows with one cursor and writes the same file to nowhere.
"""

from collections.abc import Callable
from typing import Any

from bench.comparison import alternate
from bench.packets import identifier
from bench.requests import device_id
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import WORK, Load, LoadError

GOAL = Goal(0.6)
# What is exported sooner is exported again.
SHORTEST = 2.0
PATH = f"/sensors/{identifier(1)}/export?"
QUERIES = {
    "csv": "format=csv",
    "jsonl": "format=jsonl",
    "parquet": "format=parquet",
    "wide": "format=csv&layout=wide",
}
# Lines beside those of the rows; a file of Parquet has none to be counted.
HEADINGS = {"csv": 1, "jsonl": 0, "wide": 1}


def rate(name: str, engine: str, form: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of a long history of one sensor as a file."""

    def run(bench: Workbench) -> Result:
        profile = bench.scale.deep
        # Both sides read one database in turn: the server writes nothing meanwhile.
        with bench.server(engine, profile) as side:
            figures, ceilings = alternate(
                bench.scale.rounds, lambda: _exported(side, form), lambda: _bare(side, form)
            )
        return Result(name, "rows/s", GOAL, figures, ceilings)

    return run


def _exported(side: Side, form: str) -> Sample:
    rows = side.database.profile.rows
    with Load(
        "export_download",
        port=side.http_port,
        path=PATH + QUERIES[form],
        key=ADMIN_KEY,
        shortest=SHORTEST,
    ) as reading:
        reading.ready()
        before = side.process.cpu_seconds()
        reading.signal()
        found = reading.result(WORK)
        spent = side.process.cpu_seconds() - before
    if form in HEADINGS and any(each != rows + HEADINGS[form] for each in found["lines"]):
        raise LoadError(f"{rows} rows were to be exported, not lines: {found['lines']}")
    return _sample(rows * len(found["lines"]), spent, found)


def _bare(side: Side, form: str) -> Sample:
    rows = side.database.profile.rows
    with Load(
        "bare_export",
        url=side.database.address,
        form=form,
        names=[identifier(1), device_id(1)],
        shortest=SHORTEST,
    ) as writing:
        writing.ready()
        writing.signal()
        found = writing.result(WORK)
    if any(each != rows for each in found["rows"]):
        raise LoadError(f"{rows} rows were to be written, not {found['rows']}")
    return _sample(rows * len(found["rows"]), found["cpu_seconds"], found)


def _sample(rows: int, spent: float, found: dict[str, Any]) -> Sample:
    return Sample(rows / found["seconds"], spent / rows * 100_000, {"bytes": found["bytes"]})

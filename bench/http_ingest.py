"""Benchmarks of ingest over HTTP."""

from collections.abc import Callable
from typing import Any

from bench.comparison import alternate
from bench.influxdb import Influxdb
from bench.result import Goal, Result, Sample
from bench.sides import SHARED_KEY, Side, Workbench
from bench.starting_line import Load

GOAL = Goal(0.6)
SINGLE_CONNECTIONS = 32
BATCH_CONNECTIONS = 4
BATCH_WARM_UP = 8


def singles(bench: Workbench, side: Side | Influxdb, mode: str = "single") -> Sample:
    """Return the requests a second, of one reading each, and the CPU time of one."""
    given = {
        "connections": SINGLE_CONNECTIONS,
        "sensors": bench.scale.standard.sensors,
        "readings": 1,
        "requests": bench.scale.requests,
        "warm_up": min(bench.scale.warm_up, 1_000),
    }
    return _delivered(side, mode, given)


def batches(bench: Workbench, side: Side | Influxdb, mode: str = "batch") -> Sample:
    """Return the rows a second, many in a request, and the CPU time of one."""
    given = {"connections": BATCH_CONNECTIONS, "key": SHARED_KEY, **_batches(bench)}
    return _delivered(side, mode, given)


def _batches(bench: Workbench) -> dict[str, int]:
    """Return what both sides are told of the batches."""
    return {
        "sensors": bench.scale.standard.sensors,
        "readings": bench.scale.readings_a_batch,
        "requests": bench.scale.batches,
        "warm_up": BATCH_WARM_UP,
    }


def _delivered(side: Side | Influxdb, mode: str, given: dict[str, Any]) -> Sample:
    readings = given["requests"] * given["readings"]
    with Load("http_load", mode=mode, port=side.http_port, **given) as load:
        load.ready()
        before = side.process.cpu_seconds()
        found = load.run()
        spent = side.process.cpu_seconds() - before
        side.expect(readings + given["warm_up"] * given["readings"])
    return Sample(readings / found["seconds"], spent / readings * 100_000)


def single(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one reading a request, committed before its 201."""

    def run(bench: Workbench) -> Result:
        profile = bench.scale.standard

        def figure() -> Sample:
            with bench.server(engine, profile) as side:
                return singles(bench, side)

        def ceiling() -> Sample:
            with bench.bare("bare_http", engine, profile) as side:
                return singles(bench, side)

        return Result(name, "requests/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run


def batch(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of batches of readings against the bare table write."""

    def run(bench: Workbench) -> Result:
        profile, given = bench.scale.standard, _batches(bench)
        count = given["requests"] * given["readings"]

        def figure() -> Sample:
            with bench.server(engine, profile) as side:
                return batches(bench, side)

        def ceiling() -> Sample:
            with (
                bench.database(engine, profile, bare=True) as database,
                Load("bare_table", url=database.address, **given) as load,
            ):
                load.ready()
                found = load.run()
                database.expect(count + BATCH_WARM_UP * given["readings"])
            spent = found["cpu_seconds"] / count * 100_000
            return Sample(count / found["seconds"], spent)

        return Result(name, "rows/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run

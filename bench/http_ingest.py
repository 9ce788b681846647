"""Benchmarks of ingest over HTTP."""

from collections.abc import Callable
from typing import Any

from bench.programs import Influxdb
from bench.result import Goal, Result, Sample, alternate
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
        found, spent = load.measured(side.process)
        side.expect(readings + given["warm_up"] * given["readings"])
    return Sample.rate(readings, found, spent)


def single(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one reading a request, committed before its 201."""

    def run(bench: Workbench) -> Result:
        profile = bench.scale.standard
        found = bench.compared(
            lambda side: singles(bench, side),
            lambda: bench.server(engine, profile),
            lambda: bench.bare("bare_http", engine, profile),
        )
        return Result(name, "requests/s", GOAL, *found)

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
                found, _ = load.measured()
                database.expect(count + BATCH_WARM_UP * given["readings"])
            return Sample.rate(count, found, found["cpu_seconds"])

        return Result(name, "rows/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run

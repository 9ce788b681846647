"""Benchmarks of ingest beside packing, and of measurements that come late for what is packed."""

import itertools
import time
from collections.abc import Callable

from bench.mqtt_ingest import PATIENCE, POLL_SECONDS, told
from bench.result import Goal, Result, Sample, alternate
from bench.sides import Side, Workbench
from bench.starting_line import LoadError
from heliograph.model.time import HOUR

ENGINES = ("sqlite", "postgresql")
BESIDE = Goal(0.9)
# By how many of them are for one chunk.
LATE = {60: Goal(0.8), 1: Goal(0.25)}
PACKED = "heliograph_packing_rows_total"
# Within the day that is packed, in milliseconds.
LATE_BY = 14 * HOUR // 1_000


def kinds() -> dict[str, Callable[[Workbench], Result]]:
    """Return the benchmarks by name."""
    found = {f"packing-ingest-{engine}": _beside(engine) for engine in ENGINES}
    for count, engine in itertools.product(LATE, ENGINES):
        found[f"packing-late-{count}-{engine}"] = _late(engine, count)
    return found


def _beside(engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of what comes now while what is old is packed.

    The ceiling is the same server that packs nothing.
    """

    def run(bench: Workbench) -> Result:
        profile = bench.scale.packable

        def measure(after: str) -> Sample:
            with bench.server(engine, profile, PACK_AFTER=after) as side:
                return _measured(bench, side, packs=after != "never")

        found = alternate(bench.scale.rounds, lambda: measure("2h"), lambda: measure("never"))
        return Result(f"packing-ingest-{engine}", "messages/s", BESIDE, *found)

    return run


def _late(engine: str, together: int) -> Callable[[Workbench], Result]:
    """Return the benchmark of what comes late, so many of a sensor together.

    The ceiling is the same server, to which the same messages come in time.
    """

    def run(bench: Workbench) -> Result:
        def measure(age: int) -> Sample:
            with bench.server(engine, bench.scale.packed_each, PACK_AFTER="never") as side:
                return _measured(bench, side, age=age, together=together)

        found = alternate(bench.scale.rounds, lambda: measure(LATE_BY), lambda: measure(0))
        return Result(f"packing-late-{together}-{engine}", "messages/s", LATE[together], *found)

    return run


def _measured(
    bench: Workbench, side: Side, *, packs: bool = False, age: int = 0, together: int = 1
) -> Sample:
    """Return the rate of messages through a side, measured so many milliseconds ago."""
    with bench.mqtt_load(
        side.mqtt_port, side.database.profile.sensors, age=age, together=together
    ) as load:
        load.ready()
        if packs:
            _wait_for_packing(side)
        before = told(side.http_port, PACKED)
        server, database = side.process.cpu_seconds(), bench.postgresql_cpu_seconds()
        found = load.run()
        spent = side.process.cpu_seconds() - server
        by_database = bench.postgresql_cpu_seconds() - database
        packed = told(side.http_port, PACKED) - before
        if packs:
            _wait_for_packing(side)
        side.expect(bench.scale.messages + bench.scale.warm_up)
    per_100k = 100_000 / found["messages"]
    return Sample.rate(
        found["messages"],
        found,
        spent,
        packed=packed,
        postgresql_cpu_seconds_per_100k=by_database * per_100k,
    )


def _wait_for_packing(side: Side) -> None:
    """Return when something more is packed: it goes on."""
    before, until = told(side.http_port, PACKED), time.monotonic() + PATIENCE
    while told(side.http_port, PACKED) == before:
        if time.monotonic() > until:
            raise LoadError(f"nothing is packed beside the load, after {before} rows")
        time.sleep(POLL_SECONDS)

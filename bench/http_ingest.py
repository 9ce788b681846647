"""Benchmarks of ingest over HTTP."""

from collections.abc import Callable

from bench.comparison import alternate
from bench.result import Goal, Result, Sample
from bench.sides import SHARED_KEY, Side, Workbench
from bench.starting_line import Load

GOAL = Goal(0.6)
SINGLE_CONNECTIONS = 32
BATCH_CONNECTIONS = 4
BATCH_WARM_UP = 8


def single(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one reading a request, committed before its 201."""

    def run(bench: Workbench) -> Result:
        profile, requests = bench.scale.standard, bench.scale.requests
        warm_up = min(bench.scale.warm_up, 1_000)

        def measure(side: Side) -> Sample:
            with Load(
                "http_load",
                mode="single",
                port=side.http_port,
                connections=SINGLE_CONNECTIONS,
                sensors=profile.sensors,
                requests=requests,
                warm_up=warm_up,
            ) as load:
                load.ready()
                before = side.process.cpu_seconds()
                found = load.run()
                spent = side.process.cpu_seconds() - before
                side.expect(requests + warm_up)
            return Sample(found["requests"] / found["seconds"], spent / requests * 100_000)

        def figure() -> Sample:
            with bench.server(engine, profile) as side:
                return measure(side)

        def ceiling() -> Sample:
            with bench.bare("bare_http", engine, profile) as side:
                return measure(side)

        return Result(name, "requests/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run


def batch(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of batches of readings against the bare table write."""

    def run(bench: Workbench) -> Result:
        profile, size, count = (
            bench.scale.standard,
            bench.scale.readings_a_batch,
            bench.scale.batches,
        )
        given = {
            "sensors": profile.sensors,
            "readings": size,
            "requests": count,
            "warm_up": BATCH_WARM_UP,
        }
        sent = (count + BATCH_WARM_UP) * size

        def figure() -> Sample:
            with (
                bench.server(engine, profile) as side,
                Load(
                    "http_load",
                    mode="batch",
                    port=side.http_port,
                    connections=BATCH_CONNECTIONS,
                    key=SHARED_KEY,
                    **given,
                ) as load,
            ):
                load.ready()
                before = side.process.cpu_seconds()
                found = load.run()
                spent = side.process.cpu_seconds() - before
                side.expect(sent)
            return Sample(count * size / found["seconds"], spent / (count * size) * 100_000)

        def ceiling() -> Sample:
            with (
                bench.database(engine, profile, bare=True) as database,
                Load("bare_table", url=database.address, **given) as load,
            ):
                load.ready()
                found = load.run()
                database.expect(sent)
            spent = found["cpu_seconds"] / (count * size) * 100_000
            return Sample(count * size / found["seconds"], spent)

        return Result(name, "rows/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run

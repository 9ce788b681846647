"""Benchmarks of several workers on one PostgreSQL: their rates, and what telling each other costs.

Clients are as many whatever the number of workers, each on a connection of its own. The ceiling
of several workers is the rate of one.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.http_ingest import BATCH_WARM_UP
from bench.processes import TICKS
from bench.result import Goal, Result, Sample, alternate
from bench.sides import SHARED_KEY, Side, Workbench
from bench.starting_line import Load

COUNTS = (2, 4)
NOTIFY_WORKERS = 4
NOTIFY = Goal(0.95)
CONNECTIONS = 32
UNITS = {"mqtt": "messages/s", "http-single": "requests/s", "http-batch": "rows/s"}


def kinds() -> dict[str, Callable[[Workbench], Result]]:
    """Return the benchmarks by name."""
    found: dict[str, Callable[[Workbench], Result]] = {
        f"workers-{load}-{count}": partial(_rate, load, count) for load in UNITS for count in COUNTS
    }
    found["workers-notify"] = notify
    return found


def _rate(load: str, count: int, bench: Workbench) -> Result:
    """Return the rate of so many workers, against that of one in the same rounds."""
    several = partial(_sample, bench, load, count)
    found = alternate(bench.scale.rounds, several, partial(_sample, bench, load, 1))
    return Result(f"workers-{load}-{count}", UNITS[load], None, *found)


def notify(bench: Workbench) -> Result:
    """Return the rate of workers that tell each other of commits, against that of silent ones.

    Nobody watches.
    """
    telling = partial(_sample, bench, "mqtt", NOTIFY_WORKERS)
    silent = partial(_sample, bench, "mqtt", NOTIFY_WORKERS, "server_without_signals")
    found = alternate(bench.scale.rounds, telling, silent)
    return Result("workers-notify", UNITS["mqtt"], NOTIFY, *found)


@dataclasses.dataclass(frozen=True)
class _Load:
    """A load, and the rows that it stores once its clock runs, and before."""

    process: Load
    rows: int
    warm_up: int


def _load(bench: Workbench, side: Side, name: str) -> _Load:
    scale = bench.scale
    sensors = scale.standard.sensors
    if name == "mqtt":
        messages, warm_up = (
            count // CONNECTIONS * CONNECTIONS for count in (scale.messages, scale.warm_up)
        )
        given = {"connections": CONNECTIONS, "messages": messages, "warm_up": warm_up}
        return _Load(bench.mqtt_load(side.mqtt_port, sensors, **given), messages, warm_up)
    given = {"port": side.http_port, "connections": CONNECTIONS, "sensors": sensors}
    if name == "http-single":
        requests, warm_up = scale.requests, min(scale.warm_up, 1_000)
        given |= {"requests": requests, "warm_up": warm_up, "readings": 1}
        return _Load(Load("http_load", mode="single", **given), requests, warm_up)
    size = scale.readings_a_batch
    given |= {"requests": scale.batches, "warm_up": BATCH_WARM_UP, "readings": size}
    load = Load("http_load", mode="batch", key=SHARED_KEY, **given)
    return _Load(load, scale.batches * size, BATCH_WARM_UP * size)


class _Spent:
    """What has been spent until now, in seconds: of the clock, and of CPU time."""

    def __init__(self, bench: Workbench, side: Side) -> None:
        self.clock = time.perf_counter()
        self.server = side.process.cpu_seconds()
        self.postgresql = bench.postgresql_cpu_seconds()
        self.workers = side.process.cpu_seconds_of_children()
        self.machine = _busy_seconds()


def _sample(bench: Workbench, name: str, count: int, module: str = "") -> Sample:
    """Return a round of so many workers, with what it took of the machine."""
    with (
        bench.database("postgresql", bench.scale.standard, bare=False) as database,
        bench.serving(database, module=module, workers=count) as side,
    ):
        load = _load(bench, side, name)
        with load.process as process:
            process.ready()
            before = _Spent(bench, side)
            found = process.run()
            after = _Spent(bench, side)
        side.expect(load.rows + load.warm_up)
    per_100k = 100_000 / load.rows
    shares = [after.workers[each] - before.workers.get(each, 0) for each in after.workers]
    extra = {
        "postgresql_cpu_seconds_per_100k": (after.postgresql - before.postgresql) * per_100k,
        "busy_cores": (after.machine - before.machine) / (after.clock - before.clock),
    }
    if shares:
        extra["least_share"] = min(shares) / max(sum(shares), 1 / TICKS)
    return Sample.rate(load.rows, found, after.server - before.server, **extra)


def _busy_seconds() -> float:
    """Return the seconds that all cores have been busy, whatever with."""
    user, nice, system, _idle, _waiting, *rest = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + sum(rest[:3])) / TICKS

"""Benchmarks of attacks: what one does to others' ingest, to /ping, and to the memory.

The server has its default limits. A gateway sends what other sensors measure now, as fast as it is
acknowledged; the ceiling is the same load with nobody else there.
"""

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator

from bench.attack import KINDS
from bench.processes import Repeatedly, Watch
from bench.result import Goal, Result, Sample, alternate, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError

RATE = Goal(0.8)
# Other benchmarks raise these.
LIMITS = (
    "MQTT_MAX_CONNECTIONS",
    "MQTT_MAX_CONNECTIONS_PER_ADDRESS",
    "RATE_LIMIT_READ",
    "RATE_LIMIT_WRITE",
    "RATE_LIMIT_INGEST",
)
PATIENCE = 120.0


class Pings(Repeatedly):
    """Asks for /ping, and times each answer."""

    interval = 0.02

    def __init__(self, port: int) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.milliseconds: list[float] = []
        self.unanswered = 0

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._connection.close()

    def once(self) -> None:
        """Ask once."""
        started = time.perf_counter()
        try:
            self._connection.request("GET", "/ping")
            answer = self._connection.getresponse()
            answer.read()
            is_answered = answer.status == http.client.OK
        except (OSError, http.client.HTTPException):
            # A server that stood still closes what was silent meanwhile.
            self._connection.close()
            is_answered = False
        self.milliseconds.append((time.perf_counter() - started) * 1_000)
        self.unanswered += not is_answered


def attack(kind: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one kind."""

    def run(bench: Workbench) -> Result:
        rounds = min(2, bench.scale.rounds)
        found = alternate(rounds, lambda: _sample(bench, kind), lambda: _sample(bench, ""))
        return Result(f"attacks-{kind}", "messages/s", RATE, *found)

    return run


def kinds() -> Iterator[tuple[str, Callable[[Workbench], Result]]]:
    """Yield all of them by name."""
    for kind in KINDS:
        yield f"attacks-{kind}", attack(kind)


def _sample(bench: Workbench, kind: str) -> Sample:
    scale, profile = bench.scale, bench.scale.standard
    with contextlib.ExitStack() as running:
        side = running.enter_context(bench.server("sqlite", profile, default=LIMITS))
        harm = None
        if kind:
            harm = running.enter_context(
                Load(
                    "attack",
                    kind=kind,
                    http_port=side.http_port,
                    mqtt_port=side.mqtt_port,
                    admin_key=ADMIN_KEY,
                    sensors=profile.sensors,
                )
            )
            harm.ready()
        load = running.enter_context(
            Load(
                "steady_load",
                port=side.mqtt_port,
                sensors=(1, profile.sensors),
                key=ADMIN_KEY,
                warm_up=scale.warm_up,
                window=scale.window,
            )
        )
        load.ready()
        watch = running.enter_context(Watch(side.process))
        with Pings(side.http_port) as pings:
            before = side.process.cpu_seconds()
            if harm:
                harm.signal()
            load.signal()
            load.wait(scale.attack_seconds)
            load.signal()
            found = load.result()
            spent = side.process.cpu_seconds() - before
        if harm:
            harm.signal()
            harm.result()
        return _judged(side, found, spent, pings, watch)


def _judged(
    side: Side, found: dict[str, float], spent: float, pings: Pings, watch: Watch
) -> Sample:
    """Return the sample, once all that was acknowledged is found stored."""
    if pings.unanswered:
        raise LoadError(f"{pings.unanswered} of {len(pings.milliseconds)} pings were refused")
    profile, acknowledged = side.database.profile, found["messages"] + found["warm_up"]
    query = f"SELECT count(*) FROM measurement WHERE sensor <= {profile.sensors}"
    stored = int(side.database.text(query)) - profile.rows
    if stored != acknowledged:
        raise LoadError(f"{acknowledged} messages were acknowledged, {stored} rows are stored")
    ordered = sorted(pings.milliseconds)
    return Sample.rate(
        found["messages"],
        found,
        spent,
        ping_median=percentile(ordered, 0.5),
        ping_p99=percentile(ordered, 0.99),
        ping_longest=ordered[-1],
        growth=watch.growth,
    )

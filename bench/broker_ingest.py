"""Benchmarks of ingest through a broker: publish, wait in the broker, commit."""

import http.client
import time
from collections.abc import Callable

from bench.bare_link import ROWS
from bench.comparison import alternate
from bench.mosquitto import Mosquitto
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError
from bench.through_broker import through_broker

GOAL = Goal(0.6)
POLL_SECONDS = 0.02
PATIENCE = 120.0


def committed(port: int) -> int:
    """Return the rows that a side has committed since its start."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers={"X-API-Key": ADMIN_KEY})
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    for line in text.splitlines():
        if line.startswith(f"{ROWS} "):
            return int(float(line.rpartition(" ")[2]))
    raise LoadError(f"no rows are told: {text[:400]!r}")


def wait_for(side: Side, rows: int) -> None:
    """Return when so many rows are committed."""
    deadline = time.monotonic() + PATIENCE
    while (found := committed(side.http_port)) < rows:
        if time.monotonic() > deadline:
            raise LoadError(f"{found} of {rows} rows came through the broker")
        time.sleep(POLL_SECONDS)


def rate(name: str, engine: str, *, measurements: int) -> Callable[[Workbench], Result]:
    """Return the benchmark of the link's rate against the bare link's, through Mosquitto.

    The clock runs from the first message to the last commit.
    """

    def run(bench: Workbench) -> Result:
        scale, profile = bench.scale, bench.scale.standard
        messages = scale.messages if measurements == 1 else scale.messages_of_ten
        warm_up = scale.warm_up

        def measure(side: Side, broker: Mosquitto) -> Sample:
            with Load(
                "mqtt_load",
                port=broker.port,
                gateway=True,
                connections=1,
                sensors=profile.sensors,
                key=ADMIN_KEY,
                messages=messages,
                warm_up=warm_up,
                measurements=measurements,
                window=scale.window,
            ) as load:
                load.ready()
                wait_for(side, warm_up * measurements)
                before, broker_before = side.process.cpu_seconds(), broker.process.cpu_seconds()
                started = time.perf_counter()
                load.run()
                wait_for(side, (warm_up + messages) * measurements)
                seconds = time.perf_counter() - started
                spent = side.process.cpu_seconds() - before
                broker_spent = broker.process.cpu_seconds() - broker_before
                side.expect((warm_up + messages) * measurements)
            per_100k = 100_000 / messages
            extra = {"broker_cpu_seconds_per_100k": broker_spent * per_100k}
            return Sample(messages * measurements / seconds, spent * per_100k, extra)

        bare = "bare_link", "--insert", bench.insert
        sides = through_broker(bench, engine, profile, measure, *bare)
        unit = "messages/s" if measurements == 1 else "rows/s"
        return Result(name, unit, GOAL, *alternate(scale.rounds, *sides))

    return run

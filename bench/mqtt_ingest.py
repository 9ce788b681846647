"""Benchmarks of ingest over MQTT: at the listener, through a broker, beside HTTP and rollups."""

import http.client
import time
from collections.abc import Callable
from functools import partial

from bench.bare_link import ROWS
from bench.programs import Mosquitto
from bench.result import Goal, Result, Sample, alternate, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError

RATE = Goal(0.6)
BESIDE = Goal(0.5)
ROLLUP_COST = Goal(0.85)
HTTP_CONNECTIONS = 32
POLL_SECONDS = 0.02
PATIENCE = 120.0


def measured(side: Side, bench: Workbench, *, measurements: int, connections: int) -> Sample:
    """Return the rate of rows through a side, and what a message cost it."""
    scale = bench.scale
    messages = scale.messages if measurements == 1 else scale.messages_of_ten
    count = connections or scale.gateways
    share = (messages // count, scale.warm_up // count)
    with bench.mqtt_load(
        side.mqtt_port,
        side.database.profile.sensors,
        gateway=connections == 0,
        connections=count,
        messages=share[0] * count,
        warm_up=share[1] * count,
        measurements=measurements,
    ) as load:
        found, spent = load.measured(side.process)
        side.expect(sum(share) * count * measurements)
    rate = found["messages"] * measurements / found["seconds"]
    return Sample(rate, spent / found["messages"] * 100_000)


def rate(
    name: str, engine: str, *, measurements: int = 1, few: bool = False, connections: int = 0
) -> Callable[[Workbench], Result]:
    """Return the benchmark of the listener's rate against the bare listener's.

    `connections` 0: gateways with the admin key; otherwise so many devices, each with its own.
    """

    def run(bench: Workbench) -> Result:
        profile = bench.scale.hundred if few else bench.scale.standard
        devices = min(connections, profile.sensors)
        found = bench.compared(
            lambda side: measured(side, bench, measurements=measurements, connections=devices),
            lambda: bench.server(engine, profile),
            lambda: bench.bare(
                "bare_listener", engine, profile, layout="clustered" if few else "rowid"
            ),
        )
        return Result(name, _unit(measurements), RATE, *found)

    return run


def _unit(measurements: int) -> str:
    return "messages/s" if measurements == 1 else "rows/s"


def broker_rate(name: str, engine: str, *, measurements: int) -> Callable[[Workbench], Result]:
    """Return the benchmark of the link's rate against the bare link's, through Mosquitto.

    The clock runs from the first message to the last commit.
    """

    def run(bench: Workbench) -> Result:
        profile, warm_up = bench.scale.standard, bench.scale.warm_up
        messages = bench.scale.messages if measurements == 1 else bench.scale.messages_of_ten

        def measure(side: Side, broker: Mosquitto) -> Sample:
            with bench.mqtt_load(
                broker.port, profile.sensors, messages=messages, measurements=measurements
            ) as load:
                load.ready()
                _wait_for(side, warm_up * measurements)
                before, broker_before = side.process.cpu_seconds(), broker.process.cpu_seconds()
                started = time.perf_counter()
                load.run()
                _wait_for(side, (warm_up + messages) * measurements)
                seconds = time.perf_counter() - started
                spent = side.process.cpu_seconds() - before
                broker_spent = broker.process.cpu_seconds() - broker_before
                side.expect((warm_up + messages) * measurements)
            per_100k = 100_000 / messages
            extra = {"broker_cpu_seconds_per_100k": broker_spent * per_100k}
            return Sample(messages * measurements / seconds, spent * per_100k, extra)

        found = bench.through_broker(engine, profile, measure, "bare_link")
        return Result(name, _unit(measurements), RATE, *found)

    return run


def _wait_for(side: Side, rows: int) -> None:
    """Return when so many rows are committed."""
    deadline = time.monotonic() + PATIENCE
    while (found := _committed(side.http_port)) < rows:
        if time.monotonic() > deadline:
            raise LoadError(f"{found} of {rows} rows came through the broker")
        time.sleep(POLL_SECONDS)


def _committed(port: int) -> int:
    """Return the rows that a side has committed since its start."""
    return told(port, ROWS)


def told(port: int, metric: str) -> int:
    """Return what a side tells of a metric."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers={"X-API-Key": ADMIN_KEY})
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    for line in text.splitlines():
        if line.startswith(f"{metric} "):
            return int(float(line.rpartition(" ")[2]))
    raise LoadError(f"{metric} is not told: {text[:400]!r}")


def beside_http(bench: Workbench) -> Result:
    """Return the rate beside HTTP reads at full rate, and half of the CPU time's worth."""
    profile = bench.scale.standard
    figures: list[Sample] = []
    ceilings: list[Sample] = []
    for _ in range(bench.scale.rounds):
        with bench.server("sqlite", profile) as side:
            alone = measured(side, bench, measurements=1, connections=0)
        with (
            bench.server("sqlite", profile) as side,
            Load(
                "http_load",
                mode="hammer",
                path="/health",
                key=ADMIN_KEY,
                port=side.http_port,
                connections=HTTP_CONNECTIONS,
                requests=1,
                warm_up=0,
            ) as hammer,
        ):
            hammer.ready()
            hammer.signal()
            found = measured(side, bench, measurements=1, connections=0)
            hammer.signal()
            answered = hammer.result()
        rate = answered["requests"] / answered["seconds"]
        figures.append(Sample(found.value, found.cpu_seconds_per_100k, {"http_rate": rate}))
        # What the processor gave the server while both loads ran, and what half of it would
        # have been worth at the price of a message alone.
        seconds, price = found.cpu_seconds_per_100k or 0.0, alone.cpu_seconds_per_100k or 0.0
        share = found.value * seconds / 2 / price if price else 0.0
        ceilings.append(Sample(share, None, {"rate_alone": alone.value}))
    return Result("mqtt-beside-http", "messages/s", BESIDE, figures, ceilings)


def rollup_cost(bench: Workbench) -> Result:
    """Return the listener's rate beside the rollups of a day's history of all sensors.

    The ceiling is the same server whose rollups stand still.
    """
    profile, scale = bench.scale.history, bench.scale

    def measure(side: Side) -> Sample:
        # As devices send that measure now; older rows would be marked as late ones.
        with bench.mqtt_load(
            side.mqtt_port, profile.sensors, connections=scale.gateways, age=0
        ) as load:
            found, spent = load.measured(side.process)
        side.expect(scale.messages + scale.warm_up)
        frontier = int(side.database.text("SELECT frontier FROM rollup_state"))
        return Sample.rate(
            found["messages"],
            found,
            spent,
            lag=time.time() - frontier / 1e6,
            backlog=side.database.count("rollup_backlog"),
        )

    def server(module: str) -> Sample:
        with (
            bench.database("sqlite", profile, bare=False) as database,
            bench.serving(database, module=module) as side,
        ):
            return measure(side)

    found = alternate(scale.rounds, partial(server, ""), partial(server, "server_without_rollups"))
    return Result("query-rollup-cost", "messages/s", ROLLUP_COST, *found)


def latency(name: str, *, live: bool, share: float, goal: float) -> Callable[[Workbench], Result]:
    """Return the benchmark of one message at a time: a percentile in milliseconds."""

    def run(bench: Workbench) -> Result:
        key = f"latencies, live: {live}"
        if key not in bench.kept:
            bench.kept[key] = _latencies(bench, live=live)
        figures, ceilings = (
            [Sample(percentile(s.extra["latencies"], share)) for s in samples]
            for samples in bench.kept[key]
        )
        return Result(name, "ms", Goal(goal, "figure", "at most"), figures, ceilings)

    return run


def _latencies(bench: Workbench, *, live: bool) -> tuple[list[Sample], list[Sample]]:
    """Return what the median and the 99th percentile are both taken of."""
    profile = bench.scale.standard

    def measure(side: Side) -> Sample:
        with Load(
            "mqtt_load",
            kind="latency",
            port=side.mqtt_port,
            key=ADMIN_KEY,
            sensors=profile.sensors,
            samples=bench.scale.samples,
            live=live,
        ) as load:
            found, _ = load.measured()
        ordered = sorted(found["latencies"])
        return Sample(ordered[-1], None, {"latencies": ordered})

    return bench.compared(
        measure,
        lambda: bench.server("sqlite", profile),
        lambda: bench.bare("bare_listener", "sqlite", profile),
        rounds=3,
    )

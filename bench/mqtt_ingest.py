"""Benchmarks through the MQTT listener."""

import contextlib
from collections.abc import Callable

from bench.comparison import alternate, percentile
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load

RATE = Goal(0.6)
BESIDE = Goal(0.5)
HTTP_CONNECTIONS = 32


def measured(side: Side, bench: Workbench, *, measurements: int, connections: int) -> Sample:
    """Return the rate of rows through a side, and what a message cost it."""
    scale, profile = bench.scale, side.database.profile
    messages = scale.messages if measurements == 1 else scale.messages_of_ten
    gateway = connections == 0
    count = scale.gateways if gateway else connections
    share = (messages // count, scale.warm_up // count)
    with Load(
        "mqtt_load",
        port=side.mqtt_port,
        gateway=gateway,
        connections=count,
        sensors=profile.sensors,
        key=ADMIN_KEY,
        messages=share[0] * count,
        warm_up=share[1] * count,
        measurements=measurements,
        window=scale.window,
    ) as load:
        load.ready()
        before = side.process.cpu_seconds()
        found = load.run()
        spent = side.process.cpu_seconds() - before
        side.expect(sum(share) * count * measurements)
    return Sample(
        found["messages"] * measurements / found["seconds"], spent / found["messages"] * 100_000
    )


def rate(
    name: str, engine: str, *, measurements: int = 1, few: bool = False, connections: int = 0
) -> Callable[[Workbench], Result]:
    """Return the benchmark of the listener's rate against the bare listener's.

    `connections` 0: gateways with the admin key; otherwise so many devices, each with its own.
    """

    def run(bench: Workbench) -> Result:
        profile = bench.scale.hundred if few else bench.scale.standard
        layout = "clustered" if few else "rowid"
        devices = min(connections, profile.sensors)

        def figure() -> Sample:
            with bench.server(engine, profile) as side:
                return measured(side, bench, measurements=measurements, connections=devices)

        def ceiling() -> Sample:
            with bench.bare("bare_listener", engine, profile, layout=layout) as side:
                return measured(side, bench, measurements=measurements, connections=devices)

        unit = "messages/s" if measurements == 1 else "rows/s"
        return Result(name, unit, RATE, *alternate(bench.scale.rounds, figure, ceiling))

    return run


def beside_http(bench: Workbench) -> Result:
    """Return the rate beside HTTP reads at full rate, and half of the CPU time's worth."""
    profile = bench.scale.standard
    alone: list[Sample] = []
    figures: list[Sample] = []
    ceilings: list[Sample] = []
    for _ in range(bench.scale.rounds):
        with bench.server("sqlite", profile) as side:
            alone.append(measured(side, bench, measurements=1, connections=0))
        with bench.server("sqlite", profile) as side:
            found, seconds, requests = _beside(side, bench)
        figures.append(Sample(found.value, found.cpu_seconds_per_100k, {"http_rate": requests}))
        # What the processor gave the server while both loads ran, and what half of it would
        # have been worth at the price of a message alone.
        price = (alone[-1].cpu_seconds_per_100k or 0.0) / 100_000
        share = found.value * seconds / 2 / price if price else 0.0
        ceilings.append(Sample(share, None, {"rate_alone": alone[-1].value}))
    return Result("mqtt-beside-http", "messages/s", BESIDE, figures, ceilings)


def _beside(side: Side, bench: Workbench) -> tuple[Sample, float, float]:
    """Return the sample, the server's CPU seconds a message in all, and the HTTP rate."""
    with Load(
        "http_load",
        mode="hammer",
        path="/health",
        key=ADMIN_KEY,
        port=side.http_port,
        connections=HTTP_CONNECTIONS,
        requests=1,
        warm_up=0,
    ) as hammer:
        hammer.ready()
        hammer.signal()
        found = measured(side, bench, measurements=1, connections=0)
        hammer.signal()
        answered = hammer.result()
    seconds = (found.cpu_seconds_per_100k or 0.0) / 100_000
    return found, seconds, answered["requests"] / answered["seconds"]


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

    def measure(context: contextlib.AbstractContextManager[Side]) -> Sample:
        with (
            context as side,
            Load(
                "mqtt_latency",
                port=side.mqtt_port,
                key=ADMIN_KEY,
                sensors=profile.sensors,
                samples=bench.scale.samples,
                live=live,
            ) as load,
        ):
            load.ready()
            ordered = sorted(load.run()["latencies"])
        return Sample(ordered[-1], None, {"latencies": ordered})

    return alternate(
        min(3, bench.scale.rounds),
        lambda: measure(bench.server("sqlite", profile)),
        lambda: measure(bench.bare("bare_listener", "sqlite", profile)),
    )

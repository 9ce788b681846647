"""Benchmarks of memory: resident bytes of the serving process and its children."""

from collections.abc import Callable

from bench.processes import Watch
from bench.result import Goal, Result, Sample
from bench.sides import Side, Workbench
from bench.starting_line import Load

IDLE = Goal(120, "figure", "at most")
GROWTH = Goal(64, "figure", "at most")
CONNECTIONS = Goal(100, "figure", "at most")
FLOODING_CONNECTIONS = 10
# As many as packet ids last; what bounds the flood is what the server lets in.
UNBOUNDED = 50_000
BEHIND_FULL_RATE = 120_000


def idle(bench: Workbench) -> Result:
    """Return what the server takes up before anybody has called."""
    return _compared(
        bench, "memory-idle", IDLE, lambda side: Sample(side.process.resident_mebibytes())
    )


def flood(bench: Workbench) -> Result:
    """Return the growth while ten gateways each offer more than the server can take."""
    scale = bench.scale
    # More than one listener takes in that time, over all connections.
    count = max(scale.messages, int(BEHIND_FULL_RATE * scale.flood_seconds))
    count -= count % FLOODING_CONNECTIONS

    def measure(side: Side) -> Sample:
        with (
            bench.mqtt_load(
                side.mqtt_port,
                scale.standard.sensors,
                connections=FLOODING_CONNECTIONS,
                messages=count,
                warm_up=FLOODING_CONNECTIONS,
                window=UNBOUNDED * FLOODING_CONNECTIONS,
                seconds=scale.flood_seconds,
            ) as load,
            Watch(side.process) as watch,
        ):
            found, _ = load.measured()
            growth = watch.growth
            side.expect(found["messages"] + FLOODING_CONNECTIONS)
        return Sample(growth, None, {"rate": found["messages"] / found["seconds"]})

    return _compared(bench, "memory-flood", GROWTH, measure)


def connections(bench: Workbench) -> Result:
    """Return the growth for devices that are connected and say nothing."""
    count = bench.scale.idle_connections

    def measure(side: Side) -> Sample:
        with (
            Watch(side.process) as watch,
            Load("mqtt_load", kind="idle", port=side.mqtt_port, connections=count) as load,
        ):
            found, _ = load.measured()
            opened, growth = found["connections"], watch.growth
        extra = {"connections": opened, "bytes_each": growth * (1 << 20) / opened}
        return Sample(growth, None, extra)

    return _compared(bench, "idle-connections", CONNECTIONS, measure)


def _compared(bench: Workbench, name: str, goal: Goal, measure: Callable[[Side], Sample]) -> Result:
    profile = bench.scale.standard
    found = bench.compared(
        measure,
        lambda: bench.server("sqlite", profile),
        lambda: bench.bare("bare_listener", "sqlite", profile),
        rounds=3,
    )
    return Result(name, "MiB", goal, *found)

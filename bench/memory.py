"""Benchmarks of memory: resident bytes of the serving process and its children."""

from bench.comparison import alternate
from bench.repeatedly import Repeatedly
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load

MEBIBYTE = 1 << 20
IDLE = Goal(120, "figure", "at most")
GROWTH = Goal(64, "figure", "at most")
CONNECTIONS = Goal(100, "figure", "at most")
FLOODING_CONNECTIONS = 10
# As many as packet ids last; what bounds the flood is what the server lets in.
UNBOUNDED = 50_000
BEHIND_FULL_RATE = 120_000


class Watch(Repeatedly):
    """Samples the memory of a process; keeps the highest."""

    interval = 0.05

    def __init__(self, side: Side) -> None:
        super().__init__()
        self._side = side
        self.before = self.highest = side.process.resident_bytes()

    def once(self) -> None:
        """Take a sample."""
        self.highest = max(self.highest, self._side.process.resident_bytes())

    @property
    def growth(self) -> float:
        """The highest growth so far, in MiB."""
        return (max(self.highest, self._side.process.resident_bytes()) - self.before) / MEBIBYTE


def idle(bench: Workbench) -> Result:
    """Return what the server takes up before anybody has called."""
    profile = bench.scale.standard

    def figure() -> Sample:
        with bench.server("sqlite", profile) as side:
            return Sample(side.process.resident_bytes() / MEBIBYTE)

    def ceiling() -> Sample:
        with bench.bare("bare_listener", "sqlite", profile) as side:
            return Sample(side.process.resident_bytes() / MEBIBYTE)

    return Result("memory-idle", "MiB", IDLE, *alternate(_rounds(bench), figure, ceiling))


def flood(bench: Workbench) -> Result:
    """Return the growth while ten gateways each offer more than the server can take."""
    scale, profile = bench.scale, bench.scale.standard
    # More than one listener takes in that time, over all connections.
    count = max(scale.messages, int(BEHIND_FULL_RATE * scale.flood_seconds))
    count -= count % FLOODING_CONNECTIONS

    def measure(side: Side) -> Sample:
        with (
            Load(
                "mqtt_load",
                port=side.mqtt_port,
                gateway=True,
                connections=FLOODING_CONNECTIONS,
                sensors=profile.sensors,
                key=ADMIN_KEY,
                messages=count,
                warm_up=FLOODING_CONNECTIONS,
                measurements=1,
                window=UNBOUNDED * FLOODING_CONNECTIONS,
                seconds=scale.flood_seconds,
            ) as load,
            Watch(side) as watch,
        ):
            load.ready()
            found = load.run()
            growth = watch.growth
            side.expect(found["messages"] + FLOODING_CONNECTIONS)
        return Sample(growth, None, {"rate": found["messages"] / found["seconds"]})

    def figure() -> Sample:
        with bench.server("sqlite", profile) as side:
            return measure(side)

    def ceiling() -> Sample:
        with bench.bare("bare_listener", "sqlite", profile) as side:
            return measure(side)

    return Result("memory-flood", "MiB", GROWTH, *alternate(_rounds(bench), figure, ceiling))


def connections(bench: Workbench) -> Result:
    """Return the growth for devices that are connected and say nothing."""
    count, profile = bench.scale.idle_connections, bench.scale.standard

    def measure(side: Side) -> Sample:
        with (
            Watch(side) as watch,
            Load("mqtt_idle", port=side.mqtt_port, connections=count) as load,
        ):
            load.ready()
            opened = load.run()["connections"]
            growth = watch.growth
        return Sample(
            growth, None, {"connections": opened, "bytes_each": growth * MEBIBYTE / opened}
        )

    def figure() -> Sample:
        with bench.server("sqlite", profile) as side:
            return measure(side)

    def ceiling() -> Sample:
        with bench.bare("bare_listener", "sqlite", profile) as side:
            return measure(side)

    return Result(
        "idle-connections", "MiB", CONNECTIONS, *alternate(_rounds(bench), figure, ceiling)
    )


def _rounds(bench: Workbench) -> int:
    return min(3, bench.scale.rounds)

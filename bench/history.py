"""Benchmarks of SQLite over a long history: what the rows that are stored cost those that come."""

from collections.abc import Callable

from bench.processes import Watch
from bench.result import Goal, Result, Sample, alternate
from bench.scale import Profile
from bench.sides import Opened, Side, Workbench

RATE = Goal(0.4)
PACKED_RATE = Goal(0.8)
MEMORY = Goal(128, "figure", "at most")
ROUNDS = 3
NAME = "mqtt-sqlite-history"

Samples = tuple[list[Sample], list[Sample], list[Sample]]


def rate(bench: Workbench) -> Result:
    """Return the listener's rate over many rows, against the same server's over none."""
    long, none, _ = _samples(bench)
    return Result(f"{NAME}-rate", "messages/s", RATE, long, none)


def appended(bench: Workbench) -> Result:
    """Return that rate against a bare listener's that appends to a table without a key."""
    long, _, bare = _samples(bench)
    return Result(f"{NAME}-appended", "messages/s", None, long, bare)


def memory(bench: Workbench) -> Result:
    """Return what the server's memory comes to over many rows beyond what it does over none."""
    long, none, _ = _samples(bench)
    more = [
        Sample(over.extra["resident"] - without.extra["resident"], None, over.extra)
        for over, without in zip(long, none, strict=True)
    ]
    return Result(f"{NAME}-memory", "MiB", MEMORY, more)


def written(bench: Workbench) -> Result:
    """Return the bytes that a message has the server write."""
    long, none, _ = _samples(bench)
    figures, ceilings = (
        [Sample(sample.extra["bytes_a_message"]) for sample in samples] for samples in (long, none)
    )
    return Result(f"{NAME}-written", "bytes", None, figures, ceilings)


def packed(bench: Workbench) -> Result:
    """Return the rate over as many rows of which those are packed that a server packs by default.

    The ceiling is the same server's over none.
    """
    scale = bench.scale

    def server(profile: Profile) -> Callable[[], Sample]:
        return lambda: _sample(lambda: bench.server("sqlite", profile), bench)

    rounds = min(ROUNDS, scale.rounds)
    found = alternate(rounds, server(scale.packed_long), server(scale.none))
    return Result(f"{NAME}-packed", "messages/s", PACKED_RATE, *found)


def kinds() -> dict[str, Callable[[Workbench], Result]]:
    """Return the benchmarks by name."""
    return {f"{NAME}-{each.__name__}": each for each in (rate, appended, memory, written, packed)}


def _sample(opened: Callable[[], Opened], bench: Workbench) -> Sample:
    with opened() as side:
        return _measured(side, bench)


def _samples(bench: Workbench) -> Samples:
    """Return the rounds of all three: the server over many rows, over none, and the bare table."""
    if "history" not in bench.kept:
        scale = bench.scale

        def server(profile: Profile) -> Callable[[], Sample]:
            return lambda: _sample(lambda: bench.server("sqlite", profile), bench)

        bare: list[Sample] = []

        def none() -> Sample:
            bare.append(
                _sample(
                    lambda: bench.bare("bare_listener", "sqlite", scale.none, layout="appended"),
                    bench,
                )
            )
            return server(scale.none)()

        long, without = alternate(min(ROUNDS, scale.rounds), server(scale.long), none)
        bench.kept["history"] = long, without, bare
    kept: Samples = bench.kept["history"]
    return kept


def _measured(side: Side, bench: Workbench) -> Sample:
    """Return the rate through a side, its memory at its highest, and the bytes that it wrote."""
    with (
        bench.mqtt_load(side.mqtt_port, side.database.profile.sensors) as load,
        Watch(side.process) as watch,
    ):
        load.ready()
        written_before, spent_before = side.process.written_bytes(), side.process.cpu_seconds()
        found = load.run()
        written = side.process.written_bytes() - written_before
        spent = side.process.cpu_seconds() - spent_before
        side.expect(bench.scale.messages + bench.scale.warm_up)
    return Sample.rate(
        found["messages"],
        found,
        spent,
        resident=watch.highest,
        bytes_a_message=written / found["messages"],
    )

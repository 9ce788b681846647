"""Benchmarks of live streams: fan-out, memory of idle viewers, and viewers that do not read."""

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.packets import identifier
from bench.processes import Watch
from bench.requests import get
from bench.result import Goal, Result, Sample, alternate, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load

FANOUT = Goal(0.7)
IDLE_VIEWER = Goal(30, "figure", "at most")
STALLED = Goal(1.1, "ratio", "at most")
WARM_UP_EVENTS = 20
# No network's stream: that begins with a snapshot of its activity.
STREAM = "/events?kind=measurement"
SETTINGS = {"MAX_STREAMS": "12000", "MAX_STREAMS_PER_PRINCIPAL": "12000"}
PUBLISHING_TIMEOUT = 30.0


def fan_out(name: str, under_way: int) -> Callable[[Workbench], Result]:
    """Return the benchmark of the events a second that arrive at all viewers of a stream.

    So many are published without waiting for the PUBACK: those that come in one commit are
    written at once. With one, the viewers wait for each commit.
    """

    def run(bench: Workbench) -> Result:
        sides = partial(_shown, bench, under_way), partial(_written, bench)
        return Result(name, "events/s", FANOUT, *alternate(bench.scale.rounds, *sides))

    return run


def _shown(bench: Workbench, under_way: int) -> Sample:
    """Return the rate through the server, from MQTT to the viewers."""
    events = bench.scale.events
    with _server(bench) as side, _viewers(side, bench, WARM_UP_EVENTS) as viewers:
        viewers.ready()
        with bench.mqtt_load(
            side.mqtt_port,
            bench.scale.hundred.sensors,
            messages=events,
            warm_up=WARM_UP_EVENTS,
            window=under_way,
        ) as load:
            load.ready()
            sample = _delivered(side, viewers, bench.scale.viewers * events, load.signal)
            load.result()
            side.expect(events + WARM_UP_EVENTS)
        return sample


def _written(bench: Workbench) -> Sample:
    """Return the rate of the bare loop."""
    events = bench.scale.events
    with bench.apart("bare_fanout") as side, _viewers(side, bench, 0) as viewers:
        viewers.ready()
        asked = "127.0.0.1", side.http_port
        with socket.create_connection(asked, timeout=PUBLISHING_TIMEOUT) as asking:
            request = get(f"/publish/{events}", ADMIN_KEY)
            publish = partial(asking.sendall, request)
            return _delivered(side, viewers, bench.scale.viewers * events, publish)


def idle_viewers(bench: Workbench) -> Result:
    """Return what a viewer takes up who watches a stream on which nothing happens."""
    count = bench.scale.viewers

    def measure(side: Side) -> Sample:
        with Watch(side.process) as watch, _load(side, "idle", viewers=count) as load:
            load.measured()
            return Sample(watch.growth * 1_024 / count)

    found = bench.compared(measure, partial(_server, bench), partial(bench.apart, "bare_fanout"), 3)
    return Result("live-idle-viewer", "KiB", IDLE_VIEWER, *found)


def stalled_viewers(bench: Workbench) -> Result:
    """Return the 99th percentile of publish to event, one viewer in a hundred not reading.

    The ceiling is the same server's without them.
    """
    count = bench.scale.viewers

    def measure(stalled: int) -> Callable[[], Sample]:
        def sample() -> Sample:
            with (
                _server(bench) as side,
                Load(
                    "streams",
                    kind="latency",
                    port=side.http_port,
                    mqtt_port=side.mqtt_port,
                    key=ADMIN_KEY,
                    sensors=[identifier(1), identifier(2)],
                    viewers=count,
                    stalled=stalled,
                    samples=bench.scale.events,
                ) as load,
            ):
                ordered = sorted(load.measured()[0]["latencies"])
            extra = {"median": percentile(ordered, 0.5), "maximum": ordered[-1]}
            return Sample(percentile(ordered, 0.99), None, extra)

        return sample

    sides = measure(max(1, count // 100)), measure(0)
    return Result("live-stalled-p99", "ms", STALLED, *alternate(min(3, bench.scale.rounds), *sides))


def _server(bench: Workbench) -> contextlib.AbstractContextManager[Side]:
    return bench.server("sqlite", bench.scale.hundred, **SETTINGS)


def _load(side: Side, kind: str, **given: Any) -> Load:
    return Load("streams", kind=kind, port=side.http_port, path=STREAM, key=ADMIN_KEY, **given)


def _viewers(side: Side, bench: Workbench, warm_up: int) -> Load:
    return _load(side, "count", viewers=bench.scale.viewers, events=bench.scale.events + warm_up)


def _delivered(side: Side, viewers: Load, deliveries: int, publish: Callable[[], None]) -> Sample:
    """Return the rate from the first event published until all viewers have the last."""
    before = side.process.cpu_seconds()
    viewers.signal()
    publish()
    found = viewers.result()
    spent = side.process.cpu_seconds() - before
    return Sample.rate(deliveries, found, spent, events_a_write=found["events_a_write"])

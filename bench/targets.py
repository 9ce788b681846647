"""The targets of the specification, all at once: routes, messages that are processed, packets.

10,000 sensors over 2 million rows, 1,000 messages a second arriving, and 32 connections that call
all routes. One run; there is nothing to compare it with. A client of a telemetry server looks at
what it was answered before it asks again: each connection pauses for a quarter of a second on
average, so that all of them call about 120 times a second. `saturated` is the same without pauses:
then a call waits for 31 others, whatever it asks, and its time is that of all routes together.
"""

import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from bench import routes as table
from bench.result import Goal, Result, Sample, percentile
from bench.rule_rows import Rules
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError

CONNECTIONS = 32
PAUSE_SECONDS = 0.25
MESSAGES_A_SECOND = 1_000
# Of all sensors so many are those whose every message fires an action of a rule.
FIRING_SHARE = 0.1
SHARE = 0.95
ROUTES = Goal(100, "figure", "at most")
# What has come is processed within a second; the load's own clock is not better than this.
PROCESSED = Goal(0.99 * MESSAGES_A_SECOND, "figure")
PUBLISHED = Goal(500, "figure", "at most")
GRACE_SECONDS = 1.0
WARM_UP_SECONDS = 11.0
PATIENCE = 120.0
WAITING = (
    "SELECT (SELECT count(*) FROM observation)"
    " + (SELECT count(*) FROM action WHERE state = 'pending' AND type <> 'publish')"
)


def routes(engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of the slowest route's 95th percentile."""
    return _slowest("routes", engine, PAUSE_SECONDS, ROUTES)


def saturated(engine: str) -> Callable[[Workbench], Result]:
    """Return the same with connections that never pause."""
    return _slowest("saturated", engine, 0.0, None)


def _slowest(
    kind: str, engine: str, pause: float, goal: Goal | None
) -> Callable[[Workbench], Result]:
    def run(bench: Workbench) -> Result:
        found = _measured(bench, engine, pause)
        parts = {
            route: {
                "calls": len(spent),
                "median": percentile(spent, 0.5),
                "p95": percentile(spent, SHARE),
                "longest": spent[-1],
            }
            for route, times in sorted(found["routes"].items())
            if (spent := sorted(times))
        }
        slowest = max(part["p95"] for part in parts.values())
        calls = sum(part["calls"] for part in parts.values())
        sample = Sample(
            slowest,
            found["cpu_seconds"] / calls * 100_000,
            {"calls_a_second": calls / found["route_seconds"], "left_out": len(found["left_out"])},
        )
        return Result(name(kind, engine), "ms", goal, [sample], [], parts)

    return run


def processed(engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of messages processed a second: rules evaluated, actions done."""

    def run(bench: Workbench) -> Result:
        found = _measured(bench, engine)
        extra = {name: found[name] for name in ("drained", "actions", "unacknowledged")}
        rate = (found["messages"] - found["waiting"]) / found["seconds"]
        sample = Sample(rate, None, extra)
        return Result(name("processed", engine), "messages/s", PROCESSED, [sample], [])

    return run


def published(engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of a posted packet's way to a subscriber: its 99th percentile."""

    def run(bench: Workbench) -> Result:
        spent = sorted(_measured(bench, engine)["packets"])
        extra = {"median": percentile(spent, 0.5), "longest": spent[-1], "packets": len(spent)}
        sample = Sample(percentile(spent, 0.99), None, extra)
        return Result(name("publish", engine), "ms", PUBLISHED, [sample], [])

    return run


KINDS = {
    "routes": routes,
    "processed": processed,
    "publish": published,
    "saturated": saturated,
}


def name(kind: str, engine: str) -> str:
    """Return what the benchmark is called."""
    return f"targets-{kind}" if engine == "sqlite" else f"targets-{kind}-{engine}"


def _measured(bench: Workbench, engine: str, pause: float = PAUSE_SECONDS) -> dict[str, Any]:
    """Return what the benchmarks with such pauses are taken of, measured once."""
    key = f"targets, {engine}, {pause}"
    if key not in bench.kept:
        bench.kept[key] = _run(bench, engine, pause)
    found: dict[str, Any] = bench.kept[key]
    return found


def _run(bench: Workbench, engine: str, pause: float) -> dict[str, Any]:
    profile, seconds = bench.scale.standard, bench.scale.target_seconds
    with contextlib.ExitStack() as running:
        database = running.enter_context(bench.database(engine, profile, bare=False))
        running.enter_context(database.vacuumed())
        network = database.text("SELECT identifier FROM network WHERE name = 'default'")
        firing = [*range(1, max(2, int(profile.sensors * FIRING_SHARE)))]
        rules = Rules(database)
        told = {"type": "sse", "on": "message"}
        # Each of these has an alert open, too.
        rules.add("always", _above(0), sensors=firing, actions=[told, {"type": "alert"}])
        rules.add("never", _above(1_000))
        rules.store()
        side = running.enter_context(bench.serving(database))
        described = table.described(_paths(side))
        common = {"key": ADMIN_KEY, "sensors": profile.sensors}
        loads = {
            "messages": Load(
                "arriving_load",
                kind="messages",
                port=side.mqtt_port,
                rate=MESSAGES_A_SECOND,
                **common,
            ),
            "packets": Load(
                "arriving_load",
                kind="packets",
                port=side.http_port,
                mqtt_port=side.mqtt_port,
                **common,
            ),
            "routes": Load(
                "route_load",
                port=side.http_port,
                connections=CONNECTIONS,
                pause=pause,
                network=network,
                described=described,
                **common,
            ),
        }
        for load in loads.values():
            running.enter_context(load)
        for load in loads.values():
            load.ready()
        loads["messages"].signal()
        # Each sensor has sent once by then, and those of the rule have their alerts. The
        # connections that call all routes are at it already; it is not measured yet.
        loads["routes"].wait(min(WARM_UP_SECONDS, seconds))
        before = side.process.cpu_seconds()
        for name in ("routes", "packets"):
            loads[name].signal()
        loads["routes"].wait(seconds)
        # The messages first: what is measured of them is what comes beside all the rest.
        loads["messages"].signal()
        found = loads["messages"].result()
        for name in ("routes", "packets"):
            loads[name].signal()
        time.sleep(GRACE_SECONDS)
        found["waiting"] = int(database.text(WAITING))
        answered = loads["routes"].result()
        found |= {"routes": answered["milliseconds"], "route_seconds": answered["seconds"]}
        found["packets"] = loads["packets"].result()["milliseconds"]
        found["cpu_seconds"] = side.process.cpu_seconds() - before
        found["drained"] = _drained(side)
        found["actions"] = database.count("action WHERE state = 'done' AND type = 'sse'")
        found["left_out"] = [route for route in described if route not in found["routes"]]
        if found["left_out"]:
            print(f"not called: {', '.join(found['left_out'])}", file=sys.stderr)
        # A notice of a channel that was deleted since is not one of them.
        if database.count("action WHERE state = 'failed' AND type <> 'notify'"):
            raise LoadError("actions have failed")
        return found


def _above(bound: float) -> dict[str, Any]:
    return {"attribute": "temperature", "above": bound}


def _paths(side: Side) -> dict[str, dict[str, Any]]:
    """Return the paths of the server's OpenAPI document."""
    url = f"http://127.0.0.1:{side.http_port}/openapi.json"
    with urllib.request.urlopen(url, timeout=30) as answer:
        paths: dict[str, dict[str, Any]] = json.load(answer)["paths"]
        return paths


def _drained(side: Side) -> float:
    """Return the seconds until nothing waits to be processed any more."""
    started = time.monotonic()
    while int(side.database.text(WAITING)):
        if time.monotonic() - started > PATIENCE:
            raise LoadError("what has come is not all processed")
        time.sleep(0.1)
    return time.monotonic() - started

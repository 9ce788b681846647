"""Benchmarks of rules: what they cost the ingest of the messages that they look at.

The ceiling is the same server with the same load and no rules. `elsewhere`: their network or their
sensors are others; `1percent`: each falls upon one sensor in a hundred; `all`: upon all of them. No
condition holds, except that of `firing`, for each message of one sensor in a hundred.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import util
from typing import Any

from bench import packets
from bench.databases import Database
from bench.result import Goal, Result, Sample, alternate
from bench.rule_rows import Rules
from bench.sides import Workbench
from heliograph.processing.conditions import compile_condition, parse

LITTLE = Goal(0.95)
NATIVE = Goal(3, "figure", "at most")
CEL = Goal(20, "figure", "at most")
COUNTS = (10, 1_000)
SHARES = ("elsewhere", "1percent", "all")
# Of the costs: so many rules look at each message.
RULES = 10
EVALUATIONS = 200_000
MICROSECONDS = 1_000_000
CEL_NAME = "rules-cost-cel"

# No message has so much; each rule has a bound of its own.
Condition = Callable[[int], dict[str, Any]]


def native(number: int) -> dict[str, Any]:
    """Return a condition with hysteresis that holds for no message of the load."""
    return {"attribute": "temperature", "above": 1_000 + number, "clear_below": 900 + number}


def expression(number: int) -> dict[str, Any]:
    """Return the same in the Common Expression Language."""
    return {"cel": f"value.temperature > {1_000 + number}.0"}


def kinds() -> Iterator[tuple[str, Callable[[Workbench], Result]]]:
    """Yield all of them by name."""
    for share in SHARES:
        for count in COUNTS:
            yield f"rules-{share}-{count}", falling(share, count)
    yield "rules-firing", falling("firing", 1)
    yield "rules-cost-native", cost("rules-cost-native", native, NATIVE)
    yield CEL_NAME, cost(CEL_NAME, expression, CEL)


def missing() -> dict[str, str]:
    """Return what this machine lacks for a benchmark."""
    if util.find_spec("cel_expr_python") is None:
        return {CEL_NAME: "the extra `cel` is not installed"}
    return {}


def falling(share: str, count: int) -> Callable[[Workbench], Result]:
    """Return the benchmark of the ingest beside so many rules."""
    name = f"rules-{share}-{count}" if share in SHARES else f"rules-{share}"

    def run(bench: Workbench) -> Result:
        scale = bench.scale
        # Each message passes so many rules: there have to be fewer where it passes a thousand.
        passed = count if share == "all" else count // 100
        messages = scale.messages if passed <= RULES else scale.rule_messages
        found = alternate(
            scale.rounds,
            lambda: _sample(bench, messages, partial(_store, share, count, native)),
            lambda: _sample(bench, scale.messages),
        )
        return Result(name, "messages/s", LITTLE if share == "elsewhere" else None, *found)

    return run


def cost(name: str, condition: Condition, goal: Goal) -> Callable[[Workbench], Result]:
    """Return the benchmark of the CPU time that one rule adds to one message, in microseconds.

    The ceiling is the condition's own evaluation, over and over on one decoded value.
    """

    def run(bench: Workbench) -> Result:
        messages = bench.scale.messages

        def added() -> Sample:
            with_rules = _sample(bench, messages, partial(_store, "all", RULES, condition))
            without = _sample(bench, messages)
            spent = (with_rules.cpu_seconds_per_100k or 0) - (without.cpu_seconds_per_100k or 0)
            return Sample(spent / 100_000 / RULES * MICROSECONDS)

        found = alternate(bench.scale.rounds, added, lambda: Sample(_bare(condition)))
        return Result(name, "µs", goal, *found)

    return run


def _store(share: str, count: int, condition: Condition, database: Database) -> None:
    """Store so many rules that fall upon that share of the sensors."""
    rules, sensors = Rules(database), database.profile.sensors
    other = rules.network("elsewhere") if share == "elsewhere" else ""
    hundredth = max(1, sensors // 100)
    for number in range(count):
        first = number * hundredth % sensors
        some = [(first + each) % sensors + 1 for each in range(hundredth)]
        if share == "elsewhere" and number % 2:
            rules.add(f"rule {number}", condition(number), network=other)
        elif share == "elsewhere":
            # The last of them sends nothing.
            rules.add(f"rule {number}", condition(number), sensors=[sensors])
        elif share == "firing":
            always = {"attribute": "temperature", "above": 0}
            told = {"type": "sse", "on": "message"}
            rules.add(f"rule {number}", always, sensors=some, actions=[told])
        else:
            named = some if share == "1percent" else ()
            rules.add(f"rule {number}", condition(number), sensors=named)
    rules.store()


def _sample(
    bench: Workbench, messages: int, store: Callable[[Database], None] | None = None
) -> Sample:
    """Return the listener's rate with what is stored before the server starts."""
    profile = bench.scale.standard
    warm_up = min(bench.scale.warm_up, messages)
    with bench.database("sqlite", profile, bare=False) as database:
        if store:
            store(database)
        with (
            bench.serving(database) as side,
            bench.mqtt_load(
                side.mqtt_port, profile.sensors - 1, messages=messages, warm_up=warm_up
            ) as load,
        ):
            found, spent = load.measured(side.process)
            side.expect(messages + warm_up)
    return Sample.rate(messages, found, spent)


def _bare(condition: Condition) -> float:
    """Return the microseconds that a condition takes for one value."""
    evaluate = compile_condition(parse(condition(0)))
    value = json.loads(packets.value(0))
    started = time.process_time()
    for _ in range(EVALUATIONS):
        evaluate(value, 0, {})
    return (time.process_time() - started) / EVALUATIONS * MICROSECONDS

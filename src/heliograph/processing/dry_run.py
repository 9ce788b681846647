"""A rule tried on what a sensor has sent: when it would have raised, how often and for how long."""

from collections.abc import Iterable
from typing import Final

import msgspec

from heliograph.model.attributes import keys_of, value_at
from heliograph.processing import conditions
from heliograph.processing.conditions import Condition, Verdict, finite_number
from heliograph.processing.rules import CompiledRule, Occasion
from heliograph.processing.state import GRACE, Observation, Tick, Transition, advance, start

# Of a dry run; later ones are counted, and no more than that.
MOST_SPANS = 1_000
# In a chart's width, in pixels of it: each has its lowest and highest number.
COLUMNS = 800

# What operators draw as lines over an attribute's numbers.
_BOUNDED: Final = frozenset({"above", "below", "outside", "inside"})


class RaisedSpan(msgspec.Struct, frozen=True):
    """From when to when the rule would have been raised (microseconds; None: it still is)."""

    raised_at: int
    cleared_at: int | None


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule would have done from `start` to `end`. Times are microseconds.

    `raises` may be more than there are `spans`. `raised_for` is how long it was raised in all,
    `naive_raises` how often a rule would have raised without durations, cooldown and hysteresis.
    `absent` messages had nothing that the condition is about; on `failed` ones its expression was
    wrong. `columns` are time, lowest and highest number of `attribute`, in the order of time.
    """

    start: int
    end: int
    messages: int
    absent: int
    failed: int
    raises: int
    raised_for: int
    naive_raises: int
    spans: list[RaisedSpan]
    attribute: str | None
    bounds: list[float]
    clear_bounds: list[float]
    columns: list[tuple[int, float, float]]


def dry_run(rule: CompiledRule, series: Iterable[Observation], begin: int, end: int) -> DryRun:
    """Return what the rule would have done with the messages of `begin` to `end`, in their order.

    Each counts as if it had arrived at its own timestamp; what the clock drives is counted from
    `begin`. Memory does not grow with the messages.
    """
    charted = _charted(rule.rule.condition)
    keys = keys_of(charted.attribute) if charted and charted.attribute else None
    state = start(rule, begin)
    spans = _Spans()
    counts = dict.fromkeys(Verdict, 0)
    messages = naive = 0
    held_before = False
    columns: dict[int, tuple[int, float, float]] = {}
    width = max(1, end - begin)
    for each in series:
        # What was received late then, or is imported, is not what is tried here.
        at = each.timestamp
        verdict = rule.evaluate(each.value, at, state.previous)
        message = msgspec.structs.replace(each, received_at=at, verdict=verdict)
        if rule.by_clock:
            state, made = advance(rule, state, Tick(at))
            spans.add(made)
        state, made = advance(rule, state, message)
        spans.add(made)
        messages += 1
        counts[verdict] += 1
        if verdict in (Verdict.HOLDS, Verdict.BETWEEN, Verdict.CLEARS):
            holds = verdict is Verdict.HOLDS
            naive += holds and not held_before
            held_before = holds
        if keys is not None and finite_number(number := value_at(each.value, keys)):
            column = min(COLUMNS - 1, max(0, (at - begin) * COLUMNS // width))
            _, low, high = columns.get(column, (at, number, number))
            columns[column] = (at, min(low, number), max(high, number))
    _, made = advance(rule, state, Tick(end if rule.by_clock else end + GRACE))
    spans.add(made)
    bounds, clear_bounds = _lines(charted)
    return DryRun(
        start=begin,
        end=end,
        messages=messages,
        absent=counts[Verdict.ABSENT],
        failed=counts[Verdict.FAILED],
        raises=spans.raises,
        raised_for=spans.raised_for + (end - spans.raised_at if spans.raised_at is not None else 0),
        # Each silence is one, however it is counted.
        naive_raises=spans.raises if rule.by_clock else naive,
        spans=spans.whole(),
        attribute=charted.attribute if charted else None,
        bounds=bounds,
        clear_bounds=clear_bounds,
        columns=[columns[column] for column in sorted(columns)],
    )


class _Spans:
    """The spans that transitions make, of which only the first are kept."""

    def __init__(self) -> None:
        self.kept: list[RaisedSpan] = []
        self.raises = 0
        self.raised_for = 0
        self.raised_at: int | None = None

    def add(self, transitions: list[Transition]) -> None:
        for each in transitions:
            if each.occasion is Occasion.RAISED:
                self.raises += 1
                self.raised_at = each.at
            elif each.occasion is Occasion.CLEARED and self.raised_at is not None:
                self.raised_for += each.at - self.raised_at
                if len(self.kept) < MOST_SPANS:
                    self.kept.append(RaisedSpan(self.raised_at, each.at))
                self.raised_at = None

    def whole(self) -> list[RaisedSpan]:
        if self.raised_at is None or len(self.kept) >= MOST_SPANS:
            return self.kept
        return [*self.kept, RaisedSpan(self.raised_at, None)]


def _charted(condition: Condition) -> Condition | None:
    """Return the condition whose numbers are drawn: the first with bounds, else with numbers."""
    leaves = [leaf for leaf in conditions.leaves(condition) if leaf.attribute is not None]
    bounded = [leaf for leaf in leaves if leaf.operator in _BOUNDED]
    return next(iter(bounded or leaves), None)


def _lines(condition: Condition | None) -> tuple[list[float], list[float]]:
    if condition is None or condition.operator not in _BOUNDED:
        return [], []
    of_one = condition.operator in ("above", "below")
    bounds = [condition.operand] if of_one else list(condition.operand)
    if condition.clear is None:
        return bounds, []
    return bounds, [condition.clear] if of_one else list(condition.clear)

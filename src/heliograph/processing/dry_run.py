"""A rule tried on what a sensor has sent: when it would have raised, how often and for how long."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

import msgspec

from heliograph.model.attributes import keys_of, value_at
from heliograph.model.records import Heartbeat, Kind, Log, Measurement, PacketRecord
from heliograph.processing import conditions
from heliograph.processing.conditions import Condition, Verdict, finite_number, value_of
from heliograph.processing.rules import CompiledRule, Occasion
from heliograph.processing.state import GRACE, Observation, Tick, Transition, advance, start
from heliograph.store import Store
from heliograph.store.pages import CHUNK_SIZE, GREATEST, Hold, Pages, hold_any, position

# Of a dry run; later ones are counted, and no more than that.
MOST_SPANS = 1_000
# In a chart's width, in pixels of it: each has its lowest and highest number.
COLUMNS = 800

# Of what is stored, about; and for how many seconds it goes on.
MOST_MESSAGES = 100_000
LONGEST_TRIAL = 10.0

# The kinds that are stored, and where; presence is not.
_STORED: Final = {
    Kind.MEASUREMENT: "measurements",
    Kind.LOG: "logs",
    Kind.HEARTBEAT: "heartbeats",
    Kind.PACKET: "packets",
}
# The columns before those that a kind has of its own.
_FRAME: Final = (None,) * 7

# What operators draw as lines over an attribute's numbers.
_BOUNDED: Final = frozenset({"above", "below", "outside", "inside"})


class NoHistoryError(Exception):
    """What a rule is about is not stored, so that it cannot be tried."""


class RaisedSpan(msgspec.Struct, frozen=True):
    """From when to when the rule would have been raised (microseconds; None: it still is)."""

    raised_at: int
    cleared_at: int | None


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule would have done from `start` to `end`. Times are microseconds.

    `complete`: no message was left out, so that `end` is what was asked for. `raises` may be more
    than there are `spans`. `raised_for` is how long it was raised in all, `naive_raises` how often
    a rule would have raised without durations, cooldown and hysteresis. `absent` messages had
    nothing that the condition is about; on `failed` ones its expression was wrong. `columns` are
    time, lowest and highest number of `attribute`, in the order of time.
    """

    start: int
    end: int
    complete: bool
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


class Trial:
    """A dry run under way: memory does not grow with the messages."""

    def __init__(self, rule: CompiledRule, begin: int, end: int, *, registered: int = 0) -> None:
        """Begin with a rule that has seen nothing; what the clock drives is counted from there.

        `registered`: when the sensor was, before which it was not silent. It may have sent before
        that, elsewhere.
        """
        self._rule = rule
        self._begin, self._end = begin, end
        self._registered = min(max(begin, registered), end)
        self._charted = _charted(rule.rule.condition)
        attribute = self._charted.attribute if self._charted else None
        self._keys = keys_of(attribute) if attribute else None
        self._state = start(rule, self._registered)
        self._spans = _Spans()
        self._counts = dict.fromkeys(Verdict, 0)
        self._messages = self._naive = 0
        self._held_before = False
        self._columns: dict[int, tuple[int, float, float]] = {}

    def take(self, series: Iterable[Observation]) -> None:
        """Try the rule on the next messages, in their order.

        Each counts as if it had arrived at its own timestamp.
        """
        rule, begin = self._rule, self._begin
        width = max(1, self._end - begin)
        for each in series:
            # What was received late then, or is imported, is not what is tried here.
            at = each.timestamp
            verdict = rule.evaluate(each.value, at, self._state.previous)
            message = msgspec.structs.replace(each, received_at=at, verdict=verdict)
            if rule.by_clock:
                if not self._messages and at < self._registered:
                    self._state = start(rule, at)
                self._advance(Tick(at))
            self._advance(message)
            self._messages += 1
            self._counts[verdict] += 1
            if verdict in (Verdict.HOLDS, Verdict.BETWEEN, Verdict.CLEARS):
                holds = verdict is Verdict.HOLDS
                self._naive += holds and not self._held_before
                self._held_before = holds
            keys = self._keys
            if keys is not None and finite_number(number := value_at(each.value, keys)):
                column = min(COLUMNS - 1, max(0, (at - begin) * COLUMNS // width))
                _, low, high = self._columns.get(column, (at, number, number))
                self._columns[column] = (at, min(low, number), max(high, number))

    def finish(self, reached: int | None = None) -> DryRun:
        """Return what came of it; `reached` is up to when messages were taken, if not all were."""
        rule, spans = self._rule, self._spans
        end = self._end if reached is None else reached
        self._advance(Tick(end if rule.by_clock else end + GRACE))
        bounds, clear_bounds = _lines(self._charted)
        still = end - spans.raised_at if spans.raised_at is not None else 0
        return DryRun(
            start=self._begin,
            end=end,
            complete=reached is None,
            messages=self._messages,
            absent=self._counts[Verdict.ABSENT],
            failed=self._counts[Verdict.FAILED],
            raises=spans.raises,
            raised_for=spans.raised_for + still,
            # Each silence is one, however it is counted.
            naive_raises=spans.raises if rule.by_clock else self._naive,
            spans=spans.whole(),
            attribute=self._charted.attribute if self._charted else None,
            bounds=bounds,
            clear_bounds=clear_bounds,
            columns=[self._columns[column] for column in sorted(self._columns)],
        )

    def _advance(self, event: Observation | Tick) -> None:
        self._state, made = advance(self._rule, self._state, event)
        self._spans.add(made)


def dry_run(
    rule: CompiledRule,
    series: Iterable[Observation],
    begin: int,
    end: int,
    *,
    registered: int = 0,
) -> DryRun:
    """Return what the rule would have done with the messages of `begin` to `end`, in order."""
    trial = Trial(rule, begin, end, registered=registered)
    trial.take(series)
    return trial.finish()


async def try_rule(
    store: Store, rule: CompiledRule, sensor: int, begin: int, end: int, *, hold: Hold = hold_any
) -> DryRun:
    """Return what the rule would have done with what is stored of a sensor, by its number.

    From `begin` to before `end`. It ends early, at a timestamp of which it has all messages, after
    `MOST_MESSAGES` or `LONGEST_TRIAL` seconds. `hold` gets what it holds of memory, in bytes.

    Raises:
        NoHistoryError: what the rule is about is not stored.
    """
    kinds = [kind for kind in rule.rule.kinds if kind in _STORED]
    if not kinds:
        raise NoHistoryError
    most = [CHUNK_SIZE] * len(kinds)
    hold(sum(most))
    deadline = time.monotonic() + LONGEST_TRIAL
    known = await store.sensors.find_number(sensor)
    registered = 0 if known is None else known.created_at
    trial, taken, reached = Trial(rule, begin, end, registered=registered), 0, None
    async with AsyncExitStack() as stack:
        sources = []
        for index, kind in enumerate(kinds):
            pages: Pages[Any] = getattr(store, _STORED[kind])
            after = (begin - 1, GREATEST)

            def reserve(size: int, index: int = index) -> None:
                most[index] = max(most[index], size)
                hold(sum(most))

            source = pages.rows(
                sensor, after, forward=True, limit=GREATEST, bound=end - 1, reserve=reserve
            )
            sources.append(await stack.enter_async_context(aclosing(source)))
        async for records in _merged(sources):
            if taken >= MOST_MESSAGES or time.monotonic() > deadline:
                reached = records[0].timestamp
                break
            taken += len(records)
            # What a condition costs is its author's choice: nobody else waits for it.
            await asyncio.to_thread(trial.take, map(_observation, records))
    return trial.finish(reached)


async def _merged(
    sources: Sequence[AsyncGenerator[tuple[list[Any], list[int]], None]],
) -> AsyncGenerator[list[Any], None]:
    """Yield the records of several sources in the order of their keys, some at a time."""
    waiting: list[list[Any]] = [[] for _ in sources]
    left = set(range(len(sources)))
    while left:
        for index in [index for index in left if not waiting[index]]:
            chunk = await anext(sources[index], None)
            if chunk is None:
                left.remove(index)
            else:
                waiting[index] = chunk[0]
        if not left:
            return
        # Beyond the end of a chunk others of its kind may come.
        until = min(position(waiting[index][-1]) for index in left)
        part = []
        for index in left:
            place = bisect_right(waiting[index], until, key=position)
            part += waiting[index][:place]
            waiting[index] = waiting[index][place:]
        part.sort(key=position)
        yield part


def _observation(record: Measurement | Log | Heartbeat | PacketRecord) -> Observation:
    said: tuple[Any, ...]
    if isinstance(record, Measurement):
        kind, said = Kind.MEASUREMENT, (record.value,)
    elif isinstance(record, Log):
        kind, said = Kind.LOG, (record.severity, record.subject, record.details)
    elif isinstance(record, PacketRecord):
        kind, said = Kind.PACKET, (None, None, record.payload)
    else:
        kind, said = Kind.HEARTBEAT, (record.success, record.details)
    value = value_of(kind, (*_FRAME, *said))
    return Observation(record.timestamp, record.fingerprint, record.receipt_timestamp, value)


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

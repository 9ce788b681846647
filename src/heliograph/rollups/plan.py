"""Which part of a range of time is answered from where: raw rows, minutes or hours.

 bucket boundary                          bucket boundary
      │ raw │ minutes │   hours   │ minutes │ raw │ raw …        frontier
──────┴─────┴─────────┴───────────┴─────────┴─────┴──────── … ─────┼──── raw ────▶ time
      to the minute  to the hour
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import msgspec

from heliograph.model.time import HOUR, MINUTE

# From a start (inclusive) to an end (exclusive), in microseconds.
Span: TypeAlias = tuple[int, int]

# Buckets that are on average shorter, and do not start at whole minutes, are counted from raw rows:
# hardly a minute is in one whole.
SHORTEST = 2 * MINUTE


class Standing(NamedTuple):
    """What of a sensor is rolled up: all before the frontier that isn't dirty.

    `dirty` are spans of whole hours, apart and ascending. Before `raw_from`, at a full hour,
    there are no raw rows any more, and rollups hold whatever is dirty.
    """

    frontier: int
    dirty: Sequence[Span] = ()
    raw_from: int | None = None


class RollupPlan(msgspec.Struct):
    """Where to read what; all spans are apart and ascending."""

    raw: list[Span]
    minutes: list[Span]
    hours: list[Span]


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans that cover the same, apart and ascending."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def plan(starts: Sequence[int], start: int, end: int, standing: Standing) -> RollupPlan:
    """Plan for the range from `start` to before `end`, whose buckets begin at `starts`.

    The last of `starts` is an end. Where there are no raw rows any more, a minute belongs to the
    bucket that it begins in.
    """
    made = RollupPlan([], [], [])
    raw_from = start if standing.raw_from is None else min(max(standing.raw_from, start), end)
    if start < raw_from:
        _split(made, starts, start, raw_from, whole_minutes=True)
    short = starts[-1] - starts[0] < SHORTEST * (len(starts) - 1) and any(
        moment % MINUTE for moment in starts
    )
    frontier = standing.frontier - standing.frontier % MINUTE
    at = raw_from
    for dirty_start, dirty_end in standing.dirty:
        if short or dirty_start >= min(frontier, end):
            break
        if dirty_end > at:
            _split(made, starts, at, min(dirty_start, end))
            _add(made.raw, max(at, dirty_start), min(dirty_end, end))
            at = max(at, min(dirty_end, end))
    if not short and at < min(frontier, end):
        _split(made, starts, at, min(frontier, end))
        at = min(frontier, end)
    _add(made.raw, at, end)
    return made


def _split(
    made: RollupPlan, starts: Sequence[int], start: int, end: int, *, whole_minutes: bool = False
) -> None:
    """Plan for what is rolled up."""
    inner = starts[bisect_right(starts, start) : bisect_left(starts, end)]
    edges = [start, *inner, end] if start < end else []
    if whole_minutes:
        edges = [_up(edge, MINUTE) for edge in edges]
    if not any(edge % HOUR for edge in edges):
        if edges:
            _add(made.hours, edges[0], edges[-1])
        return
    for first, last in pairwise(edges):
        low, high = _up(first, MINUTE), last - last % MINUTE
        if low >= high:
            _add(made.raw, first, last)
            continue
        _add(made.raw, first, low)
        hour_low, hour_high = _up(low, HOUR), high - high % HOUR
        if hour_low < hour_high:
            _add(made.minutes, low, hour_low)
            _add(made.hours, hour_low, hour_high)
            _add(made.minutes, hour_high, high)
        else:
            _add(made.minutes, low, high)
        _add(made.raw, high, last)


def _add(spans: list[Span], start: int, end: int) -> None:
    if start >= end:
        return
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def _up(moment: int, length: int) -> int:
    return moment + -moment % length

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

from heliograph.model.time import HOUR, MINUTE

# From a start (inclusive) to an end (exclusive), in microseconds.
Span: TypeAlias = tuple[int, int]

# Buckets that are on average shorter, and do not start at whole minutes, are counted from raw rows:
# hardly a minute is in one whole.
SHORTEST = 2 * MINUTE
# The same of packed rows: while nearly every chunk has an end of a bucket, to count it all from
# chunks takes less than to count its end besides the minutes' rollups.
SHORTEST_PACKED = 2 * HOUR


class Standing(NamedTuple):
    """What of a sensor is rolled up: all before the frontier that isn't dirty.

    `dirty` are spans of whole hours. Before `raw_from`, at a full hour, there are no raw rows any
    more, and rollups hold whatever is dirty. `newest` is the time of the newest measurement.
    Between the times `packed` most rows are packed.
    """

    frontier: int
    dirty: Sequence[Span] = ()
    raw_from: int | None = None
    newest: int | None = None
    packed: Span | None = None


class RollupPlan(NamedTuple):
    """Where to read what; all spans are apart and ascending."""

    raw: list[Span]
    minutes: list[Span]
    hours: list[Span]


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans that cover the same, apart and ascending; none is empty."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif start < end:
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
    frontier = standing.frontier - standing.frontier % MINUTE
    dirty = list(standing.dirty)
    if any(moment % MINUTE for moment in starts):
        average = (starts[-1] - starts[0]) // (len(starts) - 1)
        if average < SHORTEST:
            frontier = raw_from
        elif average < SHORTEST_PACKED and standing.packed is not None:
            dirty.append(standing.packed)
    at = raw_from
    for span in joined([*dirty, (frontier, max(frontier, end))]):
        first, last = min(max(span[0], at), end), min(max(span[1], at), end)
        _split(made, starts, at, first)
        made.raw.append((first, last))
        at = last
    _split(made, starts, at, end)
    return RollupPlan(*map(joined, made))


def _split(
    made: RollupPlan, starts: Sequence[int], start: int, end: int, *, whole_minutes: bool = False
) -> None:
    """Plan for what is rolled up."""
    inner = starts[bisect_right(starts, start) : bisect_left(starts, end)]
    # Buckets that change at a full hour are no edge: hours tell them apart.
    edges = [start, *[edge for edge in inner if edge % HOUR], end]
    if whole_minutes:
        edges = [edge + -edge % MINUTE for edge in edges]
    for first, last in pairwise(edges):
        if last - first < HOUR and not (first % MINUTE or last % MINUTE):
            made.minutes.append((first, last))
            continue
        at = first
        for spans, until in (
            (made.raw, min(at + -at % MINUTE, last)),
            (made.minutes, min(at + -at % HOUR, last - last % MINUTE)),
            (made.hours, last - last % HOUR),
            (made.minutes, last - last % MINUTE),
            (made.raw, last),
        ):
            if at < until:
                spans.append((at, until))
                at = until

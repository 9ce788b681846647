"""How long things took, counted in buckets, as Prometheus sums them up."""

import dataclasses
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

# From a request answered from memory to one that is about to time out. The last bucket has no end.
BOUNDS_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)


def _empty() -> list[int]:
    return [0] * (len(BOUNDS_SECONDS) + 1)


@dataclasses.dataclass(slots=True)
class Durations:
    """How many things took how long, and how many seconds they took together.

    What is on the way of each message counts here itself, so that it costs no call:
    `counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1` and `seconds += seconds`.
    """

    counts: list[int] = dataclasses.field(default_factory=_empty)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many things there were."""
        return sum(self.counts)

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with how many took no longer, the last one `+Inf`."""
        names = [*map(repr, BOUNDS_SECONDS), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


def together(parts: Iterable[Durations]) -> Durations:
    """Return several as one."""
    whole = Durations()
    for part in parts:
        whole.counts = [a + b for a, b in zip(whole.counts, part.counts, strict=True)]
        whole.seconds += part.seconds
    return whole

"""Choosing the rows of a series that show its shape: Largest Triangle Three Buckets.

Nothing imports this before it is needed: numpy takes 25 MiB and a tenth of a second.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tsdownsample import LTTBDownsampler, MinMaxDownsampler

Numbers: TypeAlias = NDArray[np.float64]
Keys: TypeAlias = NDArray[np.int64]

# Points that are held, of 24 bytes each. Of a longer series those are dropped that are neither
# the least nor the greatest among their neighbours: of 5,000 points that are chosen each then
# comes from at least 26 that are left.
HELD = 1 << 18

_lttb = LTTBDownsampler()
_extremes = MinMaxDownsampler()


class Curve:
    """A series of numbers, of which a bounded part is held."""

    def __init__(self) -> None:
        self._keys: list[Keys] = []
        self._values: list[Numbers] = []
        self._size = 0
        # Of so many points two are kept.
        self._among = 1

    def add(
        self,
        timestamps: Sequence[int],
        fingerprints: Sequence[int],
        values: Sequence[float | None],
    ) -> None:
        """Add points that are all later than those before; None is left out."""
        numbers = np.array(values, dtype=np.float64)
        keys = np.array((timestamps, fingerprints), dtype=np.int64)
        known = ~np.isnan(numbers)
        keys, numbers = keys[:, known], numbers[known]
        if self._among > 1 and len(numbers):
            kept = _least_and_greatest(numbers, 2 * -(-len(numbers) // self._among))
            keys, numbers = keys[:, kept], numbers[kept]
        self._keys.append(keys)
        self._values.append(numbers)
        self._size += len(numbers)
        if self._size > HELD:
            self._thin()

    def _thin(self) -> None:
        keys, values = self._held()
        kept = _least_and_greatest(values, self._size // 4 * 2)
        self._keys, self._values = [keys[:, kept]], [values[kept]]
        self._size = len(kept)
        self._among = max(4, 2 * self._among)

    def _held(self) -> tuple[Keys, Numbers]:
        return np.concatenate(self._keys, axis=1), np.concatenate(self._values)

    def pick(self, count: int) -> list[tuple[int, int]]:
        """Return the keys (timestamp, fingerprint) of so many points, ascending; at least 3."""
        if not self._size:
            return []
        keys, values = self._held()
        if len(values) > count:
            # Areas of the greatest numbers there are would be beyond a float.
            scale = np.abs(values).max() or 1.0
            chosen = _lttb.downsample(keys[0] - keys[0][0], values / scale, n_out=count)
            keys = keys[:, chosen]
        timestamps, fingerprints = keys.tolist()
        return list(zip(timestamps, fingerprints, strict=True))


def _least_and_greatest(values: Numbers, count: int) -> NDArray[np.uint64]:
    """Return where up to `count` (even) of the least and greatest are, and the first and last."""
    if len(values) <= count:
        return np.arange(len(values), dtype=np.uint64)
    found = _extremes.downsample(values, n_out=count)
    ends = np.array((0, len(values) - 1), dtype=np.uint64)
    # Where all are equal, one is both.
    return np.unique(np.concatenate((found, ends)))

"""The keys of the newest rows, in memory."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

KEYS_A_GENERATION = 50_000

_key = itemgetter(1, 2, 3)


class RecentKeys:
    """Tells rows that are likely repeats, without asking the database.

    Holds the hashes of the last 50,000 to 100,000 keys: 10 MiB at most. A wrong suspicion
    costs a slower way to store a batch, a repeat that is too old a rolled back savepoint.
    """

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._old: set[int] = set()

    def suspect(self, keys: Iterable[int]) -> bool:
        """Tell whether one of the keys was remembered."""
        keys = keys if isinstance(keys, set) else set(keys)
        return not (keys.isdisjoint(self._new) and keys.isdisjoint(self._old))

    def remember(self, keys: Iterable[int]) -> None:
        """Remember keys of rows that are committed now."""
        if len(self._new) >= KEYS_A_GENERATION:
            self._new, self._old = set(), self._new
        self._new.update(keys)


def keys_of(rows: Iterable[tuple[Any, ...]]) -> set[int]:
    """Return the hashes of the rows' (sensor, timestamp, fingerprint)."""
    return set(map(hash, map(_key, rows)))

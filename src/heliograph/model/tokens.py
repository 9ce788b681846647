"""Tokens: so many a minute for each name, in buckets that hold what is not taken at once."""

from typing import NamedTuple


class Taken(NamedTuple):
    """What was taken from buckets of a kind, by name, since that was asked for the last time.

    A bucket holds up to `capacity` tokens and gets `per_second`. Less than 0 was put back.
    """

    kind: str
    capacity: float
    per_second: float
    by_name: dict[int | str, float]

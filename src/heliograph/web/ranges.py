"""Ranges of time by their length: `range=24h`."""

import re
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator

from heliograph.model.time import DAY, HOUR, MINUTE, SECOND

UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_RANGE = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
LONGEST_RANGE = 100 * 366 * DAY


def _range(text: str) -> str:
    match = _RANGE.fullmatch(text)
    if match is None or range_length(text) > LONGEST_RANGE:
        raise ValueError("must be like 90s, 15m, 24h, 7d or 4w")
    return text


def range_length(text: str) -> int:
    """Return the length in microseconds of a range like `24h`."""
    return int(text[:-1]) * UNITS[text[-1]]


Range = Annotated[
    str,
    AfterValidator(_range),
    Query(alias="range", description="Like 90s, 15m, 24h, 7d, 4w; back from `end`"),
]

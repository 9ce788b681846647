"""Ranges of time by their length: `range=24h`."""

import re
from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator

from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.web.errors import validation_error

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


def check_order(start: int | None, end: int | None) -> None:
    """Check that a range does not end before it starts; None: it has no such bound.

    Raises:
        RequestValidationError: it does.
    """
    if start is not None and end is not None and start > end:
        raise validation_error(("query", "start"), "range", "start is after end")


def check_range(request: Request, start: int | None, end: int | None) -> None:
    """Check the same where a `range` may be told in place of `start`.

    Raises:
        RequestValidationError: it ends before it starts; both are told, one would be ignored.
    """
    if start is not None and "range" in request.query_params:
        raise validation_error(("query", "range"), "value_error", "goes without start")
    check_order(start, end)


Range = Annotated[
    str,
    AfterValidator(_range),
    Query(alias="range", description="Like 90s, 15m, 24h, 7d, 4w; back from `end`"),
]

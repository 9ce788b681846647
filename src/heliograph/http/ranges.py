"""Ranges of time: by their bounds, by their length (`range=24h`), and charts of them (`points=N`).

A chart has those measurements of a range that show how the numbers of an attribute went.
"""

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator

from heliograph.http.errors import validation_error
from heliograph.http.pages import Attributes
from heliograph.http.schemas import End, Start
from heliograph.model.records import Measurement
from heliograph.model.time import DAY, HOUR, LATEST, MINUTE, SECOND, now
from heliograph.store import Store
from heliograph.store.measurements import RangeTooLargeError
from heliograph.store.points import FEWEST_POINTS, MOST_POINTS

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

# What says which page it is to be: a chart has none.
_PAGE = ("creation_timestamp", "direction", "limit", "cursor")
_BOUNDS = ("start", "end", "range")

Points = Annotated[
    int | None,
    Query(
        ge=FEWEST_POINTS,
        le=MOST_POINTS,
        description="How many to choose of the range, for a chart of the one `attribute`",
    ),
]


class AskedChart:
    """What chart of measurements is asked for, if one is, as FastAPI collects it."""

    def __init__(
        self,
        request: Request,
        points: Points = None,
        start: Start = None,
        end: End = None,
        length: Range = "24h",
        attributes: Attributes = None,
    ) -> None:
        self.points = points
        self.attribute = check_points(request, points, attributes)
        if points is None:
            _refuse(request, _BOUNDS, "goes with points")
        check_range(request, start, end)
        self.start = (now() if end is None else end) - range_length(length)
        if start is not None:
            self.start = start
        # Nothing is too new: a device's clock may be ahead of the server's.
        self.end = LATEST + 1 if end is None else end


def check_points(
    request: Request, points: int | None, attributes: Sequence[str] | None
) -> str | None:
    """Return the attribute that a chart is asked of; None: none is asked for.

    Raises:
        RequestValidationError: there is not one, or a page is asked for as well.
    """
    if points is None:
        return None
    _refuse(request, _PAGE, "goes without points")
    names = set(attributes or ())
    if len(names) != 1:
        raise validation_error(("query", "attribute"), "value_error", "points needs one attribute")
    return names.pop()


def _refuse(request: Request, names: Sequence[str], message: str) -> None:
    for name in names:
        if name in request.query_params:
            raise validation_error(("query", name), "value_error", message)


async def picked(
    store: Store, sensor: int, attribute: str, start: int, end: int, points: int
) -> list[Measurement]:
    """Return the measurements that show the attribute's course, oldest first, and of each only it.

    Raises:
        RequestValidationError: the range has too many.
    """
    try:
        return await store.points.pick(sensor, attribute, start=start, end=end, count=points)
    except RangeTooLargeError as error:
        message = f"The range has {error}"
        raise validation_error(("query", "start"), "range", message) from None

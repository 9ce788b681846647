"""Ranges of time: by their bounds, by their length (`range=24h`), and charts of them (`points=N`).

A chart has those measurements of a range that show how the numbers of an attribute went.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import Depends, Query, Request
from pydantic import PlainValidator, WithJsonSchema

from heliograph.http.errors import validation_error
from heliograph.http.pages import Attributes
from heliograph.http.schemas import End, Start
from heliograph.model.records import Measurement
from heliograph.model.time import DAY, HOUR, LATEST, MINUTE, SECOND, now
from heliograph.store import Store
from heliograph.store.measurements import RangeTooLargeError
from heliograph.store.points import FEWEST_POINTS, MOST_POINTS

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_RANGE = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_LONGEST = 100 * 366 * DAY


def range_length(text: str) -> int:
    """Return the length in microseconds of a range like `24h`.

    Raises:
        ValueError: it is none, or one of more than 100 years.
    """
    match = _RANGE.fullmatch(text)
    length = int(match[1]) * _UNITS[match[2]] if match else 0
    if match is None or length > _LONGEST:
        raise ValueError("must be like 90s, 15m, 24h, 7d or 4w")
    return length


def check_order(start: int | None, end: int | None) -> None:
    """Check that a range does not end before it starts; None: it has no such bound.

    Raises:
        RequestValidationError: it does.
    """
    if start is not None and end is not None and start > end:
        raise validation_error(("query", "start"), "range", "start is after end")


_USUAL_RANGE = "24h"
_RANGES = "Like 90s, 15m, 24h, 7d, 4w; back from `end`"
# In microseconds.
Range = Annotated[
    int,
    PlainValidator(range_length),
    WithJsonSchema({"type": "string", "default": _USUAL_RANGE, "description": _RANGES}),
    Query(
        alias="range",
        description=_RANGES,
        default_factory=partial(range_length, _USUAL_RANGE),
    ),
]


class AskedRange:
    """The range of time that a request is about, as FastAPI collects it; in microseconds.

    Where no end is told it is the present, and `is_open`: nothing is too new, since a device's
    clock may be ahead of the server's.
    """

    def __init__(
        self, request: Request, start: Start = None, end: End = None, *, length: Range
    ) -> None:
        if start is not None:
            if "range" in request.query_params:
                raise validation_error(("query", "range"), "value_error", "goes without start")
            check_order(start, end)
        self.is_open = end is None
        self.end = now() if end is None else end
        self.start = self.end - length if start is None else start

    @property
    def last(self) -> int:
        """The end, exclusive; beyond all times where none is told."""
        return LATEST + 1 if self.is_open else self.end


TheRange = Annotated[AskedRange, Depends()]

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


class Chart(NamedTuple):
    """A range of time in so many points of an attribute."""

    attribute: str
    points: int
    start: int
    end: int


def asked_chart(
    request: Request,
    *,
    points: Points = None,
    start: Start = None,
    end: End = None,
    length: Range,
    attributes: Attributes = None,
) -> Chart | None:
    """Return the chart of measurements that is asked for, as FastAPI collects it; None: a page.

    Raises:
        RequestValidationError: parameters do not go together.
    """
    if points is None:
        _refuse(request, _BOUNDS, "goes with points")
        return None
    attribute = check_points(request, attributes)
    asked = AskedRange(request, start, end, length=length)
    return Chart(attribute, points, asked.start, asked.last)


def check_points(request: Request, attributes: Sequence[str] | None) -> str:
    """Return the one attribute that a chart is asked of.

    Raises:
        RequestValidationError: there is not one, or a page is asked for as well.
    """
    _refuse(request, _PAGE, "goes without points")
    names = set(attributes or ())
    if len(names) != 1:
        raise validation_error(("query", "attribute"), "value_error", "points needs one attribute")
    return names.pop()


def _refuse(request: Request, names: Sequence[str], message: str) -> None:
    for name in names:
        if name in request.query_params:
            raise validation_error(("query", name), "value_error", message)


async def picked(store: Store, sensor: int, chart: Chart) -> list[Measurement]:
    """Return the measurements that show the attribute's course, oldest first, and of each only it.

    Raises:
        RequestValidationError: the range has too many.
    """
    name, points, start, end = chart
    try:
        return await store.points.pick(sensor, name, start=start, end=end, count=points)
    except RangeTooLargeError as error:
        message = f"The range has {error}"
        raise validation_error(("query", "start"), "range", message) from None

"""`points=N`: of a range of measurements those that show an attribute's course in a chart."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request

from heliograph.model.records import Measurement
from heliograph.model.time import LATEST, now
from heliograph.store import Store
from heliograph.store.points import FEWEST_POINTS, MOST_POINTS
from heliograph.store.raw_reads import RangeTooLargeError
from heliograph.web.errors import validation_error
from heliograph.web.pages import Attributes
from heliograph.web.ranges import Range, check_range, range_length
from heliograph.web.schemas import End, Start

# What says which page it is to be: a chart has none.
_PAGE = ("creation_timestamp", "direction", "limit", "cursor")
_RANGE = ("start", "end", "range")

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
            _refuse(request, _RANGE, "goes with points")
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

"""A device's readings over a range of time."""

import functools
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request

from heliograph.access.registry import KnownSensor
from heliograph.http.answers import Answer, encode, encoded
from heliograph.http.attributes import check_attributes
from heliograph.http.csv_answers import CSV, TheChartForm, chart_table, csv_answer
from heliograph.http.pages import (
    Attributes,
    Cursor,
    decode_cursor,
    encode_cursor,
    next_to,
    page_headers,
)
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import Chart, Points, TheRange, check_points, picked
from heliograph.http.records import REVISION, JsonObject, Representation, ok
from heliograph.http.resources import ReadRoute, TheCall
from heliograph.http.schemas import ListLimit
from heliograph.model.records import Measurement
from heliograph.model.time import to_rfc3339
from heliograph.store.measurements import having
from heliograph.store.pages import Cursor as Position
from heliograph.store.pages import Page

router = APIRouter(prefix=f"{PREFIX}/devices", tags=["devices"], route_class=ReadRoute)

TheDirection = Annotated[
    Literal["older", "newer"], Query(description="Where the page goes from the cursor, or an end")
]


class HistoryEntry(Representation):
    """A reading; times are RFC 3339 in UTC."""

    id: Annotated[str, "What the server calls the row"]
    device_id: Annotated[str, "The device's `device_id`, or its UUID where it has none"]
    timestamp: Annotated[str, "When it was measured (RFC 3339, UTC)"]
    revision: Annotated[int | None, REVISION]
    metrics: Annotated[JsonObject, "The value; one that is no object as the attribute `value`"]


@router.get(
    "/{device_id}/history",
    responses=ok(list[HistoryEntry], media=CSV),
)
async def read_history(
    call: TheCall,
    request: Request,
    device_id: str,
    asked: TheRange,
    form: TheChartForm,
    limit: ListLimit = 1_000,
    attributes: Attributes = None,
    direction: TheDirection = "older",
    cursor: Cursor = None,
    points: Points = None,
) -> Answer:
    """Read a device's readings, newest first, from `start` or over the last `range`.

    Without `end` nothing is too new: a device's clock may be ahead of the server's. The `Link`
    header leads on exactly, `next` to the older ones and `previous` back. With `points` it is
    that many of the whole range; these may be CSV. An entry that is sent back, whichever way,
    changes nothing: its `id` names what is stored.
    """
    name = None if points is None else check_points(request, attributes)
    position = decode_cursor(cursor) if cursor is not None else None
    sensor, store = await call.device(device_id), call.store
    if attributes:
        await check_attributes(store, sensor, attributes)
    if points is not None and name is not None:
        chart = Chart(name, points, asked.start, asked.last)
        found = await picked(store, sensor.number, chart)
        if form.is_csv:
            return csv_answer(chart_table(name, found[::-1], spreadsheet=form.spreadsheet))
        return Answer(200, encode(_entries(sensor, found[::-1])))
    rows = await store.measurements.history(
        sensor.number,
        start=asked.start,
        end=asked.last,
        limit=limit,
        cursor=position,
        newer=direction == "newer",
        select=having(attributes) if attributes else None,
        hold=call.held.hold,
    )
    query = [("start", to_rfc3339(asked.start)), ("end", to_rfc3339(asked.end))]
    query = query[:1] if asked.is_open else query
    query += [("limit", str(limit)), *(("attribute", name) for name in attributes or ())]
    links = _links(f"{call.path}?{urlencode(query)}", rows, direction, position)
    body = await encoded(rows, functools.partial(_entries, sensor), rows.size)
    return Answer(200, body, page_headers(links, rows))


def _entries(sensor: KnownSensor, rows: Sequence[Measurement]) -> list[HistoryEntry]:
    name = sensor.device_id or sensor.identifier
    return [
        HistoryEntry(str(row.id), name, to_rfc3339(row.timestamp), row.revision, metrics(row.value))
        for row in rows
    ]


def _links(path: str, page: Page[Measurement], direction: str, cursor: Position | None) -> str:
    newer = direction == "newer"
    onward = page.reached if page.more else None
    back = None
    if cursor is not None and page:
        row = page[-1] if newer else page[0]
        back = row.timestamp, row.fingerprint
    elif cursor is not None:
        back = next_to(cursor, 1 if newer else -1)
    older, younger = (back, onward) if newer else (onward, back)
    return ", ".join(
        f'<{path}&direction={towards}&cursor={encode_cursor(*at)}>; rel="{rel}"'
        for towards, rel, at in (("older", "next", older), ("newer", "previous", younger))
        if at is not None
    )


def metrics(value: msgspec.Raw) -> msgspec.Raw:
    """Return the value if it is an object; any other as the attribute `value`."""
    text = bytes(value)
    return value if text[:1] == b"{" else msgspec.Raw(b'{"value":%b}' % text)

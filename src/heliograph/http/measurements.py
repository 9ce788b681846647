"""Reading what sensors measured, logged and confirmed."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends

from heliograph.http.answers import Answer, encode
from heliograph.http.attributes import check_attributes
from heliograph.http.csv_answers import CSV, TheChartForm, chart_table, csv_answer
from heliograph.http.pages import Attributes, PageRequest
from heliograph.http.paths import PREFIX
from heliograph.http.ranges import Chart, asked_chart, picked
from heliograph.http.records import REVISION, JsonObject, Representation, ok
from heliograph.http.resources import ReadRoute, TheCall
from heliograph.model.records import Heartbeat, Log, Measurement
from heliograph.model.time import to_epoch_seconds
from heliograph.store.measurements import having

router = APIRouter(
    prefix=f"{PREFIX}/sensors/{{identifier}}", tags=["sensors"], route_class=ReadRoute
)

Page = Annotated[PageRequest, Depends()]
TheChart = Annotated[Chart | None, Depends(asked_chart)]


_CREATION = "When it was made, by the device (epoch seconds); without a clock, when it came"


class MeasurementEntry(Representation):
    """A measurement; times are epoch seconds."""

    revision: Annotated[int | None, REVISION]
    creation_timestamp: Annotated[float, _CREATION]
    measurement: Annotated[msgspec.Raw, "The value as it was sent, any JSON"]


class LogEntry(Representation):
    """A log message; times are epoch seconds."""

    revision: Annotated[int | None, REVISION]
    creation_timestamp: Annotated[float, _CREATION]
    severity: Annotated[str, "`debug`, `info`, `warning` or `error`"]
    subject: Annotated[str, "What it is about"]
    details: Annotated[str | None, "What more the device said"]


class HeartbeatEntry(Representation):
    """A sign of life, and whether a revision was applied; times are epoch seconds."""

    revision: Annotated[int | None, REVISION]
    creation_timestamp: Annotated[float, _CREATION]
    receipt_timestamp: Annotated[float, "When it came, by the server's clock (epoch seconds)"]
    success: Annotated[bool | None, "Whether the revision was applied; null: not said"]
    details: Annotated[
        JsonObject | None, "The members that have no other place; null: there are none"
    ]
    flagged: Annotated[
        bool, "There was no such revision when it came, so that it acknowledges nothing"
    ]


@router.get(
    "/measurements",
    responses=ok(list[MeasurementEntry], media=CSV),
)
async def read_measurements(
    call: TheCall,
    identifier: str,
    page: Page,
    chart: TheChart,
    form: TheChartForm,
    attributes: Attributes = None,
) -> Answer:
    """Read a page of a sensor's measurements, oldest first.

    Without `creation_timestamp` it is the newest page (the oldest with `direction=next`). A page
    never ends between two measurements of one time; the `Link` header leads on exactly. With
    `attribute` it has fewer than `limit`, or none, where those are rare: go on by the link.

    With `points` it is no page but so many measurements from `start` to `end`, or over the last
    `range`, as show in a chart how the numbers of the one `attribute` went; these may be CSV.
    """
    sensor = await call.readable(identifier)
    store = call.store
    if attributes:
        await check_attributes(store, sensor, attributes)
    if chart is not None:
        rows = await picked(store, sensor.number, chart)
        if form.is_csv:
            return csv_answer(chart_table(chart.attribute, rows, spreadsheet=form.spreadsheet))
        return Answer(200, encode(_measurements(rows)))
    return await page.answer(
        call,
        store.measurements,
        sensor.number,
        _measurements,
        select=having(attributes) if attributes else None,
        attributes=attributes or (),
    )


@router.get("/logs", responses=ok(list[LogEntry]))
async def read_logs(call: TheCall, identifier: str, page: Page) -> Answer:
    """Read a page of a sensor's log messages, oldest first; pages as of measurements."""
    sensor = await call.readable(identifier)
    return await page.answer(call, call.store.logs, sensor.number, _logs)


@router.get("/heartbeats", responses=ok(list[HeartbeatEntry]))
async def read_heartbeats(call: TheCall, identifier: str, page: Page) -> Answer:
    """Read a page of a sensor's heartbeats, oldest first; pages as of measurements.

    `flagged` are those that name a revision which did not exist when they came.
    """
    sensor = await call.readable(identifier)
    return await page.answer(call, call.store.heartbeats, sensor.number, _heartbeats)


def _measurements(rows: Sequence[Measurement]) -> list[MeasurementEntry]:
    return [
        MeasurementEntry(row.revision, to_epoch_seconds(row.timestamp), row.value) for row in rows
    ]


def _logs(rows: Sequence[Log]) -> list[LogEntry]:
    return [
        LogEntry(
            row.revision, to_epoch_seconds(row.timestamp), row.severity, row.subject, row.details
        )
        for row in rows
    ]


def _heartbeats(rows: Sequence[Heartbeat]) -> list[HeartbeatEntry]:
    return [
        HeartbeatEntry(
            row.revision,
            to_epoch_seconds(row.timestamp),
            to_epoch_seconds(row.receipt_timestamp),
            row.success,
            None if row.details is None else msgspec.Raw(row.details.encode()),
            row.unknown_revision,
        )
        for row in rows
    ]

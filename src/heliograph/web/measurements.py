"""Reading what sensors measured, logged and confirmed."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from heliograph.access.registry import KnownSensor
from heliograph.model.records import Heartbeat, Log, Measurement
from heliograph.model.time import to_epoch_seconds
from heliograph.store import Store
from heliograph.store.measurements import having
from heliograph.web.answers import held_by
from heliograph.web.attributes import check_attributes
from heliograph.web.bodies import Held
from heliograph.web.csv_answers import CSV, TheChartForm, chart_table, csv_answer
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.errors import Answer, encode
from heliograph.web.pages import MeasurementPageRequest, PageRequest, asked_path
from heliograph.web.paths import PREFIX
from heliograph.web.points import AskedChart, picked
from heliograph.web.records import REVISION, JsonObject, Representation, ok

router = APIRouter(prefix=f"{PREFIX}/sensors/{{identifier}}", tags=["sensors"])

Page = Annotated[PageRequest, Depends()]
MeasurementPage = Annotated[MeasurementPageRequest, Depends()]
Chart = Annotated[AskedChart, Depends()]


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
    request: Request,
    identifier: str,
    page: MeasurementPage,
    chart: Chart,
    form: TheChartForm,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read a page of a sensor's measurements, oldest first.

    Without `creation_timestamp` it is the newest page (the oldest with `direction=next`). A page
    never ends between two measurements of one time; the `Link` header leads on exactly. With
    `attribute` it has fewer than `limit`, or none, where those are rare: go on by the link.

    With `points` it is no page but so many measurements from `start` to `end`, or over the last
    `range`, as show in a chart how the numbers of the one `attribute` went; these may be CSV.
    """
    sensor = await access.readable(caller, identifier)
    await check_attributes(services.store, sensor, page.attributes)
    if chart.points is not None and chart.attribute is not None:
        rows = await picked(
            services.store, sensor.number, chart.attribute, chart.start, chart.end, chart.points
        )
        if form.is_csv:
            return csv_answer(chart_table(chart.attribute, rows)).response()
        return Answer(200, encode(_measurements(rows))).response()
    path, held = asked_path(request.scope), held_by(request.scope)
    answer = await measurements_page(services.store, sensor, page, path, held)
    return answer.response()


@router.get("/logs", responses=ok(list[LogEntry]))
async def read_logs(
    request: Request,
    identifier: str,
    page: Page,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read a page of a sensor's log messages, oldest first; pages as of measurements."""
    sensor = await access.readable(caller, identifier)
    path, held = asked_path(request.scope), held_by(request.scope)
    answer = await logs_page(services.store, sensor, page, path, held)
    return answer.response()


@router.get("/heartbeats", responses=ok(list[HeartbeatEntry]))
async def read_heartbeats(
    request: Request,
    identifier: str,
    page: Page,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read a page of a sensor's heartbeats, oldest first; pages as of measurements.

    `flagged` are those that name a revision which did not exist when they came.
    """
    sensor = await access.readable(caller, identifier)
    path, held = asked_path(request.scope), held_by(request.scope)
    answer = await heartbeats_page(services.store, sensor, page, path, held)
    return answer.response()


async def measurements_page(
    store: Store, sensor: KnownSensor, page: PageRequest, path: str, held: Held
) -> Answer:
    """Return a page of the sensor's measurements; `path` is what its links lead to."""
    select = having(page.attributes) if page.attributes else None
    rows = await page.read(store.measurements, sensor.number, held, select)
    return await page.answer(path, rows, _measurements)


async def logs_page(
    store: Store, sensor: KnownSensor, page: PageRequest, path: str, held: Held
) -> Answer:
    """Return a page of the sensor's log messages; `path` is what its links lead to."""
    rows = await page.read(store.logs, sensor.number, held)
    return await page.answer(path, rows, _logs)


async def heartbeats_page(
    store: Store, sensor: KnownSensor, page: PageRequest, path: str, held: Held
) -> Answer:
    """Return a page of the sensor's heartbeats; `path` is what its links lead to."""
    rows = await page.read(store.heartbeats, sensor.number, held)
    return await page.answer(path, rows, _heartbeats)


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

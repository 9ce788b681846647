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
from heliograph.web.csv_answers import CSV_ANSWER, TheChartForm, chart_table, csv_answer
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.errors import Answer, encode
from heliograph.web.pages import MeasurementPageRequest, PageRequest, asked_path
from heliograph.web.paths import PREFIX
from heliograph.web.points import AskedChart, picked
from heliograph.web.schemas import HeartbeatEntry, LogEntry, MeasurementEntry, errors

router = APIRouter(prefix=f"{PREFIX}/sensors/{{identifier}}", tags=["sensors"])

Page = Annotated[PageRequest, Depends()]
MeasurementPage = Annotated[MeasurementPageRequest, Depends()]
Chart = Annotated[AskedChart, Depends()]


class _Measurement(msgspec.Struct):
    revision: int | None
    creation_timestamp: float
    measurement: msgspec.Raw


class _Heartbeat(msgspec.Struct):
    revision: int | None
    creation_timestamp: float
    receipt_timestamp: float
    success: bool | None
    details: msgspec.Raw | None
    flagged: bool


class _Log(msgspec.Struct):
    revision: int | None
    creation_timestamp: float
    severity: str
    subject: str
    details: str | None


@router.get(
    "/measurements",
    response_model=list[MeasurementEntry],
    responses=errors(401, 403, 404, 422) | CSV_ANSWER,
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


@router.get("/logs", response_model=list[LogEntry], responses=errors(401, 403, 404, 422))
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


@router.get(
    "/heartbeats", response_model=list[HeartbeatEntry], responses=errors(401, 403, 404, 422)
)
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


def _measurements(rows: Sequence[Measurement]) -> list[_Measurement]:
    return [_Measurement(row.revision, to_epoch_seconds(row.timestamp), row.value) for row in rows]


def _logs(rows: Sequence[Log]) -> list[_Log]:
    return [
        _Log(row.revision, to_epoch_seconds(row.timestamp), row.severity, row.subject, row.details)
        for row in rows
    ]


def _heartbeats(rows: Sequence[Heartbeat]) -> list[_Heartbeat]:
    return [
        _Heartbeat(
            row.revision,
            to_epoch_seconds(row.timestamp),
            to_epoch_seconds(row.receipt_timestamp),
            row.success,
            None if row.details is None else msgspec.Raw(row.details.encode()),
            row.unknown_revision,
        )
        for row in rows
    ]

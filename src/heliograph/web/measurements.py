"""Reading what sensors measured and logged."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from heliograph.model.time import to_epoch_seconds, to_rfc3339
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.errors import encode
from heliograph.web.pages import PageRequest, json_response
from heliograph.web.paths import PREFIX
from heliograph.web.schemas import Latest, LogEntry, MeasurementEntry, errors

router = APIRouter(prefix=f"{PREFIX}/sensors/{{identifier}}", tags=["sensors"])

Page = Annotated[PageRequest, Depends()]


class _Measurement(msgspec.Struct):
    revision: int | None
    creation_timestamp: float
    measurement: msgspec.Raw


class _Log(msgspec.Struct):
    revision: int | None
    creation_timestamp: float
    severity: str
    subject: str
    details: str | None


@router.get(
    "/measurements",
    response_model=list[MeasurementEntry],
    responses=errors(401, 403, 404, 422),
)
async def read_measurements(
    request: Request,
    identifier: str,
    page: Page,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read a page of a sensor's measurements, oldest first.

    Without `creation_timestamp` it is the newest page (the oldest with `direction=next`). A page
    never ends between two measurements of one time; the `Link` header leads on exactly.
    """
    sensor = await access.readable(caller, identifier)
    rows = await page.read(services.store.measurements, sensor.number)
    entries = [
        _Measurement(row.revision, to_epoch_seconds(row.timestamp), row.value) for row in rows
    ]
    return page.answer(request, rows, encode(entries))


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
    rows = await page.read(services.store.logs, sensor.number)
    entries = [
        _Log(row.revision, to_epoch_seconds(row.timestamp), row.severity, row.subject, row.details)
        for row in rows
    ]
    return page.answer(request, rows, encode(entries))


@router.get("/latest", response_model=Latest, responses=errors(401, 403, 404))
async def read_latest(
    identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read the newest value of each attribute with its own timestamp."""
    sensor = await access.readable(caller, identifier)
    attributes = await services.store.measurements.latest(sensor.number)
    body = {
        "sensor_identifier": sensor.identifier,
        "device_id": sensor.device_id,
        "attributes": {
            attribute.name: {
                "value": attribute.value,
                "timestamp": to_rfc3339(attribute.timestamp),
            }
            for attribute in attributes
        },
    }
    return json_response(encode(body))

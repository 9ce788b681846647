"""The newest values, of one sensor and of a network's."""

from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from heliograph.ingest.latest_values import LatestValues
from heliograph.ingest.registry import KnownSensor
from heliograph.model.principal import Role
from heliograph.model.time import to_rfc3339
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.entity_tags import NOT_MODIFIED, IfNoneMatch, tagged
from heliograph.web.errors import Answer, encode
from heliograph.web.pages import asked_path
from heliograph.web.paths import PREFIX
from heliograph.web.schemas import Latest, ListLimit, Offset, errors

router = APIRouter(prefix=PREFIX)

# A page of a network ends early rather than be larger than this, in bytes.
LARGEST_PAGE = 16 << 20


@router.get(
    "/sensors/{identifier}/latest",
    response_model=Latest,
    responses={304: NOT_MODIFIED, **errors(401, 403, 404)},
    tags=["sensors"],
)
async def read_latest(
    identifier: str,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the newest value of each attribute with its own timestamp. With its ETag: 304."""
    sensor = await access.readable(caller, identifier)
    return (await latest(services.latest, sensor, if_none_match)).response()


@router.get(
    "/networks/{network_identifier}/latest",
    response_model=list[Latest],
    responses={304: NOT_MODIFIED, **errors(401, 403, 404, 422)},
    tags=["networks"],
)
async def read_latest_of_network(
    network_identifier: str,
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the newest values of a network's sensors, in the order of their creation.

    A page ends early where it becomes larger than 16 MiB; the `Link` header leads on. With its
    ETag: 304 while nothing of it changes.
    """
    network = await access.network(caller, network_identifier, Role.VIEWER)
    sensors, total = await services.store.sensors.list(
        networks=[network.identifier], offset=offset, limit=limit
    )
    entries: list[msgspec.Raw] = []
    size = 0
    for sensor in sensors:
        known = await services.registry.find_number(sensor.number)
        # It may have been moved or erased a moment ago.
        if known is not None and known.network_identifier == network.identifier:
            entry = await _entry(services.latest, known)
            entries.append(msgspec.Raw(entry))
            size += len(entry)
        offset += 1
        if size > LARGEST_PAGE:
            break
    headers = [(b"x-total-count", b"%d" % total)]
    if offset < total:
        query = urlencode({"offset": offset, "limit": limit})
        link = f'<{asked_path(request.scope)}?{query}>; rel="next"'
        headers.append((b"link", link.encode("latin-1")))
    return tagged(encode(entries), if_none_match, headers).response()


async def latest(values: LatestValues, sensor: KnownSensor, if_none_match: str | None) -> Answer:
    """Return the newest value of each of the sensor's attributes, with an entity tag."""
    return tagged(await _entry(values, sensor), if_none_match)


async def _entry(values: LatestValues, sensor: KnownSensor) -> bytes:
    attributes = await values.read(sensor)
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
    return encode(body)

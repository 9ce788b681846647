"""The newest values, of one sensor and of a network's."""

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.access.registry import KnownSensor
from heliograph.ingest.latest_values import LatestValues
from heliograph.store.pages import LARGEST_PAGE
from heliograph.web.answers import held_by
from heliograph.web.bodies import Held
from heliograph.web.dependencies import Caller, TheAccess, TheNewestPages, TheServices
from heliograph.web.entity_tags import NOT_MODIFIED, IfNoneMatch, tagged, tagged_as
from heliograph.web.errors import Answer, encode
from heliograph.web.pages import TRUNCATED, asked_path
from heliograph.web.paths import PREFIX
from heliograph.web.records import Representation, ok
from heliograph.web.schemas import ListLimit, Offset

router = APIRouter(prefix=PREFIX)


class LatestValue(Representation):
    """The newest value of an attribute, and when it was measured."""

    value: Annotated[Any, "The value as it was sent, in the device's own unit"]
    timestamp: Annotated[str, "When it was measured (RFC 3339, UTC)"]


class Latest(Representation):
    """The newest value of each attribute of a sensor."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]
    device_id: Annotated[str | None, "Its `device_id`, if it has one"]
    attributes: Annotated[
        dict[str, LatestValue], "By the attribute's name; nested ones as dotted paths"
    ]


@router.get(
    "/sensors/{identifier}/latest",
    responses=ok(Latest) | NOT_MODIFIED,
    tags=["sensors"],
)
async def read_latest(
    request: Request,
    identifier: str,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the newest value of each attribute with its own timestamp. With its ETag: 304.

    Of more than 4 MiB some that have long been silent are missing: it has `X-Page-Truncated`.
    """
    sensor = await access.readable(caller, identifier)
    held = held_by(request.scope)
    return (await latest(services.latest, sensor, if_none_match, held)).response()


@router.get(
    "/networks/{network_identifier}/latest",
    responses=ok(list[Latest]) | NOT_MODIFIED,
    tags=["networks"],
)
async def read_latest_of_network(
    network_identifier: str,
    request: Request,
    caller: Caller,
    access: TheAccess,
    newest: TheNewestPages,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the newest values of a network's sensors, in the order of their creation.

    A page ends early where it becomes larger than 16 MiB; the `Link` header leads on. With its
    ETag: 304 while nothing of it changes.
    """
    network = await access.network(caller, network_identifier, Action.VIEW)
    page = await newest.page(network.identifier, offset, limit, LARGEST_PAGE)
    held_by(request.scope).at_least(page.size)
    headers = [(b"x-total-count", b"%d" % page.total)]
    if any(text.truncated for text in page.texts):
        headers.append(TRUNCATED)
    offset += page.length
    if offset < page.total:
        query = urlencode({"offset": offset, "limit": limit})
        link = f'<{asked_path(request.scope)}?{query}>; rel="next"'
        headers.append((b"link", link.encode("latin-1")))
    return tagged_as(page.tag, page.body, if_none_match, headers).response()


async def latest(
    values: LatestValues, sensor: KnownSensor, if_none_match: str | None, held: Held
) -> Answer:
    """Return the newest value of each of the sensor's attributes, with an entity tag."""
    text = await values.text(sensor)
    held.at_least(len(text.json))
    body = {
        "sensor_identifier": sensor.identifier,
        "device_id": sensor.device_id,
        "attributes": msgspec.Raw(text.json),
    }
    return tagged(encode(body), if_none_match, [TRUNCATED] if text.truncated else ())

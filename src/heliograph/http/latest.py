"""The newest values, of one sensor and of a network's."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter

from heliograph.http.answers import Answer, encode
from heliograph.http.pages import TRUNCATED
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation, ok
from heliograph.http.representation import LabelRepresentation
from heliograph.http.resources import (
    NOT_MODIFIED,
    IfNoneMatch,
    ReadRoute,
    TheCall,
    tagged,
    tagged_as,
)
from heliograph.http.schemas import ListLimit, Offset
from heliograph.store.pages import LARGEST_PAGE

router = APIRouter(prefix=PREFIX, route_class=ReadRoute)


class LatestValue(Representation):
    """The newest value of an attribute, and when it was measured."""

    value: Annotated[Any, "The value as it was sent, in the device's own unit"]
    timestamp: Annotated[str, "When it was measured (RFC 3339, UTC)"]


class Latest(Representation):
    """The newest value of each attribute of a sensor."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]
    device_id: Annotated[str | None, "Its `device_id`, if it has one"]
    labels: Annotated[
        dict[str, LabelRepresentation],
        "The units and names of attributes, as far as the sensor's record says them",
    ]
    attributes: Annotated[
        dict[str, LatestValue], "By the attribute's name; nested ones as dotted paths"
    ]


@router.get(
    "/sensors/{identifier}/latest",
    responses=ok(Latest) | NOT_MODIFIED,
    tags=["sensors"],
)
async def read_latest(call: TheCall, identifier: str, if_none_match: IfNoneMatch = None) -> Answer:
    """Read the newest value of each attribute with its own timestamp. With its ETag: 304.

    Of more than 4 MiB some that have long been silent are missing: it has `X-Page-Truncated`.
    """
    sensor = await call.readable(identifier)
    text = await call.services.latest.text(sensor)
    call.held.at_least(len(text.json))
    body = {
        "sensor_identifier": sensor.identifier,
        "device_id": sensor.device_id,
        "labels": sensor.attribute_labels,
        "attributes": msgspec.Raw(text.json),
    }
    return tagged(encode(body), if_none_match, [TRUNCATED] if text.truncated else ())


@router.get(
    "/networks/{network_identifier}/latest",
    responses=ok(list[Latest]) | NOT_MODIFIED,
    tags=["networks"],
)
async def read_latest_of_network(
    call: TheCall,
    network_identifier: str,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
    if_none_match: IfNoneMatch = None,
) -> Answer:
    """Read the newest values of a network's sensors, in the order of their creation.

    A page ends early where it becomes larger than 16 MiB; the `Link` header leads on. With its
    ETag: 304 while nothing of it changes.
    """
    network = await call.network(network_identifier)
    page = await call.services.newest_pages.page(network.identifier, offset, limit, LARGEST_PAGE)
    call.held.at_least(page.size)
    headers = [(b"x-total-count", b"%d" % page.total)]
    if any(text.truncated for text in page.texts):
        headers.append(TRUNCATED)
    offset += page.length
    if offset < page.total:
        headers.append(call.link_to_next([("offset", offset), ("limit", limit)]))
    return tagged_as(page.tag, page.body, if_none_match, headers)

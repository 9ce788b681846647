"""Configurations: a sensor's desired states, and how far each has come."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any, Self
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.configuration.merge_patch import merge
from heliograph.errors import ErrorCode, HeliographError, RowError
from heliograph.model.configuration import ConfigurationState, Revision, Target
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.model.sensor import Configuration
from heliograph.model.time import to_epoch_seconds
from heliograph.store.configurations import TooLargeError
from heliograph.store.pages import Page
from heliograph.web.access import NOT_FOUND
from heliograph.web.answers import encoded, held_by
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices
from heliograph.web.entity_tags import NOT_MODIFIED, IfNoneMatch, matches
from heliograph.web.errors import Answer, encode
from heliograph.web.members import Body
from heliograph.web.pages import TheDirection, asked_path, page_headers
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.schemas import JsonValue, PageLimit, Text
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=PREFIX, tags=["configurations"], route_class=StrictRoute)

MAXIMUM_SENSORS = 10_000
# Of all configurations of one request together, which are held in memory at once.
MAXIMUM_BYTES = 16 << 20

Key = Annotated[
    int | None,
    Query(
        alias="revision",
        ge=-1,
        lt=1 << 63,
        description="Only what is newer (or older) than this revision",
    ),
]

_decode = msgspec.json.decode


class NewConfiguration(Body):
    """What a sensor is to be from now on."""

    configuration: JsonValue = Field(description="Any JSON")


class NetworkConfiguration(Body):
    """What sensors of a network are to be from now on: a `configuration`, or a `patch`."""

    configuration: JsonValue = Field(None, description="In the place of each sensor's current one")
    patch: JsonValue = Field(
        None, description="A merge patch (RFC 7396) on each sensor's current configuration"
    )
    sensors: list[Text] | None = Field(
        None,
        min_length=1,
        max_length=MAXIMUM_SENSORS,
        description="UUIDs or device_ids; default: all active sensors of the network",
    )
    dry_run: bool = Field(default=False, description="Tell what each sensor would get, and stop")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if len(self.model_fields_set & {"configuration", "patch"}) != 1:
            raise ValueError("one of configuration and patch has to be present, and only one")
        return self


class AddedConfiguration(BaseModel):
    """A sensor's new revision."""

    sensor_identifier: str = Field(description="The sensor's UUID")
    revision: int = Field(description="The number of the new revision, from 0")


class AssignedConfiguration(AddedConfiguration):
    """What one of several sensors gets."""

    device_id: str | None = Field(description="Its `device_id`, if it has one")
    configuration: Any = Field(description="What it gets, any JSON")


class CurrentConfiguration(BaseModel):
    """The newest revision, as on the topic `configurations/<sensor>`."""

    revision: int = Field(description="Its number, from 0")
    configuration: Any = Field(description="What the sensor is to be, any JSON")


class ConfigurationEntry(BaseModel):
    """A revision, and how far it has come."""

    revision: int = Field(description="Its number, from 0")
    configuration: Any = Field(description="What the sensor is to be, any JSON")
    creation_timestamp: float = Field(description="When it was committed (epoch seconds)")
    publication_timestamp: float | None = Field(
        description="When it was published (epoch seconds); null: not yet"
    )
    acknowledgment_timestamp: float | None = Field(
        description="When the device answered, by its own clock (epoch seconds)"
    )
    receipt_timestamp: float | None = Field(
        description="When the answer came, by the server's clock (epoch seconds)"
    )
    success: bool | None = Field(
        description="Whether the device could apply it; null: no answer yet"
    )
    state: ConfigurationState = Field(description="How far it has come")
    publication_duration: float | None = Field(
        description="Seconds from its creation to its publication"
    )
    acknowledgment_duration: float | None = Field(
        description="Seconds from its creation to the arrival of the answer"
    )
    author: str | None = Field(
        description="Who made it: `admin` (the admin key), `user:<name>`, `anonymous`"
    )


@router.post(
    "/sensors/{identifier}/configurations",
    status_code=201,
    response_model=AddedConfiguration,
    responses=errors(400, 401, 403, 404, 413, 415, 422),
)
async def configure_sensor(
    identifier: str,
    new: NewConfiguration,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Give a sensor its next revision, which is published to it."""
    sensor = await access.changeable(caller, identifier, Action.CONFIGURE)
    text = encode(new.configuration).decode()
    try:
        revision = await services.store.configurations.add(
            sensor.number, text, author=caller.name, actor=actor
        )
    except RowError:
        raise _not_found(ErrorCode.SENSOR_NOT_FOUND) from None  # it is deleted
    body = {"sensor_identifier": sensor.identifier, "revision": revision}
    return Answer(201, encode(body)).response()


@router.get(
    "/sensors/{identifier}/configurations",
    response_model=list[ConfigurationEntry],
    responses=errors(401, 403, 404, 422),
)
async def read_configurations(
    identifier: str,
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    revision: Key = None,
    direction: TheDirection = None,
    limit: PageLimit = 64,
) -> Response:
    """Read a page of a sensor's revisions, oldest first; without a key the newest page.

    A page ends early before it becomes larger than 16 MiB; the `Link` header leads on.
    """
    sensor = await access.readable(caller, identifier)
    page = await services.store.configurations.page(
        sensor.number,
        revision=revision,
        direction=direction,
        limit=limit,
        hold=held_by(request.scope).at_least,
    )
    forward = direction == "next" if revision is None else direction != "previous"
    links = _links(
        asked_path(request.scope), page, limit, forward=forward, keyed=revision is not None
    )
    body = await encoded(page, lambda part: [entry(each) for each in part], page.size)
    return Answer(200, body, page_headers(links, page)).response()


@router.get(
    "/sensors/{identifier}/configurations/current",
    response_model=CurrentConfiguration,
    responses={
        **NOT_MODIFIED,
        **errors(401, 403, 404),
    },
)
async def read_current_configuration(
    identifier: str,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the newest revision; a device may pull its own. With its ETag: 304 while it stays."""
    sensor = await access.readable(caller, identifier)
    current = await services.store.configurations.current(sensor.number)
    if current is None:
        raise _not_found(ErrorCode.CONFIGURATION_NOT_FOUND)
    tag = _entity_tag(current)
    if matches(if_none_match, tag):
        return Response(status_code=304, headers={"etag": tag})
    body = {"revision": current.revision, "configuration": current.configuration}
    return Answer(200, encode(body)).response({"etag": tag})


@router.post(
    "/networks/{network_identifier}/configurations",
    status_code=201,
    response_model=list[AssignedConfiguration],
    responses={
        200: {"model": list[AssignedConfiguration], "description": "With dry_run"},
        **errors(400, 401, 403, 404, 413, 415, 422),
    },
)
async def configure_network(
    network_identifier: str,
    new: NetworkConfiguration,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Give many sensors their next revision at once, or none of them; tell what each gets."""
    network = await access.network(caller, network_identifier, Action.EDIT)
    numbers = await _chosen(services, network.identifier, new.sensors)
    configure = functools.partial(_configure, new)
    configurations = services.store.configurations
    # What is replaced need not be read.
    largest = 0 if "configuration" in new.model_fields_set else MAXIMUM_BYTES
    try:
        if new.dry_run:
            assigned = await configurations.try_on_each(
                network.identifier, numbers, configure, largest=largest
            )
        else:
            assigned = await configurations.add_to_each(
                network.identifier,
                numbers,
                configure,
                author=caller.name,
                actor=actor,
                largest=largest,
            )
    except TooLargeError:
        raise _too_much() from None
    return Answer(200 if new.dry_run else 201, encode(assigned)).response()


async def _chosen(services: Services, network: str, names: Sequence[str] | None) -> list[int]:
    if names is None:
        numbers = await services.store.configurations.of_network(network, MAXIMUM_SENSORS + 1)
        if len(numbers) > MAXIMUM_SENSORS:
            raise _too_large(f"The network has more than {MAXIMUM_SENSORS} active sensors")
        return numbers
    chosen: dict[int, None] = {}
    for name in names:
        sensor = await services.registry.find(name)
        if sensor is None or sensor.network_identifier != network:
            raise _not_found(ErrorCode.SENSOR_NOT_FOUND)
        if not sensor.is_active:
            record = await services.store.sensors.find_number(sensor.number)
            if record is None or record.deleted_at is not None:
                raise _not_found(ErrorCode.SENSOR_NOT_FOUND)
        chosen[sensor.number] = None
    return list(chosen)


def _configure(new: NetworkConfiguration, targets: Sequence[Target]) -> list[str]:
    """Return what each of the sensors is to get.

    Raises:
        HeliographError: PAYLOAD_TOO_LARGE.
    """
    replaces = "configuration" in new.model_fields_set
    replacement = encode(new.configuration).decode() if replaces else ""
    texts: list[str] = []
    size = 0
    for target in targets:
        text = replacement if replaces else _patched(target.configuration, new.patch)
        if len(text) > MAXIMUM_PAYLOAD_BYTES:
            raise _too_large(f"The configuration of {target.identifier} would be over 1 MiB")
        size += len(text)
        if size > MAXIMUM_BYTES:
            raise _too_much()
        texts.append(text)
    return texts


def _patched(configuration: msgspec.Raw | None, patch: Any) -> str:
    current = _decode(configuration) if configuration is not None else None
    return encode(merge(current, patch)).decode()


def entry(revision: Revision) -> dict[str, Any]:
    """Return a revision as its page gives it."""
    return {
        "revision": revision.revision,
        "configuration": revision.configuration,
        "creation_timestamp": to_epoch_seconds(revision.created_at),
        "publication_timestamp": _seconds(revision.publication_timestamp),
        "acknowledgment_timestamp": _seconds(revision.acknowledgment_timestamp),
        "receipt_timestamp": _seconds(revision.receipt_timestamp),
        "success": revision.success,
        "state": revision.state,
        "publication_duration": _duration(revision, revision.publication_timestamp),
        "acknowledgment_duration": _duration(revision, revision.receipt_timestamp),
        "author": revision.author,
    }


def _seconds(moment: int | None) -> float | None:
    return None if moment is None else to_epoch_seconds(moment)


def _duration(revision: Revision, end: int | None) -> float | None:
    # Not below 0: the clock may have been set back.
    return None if end is None else max(end - revision.created_at, 0) / 1e6


def _links(
    path: str, page: Page[Revision], limit: int, *, forward: bool, keyed: bool
) -> str | None:
    """Return the Link header: where there is more, or may be."""
    if not page:
        return None
    links = []
    if page.more if forward else keyed:
        links.append(_link(path, "next", page[-1].revision, limit))
    if page[0].revision > 0:
        links.append(_link(path, "previous", page[0].revision, limit))
    return ", ".join(links) or None


def _link(path: str, direction: str, revision: int, limit: int) -> str:
    query = {"direction": direction, "limit": limit, "revision": revision}
    return f'<{path}?{urlencode(query)}>; rel="{direction}"'


def _entity_tag(current: Configuration) -> str:
    # With the time: a name may come to belong to another sensor, which counts from 0 as well.
    return f'"{current.revision}-{current.created_at:x}"'


def _too_much() -> HeliographError:
    return _too_large(f"The configurations are over {MAXIMUM_BYTES >> 20} MiB together")


def _too_large(detail: str) -> HeliographError:
    code = ErrorCode.PAYLOAD_TOO_LARGE
    return HeliographError(code, f"{detail}: choose fewer with `sensors`")


def _not_found(code: ErrorCode) -> HeliographError:
    return HeliographError(code, NOT_FOUND[code])

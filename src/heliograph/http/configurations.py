"""Configurations: a sensor's desired states, and how far each has come."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any, Self

import msgspec
from fastapi import Query
from pydantic import Field, model_validator
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.configuration.merge_patch import merge
from heliograph.errors import ErrorCode, HeliographError, RowError
from heliograph.http.access import not_found
from heliograph.http.answers import Answer, decode, encode, encoded
from heliograph.http.members import Body
from heliograph.http.pages import TheDirection, page_headers
from heliograph.http.records import Representation, ok
from heliograph.http.resources import (
    NOT_MODIFIED,
    IfNoneMatch,
    KnownCall,
    Resource,
    TheCall,
    answered,
    found,
    tagged_as,
)
from heliograph.http.schemas import JsonValue, PageLimit, Text
from heliograph.model.configuration import ConfigurationState, Revision, Target
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.model.time import to_epoch_seconds
from heliograph.store.configurations import TooLargeError
from heliograph.store.pages import Page

router = Resource("configurations")

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


class AddedConfiguration(Representation):
    """A sensor's new revision."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]
    revision: Annotated[int, "The number of the new revision, from 0"]


class AssignedConfiguration(AddedConfiguration):
    """What one of several sensors gets."""

    device_id: Annotated[str | None, "Its `device_id`, if it has one"]
    configuration: Annotated[msgspec.Raw, "What it gets, any JSON"]


class CurrentConfiguration(Representation):
    """The newest revision, as on the topic `configurations/<sensor>`."""

    revision: Annotated[int, "Its number, from 0"]
    configuration: Annotated[msgspec.Raw, "What the sensor is to be, any JSON"]


class ConfigurationEntry(Representation):
    """A revision, and how far it has come."""

    revision: Annotated[int, "Its number, from 0"]
    configuration: Annotated[msgspec.Raw, "What the sensor is to be, any JSON"]
    creation_timestamp: Annotated[float, "When it was committed (epoch seconds)"]
    publication_timestamp: Annotated[
        float | None, "When it was published (epoch seconds); null: not yet"
    ]
    acknowledgment_timestamp: Annotated[
        float | None, "When the device answered, by its own clock (epoch seconds)"
    ]
    receipt_timestamp: Annotated[
        float | None, "When the answer came, by the server's clock (epoch seconds)"
    ]
    success: Annotated[bool | None, "Whether the device could apply it; null: no answer yet"]
    state: Annotated[ConfigurationState, "How far it has come"]
    publication_duration: Annotated[float | None, "Seconds from its creation to its publication"]
    acknowledgment_duration: Annotated[
        float | None, "Seconds from its creation to the arrival of the answer"
    ]
    author: Annotated[
        str | None, "Who made it: `admin` (the admin key), `user:<name>`, `anonymous`"
    ]

    @classmethod
    def of(cls, revision: Revision) -> Self:
        """Return the revision as its page gives it."""
        return cls(
            revision=revision.revision,
            configuration=revision.configuration,
            creation_timestamp=to_epoch_seconds(revision.created_at),
            publication_timestamp=_seconds(revision.publication_timestamp),
            acknowledgment_timestamp=_seconds(revision.acknowledgment_timestamp),
            receipt_timestamp=_seconds(revision.receipt_timestamp),
            success=revision.success,
            state=revision.state,
            publication_duration=_duration(revision, revision.publication_timestamp),
            acknowledgment_duration=_duration(revision, revision.receipt_timestamp),
            author=revision.author,
        )


@router.route("/sensors/{identifier}/configurations", "POST")
async def configure_sensor(
    identifier: str, new: NewConfiguration, call: TheCall
) -> AddedConfiguration:
    """Give a sensor its next revision, which is published to it."""
    sensor = await call.changeable(identifier, Action.CONFIGURE)
    text = encode(new.configuration).decode()
    try:
        revision = await call.store.configurations.add(
            sensor.number, text, author=call.caller.name, actor=call.actor
        )
    except RowError:
        raise not_found(ErrorCode.SENSOR_NOT_FOUND) from None  # it is deleted
    return AddedConfiguration(sensor.identifier, revision)


@router.route("/sensors/{identifier}/configurations", "GET", shown=list[ConfigurationEntry])
async def read_configurations(
    identifier: str,
    call: TheCall,
    revision: Key = None,
    direction: TheDirection = None,
    limit: PageLimit = 64,
) -> Response:
    """Read a page of a sensor's revisions, oldest first; without a key the newest page.

    A page ends early before it becomes larger than 16 MiB; the `Link` header leads on.
    """
    sensor = await call.readable(identifier)
    page = await call.store.configurations.page(
        sensor.number,
        revision=revision,
        direction=direction,
        limit=limit,
        hold=call.held.hold,
    )
    forward = direction == "next" if revision is None else direction != "previous"
    links = _links(call.path, page, limit, forward=forward, keyed=revision is not None)
    body = await encoded(page, lambda part: list(map(ConfigurationEntry.of, part)), page.size)
    return Answer(200, body, page_headers(links, page))


@router.route(
    "/sensors/{identifier}/configurations/current",
    "GET",
    shown=CurrentConfiguration,
    responses=NOT_MODIFIED,
)
async def read_current_configuration(
    identifier: str, call: TheCall, if_none_match: IfNoneMatch = None
) -> Response:
    """Read the newest revision; a device may pull its own. With its ETag: 304 while it stays."""
    sensor = await call.readable(identifier)
    current = found(
        await call.store.configurations.current(sensor.number), ErrorCode.CONFIGURATION_NOT_FOUND
    )
    shown = CurrentConfiguration(current.revision, current.configuration)
    # With the time: a name may come to belong to another sensor, which counts from 0 as well.
    tag = f"{current.revision}-{current.created_at:x}"
    return tagged_as(tag, lambda: encode(shown), if_none_match)


@router.route(
    "/networks/{network_identifier}/configurations",
    "POST",
    shown=list[AssignedConfiguration],
    responses=ok(list[AssignedConfiguration], description="With dry_run"),
)
async def configure_network(
    network_identifier: str, new: NetworkConfiguration, call: TheCall
) -> Response:
    """Give many sensors their next revision at once, or none of them; tell what each gets."""
    network = await call.network(network_identifier, Action.EDIT)
    numbers = await _chosen(call, network.identifier, new.sensors)
    configure = functools.partial(_configure, new)
    configurations = call.store.configurations
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
                author=call.caller.name,
                actor=call.actor,
                largest=largest,
            )
    except TooLargeError:
        raise _too_much() from None
    shown = [AssignedConfiguration(**msgspec.structs.asdict(each)) for each in assigned]
    return answered(shown, 200 if new.dry_run else 201)


async def _chosen(call: KnownCall, network: str, names: Sequence[str] | None) -> list[int]:
    if names is None:
        numbers = await call.store.configurations.of_network(network, MAXIMUM_SENSORS + 1)
        if len(numbers) > MAXIMUM_SENSORS:
            raise _too_large(f"The network has more than {MAXIMUM_SENSORS} active sensors")
        return numbers
    chosen: dict[int, None] = {}
    for name in names:
        sensor = await call.registry.find(name)
        if sensor is None or sensor.network_identifier != network:
            raise not_found(ErrorCode.SENSOR_NOT_FOUND)
        if not sensor.is_active:
            record = await call.store.sensors.find_number(sensor.number)
            if record is None or record.deleted_at is not None:
                raise not_found(ErrorCode.SENSOR_NOT_FOUND)
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
    current = decode(configuration) if configuration is not None else None
    return encode(merge(current, patch)).decode()


def _seconds(moment: int | None) -> float | None:
    return None if moment is None else to_epoch_seconds(moment)


def _duration(revision: Revision, end: int | None) -> float | None:
    # Not below 0: the clock may have been set back.
    return None if end is None else max(end - revision.created_at, 0) / 1e6


def _links(path: str, page: Page[Revision], limit: int, *, forward: bool, keyed: bool) -> str:
    """Return the Link header: where there is more, or may be."""
    if not page:
        return ""
    leads = {"next": page[-1].revision} if (page.more if forward else keyed) else {}
    if page[0].revision > 0:
        leads["previous"] = page[0].revision
    return ", ".join(
        f'<{path}?direction={to}&limit={limit}&revision={at}>; rel="{to}"'
        for to, at in leads.items()
    )


def _too_much() -> HeliographError:
    return _too_large(f"The configurations are over {MAXIMUM_BYTES >> 20} MiB together")


def _too_large(detail: str) -> HeliographError:
    code = ErrorCode.PAYLOAD_TOO_LARGE
    return HeliographError(code, f"{detail}: choose fewer with `sensors`")

"""Sensors: the same records as devices, seen by their names and inventory."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode
from heliograph.model.audit import Actor
from heliograph.model.sensor import Sensor
from heliograph.model.time import now
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices, no_body
from heliograph.web.errors import Answer, encode
from heliograph.web.lists import listed, sensors
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.registration import (
    Change,
    Inventory,
    Registration,
    answer_sensor,
    change_sensor,
    create,
    not_found,
    refusals,
)
from heliograph.web.representation import full_representation, new_representation
from heliograph.web.schemas import (
    DeviceId,
    FullSensor,
    JsonValue,
    ListLimit,
    NewDeviceId,
    Offset,
    OfNetwork,
    SensorRepresentation,
    Text,
)
from heliograph.web.sensor_filters import Filters
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=f"{PREFIX}/sensors", tags=["sensors"], route_class=StrictRoute)

CHANGE_ERRORS = errors(400, 401, 403, 404, 409, 413, 415, 422)
REQUIRED_WITHOUT_NAME = ("manufacturer", "model", "modality")
_OR = "required without `sensor_name`"
_TEXT: JsonDict = {"type": "string"}
_INVENTORY: JsonDict = {"manufacturer": _TEXT, "model": _TEXT, "modality": _TEXT}


class NewSensorBody(Inventory):
    """A sensor with a `sensor_name`, or one with manufacturer, model and modality."""

    model_config = ConfigDict(
        title="NewSensor",
        json_schema_extra={
            "anyOf": [
                {"required": ["sensor_name"], "properties": {"sensor_name": _TEXT}},
                {"required": list(_INVENTORY), "properties": _INVENTORY},
            ]
        },
    )

    id: UUID | None = Field(None, description="The UUID that it is to have; by default a new one")
    device_id: NewDeviceId | None = Field(
        None, description="The name that it logs in with, unique in the whole server"
    )
    network_identifier: Text | None = Field(
        None, description="The UUID of its network; by default that of the network `default`"
    )
    configuration: JsonValue = Field(None, description="Present, even null, it is revision 0")
    # Judged even where they are absent, and after the name: see below.
    manufacturer: Text | None = Field(
        None, validate_default=True, description=f"Who made it; {_OR}"
    )
    model: Text | None = Field(
        None, validate_default=True, description=f"What the manufacturer calls it; {_OR}"
    )
    modality: Text | None = Field(
        None, validate_default=True, description=f"What it measures: temperature, say; {_OR}"
    )

    @field_validator(*REQUIRED_WITHOUT_NAME)
    @classmethod
    def _required_without_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        # A name that is wrong is told of by itself.
        if value is None and info.data.get("sensor_name", "wrong") is None:
            raise PydanticCustomError("missing", "Field required")
        return value


class SensorChange(Change):
    """What is to change; members that are not present stay as they are."""

    device_id: DeviceId | None = Field(
        None, description="A new name to log in with, unique in the whole server; null: none"
    )
    configuration: JsonValue = Field(None, description="Present, even null, it is a new revision")


@router.post(
    "",
    status_code=201,
    response_model=FullSensor,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def create_sensor(
    sensor: NewSensorBody,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Register a sensor. With a `configuration`, that is its revision 0."""
    configured = "configuration" in sensor.model_fields_set
    new = await Registration(caller, access, services).new(
        sensor,
        identifier=sensor.id,
        configuration=_text(sensor.configuration) if configured else None,
    )
    created = await create(services, new, actor)
    if configured:
        services.store.configurations.added()
        services.store.configurations.revised([(created.number, 0)])
    body = new_representation(created, 0 if configured else None, services.registry)
    return Answer(201, encode(body)).response()


@router.get("", response_model=list[SensorRepresentation], responses=errors(401, 403, 422))
async def list_sensors(
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    filters: Filters,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List sensors, by default in the order of their creation; `X-Total-Count` tells how many."""
    visible = await access.visible(caller, network_identifier)
    read = sensors(services, networks=visible, **filters.which)
    return await listed(request, offset, limit, read)


@router.get("/{identifier}", response_model=FullSensor, responses=errors(401, 403, 404))
async def read_sensor(
    identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read a sensor's record; a device may read its own."""
    known = await access.readable(caller, identifier)
    sensor = await services.store.sensors.find_number(known.number)
    return await answer_sensor(services, sensor, ErrorCode.SENSOR_NOT_FOUND)


@router.put("/{identifier}", response_model=FullSensor, responses=CHANGE_ERRORS)
@router.patch("/{identifier}", response_model=FullSensor, responses=CHANGE_ERRORS)
async def update_sensor(
    identifier: str,
    change: SensorChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change a sensor: the members that are present; `configuration` is replaced whole."""
    known = await access.changeable(caller, identifier, Action.CONFIGURE)
    members = await Registration(caller, access, services).changed_members(known, change)
    if "configuration" not in change.model_fields_set:
        sensor = await change_sensor(services, known, members, actor)
        return await answer_sensor(services, sensor, ErrorCode.SENSOR_NOT_FOUND)
    sensor, revision = await _configure(
        services, known, _text(change.configuration), caller.name, actor, members
    )
    # Others may have made newer ones by now.
    body = {**await full_representation(sensor, services), "revision": revision}
    return Answer(200, encode(body)).response()


@router.delete(
    "/{identifier}",
    status_code=204,
    responses=errors(401, 403, 404, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def delete_sensor(
    identifier: str,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
    data: Annotated[
        Literal["keep", "delete"], Query(description="What happens to what it measured")
    ] = "keep",
) -> Response:
    """Delete a sensor: its key ends, and it is in no list.

    What it measured stays readable by its id, unless `data=delete` erases it and the record.
    Again is no error while the record stays.
    """
    known = await access.changeable(caller, identifier, Action.REMOVE)
    if not await services.store.sensors.delete(known.number, now(), actor=actor):
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    # First of all nothing more may come in.
    await services.registry.changed()
    if data == "delete":
        await services.store.sensors.erase(known.number, actor=actor)
        services.latest.forget(known.number)
        await services.registry.changed()
    return Response(status_code=204)


async def _configure(
    services: Services,
    known: KnownSensor,
    configuration: str,
    author: str,
    actor: Actor,
    members: dict[str, Any],
) -> tuple[Sensor, int]:
    with refusals():
        changed = await services.store.sensors.configure(
            known.number, configuration, author=author, actor=actor, **members
        )
    if changed is None:
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    services.store.configurations.added()
    await services.registry.changed()
    services.store.configurations.revised([(known.number, changed[1])])
    return changed


def _text(configuration: Any) -> str:
    return encode(configuration).decode()

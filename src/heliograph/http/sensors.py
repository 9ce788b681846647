"""Sensors: the same records as devices, seen by their names and inventory."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.http.errors import encode
from heliograph.http.lists import Filters, listed, sensors
from heliograph.http.registration import (
    Change,
    Inventory,
    Registration,
    change_sensor,
    create,
    refusals,
    shown,
)
from heliograph.http.representation import FullSensor, SensorRepresentation, new_representation
from heliograph.http.resources import Resource, TheCall, found, not_found
from heliograph.http.schemas import (
    DeviceId,
    InNetwork,
    JsonValue,
    ListLimit,
    NewDeviceId,
    NewIdentifier,
    Offset,
    OfNetwork,
    Text,
)
from heliograph.model.time import now

router = Resource("sensors", "/sensors")

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

    id: NewIdentifier = None
    device_id: NewDeviceId | None = None
    network_identifier: InNetwork = None
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
        # A name that is wrong is a problem of its own.
        if value is None and info.data.get("sensor_name", "wrong") is None:
            raise PydanticCustomError("missing", "Field required")
        return value


class SensorChange(Change):
    """What is to change; members that are not present stay as they are."""

    device_id: DeviceId | None = Field(
        None, description="A new name to log in with, unique in the whole server; null: none"
    )
    configuration: JsonValue = Field(None, description="Present, even null, it is a new revision")


@router.route("", "POST", faults=[404, 409])
async def create_sensor(sensor: NewSensorBody, call: TheCall) -> FullSensor:
    """Register a sensor. With a `configuration`, that is its revision 0."""
    given: dict[str, Any] = {} if sensor.id is None else {"identifier": str(sensor.id)}
    configured = "configuration" in sensor.model_fields_set
    if configured:
        given |= {"configuration": _text(sensor.configuration), "author": call.caller.name}
    created = await create(call, await Registration(call).new(sensor, **given))
    if configured:
        call.store.configurations.revised([(created.number, 0)])
    return new_representation(created, 0 if configured else None, call.registry)


@router.route("", "GET", shown=list[SensorRepresentation])
async def list_sensors(
    call: TheCall,
    filters: Filters,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List sensors, by default in the order of their creation; `X-Total-Count` says how many."""
    visible = await call.visible(network_identifier)
    read = sensors(call.services, networks=visible, **filters.which)
    return await listed(call, offset, limit, read)


@router.route("/{identifier}", "GET")
async def read_sensor(identifier: str, call: TheCall) -> FullSensor:
    """Read a sensor's record; a device may read its own."""
    known = await call.readable(identifier)
    return await shown(call, await call.store.sensors.find_number(known.number))


@router.route("/{identifier}", "PATCH", "PUT", faults=[409])
async def update_sensor(identifier: str, change: SensorChange, call: TheCall) -> FullSensor:
    """Change a sensor: the members that are present; `configuration` is replaced whole."""
    known = await call.changeable(identifier, Action.CONFIGURE)
    members = await Registration(call).changed_members(known, change)
    if "configuration" not in change.model_fields_set:
        return await shown(call, await change_sensor(call, known, members))
    with refusals():
        changed = await call.store.sensors.configure(
            known.number,
            _text(change.configuration),
            author=call.caller.name,
            actor=call.actor,
            **members,
        )
    sensor, revision = found(changed, ErrorCode.SENSOR_NOT_FOUND)
    await call.registry.changed()
    call.store.configurations.revised([(known.number, revision)])
    # Others may have made newer ones by now.
    return msgspec.structs.replace(await shown(call, sensor), revision=revision)


@router.route("/{identifier}", "DELETE")
async def delete_sensor(
    identifier: str,
    call: TheCall,
    data: Annotated[
        Literal["keep", "delete"], Query(description="What happens to what it measured")
    ] = "keep",
) -> None:
    """Delete a sensor: its key ends, and it is in no list.

    What it measured stays readable by its id, unless `data=delete` erases it and the record.
    Again is no error while the record stays.
    """
    known = await call.changeable(identifier, Action.REMOVE)
    if not await call.store.sensors.delete(known.number, now(), actor=call.actor):
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    # First of all nothing more may come in.
    await call.registry.changed()
    if data == "delete":
        await call.store.sensors.erase(known.number, actor=call.actor)
        call.services.latest.forget(known.number)
        await call.registry.changed()


def _text(configuration: Any) -> str:
    return encode(configuration).decode()

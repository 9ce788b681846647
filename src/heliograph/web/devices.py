"""Devices: sensors seen by their credentials."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, RootModel, model_validator
from pydantic.config import JsonDict
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.model.credentials import key_members, new_api_key
from heliograph.store.sensors import TakenError
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices, no_body
from heliograph.web.errors import STATUS, Answer, encode, validation_error
from heliograph.web.lists import listed, sensors
from heliograph.web.members import unknown_members
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.registration import (
    TAKEN,
    Change,
    NewDevice,
    Registration,
    answer_sensor,
    change_sensor,
    create,
    refusals,
)
from heliograph.web.representation import new_representation
from heliograph.web.schemas import (
    CreatedDevice,
    DeviceId,
    FullSensor,
    ListLimit,
    NewKey,
    Offset,
    OfNetwork,
    SensorRepresentation,
)
from heliograph.web.sensor_filters import Filters
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=f"{PREFIX}/devices", tags=["devices"], route_class=StrictRoute)

LARGEST_BATCH = 1_000


class DeviceChange(Change):
    """What is to change; members that are not present stay as they are."""

    device_id: DeviceId | None = Field(
        None,
        description="A new name to log in with, unique in the whole server; null where it has none",
    )


def _either(schema: JsonDict) -> None:
    devices: JsonDict = {name: schema.pop(name) for name in ("type", "items", "maxItems")}
    wrapped: JsonDict = {
        "type": "object",
        "required": ["devices"],
        "properties": {"devices": {**devices, "description": "The devices, up to 1,000"}},
        "additionalProperties": False,
    }
    schema["anyOf"] = [devices, wrapped]


class NewDevices(RootModel[Annotated[list[NewDevice], Field(max_length=LARGEST_BATCH)]]):
    """Devices as an array, or as `{"devices": […]}`."""

    model_config = ConfigDict(json_schema_extra=_either)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "devices" not in given:
            return given
        if unknown := [name for name in given if name != "devices"]:
            raise unknown_members(cls.__name__, unknown, ["devices"])
        return given["devices"]


@router.post(
    "",
    status_code=201,
    response_model=CreatedDevice,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def register_device(
    device: NewDevice, caller: Caller, actor: TheActor, access: TheAccess, services: TheServices
) -> Response:
    """Register a device. Its `api_key` is in this answer only."""
    key = new_api_key()
    new = await Registration(caller, access, services).new(device, api_key=key)
    sensor = await create(services, new, actor)
    body = {**new_representation(sensor, None, services.registry), "api_key": key}
    return Answer(201, encode(body)).response()


@router.post(
    "/batch",
    status_code=201,
    response_model=list[CreatedDevice],
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def register_devices(
    devices: NewDevices, caller: Caller, actor: TheActor, access: TheAccess, services: TheServices
) -> Response:
    """Register up to 1,000 devices, or none. Each `api_key` is in this answer only."""
    registration = Registration(caller, access, services)
    keys = [new_api_key() for _ in devices.root]
    new = [
        await registration.new(device, api_key=key)
        for device, key in zip(devices.root, keys, strict=True)
    ]
    with refusals():
        try:
            sensors = await services.store.sensors.create_all(new, actor=actor)
        except TakenError as error:
            return _all_taken(error).response()
    await services.registry.changed()
    body = [
        {**new_representation(sensor, None, services.registry), "api_key": key}
        for sensor, key in zip(sensors, keys, strict=True)
    ]
    return Answer(201, encode(body)).response()


def _all_taken(error: TakenError) -> Answer:
    problems = [
        {"loc": ["body", index, field], "type": "already_registered", "msg": TAKEN[field][1]}
        for index, field in error.taken
    ]
    fields = {field for _, field in error.taken}
    code = TAKEN[next(field for field in TAKEN if field in fields)][0]
    return Answer(STATUS[code], encode({"detail": problems, "code": code.value}))


@router.get("", response_model=list[SensorRepresentation], responses=errors(401, 403, 422))
async def list_devices(
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    filters: Filters,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List devices, by default in the order of registration; `X-Total-Count` tells how many."""
    visible = await access.visible(caller, network_identifier)
    read = sensors(services, networks=visible, only_devices=True, **filters.which)
    return await listed(request, offset, limit, read)


@router.get("/{device_id}", response_model=FullSensor, responses=errors(401, 403, 404))
async def read_device(
    device_id: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read a device's record; a device may read its own."""
    known = await access.device(caller, device_id)
    sensor = await services.store.sensors.find_number(known.number)
    return await answer_sensor(services, sensor, ErrorCode.DEVICE_NOT_FOUND)


@router.patch(
    "/{device_id}",
    response_model=FullSensor,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def change_device(
    device_id: str,
    change: DeviceChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change a device: the members that are present; `is_active` true brings it back."""
    known = await access.changeable(caller, device_id, Action.CONFIGURE, ErrorCode.DEVICE_NOT_FOUND)
    if "device_id" in change.model_fields_set and change.device_id is None and known.device_id:
        message = "Input should be a valid string"
        raise validation_error(("body", "device_id"), "string_type", message)
    members = await Registration(caller, access, services).changed_members(known, change)
    sensor = await change_sensor(services, known, members, actor, ErrorCode.DEVICE_NOT_FOUND)
    return await answer_sensor(services, sensor, ErrorCode.DEVICE_NOT_FOUND)


@router.delete(
    "/{device_id}",
    status_code=204,
    responses=errors(401, 403, 404, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def deactivate_device(
    device_id: str, caller: Caller, actor: TheActor, access: TheAccess, services: TheServices
) -> Response:
    """Deactivate a device: its key ends, its data stays. Again is no error."""
    known = await access.changeable(caller, device_id, Action.REMOVE, ErrorCode.DEVICE_NOT_FOUND)
    await change_sensor(services, known, {"is_active": False}, actor, ErrorCode.DEVICE_NOT_FOUND)
    return Response(status_code=204)


@router.post(
    "/{device_id}/key",
    response_model=NewKey,
    responses=errors(401, 403, 404, 413, 415, 422),
    dependencies=[no_body],
)
async def rotate_key(
    device_id: str, caller: Caller, actor: TheActor, access: TheAccess, services: TheServices
) -> Response:
    """Give a device a new key; the old one ends at once."""
    known = await access.changeable(caller, device_id, Action.CONFIGURE, ErrorCode.DEVICE_NOT_FOUND)
    key = new_api_key()
    await change_sensor(services, known, {**key_members(key)}, actor, ErrorCode.DEVICE_NOT_FOUND)
    return Answer(200, encode({"api_key": key})).response()

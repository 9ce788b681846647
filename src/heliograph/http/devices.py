"""Devices: sensors seen by their credentials."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, RootModel, model_validator
from pydantic.config import JsonDict
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.http.answers import Answer, encode
from heliograph.http.errors import STATUS, validation_error
from heliograph.http.lists import Filters, listed_sensors
from heliograph.http.members import unknown_members
from heliograph.http.records import ErrorAnswer, Problem, Representation
from heliograph.http.representation import (
    CreatedDevice,
    FullSensor,
    SensorRepresentation,
    new_representation,
)
from heliograph.http.resources import KnownCall, Resource, TheCall, refusals
from heliograph.http.schemas import DeviceId, InNetwork, NewDeviceId, OfNetwork
from heliograph.http.sensors import (
    REFUSALS,
    TAKEN,
    Change,
    Inventory,
    Registration,
    change_sensor,
    create,
    shown,
)
from heliograph.model.credentials import NO_KEY, key_members, new_api_key
from heliograph.model.sensor import Sensor
from heliograph.store.sensors import TakenError

router = Resource("devices", "/devices")

LARGEST_BATCH = 1_000


class NewDevice(Inventory):
    """What a device is registered with."""

    device_id: NewDeviceId
    network_identifier: InNetwork = None


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
        if not isinstance(given, dict):
            return given
        if unknown := [name for name in given if name != "devices"]:
            raise unknown_members(cls.__name__, unknown, ["devices"])
        return given.get("devices")


class NewKey(Representation):
    """A device's new key, which is shown this once; the old one has ended."""

    api_key: Annotated[str, "The key, for `X-API-Key` or as its MQTT password"]


@router.route("", "POST", faults=[404, 409])
async def register_device(device: NewDevice, call: TheCall) -> CreatedDevice:
    """Register a device. Its `api_key` is in this answer only."""
    key = new_api_key()
    new = await Registration(call).new(device, **key_members(key))
    return _created(await create(call, new), key, call)


@router.route("/batch", "POST", faults=[404, 409], shown=list[CreatedDevice])
async def register_devices(devices: NewDevices, call: TheCall) -> list[CreatedDevice] | Response:
    """Register up to 1,000 devices, or none. Each `api_key` is in this answer only."""
    registration = Registration(call)
    keys = [new_api_key() for _ in devices.root]
    new = [
        await registration.new(device, **key_members(key))
        for device, key in zip(devices.root, keys, strict=True)
    ]
    with refusals(REFUSALS):
        try:
            created = await call.store.sensors.create_all(new, actor=call.actor)
        except TakenError as error:
            return _all_taken(error)
    await call.registry.changed()
    return [_created(device, key, call) for device, key in zip(created, keys, strict=True)]


def _created(device: Sensor, key: str, call: KnownCall) -> CreatedDevice:
    return CreatedDevice.of(new_representation(device, call.registry), key)


def _all_taken(error: TakenError) -> Answer:
    problems = [
        Problem(["body", index, field], "already_registered", TAKEN[field][1])
        for index, field in error.taken
    ]
    fields = {field for _, field in error.taken}
    code = TAKEN[next(field for field in TAKEN if field in fields)][0]
    return Answer(STATUS[code], encode(ErrorAnswer(problems, code.value)))


@router.route("", "GET", shown=list[SensorRepresentation])
async def list_devices(
    call: TheCall, filters: Filters, network_identifier: OfNetwork = None
) -> Response:
    """List devices, by default in the order of registration; `X-Total-Count` says how many."""
    visible = await call.visible(network_identifier)
    return await listed_sensors(call, filters, visible, only_devices=True)


@router.route("/{device_id}", "GET")
async def read_device(device_id: str, call: TheCall) -> FullSensor:
    """Read a device's record; a device may read its own."""
    known = await call.device(device_id)
    sensor = await call.store.sensors.find_number(known.number)
    return await shown(call, sensor, ErrorCode.DEVICE_NOT_FOUND)


@router.route("/{device_id}", "PATCH", faults=[409])
async def change_device(device_id: str, change: DeviceChange, call: TheCall) -> FullSensor:
    """Change a device: the members that are present; `is_active` true brings it back."""
    known = await call.changeable(device_id, Action.CONFIGURE, ErrorCode.DEVICE_NOT_FOUND)
    if "device_id" in change.model_fields_set and change.device_id is None and known.device_id:
        message = "Input should be a valid string"
        raise validation_error(("body", "device_id"), "string_type", message)
    members = await Registration(call).changed_members(known, change)
    return await shown(call, await change_sensor(call, known, members, ErrorCode.DEVICE_NOT_FOUND))


@router.route("/{device_id}", "DELETE")
async def deactivate_device(device_id: str, call: TheCall) -> None:
    """Deactivate a device: its key ends, its data stays. Again is no error."""
    known = await call.changeable(device_id, Action.REMOVE, ErrorCode.DEVICE_NOT_FOUND)
    await change_sensor(call, known, {"is_active": False}, ErrorCode.DEVICE_NOT_FOUND)


@router.route("/{device_id}/key", "POST", status=200)
async def rotate_key(device_id: str, call: TheCall) -> NewKey:
    """Give a device a new key; the old one ends at once."""
    known = await call.changeable(device_id, Action.CONFIGURE, ErrorCode.DEVICE_NOT_FOUND)
    key = new_api_key()
    await change_sensor(call, known, key_members(key), ErrorCode.DEVICE_NOT_FOUND)
    return NewKey(key)


@router.route("/{device_id}/key", "DELETE")
async def revoke_key(device_id: str, call: TheCall) -> None:
    """End a device's key: it stays in use, and sends nothing until it has a new one.

    Again is no error.
    """
    known = await call.changeable(device_id, Action.CONFIGURE, ErrorCode.DEVICE_NOT_FOUND)
    await change_sensor(call, known, NO_KEY, ErrorCode.DEVICE_NOT_FOUND)

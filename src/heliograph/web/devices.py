"""Devices: sensors seen by their credentials."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError
from heliograph.ingest.registry import KnownSensor
from heliograph.model.credentials import hash_key, new_api_key
from heliograph.model.principal import Principal, Role
from heliograph.model.sensor import Sensor
from heliograph.model.time import now
from heliograph.web.access import NOT_FOUND
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.errors import encode
from heliograph.web.pages import json_response
from heliograph.web.paths import PREFIX
from heliograph.web.representation import representation
from heliograph.web.schemas import (
    CreatedDevice,
    DeviceId,
    ListLimit,
    NewKey,
    Offset,
    SensorRepresentation,
    Text,
    errors,
)
from heliograph.web.services import Services

router = APIRouter(prefix=f"{PREFIX}/devices", tags=["devices"])

CONFIGURATIONS_PAGE = 10_000


class NewDevice(BaseModel):
    """What a device is registered with."""

    device_id: DeviceId
    name: Text | None = None
    network_identifier: Text | None = Field(None, description="Default: the network `default`")
    sensor_name: Text | None = None
    serial_number: Text | None = None
    manufacturer: Text | None = None
    model: Text | None = None
    modality: Text | None = None


class DeviceChange(BaseModel):
    """What is to change; members that are not present stay as they are."""

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    device_id: DeviceId = Field(default_factory=str)
    network_identifier: Text = Field(default_factory=str)
    is_active: bool = Field(default_factory=bool)
    name: Text | None = None
    sensor_name: Text | None = None
    serial_number: Text | None = None
    manufacturer: Text | None = None
    model: Text | None = None
    modality: Text | None = None


@router.post(
    "",
    status_code=201,
    response_model=CreatedDevice,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def register_device(
    device: NewDevice, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Register a device. Its `api_key` is in this answer only."""
    access.require(caller, Role.EDITOR)
    network = await _network(services, caller, device.network_identifier)
    key, key_hash = _new_key()
    members = device.model_dump(exclude={"network_identifier"})
    try:
        sensor = await services.store.sensors.create(
            identifier=str(uuid.uuid4()),
            network_identifier=network,
            key_hash=key_hash,
            created_at=now(),
            **members,
        )
    except AlreadyExistsError as error:
        raise _taken(error) from None
    await services.registry.changed()
    body = {**representation(sensor, None, services.registry), "api_key": key}
    return json_response(encode(body), status=201)


@router.get("", response_model=list[SensorRepresentation], responses=errors(401, 403, 422))
async def list_devices(
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    network_identifier: Annotated[str | None, Query()] = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List devices in the order of their registration; `X-Total-Count` tells how many."""
    access.require(caller, Role.VIEWER)
    if network_identifier is not None and "\0" in network_identifier:
        network_identifier = ""
    network = _visible(services, caller, network_identifier)
    sensors, total = await services.store.sensors.list(
        network_identifier=network, offset=offset, limit=limit, only_devices=True
    )
    revisions = await _revisions(services, sensors)
    body = [representation(s, revisions.get(s.number), services.registry) for s in sensors]
    return json_response(encode(body), {"x-total-count": str(total)})


@router.get("/{device_id}", response_model=SensorRepresentation, responses=errors(401, 403, 404))
async def read_device(
    device_id: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read a device's record; a device may read its own."""
    known = await access.readable(caller, device_id, ErrorCode.DEVICE_NOT_FOUND)
    return await _answer(services, known)


@router.patch(
    "/{device_id}",
    response_model=SensorRepresentation,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def change_device(
    device_id: str,
    change: DeviceChange,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change the members that are present; `is_active` true brings a device back."""
    known = await access.changeable(caller, device_id, Role.EDITOR, ErrorCode.DEVICE_NOT_FOUND)
    members = change.model_dump(include=change.model_fields_set)
    if "network_identifier" in members:
        members["network_identifier"] = await _network(
            services, caller, members["network_identifier"]
        )
    if "is_active" in members and not members["is_active"]:
        access.require(caller, Role.OWNER)
    if members:
        await _change(services, known, members)
    return await _answer(services, known)


@router.delete(
    "/{device_id}", status_code=204, responses=errors(401, 403, 404), response_class=Response
)
async def deactivate_device(
    device_id: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Deactivate a device: its key ends, its data stays. Again is no error."""
    known = await access.changeable(caller, device_id, Role.OWNER, ErrorCode.DEVICE_NOT_FOUND)
    await _change(services, known, {"is_active": False})
    return Response(status_code=204)


@router.post("/{device_id}/key", response_model=NewKey, responses=errors(401, 403, 404))
async def rotate_key(
    device_id: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Give a device a new key; the old one ends at once."""
    known = await access.changeable(caller, device_id, Role.EDITOR, ErrorCode.DEVICE_NOT_FOUND)
    key, key_hash = _new_key()
    await _change(services, known, {"key_hash": key_hash})
    return json_response(encode({"api_key": key}))


async def _answer(services: Services, known: KnownSensor) -> Response:
    sensor = await services.store.sensors.find_number(known.number)
    if sensor is None:
        raise _not_found(ErrorCode.DEVICE_NOT_FOUND)
    current = await services.store.configurations.current(sensor.number)
    body = representation(sensor, current.revision if current else None, services.registry)
    return json_response(encode(body))


async def _change(services: Services, known: KnownSensor, members: dict[str, Any]) -> None:
    try:
        changed = await services.store.sensors.change(known.number, **members)
    except AlreadyExistsError as error:
        raise _taken(error) from None
    if changed is None:
        raise _not_found(ErrorCode.DEVICE_NOT_FOUND)
    await services.registry.changed()


async def _network(services: Services, caller: Principal, identifier: str | None) -> str:
    """Return the network that the caller may put a device into."""
    default: str = services.registry.default_network
    if identifier is None or identifier.lower() == default:
        return default
    network = await services.store.networks.find(identifier) if caller.is_admin else None
    if network is None:
        raise _not_found(ErrorCode.NETWORK_NOT_FOUND)
    return network.identifier


def _visible(services: Services, caller: Principal, identifier: str | None) -> str | None:
    """Return the network whose devices are listed; None: all of them."""
    if caller.is_admin:
        return identifier.lower() if identifier is not None else None
    default: str = services.registry.default_network
    # No network has an empty identifier: of a network that is not seen there are no devices.
    return default if identifier is None or identifier.lower() == default else ""


async def _revisions(services: Services, sensors: list[Sensor]) -> dict[int, int]:
    """Return the newest revision of those of the sensors that have a configuration."""
    if not sensors:
        return {}
    revisions: dict[int, int] = {}
    after, last = min(s.number for s in sensors) - 1, max(s.number for s in sensors)
    while after < last:
        page = await services.store.configurations.current_of_all(after, CONFIGURATIONS_PAGE)
        if not page:
            break
        revisions.update((number, current.revision) for number, current in page)
        after = page[-1][0]
    return revisions


def _new_key() -> tuple[str, bytes]:
    key = new_api_key()
    return key, hash_key(key)


def _not_found(code: ErrorCode) -> HeliographError:
    return HeliographError(code, NOT_FOUND[code])


_TAKEN = {
    "device_id": (ErrorCode.DEVICE_ALREADY_REGISTERED, "The device_id is already registered"),
    "serial_number": (
        ErrorCode.SERIAL_NUMBER_ALREADY_REGISTERED,
        "The serial_number is already registered in this network",
    ),
    "sensor_name": (
        ErrorCode.SENSOR_NAME_ALREADY_REGISTERED,
        "The sensor_name is already registered in this network",
    ),
}


def _taken(error: AlreadyExistsError) -> HeliographError:
    return HeliographError(*_TAKEN.get(error.field, _TAKEN["device_id"]))

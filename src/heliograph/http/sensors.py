"""Sensors: how they are registered, changed and listed, under whichever name and by whoever.

A device is the same record, seen by its credentials.
"""

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError, RowError
from heliograph.http.access import NOT_FOUND, forbidden, is_machine, not_found
from heliograph.http.answers import encode
from heliograph.http.lists import Filters, listed_sensors
from heliograph.http.members import Body
from heliograph.http.representation import (
    FullSensor,
    SensorRepresentation,
    full_representation,
    new_representation,
)
from heliograph.http.resources import KnownCall, Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import (
    DeviceId,
    InNetwork,
    Interval,
    JsonValue,
    Latitude,
    Longitude,
    NewDeviceId,
    NewIdentifier,
    OfNetwork,
    Storable,
    Tags,
    Text,
)
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.sensor import (
    LONGEST_DISPLAY_NAME,
    LONGEST_UNIT,
    MOST_LABELS,
    MOST_TAGS,
    AttributeLabel,
    NewSensor,
    Node,
    Sensor,
)
from heliograph.model.time import now
from heliograph.store.sensors import WrongNodeError

router = Resource("sensors", "/sensors")

WRONG_NODE = (
    ErrorCode.NODE_IN_ANOTHER_NETWORK,
    "A node carries sensors of its own network only",
)
TAKEN: Refusals = {
    "identifier": (ErrorCode.SENSOR_ALREADY_REGISTERED, "The id is already registered"),
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
REFUSALS: Refusals = {
    **TAKEN,
    WrongNodeError: WRONG_NODE,
    # All else was checked before; the network can have been deleted since.
    RowError: (ErrorCode.NETWORK_NOT_FOUND, NOT_FOUND[ErrorCode.NETWORK_NOT_FOUND]),
}
REQUIRED_WITHOUT_NAME = ("manufacturer", "model", "modality")
_OR = "required without `sensor_name`"
_TEXT: JsonDict = {"type": "string"}
_INVENTORY: JsonDict = {"manufacturer": _TEXT, "model": _TEXT, "modality": _TEXT}


class AttributeLabelBody(Body):
    """How people read an attribute."""

    model_config = ConfigDict(title="NewAttributeLabel")

    unit: Annotated[str, Field(max_length=LONGEST_UNIT), Storable] | None = Field(
        None, description="The unit that it is sent in: °C, say"
    )
    display_name: Annotated[str, Field(max_length=LONGEST_DISPLAY_NAME), Storable] | None = Field(
        None, description="What people call it"
    )


class Inventory(Body):
    """What is known of a sensor beside its identity."""

    representation = FullSensor

    name: Text | None = None
    sensor_name: Text | None = None
    serial_number: Text | None = None
    manufacturer: Text | None = None
    model: Text | None = None
    modality: Text | None = None
    node_id: Text | None = Field(
        None, description="The UUID of the node that carries it, in the same network"
    )
    expected_interval: Interval | None = Field(
        None, description="Seconds of silence after which it is late; null: never"
    )
    tags: Tags = Field(
        default_factory=list, description=f"What it is filtered by: up to {MOST_TAGS}, in any order"
    )
    attributes: Annotated[dict[Text, AttributeLabelBody] | None, Field(max_length=MOST_LABELS)] = (
        Field(
            None,
            description="Units and names of attributes, by the attribute's name (nested ones as"
            " dotted paths), replaced whole; null: none",
        )
    )
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    place: Text | None = None
    packing: bool = Field(
        True, description="Whether its old measurements may be packed, where its network's may"
    )


class Change(Inventory):
    """What is to change; members that are not present stay as they are."""

    is_change = True
    fixed = frozenset(("sensor_identifier", "id", "created_at"))

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    network_identifier: Text = Field(
        default_factory=str, description="The UUID of the network that it moves to"
    )
    is_active: bool = Field(default_factory=bool, description="Whether it may send and receive")
    packing: bool = Field(
        default_factory=bool,
        description="Whether its old measurements may be packed, where its network's may; what is"
        " packed stays so",
    )


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


class Registration:
    """Registers and changes sensors for one caller, as far as they may."""

    def __init__(self, call: KnownCall) -> None:
        self._call = call
        # Of those asked for before: a batch names the same ones again and again.
        self._networks: dict[str | None, str] = {}

    async def new(self, body: BaseModel, **given: Any) -> NewSensor:
        """Return what the body has registered; `given` is what it does not say.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, NODE_NOT_FOUND, NODE_IN_ANOTHER_NETWORK,
                FORBIDDEN.
        """
        members = _described(body.model_dump(exclude={"id", "configuration"}))
        network = await self._network(members.pop("network_identifier"))
        members["node_identifier"] = await self._node(members.pop("node_id"), network)
        members = {"identifier": str(uuid.uuid4()), **members, **given}
        return NewSensor(created_at=now(), network_identifier=network, **members)

    async def changed_members(self, known: KnownSensor, change: Change) -> dict[str, Any]:
        """Return the members that the change gives the sensor's record.

        Raises:
            HeliographError: as from `new`; VALIDATION_FAILED, a `device_id` that only the server
                gives; SENSOR_NOT_FOUND, there is none any more.
            RequestValidationError: what is read-only is not what it is.
        """
        if change.has_read_only:
            sensor = await self._call.store.sensors.find_number(known.number)
            change.check_read_only(await shown(self._call, sensor))
        members = _described(change.model_dump(include=change.model_fields_set - {"configuration"}))
        name = members.get("device_id")
        if name is not None and name != known.device_id and not may_name_a_device(name):
            raise HeliographError(ErrorCode.VALIDATION_FAILED, f"device_id: {DEVICE_ID_RULE}")
        network = known.network_identifier
        if "network_identifier" in members:
            network = await self._network(members["network_identifier"])
            self._call.require_leave(known.network_identifier, network)
            members["network_identifier"] = network
        if "node_id" in members:
            members["node_identifier"] = await self._node(members.pop("node_id"), network)
        if known.is_active and not members.get("is_active", True):
            self._call.require(Action.MANAGE, known.network_identifier)
        return members

    async def _network(self, identifier: str | None) -> str:
        if identifier not in self._networks:
            self._networks[identifier] = await self._call.target_network(identifier)
        return self._networks[identifier]

    async def _node(self, identifier: str | None, network: str) -> str | None:
        if identifier is None:
            return None
        node = await find_node(self._call, identifier, Action.EDIT)
        if node.network_identifier != network:
            raise HeliographError(*WRONG_NODE)
        return node.identifier


async def find_node(call: KnownCall, identifier: str, action: Action = Action.VIEW) -> Node:
    """Return the node if the caller may do this with what is in its network.

    Raises:
        HeliographError: NODE_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    node = await call.store.nodes.find(identifier)
    if node is None or not call.may(Action.VIEW, node.network_identifier):
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.NODE_NOT_FOUND)
    call.require(action, node.network_identifier)
    return node


async def create(call: KnownCall, new: NewSensor) -> Sensor:
    """Register a sensor, and renew what is known of it everywhere.

    Raises:
        HeliographError: a value is taken, the node is gone or elsewhere.
    """
    with refusals(REFUSALS):
        (sensor,) = await call.store.sensors.create_all([new], actor=call.actor)
    await call.registry.changed()
    return sensor


async def change_sensor(
    call: KnownCall,
    known: KnownSensor,
    members: Mapping[str, Any],
    code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
) -> Sensor:
    """Change the sensor's record, and renew what is known of it everywhere.

    Raises:
        HeliographError: `code`, there is none any more; a value is taken.
    """
    with refusals(REFUSALS):
        changed = await call.store.sensors.change(known.number, actor=call.actor, **members)
    sensor = found(changed, code)
    await call.registry.changed()
    return sensor


async def shown(
    call: KnownCall, sensor: Sensor | None, code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND
) -> FullSensor:
    """Return all that there is to say of the sensor.

    Raises:
        HeliographError: `code`, there is none.
    """
    return await full_representation(found(sensor, code), call.services)


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
    return new_representation(created, call.registry, is_configured=configured)


@router.route("", "GET", shown=list[SensorRepresentation])
async def list_sensors(
    call: TheCall, filters: Filters, network_identifier: OfNetwork = None
) -> Response:
    """List sensors, by default in the order of their creation; `X-Total-Count` says how many."""
    return await listed_sensors(call, filters, await call.visible(network_identifier))


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
    with refusals(REFUSALS):
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
    erases = data == "delete"
    if not await call.store.sensors.delete(known.number, now(), erases=erases, actor=call.actor):
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    # Nothing more may come in before the last of it is looked for.
    await call.registry.changed()
    if erases:
        await call.services.http_ingest.passed((known.number,))
        await call.store.sensors.erase(known.number)
        call.services.latest.forget(known.number)
        await call.registry.erased(known.number)


def _described(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members with tags and labels as a record has them."""
    if "tags" in members:
        members["tags"] = tuple(sorted(set(members["tags"])))
    if "attributes" in members:
        given = members.pop("attributes") or {}
        labels = {name: AttributeLabel(**label) for name, label in given.items()}
        # One that says nothing is none.
        members["attribute_labels"] = {k: v for k, v in labels.items() if v != AttributeLabel()}
    return members


def _text(configuration: Any) -> str:
    return encode(configuration).decode()

"""What sensors and devices have in common when they are registered and changed."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field

from heliograph.access.policy import Action
from heliograph.access.registry import KnownSensor
from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError, RowError
from heliograph.http.access import forbidden, is_machine
from heliograph.http.members import Body
from heliograph.http.representation import FullSensor, full_representation
from heliograph.http.resources import KnownCall, found, not_found
from heliograph.http.schemas import InNetwork, Interval, NewDeviceId, Text
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.sensor import NewSensor, Node, Sensor
from heliograph.model.time import now
from heliograph.store.nodes import NodeNotEmptyError
from heliograph.store.sensors import WrongNodeError

TAKEN = {
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


class Change(Inventory):
    """What is to change; members that are not present stay as they are."""

    is_change = True
    fixed = frozenset(("sensor_identifier", "id", "created_at"))

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    network_identifier: Text = Field(
        default_factory=str, description="The UUID of the network that it moves to"
    )
    is_active: bool = Field(default_factory=bool, description="Whether it may send and receive")


class NewDevice(Inventory):
    """What a device is registered with."""

    device_id: NewDeviceId
    network_identifier: InNetwork = None


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
        members = body.model_dump(exclude={"id", "configuration"})
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
        members = change.model_dump(include=change.model_fields_set - {"configuration"})
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
            raise wrong_node()
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
    with refusals():
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
    with refusals():
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


@contextlib.contextmanager
def refusals(taken: Mapping[str, tuple[ErrorCode, str]] = TAKEN) -> Iterator[None]:
    """Answer the store's refusal of a record with its reason; `taken` by the member that is.

    Raises:
        HeliographError: a value is taken, the node is gone or elsewhere or still carries sensors,
            the network is gone.
    """
    try:
        yield
    except AlreadyExistsError as error:
        raise HeliographError(*taken[error.field]) from None
    except NodeNotEmptyError:
        detail = "The node still carries sensors"
        raise HeliographError(ErrorCode.NODE_NOT_EMPTY, detail) from None
    except WrongNodeError:
        raise wrong_node() from None
    except RowError:
        # All else was checked before; the network can have been deleted since.
        raise not_found(ErrorCode.NETWORK_NOT_FOUND) from None


def wrong_node() -> HeliographError:
    """Return what is answered when a sensor and its node would be in different networks."""
    return HeliographError(
        ErrorCode.NODE_IN_ANOTHER_NETWORK, "A node carries sensors of its own network only"
    )

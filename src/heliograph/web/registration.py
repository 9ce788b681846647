"""What sensors and devices have in common when they are registered and changed."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from heliograph.access.policy import Action, may
from heliograph.access.registry import KnownSensor
from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError, RowError
from heliograph.model.audit import Actor
from heliograph.model.credentials import key_members
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.principal import Principal
from heliograph.model.sensor import NewSensor, Node, Sensor
from heliograph.model.time import now
from heliograph.store.sensors import WrongNodeError
from heliograph.web.access import NOT_FOUND, Access, forbidden, is_machine
from heliograph.web.errors import Answer, encode
from heliograph.web.members import Body
from heliograph.web.representation import full_representation
from heliograph.web.schemas import FullSensor, Interval, NewDeviceId, Text
from heliograph.web.services import Services

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

    name: Text | None = Field(None, description="What people call it, any text")
    sensor_name: Text | None = Field(None, description="Its name, unique in the network")
    serial_number: Text | None = Field(None, description="Its serial number, unique in the network")
    manufacturer: Text | None = Field(None, description="Who made it")
    model: Text | None = Field(None, description="What the manufacturer calls it")
    modality: Text | None = Field(None, description="What it measures: temperature, say")
    node_id: Text | None = Field(
        None, description="The UUID of the node that carries it, in the same network"
    )
    expected_interval: Interval | None = Field(
        None, description="Seconds of silence after which it is late; null: never"
    )


class Change(Inventory):
    """What is to change; members that are not present stay as they are."""

    representation = FullSensor
    fixed = frozenset(("sensor_identifier", "id", "created_at"))

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    network_identifier: Text = Field(
        default_factory=str, description="The UUID of the network that it moves to"
    )
    is_active: bool = Field(default_factory=bool, description="Whether it may send and receive")


class NewDevice(Inventory):
    """What a device is registered with."""

    device_id: NewDeviceId = Field(
        description="The name that it logs in with, unique in the whole server"
    )
    network_identifier: Text | None = Field(
        None, description="The UUID of its network; by default that of the network `default`"
    )


class Registration:
    """Registers and changes sensors for one caller, as far as he may."""

    def __init__(self, caller: Principal, access: Access, services: Services) -> None:
        self.caller = caller
        self._access = access
        self._services = services
        # Of those asked for before: a batch names the same ones again and again.
        self._networks: dict[str | None, str] = {}

    async def new(
        self,
        body: BaseModel,
        *,
        identifier: uuid.UUID | None = None,
        api_key: str | None = None,
        configuration: str | None = None,
    ) -> NewSensor:
        """Return what the body has registered.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, NODE_NOT_FOUND, NODE_IN_ANOTHER_NETWORK,
                FORBIDDEN.
        """
        members = body.model_dump(exclude={"id", "configuration"})
        network = await self._network(members.pop("network_identifier"))
        key = key_members(api_key) if api_key is not None else None
        return NewSensor(
            identifier=str(identifier or uuid.uuid4()),
            created_at=now(),
            network_identifier=network,
            node_identifier=await self._node(members.pop("node_id"), network),
            configuration=configuration,
            author=None if configuration is None else self.caller.name,
            key_hash=key and key["key_hash"],
            broker_password=key and key["broker_password"],
            **members,
        )

    async def changed_members(self, known: KnownSensor, change: Change) -> dict[str, Any]:
        """Return the members that the change gives the sensor's record.

        Raises:
            HeliographError: as from `new`; VALIDATION_FAILED, a `device_id` that only the server
                gives; SENSOR_NOT_FOUND, there is none any more.
            RequestValidationError: what is read-only is not what it is.
        """
        if change.has_read_only:
            shown = await self._shown(known)
            change.check_read_only(shown)
        members = change.model_dump(include=change.model_fields_set - {"configuration"})
        name = members.get("device_id")
        if name is not None and name != known.device_id and not may_name_a_device(name):
            raise HeliographError(ErrorCode.VALIDATION_FAILED, f"device_id: {DEVICE_ID_RULE}")
        network = known.network_identifier
        if "network_identifier" in members:
            network = await self._network(members["network_identifier"])
            self._access.require_leave(self.caller, known.network_identifier, network)
            members["network_identifier"] = network
        if "node_id" in members:
            members["node_identifier"] = await self._node(members.pop("node_id"), network)
        if known.is_active and not members.get("is_active", True):
            self._access.require(self.caller, Action.MANAGE, known.network_identifier)
        return members

    async def _shown(self, known: KnownSensor) -> dict[str, Any]:
        sensor = await self._services.store.sensors.find_number(known.number)
        if sensor is None:
            raise not_found(ErrorCode.SENSOR_NOT_FOUND)
        return await full_representation(sensor, self._services)

    async def _network(self, identifier: str | None) -> str:
        """Return the network that the caller may put a sensor into."""
        if identifier not in self._networks:
            if identifier is None:
                self._access.require(self.caller, Action.EDIT)
                found = self._services.registry.default_network
            else:
                network = await self._access.network(self.caller, identifier, Action.EDIT)
                found = network.identifier
            self._networks[identifier] = found
        return self._networks[identifier]

    async def _node(self, identifier: str | None, network: str) -> str | None:
        if identifier is None:
            return None
        node = await find_node(self._services, self.caller, identifier, Action.EDIT)
        if node.network_identifier != network:
            raise wrong_node()
        return node.identifier


async def find_node(services: Services, caller: Principal, identifier: str, action: Action) -> Node:
    """Return the node if the caller may do this with what is in its network.

    Raises:
        HeliographError: NODE_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    node = await services.store.nodes.find(identifier)
    grants = services.registry.grants
    if node is None or not may(caller, Action.VIEW, node.network_identifier, grants):
        if is_machine(caller):
            raise forbidden()
        raise not_found(ErrorCode.NODE_NOT_FOUND)
    if not may(caller, action, node.network_identifier, grants):
        raise forbidden()
    return node


async def create(services: Services, new: NewSensor, actor: Actor) -> Sensor:
    """Register a sensor, and have everybody know at once.

    Raises:
        HeliographError: a value is taken, the node is gone or elsewhere.
    """
    with refusals():
        (sensor,) = await services.store.sensors.create_all([new], actor=actor)
    await services.registry.changed()
    return sensor


async def change_sensor(
    services: Services,
    known: KnownSensor,
    members: dict[str, Any],
    actor: Actor,
    code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
) -> Sensor:
    """Change the sensor's record, and have everybody know at once.

    Raises:
        HeliographError: `code`, there is none any more; a value is taken.
    """
    with refusals():
        changed = await services.store.sensors.change(known.number, actor=actor, **members)
    if changed is None:
        raise not_found(code)
    await services.registry.changed()
    return changed


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Have the caller told why the store refuses a record.

    Raises:
        HeliographError: a value is taken, the node is gone or elsewhere, the network is gone.
    """
    try:
        yield
    except AlreadyExistsError as error:
        raise taken(error) from None
    except WrongNodeError:
        raise wrong_node() from None
    except RowError:
        # All else was checked before; the network can have been deleted since.
        raise not_found(ErrorCode.NETWORK_NOT_FOUND) from None


async def answer_sensor(services: Services, sensor: Sensor | None, code: ErrorCode) -> Response:
    """Answer with all that there is to say of the sensor.

    Raises:
        HeliographError: `code`, there is none.
    """
    if sensor is None:
        raise not_found(code)
    return Answer(200, encode(await full_representation(sensor, services))).response()


def not_found(code: ErrorCode) -> HeliographError:
    """Return what is answered for what does not exist, or not for this caller."""
    return HeliographError(code, NOT_FOUND[code])


def taken(error: AlreadyExistsError) -> HeliographError:
    """Return what is answered when a unique value is in use."""
    return HeliographError(*TAKEN[error.field])


def wrong_node() -> HeliographError:
    """Return what is answered when a sensor and its node would be in different networks."""
    return HeliographError(
        ErrorCode.NODE_IN_ANOTHER_NETWORK, "A node carries sensors of its own network only"
    )

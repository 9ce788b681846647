"""Nodes: hardware units that carry sensors."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.store.nodes import NodeNotEmptyError
from heliograph.web.access import Access
from heliograph.web.answers import held_by
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices, no_body
from heliograph.web.errors import Answer, encode
from heliograph.web.lists import gather, listed, sensors
from heliograph.web.members import Body
from heliograph.web.pages import TRUNCATED
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.registration import (
    answer_sensor,
    change_sensor,
    find_node,
    not_found,
    refusals,
    wrong_node,
)
from heliograph.web.representation import node_representation
from heliograph.web.schemas import (
    FullNode,
    FullSensor,
    ListLimit,
    NodeRepresentation,
    Offset,
    OfNetwork,
    Text,
)
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=f"{PREFIX}/nodes", tags=["nodes"], route_class=StrictRoute)

MOST_SENSORS = 10_000
CHANGE_ERRORS = errors(400, 401, 403, 404, 409, 413, 415, 422)


class NewNode(Body):
    """What a node is registered with."""

    serial_number: Text = Field(description="Its serial number, unique in the network")
    firmware_version: Text = Field(description="What runs on it")
    name: Text | None = Field(None, description="What people call it, any text")
    id: uuid.UUID | None = Field(
        None, description="The UUID that it is to have; by default a new one"
    )
    network_identifier: Text | None = Field(
        None, description="The UUID of its network; by default that of the network `default`"
    )


class NodeChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = NodeRepresentation

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    serial_number: Text = Field(
        default_factory=str, description="Its serial number, unique in the network"
    )
    network_identifier: Text = Field(
        default_factory=str, description="The UUID of the network that it moves to"
    )
    firmware_version: Text | None = Field(None, description="What runs on it")
    name: Text | None = Field(None, description="What people call it, any text")


class Attachment(Body):
    """Which sensor is to be carried: its UUID or `device_id`."""

    sensor_id: Text = Field(description="The sensor's UUID or `device_id`")


@router.post(
    "",
    status_code=201,
    response_model=NodeRepresentation,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def create_node(
    node: NewNode, caller: Caller, actor: TheActor, access: TheAccess, services: TheServices
) -> Response:
    """Register a node."""
    network = await _network(access, services, caller, node.network_identifier)
    with _refusals():
        created = await services.store.nodes.create(
            identifier=str(node.id or uuid.uuid4()),
            network_identifier=network,
            serial_number=node.serial_number,
            firmware_version=node.firmware_version,
            name=node.name,
            created_at=now(),
            actor=actor,
        )
    return Answer(201, encode(node_representation(created))).response()


@router.get("", response_model=list[NodeRepresentation], responses=errors(401, 403, 422))
async def list_nodes(
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    serial_number: Annotated[
        Text | None, Query(description="Only those of this serial number")
    ] = None,
    firmware_version: Annotated[
        Text | None, Query(description="Only those that run this version")
    ] = None,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List nodes in the order of their creation; `X-Total-Count` tells how many."""
    visible = await access.visible(caller, network_identifier)

    async def read(offset: int, limit: int) -> tuple[Sequence[Any], int]:
        nodes, total = await services.store.nodes.list(
            networks=visible,
            offset=offset,
            limit=limit,
            serial_number=serial_number,
            firmware_version=firmware_version,
        )
        return [node_representation(node) for node in nodes], total

    return await listed(request, offset, limit, read)


@router.get("/{node_id}", response_model=NodeRepresentation, responses=errors(401, 403, 404))
async def read_node(node_id: str, caller: Caller, services: TheServices) -> Response:
    """Read a node's record."""
    node = await find_node(services, caller, node_id, Action.VIEW)
    return Answer(200, encode(node_representation(node))).response()


@router.get("/{node_id}/full", response_model=FullNode, responses=errors(401, 403, 404))
async def read_full_node(
    request: Request, node_id: str, caller: Caller, services: TheServices
) -> Response:
    """Read a node's record with those of its sensors.

    Of more than 10,000, or 16 MiB, the first: then it has `X-Page-Truncated`.
    """
    node = await find_node(services, caller, node_id, Action.VIEW)
    read = sensors(services, networks=None, node_identifier=node.identifier)
    found = await gather(held_by(request.scope), 0, MOST_SENSORS, read)
    head = encode(node_representation(node))[:-1] + b',"sensors":'
    headers = [TRUNCATED] if found.end < found.total else []
    return Answer(200, [head, *found.pieces, b"}"], headers).response()


@router.put("/{node_id}", response_model=NodeRepresentation, responses=CHANGE_ERRORS)
@router.patch("/{node_id}", response_model=NodeRepresentation, responses=CHANGE_ERRORS)
async def update_node(
    node_id: str,
    change: NodeChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change a node: the members that are present.

    It changes its network only without sensors.
    """
    node = await find_node(services, caller, node_id, Action.EDIT)
    change.check_read_only(node_representation(node))
    members = change.model_dump(include=change.model_fields_set)
    if "network_identifier" in members:
        network = await _network(access, services, caller, members["network_identifier"])
        access.require_leave(caller, node.network_identifier, network)
        members["network_identifier"] = network
    with _refusals():
        changed = await services.store.nodes.change(node.identifier, actor=actor, **members)
    if changed is None:
        raise not_found(ErrorCode.NODE_NOT_FOUND)
    return Answer(200, encode(node_representation(changed))).response()


@router.delete(
    "/{node_id}",
    status_code=204,
    responses=errors(401, 403, 404, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def delete_node(
    node_id: str, caller: Caller, actor: TheActor, services: TheServices
) -> Response:
    """Delete a node; its sensors stay, without one."""
    node = await find_node(services, caller, node_id, Action.MANAGE)
    if not await services.store.nodes.delete(node.identifier, actor=actor):
        raise not_found(ErrorCode.NODE_NOT_FOUND)
    await services.registry.changed()
    return Response(status_code=204)


@router.post(
    "/{node_id}/sensors",
    response_model=FullSensor,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def attach_sensor(
    node_id: str,
    attachment: Attachment,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Put a sensor of the node's network on the node, and off the one that it was on."""
    node = await find_node(services, caller, node_id, Action.EDIT)
    known = await access.changeable(caller, attachment.sensor_id, Action.CONFIGURE)
    if known.network_identifier != node.network_identifier:
        raise wrong_node()
    sensor = await change_sensor(services, known, {"node_identifier": node.identifier}, actor)
    return await answer_sensor(services, sensor, ErrorCode.SENSOR_NOT_FOUND)


@router.delete(
    "/{node_id}/sensors/{sensor_id}",
    status_code=204,
    responses=errors(401, 403, 404, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def detach_sensor(
    node_id: str,
    sensor_id: str,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Take a sensor off the node that carries it."""
    node = await find_node(services, caller, node_id, Action.EDIT)
    known = await access.changeable(caller, sensor_id, Action.CONFIGURE)
    if await services.store.sensors.detach(known.number, node.identifier, actor=actor) is None:
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    await services.registry.changed()
    return Response(status_code=204)


async def _network(
    access: Access, services: Services, caller: Principal, identifier: str | None
) -> str:
    if identifier is None:
        access.require(caller, Action.EDIT)
        return services.registry.default_network
    return (await access.network(caller, identifier, Action.EDIT)).identifier


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Have the caller told why the store refuses a node.

    Raises:
        HeliographError: a value is taken, sensors are in the way, the network is gone.
    """
    with refusals():
        try:
            yield
        except AlreadyExistsError as error:
            if error.field != "identifier":
                raise
            code = ErrorCode.NODE_ALREADY_REGISTERED
            raise HeliographError(code, "The id is already registered") from None
        except NodeNotEmptyError:
            code = ErrorCode.NODE_NOT_EMPTY
            raise HeliographError(code, "The node still carries sensors") from None

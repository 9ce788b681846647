"""Nodes: hardware units that carry sensors."""

import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import not_found
from heliograph.http.answers import Answer, encode
from heliograph.http.lists import gather, listed, sensors
from heliograph.http.members import Body
from heliograph.http.pages import TRUNCATED
from heliograph.http.representation import FullNode, FullSensor, NodeRepresentation
from heliograph.http.resources import Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import InNetwork, ListLimit, NewIdentifier, Offset, OfNetwork, Text
from heliograph.http.sensors import REFUSALS, WRONG_NODE, change_sensor, find_node, shown
from heliograph.model.time import now
from heliograph.store.nodes import NodeNotEmptyError

router = Resource("nodes", "/nodes")

MOST_SENSORS = 10_000
_REFUSALS: Refusals = {
    **REFUSALS,
    NodeNotEmptyError: (ErrorCode.NODE_NOT_EMPTY, "The node still carries sensors"),
    "identifier": (ErrorCode.NODE_ALREADY_REGISTERED, "The id is already registered"),
}


class NewNode(Body):
    """What a node is registered with."""

    representation = NodeRepresentation

    serial_number: Text
    firmware_version: Text
    name: Text | None = None
    id: NewIdentifier = None
    network_identifier: InNetwork = None


class NodeChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = NodeRepresentation
    is_change = True

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    serial_number: Text = Field(default_factory=str)
    network_identifier: Text = Field(
        default_factory=str, description="The UUID of the network that it moves to"
    )
    firmware_version: Text | None = None
    name: Text | None = None


class Attachment(Body):
    """Which sensor is to be carried: its UUID or `device_id`."""

    sensor_id: Text = Field(description="The sensor's UUID or `device_id`")


@router.route("", "POST", faults=[404, 409])
async def create_node(node: NewNode, call: TheCall) -> NodeRepresentation:
    """Register a node."""
    network = await call.target_network(node.network_identifier)
    with refusals(_REFUSALS):
        created = await call.store.nodes.create(
            identifier=str(node.id or uuid.uuid4()),
            network_identifier=network,
            created_at=now(),
            actor=call.actor,
            **node.model_dump(include={"serial_number", "firmware_version", "name"}),
        )
    return NodeRepresentation.of(created)


@router.route("", "GET", shown=list[NodeRepresentation])
async def list_nodes(
    call: TheCall,
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
    """List nodes in the order of their creation; `X-Total-Count` says how many."""
    visible = await call.visible(network_identifier)

    async def read(offset: int, limit: int) -> tuple[Sequence[NodeRepresentation], int]:
        nodes, total = await call.store.nodes.list(
            networks=visible,
            offset=offset,
            limit=limit,
            serial_number=serial_number,
            firmware_version=firmware_version,
        )
        return [NodeRepresentation.of(node) for node in nodes], total

    return await listed(call, offset, limit, read)


@router.route("/{node_id}", "GET")
async def read_node(node_id: str, call: TheCall) -> NodeRepresentation:
    """Read a node's record."""
    return NodeRepresentation.of(await find_node(call, node_id))


@router.route("/{node_id}/full", "GET", shown=FullNode)
async def read_full_node(node_id: str, call: TheCall) -> Response:
    """Read a node's record with those of its sensors.

    Of more than 10,000, or 16 MiB, the first: then it has `X-Page-Truncated`.
    """
    node = await find_node(call, node_id)
    read = sensors(call.services, networks=None, node_identifier=node.identifier)
    page = await gather(call.held, 0, MOST_SENSORS, read)
    head = encode(NodeRepresentation.of(node))[:-1] + b',"sensors":'
    headers = [TRUNCATED] if page.end < page.total else []
    return Answer(200, [head, *page.pieces, b"}"], headers)


@router.route("/{node_id}", "PATCH", "PUT", faults=[409])
async def update_node(node_id: str, change: NodeChange, call: TheCall) -> NodeRepresentation:
    """Change a node: the members that are present.

    It changes its network only without sensors.
    """
    node = await find_node(call, node_id, Action.EDIT)
    change.check_read_only(NodeRepresentation.of(node))
    members = change.model_dump(include=change.model_fields_set)
    if "network_identifier" in members:
        network = await call.target_network(members["network_identifier"])
        call.require_leave(node.network_identifier, network)
        members["network_identifier"] = network
    with refusals(_REFUSALS):
        changed = await call.store.nodes.change(node.identifier, actor=call.actor, **members)
    return NodeRepresentation.of(found(changed, ErrorCode.NODE_NOT_FOUND))


@router.route("/{node_id}", "DELETE")
async def delete_node(node_id: str, call: TheCall) -> None:
    """Delete a node; its sensors stay, without one."""
    node = await find_node(call, node_id, Action.MANAGE)
    if not await call.store.nodes.delete(node.identifier, actor=call.actor):
        raise not_found(ErrorCode.NODE_NOT_FOUND)
    await call.registry.changed()


@router.route("/{node_id}/sensors", "POST", status=200, faults=[409])
async def attach_sensor(node_id: str, attachment: Attachment, call: TheCall) -> FullSensor:
    """Put a sensor of the node's network on the node, and off the one that it was on."""
    node = await find_node(call, node_id, Action.EDIT)
    known = await call.changeable(attachment.sensor_id, Action.CONFIGURE)
    if known.network_identifier != node.network_identifier:
        raise HeliographError(*WRONG_NODE)
    members = {"node_identifier": node.identifier}
    return await shown(call, await change_sensor(call, known, members))


@router.route("/{node_id}/sensors/{sensor_id}", "DELETE")
async def detach_sensor(node_id: str, sensor_id: str, call: TheCall) -> None:
    """Take a sensor off the node that carries it."""
    node = await find_node(call, node_id, Action.EDIT)
    known = await call.changeable(sensor_id, Action.CONFIGURE)
    if await call.store.sensors.detach(known.number, node.identifier, actor=call.actor) is None:
        raise not_found(ErrorCode.SENSOR_NOT_FOUND)
    await call.registry.changed()

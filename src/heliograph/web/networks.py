"""Networks, and who is a member of them."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action, may, role_in
from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError
from heliograph.model.account import Account, Member
from heliograph.model.principal import Role
from heliograph.model.sensor import LONGEST_TEXT, Network
from heliograph.model.time import now, to_rfc3339
from heliograph.store.networks import DEFAULT_NETWORK, LastOwnerError
from heliograph.web.access import NOT_FOUND, forbidden
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices, no_body
from heliograph.web.errors import Answer, encode
from heliograph.web.lists import listed, sensors
from heliograph.web.members import Body
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.schemas import (
    ListLimit,
    MemberRepresentation,
    NetworkRepresentation,
    Offset,
    SensorRepresentation,
    Storable,
)
from heliograph.web.sensor_filters import Filters
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=f"{PREFIX}/networks", tags=["networks"], route_class=StrictRoute)

ROLES = {"viewer": Role.VIEWER, "editor": Role.EDITOR, "owner": Role.OWNER}
NAMES = {role: name for name, role in ROLES.items()}
NetworkName = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), Storable]


class NewNetwork(Body):
    """What a network is called."""

    network_name: NetworkName = Field(description="Its name, unique in the whole server")
    network_identifier: uuid.UUID | None = Field(
        None, description="The UUID that it is to have; by default a new one"
    )


class NetworkChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = NetworkRepresentation

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    network_name: NetworkName = Field(
        default_factory=str, description="Its new name, unique in the whole server"
    )
    shared_keys: bool = Field(
        default_factory=bool, description="Whether keys of DEVICE_API_KEYS send and read here"
    )


class Membership(Body):
    """What a member may do: viewer reads, editor also configures, owner also manages."""

    representation = MemberRepresentation

    role: Literal["viewer", "editor", "owner"] = Field(description="What the member may do")


@router.post(
    "",
    status_code=201,
    response_model=NetworkRepresentation,
    responses=errors(400, 401, 403, 409, 413, 415, 422),
)
async def create_network(
    network: NewNetwork, caller: Caller, actor: TheActor, services: TheServices
) -> Response:
    """Make a network; who makes it owns it."""
    if not may(caller, Action.ADD_NETWORK, None, services.registry.grants):
        raise forbidden()
    try:
        created = await services.store.networks.create(
            identifier=str(network.network_identifier or uuid.uuid4()),
            name=network.network_name,
            created_at=now(),
            owner=caller.account,
            actor=actor,
        )
    except AlreadyExistsError as error:
        raise _taken(error) from None
    await services.registry.changed()
    return Answer(201, encode(_representation(created, Role.OWNER))).response()


@router.get("", response_model=list[NetworkRepresentation], responses=errors(401, 403, 422))
async def list_networks(
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List the networks that the caller may see, oldest first."""
    visible = await access.visible(caller, None)
    store, grants = services.store.networks, services.registry.grants

    async def read(offset: int, limit: int) -> tuple[Sequence[Any], int]:
        found, total = await store.list(networks=visible, offset=offset, limit=limit)
        return [_representation(n, role_in(caller, n.identifier, grants)) for n in found], total

    return await listed(request, offset, limit, read)


@router.get(
    "/{network_identifier}", response_model=NetworkRepresentation, responses=errors(401, 403, 404)
)
async def read_network(
    network_identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read a network's record."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    role = role_in(caller, network.identifier, services.registry.grants)
    return Answer(200, encode(_representation(network, role))).response()


@router.put(
    "/{network_identifier}",
    response_model=NetworkRepresentation,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def change_network(
    network_identifier: str,
    change: NetworkChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change a network's name, or let shared keys in.

    Members that are absent stay as they are, and so does the name of the network `default`.
    """
    network = await access.network(caller, network_identifier, Action.MANAGE)
    role = role_in(caller, network.identifier, services.registry.grants)
    change.check_read_only(_representation(network, role))
    members = change.model_dump(include=change.model_fields_set)
    name = members.get("network_name")
    if network.name == DEFAULT_NETWORK and name not in (None, DEFAULT_NETWORK):
        raise forbidden()
    try:
        changed = await services.store.networks.change(
            network.identifier, name=name, shared_keys=members.get("shared_keys"), actor=actor
        )
    except AlreadyExistsError as error:
        raise _taken(error) from None
    if changed is None:
        raise _not_found(ErrorCode.NETWORK_NOT_FOUND)
    await services.registry.changed()
    role = role_in(caller, network.identifier, services.registry.grants)
    return Answer(200, encode(_representation(changed, role))).response()


@router.delete(
    "/{network_identifier}",
    status_code=204,
    responses=errors(401, 403, 404, 409, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def delete_network(
    network_identifier: str,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Delete a network that has no sensors. The network `default` stays."""
    network = await access.network(caller, network_identifier, Action.MANAGE)
    if network.name == DEFAULT_NETWORK:
        raise forbidden()
    try:
        deleted = await services.store.networks.delete(network.identifier, actor=actor)
    except AlreadyExistsError:
        raise HeliographError(
            ErrorCode.NETWORK_NOT_EMPTY, "The network still has sensors"
        ) from None
    if not deleted:
        raise _not_found(ErrorCode.NETWORK_NOT_FOUND)
    await services.registry.changed()
    return Response(status_code=204)


@router.get(
    "/{network_identifier}/sensors",
    response_model=list[SensorRepresentation],
    responses=errors(401, 403, 404, 422),
)
async def list_sensors_of_network(
    request: Request,
    network_identifier: str,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    filters: Filters,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List a network's sensors, by default in the order of their creation."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    read = sensors(services, networks=[network.identifier], **filters.which)
    return await listed(request, offset, limit, read)


@router.get(
    "/{network_identifier}/members",
    response_model=list[MemberRepresentation],
    responses=errors(401, 403, 404),
)
async def list_members(
    network_identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """List a network's members, oldest first."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    members = await services.store.networks.members(network.identifier)
    return Answer(200, encode([_member(member) for member in members])).response()


@router.get(
    "/{network_identifier}/members/{username}",
    response_model=MemberRepresentation,
    responses=errors(401, 403, 404),
)
async def read_member(
    network_identifier: str,
    username: str,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read what a member may do."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    members = await services.store.networks.members(network.identifier)
    found = next((member for member in members if member.username == username), None)
    if found is None:
        raise _not_found(ErrorCode.MEMBER_NOT_FOUND)
    return Answer(200, encode(_member(found))).response()


@router.put(
    "/{network_identifier}/members/{username}",
    response_model=MemberRepresentation,
    responses=errors(400, 401, 403, 404, 409, 413, 415, 422),
)
async def set_member(
    network_identifier: str,
    username: str,
    membership: Membership,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Make a user a member, or give a member another role. The last owner stays one."""
    network = await access.network(caller, network_identifier, Action.MANAGE)
    account = await _account(services, username)
    role, moment = ROLES[membership.role], now()
    member = _member(Member(account.username, account.identifier, role, moment))
    membership.check_read_only(member)
    try:
        found = await services.store.networks.set_member(
            network.identifier, account.identifier, role, moment, actor=actor
        )
    except LastOwnerError:
        raise _last_owner() from None
    if not found:
        raise _not_found(ErrorCode.NETWORK_NOT_FOUND)
    await services.registry.changed()
    return Answer(200, encode(member)).response()


@router.delete(
    "/{network_identifier}/members/{username}",
    status_code=204,
    responses=errors(401, 403, 404, 409, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def remove_member(
    network_identifier: str,
    username: str,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """End a membership; anybody may end their own. The last owner stays."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    account = await services.store.accounts.find_username(username)
    if account is None or account.identifier != caller.account:
        access.require(caller, Action.MANAGE, network.identifier)
    if account is None:
        raise _not_found(ErrorCode.MEMBER_NOT_FOUND)
    try:
        removed = await services.store.networks.remove_member(
            network.identifier, account.identifier, actor=actor
        )
    except LastOwnerError:
        raise _last_owner() from None
    if not removed:
        raise _not_found(ErrorCode.MEMBER_NOT_FOUND)
    await services.registry.changed()
    return Response(status_code=204)


async def _account(services: Services, username: str) -> Account:
    account = await services.store.accounts.find_username(username)
    if account is None:
        raise _not_found(ErrorCode.USER_NOT_FOUND)
    return account


def _representation(network: Network, role: Role) -> dict[str, str | bool | None]:
    return {
        "network_identifier": network.identifier,
        "network_name": network.name,
        "created_at": to_rfc3339(network.created_at),
        "role": NAMES.get(role),
        "shared_keys": network.shared_keys,
    }


def _member(member: Member) -> dict[str, str]:
    return {
        "username": member.username,
        "user_identifier": member.account,
        "role": NAMES[member.role],
    }


def _taken(error: AlreadyExistsError) -> HeliographError:
    if error.field == "identifier":
        code = ErrorCode.NETWORK_ALREADY_REGISTERED
        return HeliographError(code, "The network_identifier is already registered")
    code = ErrorCode.NETWORK_NAME_ALREADY_REGISTERED
    return HeliographError(code, "The network_name is already registered")


def _last_owner() -> HeliographError:
    return HeliographError(ErrorCode.LAST_OWNER, "A network needs at least one owner")


def _not_found(code: ErrorCode) -> HeliographError:
    return HeliographError(code, NOT_FOUND[code])

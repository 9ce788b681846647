"""Networks, and who is a member of them."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action, role_in
from heliograph.errors import ErrorCode
from heliograph.http.access import forbidden, not_found
from heliograph.http.lists import Filters, listed, listed_sensors
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.representation import SensorRepresentation
from heliograph.http.resources import KnownCall, Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import ListLimit, NewIdentifier, Offset, Storable
from heliograph.model.account import Member
from heliograph.model.principal import Role
from heliograph.model.sensor import LONGEST_TEXT, Network
from heliograph.model.time import now, to_rfc3339
from heliograph.store.networks import DEFAULT_NETWORK, LastOwnerError

router = Resource("networks", "/networks")

ROLES = {"viewer": Role.VIEWER, "editor": Role.EDITOR, "owner": Role.OWNER}
NAMES = {role: name for name, role in ROLES.items()}
REFUSALS: Refusals = {
    "identifier": (
        ErrorCode.NETWORK_ALREADY_REGISTERED,
        "The network_identifier is already registered",
    ),
    "name": (ErrorCode.NETWORK_NAME_ALREADY_REGISTERED, "The network_name is already registered"),
    "sensors": (ErrorCode.NETWORK_NOT_EMPTY, "The network still has sensors"),
    LastOwnerError: (ErrorCode.LAST_OWNER, "A network needs at least one owner"),
}
NetworkName = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), Storable]


class NetworkRepresentation(Representation):
    """A network, and what the caller may do in it."""

    network_identifier: Annotated[str, "Its UUID"]
    network_name: Annotated[str, "Its name, unique in the whole server"]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]
    role: Annotated[str | None, "The caller's own: `viewer`, `editor` or `owner`"]
    shared_keys: Annotated[bool, "Whether keys of DEVICE_API_KEYS send and read here"]
    packing: Annotated[bool, "Whether old measurements may be packed here (PACK_AFTER)"]

    @classmethod
    def of(cls, network: Network, call: KnownCall) -> Self:
        """Return the network as the caller sees it."""
        role = role_in(call.caller, network.identifier, call.registry.grants)
        made = to_rfc3339(network.created_at)
        said = (network.shared_keys, network.packing)
        return cls(network.identifier, network.name, made, NAMES.get(role), *said)


class MemberRepresentation(Representation):
    """A member of a network."""

    username: Annotated[str, "The name of the member's account"]
    user_identifier: Annotated[str, "Its UUID"]
    role: Annotated[str, "`viewer` reads, `editor` also configures, `owner` also manages"]

    @classmethod
    def of(cls, member: Member) -> Self:
        """Return the member as the network shows them."""
        return cls(member.username, member.account, NAMES[member.role])


class NewNetwork(Body):
    """What a network is called."""

    network_name: NetworkName = Field(description="Its name, unique in the whole server")
    network_identifier: NewIdentifier = None


class NetworkChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = NetworkRepresentation
    is_change = True

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    network_name: NetworkName = Field(
        default_factory=str, description="Its new name, unique in the whole server"
    )
    shared_keys: bool = Field(default_factory=bool)
    packing: bool = Field(
        default_factory=bool,
        description="Whether old measurements may be packed; what is packed stays so",
    )


class Membership(Body):
    """What a member may do: viewer reads, editor also configures, owner also manages."""

    representation = MemberRepresentation
    is_change = True

    role: Literal["viewer", "editor", "owner"] = Field(description="What the member may do")


@router.route("", "POST", faults=[409])
async def create_network(network: NewNetwork, call: TheCall) -> NetworkRepresentation:
    """Make a network; who makes it owns it."""
    call.require(Action.ADD_NETWORK)
    with refusals(REFUSALS):
        created = await call.store.networks.create(
            identifier=str(network.network_identifier or uuid.uuid4()),
            name=network.network_name,
            created_at=now(),
            owner=call.caller.account,
            actor=call.actor,
        )
    await call.registry.changed()
    return NetworkRepresentation.of(created, call)


@router.route("", "GET", shown=list[NetworkRepresentation])
async def list_networks(call: TheCall, offset: Offset = 0, limit: ListLimit = 1_000) -> Response:
    """List the networks that the caller may see, oldest first."""
    visible = await call.visible()

    async def read(offset: int, limit: int) -> tuple[Sequence[NetworkRepresentation], int]:
        page, total = await call.store.networks.list(networks=visible, offset=offset, limit=limit)
        return [NetworkRepresentation.of(network, call) for network in page], total

    return await listed(call, offset, limit, read)


@router.route("/{network_identifier}", "GET")
async def read_network(network_identifier: str, call: TheCall) -> NetworkRepresentation:
    """Read a network's record."""
    return NetworkRepresentation.of(await call.network(network_identifier), call)


@router.route("/{network_identifier}", "PUT", faults=[409])
async def change_network(
    network_identifier: str, change: NetworkChange, call: TheCall
) -> NetworkRepresentation:
    """Change a network's name, let shared keys in, or have nothing packed.

    Members that are absent stay as they are, and so does the name of the network `default`.
    """
    network = await call.network(network_identifier, Action.MANAGE)
    change.check_read_only(NetworkRepresentation.of(network, call))
    members = change.model_dump(include=change.model_fields_set)
    name = members.get("network_name")
    if network.name == DEFAULT_NETWORK and name not in (None, DEFAULT_NETWORK):
        raise forbidden()
    with refusals(REFUSALS):
        changed = await call.store.networks.change(
            network.identifier,
            name=name,
            shared_keys=members.get("shared_keys"),
            packing=members.get("packing"),
            actor=call.actor,
        )
    network = found(changed, ErrorCode.NETWORK_NOT_FOUND)
    await call.registry.changed()
    return NetworkRepresentation.of(network, call)


@router.route("/{network_identifier}", "DELETE", faults=[409])
async def delete_network(network_identifier: str, call: TheCall) -> None:
    """Delete a network that has no sensors. The network `default` stays."""
    network = await call.network(network_identifier, Action.MANAGE)
    if network.name == DEFAULT_NETWORK:
        raise forbidden()
    with refusals(REFUSALS):
        deleted = await call.store.networks.delete(network.identifier, actor=call.actor)
    if not deleted:
        raise not_found(ErrorCode.NETWORK_NOT_FOUND)
    await call.registry.changed()


@router.route("/{network_identifier}/sensors", "GET", shown=list[SensorRepresentation])
async def list_sensors_of_network(
    network_identifier: str, call: TheCall, filters: Filters
) -> Response:
    """List a network's sensors, by default in the order of their creation."""
    network = await call.network(network_identifier)
    return await listed_sensors(call, filters, [network.identifier])


@router.route("/{network_identifier}/members", "GET")
async def list_members(network_identifier: str, call: TheCall) -> list[MemberRepresentation]:
    """List a network's members, oldest first."""
    network = await call.network(network_identifier)
    members = await call.store.networks.members(network.identifier)
    return [MemberRepresentation.of(member) for member in members]


@router.route("/{network_identifier}/members/{username}", "GET")
async def read_member(
    network_identifier: str, username: str, call: TheCall
) -> MemberRepresentation:
    """Read what a member may do."""
    network = await call.network(network_identifier)
    members = await call.store.networks.members(network.identifier)
    named = next((member for member in members if member.username == username), None)
    return MemberRepresentation.of(found(named, ErrorCode.MEMBER_NOT_FOUND))


@router.route("/{network_identifier}/members/{username}", "PUT", faults=[409])
async def set_member(
    network_identifier: str, username: str, membership: Membership, call: TheCall
) -> MemberRepresentation:
    """Make a user a member, or give a member another role. The last owner stays one."""
    network = await call.network(network_identifier, Action.MANAGE)
    account = found(await call.store.accounts.find_username(username), ErrorCode.USER_NOT_FOUND)
    member = Member(account.username, account.identifier, ROLES[membership.role], now())
    shown = MemberRepresentation.of(member)
    membership.check_read_only(shown)
    with refusals(REFUSALS):
        known = await call.store.networks.set_member(
            network.identifier, member.account, member.role, member.created_at, actor=call.actor
        )
    if not known:
        raise not_found(ErrorCode.NETWORK_NOT_FOUND)
    await call.registry.changed()
    return shown


@router.route("/{network_identifier}/members/{username}", "DELETE", faults=[409])
async def remove_member(network_identifier: str, username: str, call: TheCall) -> None:
    """End a membership; anybody may end their own. The last owner stays."""
    network = await call.network(network_identifier)
    account = await call.store.accounts.find_username(username)
    if account is None or account.identifier != call.caller.account:
        call.require(Action.MANAGE, network.identifier)
    member = found(account, ErrorCode.MEMBER_NOT_FOUND)
    with refusals(REFUSALS):
        removed = await call.store.networks.remove_member(
            network.identifier, member.identifier, actor=call.actor
        )
    if not removed:
        raise not_found(ErrorCode.MEMBER_NOT_FOUND)
    await call.registry.changed()

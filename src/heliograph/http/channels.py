"""Channels: where a network's alerts are told, and the server's own."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import DeliveryError, ErrorCode, StartError
from heliograph.http.access import forbidden, is_machine, not_found
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import ListLimit, NewIdentifier, Offset, OfNetwork, Text
from heliograph.libraries import load
from heliograph.model.time import now, to_rfc3339
from heliograph.processing.channels import WebhookTarget, parse, restored, shown_url
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.outbound import URLS
from heliograph.secrets import UndecipherableError
from heliograph.store.channels import (
    MAXIMUM_CHANNELS,
    ChannelDefinition,
    StoredChannel,
    TooManyChannelsError,
)

router = Resource("channels", "/channels")

_REFUSALS: Refusals = {
    "identifier": (ErrorCode.CHANNEL_ALREADY_REGISTERED, "The id is already registered"),
    "name": (
        ErrorCode.CHANNEL_NAME_ALREADY_REGISTERED,
        "The network has another channel of this name",
    ),
    TooManyChannelsError: (
        ErrorCode.TOO_MANY_CHANNELS,
        f"There are {MAXIMUM_CHANNELS} channels, and no more are taken",
    ),
    # What it says is for the administrator.
    StartError: (
        ErrorCode.NO_SECRETS_KEY,
        "The server has no key to encrypt secrets with: its administrator sets SECRETS_KEY",
    ),
}
_SUBJECT = "a template of the subject; null: the title that every channel is told"
_BODY = (
    "A template of what is told: a text, of `webhook` JSON; null: the text, or object, that every"
    " channel is told. It may speak of `title`, `text`, `severity`, `alerts`, `network.name`,"
    " `channel.name` and `id`"
)
_TEMPLATES = ("subject", "body")
_KEPT = "shown as `***`, which given back keeps it"
Type = Literal["email", "webhook", "apprise"]


class ChannelRepresentation(Representation):
    """A channel. Members that its type does not have are null."""

    id: Annotated[str, "Its UUID"]
    network_identifier: Annotated[
        str | None, "The UUID of its network; null: it is told the server's own alerts"
    ]
    name: Annotated[str, "What people and rules call it, unique in its network"]
    type: Annotated[str, "How it is told: `email`, `webhook` or `apprise`"]
    enabled: Annotated[bool, "Whether it is in use"]
    to: Annotated[list[str] | None, "Of `email`: the addresses, up to 50"]
    url: Annotated[
        str | None,
        "Of `webhook`: what is posted to; path and query are shown as `***`, and given back so they"
        f" stay. Of `apprise`: Apprise's URL of a chat, {_KEPT}",
    ]
    secret: Annotated[str | None, f"Of `webhook`: what its posts are signed with; {_KEPT}"]
    headers: Annotated[
        dict[str, str] | None, f"Of `webhook`: headers, up to 20; each value is {_KEPT}"
    ]
    service: Annotated[str | None, "Of `apprise`: which service it is, such as `ntfy`"]
    may_choose_host: Annotated[
        bool | None, "Of `apprise`: whether an administrator has let it name any host"
    ]
    subject: Annotated[str | None, f"Of `email` and `apprise`: {_SUBJECT}"]
    body: Annotated[Any, _BODY]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]
    changed_at: Annotated[str, "When it was changed last (RFC 3339, UTC)"]

    @classmethod
    def of(cls, channel: StoredChannel) -> Self:
        """Return the channel as it is shown."""
        targets = ("to", "url", "secret", "headers", "service", "may_choose_host")
        members = dict.fromkeys((*targets, *_TEMPLATES)) | msgspec.json.decode(channel.definition)
        if channel.type == WebhookTarget.type:
            members["url"] = shown_url(members["url"])
        return cls(
            id=channel.identifier,
            network_identifier=channel.network_identifier,
            created_at=to_rfc3339(channel.created_at),
            changed_at=to_rfc3339(channel.changed_at),
            **members,
        )


class ChannelTest(Representation):
    """What became of a test."""

    delivered: Annotated[bool, "Whether it was taken by whom the channel leads to"]
    detail: Annotated[str | None, "What went wrong, in part or wholly; null: nothing"]


class NewChannel(Body):
    """A channel, and whose it is."""

    representation = ChannelRepresentation

    name: str
    type: Type
    enabled: bool = True
    to: list[str] | None = None
    url: str | None = None
    secret: str | None = None
    headers: dict[str, str] | None = None
    subject: str | None = Field(None, description=_SUBJECT)
    body: Any = Field(None, description=_BODY)
    network_identifier: Text | None = Field(
        None,
        description="The UUID of its network, by default that of the network `default`; null: it is"
        " the server's own, which is for administrators",
    )
    id: NewIdentifier = None


class ChannelChange(Body):
    """What is to change; members that are not present stay as they are.

    A secret that is kept goes with the URL that it was given for: another URL needs it anew.
    """

    representation = ChannelRepresentation
    is_change = True
    fixed = frozenset({"id", "network_identifier", "created_at"})

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    name: str = Field(default_factory=str)
    type: Type = Field(default_factory=lambda: "email")
    enabled: bool = Field(default_factory=bool)
    to: list[str] | None = None
    url: str | None = None
    secret: str | None = None
    headers: dict[str, str] | None = None
    subject: str | None = Field(None, description=_SUBJECT)
    body: Any = Field(None, description=_BODY)


@router.route("", "POST", faults=[404, 409])
async def create_channel(channel: NewChannel, call: TheCall) -> ChannelRepresentation:
    """Make a channel, which is told of alerts from now on."""
    await load(URLS)
    members = channel.model_dump(exclude_unset=True, exclude={"id"})
    network = None
    if "network_identifier" in members and members.pop("network_identifier") is None:
        call.require(Action.ADMINISTER)
    else:
        network = await call.target_network(channel.network_identifier)
    with refusals(_REFUSALS):
        created = await call.store.channels.create(
            identifier=str(channel.id or uuid.uuid4()),
            network=network,
            channel=_definition(call, members, None),
            created_at=now(),
            actor=call.actor,
        )
    return ChannelRepresentation.of(found(created, ErrorCode.NETWORK_NOT_FOUND))


@router.route("", "GET", shown=list[ChannelRepresentation])
async def list_channels(
    call: TheCall,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List channels in the order of their creation; `X-Total-Count` says how many.

    Administrators see the server's own too.
    """
    visible = await call.visible(network_identifier)
    await load(URLS)

    async def read(offset: int, limit: int) -> tuple[Sequence[ChannelRepresentation], int]:
        channels, total = await call.store.channels.page(
            networks=visible, offset=offset, limit=limit
        )
        return [ChannelRepresentation.of(each) for each in channels], total

    return await listed(call, offset, limit, read)


@router.route("/{channel_id}", "GET")
async def read_channel(channel_id: str, call: TheCall) -> ChannelRepresentation:
    """Read a channel. What is secret is not shown."""
    return ChannelRepresentation.of(await _find(call, channel_id))


@router.route("/{channel_id}", "PATCH", "PUT", faults=[409])
async def change_channel(
    channel_id: str, change: ChannelChange, call: TheCall
) -> ChannelRepresentation:
    """Change a channel: the members that are present."""
    channel = await _find(call, channel_id, Action.EDIT)
    change.check_read_only(ChannelRepresentation.of(channel))
    members = change.model_dump(exclude_unset=True)
    with refusals(_REFUSALS):
        changed = await call.store.channels.change(
            channel.identifier,
            lambda before: _definition(call, members, before),
            changed_at=now(),
            actor=call.actor,
        )
    return ChannelRepresentation.of(found(changed, ErrorCode.CHANNEL_NOT_FOUND))


@router.route("/{channel_id}", "DELETE")
async def delete_channel(channel_id: str, call: TheCall) -> None:
    """Delete a channel, and what it has not been told yet."""
    channel = await _find(call, channel_id, Action.MANAGE)
    if not await call.store.channels.delete(channel.identifier, actor=call.actor):
        raise not_found(ErrorCode.CHANNEL_NOT_FOUND)


@router.route("/{channel_id}/test", "POST", status=200)
async def send_test(channel_id: str, call: TheCall) -> ChannelTest:
    """Send a test to a channel now, and tell what became of it.

    It may take half a minute, and goes to channels that are not in use too. A network has six a
    minute.
    """
    channel = await _find(call, channel_id, Action.EDIT)
    call.access.limits.channel_tests.take(channel.network_identifier or "", call.request.scope)
    name = ""
    if channel.network_identifier is not None:
        name = (await call.network(channel.network_identifier)).name
    try:
        note = await call.services.notifications.test(channel, name)
    except DeliveryError as error:
        return ChannelTest(False, str(error))
    return ChannelTest(True, note or None)


async def _find(call: KnownCall, identifier: str, action: Action = Action.VIEW) -> StoredChannel:
    """Return the channel if the caller may do this with what is in its network.

    Raises:
        HeliographError: CHANNEL_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    await load(URLS)
    channel = await call.store.channels.find(identifier)
    if channel is not None and call.may(Action.ADMINISTER):
        return channel
    network = None if channel is None else channel.network_identifier
    if channel is None or network is None or not call.may(Action.VIEW, network):
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.CHANNEL_NOT_FOUND)
    call.require(action, network)
    return channel


def _definition(
    call: KnownCall, members: dict[str, Any], before: StoredChannel | None
) -> ChannelDefinition:
    """Return what the store is to keep of a channel with these members, and its former others.

    Raises:
        RequestValidationError: it is none.
        StartError: there is no key to encrypt its secrets with.
    """
    secrets, former = call.services.settings.secrets, None
    if before is not None:
        try:
            former = restored(before, secrets)
        except (UndecipherableError, StartError):
            former = None  # nothing is kept of secrets that nobody can read
        shown = msgspec.json.decode(before.definition)
        if before.type == WebhookTarget.type and members.get("url") == shown_url(shown["url"]):
            members = members | {"url": shown["url"]}
        if members.get("type") not in (None, before.type):
            # What another type has says nothing of this one.
            shown = {name: shown[name] for name in ("name", "enabled")}
        members = shown | members
    given = {name: value for name, value in members.items() if value is not None}
    try:
        channel = parse(given, is_administrator=call.may(Action.ADMINISTER), former=former)
    except InvalidMemberError as error:
        place = ("body", *error.place.split(".")) if error.place else ("body",)
        raise RequestValidationError(
            [{"loc": place, "type": "channel", "msg": error.problem}]
        ) from None
    return channel.stored(secrets, former, None if before is None else before.secrets)

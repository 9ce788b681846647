"""The audit log: who did what to which resource, when."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query
from starlette.responses import Response

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.answers import Answer, encoded
from heliograph.http.pages import decode_cursor, encode_cursor
from heliograph.http.ranges import check_order
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall
from heliograph.http.schemas import End, ListLimit, OfNetwork, Start, Text
from heliograph.model.audit import ActorKind, AuditAction, AuditEntry
from heliograph.store.pages import GREATEST, LEAST

router = Resource("audit", "/audit")


class AuditedMember(Representation):
    """What a member was and became; neither where it is a secret."""

    old: Annotated[Any, "What it was; null: nothing, or not told"] = None
    new: Annotated[Any, "What it became; null: nothing, or not told"] = None


class AuditRepresentation(Representation):
    """Who did what to which resource, when."""

    id: Annotated[str, "What the server calls the entry"]
    timestamp: Annotated[str, "When it was done (RFC 3339, UTC)"]
    actor_kind: Annotated[
        str,
        "What did it: `user`, `admin_key`, `device`, `shared_key`, `anonymous`,"
        " `command_line` or `system`",
    ]
    actor: Annotated[str, "Who did it: a user name, a `device_id`, `admin`, …"]
    address: Annotated[str | None, "The IP address it was done from"]
    action: Annotated[str, "What was done: the kind of resource, a dot, a verb"]
    resource_kind: Annotated[str, "What it was done to"]
    resource_identifier: Annotated[str | None, "Its identifier"]
    resource_name: Annotated[str | None, "Its name at that time"]
    network_identifier: Annotated[str | None, "The UUID of the network that it is in"]
    changes: Annotated[dict[str, AuditedMember], "What has changed, by member"]


@dataclasses.dataclass
class AuditRequest:
    """The parameters of a page, as FastAPI collects them."""

    network_identifier: OfNetwork = None
    actor: Annotated[Text | None, Query(description="A user name, a device_id, `admin`, …")] = None
    actor_kind: Annotated[ActorKind | None, Query(description="Only what such an actor did")] = None
    action: Annotated[AuditAction | None, Query(description="Only this action")] = None
    resource: Annotated[
        Text | None, Query(description="An identifier, or the name at the time of the change")
    ] = None
    start: Start = None
    end: End = None
    limit: ListLimit = 1_000
    cursor: Annotated[
        Text | None, Query(description="As a Link header gave it: older entries than that")
    ] = None

    def __post_init__(self) -> None:
        check_order(self.start, self.end)
        self.position = None if self.cursor is None else decode_cursor(self.cursor)


@router.route("", "GET", shown=list[AuditRepresentation])
async def read_audit(asked: Annotated[AuditRequest, Depends()], call: TheCall) -> Response:
    """Read who changed what, newest first: of the networks that the caller owns, or of all.

    The `Link` header leads to older entries; a page ends early before it exceeds 16 MiB.
    """
    networks = await _networks(asked.network_identifier, call)
    entries = await call.store.audit.list(
        networks=networks,
        actor_name=asked.actor,
        actor_kind=asked.actor_kind,
        action=asked.action,
        resource=asked.resource,
        start=LEAST if asked.start is None else asked.start,
        end=GREATEST if asked.end is None else asked.end,
        cursor=asked.position,
        limit=asked.limit,
        hold=call.held.hold,
    )
    headers = []
    if entries.more:
        last = encode_cursor(entries[-1].timestamp, entries[-1].id)
        query = {**call.request.query_params, "cursor": last}
        headers.append(call.link_to_next([*query.items()]))
    body = await encoded(entries, _shown, entries.size)
    return Answer(200, body, headers)


def _shown(entries: Sequence[AuditEntry]) -> list[AuditRepresentation]:
    return [AuditRepresentation(**entry.members()) for entry in entries]


async def _networks(identifier: str | None, call: KnownCall) -> Sequence[str] | None:
    try:
        owned = await call.audited(identifier)
        # An owner of every network, which everybody may be, sees nothing of what is in none.
        is_narrowed = owned is not None or call.caller.is_admin
        return owned if is_narrowed else await call.store.networks.identifiers()
    except HeliographError as error:
        # What has become of a network that is gone is for those who see everything.
        if error.code is not ErrorCode.NETWORK_NOT_FOUND or not call.caller.is_admin:
            raise
        if identifier is None or not await call.store.audit.has_network(identifier.lower()):
            raise
    return [identifier.lower()]

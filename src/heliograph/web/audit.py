"""The audit log: who did what to which resource, when."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.audit import ActorKind, AuditAction
from heliograph.model.principal import Principal
from heliograph.store.pages import GREATEST, LEAST
from heliograph.web.access import Access
from heliograph.web.answers import encoded, held_by
from heliograph.web.dependencies import Caller, TheAccess, TheServices
from heliograph.web.errors import Answer
from heliograph.web.pages import asked_path, decode_cursor, encode_cursor
from heliograph.web.paths import PREFIX
from heliograph.web.ranges import check_order
from heliograph.web.records import errors
from heliograph.web.schemas import AuditRepresentation, End, ListLimit, OfNetwork, Start, Text
from heliograph.web.services import Services

router = APIRouter(prefix=f"{PREFIX}/audit", tags=["audit"])


class AuditRequest:
    """The parameters of a page, as FastAPI collects them."""

    def __init__(
        self,
        network_identifier: OfNetwork = None,
        actor: Annotated[
            Text | None, Query(description="A user name, a device_id, `admin`, …")
        ] = None,
        actor_kind: Annotated[
            ActorKind | None, Query(description="Only what such an actor did")
        ] = None,
        action: Annotated[AuditAction | None, Query(description="Only this action")] = None,
        resource: Annotated[
            Text | None, Query(description="An identifier, or the name at the time of the change")
        ] = None,
        start: Start = None,
        end: End = None,
        limit: ListLimit = 1_000,
        cursor: Annotated[
            Text | None, Query(description="As a Link header gave it: older entries than that")
        ] = None,
    ) -> None:
        check_order(start, end)
        self.network_identifier = network_identifier
        self.filters: dict[str, Any] = {
            "actor_name": actor,
            "actor_kind": actor_kind,
            "action": action,
            "resource": resource,
            "start": LEAST if start is None else start,
            "end": GREATEST if end is None else end,
            "cursor": None if cursor is None else decode_cursor(cursor),
            "limit": limit,
        }


@router.get("", response_model=list[AuditRepresentation], responses=errors(401, 403, 404, 422))
async def read_audit(
    asked: Annotated[AuditRequest, Depends()],
    request: Request,
    caller: Caller,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Read who changed what, newest first: of the networks that the caller owns, or of all.

    The `Link` header leads to older entries; a page ends early before it exceeds 16 MiB.
    """
    networks = await _networks(asked.network_identifier, caller, access, services)
    entries = await services.store.audit.list(
        networks=networks, hold=held_by(request.scope).at_least, **asked.filters
    )
    headers = []
    if entries.more:
        last = encode_cursor(entries[-1].timestamp, entries[-1].id)
        query = urlencode({**request.query_params, "cursor": last})
        link = f'<{asked_path(request.scope)}?{query}>; rel="next"'
        headers.append((b"link", link.encode("latin-1")))
    body = await encoded(entries, lambda part: [entry.members() for entry in part], entries.size)
    return Answer(200, body, headers).response()


async def _networks(
    identifier: str | None, caller: Principal, access: Access, services: Services
) -> Sequence[str] | None:
    try:
        owned = await access.audited(caller, identifier)
        # Who owns every network, as everybody may, still sees nothing of what is in none.
        is_narrowed = owned is not None or caller.is_admin
        return owned if is_narrowed else await services.store.networks.identifiers()
    except HeliographError as error:
        # What has become of a network that is gone is for those who see everything.
        if error.code is not ErrorCode.NETWORK_NOT_FOUND or not caller.is_admin:
            raise
        if identifier is None or not await services.store.audit.has_network(identifier.lower()):
            raise
    return [identifier.lower()]

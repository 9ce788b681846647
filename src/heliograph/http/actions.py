"""Actions: what rules have begun, what became of it, and having it done again."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import msgspec
from fastapi import Query
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.access.registry import Registry
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import forbidden, is_machine, not_found
from heliograph.http.lists import listed
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall
from heliograph.http.rules import find_rule
from heliograph.http.schemas import ListLimit, Offset, OfNetwork, Text
from heliograph.model.time import now, to_rfc3339
from heliograph.processing.rule_actions import SCRIPT
from heliograph.store.actions import ActionRecord, ActionState

router = Resource("actions", "/actions")

GREATEST = (1 << 63) - 1


class ActionRepresentation(Representation):
    """Something that is to be done, or was."""

    id: Annotated[str, "What the server calls it"]
    type: Annotated[
        str, "`sse`, `mqtt`, `webhook` or `script` of rules; `notify`, `publish` of the server"
    ]
    state: Annotated[str, "`pending`, `done` or `failed`"]
    rule_id: Annotated[str | None, "The UUID of the rule that has begun it; null: the server has"]
    network_identifier: Annotated[str | None, "The UUID of its network; null: it is of none"]
    sensor_identifier: Annotated[str | None, "The UUID of the sensor that it is about"]
    device_id: Annotated[str | None, "The sensor's `device_id`"]
    timestamp: Annotated[str, "The time of what was its cause (RFC 3339, UTC)"]
    message_id: Annotated[str | None, "The id of the message that was its cause; null: none was"]
    idempotency_key: Annotated[
        str | None,
        "What its receivers know it by when it comes again; null: it is the server's own",
    ]
    attempts: Annotated[int, "Number of times that it was tried"]
    error: Annotated[str | None, "What went wrong last; null while it is tried again"]
    created_at: Annotated[str, "When it was begun (RFC 3339, UTC)"]
    due_at: Annotated[str | None, "When it is tried next (RFC 3339, UTC); null: it is finished"]
    finished_at: Annotated[str | None, "When it was done, or given up (RFC 3339, UTC)"]

    @classmethod
    async def of(cls, action: ActionRecord, registry: Registry) -> Self:
        """Return the action as it is shown."""
        sensor = await registry.find_number(action.sensor) if action.sensor else None
        is_pending = action.state == ActionState.PENDING
        return cls(
            id=str(action.id),
            type=action.type,
            state=action.state,
            rule_id=action.rule or None,
            network_identifier=action.network_identifier,
            sensor_identifier=sensor.identifier or None if sensor else None,
            device_id=sensor.device_id if sensor else None,
            timestamp=to_rfc3339(action.timestamp),
            message_id=None if action.message is None else str(action.message),
            idempotency_key=action.idempotency_key,
            attempts=action.attempts,
            error=action.error,
            created_at=to_rfc3339(action.created_at),
            due_at=to_rfc3339(action.due_at) if is_pending else None,
            finished_at=None if action.finished_at is None else to_rfc3339(action.finished_at),
        )


class ActionDetails(ActionRepresentation):
    """Something that is to be done, or was, and what it says."""

    body: Annotated[
        Any, "What it says, as its templates made it; null for those who may not change its rule"
    ] = None


@router.route("", "GET", shown=list[ActionRepresentation])
async def list_actions(
    call: TheCall,
    state: Annotated[ActionState | None, Query(description="Only those in this state")] = None,
    type: Annotated[Text | None, Query(description="Only those of this type")] = None,  # noqa: A002 - the parameter's name
    rule: Annotated[Text | None, Query(description="Only those of the rule with this UUID")] = None,
    sensor: Annotated[
        Text | None, Query(description="Only those about this sensor: its UUID or `device_id`")
    ] = None,
    network_identifier: OfNetwork = None,
    offset: Offset = 0,
    limit: ListLimit = 1_000,
) -> Response:
    """List what rules have begun, newest first; `X-Total-Count` says how many.

    What is finished is deleted after 30 days.
    """
    visible = await call.visible(network_identifier)
    number = None if sensor is None else (await call.readable(sensor)).number
    if rule is not None:
        # What a rule has begun is kept longer than the rule.
        rule, page = rule.lower(), call.store.actions.page
        if not (await page(visible, rule=rule, offset=0, limit=1))[1]:
            await find_rule(call, rule)

    async def read(offset: int, limit: int) -> tuple[Sequence[ActionRepresentation], int]:
        actions, total = await call.store.actions.page(
            visible,
            state=state,
            type=type,
            rule=rule,
            sensor=number,
            offset=offset,
            limit=limit,
        )
        return [await ActionRepresentation.of(each, call.registry) for each in actions], total

    return await listed(call, offset, limit, read)


@router.route("/{action_id}", "GET")
async def read_action(action_id: str, call: TheCall) -> ActionDetails:
    """Read an action, and what it says."""
    action = await _find(call, action_id)
    shown = await ActionDetails.of(action, call.registry)
    network = action.network_identifier
    may_read = call.may(Action.ADMINISTER) if network is None else call.may(Action.EDIT, network)
    body = msgspec.json.decode(action.body) if may_read else None
    return msgspec.structs.replace(shown, body=body)


@router.route("/{action_id}/repeat", "POST", status=200, faults=[409])
async def repeat_action(action_id: str, call: TheCall) -> ActionRepresentation:
    """Have a finished action done again, as it was. A script takes an administrator."""
    action = await _find(call, action_id)
    if action.network_identifier is None or action.type == SCRIPT:
        call.require(Action.ADMINISTER)
    else:
        call.require(Action.EDIT, action.network_identifier)
    repeated = await call.store.actions.repeat(action.id, now(), actor=call.actor)
    if repeated is None:
        raise HeliographError(ErrorCode.ACTION_PENDING, "The action waits to be done anyway")
    for dispatcher in call.services.dispatchers:
        dispatcher.wake()
    return await ActionRepresentation.of(repeated, call.registry)


async def _find(call: KnownCall, identifier: str) -> ActionRecord:
    """Return the action if the caller may see it.

    Raises:
        HeliographError: ACTION_NOT_FOUND, FORBIDDEN for machines.
    """
    number = int(identifier) if identifier.isascii() and identifier.isdigit() else GREATEST + 1
    action = await call.store.actions.find(number) if number <= GREATEST else None
    is_seen = action is not None and (
        call.may(Action.ADMINISTER)
        if action.network_identifier is None
        else call.may(Action.VIEW, action.network_identifier)
    )
    if action is None or not is_seen:
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.ACTION_NOT_FOUND)
    return action

"""Alerts: what rules have raised, and the server itself."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi import Depends, Query
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import forbidden, is_machine, not_found
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall
from heliograph.http.rules import find_rule
from heliograph.http.schemas import ListLimit, Offset, OfNetwork, Storable, Text
from heliograph.live.frames import Frame, notice
from heliograph.live.streams import SERVER
from heliograph.model.alert import Alert, AlertChange, AlertEvent
from heliograph.model.time import now, to_rfc3339
from heliograph.processing.server_alerts import CONDITION_NAMES

router = Resource("alerts", "/alerts")

LONGEST_COMMENT = 1_000
GREATEST_ID = (1 << 63) - 1

Comment = Annotated[str, Field(max_length=LONGEST_COMMENT), Storable]


class AlertRepresentation(Representation, kw_only=True):
    """An alert: a rule's condition that holds of a sensor, or did."""

    id: Annotated[str, "What the server calls it"]
    state: Annotated[str, "`raised`, `acknowledged` or `cleared`"]
    severity: Annotated[str, "`info`, `warning` or `critical`"]
    name: Annotated[str, "What its rule was called"]
    summary: Annotated[str, "What is the matter"]
    rule: Annotated[str, "The UUID of its rule, or the name of a condition of the server's own"]
    network_identifier: Annotated[str | None, "The UUID of its network; null: it is the server's"]
    sensor_identifier: Annotated[str | None, "The UUID of the sensor that it is about"]
    device_id: Annotated[str | None, "The sensor's `device_id`"]
    sensor_name: Annotated[str | None, "What people call the sensor; null: it has no name"]
    raised_at: Annotated[str, "Since when its condition holds, by the data's own time (RFC 3339)"]
    noted_at: Annotated[str, "When the server noted that (RFC 3339, UTC)"]
    count: Annotated[int, "Number of times that its condition has held since"]
    silenced: Annotated[bool, "Whether nobody is told of it at the moment"]
    acknowledged_at: Annotated[str | None, "When it was acknowledged (RFC 3339, UTC)"]
    acknowledged_by: Annotated[str | None, "Who acknowledged it"]
    comment: Annotated[str | None, "What they said"]
    cleared_at: Annotated[str | None, "When it cleared, by the data's own time (RFC 3339)"]
    cleared_by: Annotated[str | None, "Who cleared it by hand"]

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Return the alert as it is shown."""
        return cls(**_members(alert))


class AlertEventRepresentation(Representation):
    """Something that happened to an alert."""

    timestamp: Annotated[str, "When (RFC 3339, UTC)"]
    event: Annotated[
        str,
        "`raised`, `raised_again`, `escalated`, `reminded`, `silenced`, `acknowledged` or"
        " `cleared`",
    ]
    actor: Annotated[str | None, "Who did it, if somebody did"]
    detail: Annotated[str | None, "What else is known: a comment, a severity, a value"]

    @classmethod
    def of(cls, event: AlertEvent) -> Self:
        """Return the event as it is shown."""
        return cls(to_rfc3339(event.timestamp), event.event, event.actor, event.detail)


class FullAlert(AlertRepresentation, kw_only=True):
    """An alert, with its history."""

    events: Annotated[list[AlertEventRepresentation], "What has happened to it, the oldest first"]


def _members(alert: Alert) -> dict[str, Any]:
    return {
        "id": str(alert.id),
        "state": alert.state,
        "severity": alert.severity,
        "name": alert.name,
        "summary": alert.summary,
        "rule": alert.rule,
        "network_identifier": alert.network_identifier,
        "sensor_identifier": alert.sensor_identifier,
        "device_id": alert.device_id,
        "sensor_name": alert.sensor_name,
        "raised_at": to_rfc3339(alert.raised_at),
        "noted_at": to_rfc3339(alert.noted_at),
        "count": alert.count,
        "silenced": alert.cleared_at is None and alert.telling.silenced,
        "acknowledged_at": _time(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "comment": alert.comment,
        "cleared_at": _time(alert.cleared_at),
        "cleared_by": alert.cleared_by,
    }


def _time(moment: int | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


class Acknowledgment(Body):
    """What whoever looks after an alert says of it."""

    comment: Comment | None = Field(default=None, description="What is being done about it")


_NO_COMMENT = Acknowledgment()


@dataclasses.dataclass
class AlertFilters:
    """Which alerts are listed; FastAPI collects it."""

    state: Annotated[
        Literal["open", "raised", "acknowledged", "cleared"] | None,
        Query(description="Only those in this state; `open`: all that have not cleared"),
    ] = None
    severity: Annotated[
        Literal["info", "warning", "critical"] | None,
        Query(description="Only those of this severity"),
    ] = None
    network_identifier: OfNetwork = None
    sensor: Annotated[
        Text | None, Query(description="Only those of this sensor, by its UUID or `device_id`")
    ] = None
    rule: Annotated[
        Text | None,
        Query(description="Only those of this rule, by its UUID, or a condition of the server's"),
    ] = None
    offset: Offset = 0
    limit: ListLimit = 1_000


@router.route("", "GET", shown=list[AlertRepresentation])
async def list_alerts(filters: Annotated[AlertFilters, Depends()], call: TheCall) -> Response:
    """List alerts, newest first; `X-Total-Count` says how many.

    The server's own are shown to administrators.
    """
    networks = await visible_alerts(call, filters.network_identifier)
    sensor = None if filters.sensor is None else (await call.readable(filters.sensor)).number
    rule = filters.rule
    if rule is not None and rule not in CONDITION_NAMES:
        # What a rule has raised is kept longer than the rule.
        rule, page = rule.lower(), call.store.alerts.page
        if not (await page(networks, rule=rule, offset=0, limit=1))[1]:
            await find_rule(call, rule)

    async def read(offset: int, limit: int) -> tuple[Sequence[AlertRepresentation], int]:
        page, total = await call.store.alerts.page(
            networks,
            state=filters.state,
            severity=filters.severity,
            rule=rule,
            sensor=sensor,
            offset=offset,
            limit=limit,
        )
        return [AlertRepresentation.of(alert) for alert in page], total

    return await listed(call, filters.offset, filters.limit, read)


@router.route("/{alert_id}", "GET")
async def read_alert(alert_id: str, call: TheCall) -> FullAlert:
    """Read an alert, and what has happened to it."""
    alert = await _found(call, alert_id, Action.VIEW)
    history = await call.store.alerts.history(alert.id)
    events = [AlertEventRepresentation.of(event) for event in history]
    return FullAlert(**_members(alert), events=events)


@router.route("/{alert_id}/acknowledge", "POST", status=200, faults=[409])
async def acknowledge_alert(
    alert_id: str, call: TheCall, acknowledgment: Acknowledgment = _NO_COMMENT
) -> AlertRepresentation:
    """Say that somebody looks after it: nobody is reminded of it any more.

    That holds until it has been clear for ten minutes, however often it comes and goes until then.
    """
    alert = await _found(call, alert_id, Action.EDIT)
    changed = await call.store.alerts.acknowledge(
        alert.id, now(), comment=acknowledgment.comment, actor=call.actor
    )
    return AlertRepresentation.of(_still_open(changed))


@router.route("/{alert_id}/clear", "POST", status=200, faults=[409])
async def clear_alert(alert_id: str, call: TheCall) -> AlertRepresentation:
    """Clear an alert by hand, though its condition holds.

    The next one comes when the condition has cleared and holds again.
    """
    alert = await _found(call, alert_id, Action.EDIT)
    changed = await call.store.alerts.clear(alert.id, now(), actor=call.actor)
    return AlertRepresentation.of(_still_open(changed))


def alert_frames(changes: Sequence[AlertChange]) -> list[Frame]:
    """Return what streams are shown of alerts; the server's own are of no network."""
    frames = []
    for event, alert in changes:
        shown = msgspec.structs.asdict(AlertRepresentation.of(alert))
        network = alert.network_identifier or SERVER
        names = (alert.sensor, alert.sensor_identifier or "", shown.pop("device_id"), network)
        frames.append(notice("alert", names, {"event": event.value, **shown}))
    return frames


async def visible_alerts(call: KnownCall, identifier: str | None) -> Sequence[str] | None:
    """Return the networks whose alerts and silences are listed for the caller.

    None: all, and those of no network too, which are the administrator's.

    Raises:
        HeliographError: as `Rights.visible`.
    """
    networks = await call.visible(identifier)
    if networks is None and not call.caller.is_admin:
        return await call.store.networks.identifiers()
    return networks


def may_in(call: KnownCall, action: Action, network: str | None) -> bool:
    """Return whether the caller may do this with what is in a network, or in none."""
    if network is None:
        return call.may(Action.ADMINISTER)
    return call.may(action, network)


async def _found(call: KnownCall, identifier: str, action: Action) -> Alert:
    """Return the alert if the caller may do this with what is in its network.

    Raises:
        HeliographError: ALERT_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    number = int(identifier) if identifier.isascii() and identifier.isdecimal() else 0
    alert = await call.store.alerts.find(number) if 0 < number <= GREATEST_ID else None
    if alert is None or not may_in(call, Action.VIEW, alert.network_identifier):
        raise forbidden() if is_machine(call.caller) else not_found(ErrorCode.ALERT_NOT_FOUND)
    if not may_in(call, action, alert.network_identifier):
        raise forbidden()
    return alert


def _still_open(alert: Alert | None) -> Alert:
    if alert is None:
        raise HeliographError(ErrorCode.ALERT_CLEARED, "The alert has cleared")
    return alert

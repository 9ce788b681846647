"""Alerts and silences. What becomes of an alert is decided by `model/alert`."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from heliograph.model.alert import (
    Alert,
    AlertChange,
    AlertEvent,
    AlertEventKind,
    NewAlert,
    Silence,
    Telling,
    clear,
    proceed,
    raise_again,
)
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.listeners import Listeners
from heliograph.model.time import to_rfc3339
from heliograph.store.audit import Changes, enter
from heliograph.store.channels import tell
from heliograph.store.engine import Engine, Row, Subject, Transaction, json_text, narrowed

# Of one alert, as it is shown.
MOST_EVENTS = 1_000
# That have not ended, of a network, or of all.
MAXIMUM_SILENCES = 1_000
# Looked at in one transaction.
AT_ONCE = 200
PRUNED_AT_ONCE = 1_000

_telling = msgspec.json.Decoder(Telling).decode
_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Alerts(Subject):
    """The alerts of all networks, and the server's own.

    `changed` is called after a commit with what has become of alerts; so it has to be by whoever
    calls `raise_alert` or `clear_alert` in a transaction of their own.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.changed: Listeners[Sequence[AlertChange]] = Listeners()

    async def page(
        self,
        networks: Sequence[str] | None,
        *,
        state: str | None = None,
        severity: str | None = None,
        rule: str | None = None,
        sensor: int | None = None,
        offset: int,
        limit: int,
    ) -> tuple[list[Alert], int]:
        """Return a page of alerts, newest first, and how many there are; None: of all networks.

        `state` is that of an alert, or `open`.
        """
        which = {
            "networks": narrowed(networks),
            "state": state,
            "severity": severity,
            "rule": rule,
            "sensor": sensor,
        }
        return await self._page(_alert, "alerts", which, offset=offset, limit=limit)

    async def find(self, identifier: int) -> Alert | None:
        """Return the alert with this id."""
        return await self._one(_alert, "alert_find", id=identifier)

    async def history(self, identifier: int) -> list[AlertEvent]:
        """Return what has happened to an alert, the oldest first."""
        return await self._all(AlertEvent, "alert_events", alert=identifier, limit=MOST_EVENTS)

    async def acknowledge(
        self, identifier: int, now: int, *, comment: str | None = None, actor: Actor = SYSTEM
    ) -> Alert | None:
        """Have nobody reminded of an alert any more until it has cleared and settled.

        None: it is not open, or there is none.
        """

        async def work(transaction: Transaction) -> Alert | None:
            before = _first(await transaction.fetch("alert_locked", id=identifier))
            if before is None or before.cleared_at is not None:
                return None
            after = replace(
                before, acknowledged_at=now, acknowledged_by=actor.name, comment=comment
            )
            await _note(transaction, after, AlertEventKind.ACKNOWLEDGED, now, actor.name, comment)
            after, _ = await _proceed(transaction, after, now)
            changes: Changes = {} if comment is None else {"comment": {"new": comment}}
            await _enter(transaction, actor, AuditAction.ALERT_ACKNOWLEDGE, after, changes)
            return after

        acknowledged = await self._engine.change(work)
        if acknowledged is not None:
            self.changed([AlertChange(AlertEventKind.ACKNOWLEDGED, acknowledged)])
        return acknowledged

    async def clear(self, identifier: int, now: int, *, actor: Actor = SYSTEM) -> Alert | None:
        """Clear an alert by hand; None: it is not open, or there is none.

        It is another one that comes once the condition has cleared and holds again.
        """

        async def work(transaction: Transaction) -> Alert | None:
            before = _first(await transaction.fetch("alert_locked", id=identifier))
            if before is None or before.cleared_at is not None:
                return None
            after = await _clear(transaction, before, now, now, actor.name)
            await _enter(transaction, actor, AuditAction.ALERT_CLEAR, after, {})
            return after

        cleared = await self._engine.change(work)
        if cleared is not None:
            self.changed([AlertChange(AlertEventKind.CLEARED, cleared)])
        return cleared

    async def due_at(self) -> int | None:
        """Return when an alert has to be looked at next; None: not before anything happens."""
        [(due_at,)] = await self._engine.fetch("alerts_due_at")
        return None if due_at is None else int(due_at)

    async def proceed(self, now: int) -> int:
        """Look at alerts whose time has come; return how many, `AT_ONCE` at most."""
        due_at = await self.due_at()
        if due_at is None or due_at > now:
            return 0  # mostly: the writer is not asked

        async def work(transaction: Transaction) -> tuple[int, list[AlertChange]]:
            due = [
                _alert(*row)
                for row in await transaction.fetch("alerts_take_due", now=now, limit=AT_ONCE)
            ]
            silences = await _silences(transaction, None, now) if due else []
            looked: list[Alert] = []
            changes: list[AlertChange] = []
            for alert in due:
                after, events = await _look(transaction, alert, now, silences)
                looked.append(after)
                changes += [AlertChange(event, after) for event in events]
            await _store(transaction, looked)
            return len(due), changes

        count, changes = await self._engine.change(work)
        self.changed(changes)
        return count

    async def clear_orphans(self, now: int) -> int:
        """Clear those of rules and sensors that are gone or out of use; return how many."""
        if not await self._engine.fetch("alerts_orphaned_any"):
            return 0

        async def work(transaction: Transaction) -> list[Alert]:
            orphans = [
                _alert(*row) for row in await transaction.fetch("alerts_orphaned", limit=AT_ONCE)
            ]
            return [await _clear(transaction, each, now, now, SYSTEM.name) for each in orphans]

        cleared = await self._engine.change(work)
        self.changed([AlertChange(AlertEventKind.CLEARED, each) for each in cleared])
        return len(cleared)

    async def prune(self, before: int) -> int:
        """Delete what has cleared, and silences that have ended, before; return how many alerts."""
        await self._prune("silences_prune", PRUNED_AT_ONCE, before=before)
        return await self._prune("alerts_prune", PRUNED_AT_ONCE, before=before)


class Silences(Subject):
    """The silences. Each change acts at once: what they are about is looked at again.

    `changed` is called after each commit.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.changed: Listeners[[]] = Listeners()

    async def page(
        self, networks: Sequence[str] | None, *, since: int, offset: int, limit: int
    ) -> tuple[list[Silence], int]:
        """Return a page of those that end after `since`, by when they start, and how many."""
        which = {"networks": narrowed(networks), "since": since}
        return await self._page(Silence, "silences", which, offset=offset, limit=limit)

    async def find(self, identifier: str) -> Silence | None:
        """Return the silence with this UUID."""
        return await self._one(Silence, "silence_find", identifier=identifier.lower())

    async def create(self, silence: Silence, now: int, *, actor: Actor = SYSTEM) -> Silence | None:
        """Begin a silence, at once or later; None: there are as many as there may be."""
        network = silence.network_identifier

        async def work(transaction: Transaction) -> Silence | None:
            [(count,)] = await transaction.fetch(
                "silences_count",
                networks=None if network is None else json_text([network]),
                since=now,
            )
            if count >= MAXIMUM_SILENCES:
                return None
            await transaction.fetch(
                "silence_create",
                identifier=silence.identifier,
                network=network,
                sensor=silence.sensor,
                tag=silence.tag,
                rule=silence.rule,
                starts_at=silence.starts_at,
                ends_at=silence.ends_at,
                comment=silence.comment,
                author=silence.author,
                created_at=silence.created_at,
            )
            [row] = await transaction.fetch("silence_find", identifier=silence.identifier)
            made = Silence(*row)
            await _enter_silence(transaction, actor, AuditAction.SILENCE_CREATE, made)
            await _look_again(transaction, made, now)
            return made

        made = await self._engine.change(work)
        if made is not None:
            self.changed()
        return made

    async def change(
        self,
        identifier: str,
        now: int,
        *,
        starts_at: int,
        ends_at: int,
        comment: str | None,
        actor: Actor = SYSTEM,
    ) -> Silence | None:
        """Change when a silence is, and its comment; None: there is none."""

        async def work(transaction: Transaction) -> Silence | None:
            rows = await transaction.fetch("silence_find", identifier=identifier)
            if not rows:
                return None
            before = Silence(*rows[0])
            after = replace(before, starts_at=starts_at, ends_at=ends_at, comment=comment)
            if after != before:
                await transaction.fetch(
                    "silence_change",
                    identifier=identifier,
                    starts_at=starts_at,
                    ends_at=ends_at,
                    comment=comment,
                )
                await _enter_silence(transaction, actor, AuditAction.SILENCE_CHANGE, after)
                await _look_again(transaction, after, now)
            return after

        changed = await self._engine.change(work)
        if changed is not None:
            self.changed()
        return changed

    async def end(self, identifier: str, now: int, *, actor: Actor = SYSTEM) -> bool:
        """End a silence: what holds then is told again; whether there was one."""

        async def work(transaction: Transaction) -> bool:
            rows = await transaction.fetch("silence_find", identifier=identifier)
            if not rows:
                return False
            silence = Silence(*rows[0])
            await transaction.fetch("silence_delete", identifier=identifier)
            await _enter_silence(transaction, actor, AuditAction.SILENCE_END, silence)
            await _look_again(transaction, silence, now)
            return True

        was_there = await self._engine.change(work)
        if was_there:
            self.changed()
        return was_there


async def raise_alert(transaction: Transaction, new: NewAlert, now: int) -> AlertChange | None:
    """Raise an alert of a rule and sensor; None: it was open already, and counts once more.

    One that has cleared by itself and not settled is raised again, with its acknowledgment.
    """
    rows = await transaction.fetch("alert_newest", rule=new.rule, sensor=new.sensor)
    former = _first(rows)
    if former is not None and former.cleared_at is None:
        await _store(transaction, [replace(former, count=former.count + 1)])
        return None
    again = None if former is None else raise_again(former, new, now)
    if again is not None:
        event = AlertEventKind.RAISED_AGAIN
        alert = again
    else:
        event = AlertEventKind.RAISED
        telling = Telling(new.channels, new.remind_every, new.escalate)
        [(identifier,)] = await transaction.fetch(
            "alert_create",
            rule=new.rule,
            sensor=new.sensor,
            network=new.network_identifier,
            name=new.name,
            severity=new.severity,
            summary=new.summary,
            raised_at=new.raised_at,
            noted_at=now,
            telling=json_text(telling),
        )
        [row] = await transaction.fetch("alert_find", id=identifier)
        alert = _alert(*row)
    await _note(transaction, alert, event, now, None, new.summary)
    alert, _ = await _proceed(transaction, alert, now)
    return AlertChange(event, alert)


async def clear_alert(
    transaction: Transaction, rule: str, sensor: int, at: int, now: int, by: str | None = None
) -> AlertChange | None:
    """Clear the open alert of a rule and sensor; None: there is none.

    `at` is the data's time; `by` whose hand it was, if it was not the condition.
    """
    alert = _first(await transaction.fetch("alert_newest", rule=rule, sensor=sensor))
    if alert is None or alert.cleared_at is not None:
        return None
    return AlertChange(AlertEventKind.CLEARED, await _clear(transaction, alert, at, now, by))


async def _clear(
    transaction: Transaction, alert: Alert, at: int, now: int, by: str | None
) -> Alert:
    await _note(transaction, alert, AlertEventKind.CLEARED, now, by, None)
    alert, _ = await _proceed(transaction, clear(alert, at, now, by), now)
    return alert


async def _proceed(
    transaction: Transaction, alert: Alert, now: int
) -> tuple[Alert, list[AlertEventKind]]:
    """Store the alert as it is by now, and have people told what they are to be told."""
    silences = await _silences(transaction, alert.network_identifier, now)
    alert, events = await _look(transaction, alert, now, silences)
    await _store(transaction, [alert])
    return alert, events


async def _look(
    transaction: Transaction, alert: Alert, now: int, silences: Sequence[Silence]
) -> tuple[Alert, list[AlertEventKind]]:
    """Return the alert as it is by now, not stored yet, and have people told."""
    alert, events, told = proceed(alert, silences, now)
    for event in events:
        detail = alert.severity if event is AlertEventKind.ESCALATED else None
        await _note(transaction, alert, event, now, None, detail)
    if told is not None:
        notice = alert.notice(told.kind)
        await tell(transaction, alert.network_identifier, told.channels, notice, now)
    return alert, events


async def _store(transaction: Transaction, alerts: Sequence[Alert]) -> None:
    """Store all of them by one statement: a silence of a network may be about thousands."""
    if not alerts:
        return
    rows = [
        (
            *(each.id, each.name, each.severity, each.summary),
            *(each.acknowledged_at, each.acknowledged_by, each.comment),
            *(each.cleared_at, each.cleared_by, each.count, each.due_at, json_text(each.telling)),
        )
        for each in alerts
    ]
    await transaction.fetch("alerts_change", rows=json_text(rows))


async def _note(
    transaction: Transaction,
    alert: Alert,
    event: AlertEventKind,
    now: int,
    actor: str | None,
    detail: str | None,
) -> None:
    await transaction.fetch(
        "alert_event_add",
        alert=alert.id,
        timestamp=now,
        event=event.value,
        actor=actor,
        detail=detail,
    )


async def _silences(transaction: Transaction, network: str | None, now: int) -> list[Silence]:
    rows = await transaction.fetch("silences_current", network=network, now=now)
    return [Silence(*row) for row in rows]


async def _look_again(transaction: Transaction, silence: Silence, now: int) -> None:
    await transaction.fetch(
        "alerts_look_again",
        network=silence.network_identifier,
        sensor=silence.sensor,
        rule=silence.rule,
        now=now,
    )


async def _enter(
    transaction: Transaction, actor: Actor, action: AuditAction, alert: Alert, changes: Changes
) -> None:
    entered = AuditedChange(action, str(alert.id), alert.name, alert.network_identifier, changes)
    await enter(transaction, actor, [entered])


async def _enter_silence(
    transaction: Transaction, actor: Actor, action: AuditAction, silence: Silence
) -> None:
    members = {"starts_at": silence.starts_at, "ends_at": silence.ends_at}
    changes: Changes = {name: {"new": to_rfc3339(value)} for name, value in members.items()}
    for name in ("tag", "rule", "comment"):
        if (value := getattr(silence, name)) is not None:
            changes[name] = {"new": value}
    name = silence.device_id or silence.sensor_identifier or silence.tag or silence.rule or "all"
    entered = AuditedChange(action, silence.identifier, name, silence.network_identifier, changes)
    await enter(transaction, actor, [entered])


def _first(rows: Sequence[Row]) -> Alert | None:
    return _alert(*rows[0]) if rows else None


def _alert(*columns: Any) -> Alert:
    *members, telling, identifier, device_id, name, tags = columns
    known = () if tags is None else _tags(tags)
    return Alert(*(*members, _telling(telling), identifier, device_id, name, known))

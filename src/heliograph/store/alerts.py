"""Alerts and silences. What becomes of an alert is decided by `model/alert`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from heliograph.model.alert import (
    Alert,
    AlertChange,
    AlertEvent,
    AlertEventKind,
    ClearedAlert,
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
from heliograph.store.channels import ToldNotice, tell
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
    calls `change_alerts` in a transaction of their own.
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
            note = _Note(after.id, AlertEventKind.ACKNOWLEDGED, actor.name, comment)
            [after], _ = await _proceed(transaction, [after], now, [note])
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
            [after] = await _clear(transaction, [before], now, actor.name)
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
            _, changes = await _proceed(transaction, due, now)
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
            return await _clear(transaction, orphans, now, SYSTEM.name)

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


async def change_alerts(
    transaction: Transaction, changes: Iterable[NewAlert | ClearedAlert], now: int
) -> list[AlertChange]:
    """Raise and clear alerts of rules and sensors; return what has become of them.

    One that is open already counts once more when it is raised. One that has cleared by itself and
    not settled is raised again, with its acknowledgment. To clear what is not open is nothing.
    """
    made: list[AlertChange] = []
    for each in _one_a_pair(changes):
        made += await _change_all(transaction, each, now)
    return made


def _one_a_pair(
    changes: Iterable[NewAlert | ClearedAlert],
) -> list[dict[tuple[str, int], NewAlert | ClearedAlert]]:
    """Return the changes in steps, each of which has one of a rule and sensor, in their order."""
    steps: list[dict[tuple[str, int], NewAlert | ClearedAlert]] = []
    counts: Counter[tuple[str, int]] = Counter()
    for change in changes:
        pair = change.rule, change.sensor
        if counts[pair] == len(steps):
            steps.append({})
        steps[counts[pair]][pair] = change
        counts[pair] += 1
    return steps


async def _change_all(
    transaction: Transaction, changes: dict[tuple[str, int], NewAlert | ClearedAlert], now: int
) -> list[AlertChange]:
    """Make one change of each rule and sensor, by a few statements for all of them."""
    newest = await _newest(transaction, changes)
    counted: list[Alert] = []
    made: list[AlertChange] = []
    created: dict[tuple[str, int], NewAlert] = {}
    for pair, change in changes.items():
        former = newest.get(pair)
        if former is not None and former.cleared_at is None:
            if isinstance(change, NewAlert):
                counted.append(replace(former, count=former.count + 1))
            else:
                cleared = clear(former, change.at, now)
                made.append(AlertChange(AlertEventKind.CLEARED, cleared))
        elif isinstance(change, NewAlert):
            again = None if former is None else raise_again(former, change, now)
            if again is None:
                created[pair] = change
            else:
                made.append(AlertChange(AlertEventKind.RAISED_AGAIN, again))
    if created:
        await transaction.fetch("alerts_create", rows=json_text(_rows(created.values())), now=now)
        alerts = await _newest(transaction, created)
        made += [AlertChange(AlertEventKind.RAISED, alerts[pair]) for pair in created]
    await _store(transaction, counted)
    raised = (AlertEventKind.RAISED, AlertEventKind.RAISED_AGAIN)
    notes = [
        _Note(alert.id, event, detail=alert.summary if event in raised else None)
        for event, alert in made
    ]
    looked, _ = await _proceed(transaction, [alert for _, alert in made], now, notes)
    return [change._replace(alert=alert) for change, alert in zip(made, looked, strict=True)]


async def _newest(
    transaction: Transaction, pairs: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Alert]:
    rows = await transaction.fetch("alerts_newest", pairs=json_text(list(pairs)))
    return {(alert.rule, alert.sensor): alert for alert in (_alert(*row) for row in rows)}


def _rows(created: Iterable[NewAlert]) -> list[tuple[Any, ...]]:
    return [
        (
            *(new.rule, new.sensor, new.network_identifier, new.name, new.severity, new.summary),
            *(new.raised_at, json_text(Telling(new.channels, new.remind_every, new.escalate))),
        )
        for new in created
    ]


async def _clear(
    transaction: Transaction, alerts: Sequence[Alert], now: int, by: str
) -> list[Alert]:
    """Clear alerts by somebody's hand."""
    notes = [_Note(alert.id, AlertEventKind.CLEARED, by) for alert in alerts]
    cleared = [clear(alert, now, now, by) for alert in alerts]
    cleared, _ = await _proceed(transaction, cleared, now, notes)
    return cleared


class _Note(NamedTuple):
    """What is to be added to the history of an alert."""

    alert: int
    event: AlertEventKind
    actor: str | None = None
    detail: str | None = None


async def _proceed(
    transaction: Transaction, alerts: Sequence[Alert], now: int, notes: Sequence[_Note] = ()
) -> tuple[list[Alert], list[AlertChange]]:
    """Store alerts as they are by now, and have people told what they are to be told.

    Returns the alerts, and what the time has changed. A few statements do it, however many alerts
    there are: a silence may be about thousands, and thousands of sensors may go at once.
    """
    if not alerts:
        return [], []
    networks = {alert.network_identifier for alert in alerts}
    network = networks.pop() if len(networks) == 1 else None
    rows = await transaction.fetch("silences_current", network=network, now=now)
    silences = [Silence(*row) for row in rows]
    looked: list[Alert] = []
    changes: list[AlertChange] = []
    told: list[ToldNotice] = []
    for before in alerts:
        alert, events, telling = proceed(before, silences, now)
        looked.append(alert)
        changes += [AlertChange(event, alert) for event in events]
        if telling is not None:
            notice = alert.notice(telling.kind)
            told.append(ToldNotice(alert.network_identifier, telling.channels, notice))
    events_of_time = [
        _Note(alert.id, event, detail=alert.severity if event is AlertEventKind.ESCALATED else None)
        for event, alert in changes
    ]
    if every := [*notes, *events_of_time]:
        await transaction.fetch("alert_events_add", rows=json_text(every), now=now)
    if told:
        await tell(transaction, told, now)
    await _store(transaction, looked)
    return looked, changes


async def _store(transaction: Transaction, alerts: Sequence[Alert]) -> None:
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

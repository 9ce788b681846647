"""Alerts: what becomes of one, who is told of it when, and silences, as pure functions.

An alert is open from when its condition holds until that clears, by itself or by hand. While it is
open and nobody has acknowledged it, people are reminded and its severity rises, as its rule says.

What clears by itself is settling for `SETTLING`: if its condition holds again meanwhile, it is the
same alert again, with its acknowledgment. So an alert that somebody has acknowledged is quiet
however often it comes and goes, and that it has cleared is told once it has settled. One that
nobody has acknowledged is told to have cleared at once.

Nobody is told of a silenced alert. Once the silence ends, they are told what holds then. All times
are microseconds, and given.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from heliograph.model.grouping import SEVERITIES, Notice, NoticeKind
from heliograph.model.time import DAY, MINUTE

# How long an alert has to be clear before it is another one that comes.
SETTLING: Final = 10 * MINUTE
LONGEST_SILENCE: Final = 366 * DAY


class AlertEventKind(enum.StrEnum):
    """What happened to an alert, as its history and streams have it."""

    RAISED = "raised"
    RAISED_AGAIN = "raised_again"
    ESCALATED = "escalated"
    REMINDED = "reminded"
    SILENCED = "silenced"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"


class Escalation(msgspec.Struct, frozen=True):
    """What an alert becomes that nobody has acknowledged for so long, and who else is told."""

    after: int
    severity: str
    channels: tuple[str, ...] | None = None


class NewAlert(msgspec.Struct, frozen=True):
    """An alert that is to be raised.

    `rule` is a rule's identifier, or the name of one of the server's own conditions; `sensor` 0 is
    none. `channels` are names; None: all of the network.
    """

    rule: str
    sensor: int
    network_identifier: str | None
    name: str
    severity: str
    summary: str
    raised_at: int
    channels: tuple[str, ...] | None = None
    remind_every: int | None = None
    escalate: tuple[Escalation, ...] = ()


class ClearedAlert(NamedTuple):
    """The alert of a rule and sensor is over, by the data's time `at`."""

    rule: str
    sensor: int
    at: int


class Telling(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is told of an alert, and what they have been told; kept as JSON.

    `told` is whether they believe that it is raised, `told_at` when they were told or reminded
    last, `level` how many escalations have come, `silenced` whether it was silenced when it was
    last looked at, `settles_at` until when an alert that has cleared may be the same again.
    """

    channels: tuple[str, ...] | None = None
    remind_every: int | None = None
    escalate: tuple[Escalation, ...] = ()
    told: bool = False
    told_at: int = 0
    level: int = 0
    silenced: bool = False
    settles_at: int = 0

    @property
    def everybody(self) -> tuple[str, ...] | None:
        """The channels that are told by now; None: all of the network."""
        channels = self.channels
        for step in self.escalate[: self.level]:
            if channels is not None and step.channels is not None:
                channels += tuple(each for each in step.channels if each not in channels)
        return channels


class Alert(msgspec.Struct, frozen=True):
    """An alert. `count` is how often its condition has held, `cleared_by` who cleared it by hand.

    `raised_at` is the data's time, `noted_at` when that was noted. `due_at` is when it has to be
    looked at again. The last members are the sensor's.
    """

    id: int
    rule: str
    sensor: int
    network_identifier: str | None
    name: str
    severity: str
    summary: str
    raised_at: int
    noted_at: int
    acknowledged_at: int | None
    acknowledged_by: str | None
    comment: str | None
    cleared_at: int | None
    cleared_by: str | None
    count: int
    due_at: int | None
    telling: Telling
    sensor_identifier: str | None = None
    device_id: str | None = None
    sensor_name: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Whether it is `raised`, `acknowledged` or `cleared`."""
        if self.cleared_at is not None:
            return "cleared"
        return "raised" if self.acknowledged_at is None else "acknowledged"

    @property
    def is_settling(self) -> bool:
        """Whether it has cleared by itself, and may come again as the same."""
        return self.cleared_at is not None and self.cleared_by is None

    def notice(self, kind: NoticeKind) -> Notice:
        """Return what a channel is told of it."""
        sensor = self.device_id or self.sensor_name or self.sensor_identifier or "server"
        # What was found when it was raised holds no more when it has cleared.
        detail = "" if kind is NoticeKind.CLEARED else self.summary
        return Notice(kind, self.severity, self.name, sensor, detail)


class AlertEvent(msgspec.Struct, frozen=True):
    """Something that happened to an alert; `actor` is who did it, if anybody did."""

    timestamp: int
    event: str
    actor: str | None
    detail: str | None


class AlertChange(NamedTuple):
    """An alert as it is now, and what happened to it."""

    event: AlertEventKind
    alert: Alert


class Silence(msgspec.Struct, frozen=True):
    """Whose alerts nobody is told of for a time. What is None does not narrow it."""

    identifier: str
    network_identifier: str | None
    sensor: int | None
    tag: str | None
    rule: str | None
    starts_at: int
    ends_at: int
    comment: str | None
    author: str | None
    created_at: int
    sensor_identifier: str | None = None
    device_id: str | None = None
    sensor_name: str | None = None

    def is_about(self, alert: Alert) -> bool:
        """Return whether the alert is one of those that it silences while it lasts."""
        return (
            self.network_identifier in (None, alert.network_identifier)
            and self.sensor in (None, alert.sensor)
            and self.rule in (None, alert.rule)
            and (self.tag is None or self.tag in alert.tags)
        )


class Told(NamedTuple):
    """What these channels are told; None: all of the network."""

    kind: NoticeKind
    channels: tuple[str, ...] | None


def proceed(
    alert: Alert, silences: Iterable[Silence], now: int
) -> tuple[Alert, list[AlertEventKind], Told | None]:
    """Return the alert as it is now, what happened to it, and what people are told.

    `silences` are those of any alerts; what has ended is of no account.
    """
    about = [each for each in silences if each.is_about(alert)]
    silent_until = _end(about, now)
    if alert.cleared_at is not None:
        return _cleared(alert, silent_until, now)
    alert, risen = _risen(alert, now)
    events = [AlertEventKind.ESCALATED] if risen else []
    telling = alert.telling
    kind: NoticeKind | None = None
    if silent_until is not None:
        if not telling.silenced:
            events.append(AlertEventKind.SILENCED)
        telling = replace(telling, silenced=True)
    elif alert.acknowledged_at is None:
        kind = _news(telling, risen=risen, now=now)
        if kind is NoticeKind.REMINDED:
            events.append(AlertEventKind.REMINDED)
        telling = replace(telling, silenced=False)
    else:
        telling = replace(telling, silenced=False)
    if kind is not None:
        telling = replace(telling, told=True, told_at=_told_at(telling, kind, now))
    alert = replace(alert, telling=telling)
    # An acknowledged alert waits for nothing but what somebody does.
    waits = [] if alert.acknowledged_at is not None else _times(alert, about, silent_until, now)
    told = None if kind is None else Told(kind, telling.everybody)
    return replace(alert, due_at=min(waits, default=None)), events, told


def clear(alert: Alert, at: int, now: int, by: str | None = None) -> Alert:
    """Return an alert that has cleared, `by` somebody's hand or by itself; `proceed` tells it."""
    telling = replace(alert.telling, settles_at=now + SETTLING)
    return replace(alert, cleared_at=at, cleared_by=by, telling=telling)


def raise_again(alert: Alert, new: NewAlert, now: int) -> Alert | None:
    """Return the alert that has cleared as it is raised again; None: it has settled."""
    if not alert.is_settling or now >= alert.telling.settles_at:
        return None
    telling = replace(
        alert.telling,
        channels=new.channels,
        remind_every=new.remind_every,
        escalate=new.escalate,
        level=min(alert.telling.level, len(new.escalate)),
    )
    severity = worse(alert.severity, new.severity)
    return replace(
        alert,
        name=new.name,
        severity=severity,
        summary=new.summary,
        cleared_at=None,
        count=alert.count + 1,
        telling=telling,
    )


def worse(one: str, other: str) -> str:
    """Return the higher of two severities."""
    return max(one, other, key=SEVERITIES.index)


def _cleared(
    alert: Alert, silent_until: int | None, now: int
) -> tuple[Alert, list[AlertEventKind], Told | None]:
    telling = alert.telling
    if not telling.told:
        return replace(alert, due_at=None), [], None
    is_quiet = alert.acknowledged_at is not None and alert.cleared_by is None
    due_at = max(telling.settles_at if is_quiet else 0, silent_until or 0)
    if due_at > now:
        return replace(alert, due_at=due_at), [], None
    alert = replace(alert, due_at=None, telling=replace(telling, told=False))
    return alert, [], Told(NoticeKind.CLEARED, telling.everybody)


def _risen(alert: Alert, now: int) -> tuple[Alert, bool]:
    """Return the alert with the severity that it has come to, and whether that is a new one."""
    telling = alert.telling
    if alert.acknowledged_at is not None:
        return alert, False
    level, severity = telling.level, alert.severity
    while level < len(telling.escalate) and alert.noted_at + telling.escalate[level].after <= now:
        severity = worse(severity, telling.escalate[level].severity)
        level += 1
    risen = level > telling.level
    return replace(alert, severity=severity, telling=replace(telling, level=level)), risen


def _news(telling: Telling, *, risen: bool, now: int) -> NoticeKind | None:
    """Return what people do not know yet of an alert that nobody has acknowledged."""
    if not telling.told:
        return NoticeKind.RAISED
    if risen:
        return NoticeKind.ESCALATED
    remind = telling.remind_every
    if telling.silenced or (remind is not None and telling.told_at + remind <= now):
        return NoticeKind.REMINDED
    return None


def _told_at(telling: Telling, kind: NoticeKind, now: int) -> int:
    # Reminders come at times that one can count out, however late this is called.
    remind = telling.remind_every
    if kind is NoticeKind.REMINDED and remind is not None and not telling.silenced:
        return telling.told_at + (now - telling.told_at) // remind * remind
    return now


def _times(
    alert: Alert, about: Collection[Silence], silent_until: int | None, now: int
) -> list[int]:
    """Return when something may become of an alert that nobody has acknowledged."""
    telling = alert.telling
    times = [each.starts_at for each in about if each.starts_at > now]
    if telling.level < len(telling.escalate):
        times.append(alert.noted_at + telling.escalate[telling.level].after)
    if silent_until is not None:
        times.append(silent_until)
    elif telling.remind_every is not None:
        times.append(telling.told_at + telling.remind_every)
    return times


def _end(silences: Sequence[Silence], now: int) -> int | None:
    """Return when the silence ends that there is now; None: there is none."""
    end = now
    for each in sorted(silences, key=lambda each: each.starts_at):
        if each.starts_at <= end:
            end = max(end, each.ends_at)
    return end if end > now else None

"""Notices of a channel, gathered: the first is sent at once, those that follow it as one.

After each digest there is a window. What comes within it is gathered and sent at its end, which
opens the next; a window in which nothing came closes. What is more severe than all that was told in
a window does not wait for its end. No hour has more digests than the channel bears: what comes then
waits, gathered, until the hour has room again. Nothing is dropped, but of many only the number and
the first are told. Pure: times are microseconds, and given.
"""

import enum
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from heliograph.model.time import HOUR

FIRST = 10
# Of different rules; those beyond it are counted together.
MOST_GROUPS = 20
OTHERS = "other rules"
SEVERITIES = ("info", "warning", "critical")
LONGEST_ENTRY = 200


class NoticeKind(enum.StrEnum):
    """What has become of an alert."""

    RAISED = "raised"
    ESCALATED = "escalated"
    REMINDED = "reminded"
    CLEARED = "cleared"


_WORDS = {
    NoticeKind.RAISED: "raised",
    NoticeKind.ESCALATED: "more severe",
    NoticeKind.REMINDED: "still raised",
    NoticeKind.CLEARED: "cleared",
}


class Notice(msgspec.Struct, frozen=True):
    """An alert that a channel is told of; `detail` is what else is known, such as a value."""

    kind: NoticeKind
    severity: str
    rule: str
    sensor: str
    detail: str = ""


class Group(msgspec.Struct, frozen=True):
    """Notices of one kind and rule: how many, and the first."""

    kind: NoticeKind
    severity: str
    rule: str
    count: int
    first: tuple[str, ...]


class Gathering(msgspec.Struct, frozen=True):
    """What a channel has been told lately, and what it will be told next; kept as JSON."""

    window_ends: int | None = None
    told: str = SEVERITIES[0]  # the most severe that was told in the window, if there is one
    groups: tuple[Group, ...] = ()
    sent: tuple[int, ...] = ()  # when, within the last hour, the oldest first


class Pace(NamedTuple):
    """How long a window is, in microseconds, and how many digests an hour has at most."""

    window: int
    per_hour: int


class Digest(NamedTuple):
    """What is sent: a line, a text of some lines, and how many alerts it is about."""

    title: str
    text: str
    severity: str
    alerts: int


NOTHING = Gathering()


def gather(
    state: Gathering, notices: Iterable[Notice], now: int, pace: Pace
) -> tuple[Gathering, tuple[Group, ...]]:
    """Add notices; return the state, and the groups that are to be sent at once, if any are."""
    groups = state.groups
    for notice in notices:
        groups = _added(groups, notice)
    return flush(msgspec.structs.replace(state, groups=groups), now, pace)


def flush(state: Gathering, now: int, pace: Pace) -> tuple[Gathering, tuple[Group, ...]]:
    """Return the state at this moment, and the groups that are to be sent now, if any are."""
    ends = state.window_ends
    # A clock that was put back must not make it wait any longer.
    if ends is not None and not now < ends <= now + pace.window:
        ends = None
    sent = tuple(at for at in state.sent if now - HOUR < at <= now)
    state = Gathering(ends, state.told, state.groups, sent)
    if not state.groups or due_at(state, pace) > now:
        return state, ()
    return Gathering(now + pace.window, worst(state.groups), (), (*sent, now)), state.groups


def due_at(state: Gathering, pace: Pace) -> int:
    """Return when what is gathered may be sent: the past, if that is at once."""
    waits = state.window_ends
    if waits is None or _rank(worst(state.groups)) > _rank(state.told):
        waits = 0
    if len(state.sent) < pace.per_hour:
        return waits
    return max(waits, state.sent[-pace.per_hour] + HOUR)


def next_due(state: Gathering, pace: Pace) -> int | None:
    """Return when `flush` is to be called next; None: not before there is another notice."""
    return due_at(state, pace) if state.groups else None


def worst(groups: Iterable[Group]) -> str:
    """Return the highest severity of what is not just good news; info: there is no such thing."""
    of = [group.severity for group in groups if group.kind is not NoticeKind.CLEARED]
    return max(of, key=_rank, default=SEVERITIES[0])


def compose(groups: tuple[Group, ...], network: str, still_raised: int | None = None) -> Digest:
    """Return what is told of the groups.

    `still_raised` is how many alerts of the channel are raised at this moment, if that is known:
    where there is none any more, it says so.
    """
    count = sum(group.count for group in groups)
    is_clear = still_raised == 0 and all(group.kind is NoticeKind.CLEARED for group in groups)
    title = f"[{_label(groups, is_clear=is_clear)}] {_about(groups)}"
    lines = [_line(group) for group in groups]
    if is_clear:
        lines.append("All clear: no alert is raised any more.")
    elif still_raised:
        lines.append(f"Raised at this moment: {still_raised:,}.")
    place = [f"Network: {network}"] if network else []
    return Digest(title, "\n".join([*lines, "", *place]).rstrip() + "\n", worst(groups), count)


def _label(groups: tuple[Group, ...], *, is_clear: bool) -> str:
    if is_clear:
        return "all clear"
    return worst(groups) if any(g.kind is not NoticeKind.CLEARED for g in groups) else "cleared"


def _about(groups: tuple[Group, ...]) -> str:
    if len(groups) == 1:
        [group] = groups
        if group.count == 1:
            return f"{group.rule}: {group.first[0]}"
        return f"{group.count:,} sensors: {group.rule}"
    counts = {kind: sum(g.count for g in groups if g.kind is kind) for kind in NoticeKind}
    return ", ".join(f"{counts[kind]:,} {_WORDS[kind]}" for kind in NoticeKind if counts[kind])


def _line(group: Group) -> str:
    severity = "" if group.kind is NoticeKind.CLEARED else f" ({group.severity})"
    said = f"{group.rule}: {_WORDS[group.kind]}{severity}"
    if group.count == 1:
        return f"{said}, 1 sensor: {group.first[0]}"
    more = group.count - len(group.first)
    named = [*group.first, *([f"and {more:,} more"] if more else [])]
    return "\n  ".join([f"{said}, {group.count:,} sensors:", *named])


def _added(groups: tuple[Group, ...], notice: Notice) -> tuple[Group, ...]:
    entry = f"{notice.sensor} ({notice.detail})" if notice.detail else notice.sensor
    key = (notice.kind, notice.severity, notice.rule)
    known = {(group.kind, group.severity, group.rule) for group in groups}
    if key not in known and len(known) >= MOST_GROUPS:
        key = (notice.kind, notice.severity, OTHERS)
    added = False
    found = []
    for group in groups:
        if (group.kind, group.severity, group.rule) == key:
            added = True
            first = group.first
            if len(first) < FIRST:
                first = (*first, entry[:LONGEST_ENTRY])
            found.append(msgspec.structs.replace(group, count=group.count + 1, first=first))
        else:
            found.append(group)
    if not added:
        found.append(Group(*key, count=1, first=(entry[:LONGEST_ENTRY],)))
    return tuple(found)


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)

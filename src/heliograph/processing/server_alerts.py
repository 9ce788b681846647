"""What the server watches of itself, and when that is an alert: pure, with times that are given.

Each condition has to hold for a while before it is raised, and not to hold for a while before it is
cleared; between two thresholds it stays what it is. After a start it is not known which are raised:
what does not hold is cleared once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final, NamedTuple

from heliograph.model.time import MINUTE, SECOND

# A sensor of which so many messages are rejected within so long; none for so long clears it.
REJECTED: Final = "rejected"
REJECTED_MESSAGES: Final = 10
REJECTED_WITHIN: Final = 5 * MINUTE
REJECTED_QUIET: Final = 10 * MINUTE
# The share of elements that are rejected, and of requests that fail, of so many within a minute.
ERROR_COUNT: Final = 100
ERROR_SHARE, ERROR_SHARE_CLEAR = 0.1, 0.05
QUEUE_SHARE, QUEUE_SHARE_CLEAR = 0.8, 0.5
OUTBOX_WAITS, OUTBOX_WAITS_CLEAR = 5 * MINUTE, MINUTE
CERTIFICATE_DAYS: Final = 14
DATABASE: Final = "database"
# An absence of the database is an alert if it was so long.
DATABASE_AWAY: Final = 30 * SECOND


class ServerCondition(NamedTuple):
    """One of the server's own conditions; how long it has to hold, and how long not to."""

    name: str
    title: str
    severity: str
    hold: int = MINUTE
    clear_for: int = MINUTE


CONDITIONS: Final = (
    ServerCondition("queue", "Messages wait for their commit", "critical", hold=30 * SECOND),
    ServerCondition("outbox", "Actions wait for long", "warning"),
    # What they see is of a minute already, and is known once a minute.
    ServerCondition("errors", "Much is rejected", "warning", hold=0, clear_for=0),
    ServerCondition("failures", "Many requests fail", "warning", hold=0, clear_for=0),
    ServerCondition("broker", "The MQTT broker is away", "critical"),
    ServerCondition("disk", "The disk budget is nearly used up", "warning", hold=0),
    ServerCondition("disk_full", "The disk budget is used up", "critical", hold=0, clear_for=0),
    ServerCondition("certificate", "A certificate expires", "warning", hold=0, clear_for=0),
    ServerCondition("clock", "The clock is behind", "critical", hold=10 * SECOND, clear_for=0),
)
DATABASE_CONDITION: Final = ServerCondition(DATABASE, "The database was away", "critical")
REJECTED_CONDITION: Final = ServerCondition(REJECTED, "Messages are rejected", "warning")
CONDITION_NAMES: Final = tuple(
    sorted(each.name for each in (*CONDITIONS, DATABASE_CONDITION, REJECTED_CONDITION))
)


class Sign(NamedTuple):
    """Whether a condition holds (None: as before), and what is known of it."""

    holds: bool | None
    summary: str = ""


@dataclasses.dataclass(slots=True)
class WatchedCondition:
    """How far a condition has come. `raised` is None as long as that is not known.

    `turning` is what it is about to be, `since` when that began.
    """

    condition: ServerCondition
    raised: bool | None = None
    turning: bool | None = None
    since: int = 0

    def advance(self, sign: Sign, now: int) -> bool | None:
        """Return True if it is to be raised now, False if it is to be cleared, else None."""
        if sign.holds is None or sign.holds is self.raised:
            self.turning = None
            return None
        if self.turning is not sign.holds or self.since > now:
            self.turning, self.since = sign.holds, now
        wait = self.condition.hold if sign.holds else self.condition.clear_for
        if now - self.since < wait:
            return None
        self.raised, self.turning = sign.holds, None
        return sign.holds


def between(value: float, raised_from: float, cleared_below: float) -> bool | None:
    """Return whether a value is too high; None: it is between the thresholds."""
    if value >= raised_from:
        return True
    return False if value < cleared_below else None


class ErrorRate:
    """The share of what goes wrong, of all within a minute; `noun` is what is counted."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._from: tuple[int, int, int] | None = None

    def look(self, total: int, wrong: int, now: int) -> Sign:
        """Return what the counts since the start say, once a minute."""
        if self._from is None or now < self._from[0]:
            self._from = now, total, wrong
        began, former_total, former_wrong = self._from
        if now - began < MINUTE:
            return Sign(None)
        self._from = now, total, wrong
        count, bad = total - former_total, wrong - former_wrong
        if count < ERROR_COUNT:
            return Sign(holds=False)
        share = bad / count
        summary = f"{share:.0%} of {count:,} {self._noun} within a minute"
        return Sign(between(share, ERROR_SHARE, ERROR_SHARE_CLEAR), summary)


@dataclasses.dataclass(slots=True)
class _Rejected:
    since: int
    count: int = 0
    last: int = 0
    raised: bool = False


class RejectedSensors:
    """The sensors of which messages are rejected again and again."""

    def __init__(self) -> None:
        self._sensors: dict[int, _Rejected] = {}

    def raised(self, sensor: int, now: int) -> None:
        """Take a sensor for one whose alert is open, after a start."""
        self._sensors[sensor] = _Rejected(now, last=now, raised=True)

    def look(self, counts: Mapping[int, int], now: int) -> tuple[list[tuple[int, int]], list[int]]:
        """Return which sensors' alerts are to be raised, with how many messages, and cleared.

        `counts` are how many messages of each were rejected since the last look.
        """
        begun: list[tuple[int, int]] = []
        for sensor, count in counts.items():
            known = self._sensors.setdefault(sensor, _Rejected(now))
            if now - known.since > REJECTED_WITHIN:
                known.since, known.count = now, 0
            known.count += count
            known.last = now
            if not known.raised and known.count >= REJECTED_MESSAGES:
                known.raised = True
                begun.append((sensor, known.count))
        quiet = [
            sensor
            for sensor, known in self._sensors.items()
            if now - known.last >= (REJECTED_QUIET if known.raised else REJECTED_WITHIN)
        ]
        ended = [sensor for sensor in quiet if self._sensors[sensor].raised]
        for sensor in quiet:
            del self._sensors[sensor]
        return begun, ended

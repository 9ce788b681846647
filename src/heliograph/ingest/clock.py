"""The server's own clock, which must not judge anything while it is known to be wrong."""

import time

from heliograph import __released__
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.time import SECOND, from_rfc3339

# Before this version was released no clock can be right.
RELEASED = from_rfc3339(f"{__released__}T00:00:00Z")

# Records of one message that carry no time get one after the other, up to 10,000 microseconds
# ahead of their receipt, which is all that is known of them after a restart.
ASSIGNED_AHEAD = SECOND // 10

# A step back by less than this (a time server at work) is bridged by standing still.
BRIDGED = SECOND


class Clock:
    """Wall-clock time in microseconds that never runs backwards.

    It stands still through small steps back. While the wall clock is further behind the newest
    time known (of a stored row, or of this release) it refuses to tell a time at all, since
    whatever would be judged or stamped by it would be wrong for good.
    """

    __slots__ = ("floor",)

    def __init__(self, newest_receipt: int = 0) -> None:
        """Start behind every time that was given out until `newest_receipt`."""
        self.floor = max(newest_receipt + ASSIGNED_AHEAD, RELEASED)

    @property
    def behind(self) -> bool:
        """Whether the wall clock is too far behind to be used."""
        return time.time_ns() // 1_000 < self.floor - BRIDGED

    def now(self) -> int:
        """Return the time in microseconds.

        Raises:
            HeliographError: CLOCK_BEHIND.
        """
        now = time.time_ns() // 1_000
        if now >= self.floor:
            self.floor = now
            return now
        if now < self.floor - BRIDGED:
            raise HeliographError(
                ErrorCode.CLOCK_BEHIND,
                "The server's clock is behind the newest stored record",
                retry_after=5,
            )
        return self.floor

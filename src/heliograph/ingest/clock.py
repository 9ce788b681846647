"""The server's own clock, which must not judge anything while it is known to be wrong.

A receipt is plausible up to 5 seconds after what the start and the monotonic time since then come
to. So a wall clock that is ahead for a while gives out no time that would hold up ingest when it
is right again; and one that has been put right forwards (by a time server after a boot without a
battery, say) is believed once it has stayed there for a minute.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from heliograph import __released__
from heliograph.access.registry import Registry
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.ingest.latest_values import LatestValues
from heliograph.model.retention import Horizon
from heliograph.model.time import DAY, MINUTE, SECOND, from_rfc3339, to_rfc3339
from heliograph.store import Store

log = structlog.get_logger()

# Before this version was released no clock can be right.
RELEASED = from_rfc3339(f"{__released__}T00:00:00Z")

# Records of one message that carry no time get one after the other, up to 10,000 microseconds
# ahead of their receipt, which is all that is known of them after a restart.
ASSIGNED_AHEAD = SECOND // 10

# A step back by less than this (a time server at work) is bridged by standing still.
BRIDGED = SECOND
# A step ahead by less than this (a time server, a leap second smeared) is followed at once.
PLAUSIBLE = 5 * SECOND
# A larger one is followed once it has lasted for so long.
BELIEVED_AFTER = MINUTE
WATCH_SECONDS = 1.0

# Linux's counts on while the machine is suspended, as macOS's own monotonic clock does.
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_ns() -> int:
    """Return nanoseconds since some moment, by a clock that nobody sets."""
    return time.monotonic_ns() if _MONOTONIC is None else time.clock_gettime_ns(_MONOTONIC)


class Clock:
    """Wall-clock time in microseconds that never runs backwards, nor ahead of what is plausible.

    It stands still through small steps back. While the wall clock is further behind the newest
    time known (of a stored row, or of this release) it refuses to tell a time at all, since
    whatever would be judged or stamped by it would be wrong for good. While it is further ahead
    than is plausible, the monotonic time since the start counts.

    Whatever lies from `floor` to `ceiling` by `wall_ns` is right as it is, and the new floor.
    """

    __slots__ = ("_anchor", "_elapsed_ns", "_step", "_stepped_at", "ceiling", "floor", "wall_ns")

    def __init__(
        self,
        newest_receipt: int = 0,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        elapsed_ns: Callable[[], int] = elapsed_ns,
    ) -> None:
        """Start behind every time that was given out until `newest_receipt`."""
        self.wall_ns = wall_ns
        self._elapsed_ns = elapsed_ns
        self.floor = max(newest_receipt + ASSIGNED_AHEAD, RELEASED)
        # By how much the wall clock has stepped ahead, and since when by the monotonic one.
        self._step = self._stepped_at = 0
        self._follow(wall_ns() // 1_000)

    @property
    def behind(self) -> bool:
        """Whether the wall clock is too far behind to be used."""
        return self.wall_ns() // 1_000 < self.floor - BRIDGED

    @property
    def ahead(self) -> int:
        """By how many microseconds the wall clock is ahead of what is plausible; 0: it isn't."""
        ahead = self.wall_ns() // 1_000 - self._expected()
        return ahead if self._step and ahead > PLAUSIBLE else 0

    @property
    def elapsed(self) -> int:
        """Microseconds of monotonic time since some moment."""
        return self._elapsed_ns() // 1_000

    def now(self) -> int:
        """Return the time in microseconds.

        Raises:
            HeliographError: CLOCK_BEHIND.
        """
        wall = self.wall_ns() // 1_000
        if self.floor <= wall <= self.ceiling:
            self.floor = wall
            return wall
        expected = self._expected()
        if wall > expected + PLAUSIBLE and not self._believes(wall, expected):
            self.floor = max(self.floor, expected)
            return self.floor
        if wall < self.floor - BRIDGED:
            raise HeliographError(
                ErrorCode.CLOCK_BEHIND,
                "The server's clock is behind the newest stored record: set it, or, if it is"
                " right, run `heliograph clock accept`",
                retry_after=5,
            )
        self._follow(wall)
        self.floor = max(self.floor, wall)
        return self.floor

    def moment(self) -> int:
        """Return the time as `now` does, or the newest that was given out while it has none."""
        try:
            return self.now()
        except HeliographError:
            return self.floor

    def accept(self) -> int:
        """Go on from the time that the wall clock tells, whatever was given out; return it."""
        wall = self.wall_ns() // 1_000
        self._follow(wall)
        self.floor = max(wall, RELEASED)
        return self.floor

    def _expected(self) -> int:
        """Return what the start and the monotonic time since then come to."""
        return self._anchor + self.elapsed

    def _follow(self, wall: int) -> None:
        self._anchor = wall - self.elapsed
        self.ceiling = wall + PLAUSIBLE
        if self._step:
            log.info("system clock in use again", clock=to_rfc3339(wall))
        self._step = 0

    def _believes(self, wall: int, expected: int) -> bool:
        """Return whether the wall clock is right though it is ahead of what is plausible."""
        if expected < self.floor - BRIDGED:
            return True  # what it told before was behind what is stored, and so wrong
        step, elapsed = wall - expected, self.elapsed
        if not self._step or abs(step - self._step) > PLAUSIBLE:
            self._step, self._stepped_at = step, elapsed
            log.warning(
                "system clock jumped ahead: monotonic clock in use until the jump is confirmed",
                seconds=step / SECOND,
                believed_after_seconds=BELIEVED_AFTER / SECOND,
            )
        return elapsed - self._stepped_at >= BELIEVED_AFTER


class ClockWatch:
    """Looks each second whether the clock was accepted, by `heliograph clock accept`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: Registry,
        latest: LatestValues,
        follow_horizon: Callable[[Horizon], None] = lambda _horizon: None,
    ) -> None:
        """Tell `follow_horizon` where retention's horizon stands: another process may move it."""
        self._follow_horizon = follow_horizon
        self._store = store
        self._clock = clock
        self._registry = registry
        self._latest = latest
        self._accepted_at = 0

    async def begin(self) -> None:
        """Take what was accepted before the start, by which the clock goes already.

        Raises:
            StoreUnavailableError: not now.
        """
        acceptance = (await self._store.clock.read()).acceptance
        self._accepted_at = acceptance.at
        if acceptance.until:
            self._latest.settle_after(acceptance.until + DAY)

    async def run(self) -> None:
        """Look each second, for ever."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            # Also so that it is soon known how long a step ahead has lasted, whoever sends.
            self._clock.moment()
            try:
                await self.look()
            except StoreUnavailableError:
                log.debug("clock not compared with the database")

    async def look(self) -> None:
        """Go on from the wall clock's time if it was accepted since the last look.

        Raises:
            StoreUnavailableError: not now.
        """
        acceptance, horizon = await self._store.clock.read()
        if acceptance.at != self._accepted_at:
            self._accepted_at = acceptance.at
            wrong = self._clock.behind or self._clock.ahead
            moment = self._clock.accept() if wrong else self._clock.moment()
            self._registry.forget_beyond(moment)
            self._latest.settle_after(acceptance.until + DAY)
            log.warning("clock accepted", clock=to_rfc3339(moment))
        if horizon is not None:
            self._follow_horizon(horizon)

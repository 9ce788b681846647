"""Removes what is due, once an hour, beside what devices send.

    0. move the horizon  by the time that has passed; of a leap of the clock the rest waits
    1. raise floors      what is due and rolled up counts from its rollups alone
    2. drop partitions   where every row of a month is due (PostgreSQL)
    3. remove rows       in short transactions, whose size follows the time that they take

A run that ends halfway has removed nothing that is not due, and the next one goes on.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import structlog

from heliograph.errors import DutyLostError, HeliographError, StoreUnavailableError
from heliograph.ingest.latest_values import LatestValues
from heliograph.ingest.rejections import RejectionBudget
from heliograph.model.retention import WAIT, Cutoffs, Horizon, Retention, advance, cutoffs
from heliograph.model.time import DAY, HOUR, SECOND, now, to_rfc3339
from heliograph.retention.plan import DueCounter
from heliograph.settings import Settings
from heliograph.store import Store
from heliograph.store.duties import Duty, DutyName
from heliograph.store.engine import Drop
from heliograph.store.pages import LEAST
from heliograph.store.removal import DueRow, KeptKind, Span, next_size

log = structlog.get_logger()

# How long it is kept what became of actions.
ACTION_DAYS = 30
INTERVAL_SECONDS = 3_600.0
# After a failure, and while the disk budget is used up.
SOON_SECONDS = 60.0
SENSORS_AT_ONCE = 500
# Of the time while devices send; more where there is no room for what they send, or too little
# time for what they sent.
MODEST_SHARE, LARGE_SHARE = 0.1, 0.5
LOCK_ATTEMPTS = 5
LOCK_RETRY_SECONDS = 1.0


@dataclasses.dataclass(slots=True)
class RunsState:
    """How the runs do. Times are microseconds; what was removed is counted since the start."""

    running: bool = False
    last_run_at: int | None = None
    next_run_at: int | None = None
    # By which time is removed, and by which it will be with the next run, as far as is known.
    horizon: Horizon | None = None
    next_moment: int | None = None
    failures_total: int = 0
    partitions_total: int = 0
    removed_total: Counter[KeptKind] = dataclasses.field(default_factory=Counter)


class RetentionRuns:
    """Removes what is due; `default` counts where nothing is said of a network or sensor."""

    def __init__(
        self,
        store: Store,
        default: Retention,
        *,
        clock: Callable[[], int],
        elapsed: Callable[[], int] = lambda: 0,
        busy: Callable[[], bool] = lambda: False,
        newest: LatestValues | None = None,
        duty: Duty | None = None,
    ) -> None:
        """Ask `clock` for the time, and `busy` whether others wait; tell `newest` what is gone.

        It runs while the `duty` is this server's; without one it always is.
        `elapsed` is monotonic time in microseconds; without it none has passed.
        """
        self.state = RunsState()
        self.default = default
        self._store = store
        self._clock = clock
        self._elapsed = elapsed
        # The horizon as it stands, and since when by monotonic time.
        self._stands: Horizon | None = None
        self._duty = duty or Duty(DutyName.RETENTION)
        self._stands_since = elapsed()
        self._looking = asyncio.Lock()
        self._wait_is_logged = False
        self._busy = busy
        self._newest = newest
        self._rows = next_size(0, 0)  # the fewest
        self._urgent = False
        self._share = MODEST_SHARE
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Run at once and then every hour, for ever."""
        while True:
            delay = INTERVAL_SECONDS
            await self._duty.given()
            try:
                with self._store.lineage.pinned(), self._duty.fenced():
                    await self.sweep(await self.horizon())
                await self._log_wait()
            except DutyLostError:
                log.info("retention left to another server")
                continue
            except (StoreUnavailableError, HeliographError) as error:
                self.state.failures_total += 1
                log.warning("retention waits", reason=str(error))
                delay = SOON_SECONDS
            if self._urgent:
                delay = SOON_SECONDS
            with contextlib.suppress(HeliographError):
                self._look_ahead(round(delay * SECOND))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._woken.wait()
            self._woken.clear()

    async def horizon(self) -> int:
        """Move the horizon by the time that has passed, and return it.

        Raises:
            HeliographError: CLOCK_BEHIND.
            StoreUnavailableError: not now.
        """
        async with self._looking:
            clock, stands, since = self._clock(), self._stands, self._stands_since

            def move(last: Horizon | None) -> Horizon:
                # Where others have moved it to it stands only since now.
                is_known = last is None or last == stands
                return advance(last, clock, self._elapsed() - since if is_known else 0)

            following = await self._store.clock.move_horizon(move)
            self._stands, self._stands_since = following, self._elapsed()
            if not following.waits or not following.waited:
                self._wait_is_logged = False
            self.state.horizon, self.state.next_moment = following, following.moment
            return following.moment

    def follow(self, horizon: Horizon) -> None:
        """Take notice of where the horizon stands: others may have moved it."""
        if horizon == self._stands:
            return
        was_waiting = self._stands is not None and self._stands.waits
        self._stands, self._stands_since = horizon, self._elapsed()
        if was_waiting and not horizon.waits:
            self._woken.set()

    @property
    def next_moment(self) -> int:
        """By which time the next run removes, as far as is known."""
        state = self.state
        return now() if state.next_moment is None else state.next_moment

    def _look_ahead(self, delay: int) -> None:
        state = self.state
        state.next_run_at = self._clock() + delay
        state.next_moment = advance(self._stands, state.next_run_at, delay).moment

    async def _log_wait(self) -> None:
        horizon = self.state.horizon
        if horizon is None or not horizon.waits or self._wait_is_logged:
            return
        self._wait_is_logged = True
        removes = await DueCounter(self._store, self.default, horizon.clock).totals()
        write = log.warning if any(due.rows for due in removes.values()) else log.info
        write(
            "retention waits: the clock has leapt since the last run; if it is right, run"
            " `heliograph retention accept`",
            clock=to_rfc3339(horizon.clock),
            removed_until=to_rfc3339(horizon.moment),
            waits_hours=round((WAIT - horizon.waited) / HOUR, 1),
            **{kind.value: due.rows for kind, due in removes.items()},
        )

    def set_urgent(self, urgent: bool) -> None:
        """Run at once, and again soon, for as long as there is no room for new data."""
        if urgent and not self._urgent:
            self._woken.set()
        self._urgent = urgent

    async def sweep(self, moment: int) -> None:
        """Remove what is due at a moment.

        Raises:
            StoreUnavailableError: it ended halfway.
        """
        state = self.state
        if self.default == Retention(0, 0, 0) and not await self._store.retentions.has_rules():
            return
        removed, partitions = state.removed_total.copy(), state.partitions_total
        began = asyncio.get_running_loop().time()
        state.running = True
        try:
            newest = await self._raise_floors(moment)
            starts = {
                KeptKind.MEASUREMENTS: await self._drop(KeptKind.MEASUREMENTS, newest.raw, moment),
                KeptKind.LOGS: await self._drop(KeptKind.LOGS, newest.logs, moment),
            }
            async for page in self._pages(moment):
                self._share = MODEST_SHARE
                if self._urgent or asyncio.get_running_loop().time() - began > INTERVAL_SECONDS:
                    self._share = LARGE_SHARE
                await self._remove_page(page, starts)
            if end := cutoffs(self.default, moment).logs:
                await self._remove_unknown_packets(end)
        finally:
            state.running = False
        state.last_run_at = moment
        gone = state.removed_total - removed
        log.info(
            "expired data removed",
            moment=to_rfc3339(moment),
            partitions=state.partitions_total - partitions,
            **{kind.value: gone[kind] for kind in KeptKind},
        )

    async def _pages(self, moment: int) -> AsyncIterator[dict[int, Cutoffs]]:
        """Yield the cutoffs by sensor, of all sensors that may have data due for removal."""
        after = LEAST
        while page := await self._store.retentions.sensors(
            after, default=self.default, limit=SENSORS_AT_ONCE
        ):
            after = page[-1].number
            found = {each.number: cutoffs(each.retention, moment) for each in page}
            if due := {number: each for number, each in found.items() if any(each)}:
                yield due

    async def _raise_floors(self, moment: int) -> Cutoffs:
        """Raise the floors of those with rows that are due; return the newest of all cutoffs."""
        newest = [0, 0, 0]
        async for page in self._pages(moment):
            newest = [
                max(pair)
                for pair in zip(newest, map(max, zip(*page.values(), strict=True)), strict=True)
            ]
            spans = [Span(number, LEAST, each.raw) for number, each in page.items() if each.raw]
            if not spans:
                continue
            counted = await self._store.removal.count(KeptKind.MEASUREMENTS, spans, 1)
            found = {number for number, each in counted.items() if each.rows}
            found |= await self._store.packed_removal.sensors(spans)
            if due := {number: page[number] for number in page if number in found}:
                await self._store.removal.raise_floors(due)
        return Cutoffs(*newest)

    async def _drop(self, kind: KeptKind, cutoff: int, moment: int) -> int:
        """Drop the partitions that are due as a whole; return from when on rows are for others."""
        days = self.default.raw_days if kind is KeptKind.MEASUREMENTS else self.default.log_days
        start, days = LEAST, days or 0
        for partition in await self._store.removal.partitions(kind, cutoff):
            if not await self._store.removal.is_partition_due(
                kind, partition, moment=moment, default_days=days
            ):
                continue
            for _ in range(LOCK_ATTEMPTS):
                became = await self._store.removal.drop(
                    kind, partition, moment=moment, default_days=days
                )
                if became is not Drop.BUSY:
                    break
                await asyncio.sleep(LOCK_RETRY_SECONDS)
            if became is Drop.DROPPED:
                self.state.partitions_total += 1
                log.info("partition dropped", partition=partition.name, rows=partition.rows)
                if kind is KeptKind.MEASUREMENTS and self._newest is not None:
                    self._newest.forget_all()
            elif became is Drop.BUSY:
                # The next run drops it; to remove its rows one by one would be for nothing.
                start = partition.end
                log.warning("partition in use", partition=partition.name)
        return start

    async def _remove_page(self, page: dict[int, Cutoffs], starts: dict[KeptKind, int]) -> None:
        floors = await self._store.removal.floors(list(page))
        ends = {
            KeptKind.MEASUREMENTS: {
                n: each.raw and min(each.raw, floors[n]) for n, each in page.items()
            },
            KeptKind.ROLLUPS: {n: each.rollups for n, each in page.items()},
            KeptKind.LOGS: {n: each.logs for n, each in page.items()},
            KeptKind.HEARTBEATS: {n: each.logs for n, each in page.items()},
            KeptKind.PACKETS: {n: each.logs for n, each in page.items()},
        }
        for kind, due in ends.items():
            start = starts.get(kind, LEAST)
            spans = [Span(n, start, end) for n, end in due.items() if end and end > start]
            await self._remove(kind, spans)
            if kind is KeptKind.MEASUREMENTS:
                # In no partition: a month's are due as others are, one by one.
                await self._remove_packed([Span(n, LEAST, end) for n, end in due.items() if end])

    async def _remove_packed(self, spans: Sequence[Span]) -> None:
        if not spans:
            return
        async for sensors, (removed, took) in self._store.packed_removal.remove(spans):
            self.state.removed_total[KeptKind.MEASUREMENTS] += removed
            if self._newest is not None:
                for sensor in sensors:
                    self._newest.forget(sensor)
            await self._rest(0, took)

    async def _remove(self, kind: KeptKind, spans: Sequence[Span]) -> None:
        removal = self._store.removal
        while spans:
            limit = self._rows
            rows = await removal.due(kind, spans, limit)
            if not rows:
                return
            removed, took = await removal.remove(kind, rows)
            self.state.removed_total[kind] += removed
            if kind is KeptKind.MEASUREMENTS and self._newest is not None:
                for sensor in {row.sensor for row in rows}:
                    self._newest.forget(sensor)
            await self._rest(len(rows), took)
            if len(rows) < limit:
                return
            if kind is not KeptKind.ROLLUPS:  # of which each sensor has two orders
                spans = _remaining(spans, rows)

    async def _remove_unknown_packets(self, end: int) -> None:
        while True:
            removed, took = await self._store.removal.remove_unknown_packets(end, self._rows)
            if not removed:
                return
            self.state.removed_total[KeptKind.PACKETS] += removed
            await self._rest(removed, took)

    async def _rest(self, removed: int, took: float) -> None:
        """Let others have the writer for as long as they are due, after so many rows."""
        if removed >= self._rows:
            self._rows = next_size(removed, took)
        await asyncio.sleep(took * (1 / self._share - 1) if self._busy() else 0)


async def prune_for_ever(
    store: Store,
    settings: Callable[[], Settings],
    rejections: RejectionBudget,
    horizon: Callable[[], Awaitable[int]],
    duty: Duty,
) -> None:
    """Remove, beside telemetry, what is kept for a time only, for ever.

    It goes by the time that retention goes by, since a clock may be ahead. It is done while the
    `duty` is this server's; what is left of rejected messages is looked up in any case.
    """
    while True:
        try:
            if duty.held:
                with duty.fenced():
                    await _prune(store, settings(), await horizon())
            _, rejections.kept_bytes = await store.rejected.totals()
        except (StoreUnavailableError, HeliographError) as error:
            log.debug("pruning waiting for the database", reason=str(error))
        await asyncio.sleep(INTERVAL_SECONDS)


async def _prune(store: Store, settings: Settings, moment: int) -> None:
    await store.deliveries.prune(moment)
    await store.accounts.prune_sessions(moment)
    await store.rejected.prune(moment - settings.rejected_retention_days * DAY)
    await store.audit.prune(moment - settings.audit_days * DAY)
    await store.actions.prune(moment - ACTION_DAYS * DAY)
    await store.alerts.prune(moment - settings.audit_days * DAY)


def _remaining(spans: Iterable[Span], rows: Iterable[DueRow]) -> list[Span]:
    """Return the spans from the rows on: what is dead already is not looked through again."""
    newest = {row.sensor: row.time for row in rows}
    return [span._replace(start=newest.get(span.sensor, span.start)) for span in spans]

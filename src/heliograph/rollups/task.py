"""Rolling up: from raw rows to rollups, piece by piece, each in a short transaction.

A task beside ingest does it, which takes no more time than is left. Queries are right at any
moment: what is not rolled up yet they take from raw rows.

A piece is counted anew from its raw rows, never added to: done twice, or again after a crash,
it is the same. Raw rows are read after the generation of the rollups; where that has been raised
by anybody else before the piece is stored, the piece is thrown away.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND, now
from heliograph.rollups.counting import (
    Counted,
    Key,
    NumberTexts,
    Work,
    assemble,
    count_groups,
    count_stretch,
    needed,
)
from heliograph.store import Store
from heliograph.store.duties import Duty, DutyName
from heliograph.store.engine import LAG, RollupChange
from heliograph.store.pages import LEAST
from heliograph.store.stretches import HeadedChunk, Stretch, Stretches

log = structlog.get_logger()

# Raw rows a query: counting them holds the interpreter for a few milliseconds.
ROWS = 4_000
# Larger values, in characters, are not read by queries for several spans or sensors.
LONGEST = 8 << 10
# Rollups that are found by one query, and stored in one transaction.
FOUND_AT_ONCE = 500
STORED_AT_ONCE = 256
STORED_BYTES = 1 << 20
# Works whose rows are read together: as many as have half of ROWS, up to so many.
TOGETHER = 1_024
# Marks that are taken at a time, and sensors whose history is.
MARKS = 2_000
BACKLOG_AT_ONCE = 16

# The frontier moves by so much of the clock.
STEP = 10 * MINUTE
# Far behind (the server was off) by an hour's steps, very far by a day's.
FAR, VERY_FAR = 3 * HOUR, 3 * DAY
# Between two looks at what is to do; marks of one look are worked off after the next, so that a
# burst of late rows is one piece of work.
POLL_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
# How often it is told how far the rollups are while another server works.
WATCH_SECONDS = 60.0
# While so many rows a second come, or as many messages wait, ingest goes before.
BUSY_ROWS, BUSY_DEPTH = 1_000, 500
# The time waited for each that was worked: ingest leaves a tenth then, else a half.
WAIT_BUSY, WAIT_IDLE = 9.0, 1.0
LONGEST_WAIT_SECONDS = 5.0
# More marks or ranges are not counted.
COUNTED = 100_000

_encode = msgspec.json.Encoder().encode

# The lower bits of a generation count disturbances, the upper ones changes of rollups.
DISTURBANCES = 24

T = TypeVar("T")


class SupersededError(Exception):
    """Somebody else has changed rollups meanwhile."""


class _DisturbedError(Exception):
    """Raw rows may have been deleted since they were read."""


class State(NamedTuple):
    """The frontier, before which everything is rolled up or named as dirty; the generation."""

    frontier: int
    generation: int


class Pending(NamedTuple):
    """What is left to be rolled up: marks of late rows, and ranges of history."""

    marks: int
    ranges: int


class Rolling:
    """The work on rollups. One task does it, a call at a time."""

    def __init__(
        self,
        store: Store,
        pace: Callable[[], Awaitable[None]],
        texts: NumberTexts | None = None,
    ) -> None:
        """Call `pace` between pieces: it may wait, to leave time for other work.

        `texts` takes note of numbers that come as texts.
        """
        self._engine = store.engine
        self._chunks = store.chunks
        self._pace = pace
        self._texts = texts
        self._sensors = self._hours = 32
        # The generation as it was left.
        self.generation = -1
        # Rollups stored so far, and hours of which they don't hold all attributes.
        self.stored = 0
        self.wide = 0

    async def state(self) -> State:
        """Return where the rollups stand."""
        rows = await self._engine.fetch("rollup_state")
        return State(*rows[0])

    async def advance(self, target: int) -> None:
        """Roll up everything until `target`, in whole minutes, and move the frontier there.

        Raises:
            SupersededError: somebody else works on it; nothing is lost, call it again later.
        """
        # Writes that begin from now on mark what is before the target; those that have begun
        # are through once the writer's turn has come.
        self._engine.lateness.raise_floor(target)
        rows = await self._engine.change(lambda transaction: transaction.fetch("rollup_state"))
        state = State(*rows[0])
        self.generation = state.generation
        if target <= state.frontier:
            return
        after = 0
        while True:
            rows = await self._engine.fetch("sensor_numbers", after=after, limit=self._sensors)
            if not rows:
                break
            works = [Work(number, state.frontier, target) for (number,) in rows]
            read = await self._steadily(partial(self._roll, works, target))
            self._sensors = _adapted(self._sensors, read)
            after = rows[-1][0]
            await self._pace()
        last = RollupChange(self.generation, frontier=target)
        await self._steadily(partial(self._change, last))

    async def _roll(self, works: Sequence[Work], target: int) -> int:
        counted, read = await self._counted(works)
        await self._store(works, counted, until=target)
        return read

    async def pending(self) -> Pending:
        """Return how much is left to be rolled up, counted up to `COUNTED`."""
        rows = await self._engine.fetch("rollup_counts", most=COUNTED)
        return Pending(*rows[0])

    async def newest_mark(self) -> int:
        """Return the newest mark's id, 0 if there is none."""
        rows = await self._engine.fetch("rollup_newest_mark")
        return rows[0][0] or 0

    async def redo(self, until: int) -> int:
        """Roll up anew the hours of the oldest marks up to this id; return how many marks.

        Raises:
            SupersededError: somebody else works on it.
        """
        state = await self.state()
        self.generation = state.generation
        marks = await self._engine.take_marks(until, MARKS)
        hours: dict[tuple[int, int], list[int]] = {}
        for mark, sensor, hour in marks:
            hours.setdefault((sensor, hour), []).append(mark)
        left = sorted(hours)
        while left:
            pairs, left = left[: self._hours], left[self._hours :]
            done = [mark for pair in pairs for mark in hours[pair]]
            read = await self._steadily(partial(self._redo, pairs, done, state.frontier))
            self._hours = _adapted(self._hours, read)
            await self._pace()
        return len(marks)

    async def _redo(self, pairs: Sequence[tuple[int, int]], done: list[int], frontier: int) -> int:
        floors = await self._floors([sensor for sensor, _ in pairs])
        # Before the floor are no rows to count; from the frontier on nothing is rolled up.
        works = [
            Work(sensor, hour, min(hour + HOUR, frontier))
            for sensor, hour in pairs
            if floors.get(sensor, hour) <= hour < frontier
        ]
        counted, read = await self._counted(works)
        last = RollupChange(self.generation, marks=done)
        await self._store(works, counted, until=frontier, clear=True, last=last)
        return read

    async def fill(self) -> int:
        """Roll up a day of the newest ranges of the backlog; return how many there were.

        Raises:
            SupersededError: somebody else works on it.
        """
        state = await self.state()
        self.generation = state.generation
        filled = await self._steadily(partial(self._fill, state.frontier))
        await self._pace()
        return filled

    async def _fill(self, frontier: int) -> int:
        ranges = await self._engine.fetch("rollup_backlog_newest", limit=BACKLOG_AT_ONCE)
        if not ranges:
            return 0
        works: list[Work] = []
        left: list[tuple[int, int, int]] = []
        for sensor, start, end in ranges:
            rows = await self._engine.fetch(
                "measurement_newest_between", sensor=sensor, start=start, end=end
            )
            if not rows:
                left.append((sensor, start, start))
                continue
            newest = rows[0][0]
            last = newest - newest % HOUR + HOUR
            first = max(start, newest - newest % DAY)
            works.append(Work(sensor, first, last))
            left.append((sensor, start, first))
        counted, _ = await self._counted(works)
        last_change = RollupChange(self.generation, backlog=left)
        await self._store(works, counted, until=frontier, last=last_change)
        return len(ranges)

    async def _floors(self, sensors: Sequence[int]) -> dict[int, int]:
        rows = await self._engine.fetch("rollup_floors", sensors=_encode(sensors).decode())
        return {sensor: raw_from for sensor, raw_from in rows}  # noqa: C416 - rows are no pairs to mypy

    async def _counted(self, works: Sequence[Work]) -> tuple[Counted, int]:
        """Return what raw rows make of the works, and how many rows there are."""
        counted: Counted = {}
        return counted, await self._count(works, counted) if works else 0

    async def _count(self, works: Sequence[Work], counted: Counted) -> int:
        if len(works) == 1:
            return await self._count_one(works[0], counted)
        spans = _encode(works).decode()
        rows = await self._engine.fetch(
            "measurements_spans", spans=spans, limit=ROWS, longest=LONGEST
        )
        if len(rows) < ROWS and all(row[2] is not None for row in rows):
            await asyncio.to_thread(count_groups, rows, counted, self._texts)
            return len(rows)
        middle = len(works) // 2
        return await self._count(works[:middle], counted) + await self._count(
            works[middle:], counted
        )

    async def _count_one(self, work: Work, counted: Counted) -> int:
        read = 0
        sensor = work.sensor
        stretches = Stretches(self._engine, self._chunks, sensor, _needed)
        async with aclosing(stretches.between((work.start, LEAST), work.end)) as found:
            async for stretch, opened in found:
                if read:
                    await self._pace()
                count, damaged = await asyncio.to_thread(
                    count_stretch, sensor, stretch, opened, counted, self._texts
                )
                stretches.tell(damaged)
                read += count
        return read

    async def _store(
        self,
        works: Sequence[Work],
        counted: Counted,
        *,
        until: int,
        clear: bool = False,
        last: RollupChange | None = None,
    ) -> None:
        """Store what was counted; `last` is what is done by that."""
        stored: dict[Key, bytes] = {}
        for keys in _groups(needed(works, counted, until, clear=clear), FOUND_AT_ONCE):
            found = await self._engine.fetch("rollups_find", keys=_encode(keys).decode())
            stored.update((Key(sensor, level, at), packed) for at, packed, sensor, level in found)
        made = await asyncio.to_thread(assemble, works, counted, stored, until, clear=clear)
        self.wide += made.wide
        change = RollupChange(self.generation)
        size = 0
        for rollup in made.rollups:
            change.rollups.append(rollup)
            size += len(rollup[3] or b"")
            if len(change.rollups) >= STORED_AT_ONCE or size >= STORED_BYTES:
                await self._change(change)
                change, size = RollupChange(self.generation), 0
        if last is not None:
            change.marks, change.backlog = last.marks, last.backlog
        if change.rollups or last is not None:
            await self._change(change)

    async def _change(self, change: RollupChange) -> None:
        change.generation = self.generation
        if not await self._engine.store_rollups(change):
            raise _DisturbedError
        self.generation = following(self.generation)
        self.stored += len(change.rollups)

    async def _steadily(self, piece: Callable[[], Awaitable[T]]) -> T:
        """Do a piece, again if it was disturbed: what others have stored ends it all."""
        while True:
            try:
                return await piece()
            except _DisturbedError:
                generation = (await self.state()).generation
                if changes(generation) != changes(self.generation):
                    raise SupersededError from None
                self.generation = generation
                await self._pace()


class Load(Protocol):
    """How busy ingest is."""

    @property
    def rows_total(self) -> int:
        """Rows that were stored since the start."""
        ...

    @property
    def depth(self) -> int:
        """Messages that wait."""
        ...


class TextReports(Protocol):
    """Reports attributes whose numbers come as texts."""

    def is_news(self, sensor: int, name: str) -> bool:
        """Return whether a sensor's attribute was not reported yet; called from any thread."""
        ...

    def report(self, sensor: int, name: str, text: str) -> None:
        """Report an attribute with a value of it."""
        ...


@dataclasses.dataclass(slots=True)
class RollupState:
    """How far the rollups are, for metrics. Times are microseconds."""

    frontier: int | None = None
    marks: int = 0
    ranges: int = 0
    stored_total: int = 0
    # Hours with more attributes than are rolled up.
    wide_total: int = 0

    def lag_seconds(self, moment: int) -> float:
        """Return how far the frontier is behind the clock."""
        return max(0, moment - self.frontier) / SECOND if self.frontier is not None else 0.0


class RollupTask:
    """Moves the frontier, and works off marks of late rows and the backlog of history."""

    def __init__(
        self,
        store: Store,
        load: Load,
        texts: TextReports,
        *,
        moment: Callable[[], int] = now,
        duty: Duty | None = None,
    ) -> None:
        """Roll up by the time that `moment` tells: what comes before the frontier is late.

        It works while the `duty` is this server's; without one it always is.
        All values are looked at here, so that it is here that numbers sent as texts are found.
        """
        self._moment = moment
        self.state = RollupState()
        self._store = store
        self._load = load
        self._texts = texts
        self._found = NumberTexts(texts.is_news)
        self._rolling = Rolling(store, self._pace, self._found)
        self._duty = duty or Duty(DutyName.ROLLUPS)
        self._mark = 0
        # Since when it works, and how many rows had come by then.
        self._since = (0.0, 0)

    def forget(self) -> None:
        """Begin anew: the database was put back."""
        self._rolling = Rolling(self._store, self._pace, self._found)
        self._mark = 0

    async def run(self) -> None:
        """Work for ever."""
        delay = POLL_SECONDS
        while True:
            if not self._duty.held:
                await self._watch()
            try:
                with self._store.lineage.pinned(), self._duty.fenced():
                    delay = 0.0 if await self._work() else POLL_SECONDS
            except SupersededError:
                log.debug("rollups changed by others meanwhile")
                delay = POLL_SECONDS
            except StoreUnavailableError as error:
                log.debug("rollups waiting for the database", reason=str(error))
                delay = min(max(delay, 0.5) * 2, LONGEST_RETRY_SECONDS)
            except Exception:
                # Whatever it is, queries are right without rollups: no reason to end the server.
                log.exception("rollup failed")
                delay = LONGEST_RETRY_SECONDS
            await asyncio.sleep(delay)

    async def _work(self) -> bool:
        """Do what is to be done now; tell whether there is more."""
        rolling = self._rolling
        began = asyncio.get_running_loop().time()
        more = True
        self._begin()
        while more and asyncio.get_running_loop().time() - began < POLL_SECONDS:
            state = await rolling.state()
            if (target := due(state.frontier, self._moment())) > state.frontier:
                await rolling.advance(target)
            else:
                more = bool(await rolling.redo(self._mark) or await rolling.fill())
        # Those that have come by now have waited long enough at the next look.
        self._mark = await rolling.newest_mark()
        await self._tell()
        return more

    async def _tell(self) -> None:
        for (sensor, name), text in self._found.take().items():
            self._texts.report(sensor, name, text)
        pending = await self._rolling.pending()
        self.state.frontier = (await self._rolling.state()).frontier
        self.state.marks, self.state.ranges = pending.marks, pending.ranges
        self.state.stored_total, self.state.wide_total = self._rolling.stored, self._rolling.wide

    async def _watch(self) -> None:
        """Tell how far the rollups are while another server works, until it is up to this one."""
        while not self._duty.held:
            with contextlib.suppress(StoreUnavailableError):
                await self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._duty.given()

    def _begin(self) -> None:
        self._since = (asyncio.get_running_loop().time(), self._load.rows_total)

    async def _pace(self) -> None:
        """Wait for as long as the work since the last wait asks for."""
        since, rows = self._since
        worked = asyncio.get_running_loop().time() - since
        came = self._load.rows_total - rows
        busy = came > BUSY_ROWS * worked or self._load.depth > BUSY_DEPTH
        wait = worked * (WAIT_BUSY if busy else WAIT_IDLE)
        await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS))
        self._begin()


def changes(generation: int) -> int:
    """Return how many changes of rollups there were."""
    return generation >> DISTURBANCES


def following(generation: int) -> int:
    """Return the generation after a change."""
    return changes(generation) + 1 << DISTURBANCES


def due(frontier: int, moment: int) -> int:
    """Return where the frontier moves to next; not behind it: nothing is to be done."""
    latest = moment - LAG
    latest -= latest % STEP
    behind = latest - frontier
    for far, step in ((VERY_FAR, DAY), (FAR, HOUR)):
        if behind > far:
            return frontier - frontier % step + step
    return latest


def _adapted(together: int, rows: int) -> int:
    """Return how many works to read together, so that their rows are a good half of ROWS."""
    if rows >= ROWS:
        return max(together // 2, 1)
    return min(together * 2, TOGETHER) if rows < ROWS // 3 else together


def _groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _needed(stretch: Stretch, chunk: HeadedChunk) -> int:
    # Fingerprints tell which rows come first where there are others among them.
    return chunk.head.needed() if stretch.is_whole(chunk) else chunk.head.length

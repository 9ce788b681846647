"""Packing in the background: measurements that are no longer hot become chunks.

A piece is packed once it has ended, lies far enough in the past, is rolled up, and nothing of it
has come lately: what comes late is packed into its chunk together. Each chunk is a transaction of
its own, so that a run may end anywhere, and the next one goes on where it is.
"""

import asyncio
import contextlib
import dataclasses
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import structlog

from heliograph.errors import DutyLostError, HeliographError, StoreUnavailableError
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.records import TIMESTAMP
from heliograph.model.retention import Needed
from heliograph.model.time import DAY, HOUR
from heliograph.packed.chunk import MAXIMUM_CHARACTERS, MAXIMUM_ROWS
from heliograph.packed.head import DamagedChunkError
from heliograph.packed.pieces import FEWEST_ROWS, month_end, next_piece
from heliograph.store import Store
from heliograph.store.chunks import ChangedMeanwhileError, Prepared, SmallChunk
from heliograph.store.duties import Duty, DutyName
from heliograph.store.engine import Drop
from heliograph.store.months import month_of
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.removal import KeptKind

log = structlog.get_logger()

# What is younger is never packed: streams resume by what was received within an hour.
LEAST_AGE: Final = 2 * HOUR
# From which age on it is packed where the settings say nothing: the first, and the next of them
# while more than so many rows are left; then also what lies in pieces that have not ended, or those
# of ten thousand sensors that send every few minutes would have rows of a week.
AGES: Final = (26 * HOUR, 13 * HOUR, 6 * HOUR, LEAST_AGE)
MOST_UNPACKED: Final = 1_000_000
INTERVAL_SECONDS: Final = 600.0
# After a failure.
SOON_SECONDS: Final = 60.0
# On SQLite rows lie in the order of their receipt, so that a page has rows of many sensors: it is
# written once for all that are packed together, while everyone else who writes waits. So it is as
# many rows as the last ones let expect to take so long, but not fewer, while others wait or not.
_ROWS_TOGETHER: Final = 32_768
_BUSY_SECONDS, _IDLE_SECONDS = 0.1, 0.25
_BUSY_ROWS, _IDLE_ROWS = 4_096, 8_192
_SENSORS_AT_ONCE: Final = 5_000
# Rows that are packed before what is left of them is deleted: else a file would grow beside them.
_UNSWEPT: Final = 131_072
# Of the time while devices send, and while they do not.
_BUSY_SHARE, _IDLE_SHARE = 0.1, 0.5
_UNPACKABLE_KNOWN: Final = 1_000
# How often chunks are looked for that can be merged, and how much older than the last time they may
# be: pieces are as long as a month.
MERGE_EVERY: Final = DAY
_MERGED_BACK: Final = 40 * DAY
# Rows that a run merges at most, or somewhat more; the next goes on.
_MERGED_A_RUN: Final = 500_000
# Rows that are merged at once, and in a transaction.
_MERGED_AT_ONCE: Final = 4 * MAXIMUM_ROWS


@dataclasses.dataclass(slots=True)
class PackingState:
    """How packing does; what was packed is counted since the start. Times are microseconds."""

    last_run_at: int | None = None
    packed_total: int = 0
    merged_total: int = 0
    failures_total: int = 0


class Packer:
    """Packs what is older than `after` microseconds; 0: nothing; None: as the database says."""

    def __init__(
        self,
        store: Store,
        after: int | None,
        *,
        moment: Callable[[], int],
        busy: Callable[[], bool] = lambda: False,
        duty: Duty | None = None,
        rests: bool = True,
    ) -> None:
        """Ask `moment` for the time, and `busy` whether others wait; `rests`: leave them time.

        It works while the `duty` is this server's; without one it always is.
        """
        self.state = PackingState()
        self.after = after
        self._store = store
        self._moment = moment
        self._busy = busy
        self._duty = duty or Duty(DutyName.PACKING)
        self._rests = rests
        self._rows_a_second = 0.0
        self._unswept = 0
        self._unpackable: set[tuple[int, int]] = set()
        self._has_told = False
        # Until when chunks are merged; of a pass that has not come to its end, of which sensors.
        self._merged_until: int | None = None
        self._merged_through = LEAST
        # Of which rows were packed since they were looked at; None: nobody knows.
        self._months: set[int] | None = None

    async def run(self) -> None:
        """Pack every ten minutes, for ever."""
        while True:
            delay = INTERVAL_SECONDS
            await self._duty.given()
            try:
                with self._store.lineage.pinned(), self._duty.fenced():
                    await self.pack_old()
            except DutyLostError:
                log.info("packing left to another server")
                continue
            except (StoreUnavailableError, HeliographError) as error:
                self.state.failures_total += 1
                log.warning("packing waits", reason=str(error))
                delay = SOON_SECONDS
            except Exception:
                # Rows are as good as chunks: no reason to end the server.
                self.state.failures_total += 1
                log.exception("packing failed")
            await asyncio.sleep(delay)

    async def packs(self) -> bool:
        """Return whether what gets old is packed, where nothing else forbids it."""
        if self.after is not None:
            return self.after > 0
        return await self._store.chunks.packs_by_itself()

    async def pack_old(self) -> None:
        """Pack what is old enough by the settings, or by the database's own rule.

        Raises:
            StoreUnavailableError: it ended halfway.
        """
        # What a run has left that ended halfway, whatever the settings say by now.
        await self._sweep()
        moment = self._moment()
        if self.after is not None:
            if self.after:
                await self.pack(moment - self.after, received_before=moment - self.after)
        elif await self._store.chunks.packs_by_itself():
            for age in AGES:
                await self.pack(moment - age, received_before=moment - age, early=age < AGES[0])
                if await self._store.chunks.unpacked(MOST_UNPACKED + 1) <= MOST_UNPACKED:
                    break
        elif not self._has_told:
            self._has_told = True
            log.info(
                "old measurements are not packed: this database was in use before; to have them"
                " packed set PACK_AFTER=26h, or run `heliograph pack`"
            )

    async def pack(self, until: int, *, received_before: int, early: bool = False) -> int:
        """Pack all pieces that have ended by `until`; return how many rows.

        `early`: also what there is by then of those that have not, where it is enough.

        Those of which a row was received at `received_before` or later are left for a later run.

        Raises:
            StoreUnavailableError: it ended halfway.
        """
        packed = 0
        before = first_ingest_id(received_before)
        async for sensors in self._sensors():
            limits = {number: min(until, _rolled_up(each)) for number, each in sensors.items()}
            packed += await self._pack_sensors(limits, before, early=early)
        await self._sweep()
        if not early:
            await self._merge(until)
        await self._drop_emptied(until)
        await self._in_steps(self._store.removal.shorten)
        self.state.last_run_at = self._moment()
        if packed:
            log.info("measurements packed", rows=packed)
        return packed

    async def _merge(self, until: int) -> None:
        """Merge chunks that stayed small, since they were packed before their piece had ended."""
        known = self._merged_until
        if known is not None and until < known + MERGE_EVERY:
            return
        before, left = self.state.merged_total, _MERGED_A_RUN
        together: list[Prepared] = []
        rows = characters = 0
        since = LEAST if known is None else known - _MERGED_BACK
        async with contextlib.aclosing(self._merges(since, until)) as merges:
            async for each in merges:
                together.append(each)
                rows += sum(len(of_chunk) for of_chunk, _ in each.new)
                characters += each.characters
                if rows >= _MERGED_AT_ONCE or characters >= MAXIMUM_CHARACTERS:
                    await self._put_merged(together)
                    left -= rows
                    together, rows, characters = [], 0, 0
                    # It may have more.
                    self._merged_through = each.sensor - 1
                    if left <= 0 and self._rests:
                        break
            else:
                await self._put_merged(together)
                self._merged_until, self._merged_through = until, LEAST
        if merged := self.state.merged_total - before:
            log.info("chunks merged", chunks=merged)

    async def _put_merged(self, together: Sequence[Prepared]) -> None:
        """Store merged chunks; what has changed meanwhile is left alone."""
        if not together:
            return
        began = asyncio.get_running_loop().time()
        try:
            await self._store.chunks.put(together)
        except ChangedMeanwhileError:
            if len(together) > 1:
                for each in together:
                    await self._put_merged([each])
            return
        self.state.merged_total += sum(len(each.old) for each in together)
        await self._rest(asyncio.get_running_loop().time() - began)

    async def _merges(self, since: int, until: int) -> AsyncGenerator[Prepared, None]:
        """Yield what can be merged, by sensors, from where the last run has ended."""
        through = self._merged_through
        loop = asyncio.get_running_loop()
        while numbers := await self._numbers(through):
            through = numbers[-1]
            for sensor in numbers:
                began = loop.time()
                async for group in self._mergeable(sensor, since, until):
                    for prepared in await self._store.chunks.merged_anew(sensor, group):
                        took = loop.time() - began
                        yield prepared
                        began = loop.time() - took
                await self._rest(loop.time() - began)

    async def _mergeable(
        self, sensor: int, since: int, until: int
    ) -> AsyncIterator[list[SmallChunk]]:
        """Yield small chunks of pieces that have ended, if a piece has several."""
        small = await self._store.chunks.small(sensor, since, until, FEWEST_ROWS)
        count = partial(self._store.chunks.rows_between, sensor, limit=FEWEST_ROWS)
        for _, found in groupby(small, key=lambda each: month_end(each.first[0])):
            left = list(found)
            while len(left) > 1:
                start = left[0].first[0]
                piece = await next_piece(count, start - start % HOUR, until)
                # Busier days after it may have ended.
                end = start - start % DAY + DAY if piece is None else piece.end
                group = left[: bisect_left(left, end, key=_last_time)]
                left = left[max(len(group), 1) :]
                if piece is not None:
                    for part in _bounded(group):
                        yield part

    async def _drop_emptied(self, until: int) -> None:
        """Drop months of PostgreSQL that have ended by then, and whose last row was packed.

        What comes late for one finds it made again.
        """
        left: set[int] = set()
        for partition in await self._store.removal.partitions(KeptKind.MEASUREMENTS, until):
            if self._months is not None and partition.month not in self._months:
                continue
            began = asyncio.get_running_loop().time()
            became = await self._store.removal.drop_empty(partition)
            if became is Drop.DROPPED:
                log.info("partition dropped", partition=partition.name, reason="all is packed")
            elif became is Drop.BUSY:
                left.add(partition.month)
            await self._rest(asyncio.get_running_loop().time() - began)
        self._months = left

    async def _sweep(self) -> None:
        """Delete what was packed from where it lies, once its neighbours are packed, too."""
        await self._in_steps(self._store.removal.sweep)
        self._unswept = 0

    async def _in_steps(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Take steps until one says that there is nothing left to do, and leave time to others."""
        is_left = True
        while is_left:
            began = asyncio.get_running_loop().time()
            is_left = await step()
            await self._rest(asyncio.get_running_loop().time() - began)

    async def _numbers(self, after: int) -> list[int]:
        rows = await self._store.engine.fetch(
            "packing_sensors", after=after, limit=_SENSORS_AT_ONCE
        )
        return [number for (number,) in rows]

    async def _sensors(self) -> AsyncIterator[dict[int, Needed]]:
        after = LEAST
        while numbers := await self._numbers(after):
            after = numbers[-1]
            yield await self._store.removal.needed(numbers)

    async def _pack_sensors(self, limits: dict[int, int], before: int, *, early: bool) -> int:
        """Pack what sensors have before their limits: of each a piece, then of each the next.

        Those that send one after the other have their rows in the same pages of a SQLite file.
        """
        packed, starts = 0, await self._oldest(limits)
        while starts:
            together: list[Prepared] = []
            rows = characters = 0
            for sensor in list(starts):
                began = asyncio.get_running_loop().time()
                until = limits[sensor]
                prepared = await self._prepare(sensor, starts, until, before, early=early)
                if prepared is None:
                    del starts[sensor]
                else:
                    together.append(prepared)
                    characters += prepared.characters
                    rows += len(prepared.hot)
                if rows >= self._most_together() or characters >= MAXIMUM_CHARACTERS:
                    packed += await self._put(together, starts)
                    together, rows, characters = [], 0, 0
                await self._rest(asyncio.get_running_loop().time() - began)
            packed += await self._put(together, starts)
            if self._unswept >= _UNSWEPT:
                await self._sweep()
        return packed

    async def _oldest(self, limits: dict[int, int]) -> dict[int, int]:
        """Return the times of the sensors' oldest rows before their limits, if there are any.

        In the order in which these rows were received.
        """
        found: list[tuple[int, int, int]] = []
        for sensor, until in limits.items():
            began = asyncio.get_running_loop().time()
            oldest = await self._store.chunks.next_unpacked(sensor, LEAST, until)
            if oldest is not None:
                found.append((oldest.id, sensor, oldest.timestamp))
            await self._rest(asyncio.get_running_loop().time() - began)
        return {sensor: timestamp for _, sensor, timestamp in sorted(found)}

    def _most_together(self) -> int:
        """Return after how many rows what was prepared is stored."""
        seconds, least = (
            (_BUSY_SECONDS, _BUSY_ROWS) if self._busy() else (_IDLE_SECONDS, _IDLE_ROWS)
        )
        return min(max(int(self._rows_a_second * seconds), least), _ROWS_TOGETHER)

    async def _prepare(
        self, sensor: int, starts: dict[int, int], until: int, before: int, *, early: bool
    ) -> Prepared | None:
        """Return what of a sensor is packed next, from its start on; None: nothing is left."""
        chunks = self._store.chunks
        count = partial(chunks.rows_between, sensor, limit=FEWEST_ROWS)
        while (oldest := await chunks.next_unpacked(sensor, starts[sensor], until)) is not None:
            time = oldest.timestamp
            piece = await next_piece(count, time - time % HOUR, until, early=early)
            if piece is None:
                # Busier days after it may have ended.
                starts[sensor] = time - time % DAY + DAY
                continue
            with self._telling(sensor, piece.start):
                prepared = await chunks.prepare(sensor, piece.start, piece.end, before=before)
                if prepared is not None:
                    return prepared
            starts[sensor] = piece.end
        return None

    async def _put(self, together: Sequence[Prepared], starts: dict[int, int]) -> int:
        """Store what was prepared; what has changed meanwhile is left for a later run."""
        if not together:
            return 0
        began = asyncio.get_running_loop().time()
        try:
            await self._store.chunks.put(together)
        except ChangedMeanwhileError:
            if len(together) > 1:
                return sum([await self._put([each], starts) for each in together])
            [prepared] = together
            starts[prepared.sensor] = prepared.hot[-1][TIMESTAMP] + 1
            return 0
        if self._months is not None:
            self._months.update(month_of(each.hot[0][TIMESTAMP]) for each in together)
        rows = sum(len(each.hot) for each in together)
        took = asyncio.get_running_loop().time() - began
        self._rows_a_second = rows / max(took, 0.001)
        self.state.packed_total += rows
        self._unswept += rows
        return rows

    @contextlib.contextmanager
    def _telling(self, sensor: int, start: int) -> Iterator[None]:
        try:
            yield
        except ChangedMeanwhileError:
            log.debug("not packed yet", sensor=sensor, start=start)
        except (DamagedChunkError, ValueError) as error:
            if (sensor, start) in self._unpackable:
                return
            self.state.failures_total += 1
            if len(self._unpackable) < _UNPACKABLE_KNOWN:
                self._unpackable.add((sensor, start))
                log.warning("left unpacked", sensor=sensor, start=start, reason=str(error))

    async def _rest(self, took: float) -> None:
        """Leave time to others."""
        if not self._rests:
            return
        share = _BUSY_SHARE if self._busy() else _IDLE_SHARE
        await asyncio.sleep(took * (1 / share - 1))


def _last_time(chunk: SmallChunk) -> int:
    return chunk.last[0]


def _bounded(chunks: Sequence[SmallChunk]) -> Iterator[list[SmallChunk]]:
    """Yield chunks that are merged at once: several, of so many rows together."""
    part: list[SmallChunk] = []
    rows = 0
    for chunk in chunks:
        if rows + chunk.rows > _MERGED_AT_ONCE:
            yield part
            part, rows = [], 0
        part.append(chunk)
        rows += chunk.rows
    if len(part) > 1:
        yield part


def _rolled_up(needed: Needed) -> int:
    """Return before which hour everything is rolled up."""
    mark = GREATEST if needed.mark is None else needed.mark
    backlog = GREATEST if needed.backlog is None else max(needed.backlog, needed.floor)
    return min(needed.frontier // HOUR * HOUR, mark, backlog)

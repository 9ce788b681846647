"""The way from a decoded message to its commit.

    sources ──enqueue──▶ waiting (bounded in bytes) ──▶ batch ──▶ store.write ──▶ settled ──▶ live

One batch is in the writer while the next one gathers; the commit's own duration, not a timer,
sets the size of a batch. A batch that is full is put together while the writer is still at the
one before, so that the database need not wait for it. Nothing is told to be safe before its
commit; what is not committed yet when the process dies was not acknowledged, and comes again.
"""

import asyncio
import contextlib
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from time import monotonic
from typing import Any, Final, Protocol

import structlog

from heliograph.access.registry import Registry
from heliograph.errors import (
    ClaimLostError,
    ErrorCode,
    HeliographError,
    RolledBackError,
    RowError,
    StoreUnavailableError,
    shutting_down,
)
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.batch import (
    IngestIds,
    Message,
    Observe,
    Origin,
    build_batch,
    committed_events,
    give_new_ids,
)
from heliograph.ingest.identity import asks_the_store, drop_repeats, lose_claims
from heliograph.ingest.instance import Instance
from heliograph.ingest.latest_values import LatestValues
from heliograph.ingest.rejections import Rejections
from heliograph.live.hub import Hub
from heliograph.model.histogram import BOUNDS_SECONDS
from heliograph.model.identifiers import INGEST_ID_TIME_BIT
from heliograph.model.records import Kind
from heliograph.model.time import SECOND, now
from heliograph.store import Store
from heliograph.store.actions import DueAction
from heliograph.store.engine import Batch, Unsearched, Written

log = structlog.get_logger()

# Damaged chunks of which it is remembered that they were told.
_UNSEARCHED_KNOWN: Final = 1_000
_is_over = attrgetter("is_over")

# Plain messages of one origin become one, up to so many rows.
MERGED_ROWS = 500
# Less than half of what may be in flight: while one batch is written the next one gathers.
MAXIMUM_BATCH_BYTES = 12 << 20
FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 2.0
# Who waits for the commit of what waits does so no longer.
PASS_SECONDS = 10.0


class Runner(Protocol):
    """What runs actions."""

    @property
    def room(self) -> int:
        """How many more at once."""

    def take(self, claimed: Iterable[DueAction]) -> None:
        """Run what was entered as claimed by this server."""


class Announcer(Protocol):
    """What tells other servers."""

    @property
    def is_alone(self) -> bool:
        """Whether there is none."""

    def committed(self, messages: Sequence[Message]) -> None:
        """Tell of messages that were committed just now."""


class Pipeline:
    """Commits messages in the order in which they come, and tells their origins."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        registry: Registry,
        rejections: Rejections,
        attributes: NewAttributes,
        *,
        maximum_bytes: int,
        instance: Instance | None = None,
    ) -> None:
        self.rejections = rejections
        self.attributes = attributes
        self.state = rejections.state
        self.latest = LatestValues(store)
        # What sees to it that ids are this server's own; None: there is no other one.
        self.instance = instance
        self._has_lost_number = False
        if instance is not None:
            instance.lost.add(self.number_lost)
        self._registry = registry
        self._store = store
        self._hub = hub
        self._maximum_bytes = maximum_bytes
        self._batch_rows = store.batch_rows
        # The newest message that still waits: a plain one of the same origin may join it.
        self._newest: Message | None = None
        # Makes what whoever brings new data is told instead; None: it is taken.
        self.refusal: Callable[[], HeliographError] | None = None
        # Says what rules have to look at of a batch; None: there are none.
        self.observe: Observe | None = None
        # Called after a commit with what rules have to look at, or sensors that sent a status:
        # with the batch, what became of it, and the next batch if that is made.
        self.observed: Callable[[Batch, Written, Batch | None], None] | None = None
        # Runs the actions of packets at once, as far as it has room; None: whoever claims them.
        self.runner: Runner | None = None
        # Told of each transaction: seconds that its first message waited, seconds that it took, its
        # messages and rows. None: nobody asks.
        self.traced: Callable[[float, float, int, int], None] | None = None
        # Tells other servers of what was committed; None: there can be none.
        self.elsewhere: Announcer | None = None
        self._commit_seconds = 0.0
        self._unsearched: set[int] = set()
        # Whether anybody watches what is committed: who begins to says so by `watch`.
        self.watched = False
        self._waiting: deque[Message] = deque()
        self._waiting_rows = 0
        # What is in the writer, and meanwhile the batch after it, if that is full.
        self._writing: list[Message] = []
        self._next: tuple[list[Message], Batch | None] | None = None
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sources: list[tuple[Callable[[], None], Callable[[], None]]] = []
        # Set when a batch is out of the writer; None: nobody waits for that.
        self._written: asyncio.Event | None = None
        self._paused = False
        self._stopping = False

    def add_source(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call `pause` when the pipeline is full, `resume` when there is room again."""
        self._sources.append((pause, resume))

    def enqueue(self, message: Message) -> None:
        """Take a message. Sources that were told to pause may still finish their buffer."""
        if message.is_over:
            self._drop([message])
            return
        self._waiting.append(message)
        self._newest = message
        state = self.state
        state.depth += 1
        state.bytes_in_flight += message.size
        self._waiting_rows += len(message.rows)
        if self._waiting_rows >= self._batch_rows and self._writing and self._next is None:
            self._next = self._prepare()
        if not self._arrived.is_set():
            self._arrived.set()
            self._idle.clear()
        if state.bytes_in_flight >= self._maximum_bytes and not self._paused:
            self._pause()

    def join(
        self, origin: Origin, token: int, kind: Kind, rows: list[tuple[Any, ...]], size: int
    ) -> bool:
        """Let a plain message join the newest that waits, if that is of its kind and origin."""
        newest = self._newest
        if (
            newest is None
            or not newest.merged
            or newest.origin is not origin
            or newest.kind is not kind
            or len(newest.rows) >= MERGED_ROWS
        ):
            return False
        newest.rows += rows
        newest.tokens.append(token)
        newest.size += size
        # Like `enqueue`; the newest waits, so that the writer has been told already.
        state = self.state
        state.depth += 1
        state.bytes_in_flight += size
        self._waiting_rows += len(rows)
        if self._waiting_rows >= self._batch_rows and self._writing and self._next is None:
            self._next = self._prepare()
        if state.bytes_in_flight >= self._maximum_bytes and not self._paused:
            self._pause()
        return True

    def watch(self) -> None:
        """Keep messages apart from now on, for those who watch."""
        self.watched = True

    def check_room(self) -> None:
        """Refuse what asks before it sends (HTTP) while there is no room.

        Raises:
            HeliographError: QUEUE_FULL, DATABASE_UNAVAILABLE, SHUTTING_DOWN, or the refusal.
        """
        if self._stopping:
            raise shutting_down()
        if not self.state.database_available:
            raise HeliographError(
                ErrorCode.DATABASE_UNAVAILABLE, "The database is not available", retry_after=2
            )
        if self.refusal is not None:
            raise self.refusal()
        if self.state.bytes_in_flight >= self._maximum_bytes:
            raise HeliographError(ErrorCode.QUEUE_FULL, "The ingest queue is full", retry_after=1)

    async def run(self) -> None:
        """Commit what comes, for ever."""
        messages: list[Message] = []
        try:
            while True:
                if self._next is None:
                    while not self._waiting:
                        if self._has_lost_number:
                            await self._take_number()
                            continue
                        self._arrived.clear()
                        self._idle.set()
                        await self._arrived.wait()
                    self._next = self._prepare()
                messages, batch = self._next
                self._next = None
                self._writing, is_kept = messages, True
                try:
                    try:
                        await self._write(messages, batch)
                    except RowError as error:
                        await self._divide(messages, error)
                except RolledBackError:
                    is_kept = False
                self._writing = []
                if self._written is not None:
                    self._written.set()
                    self._written = None
                if is_kept:
                    self._settle(messages)
                else:
                    self.state.database_available = True
                    self._drop_counted(messages)
        except Exception:
            self._give_up(messages)
            raise

    async def passed(self, sensors: Collection[int]) -> None:
        """Wait until nothing of these sensors waits for its commit; no more may come in.

        Raises:
            HeliographError: DATABASE_UNAVAILABLE, after a while.
        """
        try:
            async with asyncio.timeout(PASS_SECONDS):
                while any(_is_of(message, sensors) for message in self._uncommitted()):
                    if self._written is None:
                        self._written = asyncio.Event()
                    await self._written.wait()
        except TimeoutError:
            raise HeliographError(
                ErrorCode.DATABASE_UNAVAILABLE, "The database takes too long", retry_after=2
            ) from None

    def _uncommitted(self) -> Iterable[Message]:
        following = self._next[0] if self._next is not None else ()
        return chain(self._writing, following, self._waiting)

    def forget(self) -> None:
        """Drop what waits, and was never acknowledged: its sensors are those of another state."""
        messages = [*(self._next[0] if self._next is not None else ()), *self._waiting]
        self._next, self._newest = None, None
        self._waiting.clear()
        self._waiting_rows = 0
        self.latest.forget_all()
        self._drop_counted(messages)

    def _drop_counted(self, messages: list[Message]) -> None:
        for message in messages:
            self.state.depth -= len(message.tokens)
            self.state.bytes_in_flight -= message.size
        self._drop(messages)
        if self._paused and self.state.bytes_in_flight <= self._maximum_bytes * 3 // 4:
            self._resume()

    def _drop(self, messages: list[Message]) -> None:
        """Report to those who wait that nothing was stored; the others send it again."""
        if not messages:
            return
        count = sum(len(message.tokens) for message in messages)
        self.state.dropped_total += count
        log.warning("messages dropped: the database was put back", count=count)
        for message in messages:
            if message.future is not None and not message.future.done():
                message.future.set_exception(_put_back())

    async def drain(self) -> None:
        """Take nothing new over HTTP and wait until everything that waits is committed."""
        self._stopping = True
        await self._idle.wait()

    def _give_up(self, messages: list[Message]) -> None:
        """Answer those who wait for a commit that will not come: they would delay the end."""
        self._stopping = True
        following = self._next[0] if self._next is not None else ()
        for message in (*messages, *following, *self._waiting):
            if message.future is not None and not message.future.done():
                message.future.set_exception(shutting_down())

    def _prepare(self) -> tuple[list[Message], Batch | None]:
        """Return the next messages, and their batch unless the ledger is to be asked before."""
        asks = False
        waiting = self._waiting
        messages: list[Message] = []
        rows = size = 0
        keys: set[bytes] = set()
        while waiting and rows < self._batch_rows and size < MAXIMUM_BATCH_BYTES:
            message = waiting[0]
            if message.delivery is not None:
                if message.delivery in keys:
                    break  # its first delivery has to be committed before it is looked up
                keys.add(message.delivery)
            messages.append(waiting.popleft())
            asks = asks or (message.extras and asks_the_store(message))
            rows += len(message.rows) + 1
            size += message.size
        self._waiting_rows -= rows - len(messages)
        if not waiting:
            self._newest = None
        change = self._store.lineage.newest
        return messages, None if asks else build_batch(messages, change, observe=self.observe)

    async def _divide(self, messages: list[Message], error: RowError) -> None:
        """Store in halves what the database refuses, down to the message that is at fault."""
        if len(messages) == 1:
            await self._salvage(messages[0], error)
            return
        middle = len(messages) // 2
        for half in (messages[:middle], messages[middle:]):
            try:
                await self._write(half)
            except RowError as refusal:
                await self._divide(half, refusal)

    async def _salvage(self, message: Message, error: RowError) -> None:
        """Store of a single message what the database takes, and keep it as rejected."""
        log.warning("rows refused by the database", kind=message.kind.value, reason=str(error))
        rows, identities = message.rows, dict(message.identities or ())
        good: list[int] = []
        refused: list[tuple[Any, ...]] = []
        for position, row in enumerate(rows):
            message.rows = [row]
            try:
                await self._write([message], probe=True)
            except RowError:
                refused.append(row)
            else:
                good.append(position)
        message.rows = [rows[position] for position in good]
        if message.parts is not None:
            message.parts = [message.parts[position] for position in good]
        message.identities = [
            (at, identities[position]) for at, position in enumerate(good) if position in identities
        ]
        if refused:
            self.rejections.refuse_rows(message, refused)
        else:
            self._unlearn(message)  # the rows were not at fault
        try:
            await self._write([message])
        except RowError as failure:
            await self._save_rows(message, failure)

    async def _save_rows(self, message: Message, error: RowError) -> None:
        """Store the rows without what stands beside them, which must not cost them."""
        self._unlearn(message)
        if message.packet is not None:
            self.rejections.refuse_rows(message, [message.packet])
            message.packet, message.actions = None, ()
        elif message.rejected is not None:
            message.rejected = None
            self.state.rejected_not_kept_total += 1
            log.error("rejected message not stored", reason=str(error))
        try:
            await self._write([message])
        except RowError:
            message.rows = []
            self.state.rejected_not_kept_total += 1
            log.exception("message not stored", kind=message.kind.value)

    def _unlearn(self, message: Message) -> None:
        self.attributes.unlearn(message.attributes)
        message.attributes = ()

    async def _write(  # noqa: C901, PLR0912, PLR0915 - each error of the store has an answer of its own
        self, messages: list[Message], batch: Batch | None = None, *, probe: bool = False
    ) -> None:
        delay = FIRST_RETRY_SECONDS
        tried, runner = False, self.runner
        while True:
            if any(map(_is_over, messages)):
                raise RolledBackError
            try:
                instance = self.instance
                if instance is not None and not instance.held and await instance.hold():
                    self._give_new_ids(instance.ids, () if tried else messages)
                    batch = None
                tried = True
                # A batch that is ready has nothing that the ledger could know.
                is_known = probe or batch is not None
                found = {} if is_known else await self._look_up(messages)
                if any(map(_is_over, messages)):  # since the ledger was asked
                    continue
                change = self._store.lineage.newest
                ready = batch or build_batch(messages, change, observe=self.observe, probe=probe)
                # Its actions run at once if there is room for them.
                ready.runs = runner is not None and 0 < len(ready.actions) <= runner.room
                ready.server = instance.token if instance is not None else ""
                began = monotonic()
                written = await self._store.write(ready)
            except ClaimLostError as lost:
                # Another server has stored what they belong to, and answers for it.
                lose_claims(messages, lost.keys)
                batch = None
                continue
            except RolledBackError:
                # What was read before is forgotten in a moment, and with it the messages of
                # sensors. The others are kept: no state of the database is needed for them.
                batch = None
                self._registry.look()
                await asyncio.sleep(FIRST_RETRY_SECONDS)
                continue
            except StoreUnavailableError as error:
                self._note_outage(error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY_SECONDS)
                continue
            if not self.state.database_available:
                self.state.database_available = True
                log.info("database available again")
            if written.claimed and runner is not None:
                runner.take(DueAction(*(*row, False)) for row in written.claimed)
            if probe:
                return
            seconds = self._commit_seconds = monotonic() - began
            commits = self.state.commits
            commits.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
            commits.seconds += seconds
            if self.observed is not None and (ready.observations or ready.statuses):
                following = None if self._next is None else self._next[1]
                self.observed(ready, written, following)
            written.duplicates.update(found)
            if written.duplicates:
                _assign_duplicates(messages, written.duplicates)
            if written.unsearched:
                self._note_unsearched(written.unsearched)
            if written.flagged:
                _assign_flagged(messages, written.flagged)
            return

    async def _look_up(self, messages: list[Message]) -> dict[int, int]:
        """Find out what the store has to be asked before; return repeats and their originals."""
        for message in messages:
            if message.resolve is not None:
                await message.resolve()
                message.resolve = None
        return await drop_repeats(messages, self._store.deliveries)

    def _note_unsearched(self, chunks: Mapping[int, Unsearched]) -> None:
        """Count what may have been stored twice; say once of each chunk that it can't tell."""
        for number, chunk in chunks.items():
            self.state.possible_repeats_total += chunk.rows
            if number not in self._unsearched and len(self._unsearched) < _UNSEARCHED_KNOWN:
                self._unsearched.add(number)
                log.warning(
                    "chunk damaged, repeats of it are stored", chunk=number, reason=chunk.reason
                )

    def _note_outage(self, error: StoreUnavailableError) -> None:
        if self.state.database_available:
            self.state.database_available = False
            log.error("database unavailable", reason=str(error))

    def number_lost(self) -> None:
        """Take a number of this server's own, though there may be nothing to commit."""
        self._has_lost_number = True
        self._arrived.set()

    async def _take_number(self) -> None:
        self._has_lost_number = False
        instance = self.instance
        # Without the database it is tried with the next renewal, or the next commit.
        with contextlib.suppress(StoreUnavailableError):
            if instance is not None and not instance.held and await instance.hold():
                self._give_new_ids(instance.ids, ())

    def _give_new_ids(self, ids: IngestIds, messages: Sequence[Message]) -> None:
        """Give new ids to messages that are to be written, and to all that wait behind them."""
        following = self._next[0] if self._next is not None else []
        give_new_ids((*messages, *following, *self._waiting), ids, now())
        if self._next is not None:
            asks = any(map(asks_the_store, following))
            change = self._store.lineage.newest
            ready = None if asks else build_batch(following, change, observe=self.observe)
            self._next = following, ready

    def _settle(  # noqa: C901, PLR0912 - what follows a commit, in its order
        self, messages: list[Message]
    ) -> None:
        state = self.state
        state.commits_total += 1
        state.last_commit_at = state.last_message_at = moment = now()
        waited = 0.0
        if oldest := messages[0].rows:
            # Its id was made on its receipt; a clock may have been set back since.
            waited = max(moment - (oldest[0][0] >> INGEST_ID_TIME_BIT) * 1_000, 0) / SECOND
            state.waits.counts[bisect_left(BOUNDS_SECONDS, waited)] += 1
            state.waits.seconds += waited
        # Before anybody hears of the commit: who does will find it there.
        self.latest.note(messages)
        answers: dict[Origin, list[Message]] = {}
        count = size = rows = 0
        newest: list[tuple[Any, ...]] = []
        for message in messages:
            count += len(message.tokens)
            size += message.size
            rows += len(message.rows)
            if message.duplicates:
                state.duplicates_total += len(message.duplicates)
            if message.untimed and message.dropped is None:
                repeats = message.duplicates or {}
                for row in message.rows:
                    state.retimed_total += row[6] is not None and row[0] not in repeats
            newest = message.rows or newest
            origin = message.origin
            if origin in answers:
                answers[origin].append(message)
            else:
                answers[origin] = [message]
        state.messages_total += count
        state.rows_total += rows
        state.bytes_total += size
        if self.traced is not None:
            self.traced(waited, self._commit_seconds, count, rows)
        state.depth -= count
        state.bytes_in_flight -= size
        if newest:
            state.newest_id = newest[-1][0]
        for origin, settled in answers.items():
            origin.settled(settled)
        if self.elsewhere is not None and not self.elsewhere.is_alone:
            self.elsewhere.committed(messages)
        if self.watched:
            self.watched = self._hub.wanted
            self._hub.publish(committed_events(messages, self._registry.number))
        if self._paused and state.bytes_in_flight <= self._maximum_bytes * 3 // 4:
            self._resume()

    def _pause(self) -> None:
        self._paused = True
        for pause, _ in self._sources:
            pause()

    def _resume(self) -> None:
        self._paused = False
        for _, resume in self._sources:
            resume()


def _is_of(message: Message, sensors: Collection[int]) -> bool:
    """Return whether a message may be of one of the sensors."""
    if message.resolve is not None:
        return True  # nobody has looked yet
    if message.packet is not None and message.packet[1] in sensors:
        return True
    if message.parts is not None:
        return any(part.number in sensors for part in message.parts)
    return message.sensor is not None and message.sensor.number in sensors


def _put_back() -> HeliographError:
    return HeliographError(
        ErrorCode.DATABASE_UNAVAILABLE, "The database was put back to another state", retry_after=2
    )


def _assign_flagged(messages: list[Message], flagged: set[int]) -> None:
    for message in messages:
        if message.kind is Kind.HEARTBEAT:
            message.flagged = flagged


def _assign_duplicates(messages: list[Message], duplicates: dict[int, int]) -> None:
    for message in messages:
        for row in (*message.rows, message.packet) if message.packet else message.rows:
            if row[0] in duplicates:
                if message.duplicates is None:
                    message.duplicates = {}
                message.duplicates[row[0]] = duplicates[row[0]]

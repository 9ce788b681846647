"""What the store needs of a database."""

import contextlib
import dataclasses
import enum
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from heliograph.errors import AlreadyExistsError
from heliograph.model.records import (
    ID,
    SENSOR,
    TIMESTAMP,
    ActionRow,
    AttributeRow,
    DeliveryRow,
    HeartbeatRow,
    LogRow,
    MeasurementRow,
    ObservationRow,
    PacketRow,
    RejectedRow,
    StatusRow,
)
from heliograph.model.time import HOUR, MINUTE, now

Row: TypeAlias = Sequence[Any]
T = TypeVar("T")

# Several instances write to PostgreSQL, and one rolls up what is older than LAG. What is older
# than LATE when a write begins is marked; between the two lies the time that a write takes at
# most (30 seconds for a statement, as much for its commit) and what clocks may differ by.
LATE = 3 * MINUTE
LAG = 5 * MINUTE

_encode = msgspec.json.Encoder().encode
_key = itemgetter(1, 2, 3)


def json_text(value: Any) -> str:
    """Return the value as JSON: how several values are one parameter of a query."""
    return _encode(value).decode()


def narrowed(names: Collection[str] | None) -> str | None:
    """Return what narrows a query to these; None: it is not narrowed."""
    return None if names is None else json_text(names)


class Drop(enum.Enum):
    """What became of a partition that was to be dropped."""

    DROPPED = "dropped"
    KEPT = "kept"  # there is something in it that is not due
    BUSY = "busy"  # somebody has used the table for too long


class RegistryChange(NamedTuple):
    """A change of the registry: its number, and a random token that no other one has.

    A database that is put back to an earlier state counts on from there, and may come to the same
    version by other changes, with other sensors under the numbers that are in memory.
    """

    version: int
    token: str


class Lineage:
    """The change up to which the registry is known; None: nothing is kept in memory of it.

    Every transaction that writes makes sure that the database has had this change.
    """

    def __init__(self) -> None:
        self.newest: RegistryChange | None = None
        self._pinned: ContextVar[RegistryChange | None] = ContextVar("change", default=None)

    @property
    def known(self) -> RegistryChange | None:
        """The change that what is written now has to be based on."""
        return self._pinned.get() or self.newest

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Base all that this task writes within on what is known now.

        What was found before the database was put back is not written after it.
        """
        token = self._pinned.set(self._pinned.get() or self.newest)
        try:
            yield
        finally:
            self._pinned.reset(token)

    def pin(self) -> None:
        """Do so for the rest of the task."""
        self._pinned.set(self.newest)


class Lateness:
    """What is older than `floor` is late: the frontier, or where it is about to be."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: other instances may move the frontier too."""
        self.floor = 0
        self._shared = shared

    def raise_floor(self, floor: int) -> None:
        """Take everything before for late, in every write that begins from now on."""
        self.floor = max(self.floor, floor)

    def late_hours(
        self, rows: Sequence[MeasurementRow], repeats: Collection[int] = ()
    ) -> list[tuple[int, int]]:
        """Return each sensor and hour of late rows, repeats aside, for a write that begins now."""
        before = max(self.floor, now() - LATE) if self._shared else self.floor
        # Sorting tuples takes five times as long; rows come sorted.
        hours: dict[tuple[int, int], None] = {}
        for row in rows:
            if row[TIMESTAMP] < before and row[ID] not in repeats:
                hours[row[SENSOR], row[TIMESTAMP] - row[TIMESTAMP] % HOUR] = None
        return list(hours)


@dataclasses.dataclass(slots=True)
class Batch:
    """Rows of one transaction: all of them are committed, or none is.

    `claims` are keys of the ledger that the batch must have to itself; `deliveries` are entered
    there too, but take the place of older ones. `answers` returns the entries whose answers have
    to change, once it is known which rows repeat which. A batch that is a `trial` is rolled back:
    it only shows whether its rows can be stored.
    """

    measurements: list[MeasurementRow] = dataclasses.field(default_factory=list)
    logs: list[LogRow] = dataclasses.field(default_factory=list)
    heartbeats: list[HeartbeatRow] = dataclasses.field(default_factory=list)
    rejected: list[RejectedRow] = dataclasses.field(default_factory=list)
    statuses: list[StatusRow] = dataclasses.field(default_factory=list)
    deliveries: list[DeliveryRow] = dataclasses.field(default_factory=list)
    claims: list[DeliveryRow] = dataclasses.field(default_factory=list)
    answers: Callable[[dict[int, int]], list[DeliveryRow]] | None = None
    trial: bool = False
    # The change of the registry that the rows' sensors were found by; None: the newest known.
    change: tuple[int, str] | None = None
    attributes: list[AttributeRow] = dataclasses.field(default_factory=list)
    packets: list[PacketRow] = dataclasses.field(default_factory=list)
    # Entered only where the packet, or the row, is stored by this batch; `runs`: as claimed, to be
    # run by whoever stores them, the server of this token.
    actions: list[ActionRow] = dataclasses.field(default_factory=list)
    runs: bool = False
    server: str = ""
    observations: list[ObservationRow] = dataclasses.field(default_factory=list)

    def sort(self) -> None:
        """Put telemetry rows in the order of their keys.

        So each page of the unique index is sought once a batch: with 10,000 sensors that saves
        two fifths of SQLite's time and most of its cache. And two instances that store the same
        rows do not wait for one another crosswise.
        """
        for rows in (self.measurements, self.logs, self.heartbeats):
            rows.sort(key=_key)


class Unsearched(NamedTuple):
    """A damaged chunk: how many rows may repeat what is in it, as far as can be told; and why."""

    rows: int
    reason: str


@dataclasses.dataclass(slots=True)
class Written:
    """What a committed batch came to.

    `duplicates` maps the id of each row that was dropped as a repeat to the id of the row
    that was stored before it. Rows that are not in it were inserted. `flagged` are the ids of
    heartbeats that name a revision which does not exist. `observed` are rule and sensor of the
    observations that were stored or had been; None: that is not known. `claimed` are the batch's
    actions that were entered, as claimed. `unsearched` are damaged chunks, by their ids.
    """

    duplicates: dict[int, int] = dataclasses.field(default_factory=dict)
    flagged: set[int] = dataclasses.field(default_factory=set)
    observed: set[tuple[str, int]] | None = None
    claimed: Sequence[Row] = ()
    unsearched: dict[int, Unsearched] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class RollupChange:
    """Nothing of it is stored unless the rollups' generation is still the one given.

    It is raised by that: whatever was read before, of raw rows or rollups, may be out of date.
    """

    generation: int
    # Sensor, level, start, packed; None: deleted.
    rollups: list[tuple[int, int, int, bytes | None]] = dataclasses.field(default_factory=list)
    # Ids of marks that are done.
    marks: list[int] = dataclasses.field(default_factory=list)
    # Sensor, start, and what the end is now.
    backlog: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    # Where the frontier is moved to.
    frontier: int | None = None


class Transaction(NamedTuple):
    """An open transaction: committed when its block ends, rolled back when it raises.

    `fetch` runs a named query with its parameters and returns the rows. `run` is for several
    queries in a row: it returns what a function makes of the transaction, see `Engine.change`.
    """

    fetch: Callable[..., Awaitable[Sequence[Row]]]
    run: Callable[[Callable[["Transaction"], Awaitable[Any]]], Awaitable[Any]]


Work: TypeAlias = Callable[[Transaction], Awaitable[T]]


class Signals(Protocol):
    """A connection by which servers on one database tell each other what is new.

    What is sent while a server is not connected is lost for it.
    """

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""

    async def open(self, heard: Callable[[int, str], None]) -> None:
        """Connect, and call `heard` with each text that another server sends, and its sender."""

    async def lost(self) -> None:
        """Return when there is no connection any more."""

    async def send(self, texts: Sequence[str]) -> None:
        """Send texts of less than 8,000 bytes, no two of which may be alike."""

    async def close(self) -> None:
        """Close it."""


class Engine(Protocol):
    """A database. Each instance writes over one connection, in the order of the calls.

    Everything raises `StoreUnavailableError` while the database can't be used, and works again
    by itself once it can. What raised it may be repeated: what had been committed after all is
    found by its ids. What writes raises `RolledBackError` after the database was put back, until
    `lineage` is of the state that it has now.
    """

    name: str
    """`sqlite` or `postgresql`."""
    batch_rows: int
    """The rows a commit beyond which more do not make a row cheaper."""
    lateness: Lateness
    """Which measurements a write marks as late, for their hours to be rolled up anew."""
    lineage: Lineage
    """The change of the registry that all writing has to be based on."""
    signals: Signals | None
    """What tells other servers; None: there are none."""

    async def follow(self) -> None:
        """Go over to another database that was put in place of the one that is open."""

    async def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call, where nobody should."""

    async def renew(self) -> None:
        """Open all connections anew: what is known by them is of another state."""

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query that reads, beside the writer, and return its rows."""

    async def change(self, work: Work[T]) -> T:
        """Do work in a transaction, commit it, and return what it returns.

        It may wait for nothing but the transaction's queries. On SQLite all of it runs in the
        writer's thread, on PostgreSQL in the event loop: so it neither blocks for long, nor uses
        what belongs to the loop. Cancelled, it may go on to its end, and be committed.

        Raises:
            AlreadyExistsError: a unique name is taken.
            RowError: a value can't be stored.
            Exception: what the work raises; nothing is changed then.
        """

    async def run_alone(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query that writes, and is a transaction by itself, beside all others.

        A server that stands still in the middle of it has not begun it, or it is committed.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction that may write, and holds the writer until the block ends.

        For what waits for something else too: on SQLite each query goes to the writer's thread
        and back, while all others who write wait. It raises what `change` does.
        """

    async def write(self, batch: Batch) -> Written:
        """Commit a batch whole, or nothing of it, and tell which rows were repeats.

        Unless `Batch.sort` has put its rows in order it takes longer, and may have to be repeated.

        Raises:
            RowError: it holds a row that the database refuses for what it says.
            ClaimLostError: it holds keys that are another message's in the ledger by now.
        """

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries not expired, as the writer sees them."""

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Drop a month of measurements or logs, unless a row of it is not due at the moment."""

    async def drop_empty_partition(self, table: str, month: int) -> Drop:
        """Drop a month of measurements, unless it has a row."""

    async def used(self) -> int:
        """Return the bytes that what is stored takes: live pages, and the log of writes."""

    async def empty_log(self) -> None:
        """Give the room back that the log of writes takes, where it lies beside the database."""

    async def shorten(self) -> bool:
        """Give the file system a little of what was deleted back; return whether there is more.

        Not what new rows take soon, nor where the database can't: then there is nothing.
        """

    async def sweep(self) -> bool:
        """Delete some rows of what was packed, if any are left; return whether there may be more.

        Nobody sees them any more.
        """

    async def compact(self) -> None:
        """Write the file anew without the room that nothing takes: for as long as that lasts."""

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return id, sensor and hour of marks up to this id, oldest first.

        What comes late from now on is marked anew, under other ids.
        """

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change whole; False: rollups have changed since what it was made from."""

    async def ping(self) -> None:
        """Return when the database answers, or raise after a short time."""

    async def close(self) -> None:
        """Let the running calls end, then close every connection."""


class Subject:
    """One subject of the store, over the engine.

    `make` is called with the columns of a row, and returns what is to be had of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _one(self, make: Callable[..., T], query: str, **parameters: Any) -> T | None:
        """Return what a named query reads first; None: nothing."""
        rows = await self._engine.fetch(query, **parameters)
        return make(*rows[0]) if rows else None

    async def _all(self, make: Callable[..., T], query: str, **parameters: Any) -> list[T]:
        """Return what a named query reads."""
        return [make(*row) for row in await self._engine.fetch(query, **parameters)]

    async def _page(
        self, make: Callable[..., T], subject: str, which: dict[str, Any], **page: Any
    ) -> tuple[list[T], int]:
        """Return a page of a subject's rows, and how many there are, without its limits."""
        found = await self._all(make, f"{subject}_list", **which, **page)
        [(count,)] = await self._engine.fetch(f"{subject}_count", **which)
        return found, count

    async def _write(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query in a transaction of its own, and return its rows."""
        return await self._engine.change(lambda transaction: transaction.fetch(query, **parameters))

    async def _make(self, find: str, identifier: str, work: Work[T]) -> T:
        """Do work in a transaction that makes a thing of this identifier.

        Of several names that are taken, the engines come upon different ones first: it is told
        that the identifier is, if the query `find` finds it.

        Raises:
            AlreadyExistsError: the field's value is taken.
        """
        try:
            return await self._engine.change(work)
        except AlreadyExistsError as error:
            if error.field != "identifier" and await self._engine.fetch(
                find, identifier=identifier.lower()
            ):
                raise AlreadyExistsError("identifier") from error
            raise

    async def _prune(self, query: str, limit: int, **parameters: Any) -> int:
        """Delete rows by a named query, up to `limit` at a time; return how many there were."""
        pruned, found = 0, limit
        while found == limit:
            found = len(await self._write(query, limit=limit, **parameters))
            pruned += found
        return pruned

"""The engine for PostgreSQL 13 and later: connections that write, a pool that reads.

Batches of what devices send have one to themselves, changes of all else another: so neither waits
for the other in the process. In the database they do as two servers' would. A third one, opened
when it is needed, has single statements that wait for neither.

From the bottom up: connections and their errors, the writer, the engine. A batch is written so:

keys of the ledger, if the batch has any: claimed first, or all of it is rolled back
a repeat of what came lately, or a violation in the last ten seconds?
    no ──▶ COPY into the table, within a savepoint ──▶ unique violation: roll back to it
    yes ─▶ COPY into a staging table ──▶ INSERT … ON CONFLICT DO NOTHING        │
                    ▲────────────────────────────────────────────────────────────┘
"""

import asyncio
import functools
import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import asyncpg

from heliograph.database_url import DatabaseUrl
from heliograph.errors import (
    AlreadyExistsError,
    ClaimLostError,
    DatabaseAwayError,
    DutyLostError,
    RolledBackError,
    RowError,
    StartError,
    StoreUnavailableError,
)
from heliograph.model.records import DeliveryRow, HeartbeatRow
from heliograph.model.time import now as wall_time
from heliograph.store.batches import (
    TELEMETRY,
    acknowledged,
    claimed_until,
    ledger_entries,
    lost_keys,
    naming_a_revision,
    newest_statuses,
    revision_keys,
    with_element_ids,
)
from heliograph.store.engine import (
    Batch,
    Drop,
    Engine,
    Lateness,
    Lineage,
    RollupChange,
    Row,
    Signals,
    Transaction,
    Work,
    Written,
    json_text,
)
from heliograph.store.fencing import FENCE
from heliograph.store.packed_repeats import PackedRepeats
from heliograph.store.partitions import Partitions
from heliograph.store.pool import Pool
from heliograph.store.postgresql_signals import PostgresqlSignals
from heliograph.store.queries import Query, load_queries

OLDEST_POSTGRESQL = 13

T = TypeVar("T")

READERS = 4
PLANNERS = 3
PING_SECONDS = 2.0
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 30.0
READ_SECONDS = 30.0
# A link that is silent is taken for lost so soon: others look at the tables then.
SIGNAL_SECONDS = 5.0
LOCK_SECONDS = 10.0
CLOSE_SECONDS = 5.0

# Data exceptions, violated constraints, limits exceeded: the row's fault. All others (no disk
# space, shutting down, deadlock, time-out, read only) say nothing against the row.
# What `check_registry` raises.
_ROLLED_BACK = "HG001"
_ROW_CLASSES = frozenset({"22", "23", "54"})

# jit: compiling a query of a few rows takes longer than running it.
_SETTINGS = {"jit": "off", "timezone": "UTC", "idle_in_transaction_session_timeout": "60000"}
_LONGEST_NAME = 63
_WRITER_SETTINGS = {
    **_SETTINGS,
    "application_name": "heliograph writer",
    # Each commit is on the disk before it is acknowledged, whatever the server's default.
    "synchronous_commit": "on",
    "statement_timeout": f"{WRITE_SECONDS * 1_000:.0f}",
    "lock_timeout": f"{LOCK_SECONDS * 1_000:.0f}",
}
_READER_SETTINGS = {
    **_SETTINGS,
    "application_name": "heliograph reader",
    "default_transaction_read_only": "on",
    "statement_timeout": f"{READ_SECONDS * 1_000:.0f}",
}
_SIGNAL_SETTINGS = {
    **_SETTINGS,
    "application_name": "heliograph signals",
    # What is told is lost with the server that hears it: no disk has to have it.
    "synchronous_commit": "off",
}


async def connect_writer(dsn: str) -> Any:
    """Open the connection that writes; errors are the driver's."""
    # Which process it is, for who looks at the connections; names longer than this are cut.
    process = f"{os.getpid()}@{socket.gethostname()}"
    name = f"{_WRITER_SETTINGS['application_name']} {process}"[:_LONGEST_NAME]
    return await _connect(dsn, WRITE_SECONDS, {**_WRITER_SETTINGS, "application_name": name})


async def connect_reader(dsn: str, *, plans: bool = False) -> Any:
    """Open a connection that reads; errors are the driver's.

    `plans`: each query is planned by itself. What narrows only by the parameters that are given, or
    reads a table that was empty when it was planned, would else read all rows. To plan each page
    over all partitions takes longer than reading it.
    """
    mode = {"plan_cache_mode": "force_custom_plan" if plans else "force_generic_plan"}
    return await _connect(dsn, READ_SECONDS, _READER_SETTINGS | mode)


async def _connect(dsn: str, seconds: float, settings: dict[str, str]) -> Any:
    return await asyncpg.connect(
        dsn, timeout=CONNECT_SECONDS, command_timeout=seconds, server_settings=settings
    )


async def hold_duty(connection: Any, queries: dict[str, Query]) -> None:
    """Make sure of the duty under which this transaction is, to its end; errors are the driver's.

    Raises:
        DutyLostError: it is another server's.
    """
    fence = FENCE.get()
    if fence is not None:
        query = queries["duty_hold"]
        if not await connection.fetch(query.sql, *arguments(query, fence._asdict())):
            raise DutyLostError(fence.duty)


async def disconnect(connection: Any) -> None:
    """Close a connection, whatever state it is in."""
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ):
        connection.terminate()


def arguments(query: Query, parameters: dict[str, Any]) -> list[Any]:
    """Return the parameters in the order of their placeholders."""
    return [parameters[name] for name in query.parameters]


def translate(error: Exception) -> Exception:
    """Return what the store raises for an error of the driver."""
    if isinstance(error, RowError | StoreUnavailableError | AlreadyExistsError | ClaimLostError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        if str(error.sqlstate) == _ROLLED_BACK:
            return RolledBackError(f"PostgreSQL: {error}")
        if str(error.sqlstate)[:2] in _ROW_CLASSES:
            return RowError(str(error))
    elif isinstance(error, OverflowError | ValueError | TypeError) and not isinstance(
        error, OSError
    ):
        # What the driver can't encode; its own DataError is a ValueError. (So is a certificate
        # that doesn't verify, but that is no fault of a row.)
        return RowError(str(error))
    return unavailable(error)


def unavailable(error: Exception) -> StoreUnavailableError:
    """Return the error as one of the database, not of a row."""
    return StoreUnavailableError(f"PostgreSQL: {str(error) or type(error).__name__}")


def taken_field(error: Exception) -> str | None:
    """Return the member whose unique value is taken: the constraints are named after them."""
    if not isinstance(error, asyncpg.UniqueViolationError):
        return None
    name = str(error.constraint_name or "")
    table = f"{error.table_name}_"
    if not (name.startswith(table) and name.endswith("_unique")):
        return None
    return name[len(table) : -len("_unique")]


KEYS_A_GENERATION = 50_000

_key = itemgetter(1, 2, 3)


class RecentKeys:
    """Tells rows that are likely repeats, without asking the database.

    Holds the hashes of the last 50,000 to 100,000 keys: 10 MiB at most. A wrong suspicion
    costs a slower way to store a batch, a repeat that is too old a rolled back savepoint.
    """

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._old: set[int] = set()

    def suspect(self, keys: Iterable[int]) -> bool:
        """Return whether one of the keys was remembered."""
        keys = keys if isinstance(keys, set) else set(keys)
        return not (keys.isdisjoint(self._new) and keys.isdisjoint(self._old))

    def remember(self, keys: Iterable[int]) -> None:
        """Remember keys of rows that are committed now."""
        if len(self._new) >= KEYS_A_GENERATION:
            self._new, self._old = set(), self._new
        self._new.update(keys)


def keys_of(rows: Iterable[tuple[Any, ...]]) -> set[int]:
    """Return the hashes of the rows' (sensor, timestamp, fingerprint)."""
    return set(map(hash, map(_key, rows)))


# After a violation more repeats are likely, and each would cost a COPY that is thrown away.
STAGING_SECONDS = 10.0
# For so long the keys of new rows are remembered then. Where nothing ever comes twice, to keep them
# would be a tenth of the work.
WATCHING_SECONDS = 600.0
# Rows that may lie dead in a staging table, where nothing vacuums, before it is truncated. To
# truncate it at each commit would cost four times as much as the commit.
DEAD_ROWS = 20_000

# A write that has taken longer is given up before its commit: it has judged by its beginning
# which rows are late, see `Lateness`.
LONGEST_WRITE_SECONDS = 60.0


class _Load(NamedTuple):
    """The rows of a batch for one table, and the columns that they have."""

    table: str
    rows: list[Any]
    columns: tuple[str, ...]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _load(table: str, rows: list[Any]) -> _Load:
    columns = TELEMETRY[table]
    if max(map(len, rows)) > len(columns):
        rows = with_element_ids(rows, len(columns))
        columns = (*columns, "element_id")
    return _Load(table, rows, columns)


class PostgresqlWriter:
    """Writes batches. The caller lets in one at a time.

    After any error but a row's the connection is closed; the next call opens it anew.
    """

    def __init__(self, dsn: str, queries: dict[str, Query], lateness: Lateness) -> None:
        self._dsn = dsn
        self._queries = queries
        self._lateness = lateness
        self._connection: Any = None
        # The time-out of the COPY that goes on.
        self._copying: asyncio.Timeout | None = None
        self._closed = False
        self._has_staging = False
        self._knows_frontier = False
        # The change that the connection bases its writing on.
        self._known: tuple[int, str] | None = None
        self._dead: dict[str, int] = {}
        self.partitions = Partitions(queries)
        self._recent = RecentKeys()
        self._repeats = PackedRepeats()
        self._staging_until = 0.0
        self._watching_until = 0.0

    async def open(self) -> Any:
        """Return the connection, opened if it isn't.

        Raises:
            StoreUnavailableError: it can't be opened.
        """
        if self._closed:
            raise StoreUnavailableError("PostgreSQL: the store is closed")
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await connect_writer(self._dsn)
            except Exception as error:
                raise unavailable(error) from error
            self._connection.add_termination_listener(self._lost)
            self._has_staging = False
            self._knows_frontier = False
            self._known = None
        return self._connection

    def _lost(self, connection: Any) -> None:
        if connection is self._connection and self._copying is not None:
            self._copying.reschedule(asyncio.get_running_loop().time())

    async def begin(self, known: tuple[int, str] | None) -> None:
        """Begin a transaction based on this change of the registry; errors are the driver's."""
        await self._base_on(known)
        await self._begin()
        await hold_duty(self._connection, self._queries)

    async def _begin(self, batch: Batch | None = None) -> None:
        """Begin the transaction, and claim what the batch has to have to itself.

        Before any row, so that nothing was copied in vain where another server has it.
        """
        # One round trip.
        check = "; SELECT check_registry()" if self._known is not None else ""
        await self._connection.execute(f"BEGIN{check}")
        if batch is not None and (batch.claims or batch.deliveries):
            await self._enter(self._connection, ledger_entries(batch), batch.claims)

    async def _base_on(self, known: tuple[int, str] | None) -> None:
        """Have triggers check that the database has had this change of the registry."""
        if known != self._known:
            change = "" if known is None else f"{known[0]} {known[1]}"
            await self._connection.fetchval(
                "SELECT set_config('heliograph.registry_change', $1, false)", change
            )
            self._known = known

    async def renew(self) -> None:
        """Close the connection, and forget what is known by it; the next call opens it anew."""
        self.partitions.forget()
        self._recent = RecentKeys()
        self._repeats = PackedRepeats()
        await self._disconnect()

    async def write(self, batch: Batch, based_on: tuple[int, str] | None = None) -> Written:
        """Commit a batch based on this change of the registry; see `Engine.write`."""
        async with self.using() as connection:
            await self._base_on(based_on)
            loads = [
                _load(table, rows)
                for table, rows in (
                    ("measurement", batch.measurements),
                    ("log", batch.logs),
                    ("heartbeat", batch.heartbeats),
                )
                if rows
            ]
            try:
                return await self._write(connection, loads, batch)
            except asyncpg.CheckViolationError as error:
                if error.constraint_name is not None:
                    raise
            # No partition takes a row: one that is known here was dropped.
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            self.partitions.forget()
            return await self._write(connection, loads, batch)

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Any]:
        """Give the connection; what fails is rolled back, and raised as the store raises it."""
        try:
            yield await self.open()
        except BaseException as error:
            known = await self.abandon(error)
            if isinstance(error, Exception):
                raise known from error
            raise

    async def abandon(self, error: BaseException) -> Exception:
        """Roll back what was begun; return what the store raises for the error."""
        known = translate(error) if isinstance(error, Exception) else None
        connection = self._connection
        if connection is None:
            return known or StoreUnavailableError(str(error))
        if known is not None and not isinstance(known, StoreUnavailableError):
            try:
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
            except Exception as failure:  # noqa: BLE001 - whatever it is, the connection is done for
                known = StoreUnavailableError(f"PostgreSQL: {failure}")
            else:
                return known
        # After a lost link, a time-out or a cancelled call nobody knows what it is in.
        self._connection = None
        connection.terminate()
        return known or StoreUnavailableError(str(error))

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await disconnect(connection)

    async def _write(  # noqa: C901, PLR0912 - the steps of one transaction, in their order
        self, connection: Any, loads: list[_Load], batch: Batch
    ) -> Written:
        for table, rows, _ in loads:
            if table != "heartbeat":
                await self.partitions.ensure(connection, table, rows)
        now = asyncio.get_running_loop().time()
        late = await self._late(connection, batch) if batch.measurements else []
        keys, repeats = self._suspected(loads, now)
        heartbeats = naming_a_revision(batch.heartbeats) if batch.heartbeats else []
        others = bool(
            batch.rejected
            or batch.deliveries
            or batch.claims
            or batch.statuses
            or batch.attributes
            or batch.packets
            or batch.observations
            or heartbeats
        )
        written = Written()
        if not loads and not others:
            return written
        if repeats or now < self._staging_until:
            copied = False
        else:
            # A single COPY is a transaction by itself, two round trips shorter.
            whole = len(loads) == 1 and not others and not late and not batch.trial
            copied = await self._copy(connection, loads, batch, whole=whole)
            if not copied:
                self._staging_until = now + STAGING_SECONDS
                self._watching_until = now + WATCHING_SECONDS
        if not copied:
            await self._stage(connection, loads, batch, written.duplicates)
        if late:
            fetch = functools.partial(self._fetch, connection)
            await self._repeats.drop(fetch, batch.measurements, late, written)
        if others:
            await self._write_others(connection, batch, written)
        if heartbeats:
            written.flagged = await self._acknowledge(connection, heartbeats)
        if late and written.duplicates:
            late = self._lateness.late_hours(batch.measurements, written.duplicates)
        if late:
            await connection.execute(self._queries["touched_add"].sql, *_columns(late))
        if written.duplicates and batch.answers and (rows := batch.answers(written.duplicates)):
            await self._enter(connection, sorted(rows), rows)
        if connection.is_in_transaction():
            if asyncio.get_running_loop().time() - now > LONGEST_WRITE_SECONDS:
                raise StoreUnavailableError("PostgreSQL: writing a batch took too long")
            end = "COMMIT" if copied else self._clear_staging(loads)
            await connection.execute("ROLLBACK" if batch.trial else end)
        if not batch.trial:
            self._recent.remember(keys)
        return written

    def _suspected(self, loads: list[_Load], now: float) -> tuple[set[int], bool]:
        """Return the rows' keys, if they are watched, and whether some are likely to be repeats."""
        keys: set[int] = set()
        if now >= self._watching_until:
            return keys, False
        for load in loads:
            keys |= keys_of(load.rows)
        count = sum(len(load.rows) for load in loads)
        return keys, len(keys) < count or self._recent.suspect(keys)

    async def _late(self, connection: Any, batch: Batch) -> list[tuple[int, int]]:
        """Return the sensors and hours that are to be marked as touched by late rows."""
        if not self._knows_frontier:
            frontier, *_ = await connection.fetchrow(self._queries["rollup_state"].sql)
            self._lateness.raise_floor(frontier)
            self._knows_frontier = True
        return self._lateness.late_hours(batch.measurements)

    async def _enter(
        self, connection: Any, entries: Sequence[DeliveryRow], claims: Sequence[DeliveryRow]
    ) -> None:
        columns = _columns(entries)
        keys, moment = [row[0] for row in claims], wall_time()
        entered = await connection.execute(
            self._queries["deliveries_store"].sql, *columns, moment, keys
        )
        if int(entered.rpartition(" ")[2]) < len(entries):
            sql = self._queries["deliveries_find"].sql
            raise ClaimLostError(
                lost_keys(entries, await connection.fetch(sql, columns[0], moment))
            )

    async def _copy(
        self, connection: Any, loads: list[_Load], batch: Batch, *, whole: bool
    ) -> bool:
        """Copy into the tables; False if that met a repeat and was rolled back."""
        if not whole:
            await self._begin(batch)
        try:
            for table, rows, columns in loads:
                await self._copy_rows(connection, table, rows, columns)
        except asyncpg.UniqueViolationError:
            if not whole:
                await connection.execute("ROLLBACK")
            return False
        return True

    async def _copy_rows(
        self, connection: Any, table: str, rows: list[Any], columns: Sequence[str]
    ) -> None:
        # The driver's own time-out doesn't end its wait for room on the link, and neither does
        # the loss of the link: it would wait for ever.
        try:
            async with asyncio.timeout(WRITE_SECONDS) as self._copying:
                await connection.copy_records_to_table(table, records=rows, columns=columns)
        except TimeoutError as error:
            raise StoreUnavailableError("PostgreSQL: the link takes no more data") from error
        finally:
            self._copying = None

    async def _stage(
        self, connection: Any, loads: list[_Load], batch: Batch, duplicates: dict[int, int]
    ) -> None:
        """Store what is not stored yet; add id and stored id of the repeats."""
        if not self._has_staging:
            # Before the transaction, which might be rolled back.
            for table in TELEMETRY:
                await connection.execute(
                    f"CREATE TEMPORARY TABLE IF NOT EXISTS {table}_staging (LIKE {table})"
                )
            self._has_staging = True
        await self._begin(batch)
        for table, rows, columns in loads:
            self._dead[table] = self._dead.get(table, 0) + len(rows)
            await self._copy_rows(connection, f"{table}_staging", rows, columns)
            inserted = await connection.fetch(self._queries[f"{table}_insert_staged"].sql)
            if len(inserted) < len(rows):
                stored = {row_id for (row_id,) in inserted}
                dropped = [row for row in rows if row[0] not in stored]
                await self._find_earlier(connection, table, dropped, duplicates)

    def _clear_staging(self, loads: list[_Load]) -> str:
        """Return what empties the staging tables and commits, in one round trip."""
        commands: list[str] = []
        for table, _, _ in loads:
            if self._dead[table] > DEAD_ROWS:
                commands.append(f"TRUNCATE {table}_staging")
                self._dead[table] = 0
            else:
                commands.append(f"DELETE FROM {table}_staging")  # noqa: S608 - our own names
        return "; ".join([*commands, "COMMIT"])

    async def _find_earlier(
        self, connection: Any, table: str, rows: Sequence[Any], duplicates: dict[int, int]
    ) -> None:
        sql = self._queries[f"{table}_earlier"].sql
        found = dict(await connection.fetch(sql, *_columns([row[:4] for row in rows])))
        if table == "measurement" and len(found) < len(rows):
            # Packed since.
            gone = [row for row in rows if row[0] not in found]
            fetch = functools.partial(self._fetch, connection)
            found |= await self._repeats.find(fetch, gone, {})
        for row in rows:
            earlier = found.get(row[0])
            if earlier is None:
                raise StoreUnavailableError("PostgreSQL: the row that a row repeats is gone")
            if earlier != row[0]:
                duplicates[row[0]] = earlier

    async def _fetch(self, connection: Any, query: str, **parameters: Any) -> Sequence[Row]:
        wanted = self._queries[query]
        found: Sequence[Row] = await connection.fetch(wanted.sql, *arguments(wanted, parameters))
        return found

    async def _write_others(self, connection: Any, batch: Batch, written: Written) -> None:
        if batch.rejected:
            await self._write_rejected(connection, batch.rejected)
        if batch.statuses:
            await self._store(connection, "statuses_store", newest_statuses(batch.statuses))
        if batch.attributes:
            await self._store(connection, "attributes_store", batch.attributes)
        if batch.packets:
            await self._store(connection, "packets_store", batch.packets)
            earlier = self._queries["packets_earlier"].sql
            rows = await connection.fetch(earlier, json_text(batch.packets))
            written.duplicates |= {row_id: first for row_id, first in rows if row_id != first}
        if batch.actions:
            store = self._queries["actions_store"]
            wanted = {
                "rows": json_text(batch.actions),
                "until": claimed_until(batch),
                "server": batch.server,
            }
            entered = await connection.fetch(store.sql, *arguments(store, wanted))
            written.claimed = entered if batch.runs else ()
        if batch.observations:
            await self._store(connection, "observations_store", batch.observations)

    async def _acknowledge(self, connection: Any, heartbeats: list[HeartbeatRow]) -> set[int]:
        """Store what the heartbeats say; return the ids of those that are flagged."""
        keys = json_text(revision_keys(heartbeats))
        stored = await connection.fetch(self._queries["revisions_find"].sql, keys)
        found = acknowledged(heartbeats, stored)
        if found.acknowledgments:
            await self._store(connection, "acknowledgments_store", found.acknowledgments)
        if found.flagged:
            await self._store(connection, "heartbeats_flag", found.flagged)
        return found.flagged_ids

    async def _store(self, connection: Any, query: str, rows: list[Any]) -> None:
        await connection.execute(self._queries[query].sql, json_text(rows))

    async def _write_rejected(self, connection: Any, rows: Sequence[Any]) -> None:
        sql = self._queries["rejected_insert"].sql
        inserted = await connection.fetch(sql, *_columns(rows))
        if len(inserted) == len(rows):
            return
        ids = [row[0] for row in rows]
        stored = await connection.fetch(self._queries["rejected_by_id"].sql, ids)
        known = {row[0]: tuple(row) for row in stored}
        for row in rows:
            if known.get(row[0]) != row:
                raise RowError(f"another rejected message is stored under the id {row[0]}")

    async def store_rollups(self, connection: Any, change: RollupChange) -> bool:
        """Store a change in the open transaction; False: it is out of date."""
        advance = self._queries["rollup_advance"]
        wanted = {"generation": change.generation, "frontier": change.frontier}
        if not await connection.fetch(advance.sql, *arguments(advance, wanted)):
            return False
        for query, rows in (
            ("rollups_store", [row for row in change.rollups if row[3] is not None]),
            ("rollups_drop", [row[:3] for row in change.rollups if row[3] is None]),
        ):
            if rows:
                await connection.execute(self._queries[query].sql, *_columns(rows))
        if change.marks:
            await connection.execute(self._queries["touched_done"].sql, change.marks)
        if change.backlog:
            await self._store(connection, "rollup_backlog_shorten", change.backlog)
            await connection.execute(self._queries["rollup_backlog_forget"].sql)
        return True


# What a server answers, if anything, that starts or ends.
_AWAY = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)


async def open_postgresql(url: DatabaseUrl) -> Engine:
    """Connect to the database.

    Raises:
        DatabaseAwayError: it does not take connections.
        StartError: it can't be used.
    """
    engine = PostgresqlEngine(url.dsn)
    try:
        version = await engine.start()
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        kind = DatabaseAwayError if isinstance(error, _AWAY) else StartError
        raise kind(f"DATABASE_URL: can't connect to {url.public}: {reason}") from error
    if version < OLDEST_POSTGRESQL:
        await engine.close()
        raise StartError(f"PostgreSQL {version} is too old: {OLDEST_POSTGRESQL} is needed")
    return engine


class PostgresqlEngine:
    """A PostgreSQL database. Implements `Engine`."""

    name = "postgresql"
    # Few enough that the next batch is decoded while one is copied; larger ones take turns
    # with the decoding.
    batch_rows = 12_000

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queries = load_queries(self.name)
        self._readers: Pool[Any] = Pool(
            READERS, lambda: connect_reader(dsn), disconnect, seconds=READ_SECONDS
        )
        self._planners: Pool[Any] = Pool(
            PLANNERS, lambda: connect_reader(dsn, plans=True), disconnect, seconds=READ_SECONDS
        )
        self.lateness = Lateness(shared=True)
        self.lineage = Lineage()
        self.writer = PostgresqlWriter(dsn, self._queries, self.lateness)
        self.changer = PostgresqlWriter(dsn, self._queries, self.lateness)
        # For single statements that are not to wait for any transaction of this server.
        self.runner = PostgresqlWriter(dsn, self._queries, self.lateness)
        self.signals: Signals | None = PostgresqlSignals(
            lambda: _connect(dsn, SIGNAL_SECONDS, _SIGNAL_SETTINGS),
            disconnect,
            self._queries["signals_send"],
        )
        # Who holds it has the connection of the one or the other.
        self._batch_turn = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._runner_turn = asyncio.Lock()

    async def start(self) -> int:
        """Connect once and return the server's major version; errors are the driver's."""
        connection = await self._readers.take()
        self._readers.give(connection)
        version: int = connection.get_server_version().major
        return version

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query on a reading connection."""
        pool = self._planners if self._queries[query].is_planned_anew else self._readers
        try:
            connection = await pool.take()
            # One that the server closed since its last use is no reason to fail.
            while connection.is_closed():
                await pool.drop(connection)
                connection = await pool.take()
        except Exception as error:
            raise unavailable(error) from error
        try:
            rows = await self._fetch_on(connection, query, **parameters)
        except BaseException as error:
            await pool.drop(connection)
            if isinstance(error, Exception):
                raise translate(error) from error
            raise
        pool.give(connection)
        return rows

    async def _fetch_on(self, connection: Any, query: str, **parameters: Any) -> Sequence[Row]:
        wanted = self._queries[query]
        rows: Sequence[Row] = await connection.fetch(wanted.sql, *arguments(wanted, parameters))
        return rows

    async def follow(self) -> None:
        """Do nothing: a connection leads to the database of its name."""

    async def written_elsewhere(self) -> bool:
        """Return False: others may write, and nobody relies on that they do not."""
        return False

    async def renew(self) -> None:
        """Open all connections anew."""
        self._readers.renew()
        self._planners.renew()
        async with self._batch_turn:
            await self.writer.renew()
        async with self._turn:
            await self.changer.renew()
        async with self._runner_turn:
            await self.runner.renew()

    async def run_alone(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a single statement on the connection of those."""
        async with self._runner_turn, self.runner.using() as connection:
            return await self._fetch_on(connection, query, **parameters)

    async def change(self, work: Work[T]) -> T:
        """Do work in a transaction."""
        async with self.transaction() as transaction:
            return await work(transaction)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction on the connection of changes."""
        async with self._turn:
            try:
                # The same one to the end: a statement on another would be committed by itself.
                connection = await self.changer.open()
                await self.changer.begin(self.lineage.known)
                transaction = Transaction(
                    functools.partial(self._fetch_on, connection), lambda work: work(transaction)
                )
                yield transaction
                await connection.execute("COMMIT")
            except BaseException as error:
                known = await self.changer.abandon(error)
                if not isinstance(error, Exception):
                    raise
                if field := taken_field(error):
                    raise AlreadyExistsError(field) from error
                if known is error or not _of_driver(error):
                    raise
                raise known from error

    async def write(self, batch: Batch) -> Written:
        """Commit a batch."""
        async with self._batch_turn:
            return await self.writer.write(batch, batch.change or self.lineage.known)

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        async with self._batch_turn, self.writer.using() as connection:
            sql = self._queries["deliveries_find"].sql
            found: Sequence[Row] = await connection.fetch(sql, list(keys), now)
        return found

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        keys, ids = [key for key, _ in deliveries], [row_id for _, row_id in deliveries]
        async with self.transaction() as transaction:
            await transaction.fetch("deliveries_forget", keys=keys, ids=ids)

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return the oldest marks."""
        return await self.fetch("rollup_marks", until=until, limit=limit)

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change of rollups."""
        async with self._turn, self.changer.using() as connection:
            await self.changer.begin(self.lineage.known)
            stored = await self.changer.store_rollups(connection, change)
            await connection.execute("COMMIT" if stored else "ROLLBACK")
        return stored

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Drop it on a connection of its own: the writer goes on with the other months."""
        return await self._drop(
            table,
            month,
            f"{table}s_keep_partition",
            moment=moment,
            default_days=default_days,
            by_floors=True,
        )

    async def drop_empty_partition(self, table: str, month: int) -> Drop:
        """Drop it in the same way."""
        return await self._drop(table, month, f"{table}s_in_partition")

    async def _drop(self, table: str, month: int, kept: str, **known: int) -> Drop:
        try:
            connection = await connect_writer(self._dsn)
        except Exception as error:
            raise unavailable(error) from error
        try:
            return await self.writer.partitions.drop(
                connection,
                table,
                month,
                self._queries[kept],
                known,
                hold=lambda: hold_duty(connection, self._queries),
            )
        except Exception as error:
            raise translate(error) from error
        finally:
            await disconnect(connection)

    async def used(self) -> int:
        """Count the database's files; the write-ahead log is the whole server's, and bounded."""
        [(used,)] = await self.fetch("disk_used")
        return int(used)

    async def empty_log(self) -> None:
        """Do nothing: the log is the whole server's."""

    async def shorten(self) -> bool:
        """Do nothing: it has tables of its own for each month, which retention drops."""
        return False

    async def sweep(self) -> bool:
        """Do nothing: packing deletes rows at once, and the database finds them by itself."""
        return False

    async def compact(self) -> None:
        """Do nothing: that would lock each table, and is its administrator's to decide."""

    async def ping(self) -> None:
        """Read a row."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.fetch("registry_version")
        except TimeoutError as error:
            raise StoreUnavailableError("PostgreSQL: no answer in time") from error

    async def close(self) -> None:
        """Close all connections."""
        if self.signals is not None:
            await self.signals.close()
        await self._readers.close()
        await self._planners.close()
        async with self._batch_turn:
            await self.writer.close()
        async with self._turn:
            await self.changer.close()
        async with self._runner_turn:
            await self.runner.close()


def _of_driver(error: Exception) -> bool:
    return isinstance(
        error,
        asyncpg.PostgresError | asyncpg.InterfaceError | OSError | OverflowError | UnicodeError,
    )

"""The one connection that writes to PostgreSQL.

keys of the ledger, if the batch has any: claimed first, or all of it is rolled back
a repeat of what came lately, or a violation in the last ten seconds?
    no ──▶ COPY into the table, within a savepoint ──▶ unique violation: roll back to it
    yes ─▶ COPY into a staging table ──▶ INSERT … ON CONFLICT DO NOTHING        │
                    ▲────────────────────────────────────────────────────────────┘
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from heliograph.errors import ClaimLostError, RowError, StoreUnavailableError
from heliograph.model.batch import Batch, Written
from heliograph.model.records import DeliveryRow, HeartbeatRow
from heliograph.model.time import now as wall_time
from heliograph.store.acknowledgments import naming_a_revision, revision_keys, what_is_said
from heliograph.store.batches import (
    TELEMETRY,
    ledger_entries,
    lost_keys,
    newest_statuses,
    with_element_ids,
)
from heliograph.store.lateness import Lateness, late_hours
from heliograph.store.partitions import Partitions
from heliograph.store.postgresql_connection import (
    WRITE_SECONDS,
    connect_writer,
    disconnect,
    translate,
    unavailable,
)
from heliograph.store.postgresql_rollups import mark
from heliograph.store.queries import Query
from heliograph.store.recent import RecentKeys, keys_of

# After a violation more repeats are likely, and each would cost a COPY that is thrown away.
STAGING_SECONDS = 10.0
# For so long the keys of new rows are remembered then. Where nothing ever comes twice, to keep them
# would be a tenth of the work.
WATCHING_SECONDS = 600.0
# Rows that may lie dead in a staging table, where nothing vacuums, before it is truncated. To
# truncate it at each commit would cost four times as much as the commit.
DEAD_ROWS = 20_000

# A write that has taken longer is given up before its commit: it has judged by its beginning
# which rows are late. See `lateness`.
LONGEST_WRITE_SECONDS = 60.0

_encode = msgspec.json.Encoder().encode


class _Load(NamedTuple):
    """The rows of a batch for one table, and the columns that they have."""

    table: str
    rows: list[Any]
    columns: tuple[str, ...]


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
        await self._connection.execute(self._opening)

    @property
    def _opening(self) -> str:
        # One round trip.
        return "BEGIN; SELECT check_registry()" if self._known is not None else "BEGIN"

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
        connection, self._connection = self._connection, None
        self.partitions.forget()
        self._recent = RecentKeys()
        if connection is not None:
            await disconnect(connection)

    async def write(self, batch: Batch, based_on: tuple[int, str] | None = None) -> Written:
        """Commit a batch based on this change of the registry; see `Engine.write`."""
        try:
            connection = await self.open()
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
        if others:
            await self._write_others(connection, batch)
        if heartbeats:
            written.flagged = await self._acknowledge(connection, heartbeats)
        if late:
            await self._mark(connection, batch, late, written)
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
            rows = await connection.fetch(self._queries["rollup_state"].sql)
            self._lateness.raise_floor(rows[0][0])
            self._knows_frontier = True
        return late_hours(batch.measurements, self._lateness.before())

    async def _mark(
        self, connection: Any, batch: Batch, late: list[tuple[int, int]], written: Written
    ) -> None:
        if written.duplicates:
            late = late_hours(batch.measurements, self._lateness.before(), written.duplicates)
        if late:
            await mark(connection, self._queries, late)

    async def _begin(self, connection: Any, batch: Batch) -> None:
        """Begin the transaction, and claim what the batch has to have to itself.

        Before any row, so that nothing was copied in vain where another server has it.
        """
        await connection.execute(self._opening)
        if batch.claims or batch.deliveries:
            await self._enter(connection, ledger_entries(batch), batch.claims)

    async def _enter(
        self, connection: Any, entries: Sequence[DeliveryRow], claims: Sequence[DeliveryRow]
    ) -> None:
        columns = [list(column) for column in zip(*entries, strict=True)]
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
            await self._begin(connection, batch)
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
        await self._begin(connection, batch)
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
        columns = [[row[at] for row in rows] for at in range(4)]
        found = dict(await connection.fetch(self._queries[f"{table}_earlier"].sql, *columns))
        for row in rows:
            earlier = found.get(row[0])
            if earlier is None:
                raise StoreUnavailableError("PostgreSQL: the row that a row repeats is gone")
            if earlier != row[0]:
                duplicates[row[0]] = earlier

    async def _write_others(self, connection: Any, batch: Batch) -> None:
        if batch.rejected:
            await self._write_rejected(connection, batch.rejected)
        if batch.statuses:
            rows = _encode(newest_statuses(batch.statuses)).decode()
            await connection.execute(self._queries["statuses_store"].sql, rows)
        if batch.attributes:
            rows = _encode(batch.attributes).decode()
            await connection.execute(self._queries["attributes_store"].sql, rows)

    async def _acknowledge(self, connection: Any, heartbeats: list[HeartbeatRow]) -> set[int]:
        """Store what the heartbeats say; return the ids of those that are flagged."""
        keys = _encode(revision_keys(heartbeats)).decode()
        stored = await connection.fetch(self._queries["revisions_find"].sql, keys)
        said = what_is_said(heartbeats, stored)
        if said.acknowledgments:
            rows = _encode(said.acknowledgments).decode()
            await connection.execute(self._queries["acknowledgments_store"].sql, rows)
        if said.flagged:
            rows = _encode(said.flagged).decode()
            await connection.execute(self._queries["heartbeats_flag"].sql, rows)
        return said.flagged_ids

    async def _write_rejected(self, connection: Any, rows: Sequence[Any]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        inserted = await connection.fetch(self._queries["rejected_insert"].sql, *columns)
        if len(inserted) == len(rows):
            return
        ids = [row[0] for row in rows]
        stored = await connection.fetch(self._queries["rejected_by_id"].sql, ids)
        known = {row[0]: tuple(row) for row in stored}
        for row in rows:
            if known.get(row[0]) != row:
                raise RowError(f"another rejected message is stored under the id {row[0]}")

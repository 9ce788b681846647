"""The embedded engine: a SQLite file in WAL mode, one connection that writes, a few that read.

From the bottom up: connections and their errors, statements of many rows, the writer with its
thread's work, the engine.
"""

import asyncio
import contextlib
import os
import re
import sqlite3
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import aiosqlite
import structlog

from heliograph.errors import (
    AlreadyExistsError,
    ClaimLostError,
    RolledBackError,
    RowError,
    StartError,
    StoreUnavailableError,
    UnusableStoreError,
)
from heliograph.model.records import (
    FINGERPRINT,
    ID,
    SENSOR,
    TIMESTAMP,
    DeliveryRow,
    HeartbeatRow,
    MeasurementRow,
)
from heliograph.model.time import now
from heliograph.store.batches import (
    TELEMETRY,
    acknowledged,
    claimed_until,
    lost_keys,
    naming_a_revision,
    newest_statuses,
    revision_keys,
    with_element_ids,
)
from heliograph.store.claim import Claim
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
from heliograph.store.packed_repeats import PackedRepeats
from heliograph.store.pool import Pool
from heliograph.store.queries import Query, load_queries
from heliograph.store.sqlite_generation import (
    Generation,
    Identity,
    identity_of,
    look,
    make_shortenable,
    note_closed,
    note_open,
)

log = structlog.get_logger()

READERS = 4
READ_SECONDS = 30.0
BUSY_SECONDS = 5.0
PING_SECONDS = 2.0
INTERRUPT_SECONDS = 0.02
# So many others go before a batch. Each of its messages waits for it, and whoever sent them; and
# where many change something at once, it would wait for all of them.
AHEAD_OF_A_BATCH = 4

# STRICT tables came last of what is used: 3.37, November 2021.
OLDEST_SQLITE = (3, 37, 0)

# Where nothing else is asked for, the writer's cache has the upper levels of its indexes, for which
# SQLite's default of 2 MiB is too small.
CACHE_BYTES = 16 << 20
# The hot pages of 10,000 sensors: for each the one that its newest rows go into, of 4 KiB.
LARGEST_FITTING_CACHE = 64 << 20
# Rows of a batch that may write so many pages of an index that they are not to be copied back soon.
LARGE_BATCH = 1_000
# The log is written back at the latest when it is so many times the cache.
LOG_CACHES = 4

# Free pages that a file keeps for what comes: a part of it, and so many at least. Of others so many
# are given back in one transaction, each of which moves a page from the file's end.
KEPT_SHARE, KEPT_PAGES, SHORTENED_AT_ONCE = 8, 4_096, 256
# Rows that are looked at in one transaction, whether they have a key.
SWEPT_AT_ONCE = 4_096

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

T = TypeVar("T")

# What `PRAGMA auto_vacuum` says of a file that can be shortened.
_INCREMENTAL = 2

_UNIQUE = re.compile(r"UNIQUE constraint failed: (?:.*, )?\w+\.(\w+)")


def _open(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{urllib.parse.quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )


def open_writer(path: Path, *, create: bool, cache_bytes: int = CACHE_BYTES) -> sqlite3.Connection:
    """Open the connection that writes, in whichever thread calls.

    Raises:
        OSError: there is none.
        sqlite3.Error: it can't be opened, or is no database.
    """
    if create and not path.exists():
        # It holds what devices said, and hashes of their keys: nobody else's to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _open(path, "rw")
    try:
        make_shortenable(connection, path)
        for pragma in (
            "journal_mode = WAL",
            # Each commit is on the disk before it is acknowledged.
            "synchronous = FULL",
            # Later logs are written over an earlier one, which spares the file system its own.
            f"journal_size_limit = {LOG_CACHES * cache_bytes}",
            # The server does that itself, see `Generation`; a command when it ends.
            "wal_autocheckpoint = 0",
            f"cache_size = -{cache_bytes >> 10}",
            "foreign_keys = ON",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that can't write, in whichever thread calls.

    Raises:
        sqlite3.Error: it can't be opened.
    """
    connection = _open(path, "ro")
    connection.execute("PRAGMA query_only = ON")
    return connection


def translate(error: Exception) -> Exception:
    """Return what the store raises for an error of the driver."""
    if isinstance(error, RowError | StoreUnavailableError | AlreadyExistsError | ClaimLostError):
        return error
    # ValueError: lone surrogates; ProgrammingError: a type that SQLite doesn't know.
    if isinstance(
        error,
        sqlite3.IntegrityError
        | sqlite3.DataError
        | sqlite3.ProgrammingError
        | OverflowError
        | ValueError
        | TypeError,
    ):
        return RowError(str(error))
    return unavailable(error)


def unavailable(error: Exception) -> StoreUnavailableError:
    """Return the error as one of the database, not of a row."""
    if isinstance(error, StoreUnavailableError):
        return error
    if isinstance(error, StartError):
        return UnusableStoreError(
            f"SQLite: {error}",
            "the database file was replaced by one that can't be used",
            is_damage=False,
        )
    if is_damage(error):
        return UnusableStoreError(
            f"SQLite: {error}: the file is damaged: stop the server and restore a backup"
            " (docs/guide/restore.md)",
            f"the database file is damaged ({error})",
            is_damage=True,
        )
    return StoreUnavailableError(f"SQLite: {str(error) or type(error).__name__}")


def is_damage(error: Exception) -> bool:
    """Return whether the error says that the file holds what SQLite has not written."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _DAMAGE


def taken_field(error: Exception) -> str | None:
    """Return the column whose unique value is taken, if that is what the error says."""
    if not isinstance(error, sqlite3.IntegrityError):
        return None
    found = _UNIQUE.match(str(error))
    return found[1] if found else None


def told_for(error: Exception, known: Exception) -> Exception:
    """Return what a change raises for an error of its work, which the store knows as `known`."""
    if field := taken_field(error):
        return AlreadyExistsError(field)
    is_of_driver = isinstance(error, sqlite3.Error | OverflowError | UnicodeError)
    return known if is_of_driver else error


# Rows a statement. The driver gives the interpreter lock away once a statement: row by row, the
# writer would wait for a busy event loop after each. A statement of many rows needs preparing
# only once; a few sizes serve any number of rows. SQLite allows 32,766 parameters.
CHUNKS = (2_048, 256, 32, 4, 1)


def chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the rows in as many as one statement takes."""
    at, count = 0, len(rows)
    for size in CHUNKS:
        while count - at >= size:
            yield rows[at : at + size] if size < count else rows
            at += size


def _sized(statement: str, columns: int) -> dict[int, str]:
    """Return the statement for each size of a chunk, with so many rows of placeholders."""
    row = f"({','.join('?' * columns)})" if columns > 1 else "?"
    return {size: statement.replace("{rows}", ",".join([row] * size)) for size in CHUNKS}


def _execute(
    connection: sqlite3.Connection, sized: dict[int, str], rows: Sequence[Any], *last: Any
) -> int:
    """Execute the statement for all rows; return how many were changed."""
    changed = 0
    for chunk in chunks(rows):
        parameters = [*chain.from_iterable(chunk), *last]
        changed += connection.execute(sized[len(chunk)], parameters).rowcount
    return changed


def _insert(into: str, columns: int, on_conflict: str = "") -> dict[int, str]:
    return _sized(f"INSERT INTO {into} VALUES {{rows}} {on_conflict}", columns)  # noqa: S608 - our own names


_KEY_IS_TAKEN = "ON CONFLICT (sensor, timestamp, fingerprint) DO NOTHING"
_ID, _ID_AND_KEY = itemgetter(ID), itemgetter(ID, SENSOR, TIMESTAMP, FINGERPRINT)


class _Telemetry:
    """A table of telemetry: `identified` inserts rows with the ids of their elements.

    `keys` is the table that keeps two rows from having one key; None: an index does.
    """

    def __init__(self, table: str, columns: Sequence[str], keys: str | None = None) -> None:
        # A row written again after an ambiguous commit meets its own id as well as its own key.
        kept = "ON CONFLICT (id) DO NOTHING" + ("" if keys else f" {_KEY_IS_TAKEN}")
        self.columns = len(columns)
        self.insert = _insert(f"{table} ({', '.join(columns)})", self.columns, kept)
        identified = f"{table} ({', '.join(columns)}, element_id)"
        self.identified = _insert(identified, self.columns + 1, kept)
        self.keys = keys and _insert(
            f"{keys} (id, sensor, timestamp, fingerprint)", 4, _KEY_IS_TAKEN
        )
        # The join's order is given: per key one search of what is unique.
        self.find = _sized(
            "WITH wanted (sensor, timestamp, fingerprint) AS (VALUES {rows})"  # noqa: S608 - our own names
            " SELECT id, sensor, timestamp, fingerprint FROM wanted"
            f" CROSS JOIN {keys or table} USING (sensor, timestamp, fingerprint)",
            3,
        )
        self.find_ids = _sized(
            f"SELECT id, sensor, timestamp, fingerprint FROM {table} WHERE id IN ({{rows}})",  # noqa: S608 - our own names
            1,
        )

    def store(
        self, connection: sqlite3.Connection, rows: Sequence[Any], duplicates: dict[int, int]
    ) -> None:
        """Insert rows with new keys, and add the others to `duplicates`."""
        if self.keys:
            for chunk in chunks(rows):
                parameters = [*chain.from_iterable(map(_ID_AND_KEY, chunk))]
                if connection.execute(self.keys[len(chunk)], parameters).rowcount < len(chunk):
                    _find_earlier(connection, self, chunk, duplicates)
            # Keys come in their order, rows in that of their ids: either fills up its pages.
            rows = sorted(rows, key=_ID)
            if duplicates:
                rows = [row for row in rows if row[ID] not in duplicates]
        for chunk in chunks(rows):
            statements, parameters = self.insert, list(chain.from_iterable(chunk))
            if len(parameters) != self.columns * len(chunk):
                statements = self.identified
                parameters = [*chain.from_iterable(with_element_ids(chunk, self.columns))]
            if connection.execute(statements[len(chunk)], parameters).rowcount < len(chunk):
                find = _check_ids if self.keys else _find_earlier
                find(connection, self, chunk, duplicates)


_MEASUREMENT = _Telemetry("measurement_row", TELEMETRY["measurement"], "measurement_key")
_LOG = _Telemetry("log", TELEMETRY["log"])
_HEARTBEAT = _Telemetry("heartbeat", TELEMETRY["heartbeat"])
_INSERT_REJECTED = _insert("rejected_message", 10, "ON CONFLICT (id) DO NOTHING")
_FIND_REJECTED = "SELECT * FROM rejected_message WHERE id = ?"
# As PostgreSQL's `deliveries_store`; claims and other entries are a statement each.
_ENTERED = (
    "ON CONFLICT (key) DO UPDATE SET"
    " id = excluded.id, expiry = excluded.expiry, answer = excluded.answer"
    " WHERE (delivery.id = excluded.id AND delivery.id <> 0) OR delivery.expiry <= ?"
)
_ENTER_CLAIMS = _insert("delivery", 4, _ENTERED)
_ENTER_DELIVERIES = _insert(
    "delivery", 4, _ENTERED + " OR delivery.id < excluded.id OR delivery.answer IS NULL"
)
_FIND_DELIVERIES = _sized(
    "SELECT key, id, answer FROM delivery WHERE key IN ({rows}) AND (expiry IS NULL OR expiry > ?)",
    1,
)
_FORGET_DELIVERIES = _sized("DELETE FROM delivery WHERE (key, id) IN (VALUES {rows})", 2)
_MARK = _insert("touched (sensor, hour)", 2)
_STORE_ROLLUPS = _insert(
    "rollup (sensor, level, start, packed)",
    4,
    "ON CONFLICT (sensor, level, start) DO UPDATE SET packed = excluded.packed",
)
_DROP_ROLLUPS = _sized("DELETE FROM rollup WHERE (sensor, level, start) IN (VALUES {rows})", 3)

# Marks that are known to be there: more are forgotten, and made again.
REMEMBERED = 200_000


class SqliteWriter:
    """Writes batches and runs changes. Every method blocks: call them in the writer's thread.

    After any error but a row's the connection is closed; the next call opens it anew, so that
    a full disk that was freed or a file that was put back needs no restart.
    """

    def __init__(
        self,
        path: Path,
        queries: dict[str, Query],
        lateness: Lateness,
        claim: Claim | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """`claim` is a server's: it renews the file's generation, see `Generation`."""
        self._path = path
        self._cache_bytes = cache_bytes
        self._claim = claim
        self._generation: Generation | None = None
        self._lateness = lateness
        # Sensors and hours that are marked, as far as they were here: no other process writes
        # measurements to the file, so that such a mark need not be made again.
        self._marked: set[tuple[int, int]] = set()
        self._repeats = PackedRepeats()
        self._knows_frontier = False
        self._queries = queries
        self._connection: sqlite3.Connection | None = None
        # The file that was opened last; readers open no other.
        self.identity: Identity = (0, 0)
        self._opened: set[Identity] = set()
        # Changes with what other processes commit.
        self._data_version = 0

    def open(self, *, create: bool = False) -> sqlite3.Connection:
        """Return the connection, opened if it isn't; only `create` makes a missing file.

        Raises:
            StoreUnavailableError: it can't be opened.
        """
        if self._connection is None:
            try:
                self._connection = self._open(create=create)
            except Exception as error:
                raise unavailable(error) from error
        return self._connection

    def _open(self, *, create: bool) -> sqlite3.Connection:
        # What the header of a file that is new here says, once it may be opened.
        admitted: int | None = None
        if self._claim is not None:
            admitted = self._claim.generation(self._claim.take(self._path))
        elif self._opened and identity_of(self._path) not in self._opened:
            look(self._path)
        connection = open_writer(self._path, create=create, cache_bytes=self._cache_bytes)
        try:
            identity = identity_of(self._path)
            if self._claim is not None and identity != self._claim.newest:
                raise _replaced()  # noqa: TRY301 - the connection is closed below
            if identity not in self._opened:
                note_open(identity)
                self._opened.add(identity)
            if self._claim is not None:
                if self._generation is None or identity != self.identity:
                    longest = LOG_CACHES * self._cache_bytes // _page_size(connection)
                    self._generation = Generation(self._path, longest)
                self._generation.begin(connection, admitted)
            self.identity = identity
            self._data_version = connection.execute("PRAGMA data_version").fetchone()[0]
        except BaseException:
            if self._generation is not None:
                self._generation.close_log()
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; what fails is rolled back, and raised as the store raises it."""
        try:
            yield self._connection or self.open()
        except Exception as error:
            raise self.abandon(error) from error

    def write(self, batch: Batch, known: tuple[int, str] | None = None) -> Written:
        """Commit a batch; see `Engine.write`."""
        with self._using() as connection:
            self._begin(connection, known)
            if batch.claims or batch.deliveries:
                self._enter(connection, batch.claims, batch.deliveries)
            written = self._insert(connection, batch)
            if written.duplicates and batch.answers:
                self._enter(connection, batch.answers(written.duplicates), ())
            if batch.trial:
                connection.execute("ROLLBACK")
                self._marked.clear()
            else:
                self._commit(connection, is_large=len(batch.measurements) >= LARGE_BATCH)
        return written

    def _enter(
        self,
        connection: sqlite3.Connection,
        claims: Sequence[DeliveryRow],
        deliveries: Sequence[DeliveryRow],
    ) -> None:
        moment = now()
        for enter, rows in ((_ENTER_CLAIMS, claims), (_ENTER_DELIVERIES, deliveries)):
            if _execute(connection, enter, rows, moment) < len(rows):
                stored = self.find_deliveries([row[0] for row in rows], moment)
                raise ClaimLostError(lost_keys(rows, stored))

    def take_marks(self, until: int, limit: int) -> list[tuple[Any, ...]]:
        """Return the oldest marks; see `Engine.take_marks`."""
        with self._using() as connection:
            wanted = {"until": until, "limit": limit}
            rows = connection.execute(self._queries["rollup_marks"].sql, wanted).fetchall()
        self._marked.difference_update([(sensor, hour) for _, sensor, hour in rows])
        return rows

    def empty_log(self) -> None:
        """Empty the write-ahead log; what readers still need of it is left for the next time."""
        with self._using() as connection:
            if self._generation is not None:
                self._generation.empty_log(connection)
            else:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def shorten(self) -> bool:
        """Give some free pages back; see `Engine.shorten`."""
        with self._using() as connection:
            pragmas = ("auto_vacuum", "page_count", "freelist_count")
            mode, pages, free = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas
            )
            spare = free - max(pages // KEPT_SHARE, KEPT_PAGES)
            if mode != _INCREMENTAL or spare <= 0:
                return False
            self._begin(connection, None)
            step = min(spare, SHORTENED_AT_ONCE)
            for _ in range(step):
                # Of more the driver would do the first page alone.
                connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
            left = connection.execute("PRAGMA freelist_count").fetchone()[0]
            self._commit(connection)
            return bool(left < free and spare > step)

    def compact(self) -> None:
        """Write the file anew, of a kind that can be shortened; see `Engine.compact`."""
        with self._using() as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            # The copy would else be in memory, or where there is little room for it.
            folder = str(self._path.resolve().parent).replace("'", "''")
            connection.execute("PRAGMA temp_store = FILE")
            connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
            try:
                connection.execute("VACUUM")
            finally:
                connection.execute("PRAGMA temp_store_directory = ''")
                connection.execute("PRAGMA temp_store = MEMORY")
        self.empty_log()

    def store_rollups(self, change: RollupChange, known: tuple[int, str] | None = None) -> bool:
        """Commit a change of rollups; see `Engine.store_rollups`."""
        with self._using() as connection:
            self._begin(connection, known)
            wanted = {"generation": change.generation, "frontier": change.frontier}
            if not connection.execute(self._queries["rollup_advance"].sql, wanted).fetchall():
                connection.execute("ROLLBACK")
                return False
            kept = [row for row in change.rollups if row[3] is not None]
            _execute(connection, _STORE_ROLLUPS, kept)
            dropped = [row[:3] for row in change.rollups if row[3] is None]
            _execute(connection, _DROP_ROLLUPS, dropped)
            if change.marks:
                marks = {"ids": json_text(change.marks)}
                connection.execute(self._queries["touched_done"].sql, marks)
            if change.backlog:
                self._store(connection, "rollup_backlog_shorten", change.backlog)
                connection.execute(self._queries["rollup_backlog_forget"].sql)
            self._commit(connection)
        return True

    def begin(self, known: tuple[int, str] | None) -> None:
        """Begin a transaction that writes, based on this change of the registry."""
        with self._using() as connection:
            self._begin(connection, known)

    def fetch_first(
        self, known: tuple[int, str] | None, query: str, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Begin such a transaction by a query."""
        self.begin(known)
        return self.fetch(query, parameters)

    def fetch(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a named query within the transaction that was begun; errors are the driver's."""
        if self._connection is None or not self._connection.in_transaction:
            raise StoreUnavailableError("SQLite: the transaction is gone")
        return self._connection.execute(self._queries[query].sql, parameters).fetchall()

    def run(self, work: Work[T]) -> T:
        """Return what work makes of the transaction that was begun; errors are the driver's."""

        async def fetch(query: str, **parameters: Any) -> Sequence[Row]:
            return self.fetch(query, parameters)

        return _result(work, fetch)

    def change(self, known: tuple[int, str] | None, work: Work[T]) -> T:
        """Do work in a transaction based on this change of the registry; see `Engine.change`."""
        begun = False

        async def fetch(query: str, **parameters: Any) -> Sequence[Row]:
            nonlocal begun
            if begun:
                return self.fetch(query, parameters)
            begun = True
            return self.fetch_first(known, query, parameters)

        try:
            result = _result(work, fetch)
            if begun:
                self.commit()
        except Exception as error:
            if (told := told_for(error, self.abandon(error))) is error:
                raise
            raise told from error
        return result

    def commit(self) -> None:
        """Commit the transaction that was begun."""
        with self._using() as connection:
            self._commit(connection)

    def abandon(self, error: BaseException) -> Exception:
        """Roll back what was begun; return what the store raises for the error."""
        known = translate(error) if isinstance(error, Exception) else None
        connection = self._connection
        # Some were marked, perhaps, by what is rolled back.
        self._marked.clear()
        self._repeats = PackedRepeats()
        if connection is not None:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as failure:
                known = StoreUnavailableError(f"SQLite: {failure}")
            if isinstance(known, StoreUnavailableError):
                self.close()
        return known or StoreUnavailableError(str(error))

    def find_deliveries(self, keys: Sequence[bytes], now: int) -> list[tuple[Any, ...]]:
        """Return key, id and answer of the deliveries that are not expired."""
        found: list[tuple[Any, ...]] = []
        with self._using() as connection:
            for chunk in chunks(keys):
                found += connection.execute(_FIND_DELIVERIES[len(chunk)], (*chunk, now))
        return found

    def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            _execute(connection, _FORGET_DELIVERIES, deliveries)
            self._commit(connection)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        connection, self._connection = self._connection, None
        # The file may be another one the next time.
        self._knows_frontier = False
        self._marked.clear()
        if connection is not None:
            if self._generation is not None:
                self._generation.end(self.identity)
            connection.close()

    def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call, or the opening."""
        with self._using() as connection:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return False
            if self._generation is not None:
                self._generation.written_elsewhere(connection)
        self._data_version = version
        # It may have been put back to a state without this.
        self._knows_frontier = False
        self._marked.clear()
        return True

    def renew(self) -> None:
        """Open the file that is at the path now, if it is another."""
        try:
            if identity_of(self._path) != self.identity:
                self.close()
        except OSError as error:
            raise unavailable(error) from error
        self.open()

    def release(self) -> None:
        """Note that nothing here has the file open any more."""
        for identity in self._opened:
            note_closed(identity)
        self._opened.clear()

    def _begin(self, connection: sqlite3.Connection, known: tuple[int, str] | None) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if known is None:
            return
        version, token = known
        sql = self._queries["registry_has_had"].sql
        if not connection.execute(sql, {"version": version, "token": token}).fetchone():
            raise RolledBackError("SQLite: the database was put back to another state")

    def _insert(self, connection: sqlite3.Connection, batch: Batch) -> Written:
        written = Written()
        if batch.measurements:
            _MEASUREMENT.store(connection, batch.measurements, written.duplicates)
            # Before what depends on whether a row is new.
            self._mark(connection, batch.measurements, written)
        if batch.logs:
            _LOG.store(connection, batch.logs, written.duplicates)
        if batch.heartbeats:
            _HEARTBEAT.store(connection, batch.heartbeats, written.duplicates)
        rejected = batch.rejected
        if rejected and _execute(connection, _INSERT_REJECTED, rejected) < len(rejected):
            _check_rejected(connection, rejected)
        if batch.statuses:
            self._store(connection, "statuses_store", newest_statuses(batch.statuses))
        if batch.attributes:
            self._store(connection, "attributes_store", batch.attributes)
        if batch.heartbeats and (heartbeats := naming_a_revision(batch.heartbeats)):
            written.flagged = self._acknowledge(connection, heartbeats)
        if batch.packets:
            self._store(connection, "packets_store", batch.packets)
            earlier = self._queries["packets_earlier"].sql
            found = connection.execute(earlier, {"rows": json_text(batch.packets)}).fetchall()
            written.duplicates |= {row_id: first for row_id, first in found if row_id != first}
        if batch.actions:
            wanted = {"rows": json_text(batch.actions), "until": claimed_until(batch)}
            sql = self._queries["actions_store"].sql
            entered = connection.execute(sql, wanted).fetchall()
            written.claimed = entered if batch.runs else ()
        if batch.observations:
            seen = self._store(connection, "observations_store", batch.observations)
            written.observed = {(name, number) for name, number in seen}
        return written

    def _mark(
        self, connection: sqlite3.Connection, rows: Sequence[MeasurementRow], written: Written
    ) -> None:
        """Drop late rows that are packed, and mark the hours of the others unless they are."""
        if not self._knows_frontier:
            frontier = connection.execute(self._queries["rollup_state"].sql).fetchone()[0]
            self._lateness.raise_floor(frontier)
            self._knows_frontier = True
        late = self._lateness.late_hours(rows, written.duplicates)
        if not late:
            return

        async def fetch(query: str, **parameters: Any) -> Sequence[Row]:
            return self.fetch(query, parameters)

        if _result(lambda opened: self._repeats.drop(opened.fetch, rows, late, written), fetch):
            late = self._lateness.late_hours(rows, written.duplicates)
        if new := [hour for hour in late if hour not in self._marked]:
            _execute(connection, _MARK, new)
            if len(self._marked) > REMEMBERED:
                self._marked.clear()
            self._marked.update(new)

    def _acknowledge(
        self, connection: sqlite3.Connection, heartbeats: list[HeartbeatRow]
    ) -> set[int]:
        """Store what the heartbeats say; return the ids of those that are flagged."""
        rows = {"rows": json_text(revision_keys(heartbeats))}
        stored = connection.execute(self._queries["revisions_find"].sql, rows)
        found = acknowledged(heartbeats, stored)
        if found.acknowledgments:
            self._store(connection, "acknowledgments_store", found.acknowledgments)
        if found.flagged:
            self._store(connection, "heartbeats_flag", found.flagged)
        return found.flagged_ids

    def _store(self, connection: sqlite3.Connection, query: str, rows: list[Any]) -> sqlite3.Cursor:
        return connection.execute(self._queries[query].sql, {"rows": json_text(rows)})

    def _commit(self, connection: sqlite3.Connection, *, is_large: bool = False) -> None:
        connection.execute("COMMIT")
        # A file that was deleted or replaced takes commits into nowhere.
        if identity_of(self._path) != self.identity:
            raise _replaced()
        if self._generation is not None:
            self._generation.committed(connection, is_large=is_large)


def fitting_cache(memory: int) -> int:
    """Return the bytes that the writer's cache should have on a machine with so much memory."""
    return min(max(CACHE_BYTES, memory // 16), LARGEST_FITTING_CACHE)


def _page_size(connection: sqlite3.Connection) -> int:
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    return size


def _result(work: Work[T], fetch: Callable[..., Awaitable[Sequence[Row]]]) -> T:
    """Return what work returns that waits for nothing but these queries, which answer at once."""

    async def run(following: Work[Any]) -> Any:
        return await following(opened[0])

    opened = [Transaction(fetch, run)]
    steps = work(opened[0]).__await__()
    try:
        next(steps)
    except StopIteration as ended:
        return cast("T", ended.value)
    finally:
        # It and `run` hold each other, and would be left to the garbage collector.
        opened.clear()
    raise RuntimeError("a change waits for something other than its queries")


def _replaced() -> StoreUnavailableError:
    return StoreUnavailableError("SQLite: the database file was replaced")


def _find_earlier(
    connection: sqlite3.Connection,
    table: _Telemetry,
    rows: Sequence[Any],
    duplicates: dict[int, int],
) -> None:
    """Add to `duplicates` the rows whose key is stored under another id."""
    keys = list(chain.from_iterable([row[1:4] for row in rows]))
    stored = {
        (sensor, timestamp, fingerprint): row_id
        for row_id, sensor, timestamp, fingerprint in connection.execute(
            table.find[len(rows)], keys
        )
    }
    for row in rows:
        earlier = stored.get(row[1:4])
        if earlier is None:
            raise _taken(row)
        if earlier != row[0]:
            duplicates[row[0]] = earlier


def _check_ids(
    connection: sqlite3.Connection,
    table: _Telemetry,
    rows: Sequence[Any],
    duplicates: dict[int, int],
) -> None:
    """Make sure that what was not inserted, having a key, is stored already, if without one."""
    del duplicates
    stored = set(connection.execute(table.find_ids[len(rows)], [row[ID] for row in rows]))
    for row in rows:
        if _ID_AND_KEY(row) not in stored:
            raise _taken(row)


def _taken(row: Any) -> RowError:
    return RowError(f"another row is stored under the id {row[ID]}")


def _check_rejected(connection: sqlite3.Connection, rows: Sequence[Any]) -> None:
    """Make sure that what was not inserted is stored already."""
    for row in rows:
        if connection.execute(_FIND_REJECTED, row[:1]).fetchone() != row:
            raise RowError(f"another rejected message is stored under the id {row[0]}")


async def open_sqlite(
    path: Path, claim: Claim | None = None, cache_bytes: int = CACHE_BYTES
) -> Engine:
    """Open the file, making it (empty) where there is none.

    `claim` is that of a server, which takes care of the write-ahead log; `cache_bytes` are for
    the pages that its writer keeps in memory.

    Raises:
        StartError: it can't be used.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StartError(f"SQLite {sqlite3.sqlite_version} is too old: {needed} is needed")
    engine = SqliteEngine(path, claim, cache_bytes)
    try:
        await engine.start()
    except (OSError, StoreUnavailableError) as error:
        await engine.close()
        if isinstance(error.__cause__, StartError):
            raise error.__cause__ from None
        raise StartError(f"DATABASE_URL: can't open {path}: {error}") from error
    return engine


class _Reader:
    """A connection that can't write."""

    def __init__(self, path: Path, admitted: Callable[[], Identity]) -> None:
        self._path = path
        self._admitted = admitted
        self._raw: sqlite3.Connection | None = None
        self._given_up = False
        self.connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)

    async def open(self) -> Self:
        """Open the connection."""
        try:
            await self.connection
        except BaseException:
            # Close what is open or about to be: the driver closes only what it has handed over.
            self._given_up = True
            if self._raw is not None:
                self._raw.close()
            raise
        return self

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()

    def _connect(self) -> sqlite3.Connection:
        # A file that was put in the place of the writer's may lie beside the other's log: the
        # writer looks at it first. Nothing is read before the first statement.
        self._check()
        self._raw = open_reader(self._path)
        try:
            self._check()
        except BaseException:
            self._raw.close()
            raise
        if self._given_up:
            self._raw.close()
        return self._raw

    def _check(self) -> None:
        try:
            identity = identity_of(self._path)
        except OSError as error:
            raise sqlite3.OperationalError(f"the database file: {error.strerror}") from error
        if identity != self._admitted():
            raise sqlite3.OperationalError("the database file was replaced")

    def interrupt(self) -> None:
        """End the statement that is running, with an error."""
        if self._raw is not None:
            # Its own thread may have closed it by now.
            with contextlib.suppress(sqlite3.ProgrammingError):
                self._raw.interrupt()


class WriterTurns:
    """Gives turns at the connection that writes, in the order in which they are asked for.

    A batch waits for few others only.
    """

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, batch: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the block lasts."""
        if self._is_taken:
            await self._wait(min(len(self._waiting), AHEAD_OF_A_BATCH) if batch else None)
        self._is_taken = True
        try:
            yield
        finally:
            if self._waiting:
                self._next()
            else:
                self._is_taken = False

    async def _wait(self, place: int | None) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._waiting.insert(len(self._waiting) if place is None else place, mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self._next()  # it was given before
            elif mine in self._waiting:  # else it was passed over meanwhile
                self._waiting.remove(mine)
            raise

    def _next(self) -> None:
        """Give the turn to who is next; it stays taken on the way, so that nobody else gets it."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._is_taken = False


class SqliteEngine:
    """A SQLite file. Implements `Engine`."""

    name = "sqlite"
    # The larger the batch, the fewer pages a row dirties: with 10,000 sensors 20,000 rows cost
    # two thirds of what four times 5,000 do.
    batch_rows = 32_768

    def __init__(
        self, path: Path, claim: Claim | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._path = path
        self._queries = load_queries(self.name)
        self.lateness = Lateness(shared=False)
        self.lineage = Lineage()
        self.signals: Signals | None = None
        self._writer = writer = SqliteWriter(path, self._queries, self.lateness, claim, cache_bytes)
        # Why nothing goes into the file: SQLite has not written all that was read in it, or it
        # does not belong to the log beside it.
        self._unusable: UnusableStoreError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        # Who holds it has the thread: nothing else waits in the executor's boundless queue,
        # and nothing comes between the statements of a transaction.
        self._turns = WriterTurns()
        self._readers = Pool(
            READERS,
            lambda: _Reader(path, lambda: writer.identity).open(),
            _Reader.close,
            seconds=READ_SECONDS,
        )
        self._drains: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Make and open the file.

        Raises:
            OSError: there can be no such file.
            StoreUnavailableError: it can't be opened.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await self._use(lambda: self._writer.open(create=True))

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query on a reading connection."""
        sql = self._queries[query].sql
        try:
            if self._was_replaced():
                await self.follow()
            reader = await self._readers.take()
        except sqlite3.Error as error:
            raise unavailable(error) from error
        # A timer of our own: a statement must be interrupted, not only left alone.
        timer = asyncio.get_running_loop().call_later(READ_SECONDS, reader.interrupt)
        try:
            rows = await reader.connection.execute_fetchall(sql, parameters)
        except Exception as error:
            await self._readers.drop(reader)
            raise self._note(translate(error)) from error
        except BaseException:
            drain = asyncio.create_task(self._drain(reader), name="sqlite reader drain")
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
            raise
        finally:
            timer.cancel()
        self._readers.give(reader)
        return cast("Sequence[Row]", rows)

    async def follow(self) -> None:
        """Go over to another file that was put in place, if it may be used."""
        if self._was_replaced():
            async with self._turns.turn():
                await self._use(self._writer.renew)
                self._readers.renew()

    async def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call."""
        return await self._in_turn(self._writer.written_elsewhere)

    async def renew(self) -> None:
        """Open all connections anew."""
        async with self._turns.turn():
            await self._run(self._writer.close)
            self._readers.renew()

    async def _drain(self, reader: _Reader) -> None:
        """Give back a connection whose caller has gone, once its thread is through with it."""
        # Interrupting has no effect on a statement that has yet to begin, so it is repeated.
        last = asyncio.create_task(reader.close(), name="sqlite-disconnect")
        while not last.done():
            reader.interrupt()
            # Cancelled, as all tasks are by a second Ctrl-C, it goes on: that takes a moment, and
            # who closes a connection while it is closed waits for a thread that has ended.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([last], timeout=INTERRUPT_SECONDS)
        await self._readers.drop(reader)

    async def change(self, work: Work[T]) -> T:
        """Do work in a transaction on the writer."""
        async with self._turns.turn():
            return await self._use(self._writer.change, self.lineage.known, work)

    async def run_alone(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a query in a transaction of its own."""
        return await self.change(lambda transaction: transaction.fetch(query, **parameters))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction on the writer."""
        async with self._turns.turn():
            begun = False

            async def fetch(query: str, **parameters: Any) -> Sequence[Row]:
                nonlocal begun
                if begun:
                    return await self._use(self._writer.fetch, query, parameters)
                # In one go: each way to the thread and back takes as long as the loop is busy.
                begun = True
                known = self.lineage.known
                return await self._use(self._writer.fetch_first, known, query, parameters)

            async def run(work: Work[Any]) -> Any:
                nonlocal begun
                if not begun:
                    begun = True
                    await self._use(self._writer.begin, self.lineage.known)
                return await self._use(self._writer.run, work)

            try:
                yield Transaction(fetch, run)
                if begun:
                    await self._use(self._writer.commit)
            except BaseException as error:
                # Cancelled or not: the thread does this after what it is doing now.
                known = self._note(await self._run(self._writer.abandon, error))
                if not isinstance(error, Exception):
                    raise
                if (told := told_for(error, known)) is error:
                    raise
                raise told from error

    async def write(self, batch: Batch) -> Written:
        """Commit a batch."""
        known = batch.change or self.lineage.known
        async with self._turns.turn(batch=True):
            return await self._use(self._writer.write, batch, known)

    async def _in_turn(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what uses the file, when nobody else does."""
        async with self._turns.turn():
            return await self._use(function, *arguments)

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        return await self._in_turn(self._writer.find_deliveries, keys, now)

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        await self._in_turn(self._writer.forget_deliveries, deliveries)

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Keep it: a file has none."""
        del table, month, moment, default_days
        return Drop.KEPT

    async def drop_empty_partition(self, table: str, month: int) -> Drop:
        """Keep it: a file has none."""
        del table, month
        return Drop.KEPT

    async def used(self) -> int:
        """Count the pages in use and the write-ahead log, which lies beside the file."""
        [(live,)] = await self.fetch("disk_used")
        return int(live) + await asyncio.to_thread(_size, Path(f"{self._path}-wal"))

    async def empty_log(self) -> None:
        """Write the log into the file and cut it off; else it keeps its size for later writes."""
        if await asyncio.to_thread(_size, Path(f"{self._path}-wal")):
            await self._in_turn(self._writer.empty_log)

    async def shorten(self) -> bool:
        """Give some free pages back to the file system."""
        return await self._in_turn(self._writer.shorten)

    async def sweep(self) -> bool:
        """Delete rows without a key, in the order of their receipt."""

        async def work(transaction: Transaction) -> bool:
            found = await transaction.fetch("sweep_next", limit=SWEPT_AT_ONCE)
            for (until,) in found:
                await transaction.fetch("sweep_rows", until=until)
                await transaction.fetch("sweep_advance", until=until)
            return bool(found)

        # Mostly there is nothing, and nobody has to wait.
        return bool(await self.fetch("sweep_next", limit=0)) and await self.change(work)

    async def compact(self) -> None:
        """Write the file anew; it takes its size twice more meanwhile."""
        while await self.sweep():
            pass
        await self._in_turn(self._writer.compact)

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return the oldest marks."""
        return await self._in_turn(self._writer.take_marks, until, limit)

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change of rollups."""
        return await self._in_turn(self._writer.store_rollups, change, self.lineage.known)

    async def ping(self) -> None:
        """Read a row of the file at its path."""
        try:
            is_there = await asyncio.to_thread(self._path.is_file)
        except OSError as error:  # its folder can't be read, say
            raise unavailable(error) from error
        if not is_there:
            raise StoreUnavailableError("SQLite: the database file is gone")
        if self._unusable is not None:
            raise self._unusable
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self.fetch("registry_version")
        except TimeoutError as error:
            raise StoreUnavailableError("SQLite: no answer in time") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._readers.close()
        async with self._turns.turn():
            if not self._closed:
                await self._run(self._writer.close)
                self._closed = True
                self._thread.shutdown()
                self._writer.release()

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._closed:
            raise StoreUnavailableError("SQLite: the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _use(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what uses the file, unless nothing more may go into it."""
        if self._unusable is not None and self._unusable.is_damage and not self._was_replaced():
            raise self._unusable
        try:
            result = await self._run(function, *arguments)
        except StoreUnavailableError as error:
            self._note(error)
            # The readers follow the writer to a file that was put back.
            self._readers.renew()
            raise
        self._unusable = None
        return result

    def _was_replaced(self) -> bool:
        # A microsecond, where a query takes a hundred.
        try:
            return identity_of(self._path) != self._writer.identity
        except OSError:
            return False

    def _note(self, error: Exception) -> Exception:
        """Remember what a person has to mend, and tell it once."""
        if isinstance(error, UnusableStoreError):
            if self._unusable is None:
                log.critical("database unusable", reason=str(error))
            self._unusable = error
        return error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unavailable(error) from error

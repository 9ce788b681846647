"""The one connection that writes to a SQLite file; lives in a thread of its own."""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from heliograph.errors import ClaimLostError, RowError, StoreUnavailableError
from heliograph.model.batch import Batch, Written
from heliograph.model.records import DeliveryRow, HeartbeatRow
from heliograph.model.time import now
from heliograph.store.acknowledgments import naming_a_revision, revision_keys, what_is_said
from heliograph.store.batches import (
    TELEMETRY,
    lost_keys,
    newest_statuses,
    with_element_ids,
)
from heliograph.store.claim import Claim
from heliograph.store.lateness import Lateness, late_hours
from heliograph.store.queries import Query
from heliograph.store.rollup_change import RollupChange
from heliograph.store.sqlite_chunks import CHUNKS, chunks
from heliograph.store.sqlite_connection import open_writer, rolled_back, translate, unavailable
from heliograph.store.sqlite_generation import (
    Generation,
    Identity,
    identity_of,
    look,
    note_closed,
    note_open,
)
from heliograph.store.sqlite_rollups import Marks, store_rollups

_encode = msgspec.json.Encoder().encode


class _Table:
    """A table of a batch: its statements for each chunk's size."""

    def __init__(self, name: str, columns: int, on_conflict: str, listed: str = "") -> None:
        row = f"({','.join('?' * columns)})"
        self.insert = {
            size: f"INSERT INTO {name} {listed} VALUES {','.join([row] * size)} {on_conflict}"  # noqa: S608 - our own names
            for size in CHUNKS
        }
        # The join's order is given: per key one search of the unique index.
        self.find = {
            size: (
                f"WITH wanted (sensor, timestamp, fingerprint) AS"  # noqa: S608 - our own names
                f" (VALUES {','.join(['(?,?,?)'] * size)})"
                f" SELECT id, sensor, timestamp, fingerprint FROM wanted"
                f" CROSS JOIN {name} USING (sensor, timestamp, fingerprint)"
            )
            for size in CHUNKS
        }


class _Telemetry(_Table):
    """A table of telemetry; `identified` inserts rows with the ids of their elements."""

    def __init__(self, name: str) -> None:
        # A row written again after an ambiguous commit meets its own id as well as its own key.
        kept = "ON CONFLICT (id) DO NOTHING ON CONFLICT (sensor, timestamp, fingerprint) DO NOTHING"
        columns = TELEMETRY[name]
        super().__init__(name, len(columns), kept, f"({', '.join(columns)})")
        self.columns = len(columns)
        wider = (*columns, "element_id")
        self.identified = _Table(name, len(wider), kept, f"({', '.join(wider)})").insert

    def insertion(self, rows: Sequence[Any]) -> tuple[str, list[Any]]:
        """Return the statement that inserts the rows of a chunk, and its parameters."""
        parameters = list(chain.from_iterable(rows))
        if len(parameters) == self.columns * len(rows):
            return self.insert[len(rows)], parameters
        parameters = list(chain.from_iterable(with_element_ids(rows, self.columns)))
        return self.identified[len(rows)], parameters


_MEASUREMENT = _Telemetry("measurement")
_LOG = _Telemetry("log")
_HEARTBEAT = _Telemetry("heartbeat")
_REJECTED = _Table("rejected_message", 10, "ON CONFLICT (id) DO NOTHING")
# As PostgreSQL's `deliveries_store`; claims and other entries are a statement each.
_ENTERED = (
    "ON CONFLICT (key) DO UPDATE SET"
    " id = excluded.id, expiry = excluded.expiry, answer = excluded.answer"
    " WHERE (delivery.id = excluded.id AND delivery.id <> 0) OR delivery.expiry <= ?"
)
_DELIVERY = _Table(
    "delivery", 4, _ENTERED + " OR delivery.id < excluded.id OR delivery.answer IS NULL"
)
_CLAIM = _Table("delivery", 4, _ENTERED)
_FIND_REJECTED = "SELECT * FROM rejected_message WHERE id = ?"
_FIND_DELIVERIES = {
    size: (
        f"SELECT key, id, answer FROM delivery WHERE key IN ({','.join('?' * size)})"  # noqa: S608 - placeholders
        " AND (expiry IS NULL OR expiry > ?)"
    )
    for size in CHUNKS
}

_FORGET_DELIVERIES = {
    size: f"DELETE FROM delivery WHERE (key, id) IN (VALUES {','.join(['(?,?)'] * size)})"  # noqa: S608 - placeholders
    for size in CHUNKS
}


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
    ) -> None:
        """`claim` is a server's: it renews the file's generation, see `Generation`."""
        self._path = path
        self._claim = claim
        self._generation: Generation | None = None
        self._lateness = lateness
        self._marks = Marks()
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
        admitted = self._admit()
        connection = open_writer(self._path, create=create)
        try:
            identity = identity_of(self._path)
            self._check_claim(identity)
            if identity not in self._opened:
                note_open(identity)
                self._opened.add(identity)
            if self._claim is not None:
                if self._generation is None or identity != self.identity:
                    self._generation = Generation(self._path)
                self._generation.begin(connection, admitted)
            self.identity = identity
            self._data_version = connection.execute("PRAGMA data_version").fetchone()[0]
        except BaseException:
            if self._generation is not None:
                self._generation.close_log()
            connection.close()
            raise
        return connection

    def _check_claim(self, identity: Identity) -> None:
        if self._claim is not None and identity != self._claim.newest:
            raise _replaced()

    def _admit(self) -> int | None:
        """Return what the header of a file that is new here says, once it may be opened."""
        if self._claim is not None:
            return self._claim.generation(self._claim.take(self._path))
        if self._opened and identity_of(self._path) not in self._opened:
            look(self._path)
        return None

    def write(self, batch: Batch, known: tuple[int, str] | None = None) -> Written:
        """Commit a batch; see `Engine.write`."""
        try:
            connection = self.open()
            self._begin(connection, known)
            self._enter(connection, batch.claims, batch.deliveries)
            written = self._insert(connection, batch)
            marked = self._mark(connection, batch, written)
            if written.duplicates and batch.answers:
                self._enter(connection, batch.answers(written.duplicates), ())
            connection.execute("ROLLBACK" if batch.trial else "COMMIT")
            self._committed(connection)
        except Exception as error:
            raise self.abandon(error) from error
        if marked and not batch.trial:
            self._marks.added(marked)
        return written

    def _enter(
        self,
        connection: sqlite3.Connection,
        claims: Sequence[DeliveryRow],
        deliveries: Sequence[DeliveryRow],
    ) -> None:
        moment = now()
        for table, rows in ((_CLAIM, claims), (_DELIVERY, deliveries)):
            for chunk in chunks(rows):
                parameters = [*chain.from_iterable(chunk), moment]
                entered = connection.execute(table.insert[len(chunk)], parameters).rowcount
                if entered < len(chunk):
                    keys = [row[0] for row in chunk]
                    find = _FIND_DELIVERIES[len(chunk)]
                    raise ClaimLostError(
                        lost_keys(chunk, connection.execute(find, (*keys, moment)))
                    )

    def take_marks(self, until: int, limit: int) -> list[tuple[Any, ...]]:
        """Return the oldest marks; see `Engine.take_marks`."""
        try:
            query = self._queries["rollup_marks"]
            return self._marks.take(self.open(), query, until, limit)
        except Exception as error:
            raise self.abandon(error) from error

    def empty_log(self) -> None:
        """Empty the write-ahead log; what readers still need of it is left for the next time."""
        try:
            connection = self.open()
            if self._generation is not None:
                self._generation.empty_log(connection)
            else:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except Exception as error:
            raise self.abandon(error) from error

    def store_rollups(self, change: RollupChange, known: tuple[int, str] | None = None) -> bool:
        """Commit a change of rollups; see `Engine.store_rollups`."""
        try:
            connection = self.open()
            self._begin(connection, known)
            stored = store_rollups(connection, self._queries, change)
            connection.execute("COMMIT" if stored else "ROLLBACK")
            self._committed(connection)
        except Exception as error:
            raise self.abandon(error) from error
        return stored

    def begin(self, known: tuple[int, str] | None = None) -> None:
        """Begin a transaction that writes, based on this change of the registry."""
        try:
            self._begin(self.open(), known)
        except Exception as error:
            raise self.abandon(error) from error

    def fetch(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a named query within the transaction that was begun; errors are the driver's."""
        if self._connection is None or not self._connection.in_transaction:
            raise StoreUnavailableError("SQLite: the transaction is gone")
        return self._connection.execute(self._queries[query].sql, parameters).fetchall()

    def commit(self) -> None:
        """Commit the transaction that was begun."""
        try:
            connection = self.open()
            connection.execute("COMMIT")
            self._committed(connection)
        except Exception as error:
            raise self.abandon(error) from error

    def abandon(self, error: BaseException) -> Exception:
        """Roll back what was begun; return what the store raises for the error."""
        known = translate(error) if isinstance(error, Exception) else None
        connection = self._connection
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
        try:
            connection = self.open()
            found: list[tuple[Any, ...]] = []
            for chunk in chunks(keys):
                found += connection.execute(_FIND_DELIVERIES[len(chunk)], (*chunk, now))
        except Exception as error:
            raise self.abandon(error) from error
        return found

    def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        try:
            connection = self.open()
            connection.execute("BEGIN IMMEDIATE")
            for chunk in chunks(deliveries):
                parameters = list(chain.from_iterable(chunk))
                connection.execute(_FORGET_DELIVERIES[len(chunk)], parameters)
            connection.execute("COMMIT")
            self._committed(connection)
        except Exception as error:
            raise self.abandon(error) from error

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        connection, self._connection = self._connection, None
        # The file may be another one the next time.
        self._knows_frontier = False
        self._marks.forget()
        if connection is not None:
            if self._generation is not None:
                self._generation.end(self.identity)
            connection.close()

    def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call, or the opening."""
        try:
            connection = self.open()
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return False
            if self._generation is not None:
                self._generation.written_elsewhere(connection)
        except Exception as error:
            raise self.abandon(error) from error
        self._data_version = version
        # It may have been put back to a state without this.
        self._knows_frontier = False
        self._marks.forget()
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
            raise rolled_back("SQLite")

    def _insert(self, connection: sqlite3.Connection, batch: Batch) -> Written:
        written = Written()
        for table, rows in (
            (_MEASUREMENT, batch.measurements),
            (_LOG, batch.logs),
            (_HEARTBEAT, batch.heartbeats),
        ):
            for chunk in chunks(rows):
                stored = connection.execute(*table.insertion(chunk)).rowcount
                if stored < len(chunk):
                    _find_earlier(connection, table, chunk, written.duplicates)
        for chunk in chunks(batch.rejected):
            parameters = list(chain.from_iterable(chunk))
            stored = connection.execute(_REJECTED.insert[len(chunk)], parameters).rowcount
            if stored < len(chunk):
                _check_rejected(connection, chunk)
        if batch.statuses:
            self._store(connection, "statuses_store", newest_statuses(batch.statuses))
        if batch.attributes:
            self._store(connection, "attributes_store", batch.attributes)
        if batch.heartbeats and (heartbeats := naming_a_revision(batch.heartbeats)):
            written.flagged = self._acknowledge(connection, heartbeats)
        return written

    def _mark(
        self, connection: sqlite3.Connection, batch: Batch, written: Written
    ) -> Sequence[tuple[int, int]]:
        """Mark the hours of late rows; return what was not marked before."""
        if not batch.measurements:
            return ()
        if not self._knows_frontier:
            frontier = connection.execute(self._queries["rollup_state"].sql).fetchone()[0]
            self._lateness.raise_floor(frontier)
            self._knows_frontier = True
        late = late_hours(batch.measurements, self._lateness.before(), written.duplicates)
        return self._marks.add(connection, late) if late else ()

    def _acknowledge(
        self, connection: sqlite3.Connection, heartbeats: list[HeartbeatRow]
    ) -> set[int]:
        """Store what the heartbeats say; return the ids of those that are flagged."""
        rows = {"rows": _encode(revision_keys(heartbeats)).decode()}
        stored = connection.execute(self._queries["revisions_find"].sql, rows)
        said = what_is_said(heartbeats, stored)
        if said.acknowledgments:
            self._store(connection, "acknowledgments_store", said.acknowledgments)
        if said.flagged:
            self._store(connection, "heartbeats_flag", said.flagged)
        return said.flagged_ids

    def _store(self, connection: sqlite3.Connection, query: str, rows: list[Any]) -> None:
        connection.execute(self._queries[query].sql, {"rows": _encode(rows).decode()})

    def _committed(self, connection: sqlite3.Connection) -> None:
        # A file that was deleted or replaced takes commits into nowhere.
        if identity_of(self._path) != self.identity:
            raise _replaced()
        if self._generation is not None:
            self._generation.committed(connection)


def _replaced() -> StoreUnavailableError:
    return StoreUnavailableError("SQLite: the database file was replaced")


def _find_earlier(
    connection: sqlite3.Connection,
    table: _Table,
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
            raise RowError(f"another row is stored under the id {row[0]}")
        if earlier != row[0]:
            duplicates[row[0]] = earlier


def _check_rejected(connection: sqlite3.Connection, rows: Sequence[Any]) -> None:
    """Make sure that what was not inserted is stored already."""
    for row in rows:
        if connection.execute(_FIND_REJECTED, row[:1]).fetchone() != row:
            raise RowError(f"another rejected message is stored under the id {row[0]}")

"""The embedded engine: a SQLite file in WAL mode, one writer, a few readers."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import aiosqlite
import structlog

from heliograph.errors import (
    AlreadyExistsError,
    StartError,
    StoreUnavailableError,
    UnusableStoreError,
)
from heliograph.model.batch import Batch, Written
from heliograph.store.claim import Claim
from heliograph.store.engine import Drop, Engine, Row, Transaction
from heliograph.store.lateness import Lateness
from heliograph.store.lineage import Lineage
from heliograph.store.pool import Pool
from heliograph.store.queries import load_queries
from heliograph.store.rollup_change import RollupChange
from heliograph.store.sqlite_connection import (
    OLDEST_SQLITE,
    open_reader,
    taken_field,
    translate,
    unavailable,
)
from heliograph.store.sqlite_generation import Identity, identity_of
from heliograph.store.sqlite_writer import SqliteWriter

log = structlog.get_logger()

READERS = 4
READ_SECONDS = 30.0
PING_SECONDS = 2.0
INTERRUPT_SECONDS = 0.02

T = TypeVar("T")


async def open_sqlite(path: Path, claim: Claim | None = None) -> Engine:
    """Open the file, making it (empty) where there is none.

    `claim` is that of a server, which takes care of the write-ahead log.

    Raises:
        StartError: it can't be used.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StartError(f"SQLite {sqlite3.sqlite_version} is too old: {needed} is needed")
    engine = SqliteEngine(path, claim)
    try:
        await engine.start()
    except UnusableStoreError as error:
        await engine.close()
        if isinstance(error.__cause__, StartError):
            raise error.__cause__ from None
        raise StartError(f"DATABASE_URL: can't open {path}: {error}") from error
    except (OSError, StoreUnavailableError) as error:
        await engine.close()
        raise StartError(f"DATABASE_URL: can't open {path}: {error}") from error
    return engine


class _Reader:
    """A connection that can't write."""

    def __init__(self, path: Path, admitted: Callable[[], Identity]) -> None:
        self._path = path
        self._admitted = admitted
        self._raw: sqlite3.Connection | None = None
        self.connection = aiosqlite.Connection(self._open, iter_chunk_size=64)

    def _open(self) -> sqlite3.Connection:
        # A file that was put in the place of the writer's may lie beside the other's log: the
        # writer looks at it first. Nothing is read before the first statement.
        self._check()
        self._raw = open_reader(self._path)
        try:
            self._check()
        except BaseException:
            self._raw.close()
            raise
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


async def _connect(path: Path, admitted: Callable[[], Identity]) -> _Reader:
    reader = _Reader(path, admitted)
    await reader.connection
    return reader


async def _disconnect(reader: _Reader) -> None:
    await reader.connection.close()


class SqliteEngine:
    """A SQLite file. Implements `Engine`."""

    name: Final = "sqlite"
    # The larger the batch, the fewer pages a row dirties: with 10,000 sensors 20,000 rows cost
    # two thirds of what four times 5,000 do.
    batch_rows: Final = 32_768

    def __init__(self, path: Path, claim: Claim | None = None) -> None:
        self._path = path
        self._queries = load_queries(self.name)
        self.lateness = Lateness(shared=False)
        self.lineage = Lineage()
        self._writer = writer = SqliteWriter(path, self._queries, self.lateness, claim)
        # Why nothing goes into the file: SQLite has not written all that was read in it, or it
        # does not belong to the log beside it.
        self._unusable: UnusableStoreError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        # Who holds it has the thread: nothing else waits in the executor's boundless queue,
        # and nothing comes between the statements of a transaction.
        self._turn = asyncio.Lock()
        self._readers = Pool(
            READERS,
            lambda: _connect(path, lambda: writer.identity),
            _disconnect,
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
            async with self._turn:
                await self._use(self._writer.renew)
                self._readers.renew()

    async def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call."""
        async with self._turn:
            return await self._use(self._writer.written_elsewhere)

    async def renew(self) -> None:
        """Open all connections anew."""
        async with self._turn:
            await self._run(self._writer.close)
            self._readers.renew()

    async def _drain(self, reader: _Reader) -> None:
        """Give back a connection whose caller has gone, once its thread is through with it."""
        # Interrupting has no effect on a statement that has yet to begin, so it is repeated.
        last = asyncio.create_task(_disconnect(reader), name="sqlite-disconnect")
        while not last.done():
            reader.interrupt()
            # Cancelled, as all tasks are by a second Ctrl-C, it goes on: that takes a moment, and
            # who closes a connection while it is closed waits for a thread that has ended.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([last], timeout=INTERRUPT_SECONDS)
        await self._readers.drop(reader)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on the writer."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._turn:
            try:
                based_on = self.lineage.known
                await self._use(lambda: self._writer.begin(based_on))
                yield _Change(self._use, self._writer)
                await self._use(self._writer.commit)
            except BaseException as error:
                # Cancelled or not: the thread does this after what it is doing now.
                cause = error
                known = self._note(await self._run(lambda: self._writer.abandon(cause)))
                if not isinstance(error, Exception):
                    raise
                if field := taken_field(error):
                    raise AlreadyExistsError(field) from error
                if isinstance(error, StoreUnavailableError):
                    self._readers.renew()
                elif isinstance(error, sqlite3.Error | OverflowError | UnicodeError):
                    raise known from error
                raise

    async def write(self, batch: Batch) -> Written:
        """Commit a batch."""
        known = batch.change or self.lineage.known
        return await self._commit(lambda: self._writer.write(batch, known))

    async def _commit(self, function: Callable[[], T]) -> T:
        """Run what commits; the readers follow the writer to a file that was put back."""
        async with self._turn:
            try:
                return await self._use(function)
            except StoreUnavailableError:
                self._readers.renew()
                raise

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries that are not expired."""
        async with self._turn:
            return await self._use(lambda: self._writer.find_deliveries(keys, now))

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        async with self._turn:
            await self._use(lambda: self._writer.forget_deliveries(deliveries))

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Keep it: a file has none."""
        del table, month, moment, default_days
        return Drop.KEPT

    async def used(self) -> int:
        """Count the pages in use and the write-ahead log, which lies beside the file."""
        rows = await self.fetch("disk_used")
        live: int = rows[0][0]
        return live + await asyncio.to_thread(_size, Path(f"{self._path}-wal"))

    async def empty_log(self) -> None:
        """Write the log into the file and cut it off; else it keeps its size for later writes."""
        if await asyncio.to_thread(_size, Path(f"{self._path}-wal")):
            await self._commit(self._writer.empty_log)

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return the oldest marks."""
        return await self._commit(lambda: self._writer.take_marks(until, limit))

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change of rollups."""
        known = self.lineage.known
        return await self._commit(lambda: self._writer.store_rollups(change, known))

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
        async with self._turn:
            if not self._closed:
                await self._run(self._writer.close)
                self._closed = True
                self._thread.shutdown()
                self._writer.release()

    async def _run(self, function: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailableError("SQLite: the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _use(self, function: Callable[[], T]) -> T:
        """Run what uses the file, unless nothing more may go into it."""
        if self._unusable is not None and self._unusable.is_damage and not self._was_replaced():
            raise self._unusable
        try:
            result = await self._run(function)
        except StoreUnavailableError as error:
            self._note(error)
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
                log.critical("the database can't be used", reason=str(error))
            self._unusable = error
        return error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unavailable(error) from error


class _Change:
    """A transaction on the writer. Implements `Transaction`."""

    def __init__(self, run: Callable[[Callable[[], Any]], Any], writer: SqliteWriter) -> None:
        self._run = run
        self._writer = writer

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query and return its rows."""
        rows: Sequence[Row] = await self._run(lambda: self._writer.fetch(query, parameters))
        return rows

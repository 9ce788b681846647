"""Connections to a SQLite file, and what its errors mean."""

import os
import re
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Literal

from heliograph.errors import (
    AlreadyExistsError,
    ClaimLostError,
    RolledBackError,
    RowError,
    StartError,
    StoreUnavailableError,
    UnusableStoreError,
)

BUSY_SECONDS = 5.0

# STRICT tables came last of what is used: 3.37, November 2021.
OLDEST_SQLITE = (3, 37, 0)

# The writer keeps the upper levels of its indexes, for which the default of 2 MiB is too small.
_WRITER_CACHE_KIB = 16 << 10
_JOURNAL_BYTES = 64 << 20

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_UNIQUE = re.compile(r"UNIQUE constraint failed: (?:.*, )?\w+\.(\w+)")


def address(path: Path, mode: Literal["ro", "rw"]) -> str:
    """Return the file's address for `sqlite3.connect(…, uri=True)`."""
    return f"file:{urllib.parse.quote(str(path))}?mode={mode}"


def open_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the connection that writes, in whichever thread calls.

    Raises:
        sqlite3.Error: it can't be opened, or is no database.
    """
    if create and not path.exists():
        # It holds what devices said, and hashes of their keys: nobody else's to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        address(path, "rw"),
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    try:
        for pragma in (
            "journal_mode = WAL",
            # Each commit is on the disk before it is acknowledged.
            "synchronous = FULL",
            f"journal_size_limit = {_JOURNAL_BYTES}",
            # The server does that itself, see `Generation`; a command when it ends.
            "wal_autocheckpoint = 0",
            f"cache_size = -{_WRITER_CACHE_KIB}",
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
    connection = sqlite3.connect(
        address(path, "ro"),
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
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


def rolled_back(engine: str) -> RolledBackError:
    """Return the error that says that the database was put back."""
    return RolledBackError(f"{engine}: the database was put back to another state")


def taken_field(error: Exception) -> str | None:
    """Return the column whose unique value is taken, if that is what the error says."""
    if not isinstance(error, sqlite3.IntegrityError):
        return None
    found = _UNIQUE.match(str(error))
    return found[1] if found else None

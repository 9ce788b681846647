"""Which errors speak against a row, and which against the database's state."""

import sqlite3
import ssl

import asyncpg
import pytest

from heliograph.errors import RowError, StoreUnavailableError
from heliograph.store import postgresql, sqlite


def postgresql_error(sqlstate):
    return asyncpg.PostgresError.new({"C": sqlstate, "M": "message", "S": "ERROR"})


@pytest.mark.parametrize("sqlstate", ["22003", "22021", "22P05", "23502", "23505", "54000"])
def test_row_errors_of_postgresql(sqlstate):
    translated = postgresql.translate(postgresql_error(sqlstate))
    assert isinstance(translated, RowError)


@pytest.mark.parametrize(
    "error",
    [
        *map(
            postgresql_error,
            ["53100", "53200", "53300", "57P01", "57P02", "57P03", "57014", "40P01", "40001"],
        ),
        *map(postgresql_error, ["25006", "55P03", "08006", "0A000", "42P01", "28P01", "XX000"]),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionRefusedError(),
        TimeoutError(),
        MemoryError(),
        ssl.SSLCertVerificationError("expired"),
    ],
)
def test_other_errors_of_postgresql(error):
    translated = postgresql.translate(error)
    assert isinstance(translated, StoreUnavailableError)
    assert str(translated).removeprefix("PostgreSQL: ")


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.IntegrityError("NOT NULL constraint failed"),
        sqlite3.DataError("string or blob too big"),
        sqlite3.ProgrammingError("Error binding parameter 1"),
        OverflowError("Python int too large to convert to SQLite INTEGER"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
)
def test_row_errors_of_sqlite(error):
    assert isinstance(sqlite.translate(error), RowError)


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("database is locked"),
        sqlite3.DatabaseError("database disk image is malformed"),
        FileNotFoundError(),
        MemoryError(),
    ],
)
def test_other_errors_of_sqlite(error):
    assert isinstance(sqlite.translate(error), StoreUnavailableError)


def test_errors_of_our_own_stay_what_they_are():
    for error in (RowError("x"), StoreUnavailableError("x")):
        assert sqlite.translate(error) is error
        assert postgresql.translate(error) is error

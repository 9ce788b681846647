"""Connections to PostgreSQL, and what its errors mean."""

from typing import Any

import asyncpg

from heliograph.errors import (
    AlreadyExistsError,
    ClaimLostError,
    RolledBackError,
    RowError,
    StoreUnavailableError,
)
from heliograph.store.queries import Query

OLDEST_POSTGRESQL = 13

CONNECT_SECONDS = 5.0
WRITE_SECONDS = 30.0
READ_SECONDS = 30.0
LOCK_SECONDS = 10.0
CLOSE_SECONDS = 5.0

# Data exceptions, violated constraints, limits exceeded: the row's fault. All others (no disk
# space, shutting down, deadlock, time-out, read only) say nothing against the row.
# What `check_registry` raises.
_ROLLED_BACK = "HG001"
_ROW_CLASSES = frozenset({"22", "23", "54"})

# jit: compiling a query of a few rows takes longer than running it.
_SETTINGS = {"jit": "off", "timezone": "UTC", "idle_in_transaction_session_timeout": "60000"}
_WRITER_SETTINGS = {
    **_SETTINGS,
    "application_name": "heliograph writer",
    # Each commit is on the disk before it is acknowledged, whatever the server's default.
    "synchronous_commit": "on",
    "statement_timeout": f"{WRITE_SECONDS * 1_000:.0f}",
    "lock_timeout": f"{LOCK_SECONDS * 1_000:.0f}",
}
_READER_SETTINGS = {
    # Planning again for each page over all partitions takes longer than reading it.
    "plan_cache_mode": "force_generic_plan",
    **_SETTINGS,
    "application_name": "heliograph reader",
    "default_transaction_read_only": "on",
    "statement_timeout": f"{READ_SECONDS * 1_000:.0f}",
}


async def connect_writer(dsn: str) -> Any:
    """Open the connection that writes; errors are the driver's."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=WRITE_SECONDS,
        server_settings=_WRITER_SETTINGS,
    )


async def connect_reader(dsn: str) -> Any:
    """Open a connection that reads; errors are the driver's."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=READ_SECONDS,
        server_settings=_READER_SETTINGS,
    )


async def disconnect(connection: Any) -> None:
    """Close a connection, whatever state it is in."""
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
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

"""Alembic's entry: runs the migrations on DATABASE_URL, one transaction each."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from alembic import context
from sqlalchemy.engine import Connection

from heliograph.store.url import DatabaseUrl, parse_database_url

# Any number, as long as it is always this one.
_ADVISORY_LOCK = 7_305_486_012
_WAIT_SECONDS = 600


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=None,
        transactional_ddl=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    # Which migrations are due is read before their transactions begin, so two processes must
    # not even read at once. SQLite's own locks are of another kind (fcntl) and don't see this
    # one, but closing the file would drop them: it is closed after the database.
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _migrate_sqlite(url: DatabaseUrl) -> None:
    path = url.path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without isolation_level the driver begins nothing by itself; it would begin only before
    # an INSERT or UPDATE, and leave half a migration's tables behind a failure.
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, isolation_level=None, timeout=_WAIT_SECONDS),
        poolclass=sqlalchemy.pool.NullPool,
    )
    sqlalchemy.event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
    )
    with _alone(path), engine.connect() as connection:
        _run(connection)


def _migrate_postgresql(url: DatabaseUrl) -> None:
    import psycopg  # noqa: PLC0415 - a fifth of the time that migrating SQLite takes

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(
            url.libpq, connect_timeout=10, application_name="heliograph migrate"
        ),
        poolclass=sqlalchemy.pool.NullPool,
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET statement_timeout = '{_WAIT_SECONDS}s'")
        # A lock of the session, released with it: a migration's own transaction comes later.
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
        connection.commit()
        _run(connection)


def _url_of_settings() -> str:
    # Not needed, and slow to import, where the server migrates its database.
    from heliograph.settings import load_settings  # noqa: PLC0415 - see above

    return load_settings().database_url


def _main() -> None:
    # From `run_migrations` the URL comes with the configuration, from the `alembic` command
    # with the settings.
    given = context.config.attributes.get("database_url")
    url = parse_database_url(given or _url_of_settings())
    if url.is_sqlite:
        _migrate_sqlite(url)
    else:
        _migrate_postgresql(url)


_main()

"""Alembic's entry: runs the migrations on DATABASE_URL, one transaction each."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from alembic import context
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from heliograph.database_url import DatabaseUrl, no_database, parse_database_url
from heliograph.errors import StartError
from heliograph.store.migrations.running import TOLD_BACKUP, MigrationState, head
from heliograph.store.sqlite_backup import back_up_before_migration, revision_of
from heliograph.store.sqlite_generation import look, make_shortenable

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
    state = MigrationState(context.get_context().get_current_revision(), head())
    if state.is_outdated or state.is_newer:
        raise StartError(str(state.fault))
    with context.begin_transaction():
        context.run_migrations()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    # Which migrations are due is read before their transactions begin, so two processes must
    # not even read at once.
    file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _back_up_first(path: Path, backups: int) -> None:
    """Take a backup of a database that is about to be changed, and tell where it is.

    Nothing in this process has the database open.
    """
    revision = revision_of(path)
    direction = _direction()
    if revision is None or direction is None or (direction == "upgrade" and revision == head()):
        return
    state = MigrationState(revision, head())
    if state.is_outdated or state.is_newer:
        return  # it is refused
    made = back_up_before_migration(path, revision, backups)
    context.config.print_stdout("%s%s", TOLD_BACKUP, made)


def _direction() -> str | None:
    """Return `upgrade` or `downgrade`; None: a command of Alembic's that only looks."""
    given: str | None = context.config.attributes.get("direction")
    if given is not None:
        return given
    words = getattr(context.config.cmd_opts, "cmd", None)
    name = words[0].__name__ if words is not None else None
    return name if name in ("upgrade", "downgrade") else None


def _migrate_sqlite(url: DatabaseUrl, *, accept_empty: bool, backups: int) -> None:
    path = url.path
    path.parent.mkdir(parents=True, exist_ok=True)
    look(path, accept_empty=accept_empty)
    # Without isolation_level the driver begins nothing by itself; it would begin only before
    # an INSERT or UPDATE, and leave half a migration's tables behind a failure.
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: _connect(path),
        poolclass=sqlalchemy.pool.NullPool,
    )
    sqlalchemy.event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
    )
    with _alone(path):
        if backups:
            _back_up_first(path, backups)
        with engine.connect() as connection:
            _run(connection)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_WAIT_SECONDS)
    make_shortenable(connection, path)
    # A server's log is the server's to write back; else it is done at the end.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


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


def _of_settings() -> tuple[str, bool, int]:
    # Not needed, and slow to import, where the server migrates its database.
    from heliograph.settings import load_settings  # noqa: PLC0415 - see above

    settings = load_settings()
    return settings.database_url, settings.accept_empty_database, settings.migration_backups


def _main() -> None:
    # From `run_migrations` the URL comes with the configuration, from the `alembic` command
    # with the settings.
    attributes = context.config.attributes
    given = attributes.get("database_url")
    # What has started this process has admitted the file.
    address, accept_empty, backups = (
        (given, False, attributes["backups"]) if given else _of_settings()
    )
    url = parse_database_url(address)
    if not url.is_sqlite:
        _migrate_postgresql(url)
        return
    # `alembic upgrade` makes a database where there is none, any other of its commands does not.
    words = getattr(context.config.cmd_opts, "cmd", None)
    if words is not None and words[0].__name__ != "upgrade" and not url.path.exists():
        raise no_database(url)
    _migrate_sqlite(url, accept_empty=accept_empty, backups=backups)


try:
    _main()
except StartError as error:
    raise CommandError(str(error)) from error

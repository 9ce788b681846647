"""Databases of rounds: prepared SQLite files, and a private PostgreSQL cluster with templates."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from bench.bare_store import POSTGRESQL_SCHEMA, SQLITE_SCHEMA
from bench.processes import cpu_seconds, free_port
from bench.scale import Profile
from bench.starting_line import LoadError
from bench.stored_rows import (
    VERSION,
    StoredRows,
    fill_postgresql,
    fill_sqlite,
    make_partitions,
    migrate,
    pack_by_default,
)

PROGRAMS = "/usr/lib/postgresql"
# Durable as PostgreSQL is by default; no checkpoint and no vacuum falls into one round only, but
# see `Database.vacuumed`.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "max_connections": "60",
}


@dataclasses.dataclass(frozen=True)
class Database:
    """A copy of a profile's rows, for one side, that is gone after the round.

    `url` is what that side opens; `address` the file or the PostgreSQL URL.
    """

    engine: str
    url: str
    address: str
    profile: Profile
    bare: bool

    def count(self, table: str) -> int:
        """Return the rows that another connection sees now, so what is committed."""
        return int(self._row(f"SELECT count(*) FROM {table}")[0])

    def times(self) -> tuple[int, int]:
        """Return the oldest and the newest timestamp of a measurement, in microseconds."""
        oldest, newest = self._row("SELECT min(timestamp), max(timestamp) FROM measurement")
        if self.profile.packed:
            (oldest,) = self._row("SELECT min(first) FROM chunk")
        return int(oldest), int(newest)

    def measurements(self) -> int:
        """Return how many measurements are stored, packed or not."""
        packed = "0" if self.bare else "(SELECT coalesce(sum(row_count), 0) FROM chunk)"
        return int(self._row(f"SELECT count(*) + {packed} FROM measurement")[0])

    def text(self, query: str) -> str:
        """Return the one value that a query finds."""
        return str(self._row(query)[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[str], tuple[Any, ...]]]:
        """Yield what finds one row, each time what is committed then, over one connection."""
        connection: Any
        if self.engine == "sqlite":
            connection = sqlite3.connect(self.address, timeout=30, isolation_level=None)
        else:
            connection = psycopg.connect(self.address, connect_timeout=10, autocommit=True)

        def row(query: str) -> tuple[Any, ...]:
            found = connection.execute(query).fetchone()
            if found is None:
                raise LoadError(f"no answer to {query}")
            return tuple(found)

        with contextlib.closing(connection):
            yield row

    @contextlib.contextmanager
    def vacuumed(self) -> Iterator[None]:
        """Have PostgreSQL vacuum and analyze as it does by default, for what lasts long enough."""
        if self.engine == "sqlite":
            yield
            return
        with psycopg.connect(self.address, connect_timeout=10, autocommit=True) as connection:
            try:
                connection.execute("ALTER SYSTEM SET autovacuum = on")
                connection.execute("SELECT pg_reload_conf()")
                yield
            finally:
                connection.execute("ALTER SYSTEM RESET autovacuum")
                connection.execute("SELECT pg_reload_conf()")

    def _row(self, query: str) -> tuple[Any, ...]:
        with self.reading() as row:
            return row(query)

    def expect(self, sent: int) -> None:
        """Raise unless exactly `sent` rows were added, and no message was rejected."""
        found = self.measurements() - self.profile.rows - self.profile.sensors * self.profile.packed
        rejected = 0 if self.bare else self.count("rejected_message")
        if found != sent or rejected:
            raise LoadError(
                f"{sent} rows were acknowledged, {found} are stored and {rejected} rejected"
                f" ({self.engine}, {'bare' if self.bare else 'server'})"
            )


class SqliteDatabases:
    """Hands out copies of the prepared files."""

    def __init__(self, directory: Path, cache: Path) -> None:
        self._directory, self._cache = directory, cache
        self._empty: Path | None = None
        self._copies = 0

    @contextlib.contextmanager
    def copy(self, profile: Profile, *, bare: bool, layout: str = "rowid") -> Iterator[Database]:
        """Yield a copy, all of it written to the disk and still in the page cache."""
        prepared = self._prepared(profile, layout if bare else None)
        self._copies += 1
        folder = self._directory / f"round-{self._copies}"
        folder.mkdir()
        path = folder / "heliograph.db"
        shutil.copyfile(prepared, path)
        with path.open("rb") as copied:
            os.fsync(copied.fileno())
        url = str(path) if bare else f"sqlite:///{path}"
        try:
            yield Database("sqlite", url, str(path), profile, bare)
        finally:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def in_place(self, profile: Profile) -> Iterator[Database]:
        """Yield the prepared file itself: for rows that are too many to copy, and only read."""
        path = self._prepared(profile, None)
        yield Database("sqlite", f"sqlite:///{path}", str(path), profile, bare=False)

    def _prepared(self, profile: Profile, layout: str | None) -> Path:
        """Return the file with the profile's rows, from the cache if it is there."""
        empty = self._migrated() if layout is None else None
        schema = _schema(empty) if empty else SQLITE_SCHEMA[layout or ""]
        content = f"{VERSION}\0{profile}\0{schema}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        prefix = f"{profile.name}-{layout or 'server'}-"
        kept = self._cache / f"{prefix}{digest}.db"
        if kept.exists():
            return kept
        self._cache.mkdir(parents=True, exist_ok=True)
        for older in self._cache.glob(f"{prefix}*.db"):
            older.unlink()
        made = self._directory / f"making-{kept.name}"
        if empty:
            shutil.copyfile(empty, made)
        rows = StoredRows.until_now(profile)
        with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as database:
            # Without a journal: a file that does not get ready is not kept.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
                database.execute(f"PRAGMA {pragma}")
            database.execute("BEGIN IMMEDIATE")
            if layout is None:
                fill_sqlite(database, rows)
            else:
                database.execute(schema)
                _fill_bare(database, rows)
            database.execute("COMMIT")
            database.execute("PRAGMA journal_mode = WAL")
        if profile.by_default:
            pack_by_default(f"sqlite:///{made}")
        # The cache may be on another file system, where a rename is none.
        partial = kept.with_suffix(".partial")
        shutil.move(made, partial)
        partial.replace(kept)
        return kept

    def _migrated(self) -> Path:
        """Return an empty file with the server's schema."""
        if self._empty is None:
            empty = self._directory / "empty.db"
            migrate(f"sqlite:///{empty}", self._directory)
            with contextlib.closing(sqlite3.connect(empty)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._empty = empty
        return self._empty


def _schema(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    return "\n".join(row[0] or "" for row in rows)


def _fill_bare(database: sqlite3.Connection, rows: StoredRows) -> None:
    if rows.profile.rows:
        database.execute(
            "INSERT INTO measurement (sensor, timestamp, fingerprint, receipt, revision, value) "
            f"SELECT * FROM ({rows.select('sqlite', bare=True)})"
        )


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, of the newest version there is."""
    versions = sorted(Path(PROGRAMS).glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    if versions:
        return str(versions[-1])
    found = shutil.which(name)
    if found is None:
        raise LoadError(f"PostgreSQL's {name} is not installed")
    return found


class Cluster:
    """Runs as the user postgres when we are root, which PostgreSQL refuses to be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own = Path(tempfile.mkdtemp(prefix="heliograph-bench-postgresql-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._own, self._user, self._user)
        self._port = free_port()
        self._copies = 0
        self._templates: dict[tuple[Profile, bool], str] = {}
        self._data = self._own / "data"
        trusted = "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        self._call("initdb", *trusted)
        # Not on the command line, which nothing could change.
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write("autovacuum = off\n")
        options = {**OPTIONS, "port": self._port, "unix_socket_directories": self._own}
        text = " ".join(f"--{name}={setting}" for name, setting in options.items())
        self._call("pg_ctl", "-w", "-l", str(self._own / "log"), "-o", text, "start")
        self._process = int((self._data / "postmaster.pid").read_text().split()[0])

    def _call(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [program(name), "-D", str(self._data), *arguments],
            cwd=self._own,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise LoadError(f"{name} failed:\n{done.stdout}{done.stderr}")

    def cpu_seconds(self) -> float:
        """Return the CPU time of all of PostgreSQL's processes until now."""
        return cpu_seconds(self._process)

    def close(self) -> None:
        """Stop the cluster, and remove it."""
        self._call("pg_ctl", "-w", "-m", "fast", "stop")
        shutil.rmtree(self._own, ignore_errors=True)

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def _administer(self, *statements: str) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextlib.contextmanager
    def copy(self, profile: Profile, *, bare: bool) -> Iterator[Database]:
        """Yield a copy of the profile's template, all of it written to the disk."""
        template = self._templates.get((profile, bare)) or self._make(profile, bare=bare)
        self._copies += 1
        name = f"round_{self._copies}"
        self._administer(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy", "CHECKPOINT"
        )
        try:
            yield Database("postgresql", self._url(name), self._url(name), profile, bare)
        finally:
            self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _make(self, profile: Profile, *, bare: bool) -> str:
        name = f"template_{len(self._templates)}"
        self._administer(f"CREATE DATABASE {name}")
        rows = StoredRows.until_now(profile)
        if not bare:
            migrate(self._url(name), self._directory)
            make_partitions(self._url(name), rows)
        with psycopg.connect(self._url(name)) as connection:
            if bare:
                connection.execute(POSTGRESQL_SCHEMA)
                if profile.rows:
                    made = rows.select("postgresql", bare=True)
                    connection.execute(f"INSERT INTO measurement {made}".encode())
            else:
                fill_postgresql(connection, rows)
        with psycopg.connect(self._url(name), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        self._templates[profile, bare] = name
        return name

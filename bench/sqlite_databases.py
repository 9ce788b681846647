"""SQLite files with stored rows: made once, kept, copied for every round."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bench.bare_store import SQLITE_SCHEMA
from bench.database import Database
from bench.migration import migrate
from bench.scale import Profile
from bench.server_schema import fill_sqlite
from bench.stored_rows import VERSION, StoredRows


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

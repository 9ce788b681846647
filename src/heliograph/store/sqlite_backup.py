"""Backups of a SQLite file: taken while a server writes to it, looked at, put in place."""

import contextlib
import os
import re
import secrets
import shutil
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from heliograph.backup_files import clear_parts, stamp, sync_folder, written
from heliograph.errors import StartError
from heliograph.model.counting import counted
from heliograph.model.time import now
from heliograph.store.migrations.running import MigrationState, head
from heliograph.store.sqlite_generation import lock_soon, log_of, look

# 16 MiB between two looks for Ctrl-C.
_STEP_PAGES = 4_096
_BUSY_SECONDS = 30.0
# What belongs to a file of SQLite, beside it.
_BESIDE = ("-wal", "-shm", "-journal", "-generation")


class Contents(NamedTuple):
    """What is in a backup: its revision, and how many rows each table has."""

    revision: str
    rows: dict[str, int]

    @property
    def summary(self) -> str:
        """What people ask for first. Chunks hold measurements that are no rows any more."""
        names = "sensor", "measurement", "chunk"
        sensors, measurements, chunks = (self.rows.get(name, 0) for name in names)
        told = f"{counted(sensors, 'sensor')}, {counted(measurements, 'measurement')}"
        return f"{told}, {counted(chunks, 'chunk')} of packed ones" if chunks else told


def back_up(path: Path, part: Path) -> Contents:
    """Copy the database as it is now into an empty file, and verify the copy.

    A server may write meanwhile; all that was committed before is in it, and of nothing a half.

    Raises:
        StartError: it can't be read, written, or is damaged.
    """
    look(path)
    try:
        with contextlib.closing(_reading(path)) as source:
            # One state for all that follows: without it the copy begins anew with each commit. It
            # is that of the first statement that reads.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")
                copy.execute("PRAGMA journal_mode = OFF")
                source.backup(copy, pages=_STEP_PAGES)
                # It needs no log, and with one beside it is refused: decision 0018.
                copy.execute("PRAGMA journal_mode = DELETE")
            there = _contents(source)
    except sqlite3.Error as error:
        raise StartError(f"can't back up {path}: {error}") from error
    found = inspect(part)
    if found != there:
        raise StartError(f"the backup of {path} does not hold what the database does: take another")
    return found


def revision_of(path: Path) -> str | None:
    """Return a database's revision; None: there is none, or it was never migrated.

    Raises:
        StartError: it can't be read.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        with contextlib.closing(_reading(path)) as connection:
            if not _has_revision(connection):
                return None
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if found is None else str(found[0])
    except sqlite3.Error as error:
        raise StartError(f"DATABASE_URL: can't open {path}: {error}") from error


def back_up_before_migration(path: Path, revision: str, keep: int) -> Path:
    """Take a backup beside the database, and keep so many of such; return where it is.

    Raises:
        StartError: it can't be taken.
    """
    before = f"{path.name}-before-"
    name = re.compile(re.escape(before) + r"\w+-\d{8}T\d{6}Z")
    clear_parts(path.parent, name)
    free, needed = shutil.disk_usage(path.parent).free, path.stat().st_size
    if free < needed:
        raise StartError(
            f"a backup before the migration needs {needed} bytes, and {path.parent} has {free}"
            " free: make room, or set MIGRATION_BACKUPS=0"
        )
    made = path.with_name(f"{before}{revision}-{stamp(now())}")
    with written(made) as part:
        back_up(path, part)
    earlier = [each for each in path.parent.iterdir() if name.fullmatch(each.name)]
    for each in sorted(earlier, key=lambda each: each.name[-16:])[:-keep]:
        each.unlink()
    return made


def inspect(path: Path) -> Contents:
    """Return what is in a backup, once all of it has been looked at.

    Raises:
        StartError: it is damaged, or no backup of Heliograph.
    """
    if log_of(path).exists() and log_of(path).stat().st_size:
        raise StartError(
            f"{path} has a write-ahead log beside it, so that it is a database in use or a copy of"
            " one, and no backup: heliograph backup makes one"
        )
    try:
        with contextlib.closing(_immutable(path)) as connection:
            if not _has_revision(connection):
                raise StartError(f"{path} is a SQLite file, and no database of Heliograph")
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
            if faults != ["ok"]:
                raise StartError(f"{path} is damaged: {' '.join(faults[0].split())}")
            return _contents(connection)
    except sqlite3.Error as error:
        raise StartError(f"{path} can't be read: {error}") from error


def _reading(path: Path) -> sqlite3.Connection:
    uri = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)


def _immutable(path: Path) -> sqlite3.Connection:
    # Nothing is made beside it, nor needed there.
    uri = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _has_revision(connection: sqlite3.Connection) -> bool:
    names = ("alembic_version", "sensor")
    found = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN (?, ?)", names
    )
    return bool(found.fetchone()[0] == len(names))


def _contents(connection: sqlite3.Connection) -> Contents:
    if not _has_revision(connection):
        raise StartError("there is no database of Heliograph to back up")
    [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    rows = {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - a name of the schema's own
        for (name,) in tables
    }
    # Each measurement has a key; up to revision 0034 keys were an index.
    rows["measurement"] = rows.pop("measurement_key", rows.get("measurement", 0))
    return Contents(revision, rows)


def restore(backup: Path, path: Path) -> tuple[Contents, Path | None]:
    """Put a copy of the backup in the place of a database that no server uses.

    The copy is a database of its own: whatever knew the backed-up one sees that this is another.
    Return what is in it, and the folder of what was there before; None: nothing was.

    Raises:
        StartError: a server uses what is there; the backup is damaged, foreign, or of a newer
            version; it can't be done, and what was there is still there.
    """
    if path.exists() and backup.samefile(path):
        raise StartError(f"{backup} is the database itself")
    contents = inspect(backup)
    state = MigrationState(contents.revision, head())
    if state.is_newer or state.is_outdated:
        raise StartError(f"{backup}: {state.fault}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unused(path), _draft(path) as draft:
            _need_room(backup, path.parent)
            shutil.copyfile(backup, draft)
            _renew_identity(draft)
            _own_like(draft, path)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            replaced = _move_aside(path)
            draft.replace(path)
            sync_folder(path.parent)
    except sqlite3.Error as error:
        raise StartError(f"can't restore {backup}: {error}") from error
    except OSError as error:
        raise StartError(f"can't restore {backup} to {path}: {error.strerror or error}") from error
    return contents, replaced


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Keep servers away from what is there."""
    if not path.exists():
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not lock_soon(descriptor):
            raise StartError(f"a server uses {path}: stop it first")
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Make a private file beside the path, which is gone at the end unless it was moved."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _need_room(backup: Path, folder: Path) -> None:
    free, needed = shutil.disk_usage(folder).free, backup.stat().st_size
    if free < needed:
        raise StartError(f"{folder} has {free} bytes free, and the backup needs {needed}")


def _renew_identity(path: Path) -> None:
    """Give it a generation and a lineage that no other copy has: decisions 0018 and 0019."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM registry_change")
        # A trigger notes the change, with a token of its own.
        connection.execute("UPDATE registry SET version = version + 1")
        connection.execute(f"PRAGMA user_version = {secrets.randbelow((1 << 31) - 1) + 1}")
        connection.execute("COMMIT")


def _own_like(draft: Path, path: Path) -> None:
    """Have it belong to whom the database belonged, else the folder, where root restores it."""
    if os.geteuid() == 0:
        model = (path if path.exists() else path.parent).stat()
        os.chown(draft, model.st_uid, model.st_gid)


def _move_aside(path: Path) -> Path | None:
    """Move a database, with what belongs to it, into a folder beside it; return the folder."""
    beside = [Path(f"{path}{suffix}") for suffix in _BESIDE]
    there = [each for each in (*beside, path) if each.exists()]
    if not there:
        return None
    folder = path.with_name(f"replaced-{stamp(now())}")
    while folder.exists():
        folder = folder.with_name(f"{folder.name}-")
    folder.mkdir(0o700)
    if os.geteuid() == 0:
        model = path.parent.stat()
        os.chown(folder, model.st_uid, model.st_gid)
    for each in there:
        if each == path:
            # At no moment is there none: a server would begin an empty one.
            os.link(each, folder / each.name)
        else:
            each.rename(folder / each.name)
    sync_folder(folder)
    return folder

"""The files of backups: their names, how they are written, how many of them are kept."""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from heliograph.errors import StartError
from heliograph.model.time import to_rfc3339

SQLITE_SUFFIX = ".db"
POSTGRESQL_SUFFIX = ".dump"
SECRETS_SUFFIX = ".secrets"
_PART_SUFFIX = ".part"

_SQLITE_MAGIC = b"SQLite format 3\0"
_POSTGRESQL_MAGIC = b"PGDMP"
_DATED = r"heliograph-\d{8}T\d{6}Z"


def stamp(moment: int) -> str:
    """Return a time as it stands in names: UTC, to the second."""
    return re.sub(r"[-:]", "", to_rfc3339(moment)[:19]) + "Z"


def _dated(suffix: str) -> re.Pattern[str]:
    return re.compile(_DATED + re.escape(suffix))


def path_for(given: Path, suffix: str, moment: int) -> Path:
    """Return where a backup goes: the path given, or a dated name in the folder given.

    Raises:
        StartError: something that is no backup is there, or the folder is not.
    """
    if given.is_dir():
        path = given / f"heliograph-{stamp(moment)}{suffix}"
        clear_parts(given, _dated(suffix))
    else:
        path = given
    if not path.parent.is_dir():
        raise StartError(f"there is no folder {path.parent}")
    # What is used has a log beside it: no backup has.
    if path.exists() and (Path(f"{path}-wal").exists() or kind(path) is None):
        raise StartError(f"{path} is there, and is no backup: give another name, or a folder")
    return path


def kind(path: Path) -> str | None:
    """Return the suffix that backups of this kind have, by what the file begins with; None: none.

    Raises:
        StartError: it can't be read, or is no file: a pipe would have us wait for ever.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise StartError(f"{path} is no file")
        with path.open("rb") as file:
            beginning = file.read(len(_SQLITE_MAGIC))
    except OSError as error:
        raise StartError(f"can't read {path}: {error.strerror}") from error
    if beginning == _SQLITE_MAGIC:
        return SQLITE_SUFFIX
    return POSTGRESQL_SUFFIX if beginning.startswith(_POSTGRESQL_MAGIC) else None


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a file to write to, which its owner alone may read, and put it in the path's place.

    It is on the disk then. If writing fails it is deleted, and what was at the path is still there.

    Raises:
        StartError: it can't be written, or another backup is being written there.
    """
    part = path.with_name(path.name + _PART_SUFFIX)
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"can't write {part}: {error.strerror}") from error
    try:
        _lock(descriptor, part)
        # Left by one that was killed, it may be another's to read.
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        try:
            yield part
            os.fsync(descriptor)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StartError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


def _lock(descriptor: int, part: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"another backup is being written to {part}") from None


def clear_parts(folder: Path, name: re.Pattern[str]) -> None:
    """Delete what is left in a folder of backups with such names that were killed."""
    for part in folder.glob(f"*{_PART_SUFFIX}"):
        made = part.name.removesuffix(_PART_SUFFIX).removesuffix(SECRETS_SUFFIX)
        if not name.fullmatch(made):
            continue
        # What can't be deleted is in nobody's way.
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                # Whoever still writes has locked it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def thin_out(folder: Path, suffix: str, keep: int) -> list[Path]:
    """Delete the oldest backups with dated names of this kind; return those that are gone.

    What was named by somebody is never deleted.

    Raises:
        StartError: one can't be deleted.
    """
    dated = _dated(suffix)
    found = sorted(path for path in folder.iterdir() if dated.fullmatch(path.name))
    gone = found[: max(len(found) - keep, 0)]
    try:
        for path in gone:
            path.unlink(missing_ok=True)
            path.with_name(path.name + SECRETS_SUFFIX).unlink(missing_ok=True)
    except OSError as error:
        raise StartError(f"can't delete an old backup: {error}") from error
    return gone

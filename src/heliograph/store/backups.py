"""Backups of the database that DATABASE_URL names, whichever engine it is of."""

from pathlib import Path

from heliograph.backup_files import POSTGRESQL_SUFFIX, SQLITE_SUFFIX, kind
from heliograph.database_url import DatabaseUrl
from heliograph.errors import StartError
from heliograph.store import sqlite_backup
from heliograph.store.sqlite_backup import Contents

_ENGINES = {SQLITE_SUFFIX: "SQLite", POSTGRESQL_SUFFIX: "PostgreSQL"}


def suffix_of(url: DatabaseUrl) -> str:
    """Return the suffix that backups of the database have."""
    return SQLITE_SUFFIX if url.is_sqlite else POSTGRESQL_SUFFIX


def back_up(url: DatabaseUrl, part: Path) -> Contents:
    """Write a backup into an empty file, and verify it; a server may go on writing meanwhile.

    Raises:
        StartError: it can't be done.
    """
    if url.is_sqlite:
        return sqlite_backup.back_up(url.path, part)
    from heliograph.store import postgresql_backup  # noqa: PLC0415 - its driver, for those who need it

    return postgresql_backup.back_up(url, part)


def restore(backup: Path, url: DatabaseUrl) -> tuple[Contents, str | None]:
    """Put a backup in the place of the database.

    Return what is in it, and where that is which was there before; None: nothing was.

    Raises:
        StartError: a server uses the database, the backup is not one for it, or it can't be done.
    """
    found = kind(backup)
    if found is None:
        raise StartError(f"{backup} is no backup of Heliograph")
    if found != suffix_of(url):
        raise StartError(
            f"{backup} is a backup of {_ENGINES[found]}, and DATABASE_URL is a database of"
            f" {_ENGINES[suffix_of(url)]}"
        )
    if url.is_sqlite:
        contents, folder = sqlite_backup.restore(backup, url.path)
        return contents, None if folder is None else str(folder)
    from heliograph.store import postgresql_backup  # noqa: PLC0415 - see above

    contents, schema = postgresql_backup.restore(backup, url)
    return contents, None if schema is None else f"schema {schema}"

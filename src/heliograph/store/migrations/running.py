"""Running the migrations from within the program, without importing Alembic into it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from heliograph.database_url import parse_database_url
from heliograph.errors import StartError

# Handed over by the environment: an argument could be read by everybody on the machine.
DATABASE_URL_VARIABLE = "HELIOGRAPH_MIGRATION_DATABASE_URL"
BACKUPS_VARIABLE = "HELIOGRAPH_MIGRATION_BACKUPS"
# What the child says before the path of the backup that it has taken.
TOLD_BACKUP = "backup before the migration: "

_WRAPPING = re.compile(r"^(sqlalchemy|alembic)\.[\w.]+: (\([\w.]+\) )?")

# A large file on an SD card is copied, and then written in one transaction: one that was ended
# would have to begin anew.
_TIME_OUT_SECONDS = 12 * 3_600


# The last whose revisions lead from any earlier one to the first that there is here.
_BRIDGE = "4c35c62"


class MigrationState(NamedTuple):
    """A database's revision (None: not migrated yet), and the one that this version needs."""

    current: str | None
    head: str

    @property
    def is_outdated(self) -> bool:
        """Whether no migration of this version leads on from the database's revision."""
        return self.current is not None and self.current < _revisions()[0]

    @property
    def is_newer(self) -> bool:
        """Whether a later version has made the database's revision."""
        return self.current is not None and self.current > self.head

    @property
    def fault(self) -> str | None:
        """What keeps this version from using the database, and what to do; None: nothing."""
        if self.current == self.head:
            return None
        if self.is_outdated:
            return (
                f"the database is at revision {self.current}, older than this version can migrate:"
                f" run heliograph migrate from commit {_BRIDGE} first, then this version"
            )
        if self.is_newer:
            return (
                f"the database is at revision {self.current}, which is newer than this version's"
                f" {self.head}: use the version that made it, or restore an older backup"
            )
        return (
            f"the database is at revision {self.current or 'none'}, this version"
            f" needs {self.head}: run heliograph migrate"
        )

    def require_head(self) -> None:
        """Return if this version can use the database.

        Raises:
            StartError: it can't; one line says why, and what to do.
        """
        if self.fault:
            raise StartError(f"DATABASE_URL: {self.fault}")


def _revisions() -> list[str]:
    # The files' names tell them without Alembic.
    versions = (Path(__file__).parent / "versions").glob("[0-9]*.py")
    return sorted(file.stem.partition("_")[0] for file in versions)


def head() -> str:
    """Return the newest revision."""
    return _revisions()[-1]


def run_migrations(
    database_url: str, revision: str = "head", *, downgrade: bool = False, backups: int = 0
) -> Path | None:
    """Bring the database up (or down) to a revision, in a child process.

    Of a SQLite file that is to be changed a backup is taken first, and as many as `backups` are
    kept; 0: none is taken. Return where it is; None: none was taken.

    Importing Alembic costs 31 MiB that the server would keep.

    Raises:
        StartError: with the last line of what the child said.
    """
    parse_database_url(database_url)
    direction = "downgrade" if downgrade else "upgrade"
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter, module and words
            [sys.executable, "-m", "heliograph.store.migrations", direction, revision],
            env={
                **os.environ,
                DATABASE_URL_VARIABLE: database_url,
                BACKUPS_VARIABLE: str(backups),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_OUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"the migrations took more than {_TIME_OUT_SECONDS} seconds") from error
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise StartError(f"the database could not be migrated: {_essence(lines)}")
    told = [line for line in child.stdout.splitlines() if line.startswith(TOLD_BACKUP)]
    return Path(told[-1].removeprefix(TOLD_BACKUP)) if told else None


def _essence(lines: list[str]) -> str:
    # SQLAlchemy puts its own class before the driver's message, and the statement behind it.
    errors = [line for line in lines if "Error" in line and not line.startswith(" ")]
    return _WRAPPING.sub("", (errors or lines)[-1])

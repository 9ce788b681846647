"""Running the migrations from within the program, without importing Alembic into it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from heliograph.errors import StartError
from heliograph.store.url import parse_database_url

# Handed over by the environment: an argument could be read by everybody on the machine.
DATABASE_URL_VARIABLE = "HELIOGRAPH_MIGRATION_DATABASE_URL"

_WRAPPING = re.compile(r"^(sqlalchemy|alembic)\.[\w.]+: (\([\w.]+\) )?")

_TIME_OUT_SECONDS = 900


def head() -> str:
    """Return the newest revision, which the files' names tell without Alembic."""
    versions = (Path(__file__).parent / "versions").glob("[0-9]*.py")
    return max(file.stem.partition("_")[0] for file in versions)


def run_migrations(database_url: str, revision: str = "head", *, downgrade: bool = False) -> None:
    """Bring the database up (or down) to a revision, in a child process.

    Importing Alembic costs 31 MiB that the server would keep.

    Raises:
        StartError: with the last line of what the child said.
    """
    parse_database_url(database_url)
    direction = "downgrade" if downgrade else "upgrade"
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter, module and words
            [sys.executable, "-m", "heliograph.store.migrations", direction, revision],
            env={**os.environ, DATABASE_URL_VARIABLE: database_url},
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


def _essence(lines: list[str]) -> str:
    # SQLAlchemy puts its own class before the driver's message, and the statement behind it.
    errors = [line for line in lines if "Error" in line and not line.startswith(" ")]
    return _WRAPPING.sub("", (errors or lines)[-1])

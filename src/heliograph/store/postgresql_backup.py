"""Backups of a PostgreSQL database, by its own `pg_dump` and `pg_restore`.

No password is in their arguments, which everybody on the machine can read.
"""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from heliograph.backup_files import stamp
from heliograph.database_url import DatabaseUrl
from heliograph.errors import StartError
from heliograph.model.time import now
from heliograph.store.migrations.running import MigrationState, head
from heliograph.store.queries import load_queries
from heliograph.store.sqlite_backup import Contents

# A database of a terabyte takes hours.
_SECONDS = 24 * 3_600
_CONNECT_SECONDS = 10
# What restore moves aside is no part of the database any more.
REPLACED = "replaced_"

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_COPY = re.compile(rb'COPY (?:"?\w+"?\.)?"?(\w+)"? \(.*\) FROM stdin;\n')
_PARTITION = re.compile(r"(measurement|log)_(?:past|\d{4}_\d{2})")


class ProgramMissingError(StartError):
    """PostgreSQL's client programs are not installed."""


class _Address(NamedTuple):
    """How the programs reach the database: their environment, and what may be in arguments."""

    environment: dict[str, str]
    public: str


def _address(url: DatabaseUrl) -> _Address:
    members = conninfo_to_dict(url.libpq)
    password = members.pop("password", None)
    if members.get("sslpassword"):
        raise StartError("DATABASE_URL: sslpassword can't be handed to PostgreSQL's programs")
    environment = {**os.environ, "PGCONNECT_TIMEOUT": str(_CONNECT_SECONDS)}
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    return _Address(environment, make_conninfo("", **members))


def _connected(url: DatabaseUrl) -> "psycopg.Connection[tuple[object, ...]]":
    try:
        return psycopg.connect(
            url.libpq,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            application_name="heliograph backup",
        )
    except psycopg.Error as error:
        raise StartError(f"PostgreSQL: {' '.join(str(error).split())}") from error


def back_up(url: DatabaseUrl, part: Path) -> Contents:
    """Dump the database as it is now into a file, and read all of it back.

    A server may write meanwhile; all that was committed before is in it, and of nothing a half.

    Raises:
        StartError: the database can't be reached, is none of ours, or pg_dump is missing, older
            than the server, or fails.
    """
    address = _address(url)
    with _connected(url) as connection:
        server = connection.info.server_version // 10_000
        if not _is_ours(connection):
            raise StartError(f"there is no database of Heliograph at {url.public}")
    program = pg_dump_for(server)
    _run(
        [
            program,
            "--format=custom",
            "--no-password",
            f"--exclude-schema={REPLACED}*",
            f"--file={part}",
            f"--dbname={address.public}",
        ],
        address.environment,
    )
    return inspect(part)


def pg_dump_for(server: int) -> str:
    """Return the path of a `pg_dump` that dumps what is on a server of this version.

    Raises:
        ProgramMissingError: there is none.
        StartError: it is older than the server.
    """
    program = _program("pg_dump")
    found = _VERSION.search(_run([program, "--version"]))
    if found is not None and int(found[1]) < server:
        raise StartError(
            f"{program} is of version {found[1]}, older than the server's {server}: install"
            f" PostgreSQL's client programs of version {server}, and have them first in PATH"
        )
    return program


def inspect(path: Path) -> Contents:
    """Return what is in a dump, once all of it has been read.

    Raises:
        StartError: it is damaged, or no backup of Heliograph.
    """
    program = _program("pg_restore")
    listed = _run([program, "--list", str(path)])
    if not re.search(r" TABLE DATA \S+ alembic_version ", listed):
        raise StartError(f"{path} is a dump of PostgreSQL, and of no database of Heliograph")
    rows: Counter[str] = Counter()
    revision = ""
    with _reading([program, "--data-only", "--file=-", str(path)]) as lines:
        table = None
        for line in lines:
            if table is not None:
                if line == b"\\.\n":
                    table = None
                    continue
                rows[table] += 1
                if table == "alembic_version":
                    revision = line.decode().strip()
            elif copy := _COPY.fullmatch(line):
                name = copy[1].decode()
                partition = _PARTITION.fullmatch(name)
                table = partition[1] if partition else name
                rows[table] += 0
    return Contents(revision, dict(rows))


def restore(backup: Path, url: DatabaseUrl) -> tuple[Contents, str | None]:
    """Put a dump in the place of what is in a database that no server uses.

    It is a database of its own then: whatever knew the backed-up one sees that this is another.
    Return what is in it, and the schema of what was there before; None: nothing was.

    Raises:
        StartError: a server uses the database; the backup is damaged, foreign, or of a newer
            version; it can't be done, and what was there is still there.
    """
    contents = inspect(backup)
    state = MigrationState(contents.revision, head())
    if state.is_newer or state.is_outdated:
        raise StartError(f"{backup}: {state.fault}")
    address = _address(url)
    with _connected(url) as connection:
        if _is_ours(connection) and (numbers := _living(connection)):
            raise StartError(
                f"a server uses {url.public} (instance {', '.join(numbers)}): stop it first"
            )
        try:
            replaced = _move_aside(connection)
            try:
                _run(
                    [
                        _program("pg_restore"),
                        "--no-password",
                        "--no-owner",
                        "--single-transaction",
                        "--exit-on-error",
                        f"--dbname={address.public}",
                        str(backup),
                    ],
                    address.environment,
                )
                with connection.transaction():
                    connection.execute("DELETE FROM registry_change")
                    # A trigger notes the change, with a token of its own.
                    connection.execute("UPDATE registry SET version = version + 1")
            except BaseException:
                _move_back(connection, replaced)
                raise
        except psycopg.Error as error:
            raise StartError(f"can't restore {backup}: {' '.join(str(error).split())}") from error
    return contents, replaced


def _is_ours(connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    found = connection.execute("SELECT to_regclass('alembic_version'), to_regclass('sensor')")
    return None not in (found.fetchone() or (None,))


def _living(connection: "psycopg.Connection[tuple[object, ...]]") -> list[str]:
    [(table,)] = connection.execute("SELECT to_regclass('instance')::text")
    if table is None:
        return []
    query = load_queries("postgresql")["instances_living"].sql.replace("$1", "%s")
    return [str(row[0]) for row in connection.execute(query.encode(), ["-"])]


def _move_aside(connection: "psycopg.Connection[tuple[object, ...]]") -> str | None:
    """Give all that is there another schema's name; return it."""
    [(is_used,)] = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
    )
    if not is_used:
        return None
    replaced = f"{REPLACED}{stamp(now()).lower()}_{secrets.token_hex(2)}"
    with connection.transaction():
        connection.execute(f"ALTER SCHEMA public RENAME TO {replaced}".encode())
        connection.execute("CREATE SCHEMA public")
    return replaced


def _move_back(connection: "psycopg.Connection[tuple[object, ...]]", replaced: str | None) -> None:
    """Put what was there back, in the place of what was restored and can't be used."""
    with connection.transaction():
        connection.execute("DROP SCHEMA public CASCADE")
        if replaced is None:
            connection.execute("CREATE SCHEMA public")
        else:
            connection.execute(f"ALTER SCHEMA {replaced} RENAME TO public".encode())


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ProgramMissingError(
            f"{name} is not installed: it comes with PostgreSQL's client programs"
        )
    return found


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Return what a program prints.

    Raises:
        StartError: it fails; with the last line that it says.
    """
    try:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's programs, with our own words
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise StartError(f"can't run {command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise StartError(f"{command[0]} took more than {_SECONDS} seconds") from None
    if done.returncode != 0:
        raise _failed(done.stderr, done.returncode)
    return done.stdout


@contextlib.contextmanager
def _reading(command: list[str]) -> Iterator[IO[bytes]]:
    """Give what a program prints, line by line."""
    with subprocess.Popen(  # noqa: S603 - PostgreSQL's program, with our own words
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            yield _piped(child.stdout)
            # It says little, and only where it fails.
            said = _piped(child.stderr).read().decode(errors="replace")
            status = child.wait(_SECONDS)
        except BaseException:
            child.kill()
            raise
    if status != 0:
        raise _failed(said, status)


def _piped(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - tells the type checker
    return pipe


def _failed(said: str, status: int) -> StartError:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    # The first says what is wrong, those behind it what was being done.
    errors = [line for line in lines if "error:" in line] or lines
    return StartError(errors[0] if errors else f"exit status {status}")

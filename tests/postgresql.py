"""A PostgreSQL server for tests: real, on a free port, gone afterwards."""

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg

import shared
from ports import free_port

_SECONDS = 60
_numbers = itertools.count(1)


def _execute(connection: psycopg.Connection, statement: str) -> None:
    """Make or drop a database: each begins by a checkpoint of the cluster."""
    try:
        connection.execute(statement.encode())
    except psycopg.errors.InternalError_:
        # It may fail on a file of another database that is just being dropped.
        connection.execute(statement.encode())


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    # Debian keeps them out of the path, a folder a version.
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    versions = sorted(folders, key=lambda path: int(path.parent.parent.name))
    return versions[-1].parent if versions else None


PROGRAMS = _programs()


def _as_postgres() -> list[str]:
    # The server refuses to run as root.
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


class Cluster:
    """A server with its data in a folder. `start` and `stop` return when it is done."""

    def __init__(self, port: int, folder: Path, *, is_shared: bool = False) -> None:
        self.port = port
        self.folder = folder
        self._is_shared = is_shared

    @classmethod
    def make(cls, options: str = "") -> Self:
        """Return a new server, which is yet to be started."""
        folder = Path(tempfile.mkdtemp(prefix="postgresql-", dir=shared.folder()))
        cluster = cls(free_port(), folder)
        if os.geteuid() == 0:
            shutil.chown(cluster.folder, "postgres")
        cluster.run(
            "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8",
            "--no-sync",
        )  # fmt: skip
        (cluster.data / "postgresql.auto.conf").write_text(
            f"port = {cluster.port}\n"
            "listen_addresses = '127.0.0.1'\n"
            "unix_socket_directories = ''\n"
            "shared_buffers = 64MB\n"
            "max_connections = 200\n"
            "max_wal_size = 256MB\n" + options
        )
        return cluster

    @property
    def data(self) -> Path:
        """The folder with the server's data."""
        return self.folder / "data"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self.run("pg_ctl", "start", "-w", "-t", str(_SECONDS), "-l", str(self.folder / "log"))

    def stop(self, *, immediate: bool = True) -> None:
        """Stop the server; immediately is as a crash would."""
        assert not self._is_shared, "other tests use it: take stoppable_cluster"
        mode = "immediate" if immediate else "fast"
        self.run("pg_ctl", "stop", "-w", "-t", str(_SECONDS), "-m", mode)

    def is_running(self) -> bool:
        """Tell whether the server's process is there."""
        return (self.data / "postmaster.pid").exists()

    def dsn(self, database: str = "postgres") -> str:
        """Return a DATABASE_URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run statements and return what the last one gives, as psql prints it unaligned."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            result = connection.execute(statement.encode()).pgresult
        assert result is not None
        return "\n".join(
            "|".join(
                (result.get_value(row, column) or b"").decode() for column in range(result.nfields)
            )
            for row in range(result.ntuples)
        )

    def create_database(self, template: str = "template0") -> str:
        """Make a database, a copy of the template, and return its name."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            statement = f'CREATE DATABASE "{name}" TEMPLATE "{template}"'
            if connection.info.server_version >= 150000:
                # As all older servers do it: page by page through the log costs twice as much.
                statement += " STRATEGY FILE_COPY"
            _execute(connection, statement)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            _execute(connection, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def remove(self) -> None:
        """Stop the server if it runs, and delete its data."""
        if self.is_running():
            with contextlib.suppress(RuntimeError):
                self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of PostgreSQL on the server's data and return what it prints."""
        assert PROGRAMS is not None
        # The server outlives pg_ctl and would keep a pipe open: its output goes to a file.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [*_as_postgres(), str(PROGRAMS / program), "-D", str(self.data), *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS * 2,
                check=False,
            )
            output.seek(0)
            said = output.read()
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {said}")
        return said.strip()


def shared_cluster() -> Cluster:
    """Return the server of the whole run, which runs and is not to be stopped."""

    def start() -> tuple[int, str]:
        # Nobody crashes this one, so that nothing has to survive it; a copy of a database that
        # has been analysed is no fresh one any more.
        cluster = Cluster.make("fsync = off\nautovacuum = off\n")
        cluster.start()
        return cluster.port, str(cluster.folder)

    port, folder = shared.once("postgresql", start)
    return Cluster(port, Path(folder), is_shared=True)


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Give a server that runs, and remove it afterwards; whoever stops it starts it again."""
    cluster = Cluster.make()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()

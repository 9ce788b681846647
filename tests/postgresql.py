"""A private PostgreSQL server for tests: real, on a free port, gone afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_SECONDS = 60


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


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """A server with its data in a temporary folder. `start` and `stop` return when it is done."""

    def __init__(self) -> None:
        assert PROGRAMS is not None
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="heliograph-postgresql-"))
        self._count = 0
        self._lock = threading.Lock()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run(
            "initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"
        )
        # What is committed has to survive a stop at any moment, so fsync stays on.
        (self.data / "postgresql.auto.conf").write_text(
            f"port = {self.port}\n"
            "listen_addresses = '127.0.0.1'\n"
            "unix_socket_directories = ''\n"
            "shared_buffers = 64MB\n"
            "max_connections = 60\n"
        )

    @property
    def data(self) -> Path:
        """The folder with the server's data."""
        return self.folder / "data"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "start", "-w", "-t", str(_SECONDS), "-l", str(self.folder / "log"))

    def stop(self, *, immediate: bool = True) -> None:
        """Stop the server; immediately is as a crash would."""
        mode = "immediate" if immediate else "fast"
        self._run("pg_ctl", "stop", "-w", "-t", str(_SECONDS), "-m", mode)

    def is_running(self) -> bool:
        """Tell whether the server's process is there."""
        return (self.data / "postmaster.pid").exists()

    def dsn(self, database: str = "postgres") -> str:
        """Return a DATABASE_URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql and return what it prints."""
        return self._run(
            "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement,
            self.dsn(database), data=False,
        )  # fmt: skip

    def create_database(self, template: str = "template0") -> str:
        """Make a database, a copy of the template, and return its name."""
        with self._lock:
            self._count += 1
            name = f"test_{self._count}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def remove(self) -> None:
        """Stop the server if it runs, and delete its data."""
        if self.is_running():
            with contextlib.suppress(RuntimeError):
                self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, data: bool = True) -> str:
        assert PROGRAMS is not None
        where = ["-D", str(self.data)] if data else []
        # The server outlives pg_ctl and would keep a pipe open: its output goes to a file.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [*_as_postgres(), str(PROGRAMS / program), *where, *arguments],
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


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Give a server that runs, and remove it afterwards."""
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()

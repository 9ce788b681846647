"""A private PostgreSQL cluster, with a template database for each profile."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.bare_store import POSTGRESQL_SCHEMA
from bench.database import Database
from bench.migration import migrate
from bench.processes import cpu_seconds, free_port
from bench.scale import Profile
from bench.server_schema import fill_postgresql, make_partitions
from bench.starting_line import LoadError
from bench.stored_rows import StoredRows

PROGRAMS = "/usr/lib/postgresql"
START_TIMEOUT = 60.0
# Durable as PostgreSQL is by default; no checkpoint and no vacuum falls into one round only.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_connections": "60",
}


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
        self._initialise()
        self._server = self._start()

    def _initialise(self) -> None:
        done = subprocess.run(
            [
                *(program("initdb"), "-D", str(self._own / "data"), "-U", "postgres"),
                *("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
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
            raise LoadError(f"initdb failed:\n{done.stderr}")

    def _start(self) -> subprocess.Popen[bytes]:
        options = {
            **OPTIONS,
            "port": str(self._port),
            "unix_socket_directories": str(self._own),
        }
        arguments = [f"--{name}={setting}" for name, setting in options.items()]
        with (self._directory / "postgresql.log").open("wb") as log:
            server = subprocess.Popen(
                [program("postgres"), "-D", str(self._own / "data"), *arguments],
                cwd=self._own,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                psycopg.connect(self._url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise LoadError("PostgreSQL did not come up") from None
                time.sleep(0.05)
            else:
                return server

    def cpu_seconds(self) -> float:
        """Return the CPU time of all of PostgreSQL's processes until now."""
        return cpu_seconds(self._server.pid)

    def close(self) -> None:
        """Stop the cluster, and remove it."""
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()
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

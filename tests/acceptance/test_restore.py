"""docs/guide/restore.md, step by step: it brings back what was in the backup."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import program
from heliograph.store import run_migrations
from postgresql import PROGRAMS
from server import ServerProcess

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(page, heading):
    """Return the first commands under a heading of a page."""
    text = (GUIDE / page).read_text()
    commands = BLOCK.search(text, text.index(f"\n## {heading}\n"))[1]
    for line in re.findall(r"^\S.*", commands, flags=re.MULTILINE):
        # Folder and backups are the service's and root's: nobody else may as much as look.
        assert line.startswith("sudo "), line
    return commands


class Machine:
    """Runs a page's commands, with the folders and the service of the test."""

    def __init__(self, folder, server, **environment):
        self.folder, self.server = folder, server
        self.environment = {**os.environ, **environment}
        (folder / "backups").mkdir()

    def do(self, commands):
        for before, after in (
            ("/var/lib/heliograph", str(self.folder)),
            ("/var/backups", str(self.folder / "backups")),
            ("sudo -u postgres ", ""),
            ("sudo ", ""),
            ("-o heliograph -g heliograph ", ""),
        ):
            commands = commands.replace(before, after)
        for piece in re.split(r"^(systemctl \w+ heliograph)\n", commands, flags=re.MULTILINE):
            if piece == "systemctl stop heliograph":
                self.server.terminate()
            elif piece == "systemctl start heliograph":
                self.server.start()
            elif piece.strip():
                subprocess.run(
                    ["bash", "-euc", piece], env=self.environment, cwd=self.folder, check=True,
                    timeout=60,
                )  # fmt: skip


class Kept:
    """A device that sends numbers."""

    def __init__(self, server):
        self.server = server
        self.device = server.device()
        self.start = int(time.time()) - 1_000
        self.key = {"X-API-Key": self.device.key}

    def send(self, number):
        body = {"value": number, "timestamp": self.start + number}
        answer = self.server.http.post("/ingest", json=body, headers=self.key)
        assert answer.status_code == 201, answer.text

    @property
    def stored(self):
        return sorted(row["metrics"]["value"] for row in self.server.history(self.device))


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refusal(server):
    """Return what the server says that does not start."""
    done = program.run("serve", env=server.environment, cwd=server.folder, timeout=60)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the shell of SQLite")
def test_restoring_sqlite(tmp_path):
    database = tmp_path / "heliograph.db"
    with ServerProcess(tmp_path) as server:
        machine, kept = Machine(tmp_path, server), Kept(server)
        kept.send(1)
        machine.do(steps("operations.md", "Backup"))
        kept.send(2)

        machine.do(steps("restore.md", "SQLite, server stopped"))
        assert kept.stored == [1]

        shutil.rmtree(tmp_path / "replaced")
        kept.send(3)
        server.kill()
        shutil.copy(tmp_path / "backups" / "heliograph.db", database)
        (line,) = refusal(server).splitlines()
        assert line.startswith(f"heliograph: DATABASE_URL: {database} and the write-ahead log")
        machine.do(steps("restore.md", "SQLite, after `kill -9` or a power cut"))
        assert kept.stored == [1]

        kept.send(4)
        later = server.device("later")
        machine.do(steps("restore.md", "SQLite, server running"))
        wait_until(lambda: server.http.get("/devices/later/history").status_code == 404)
        wait_until(lambda: kept.stored == [1])
        answer = server.http.post("/ingest", json={"value": 5}, headers={"X-API-Key": later.key})
        assert answer.status_code == 401
        kept.send(6)
        assert kept.stored == [1, 6]


@pytest.fixture
def postgresql(postgresql_cluster):
    """A database of the name that the page has."""
    postgresql_cluster.execute("CREATE ROLE heliograph SUPERUSER LOGIN")
    postgresql_cluster.execute("CREATE DATABASE heliograph OWNER heliograph TEMPLATE template0")
    url = postgresql_cluster.dsn("heliograph")
    run_migrations(url)
    yield url
    postgresql_cluster.drop_database("heliograph")
    postgresql_cluster.execute("DROP ROLE heliograph")


def test_restoring_postgresql(tmp_path, postgresql, postgresql_cluster):
    environment = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgresql_cluster.port),
        "PGUSER": "postgres",
    }
    with ServerProcess(tmp_path, database_url=postgresql) as server:
        machine, kept = Machine(tmp_path, server, **environment), Kept(server)
        kept.send(1)
        page = (GUIDE / "operations.md").read_text()
        (command,) = re.findall(r"`(pg_dump [^`]+)`", page)
        machine.do(command.replace("> ", "> /var/backups/"))
        kept.send(2)

        machine.do(steps("restore.md", "PostgreSQL, server stopped"))
        assert kept.stored == [1]

        kept.send(4)
        server.device("later")
        machine.do(steps("restore.md", "PostgreSQL, server running"))
        wait_until(lambda: server.http.get("/devices/later/history").status_code == 404)
        wait_until(lambda: kept.stored == [1])
        kept.send(6)
        assert kept.stored == [1, 6]

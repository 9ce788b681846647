"""docs/guide/backup.md and restore.md, step by step: they bring back what was in the backup."""

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import program
from heliograph.store import run_migrations
from postgresql import PROGRAMS
from server import ServerProcess

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
SERVICE = ROOT / "deploy" / "systemd" / "heliograph-backup.service"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(page, heading):
    """Return the first commands under a heading of a page, or of the page."""
    text = (GUIDE / page).read_text()
    start = 0 if heading is None else text.index(f"\n## {heading}\n")
    commands = BLOCK.search(text, start)[1]
    for line in re.findall(r"^\S.*", commands, flags=re.MULTILINE):
        # Folder and backups are the service's and root's: nobody else may as much as look.
        assert line.startswith(("sudo ", "as_server ")), line
    return commands


class Machine:
    """Runs a page's commands, with the folders and the service of the test."""

    def __init__(self, folder, server, **environment):
        self.folder, self.server = folder, server
        self.environment = program.on_path({**os.environ, **environment})
        self.environment["PATH"] = f"{PROGRAMS}:{self.environment['PATH']}"
        (folder / "backups").mkdir()
        database = server.environment.get("DATABASE_URL", "")
        (folder / "heliograph.env").write_text(f"DATABASE_URL={shlex.quote(database)}\n")

    def do(self, commands):
        newest = max((path.name for path in (self.folder / "backups").iterdir()), default="none")
        for before, after in (
            # As systemd would: with the settings of the service, in its folder.
            (
                r"(?m)^as_server (.*)$",
                r"(set -a; . /etc/heliograph/heliograph.env; HERE heliograph \1)",
            ),
            ("HERE", "DATA_DIRECTORY=/var/lib/heliograph"),
            (r"heliograph-20261130T030000Z\.\w+", newest),
            ("/var/lib/heliograph-backups", str(self.folder / "backups")),
            ("/var/lib/heliograph", str(self.folder)),
            ("/etc/heliograph", str(self.folder)),
            ("/opt/heliograph/bin/", ""),
            ("sudo (-u (postgres|heliograph) )?", ""),
            ("-o heliograph -g heliograph ", ""),
        ):
            commands = re.sub(before, after, commands)
        for piece in re.split(r"^(systemctl \w+ heliograph)\n", commands, flags=re.MULTILINE):
            if piece == "systemctl stop heliograph":
                self.server.terminate()
            elif piece == "systemctl start heliograph":
                self.server.start()
            elif piece.strip():
                subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", piece], env=self.environment,
                    cwd=self.folder, check=True, timeout=60,
                )  # fmt: skip

    def back_up(self):
        """Take a backup as the page does, and then as the service does."""
        self.do(steps("backup.md", None))
        [first] = (self.folder / "backups").iterdir()
        first.rename(self.folder / "backups" / f"heliograph-20260101T000000Z{first.suffix}")
        [line] = re.findall(r"^ExecStart=(.+)$", SERVICE.read_text(), flags=re.MULTILINE)
        self.do(
            f"set -a; . /etc/heliograph/heliograph.env; DATA_DIRECTORY=/var/lib/heliograph {line}"
        )
        assert len(list((self.folder / "backups").iterdir())) == 2


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
        machine.back_up()
        kept.send(2)

        machine.do(steps("restore.md", "Server stopped"))
        assert kept.stored == [1]

        kept.send(3)
        server.kill()
        shutil.copy(max((tmp_path / "backups").iterdir()), database)
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
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgresql_cluster.port),
        "PGUSER": "postgres",
    }
    with ServerProcess(tmp_path, database_url=postgresql) as server:
        machine, kept = Machine(tmp_path, server, **environment), Kept(server)
        kept.send(1)
        machine.back_up()
        kept.send(2)

        machine.do(steps("restore.md", "Server stopped"))
        assert kept.stored == [1]

        kept.send(3)
        machine.do(steps("restore.md", "PostgreSQL, into a new database"))
        assert kept.stored == [1]

        kept.send(4)
        server.device("later")
        machine.do(steps("restore.md", "PostgreSQL, server running"))
        wait_until(lambda: server.http.get("/devices/later/history").status_code == 404)
        wait_until(lambda: kept.stored == [1])
        kept.send(6)
        assert kept.stored == [1, 6]

"""deploy/systemd: units that systemd takes and finds safe, and a restart that refuses nobody."""

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import confined
import program
from bare_environment import without_variables
from heliograph.settings import Settings
from mqtt_client import Client
from postgresql import PROGRAMS
from program import Program
from server import ADMIN_KEY, PROGRAM, migrated_database

SHIPPED = Path(__file__).parents[2] / "deploy" / "systemd"
GUIDE = SHIPPED.parents[1] / "docs" / "guide" / "deployment.md"
SECONDS = 60
# As systemd counts, in tenths: 0 is best, 100 is worst.
MOST_EXPOSED = 20


def systemd_analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_units_are_right(tmp_path):
    for unit in SHIPPED.iterdir():
        text = unit.read_text().replace("/opt/heliograph/bin/heliograph", PROGRAM)
        (tmp_path / unit.name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    # As `systemctl edit` has it, where the guide says so.
    [drop_in] = re.findall(r"^```ini\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    # A folder that is not there would keep the service from starting.
    assert "ReadWritePaths=" not in drop_in
    (tmp_path / "heliograph.service.d").mkdir()
    (tmp_path / "heliograph.service.d" / "override.conf").write_text(drop_in)
    assert systemd_analyze("verify", *units) == ""


@pytest.mark.parametrize("name", ["heliograph.service", "heliograph-backup.service"])
def test_the_services_may_do_little(name):
    told = systemd_analyze(
        *("security", "--offline=yes", f"--threshold={MOST_EXPOSED}"), str(SHIPPED / name)
    )
    assert f"Overall exposure level for {name}" in told


def test_a_backup_needs_no_more_than_its_unit_allows(database_url, tmp_path):
    unit = SHIPPED / "heliograph-backup.service"
    folder = tmp_path / "heliograph-backups"
    folder.mkdir()
    [(options, place)] = re.findall(
        r"^ExecStart=\S+ backup (.*) (\S+)$", unit.read_text(), re.MULTILINE
    )
    assert Path(place).name == folder.name
    done = subprocess.run(
        confined.command(unit, PROGRAM, "backup", *options.split(), str(folder)),
        env={
            **without_variables(),
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "API_SECRET_KEY": ADMIN_KEY,
            "DATABASE_URL": database_url,
            "DATA_DIRECTORY": str(tmp_path),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "verified: 0 sensors" in done.stdout
    refused = subprocess.run(
        confined.command(unit, sys.executable, "-c", "import os; os.nice(1)"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "PermissionError" in refused.stderr


def test_the_socket_unit_has_the_addresses_of_the_settings(monkeypatch):
    for name in ("HOST", "PORT", "MQTT_LISTEN"):
        monkeypatch.delenv(name, raising=False)
    text = (SHIPPED / "heliograph.socket").read_text()
    settings = Settings(api_secret_key=ADMIN_KEY)
    wanted = [f"{settings.host}:{settings.port}", *map(str, settings.mqtt_listen)]
    assert re.findall(r"^ListenStream=(.*)$", text, re.MULTILINE) == wanted


def test_what_the_guide_sets_is_encrypted_for_all_but_this_machine_and_its_sockets_are_those(
    monkeypatch, tmp_path
):
    guide = GUIDE.read_text()
    written = re.findall(r"<<'END'\n(.*?)^END$", guide, re.MULTILINE | re.DOTALL)
    settings, sockets = written
    for name, value in (line.split("=", 1) for line in settings.splitlines()):
        assert name.lower() in Settings.model_fields
        monkeypatch.setenv(name, value.replace("/etc/heliograph", str(tmp_path)))
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).touch()
    found = Settings(api_secret_key=ADMIN_KEY, data_directory=tmp_path)
    encrypted = [*map(str, found.https_listen), *map(str, found.mqtt_tls_listen)]
    local = [f"{found.host}:{found.port}", *map(str, found.mqtt_listen)]
    assert all(address.startswith("127.0.0.1:") for address in local)
    listening = re.findall(r"^ListenStream=(.+)$", sockets, re.MULTILINE)
    assert sorted(listening) == sorted([*encrypted, *local])
    opened = re.findall(r"--add-port=(\d+)/tcp", guide)
    assert opened == [address.rpartition(":")[2] for address in encrypted]


class Systemd:
    """As much of it as starts a service with its sockets, and is told how that does."""

    def __init__(self, folder: Path, told: socket.socket) -> None:
        shutil.copy(migrated_database(), folder / "heliograph.db")
        self.folder = folder
        self.told = told
        self.http, self.mqtt = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.port, self.mqtt_port = (each.getsockname()[1] for each in (self.http, self.mqtt))
        self.environment = {
            **without_variables(),
            "API_SECRET_KEY": ADMIN_KEY,
            "DATA_DIRECTORY": str(folder),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "MQTT_LISTEN": f"127.0.0.1:{self.mqtt_port}",
            "LOG_FORMAT": "json",
            "NOTIFY_SOCKET": str(folder / "notify"),
        }

    def options(self) -> dict[str, object]:
        return {
            "env": self.environment,
            "cwd": self.folder,
            "handed": (self.http, self.mqtt),
        }

    def wait_for(self, state: str) -> None:
        while self.told.recv(100).decode() != state:
            pass

    @contextlib.contextmanager
    def service(self) -> Iterator[Program]:
        """Run the server until it is told to end."""
        with Program("serve", **self.options(), stderr=subprocess.DEVNULL) as process:
            try:
                self.wait_for("READY=1")
                yield process
                process.terminate()
                self.wait_for("STOPPING=1")
                assert process.wait(SECONDS) == 0
            finally:
                process.kill()


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(SECONDS)
        started = Systemd(tmp_path, told)
        with started.http, started.mqtt:
            yield started


def test_a_restart_refuses_nobody(systemd):
    """Who comes while no server is there waits for the next one."""
    url = f"http://127.0.0.1:{systemd.port}"
    ended = threading.Event()
    answered: queue.SimpleQueue[object] = queue.SimpleQueue()
    count = 0

    def post() -> None:
        """Send readings, each over a connection of its own, until the second server is there."""
        for number in itertools.count():
            if ended.is_set():
                return
            try:
                answer = httpx.post(
                    f"{url}/ingest",
                    headers={"X-API-Key": key},
                    json={"timestamp": 1_750_000_000 + number, "metrics": {"n": number}},
                    timeout=SECONDS,
                )
            except httpx.TransportError as error:
                answered.put(error)
            else:
                answered.put(answer.status_code)

    def expect(more: int) -> int:
        """Wait for so many answers."""
        for _ in range(more):
            assert answered.get(timeout=SECONDS) == 201
        return more

    with systemd.service():
        admin = {"X-API-Key": ADMIN_KEY}
        answer = httpx.post(f"{url}/devices", headers=admin, json={"device_id": "d"})
        key = answer.json()["api_key"]
        posting = threading.Thread(target=post, name="posting")
        posting.start()
        count += expect(5)
    count += expect(answered.qsize())
    # CONNECT of MQTT 3.1.1 by nobody, which comes while no server is there.
    waiting = socket.create_connection(("127.0.0.1", systemd.mqtt_port), timeout=SECONDS)
    waiting.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
    with waiting, systemd.service():
        count += expect(5)
        assert waiting.recv(4)[:1] == b"\x20"
        ended.set()
        posting.join(SECONDS)
    count += expect(answered.qsize())
    with contextlib.closing(sqlite3.connect(systemd.folder / "heliograph.db")) as database:
        (stored,) = database.execute("SELECT count(*) FROM measurement").fetchone()
    assert stored == count


def test_a_server_needs_no_more_than_its_unit_allows(systemd):
    systemd.http.close()
    systemd.mqtt.close()
    with subprocess.Popen(
        confined.command(SHIPPED / "heliograph.service", PROGRAM, "serve"),
        env=systemd.environment,
        cwd=systemd.folder,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            systemd.wait_for("READY=1")
            answer = httpx.post(
                f"http://127.0.0.1:{systemd.port}/devices",
                headers={"X-API-Key": ADMIN_KEY},
                json={"device_id": "d"},
                timeout=SECONDS,
            )
            assert answer.status_code == 201
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


async def test_devices_reach_the_socket_that_was_handed_over(systemd):
    systemd.environment["WATCHDOG_USEC"] = "200000"
    with systemd.service():
        client = await Client.connected(systemd.mqtt_port, "c", "admin", ADMIN_KEY)
        await client.close()
        systemd.wait_for("WATCHDOG=1")
        systemd.wait_for("WATCHDOG=1")


def test_a_socket_that_no_setting_names_is_refused(systemd):
    systemd.environment["MQTT_LISTEN"] = ""
    systemd.environment["LOG_FORMAT"] = "console"
    done = program.run("serve", **systemd.options(), timeout=SECONDS)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"socket unit listens on 127.0.0.1:{systemd.mqtt_port}, where no setting" in line
    assert "READY=1" not in json.dumps(done.stdout)

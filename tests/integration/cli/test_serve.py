"""`heliograph serve` in a process of its own: how it starts, fails to start, and ends."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

import program
from bare_environment import without_variables
from heliograph.store.claim import Claim
from program import Program
from server import ADMIN_KEY, PROGRAM, START_SECONDS, free_port, migrated_database, serving

SECONDS = 120


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    shutil.copy(migrated_database(), tmp_path / "heliograph.db")
    return {
        **without_variables(),
        "DATA_DIRECTORY": str(tmp_path),
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "MQTT_LISTEN": f"127.0.0.1:{free_port()}",
        "LOG_FORMAT": "json",
    }


def failure(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    """Return the last line of a server that does not start."""
    result = program.run("serve", *arguments, env=environment, cwd=folder, timeout=SECONDS)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@contextlib.contextmanager
def started(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[Program]:
    """Run the server until it is ready; its log goes to `log` in the folder."""
    with (
        (folder / "log").open("wb") as log,
        Program("serve", *arguments, env=environment, cwd=folder, stderr=log) as process,
    ):
        try:
            wait_until_ready(int(arguments[-1] if arguments else environment["PORT"]), process)
            yield process
        finally:
            process.kill()


def wait_until_ready(port: int, process: Program) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 200:
                return
        time.sleep(0.02)


def log_lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_a_taken_http_port(tmp_path, environment):
    with socket.create_server(("127.0.0.1", int(environment["PORT"]))):
        line = failure(tmp_path, environment)
    where = f"HOST=127.0.0.1 PORT={environment['PORT']}"
    assert line == f"heliograph: cannot listen on {where}: Address already in use"


def test_a_taken_mqtt_port_is_found_before_anything_is_written(tmp_path, environment):
    place = environment["MQTT_LISTEN"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with socket.create_server(("127.0.0.1", int(place.rpartition(":")[2]))):
        line = failure(elsewhere, {**environment, "DATA_DIRECTORY": "data"})
    assert line == f"heliograph: cannot listen on MQTT_LISTEN={place}: Address already in use"
    assert list(elsewhere.iterdir()) == []


def test_a_server_that_anothers_claim_refuses_makes_no_admin_key(tmp_path, environment):
    database = tmp_path / "heliograph.db"
    claim = Claim(f"sqlite:///{database}")
    there = {"DATABASE_URL": f"sqlite:///{database}", "DATA_DIRECTORY": "elsewhere"}
    try:
        line = failure(tmp_path, {**environment, **there})
    finally:
        claim.release()
    assert line.startswith("heliograph: DATABASE_URL: another server uses ")
    assert not (tmp_path / "elsewhere").exists()


def test_a_database_that_is_behind(tmp_path, environment):
    (tmp_path / "heliograph.db").unlink()
    line = failure(tmp_path, {**environment, "AUTO_MIGRATE": "false"})
    assert line.startswith("heliograph: DATABASE_URL: ")
    assert line.endswith("run heliograph migrate")


def test_a_data_folder_that_cannot_be(tmp_path, environment):
    (tmp_path / "file").touch()
    line = failure(tmp_path, {**environment, "DATA_DIRECTORY": str(tmp_path / "file")})
    assert line.startswith("heliograph: ")


def test_a_broker_that_is_none(tmp_path, environment):
    line = failure(tmp_path, {**environment, "MQTT_URL": "http://u:hidden@h"})
    assert line.startswith("heliograph: MQTT_URL: ")
    assert "hidden" not in line


# What most servers on SQLite never need: other databases, Parquet, webhooks and e-mail.
# Of these pyarrow alone takes 90 MiB.
NOT_NEEDED = frozenset(
    {
        *("alembic", "sqlalchemy", "asyncpg", "heliograph.store.postgresql"),
        *("pyarrow", "pydantic.v1", "http.cookiejar"),
        *("rich", "httpx", "httpcore", "aiosmtplib", "apprise", "jinja2", "cryptography", "zxcvbn"),
    }
)


def test_a_server_on_sqlite_has_loaded_nothing_that_it_does_not_need(tmp_path, environment):
    code = (
        "import atexit, gc, sys; from heliograph.cli.main import run;"
        "atexit.register(lambda: print(gc.get_freeze_count(), *sys.modules, flush=True)); run()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--port", "0"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(b"listening for HTTP" in line for line in process.stderr)
        process.terminate()
        kept, *loaded = process.stdout.read().decode().split()
        process.stderr.read()
    assert {"heliograph.server", "heliograph.store.sqlite"} <= set(loaded)
    assert NOT_NEEDED.intersection(loaded) == set()
    # As Python ends, it does not go through all of it for garbage.
    assert int(kept) > 0


def test_it_prints_its_addresses_where_the_admin_key_is_and_what_to_do_next(tmp_path, environment):
    """What a newcomer pastes into a second terminal works there."""
    for name in ("DATA_DIRECTORY", "PORT", "MQTT_LISTEN", "LOG_FORMAT"):
        del environment[name]
    environment |= {"HOST": "0.0.0.0", "MQTT_LISTEN": "0.0.0.0:0,[::1]:0"}
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            lines = list(iter(process.stdout.readline, "Ctrl-C ends the server.\n"))
            printed = "".join(lines)
            url = re.search(r"^  HTTP +(http://localhost:\d+)$", printed, re.MULTILINE)[1]
            assert f"  documentation  {url}/docs\n" in printed
            mqtt = re.findall(r"^  MQTT +(\S+):\d+$", printed, re.MULTILINE)
            assert mqtt == ["localhost", "[::1]"]
            assert "  admin key      in data/api_secret_key\n" in printed
            assert f"  database       {tmp_path}/" in printed
            key = (tmp_path / "data" / "api_secret_key").read_text().strip()
            assert key not in printed
            registered = paste(tmp_path, environment, printed, "Register a device")
            device_key = re.search(r"^api_key +(\S+)$", registered, re.MULTILINE)[1]
            shown = printed.replace("KEY'", f"{device_key}'")
            assert '"id"' in paste(tmp_path, environment, shown, "Send a reading")
            history = httpx.get(
                f"{url}/devices/my-first-sensor/history",
                headers={"X-API-Key": device_key},
                timeout=SECONDS,
            )
            assert '"temperature":22.5' in history.text
        finally:
            process.kill()


def paste(folder, environment, printed, heading):
    """Return what the command under this heading prints, in a shell without our programs."""
    command = re.search(rf"^{heading}.*:\n((?: {{4}}.*\n)+)", printed, re.MULTILINE)[1]
    programs = str(Path(PROGRAM).parent)
    path = ":".join(part for part in os.environ["PATH"].split(":") if part != programs)
    done = subprocess.run(
        ["bash", "-c", command],
        env={**environment, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_that_read_the_output_get_no_welcome(tmp_path, environment):
    with Program("serve", env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        try:
            wait_until_ready(int(environment["PORT"]), process)
        finally:
            process.terminate()
        assert process.communicate(SECONDS)[0] == ""


def test_options_win_over_settings_and_a_mistyped_one_is_told_what_was_meant(tmp_path, environment):
    port = str(free_port())
    (tmp_path / ".env").write_text("MQTT_LISTN=127.0.0.1:1\nPOSTGRES_PASSWORD=hunter2\n")
    environment["RATE_LIMIT_REED"] = "1"
    with started(tmp_path, environment, "--host", "127.0.0.1", "--port", port):
        response = httpx.get(f"http://127.0.0.1:{port}/health", timeout=SECONDS)
    assert response.status_code == 200
    assert "server" not in response.headers
    told = [line for line in log_lines(tmp_path) if "did you mean" in str(line["event"])]
    assert [(line["event"], line["name"], line["set_in"], line["level"]) for line in told] == [
        ("no such setting: did you mean MQTT_LISTEN?", "MQTT_LISTN", ".env", "warning"),
        (
            "no such setting: did you mean RATE_LIMIT_READ?",
            "RATE_LIMIT_REED",
            "the environment",
            "warning",
        ),
    ]
    assert "hunter2" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("arguments", [[], ["--access-log"]])
def test_requests_are_logged_when_wanted_only(tmp_path, environment, arguments):
    with started(tmp_path, environment, *arguments, "--port", environment["PORT"]) as process:
        httpx.get(f"http://127.0.0.1:{environment['PORT']}/ping", timeout=SECONDS)
        process.terminate()
        assert process.wait(SECONDS) == 0
    logged = any("GET /ping" in str(line["event"]) for line in log_lines(tmp_path))
    assert logged == bool(arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path, environment, number):
    with started(tmp_path, environment) as process:
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
    lines = [(line["level"], line["event"]) for line in log_lines(tmp_path)]
    assert lines[-2:] == [("info", "stopping"), ("info", "server stopped")]
    assert not {"warning", "error", "critical"} & {
        str(line["level"]) for line in log_lines(tmp_path)
    }


def test_a_signal_while_it_starts_ends_it_too(tmp_path, environment):
    with (
        (tmp_path / "log").open("wb") as log,
        Program("serve", env=environment, cwd=tmp_path, stderr=log) as process,
    ):
        # The data folder appears while the server starts, some time before it is ready.
        while not (tmp_path / "api_secret_key").exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_what_was_acknowledged_before_the_end_is_stored(tmp_path):
    acknowledged = 0

    def count(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    with serving(tmp_path) as server:
        device = server.device("d-1")
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="d-1")
        client.username_pw_set("admin", ADMIN_KEY)
        client.max_inflight_messages_set(10_000)
        client.on_publish = count
        client.connect("127.0.0.1", server.mqtt_port)
        for number in range(2_000):
            payload = json.dumps({"timestamp": 1_750_000_000 + number, "value": number})
            client.publish(device.topic, payload, qos=1)
        # Without a thread: read until the first acknowledgments are there, then end the server.
        while acknowledged < 10:
            assert client.loop(timeout=1) == mqtt.MQTT_ERR_SUCCESS
        assert server.terminate() == 0
    # What the server acknowledged while it stopped is still to be read.
    while client.loop(timeout=1) == mqtt.MQTT_ERR_SUCCESS:
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "heliograph.db")) as database:
        (stored,) = database.execute("SELECT count(*) FROM measurement").fetchone()
    assert stored >= acknowledged >= 10


def test_open_streams_do_not_hold_up_the_end(tmp_path, environment):
    with started(tmp_path, environment) as process:
        url = f"http://127.0.0.1:{environment['PORT']}/events"
        key = (tmp_path / "api_secret_key").read_text().strip()
        with httpx.stream("GET", url, headers={"x-api-key": key}, timeout=SECONDS) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("retry:")
            process.terminate()
            rest = list(lines)
        assert process.wait(SECONDS) == 0
    assert rest[-2].startswith("retry:")
    assert "error" not in {line["level"] for line in log_lines(tmp_path)}

"""Wiring and lifecycle: how the whole server starts, fails and stops."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import httpx
import pytest

import program
from heliograph.app import Application
from heliograph.errors import StartError, StoreUnavailableError
from heliograph.settings import Address, Settings
from heliograph.store import Store
from mqtt_client import Client, publish
from program import Program
from server import ADMIN_KEY, ServerProcess, eventually, free_port, migrated_database, running

SECONDS = 120


def options(folder, **overrides):
    if not (folder / "heliograph.db").exists():
        shutil.copy(migrated_database(), folder / "heliograph.db")
    return Settings(
        **{
            "app_env": "test",
            "data_directory": folder,
            "database_url": f"sqlite:///{folder}/heliograph.db",
            "auto_migrate": False,
            "api_secret_key": ADMIN_KEY,
            "mqtt_listen": (Address("127.0.0.1", 0),),
            "log_level": "critical",
            **overrides,
        }
    )


@pytest.fixture
async def nothing_left():
    """Whatever a test starts has ended with it: tasks, threads and the file's lock."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    yield
    await eventually(lambda: not ours(asyncio.all_tasks() - tasks))
    # The loop's own threads for name look-ups and files stay with the loop.
    await eventually(
        lambda: all(t.name.startswith("uvloop_") for t in set(threading.enumerate()) - threads)
    )


def ours(tasks):
    return {task for task in tasks if task is not asyncio.current_task()}


async def refusal(settings):
    """Return the line by which the server refuses to start."""
    with pytest.raises(StartError) as caught:
        async with Application(settings).running():
            pass
    line = str(caught.value)
    assert line
    assert "\n" not in line
    return line


@pytest.mark.usefixtures("nothing_left")
async def test_a_database_that_goes_while_its_revision_is_read_leaves_nothing(
    tmp_path, monkeypatch
):
    read = Store.migration_state

    async def gone(store):
        await read(store)  # a reader is open from here on
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(Store, "migration_state", gone)
    with pytest.raises(StoreUnavailableError):
        async with Application(options(tmp_path)).running():
            pass


@pytest.mark.usefixtures("nothing_left")
async def test_start_and_stop_leave_nothing_behind(tmp_path):
    for _ in range(2):
        async with running(tmp_path) as server:
            device = await server.device(f"device-{server.port}")
            client = await server.connect(device)
            await client.close()
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert {"pipeline", "registry", "last-seen", "maintenance", "mqtt-sweep"} <= names
            assert not server.application.server.failed.is_set()


@pytest.mark.usefixtures("nothing_left")
async def test_a_database_that_is_behind_is_told(tmp_path):
    (tmp_path / "heliograph.db").touch()
    line = await refusal(options(tmp_path))
    assert "DATABASE_URL" in line
    assert "heliograph migrate" in line


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("auto_migrate", [False, True])
async def test_a_database_that_is_too_old_is_told(tmp_path, auto_migrate):
    settings = options(tmp_path, auto_migrate=auto_migrate)
    with contextlib.closing(sqlite3.connect(tmp_path / "heliograph.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0017'")
        connection.commit()
    assert "at revision 0017" in (line := await refusal(settings))
    assert "run heliograph migrate from commit" in line


@pytest.mark.usefixtures("nothing_left")
async def test_a_database_that_is_behind_is_migrated(tmp_path):
    (tmp_path / "heliograph.db").touch()
    async with running(tmp_path, auto_migrate=True) as server:
        await server.device()


@pytest.mark.usefixtures("nothing_left")
async def test_a_taken_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        line = await refusal(options(tmp_path, mqtt_listen=(Address("127.0.0.1", 0), address)))
    assert "MQTT_LISTEN" in line
    assert str(address) in line


@pytest.mark.usefixtures("nothing_left")
async def test_bad_tls_files_are_told(tmp_path):
    (tmp_path / "bad.pem").write_text("no certificate")
    tls = {
        "mqtt_tls_listen": (Address("127.0.0.1", 0),),
        "mqtt_tls_certificate": tmp_path / "bad.pem",
        "mqtt_tls_key": tmp_path / "bad.pem",
    }
    assert "MQTT_TLS_CERTIFICATE" in await refusal(options(tmp_path, **tls))


@pytest.mark.usefixtures("nothing_left")
async def test_a_second_server_on_one_sqlite_file_is_refused(tmp_path):
    async with running(tmp_path) as server:
        line = await refusal(options(tmp_path))
        assert "another server uses" in line
        assert str(tmp_path / "heliograph.db") in line
        await server.device()  # the first one is not disturbed
    async with running(tmp_path) as server:
        assert (await server.http.get("/devices/device-1")).status_code == 200


@pytest.mark.usefixtures("nothing_left")
async def test_two_servers_on_one_postgresql_database_are_not(postgresql_url, tmp_path):
    async with (
        running(tmp_path, database_url=postgresql_url),
        running(tmp_path, database_url=postgresql_url) as other,
    ):
        await other.device()


@pytest.mark.usefixtures("nothing_left")
async def test_a_server_that_lost_a_part_says_so_and_stops_at_once(tmp_path):
    async with running(tmp_path) as server:

        async def fail(_batch):
            raise ZeroDivisionError

        device = await server.device()
        server.store.write = fail
        reading = {"device_id": device.device_id, "t": 1}
        began = time.monotonic()
        for _ in range(2):  # one that was taken, and one that comes too late
            response = await server.http.post("/ingest", json=reading)
            assert (response.status_code, response.json()["code"]) == (503, "SHUTTING_DOWN")
        await eventually(server.application.server.failed.is_set)
    # It does not wait for a pipeline that commits no more.
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("nothing_left")
async def test_at_the_first_sign_of_the_end_devices_are_read_no_more(tmp_path):
    """HTTP answers what it has been asked, which may take half of the budget."""
    async with running(tmp_path) as server:
        device = await server.device()
        client, port = await server.connect(device), server.port
        server.application.begin_shutdown()
        client.send(publish(device.topic, b'{"value": 1}'))
        with pytest.raises(ConnectionRefusedError):
            await Client.open(port)
        for _ in range(10):
            assert (await server.http.get("/health")).status_code == 200
        assert server.state.messages_total == 0
        reading = {"device_id": device.device_id, "t": 1}
        assert (await server.http.post("/ingest", json=reading)).status_code == 201
    assert await client.packet() == b""


async def lifespan(application):
    """Start and stop an application as ASGI servers do; return what it said."""
    said, given = [], asyncio.Queue()
    given.put_nowait({"type": "lifespan.startup"})
    given.put_nowait({"type": "lifespan.shutdown"})

    async def send(message):
        said.append(message)

    await application({"type": "lifespan"}, given.get, send)
    return said


@pytest.mark.usefixtures("nothing_left")
async def test_the_lifespan_says_how_it_goes(tmp_path, monkeypatch):
    said = await lifespan(Application(options(tmp_path)))
    assert [message["type"] for message in said] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "heliograph.db").touch()
    (said,) = await lifespan(Application(options(tmp_path / "empty")))
    assert said["type"] == "lifespan.startup.failed"
    assert "heliograph migrate" in said["message"]

    async def fail(_self):
        raise RuntimeError("something else")

    monkeypatch.setattr("heliograph.access.registry.Registry.load", fail)
    (said,) = await lifespan(Application(options(tmp_path)))
    assert said == {"type": "lifespan.startup.failed", "message": "something else"}


FAILING = """
import sys
from heliograph.store.sqlite import SqliteEngine

async def write(self, batch):
    raise ZeroDivisionError

SqliteEngine.write = write
if sys.argv[1:] == ["serve"]:
    from heliograph.cli.main import run as main
else:
    from uvicorn import main
main()
"""


def uvicorn_arguments(port):
    return ["heliograph.app:app", "--host", "127.0.0.1", "--port", str(port)]


@contextlib.contextmanager
def process(server, module, *arguments):
    """Run a module in the environment of a server, until it is ready."""
    with Program(
        *arguments,
        module=module,
        env=server.environment,
        cwd=server.folder,
        stderr=subprocess.PIPE,
    ) as started:
        server.process = started
        try:
            server.wait_until_ready()
            yield started
        finally:
            started.kill()
            server.process = None


@pytest.mark.uncovered
@pytest.mark.parametrize("how", ["serve", "uvicorn"])
def test_a_process_that_lost_a_part_ends_in_failure(tmp_path, how):
    server = ServerProcess(tmp_path)
    (tmp_path / "failing.py").write_text(FAILING)
    arguments = ["serve"] if how == "serve" else uvicorn_arguments(server.port)
    with process(server, "failing", *arguments) as started:
        server.device()
        with contextlib.suppress(httpx.HTTPError):
            server.http.post("/ingest", json={"device_id": "device-1", "t": 1}, timeout=60)
        _, said = started.communicate(SECONDS)
        assert started.returncode not in (None, 0)
        assert re.search(r"task ended unexpectedly.*pipeline", said)


@pytest.mark.uncovered
def test_uvicorn_serves_with_settings_of_the_environment(tmp_path):
    server = ServerProcess(tmp_path)
    arguments = "uvicorn", *uvicorn_arguments(server.port)
    with process(server, *arguments) as started:
        device = server.device()
        status = server.http.get("/status").json()
        assert (status["environment"], status["mqtt_port"]) == ("test", server.mqtt_port)
        key = {"X-API-Key": device.key}
        assert server.http.post("/ingest", json={"t": 1}, headers=key).status_code == 201
        with socket.create_connection(("127.0.0.1", server.mqtt_port), 5):
            pass
        # It waits for open connections before it tells the application.
        with server.http.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry:")
            started.terminate()
            *_, last = [line for line in lines if line]
            assert last.startswith("retry:")
        started.communicate(SECONDS)
    with process(server, *arguments) as again:
        assert [reading["metrics"] for reading in server.history(device)] == [{"t": 1}]
        # Of a closed terminal uvicorn knows nothing: it would end without telling us.
        again.send_signal(signal.SIGHUP)
        again.communicate(SECONDS)
        assert again.returncode in (0, -signal.SIGTERM)


@pytest.mark.uncovered
def test_uvicorn_says_in_one_line_why_it_cannot_start(tmp_path):
    environment = {**os.environ, "APP_ENV": "test", "DATA_DIRECTORY": str(tmp_path)}
    for name, value, said in (
        ("MQTT_LISTEN", "nonsense", "MQTT_LISTEN"),
        ("AUTO_MIGRATE", "false", "heliograph migrate"),
    ):
        done = program.run(
            *uvicorn_arguments(free_port()),
            module="uvicorn",
            env={**environment, "MQTT_LISTEN": "", name: value},
            cwd=tmp_path,
            timeout=SECONDS,
        )
        assert done.returncode != 0
        assert len([line for line in done.stderr.splitlines() if said in line]) == 1
        assert "Traceback" not in done.stderr

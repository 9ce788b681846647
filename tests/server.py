"""The whole server for tests: inside the test's own process, or in a process of its own."""

import asyncio
import contextlib
import dataclasses
import inspect
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self
from unittest import mock

import httpx
import uvicorn
import uvloop

from database_copies import migrated_database
from heliograph.app import Application
from heliograph.cli.serve import HttpServer
from heliograph.http.connections import BoundedHttpProtocol, WebSocketProtocol
from heliograph.http.services import Services
from heliograph.ingest.state import PipelineState
from heliograph.model.records import Measurement, RejectedMessage
from heliograph.settings import Address, Settings
from heliograph.store import Store
from mqtt_client import Client
from no_tls import NO_TLS
from ports import free_port
from program import Program

ADMIN_KEY = "an-admin-key-for-tests-only"
ADMIN = {"X-API-Key": ADMIN_KEY}
SHARED_KEY = "a-shared-key-for-tests-only"
PROGRAM = str(Path(sys.executable).with_name("heliograph"))
START_SECONDS = 60.0
STOP_SECONDS = 45.0


@dataclasses.dataclass(frozen=True)
class Device:
    """A registered device and its key."""

    identifier: str
    device_id: str
    key: str

    @property
    def topic(self) -> str:
        return f"measurements/{self.device_id}"


class Server:
    """A server that runs in this process."""

    def __init__(self, application: Application, services: Services, http: httpx.AsyncClient):
        self.application = application
        self.services = services
        self.http = http

    @property
    def store(self) -> Store:
        return self.services.store

    @property
    def listener(self) -> Any:
        return self.services.listener

    @property
    def state(self) -> PipelineState:
        return self.services.http_ingest.state

    @property
    def port(self) -> int:
        return int(self.listener.addresses[0][1])

    async def device(self, device_id: str = "device-1", **members: Any) -> Device:
        """Register a device."""
        body = {"device_id": device_id, **members}
        return _device(await self.http.post("/devices", json=body))

    async def connect(self, device: Device, *args: Any, **options: Any) -> Client:
        """Return a connection on which the device is logged in."""
        client_id = args[0] if args else device.device_id
        return await Client.connected(self.port, client_id, device.device_id, device.key, **options)

    async def admin(self, client_id: str = "admin", **options: Any) -> Client:
        """Return a connection that is logged in with the admin key."""
        return await Client.connected(self.port, client_id, "admin", ADMIN_KEY, **options)

    async def shown(self) -> None:
        """Wait until what is committed has been sent to its subscribers, or kept for them."""
        fanout = self.listener.fanout
        await eventually(lambda: not fanout._behind and fanout._catching_up is None)

    async def measurements(self, device: Device) -> list[Measurement]:
        """Return the device's stored measurements, oldest first."""
        sensor = await self.store.sensors.find(device.device_id)
        assert sensor is not None
        return await self.store.measurements.page(
            sensor.number, key=None, direction="next", limit=10_000
        )

    async def values(self, device: Device) -> list[Any]:
        """Return the device's stored values as JSON text, oldest first."""
        return [bytes(row.value).decode() for row in await self.measurements(device)]

    async def rejected(self) -> list[RejectedMessage]:
        """Return the rejected messages, newest first."""
        return await self.store.rejected.list(limit=1_000)


@contextlib.asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    """Run the server in this process on a free port, over a SQLite file in the folder.

    Started again in the same folder it goes on with the same database.
    """
    database = folder / "heliograph.db"
    if "database_url" not in settings and not database.exists():
        shutil.copy(migrated_database(), database)
    options: dict[str, Any] = {
        "app_env": "test",
        "data_directory": folder,
        "database_url": f"sqlite:///{database}",
        "auto_migrate": False,
        "api_secret_key": ADMIN_KEY,
        "device_api_keys": SHARED_KEY,
        "mqtt_listen": (Address("127.0.0.1", 0),),
        "mqtt_max_connections_per_principal": 0,
        "rate_limit_failed_logins": 0,
        "log_level": "warning",
    }
    application = Application(Settings(**{**options, **settings}))
    # Clients of tests are often still there at the end, and read nothing any more.
    lingering = mock.patch("heliograph.mqtt.listener.LINGER_SECONDS", 0.02)
    with lingering:
        async with application.running() as services:
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers={"X-API-Key": ADMIN_KEY}
            ) as http:
                yield Server(application, services, http)


@contextlib.asynccontextmanager
async def blocked(server: Server) -> AsyncIterator[asyncio.Event]:
    """Commit nothing within; the event tells that something would have been."""
    store: Any = server.store
    free, started = asyncio.Event(), asyncio.Event()
    write = store.write

    async def wait(batch: Any) -> Any:
        started.set()
        await free.wait()
        return await write(batch)

    store.write = wait
    try:
        yield started
    finally:
        store.write = write
        free.set()


class ServerProcess:
    """`heliograph serve` on ports and a database that it keeps over restarts.

    All methods block; call them through `asyncio.to_thread` where a loop has to go on. A
    context manager that starts the server, and ends it by SIGKILL if it still runs.
    """

    def __init__(self, folder: Path, *, database_url: str | None = None, **environment: str):
        self.folder = folder
        self.port = free_port()
        self.mqtt_port = free_port()
        self.environment = {
            **os.environ,
            "APP_ENV": "test",
            "API_SECRET_KEY": ADMIN_KEY,
            "DEVICE_API_KEYS": SHARED_KEY,
            "DATA_DIRECTORY": str(folder),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "MQTT_LISTEN": f"127.0.0.1:{self.mqtt_port}",
            "MQTT_MAX_CONNECTIONS_PER_PRINCIPAL": "0",
            "RATE_LIMIT_FAILED_LOGINS": "0",
            "LOG_LEVEL": "warning",
            **environment,
        }
        if database_url is not None:
            self.environment["DATABASE_URL"] = database_url
        elif not (folder / "heliograph.db").exists():
            shutil.copy(migrated_database(), folder / "heliograph.db")
        self.process: Program | None = None
        self.http = httpx.Client(base_url=self.url, headers=ADMIN, timeout=60, verify=NO_TLS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process is not None:
            self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        """Start the process and, unless told otherwise, wait until it is ready."""
        assert self.process is None, "it runs already"
        self.process = Program("serve", env=self.environment, cwd=self.folder)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when /readyz says that data is taken."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            if self.is_ready():
                return
            time.sleep(0.02)
        raise AssertionError("the server did not become ready")

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/readyz").status_code == 200
        return False

    def kill(self) -> None:
        """End the process at once, as a power cut would: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self.process = None

    def terminate(self) -> int:
        """Ask the process to end, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def restart(self, *, wait: bool = True) -> None:
        """Kill what runs, if anything does, and start again on the same ports and database."""
        if self.process is not None:
            self.kill()
        self.start(wait=wait)

    def device(self, device_id: str = "device-1") -> Device:
        """Register a device."""
        return _device(self.http.post("/devices", json={"device_id": device_id}))

    def history(self, device: Device, **parameters: Any) -> list[Mapping[str, Any]]:
        """Return what 002's history says of the device, newest first."""
        return _history(self.http, device, **parameters)


class ServerThread:
    """A server on a port of its own in a thread of this process: it starts in no time.

    It takes HTTP alone. A context manager; `environment` is for commands that call it.
    """

    def __init__(self, folder: Path, database_url: str = "", **settings: Any) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "APP_ENV": "test",
            "API_SECRET_KEY": ADMIN_KEY,
            "DATA_DIRECTORY": str(folder),
            "DATABASE_URL": database_url or f"sqlite:///{folder}/heliograph.db",
            "HOST": "127.0.0.1",
            "MQTT_LISTEN": "",
        }
        self._settings = settings
        self._is_empty = not database_url
        self._stopping: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="server")
        self._port: Future[int] = Future()

    def __enter__(self) -> Self:
        if self._is_empty:
            shutil.copy(migrated_database(), self.folder / "heliograph.db")
        self._thread.start()
        self.port = self._port.result(START_SECONDS)
        self.environment["PORT"] = str(self.port)
        url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=url, headers=ADMIN, timeout=60, verify=NO_TLS)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()

    def stop(self) -> None:
        """End it; may be called again."""
        if self._stopping is not None:
            self._stopping()
        self._thread.join(STOP_SECONDS)
        assert not self._thread.is_alive()

    def device(self, device_id: str = "device-1") -> Device:
        """Register a device."""
        return _device(self.http.post("/devices", json={"device_id": device_id}))

    def history(self, device: Device, **parameters: Any) -> list[Mapping[str, Any]]:
        """Return what 002's history says of the device, newest first."""
        return _history(self.http, device, **parameters)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if not self._port.done():
                self._port.set_exception(error)
            raise

    async def _serve(self) -> None:
        settings = {
            "app_env": "test",
            "data_directory": self.folder,
            "database_url": self.environment["DATABASE_URL"],
            "auto_migrate": False,
            "api_secret_key": ADMIN_KEY,
            "mqtt_listen": (),
            **self._settings,
        }
        application = Application(Settings(**settings))
        config = uvicorn.Config(
            application,
            http=BoundedHttpProtocol,
            ws=WebSocketProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        server = HttpServer(config)
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            async with application.running() as services:
                config.app = application.web
                server.on_stop = services.streams.close
                self._stopping = lambda: loop.is_closed() or loop.call_soon_threadsafe(server.stop)
                self._port.set_result(listening.getsockname()[1])
                await server.serve([listening])


@contextlib.asynccontextmanager
async def served(web: Any, **options: Any) -> AsyncIterator[int]:
    """Serve an application of this process over HTTP; gives its port.

    With the protocols of `heliograph serve` unless others are named.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        web,
        lifespan="off",
        log_config=None,
        access_log=False,
        **{
            "http": BoundedHttpProtocol,
            "ws": WebSocketProtocol,
            "ws_per_message_deflate": False,
            **options,
        },
    )
    server: Any = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve([listening]), name="uvicorn")
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@contextlib.contextmanager
def serving(folder: Path, **options: Any) -> Iterator[ServerProcess]:
    """Run a server process for as long as the context lasts."""
    with ServerProcess(folder, **options) as server:
        yield server


def _history(http: httpx.Client, device: Device, **parameters: Any) -> list[Mapping[str, Any]]:
    response = http.get(
        f"/devices/{device.device_id}/history", params={"limit": 10_000, **parameters}
    )
    response.raise_for_status()
    return list(response.json())


def _device(response: httpx.Response) -> Device:
    assert response.status_code == 201, response.text
    body = response.json()
    return Device(body["sensor_identifier"], body["device_id"], body["api_key"])


async def retained_is_sent() -> None:
    """Wait until nobody here is being sent what is retained: what comes now is live."""
    await eventually(lambda: not any(t.get_name() == "mqtt retained" for t in asyncio.all_tasks()))


async def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Return as soon as the condition holds; it may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if inspect.isawaitable(held):
                held = await held
            if held:
                return
            await asyncio.sleep(0.005)

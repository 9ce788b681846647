"""A server in a process of its own, started as users start it, on free ports."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ADMIN_KEY = "an-admin-key-for-tests-only"
START_SECONDS = 60.0
STOP_SECONDS = 45.0
PROGRAM = str(Path(sys.executable).with_name("heliograph"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclasses.dataclass
class RunningServer:
    """Where a started server is, and the environment that commands beside it need."""

    port: int
    mqtt_port: int
    environment: dict[str, str]
    folder: Path

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": ADMIN_KEY}, timeout=10)


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[RunningServer]:
    """Run `heliograph serve` in the folder until the end of the context."""
    port, mqtt_port = free_port(), free_port()
    environment = {
        **os.environ,
        "APP_ENV": "test",
        "API_SECRET_KEY": ADMIN_KEY,
        "DATA_DIRECTORY": str(folder),
        "PORT": str(port),
        "MQTT_LISTEN": f"0.0.0.0:{mqtt_port}",
        "LOG_LEVEL": "warning",
    }
    with subprocess.Popen([PROGRAM, "serve"], env=environment, cwd=folder) as process:
        try:
            server = RunningServer(port, mqtt_port, environment, folder)
            wait_until_ready(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def wait_until_ready(server: RunningServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server did not become ready: {process.poll()}")

"""The server in a process of its own, to be killed, stopped and started again on the same ports."""

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from mqtt_client import Client, publish
from no_tls import NO_TLS
from ports import free_port
from program import Program

ADMIN_KEY = "an-admin-key-for-tests-only"
ADMIN = {"X-API-Key": ADMIN_KEY}
START_SECONDS = 60.0
STOP_SECONDS = 45.0
PROGRAM = str(Path(sys.executable).with_name("heliograph"))


class ServerProcess:
    """`heliograph serve` over one database; what it says goes to a file in its folder.

    With a `module` of this folder it runs that instead.
    """

    arguments: tuple[str, ...] = ("serve",)

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        module: str | None = None,
        **variables: str,
    ) -> None:
        self.folder = folder
        self._module = module
        self.port = free_port()
        self.mqtt_port = free_port()
        self.database_url = database_url
        self.starts = 0
        self._process: subprocess.Popen[bytes] | Program | None = None
        self._environment = {
            **os.environ,
            "APP_ENV": "test",
            "API_SECRET_KEY": ADMIN_KEY,
            "DATA_DIRECTORY": str(folder),
            "DATABASE_URL": database_url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "MQTT_LISTEN": f"127.0.0.1:{self.mqtt_port}",
            "LOG_LEVEL": "warning",
            "RATE_LIMIT_INGEST": "0",
            "RATE_LIMIT_READ": "0",
            "RATE_LIMIT_WRITE": "0",
            **variables,
        }

    @property
    def process(self) -> subprocess.Popen[bytes] | Program:
        assert self._process is not None
        return self._process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    async def start_in(self, terminal: int) -> None:
        """Start it in a session of its own, controlled by this terminal, and wait for it."""
        self._process = subprocess.Popen(
            ["setsid", "--ctty", PROGRAM, "serve"],
            env=self._environment,
            cwd=self.folder,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        await self.ready(START_SECONDS)

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.starts += 1
        with (self.folder / "server.log").open("ab") as output:
            self._process = Program(
                *self.arguments,
                env=self._environment,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                module=self._module,
            )
        await self.ready(START_SECONDS)

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, seconds: float = STOP_SECONDS) -> int:
        """Return the exit status once it has ended."""
        return await asyncio.to_thread(self.process.wait, seconds)

    def is_running(self) -> bool:
        """Tell whether the process that was started last still runs."""
        return self.process.poll() is None

    async def stop(self) -> None:
        """End it, if it was started and still runs."""
        if self._process is not None and self.is_running():
            self.terminate()
            try:
                await self.ended()
            except subprocess.TimeoutExpired:
                self.kill()
                await self.ended()
                raise

    async def readiness(self) -> int:
        """Return the status of /readyz."""
        async with self.client() as client:
            return (await client.get("/readyz")).status_code

    async def ready(self, seconds: float = START_SECONDS, status: int = 200) -> None:
        """Wait until /readyz answers with the status."""
        deadline = time.monotonic() + seconds
        answered: object = None
        async with self.client() as client:
            while time.monotonic() < deadline:
                assert self.is_running(), f"the server has ended:\n{self.said[-3000:]}"
                try:
                    answered = (await client.get("/readyz")).status_code
                except httpx.TransportError as error:
                    answered = error
                if answered == status:
                    return
                await asyncio.sleep(0.03)
        raise AssertionError(f"/readyz did not become {status}: {answered!r}\n{self.said[-3000:]}")

    def client(self, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        """Return an HTTP client with the admin key."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers=ADMIN if headers is None else headers,
            timeout=40,
            verify=NO_TLS,
        )

    async def device(self, device_id: str) -> str:
        """Register a device and return its key."""
        async with self.client() as client:
            answer = await client.post("/devices", json={"device_id": device_id})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["api_key"])

    async def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        async with self.client() as client:
            text = (await client.get("/metrics")).text
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    async def caught_up(self, port: int, seconds: float = 60.0) -> None:
        """Wait until all that the broker on this port has acknowledged so far is stored.

        It hands on in the order in which it took, and we store in that order: so once a message
        of our own is there, everything before it is.
        """
        name = f"last-{secrets.token_hex(4)}"
        client = await Client.connected(port, name, name, await self.device(name))
        client.send(publish(f"measurements/{name}", b'{"value":1}'))
        assert await client.packet() == b"\x40\x00\x01"
        await client.close()

        async def is_there():
            return (await http.get(f"/devices/{name}/history")).json()

        async with self.client() as http:
            await condition(is_there, seconds, "all of the broker's messages stored")

    def resident_bytes(self) -> int:
        """Return how much memory the process has now."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return how much work the process has done so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return how much memory the process has had at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1_024


async def condition(true, seconds=30.0, what="the condition"):
    """Wait until a function (or one that is awaited) says so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answered = true()
        if asyncio.iscoroutine(answered):
            answered = await answered
        if answered:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not come true in {seconds} seconds")

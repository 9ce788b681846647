"""The whole server over a SQLite file of its own, called in process or over a real socket."""

import asyncio
import contextlib
import json
import shutil
import socket
import uuid
from functools import partial
from pathlib import Path
from unittest import mock

import httpx
import pytest
from argon2 import PasswordHasher

from database_copies import migrated_database
from heliograph.app import Application
from heliograph.http.application import create_web
from heliograph.http.exports import ExportSlots
from heliograph.model.credentials import hash_key, new_token
from heliograph.model.principal import Role
from heliograph.model.time import now
from heliograph.settings import Settings
from server import served

ADMIN_KEY = "an-admin-key-for-tests-only"
SHARED_KEY = "a-shared-key-for-tests-only"
ADMIN = {"x-api-key": ADMIN_KEY}
SHARED = {"x-api-key": SHARED_KEY}
PASSWORD = "12345678"
# How long a stream is waited for.
STREAM_SECONDS = 60
# As good a hash as any other, at a thousandth of the cost.
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def established(port: int) -> int:
    """Return how many connections a server on this machine has, as the system sees it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def narrow(
    port: int, path: str, head: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a path as the administrator, on a connection that holds little of what is unread."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=4_096)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {ADMIN_KEY}\r\n{head}\r\n".encode())
    return reader, writer


@pytest.fixture(scope="session")
def migrated():
    """Return a migrated database's file, to be copied."""
    return migrated_database()


class BriefStreams:
    """ASGI layer that leaves a stream once it has begun: in process an answer is read whole."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        begun = asyncio.Event()

        async def sending(message):
            headers = dict(message.get("headers", ()))
            if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
                begun.set()
            await send(message)

        async def receiving():
            if scope["method"] != "GET":
                return await receive()
            waiting = [asyncio.ensure_future(receive()), asyncio.ensure_future(begun.wait())]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            return waiting[0].result() if waiting[0] in done else {"type": "http.disconnect"}

        await self._app(scope, receiving, sending)


class Site:
    """A running server and a client for it."""

    def __init__(self, services, web, http, exports):
        self.services = services
        self.web = web
        self.http = http
        self.exports = exports

    async def device(self, device_id, **members):
        """Register a device and return the headers that it sends."""
        response = await self.http.post(
            "/devices", json={"device_id": device_id, **members}, headers=ADMIN
        )
        assert response.status_code == 201, response.text
        return {"x-api-key": response.json()["api_key"]}

    async def account(self, username, *, is_admin=False):
        """Make an account with the usual password, without the cost of hashing it."""
        return await self.services.store.accounts.create(
            identifier=str(uuid.uuid4()),
            username=username,
            password_hash=CHEAP_HASH,
            created_at=now(),
            is_admin=is_admin,
        )

    async def session(self, account):
        """Log the account in and return the headers that it sends."""
        token, moment = new_token(), now()
        assert await self.services.store.accounts.open_session(
            hash_key(token),
            account,
            purpose="session",
            created_at=moment,
            expires_at=moment + 3_600_000_000,
        )
        return {"authorization": f"Bearer {token}"}

    async def user(self, username, **options):
        """Make an account, log it in, and return the headers that it sends."""
        return await self.session(await self.account(username, **options))

    async def network(self, name, **roles):
        """Make a network whose members are the accounts of these names; return its UUID."""
        networks, accounts = self.services.store.networks, self.services.store.accounts
        network = await networks.create(
            identifier=str(uuid.uuid4()), name=name, created_at=now(), owner=None
        )
        for username, role in roles.items():
            account = await accounts.find_username(username)
            await networks.set_member(
                network.identifier, account.identifier, Role[role.upper()], now()
            )
        await self.services.registry.changed()
        return network.identifier

    async def rejected(self):
        return await self.services.store.rejected.list(limit=100)


@pytest.fixture
def site(migrated, tmp_path):
    """Return a context manager that runs the server with the given settings."""

    @contextlib.asynccontextmanager
    async def running(**overrides):
        if "database_url" not in overrides:
            shutil.copy(migrated, tmp_path / "heliograph.db")
        settings = Settings(
            data_directory=tmp_path,
            auto_migrate=False,
            api_secret_key=ADMIN_KEY,
            **{
                "app_env": "test",
                "database_url": f"sqlite:///{tmp_path}/heliograph.db",
                "device_api_keys": SHARED_KEY,
                "mqtt_listen": (),
                "rate_limit_failed_logins": 0,
                **overrides,
            },
        )
        exports, application = ExportSlots(), Application(settings)
        creating = partial(create_web, export_slots=exports)
        with mock.patch("heliograph.app.create_web", creating):
            async with application.running() as services:
                web = application.web
                transport = httpx.ASGITransport(BriefStreams(web), raise_app_exceptions=False)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost"
                ) as http:
                    yield Site(services, web, http, exports)

    return running


@pytest.fixture
def serving():
    """Return a context manager that serves an application on a free port."""
    return served


class Events:
    """Reads a stream's blocks, one after the other."""

    def __init__(self, response):
        self._lines = response.aiter_lines()
        self.last_id = None

    async def block(self):
        """Return the next block as a dictionary; None at the end."""
        fields = {}
        async with asyncio.timeout(STREAM_SECONDS):
            async for line in self._lines:
                if not line:
                    if "id" in fields:
                        self.last_id = fields["id"]
                    return fields
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
        return None

    async def event(self, *names):
        """Return the next event of these names, or of any."""
        # A stream on which nothing happens says each few seconds that it is there.
        async with asyncio.timeout(STREAM_SECONDS):
            while (block := await self.block()) is not None:
                if "event" in block and (not names or block["event"] in names):
                    return block["event"], json.loads(block["data"])
        return None


@pytest.fixture
def watching(serving):
    """Return a context manager that opens a stream, past its beginning."""

    @contextlib.asynccontextmanager
    async def opened(port, path, headers=ADMIN, **options):
        url = f"http://127.0.0.1:{port}"
        async with (
            httpx.AsyncClient(base_url=url, timeout=STREAM_SECONDS) as http,
            http.stream("GET", path, headers=headers, **options) as response,
        ):
            assert response.status_code == 200, await response.aread()
            events = Events(response)
            assert "retry" in await events.block()
            yield events

    return opened


async def send(site, *values, sensor="pump"):
    for value in values:
        response = await site.http.post(
            "/ingest", json={"device_id": sensor, "t": value}, headers=ADMIN
        )
        assert response.status_code == 201, response.text


async def values(events, count):
    return [(await events.event("measurement"))[1]["measurement"]["t"] for _ in range(count)]

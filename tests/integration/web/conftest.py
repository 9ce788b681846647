"""The whole server over a SQLite file of its own, called in process or over a real socket."""

import asyncio
import contextlib
import shutil
import socket

import httpx
import pytest
import uvicorn

from heliograph.app import Application
from heliograph.settings import Settings
from heliograph.store import migrate
from heliograph.web.application import create_web

ADMIN_KEY = "an-admin-key-for-tests-only"
SHARED_KEY = "a-shared-key-for-tests-only"
ADMIN = {"x-api-key": ADMIN_KEY}
SHARED = {"x-api-key": SHARED_KEY}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """Return a migrated database's file, to be copied: migrating takes a second."""
    path = tmp_path_factory.mktemp("template") / "heliograph.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


class Site:
    """A running server and a client for it."""

    def __init__(self, services, web, http):
        self.services = services
        self.web = web
        self.http = http

    async def device(self, device_id, **members):
        """Register a device and return the headers that it sends."""
        response = await self.http.post(
            "/devices", json={"device_id": device_id, **members}, headers=ADMIN
        )
        assert response.status_code == 201, response.text
        return {"x-api-key": response.json()["api_key"]}

    async def rejected(self):
        return await self.services.store.rejected.list(limit=100)


@pytest.fixture
def site(migrated, tmp_path):
    """Return a context manager that runs the server with the given settings."""

    @contextlib.asynccontextmanager
    async def running(**overrides):
        shutil.copy(migrated, tmp_path / "heliograph.db")
        settings = Settings(
            app_env="test",
            data_directory=tmp_path,
            database_url=f"sqlite:///{tmp_path}/heliograph.db",
            auto_migrate=False,
            api_secret_key=ADMIN_KEY,
            device_api_keys=SHARED_KEY,
            **{"mqtt_listen": (), "rate_limit_failed_logins": 0, **overrides},
        )
        async with Application(settings).running() as services:
            web = create_web(services)
            transport = httpx.ASGITransport(web, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                yield Site(services, web, http)

    return running


@pytest.fixture
def serving():
    """Return a context manager that serves an application on a free port."""

    @contextlib.asynccontextmanager
    async def running(web):
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(web, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        server.capture_signals = contextlib.nullcontext
        task = asyncio.create_task(server.serve([listening]), name="uvicorn")
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task

    return running

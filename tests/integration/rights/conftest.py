"""One server for all cases, over HTTP and MQTT: each case has users and sensors of its own."""

import contextlib
from unittest import mock

import httpx
import pytest
import pytest_asyncio

from integration.rights.case import NEW_HASH, World
from server import running, served


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        # `http/test_several_servers` tries one of each kind over two servers every time.
        pytest.param("two servers", marks=pytest.mark.long),
        pytest.param("postgresql", marks=pytest.mark.long),
    ],
)
def database(request):
    """The settings of a database, and of how many servers.

    Of each engine, though rights are read from memory as a rule.
    """
    if request.param == "sqlite":
        return {}, 1
    cluster = request.getfixturevalue("postgresql_cluster")
    url = cluster.dsn(cluster.create_database())
    return {"database_url": url, "auto_migrate": True}, 2 if request.param == "two servers" else 1


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory, database):
    """The server, and who has every right there; rights may end at another one."""
    settings, count = database
    async with contextlib.AsyncExitStack() as stack:
        # What time alone ends is noticed by looking; streams are not looked at by chance, too.
        stack.enter_context(mock.patch("heliograph.mqtt.listener.SWEEP_SECONDS", 0.02))
        stack.enter_context(mock.patch("heliograph.live.streams.SWEEP_SECONDS", 3_600))

        async def begun():
            unlimited = {"rate_limit_read": 0, "rate_limit_ingest": 0, **settings}
            folder = tmp_path_factory.mktemp("rights")
            server = await stack.enter_async_context(running(folder, **unlimited))
            hashed = mock.AsyncMock(return_value=NEW_HASH)
            stack.enter_context(mock.patch.object(server.services.passwords, "hash", hashed))
            port = await stack.enter_async_context(served(server.application))
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
            http = await stack.enter_async_context(client)
            return World(server, port, http)

        # The first one has all duties.
        world = await begun()
        world.other = await begun() if count > 1 else None
        yield world

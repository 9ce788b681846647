"""A server of the test's own, in this process, and both versions of MQTT."""

import asyncio
import contextlib

import pytest
import uvloop

from server import running


def pytest_asyncio_loop_factories(config, item):
    """Run these tests on what the server runs on as its users start it."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=[4, 5], ids=["3.1.1", "5"])
def version(request):
    return request.param


@pytest.fixture
async def server(tmp_path):
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
def blocked():
    """Return a context manager within which a server's database commits nothing."""

    @contextlib.asynccontextmanager
    async def blocked(server):
        store, free = server.store, asyncio.Event()
        write, started = store.write, asyncio.Event()

        async def wait(batch):
            started.set()
            await free.wait()
            return await write(batch)

        store.write = wait
        try:
            yield started
        finally:
            del store.write
            free.set()

    return blocked

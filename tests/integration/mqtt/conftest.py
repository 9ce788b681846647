"""A server of the test's own, in this process, and both versions of MQTT."""

import pytest
import uvloop

from heliograph.store.publications import Outbox
from server import blocked, running


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


@pytest.fixture(name="blocked")
def blocked_fixture():
    """Return a context manager within which a server's database commits nothing."""
    return blocked


@pytest.fixture
def read(monkeypatch):
    """Return the texts of configurations that are read together, each time."""
    pieces = []
    texts = Outbox.texts

    async def noting(self, revisions):
        found = await texts(self, revisions)
        pieces.append(list(found.values()))
        return found

    monkeypatch.setattr(Outbox, "texts", noting)
    return pieces

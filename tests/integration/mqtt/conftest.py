"""A server of the test's own, in this process, and both versions of MQTT."""

import pytest

from heliograph.store.publications import Outbox
from server import blocked, running


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

"""The ingest core without sockets, on a real store."""

import pytest

from heliograph.store import open_store
from ingest_core import running


@pytest.fixture
async def core(store):
    """The core, once on each engine."""
    async with running(store) as core:
        yield core


@pytest.fixture
async def sqlite_store(sqlite_url):
    store = await open_store(sqlite_url)
    yield store
    await store.close()


@pytest.fixture
async def plain_core(sqlite_store):
    """The core on SQLite, for what no engine does differently."""
    async with running(sqlite_store) as core:
        yield core

"""Sessions of MQTT clients on PostgreSQL: only whose they are writes them, in one order of keys."""

import asyncio

import psycopg
import pytest

from heliograph.model.mqtt_sessions import Row, WantedSession
from heliograph.store import open_store
from server import eventually

KEYS = [b"a", b"b"]


@pytest.fixture
async def sessions(postgresql_url):
    store = await open_store(postgresql_url)
    yield store.mqtt_sessions
    await store.close()


def row(key, epoch, client=b"new"):
    return Row(key, epoch, "me", 60, None, client, None, None, None)


async def claim(sessions, keys=KEYS):
    wanted = [WantedSession(key, 60, b"client", clean=False, forced=False) for key in keys]
    return {each.key: each.epoch for each in await sessions.claim("me", wanted)}


async def test_only_the_holder_in_its_epoch_writes(sessions):
    epochs = await claim(sessions)
    older = dict(epochs)
    epochs |= await claim(sessions, [b"a"])
    assert epochs[b"a"] == older[b"a"] + 1
    strangers = [("other", epochs), ("me", {key: epoch - 1 for key, epoch in epochs.items()})]
    for token, known in strangers:
        assert await sessions.held(token, list(known.items())) == set()
        assert await sessions.save(token, [row(*each) for each in known.items()]) == set()
        assert await sessions.end(token, list(known.items())) == set()
    assert await sessions.held("me", list(older.items())) == {b"b"}
    # Of one that is asked for in two epochs the row of the right one is stored.
    rows = [row(b"a", epochs[b"a"], b"right"), row(b"a", older[b"a"], b"wrong")]
    assert await sessions.save("me", rows) == {b"a"}
    [found] = await sessions.claim("me", [WantedSession(b"a", 0, b"", clean=False, forced=False)])
    assert found.client == b"right"
    assert await sessions.end("me", [(b"a", found.epoch), (b"b", epochs[b"b"])]) == set(KEYS)


@pytest.mark.parametrize("what", ["save", "end"])
async def test_several_are_written_in_the_order_of_their_keys(sessions, postgresql_url, what):
    """Else it and another one that takes them in this order would each wait for the other."""
    epochs = await claim(sessions)
    backwards = sorted(epochs.items(), reverse=True)
    lock = "SELECT 1 FROM mqtt_session WHERE key = %s FOR UPDATE"
    connecting = psycopg.AsyncConnection.connect(postgresql_url)
    async with await connecting as connection:
        await connection.execute(lock, [b"a"])
        if what == "save":
            written = sessions.save("me", [row(*each) for each in backwards])
        else:
            written = sessions.end("me", backwards)
        writing = asyncio.create_task(written)

        async def waits():
            found = await connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
            return await found.fetchone()

        await eventually(waits)
        await connection.execute(f"{lock} NOWAIT", [b"b"])
    assert await writing == set(KEYS)

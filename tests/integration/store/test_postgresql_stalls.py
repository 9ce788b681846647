"""A link to PostgreSQL that takes no more of a COPY: the writer gets away, and goes on anew."""

import asyncio
import contextlib

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.store import open_store, postgresql
from heliograph.store.engine import Batch
from rows import NOON, measurement

# More than the sockets on the way hold, so that the driver has to wait in the middle of it.
ROWS = 60_000
TEXT = "x" * 500
PASSED = 1 << 20


class Link:
    """A proxy that, once `stalling`, takes so many bytes more and then none."""

    def __init__(self, port):
        self.target = port
        self.stalling = False
        self.stalled = asyncio.Event()
        self._writers = []
        self._tasks = set()

    async def serve(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()

    async def close(self):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, far_writer]
        await asyncio.gather(
            self._up(reader, far_writer), self._down(far_reader, writer), return_exceptions=True
        )

    async def _up(self, reader, writer):
        left = PASSED
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
            if self.stalling and (left := left - len(data)) <= 0:
                self.stalled.set()
                reader._transport.pause_reading()
                return
        writer.close()

    async def _down(self, reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()


@pytest.fixture
async def link(postgresql_cluster):
    link = Link(postgresql_cluster.port)
    yield link
    await link.close()


@pytest.fixture
async def store(link, postgresql_url, postgresql_cluster):
    port = await link.serve()
    store = await open_store(postgresql_url.replace(str(postgresql_cluster.port), str(port)))
    yield store
    await store.close()


def large_batch():
    return Batch(measurements=[measurement(1, NOON + at, TEXT) for at in range(ROWS)])


async def started(store, link):
    """Return a write that waits in the middle of its COPY."""
    await store.write(Batch(measurements=[measurement(1, NOON - 1)]))
    link.stalling = True
    writing = asyncio.create_task(store.write(large_batch()))
    async with asyncio.timeout(25):
        await link.stalled.wait()
        # The driver has written what the sockets hold, and waits for room.
        while store.engine.writer._connection._transport.get_write_buffer_size() == 0:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)
    return writing


async def goes_on(store, link):
    link.stalling = False
    async with asyncio.timeout(25):
        await store.write(Batch(measurements=[measurement(1, NOON - 2)]))
        page = await store.measurements.page(1, key=None, direction=None, limit=10)
    assert len(page) == 2


async def test_a_link_that_goes_down_while_the_driver_waits_for_room(store, link):
    writing = await started(store, link)
    link.cut()
    async with asyncio.timeout(25):
        with pytest.raises(StoreUnavailableError):
            await writing
    await goes_on(store, link)


async def test_a_link_that_takes_nothing_more_ends_by_time_out(store, link, monkeypatch):
    monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.5)
    writing = await started(store, link)
    async with asyncio.timeout(25):
        with pytest.raises(StoreUnavailableError):
            await writing
    await goes_on(store, link)


async def test_a_stop_while_the_driver_waits_for_room(store, link):
    writing = await started(store, link)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        async with asyncio.timeout(25):
            await writing
    await goes_on(store, link)

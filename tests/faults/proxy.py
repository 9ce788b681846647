"""A TCP proxy that cuts or stalls connections in the middle of what they carry."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

CHUNK = 4_096


class CuttingProxy:
    """Forwards to a port; once `cutting`, each connection ends after a random count of bytes.

    Bounds are bytes: how much of a connection passes at most, on its way up and down. What the
    other end has sent meanwhile is lost, as with a link that goes down.

    With `stalling` it says nothing at its end: no more bytes pass either way, and neither side
    hears that the other closes.
    """

    def __init__(self, target: int, up: tuple[int, int], down: tuple[int, int]) -> None:
        self.cutting = False
        self.stalling = False
        self.cuts = 0
        self.stalls = 0
        self.port = 0
        self._target = target
        self._up = up
        self._down = down
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CuttingProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(far_writer)
            stalled = asyncio.Event()
            ways = [
                asyncio.create_task(self._forward(reader, far_writer, self._up, stalled)),
                asyncio.create_task(self._forward(far_reader, writer, self._down, stalled)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # asyncio would report a handler that `running` has cancelled
        finally:
            for end in writers:
                end.transport.abort()
            self._tasks.discard(task)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: tuple[int, int],
        stalled: asyncio.Event,
    ) -> None:
        left = random.randint(*bounds)
        while (data := await reader.read(CHUNK)) or stalled.is_set():
            if stalled.is_set():
                await asyncio.Event().wait()
            if self.cutting or self.stalling:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            if self.stalling and left <= 0:
                self.stalls += 1
                stalled.set()
            elif self.cutting and left <= 0:
                # The last bytes still arrive: half a packet at most.
                await asyncio.sleep(0.001)
                self.cuts += 1
                return

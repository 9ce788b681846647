"""Devices that post over HTTP, each reading again until it is answered with 201."""

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


RETRY_SECONDS = 0.05


class HttpSender:
    """A few connections that share a list of readings.

    Who answers nothing for `patience` seconds is given up for another connection.
    """

    def __init__(
        self,
        port: int,
        key: str,
        count: int,
        *,
        idempotent: bool,
        connections: int = 8,
        patience: float | None = None,
    ) -> None:
        self.acknowledged: set[int] = set()
        self.repeated: set[int] = set()
        self.statuses: set[int] = set()
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.values = [f'{{"n":{n}}}' for n in range(count)]
        self._port = port
        self._key = key
        self._idempotent = idempotent
        self._connections = connections
        self._patience = patience
        self._start = time.time() - 3_600
        self._left = iter(range(count))
        self._writers: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Post until everything is acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._work())

    def cut(self) -> None:
        """End all connections here and now: what the server has answered is lost on its way."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _work(self) -> None:
        streams = None
        for n in self._left:
            while n not in self.acknowledged:
                try:
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self._port)
                        self._writers.add(streams[1])
                    async with asyncio.timeout(self._patience):
                        status = await self._post(n, *streams)
                except (OSError, asyncio.IncompleteReadError):
                    if streams is not None:
                        streams[1].transport.abort()
                    status, streams = 0, None
                self.statuses.add(status)
                if status == 201:
                    self.acknowledged.add(n)
                    self.on_progress(len(self.acknowledged))
                else:
                    assert status in (0, 503), status
                    self.repeated.add(n)
                    await asyncio.sleep(RETRY_SECONDS)
        if streams is not None:
            streams[1].close()

    async def _post(
        self, n: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        if self._idempotent:
            body = b'{"n":%d}' % n
            extra = b"Idempotency-Key: reading-%d\r\n" % n
        else:
            body = b'{"n":%d,"timestamp":%.3f}' % (n, self._start + n // 10 / 1_000)
            extra = b""
        head = b"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-Key: %b\r\n%b" % (
            self._key.encode(),
            extra,
        )
        writer.write(
            b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (head, len(body), body)
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        if b"connection: close" in answer.lower():
            writer.close()
        return int(answer.split(b" ", 2)[1])

"""A small HTTP server, which keeps requests as they came and answers as the test says."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """Takes requests and answers each with the next of the answers; None: with nothing."""

    def __init__(self, *answers: bytes | None):
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.requests.append(head + body)
        answer = self.answers.pop(0) if self.answers else OK
        with contextlib.suppress(OSError):
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            while answer is not None and answer.endswith(b"endless "):
                writer.write(b"more and more " * 1_000)
                await writer.drain()
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def receiving(
    *answers: bytes | None, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(*answers)
    server = await asyncio.start_server(receiver.serve, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()

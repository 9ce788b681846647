"""An export as an answer: streamed with constant memory, ended with the client, cut when it fails.

A page is read, encoded and sent before the next is read: a slow client slows the reading, and
what waits in between is what the socket's own buffers hold.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.direct import cut_off, disconnected
from heliograph.ingest.state import PipelineState

# Exports at once: of one caller, and of all. Each keeps a reading connection busy.
AT_ONCE_EACH = 2
AT_ONCE = 6
RETRY_SECONDS = 10
# A client that takes nothing for so long is taken for gone.
STALL_SECONDS = 60.0
# The longest wait for ingest after a page.
LONGEST_TURN_SECONDS = 5.0

GZIP = 16 + zlib.MAX_WBITS
# Twice as quick as the usual 6, and a tenth larger.
GZIP_LEVEL = 4

T = TypeVar("T")

log = structlog.get_logger()


class ExportSlots:
    """How many exports run at once, with a bound for each caller and for all."""

    def __init__(self) -> None:
        self._running: Counter[int | str] = Counter()

    @property
    def running(self) -> int:
        """How many run now."""
        return self._running.total()

    def take(self, name: int | str) -> None:
        """Count an export that begins; `release` has to follow.

        Raises:
            HeliographError: RATE_LIMITED, there are too many.
        """
        if self._running[name] >= AT_ONCE_EACH or self._running.total() >= AT_ONCE:
            raise HeliographError(
                ErrorCode.RATE_LIMITED,
                f"Too many exports at once: {AT_ONCE_EACH} a caller, {AT_ONCE} in all",
                retry_after=RETRY_SECONDS,
            )
        self._running[name] += 1

    def release(self, name: int | str) -> None:
        """Count an export that has ended."""
        self._running[name] -= 1
        if not self._running[name]:
            del self._running[name]


async def in_turn(
    pages: AsyncGenerator[T, None], slots: ExportSlots, ingest: PipelineState
) -> AsyncGenerator[T, None]:
    """Yield the pages; while ingest is busy, wait after each for as long as all exports may work.

    One then works half of the time, which is little beside what arrives on the event loop
    meanwhile; several work together hardly more than that.
    """
    loop = asyncio.get_running_loop()
    async with aclosing(pages):
        began, commits = loop.time(), ingest.commits_total
        async for page in pages:
            worked = loop.time() - began
            yield page
            if ingest.depth or ingest.commits_total != commits:
                await asyncio.sleep(min(worked * slots.running, LONGEST_TURN_SECONDS))
            began, commits = loop.time(), ingest.commits_total


class _StalledError(Exception):
    """The client takes nothing."""


class ExportResponse(Response):
    """Sends what the generator yields, each piece before the next is asked for."""

    def __init__(
        self,
        beginning: bytes,
        pieces: AsyncGenerator[bytes, None],
        headers: dict[str, str],
        *,
        compress: bool,
        is_ending: Callable[[], bool],
    ) -> None:
        """Send the beginning and the pieces after it, as they are or as one gzip archive.

        The generator has yielded the beginning already: what has begun is closed for certain.
        `is_ending` returns whether the server ends, which waits for a while and then cuts it off.
        """
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._beginning = beginning
        self._pieces = pieces
        self._is_ending = is_ending
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=GZIP) if compress else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the client stays for."""
        sending = asyncio.create_task(self._send(send), name="export")
        leaving = asyncio.create_task(disconnected(receive), name="export-client")
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                # An error ends the connection without the last chunk: half is not taken for all.
                await sending
        except asyncio.CancelledError:
            if not self._is_ending():
                raise
            await self._cut_off(scope, receive, "the server ends")
        except _StalledError:
            await self._cut_off(scope, receive, "its client takes nothing")
        except HeliographError as error:
            await self._cut_off(scope, receive, f"the right to it has ended: {error.detail}")
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._pieces.aclose()

    @staticmethod
    async def _cut_off(scope: Scope, receive: Receive, reason: str) -> None:
        log.warning("export cut off", reason=reason)
        await cut_off(scope, receive)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await self._send_piece(send, self._beginning)
        async for piece in self._pieces:
            await self._send_piece(send, piece)
        if self._compressor is not None:
            await self._send_body(send, self._compressor.flush(), more=True)
        await self._send_body(send, b"", more=False)

    async def _send_piece(self, send: Send, piece: bytes) -> None:
        if self._compressor is not None:
            # In a thread: it takes as long as reading, and lets the interpreter go meanwhile.
            piece = await asyncio.to_thread(self._compressor.compress, piece)
        if piece:
            await self._send_body(send, piece, more=True)

    async def _send_body(self, send: Send, body: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError as error:
            raise _StalledError from error

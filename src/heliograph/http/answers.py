"""Answers that may be large: made beside other work, bounded all together and for each caller.

What is read for an answer, and then the answer, counts until its client has taken it: what is
sent waits in small pieces. Who takes it slowly keeps the room only while nobody else needs it.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import structlog
from starlette.types import Scope

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.bodies import Held, Receiving
from heliograph.http.direct import CONNECTION, ClientConnection
from heliograph.http.errors import PIECE_BYTES, encode
from heliograph.long_work import LongWork

# Bytes of answers that may be under way at once. While one is made it may take twice that.
ANSWERING_BYTES = 48 << 20
RETRY_SECONDS = 5
# Of large answers a caller gets so many bytes a second, and at first what comes to so many
# seconds. Then the next one waits, for as long as an answer may be waited for.
CALLER_BYTES_PER_SECOND = 32 << 20
CALLER_BURST_SECONDS = 2.0
CALLER_PATIENCE_SECONDS = 10.0
MAXIMUM_CALLERS = 10_000
# For so long an answer is sent before it has to make room for others.
PATIENCE_SECONDS = 30.0
# Encoded without giving others a turn, as is a piece of what is sent.
ROWS_AT_ONCE = 1_024
# In the ASGI scope: what the request holds.
HELD: Final = "heliograph.held"

T = TypeVar("T")

log = structlog.get_logger()


class _Had:
    """Until when a caller has used their share, and how large the last large answer was."""

    __slots__ = ("settled", "size", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.size = 0
        # Of the next answer, for those who wait.
        self.settled = asyncio.Event()

    def take(self, size: int, moment: float) -> None:
        """Count so many bytes more."""
        until = max(self.until, moment - CALLER_BURST_SECONDS)
        self.until = until + size / CALLER_BYTES_PER_SECOND


class Answering(Receiving):
    """How many bytes of answers are under way, with a bound; small ones don't count."""

    def __init__(self, bound: int = ANSWERING_BYTES) -> None:
        super().__init__(bound)
        self.refused_total = 0
        self.cut_off_total = 0
        # Since when each has held what it holds: from then on it is being sent. The oldest first.
        self._since: dict[Held, float] = {}
        # What callers have had of large answers.
        self._had: dict[int | str, _Had] = {}

    def change(self, held: Held, size: int) -> None:
        """Let a request hold this many bytes, if need be instead of one that is taken slowly."""
        while not self.has_room(held, size) and self._cut_off_slowest(held):
            pass
        super().change(held, size)
        self._since.pop(held, None)
        self._since[held] = time.monotonic()

    def release(self, held: Held) -> None:
        """Let a request hold nothing any more."""
        self._since.pop(held, None)
        super().release(held)

    async def admit(self, held: "HeldAnswer", caller: int | str) -> None:
        """Let the answer go on the caller's account; wait if they have had many large ones.

        Raises:
            HeliographError: RATE_LIMITED, that takes too long.
        """
        held.caller = caller
        had = self._had.get(caller)
        if had is None:
            return
        began = moment = time.monotonic()
        while had.until > moment:
            if had.until - began > CALLER_PATIENCE_SECONDS:
                seconds = math.ceil(had.until - moment)
                message = f"Too many large answers; again in {seconds} s"
                raise HeliographError(ErrorCode.RATE_LIMITED, message, retry_after=seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(had.until - moment):
                    await had.settled.wait()
            moment = time.monotonic()
        if moment > began:
            # Others wait as well: one at a time, until it is known how large it is.
            held.advance = had.size
            had.take(had.size, moment)

    def settle(self, held: "HeldAnswer", caller: int | str) -> None:
        """Count what the answer has come to."""
        moment = time.monotonic()
        had = self._had.get(caller)
        if had is None:
            if len(self._had) >= MAXIMUM_CALLERS:
                self._had = {c: had for c, had in self._had.items() if had.until > moment}
            had = self._had[caller] = _Had()
        had.take(held.bytes - held.advance, moment)
        had.size = held.bytes or had.size
        # It may have come to less than it was charged for.
        had.settled.set()
        had.settled = asyncio.Event()

    def _cut_off_slowest(self, but: Held) -> bool:
        """End the connection of the answer that has been sent for longest; False: none for long."""
        latest = time.monotonic() - PATIENCE_SECONDS
        for held, since in self._since.items():
            if since > latest:
                return False
            if held is but or not isinstance(held, HeldAnswer):
                continue
            if (connection := held.connection) is not None:
                if not self.cut_off_total:
                    log.warning("large answer to a slow client cut off")
                self.cut_off_total += 1
                connection.abort()
                held.release()
                return True
        return False

    def refusal(self) -> HeliographError:
        """Return the error for a client when memory is used up, and count it."""
        if not self.refused_total:
            log.warning("too many large answers at once", bytes=self.bytes)
        self.refused_total += 1
        return HeliographError(
            ErrorCode.TOO_MANY_LARGE_ANSWERS,
            "Too many large answers are under way at this moment",
            retry_after=RETRY_SECONDS,
        )


class HeldAnswer(Held):
    """How many bytes one answer holds, and who takes it, where that is known.

    `caller` is on whose account it goes (None: on nobody's), and `advance` what they have been
    charged for it already.
    """

    __slots__ = ("_answering", "advance", "caller", "connection")

    def __init__(self, answering: Answering, scope: Scope) -> None:
        super().__init__(answering)
        self._answering = answering
        self.connection: ClientConnection | None = scope.get(CONNECTION)
        self.caller: int | str | None = None
        self.advance = 0

    async def charge(self, caller: int | str) -> None:
        """Let it go on this caller's account, if need be after a while.

        Raises:
            HeliographError: RATE_LIMITED, they have had too many large ones.
        """
        await self._answering.admit(self, caller)

    def release(self) -> None:
        """Give back what is held: the request has been answered."""
        if self.caller is not None and (self.bytes or self.advance):
            self._answering.settle(self, self.caller)
            self.caller = None
        super().release()


async def encoded(
    rows: list[T], entries: Callable[[Sequence[T]], Sequence[Any]], size: int
) -> bytes | list[bytes]:
    """Return the rows' entries as JSON, which may be in pieces, and leave the list without them.

    `size` is about what they come to, in bytes.
    """
    if len(rows) <= ROWS_AT_ONCE and size <= PIECE_BYTES:
        return encode(entries(rows))
    step = max(1, min(ROWS_AT_ONCE // 4, PIECE_BYTES * len(rows) // max(size, 1)))
    pieces: list[bytes] = []
    work = LongWork()
    rows.reverse()
    while rows:
        part = rows[: -step - 1 : -1]
        del rows[-step:]
        pieces.append((b"," if pieces else b"[") + encode(entries(part))[1:-1])
        await work.pause()
    pieces.append(b"]")
    return pieces

"""Answers: complete ones, sent at once where that can be; large ones, bounded all together.

A large one is made beside other work. What is read for it, and then the answer, counts until its
client has taken it: what is sent waits in small pieces. Who takes it slowly keeps the room only
while nobody else needs it.
"""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.bodies import UNCOUNTED, HeldBytes, Receiving
from heliograph.http.direct import CONNECTION, ClientConnection
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
# In the ASGI scope: lines of headers that tell the limit that counts the request, and the one
# that counts wrong credentials.
RATE: Final = "heliograph.rate"
GUESSES: Final = "heliograph.guesses"
# What a layer has the front answer, whatever was asked for: an `Answer`, or a `HeliographError`.
DECIDED: Final = "heliograph.decided"
# An answer without a body, and one that closes the connection.
SENT_BY_ASGI = frozenset((304, 408))
PIECE_BYTES = 256 << 10

T = TypeVar("T")

log = structlog.get_logger()


class Common(NamedTuple):
    """Headers that all answers of a kind have, and the lines that they are on the wire."""

    headers: Sequence[tuple[bytes, bytes]]
    lines: bytes


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they go over the wire."""
    return b"".join(map(b"%b: %b\r\n".__mod__, headers))


# What is no page runs nothing and shows nothing of elsewhere, should a browser take it for one.
POLICY = b"default-src 'none'; frame-ancestors 'none'"
# What browsers are told of every answer, unless it says otherwise itself.
GUARDS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
)


def rate_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell the caller's limits, as far as the request was counted."""
    lines: bytes = scope.get(RATE, b"") + scope.get(GUESSES, b"")
    parted = (line.partition(b": ") for line in lines.splitlines())
    return [(name, value) for name, _, value in parted]


def guarded(message: Message, scope: Scope) -> Message:
    """Return the beginning of an answer with the caller's limits, and the `GUARDS` it lacks."""
    headers = [*message.get("headers", ()), *rate_headers(scope)]
    named = {name.lower() for name, _ in headers}
    headers += [guard for guard in GUARDS if guard[0] not in named]
    return {**message, "headers": headers}


def _common(media_type: bytes, policy: bytes = POLICY) -> Common:
    guards = {**dict(GUARDS), b"content-security-policy": policy}
    headers = ((b"content-type", media_type), (b"cache-control", b"no-store"), *guards.items())
    return Common(headers, lines_of(headers))


JSON_HEADERS = _common(b"application/json")
CSV_HEADERS = _common(b"text/csv; charset=utf-8")
# A chart has its style in itself.
SVG_HEADERS = _common(b"image/svg+xml", POLICY + b"; style-src 'unsafe-inline'")

encode = msgspec.json.Encoder().encode
decode = msgspec.json.decode


class Answer(Response):
    """A complete answer, JSON by default. FastAPI's routes return it as a response.

    A body in pieces is let go of as they are sent.
    """

    def __init__(
        self,
        status: int,
        body: bytes | list[bytes],
        headers: Sequence[tuple[bytes, bytes]] = (),
        common: Common = JSON_HEADERS,
    ) -> None:
        # Response's own would encode a body and headers that are ready.
        self.status = status
        self.content = body
        self.raw_headers = list(headers)
        self.common = common
        self.background = None

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it, as a response of FastAPI's."""
        await self.send(send)

    async def send_to(self, scope: Scope, send: Send) -> None:
        """Send it whole to the client that has made the request, at once where that can be."""
        body, status = self.content, self.status
        if body.__class__ is bytes and len(body) <= PIECE_BYTES and status not in SENT_BY_ASGI:
            connection: ClientConnection | None = scope.get(CONNECTION)
            if connection is not None:
                more = lines_of(self.raw_headers) if self.raw_headers else b""
                head = b"%b%b%b%bcontent-length: %d\r\n" % (
                    *(self.common.lines, more, scope.get(RATE, b""), scope.get(GUESSES, b"")),
                    len(body),
                )
                if connection.answer(status, head, body):
                    return
        await self.send(send, rate_headers(scope))

    async def send(self, send: Send, further: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Send it whole, with further headers.

        Each piece waits until the client has taken most of the one before.
        """
        body = self.content
        headers = [*self.common.headers, *self.raw_headers, *further]
        if self.status != 304:
            length = len(body) if isinstance(body, bytes) else sum(map(len, body))
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if isinstance(body, bytes) and len(body) <= PIECE_BYTES:
            await send({"type": "http.response.body", "body": body})
            return
        for piece in _pieces(body):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _pieces(body: bytes | list[bytes]) -> Iterator[bytes]:
    if isinstance(body, list):
        body.reverse()
        while body:
            yield body.pop()
        return
    for at in range(0, len(body), PIECE_BYTES):
        yield body[at : at + PIECE_BYTES]


class _Had:
    """Until when a caller has used their share, and how large the last large answer was."""

    __slots__ = ("settled", "size", "until")

    def __init__(self) -> None:
        self.until = -math.inf
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
        self._since: dict[HeldBytes, float] = {}
        # What callers have had of large answers.
        self.callers: dict[int | str, _Had] = {}

    def change(self, held: HeldBytes, size: int) -> None:
        """Let a request hold this many bytes, if need be instead of one that is taken slowly."""
        while not self.has_room(held, size) and self._cut_off_slowest(held):
            pass
        super().change(held, size)
        self._since.pop(held, None)
        self._since[held] = time.monotonic()

    def release(self, held: HeldBytes) -> None:
        """Let a request hold nothing any more."""
        self._since.pop(held, None)
        super().release(held)

    def _cut_off_slowest(self, but: HeldBytes) -> bool:
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


@dataclasses.dataclass(eq=False)
class HeldAnswer(HeldBytes):
    """How many bytes one answer holds, and who takes it, where that is known.

    `caller` is on whose account it goes (None: on nobody's), and `advance` what they have been
    charged for it already.
    """

    receiving: Answering
    connection: ClientConnection | None = None
    caller: int | str | None = None
    advance: int = 0

    def hold(self, size: int) -> None:
        """Hold this many bytes instead of what it has held, if they are worth counting.

        Raises:
            HeliographError: there is no room for them.
        """
        counted = size if size > UNCOUNTED else 0
        if counted != self.bytes:
            self.receiving.change(self, counted)

    async def charge(self, caller: int | str) -> None:
        """Let it go on this caller's account; wait if they have had many large ones.

        Raises:
            HeliographError: RATE_LIMITED, that takes too long.
        """
        self.caller = caller
        had = self.receiving.callers.get(caller)
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
            self.advance = had.size
            had.take(had.size, moment)

    def release(self) -> None:
        """Give back what is held: the request has been answered."""
        if not (self.bytes or self.advance):
            # What most answers are, small: neither the lock nor the caller's account has any of it.
            self.released = True
            return
        if self.caller is not None:
            self._settle(self.caller)
            self.caller = None
        super().release()

    def _settle(self, caller: int | str) -> None:
        """Count what the answer has come to."""
        moment = time.monotonic()
        callers = self.receiving.callers
        had = callers.get(caller)
        if had is None:
            if len(callers) >= MAXIMUM_CALLERS:
                for name in [name for name, had in callers.items() if had.until <= moment]:
                    del callers[name]
            had = callers[caller] = _Had()
        had.take(self.bytes - self.advance, moment)
        had.size = self.bytes or had.size
        # It may have come to less than it was charged for.
        had.settled.set()
        had.settled = asyncio.Event()


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

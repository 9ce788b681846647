"""Reading request bodies: bounded in size, in time and in what they expand to."""

import asyncio
import dataclasses
import threading
import zlib
from typing import cast

from starlette.types import Message, Receive

from heliograph.errors import ErrorCode, HeliographError

SINGLE_LIMIT = 1 << 20
BATCH_LIMIT = 8 << 20
# How much of a body that is too large is read, to be kept among the rejected messages.
KEPT_OF_TOO_LARGE = 64 << 10
BODY_SECONDS = 30.0
# Bytes of bodies that may be held at once until their requests are answered: those of the
# routes that take data, and those of all others, whose bodies are read before it is known
# who sends them and which must not be able to keep data out.
RECEIVING_BYTES = 32 << 20
RECEIVING_OTHER_BYTES = 8 << 20
# Bodies up to this are not counted: there are as many as connections at most.
UNCOUNTED = 64 << 10
EXPANDED_PIECE = 1 << 20

# An archive is nearly always one member; thousands of empty ones would keep us copying.
MAXIMUM_MEMBERS = 64

_GZIP = 16 + zlib.MAX_WBITS
_TOO_SLOW = "the body did not arrive in time"


class ClientGoneError(Exception):
    """The client has left before its request was complete: there is nobody to answer."""


class BodyTooLargeError(HeliographError):
    """The body is larger than the route takes; `beginning` is what was read of it."""

    def __init__(self, limit: int, beginning: bytes) -> None:
        super().__init__(ErrorCode.PAYLOAD_TOO_LARGE, f"The body is larger than {limit >> 20} MiB")
        self.beginning = beginning


class Receiving:
    """How many bytes of bodies are held at once, with a bound.

    Archives are expanded in threads, so it has a lock; small bodies don't come here.
    """

    def __init__(self, bound: int = RECEIVING_BYTES) -> None:
        self.bytes = 0
        self._bound = bound
        self._lock = threading.Lock()

    def change(self, held: "HeldBytes", size: int) -> None:
        """Let a request hold this many bytes.

        Raises:
            HeliographError: as `refusal` says, that is more than there is room for.
        """
        with self._lock:
            # A thread may outlive its request.
            if held.released:
                return
            if not self.has_room(held, size):
                raise self.refusal()
            self.bytes += size - held.bytes
            held.bytes = size

    def has_room(self, held: "HeldBytes", size: int) -> bool:
        """Return whether a request may hold this many bytes."""
        return size <= held.bytes or self.bytes - held.bytes + size <= self._bound

    def refusal(self) -> HeliographError:
        """Return the error for a client when memory is used up."""
        return HeliographError(
            ErrorCode.QUEUE_FULL, "Too much data is being received at this moment", retry_after=1
        )

    def release(self, held: "HeldBytes") -> None:
        """Let a request hold nothing any more."""
        with self._lock:
            held.released = True
            self.bytes -= held.bytes
            held.bytes = 0


@dataclasses.dataclass(eq=False)
class HeldBytes:
    """How many bytes one request holds of what may be received, or answered, at once."""

    receiving: Receiving
    bytes: int = 0
    released: bool = False

    def at_least(self, size: int) -> None:
        """Hold this many bytes, if they are worth counting.

        Raises:
            HeliographError: there is no room for them.
        """
        if size > UNCOUNTED and size > self.bytes:
            self.receiving.change(self, size)

    def release(self) -> None:
        """Give back what is held: the request has been answered."""
        # A small body holds nothing, and need not pay for the lock.
        if self.bytes:
            self.receiving.release(self)
        else:
            self.released = True


def content_length(value: bytes | None) -> int | None:
    """Return a Content-Length; None if there is none that can be read."""
    return int(value) if value is not None and value.isdigit() else None


async def read_body(receive: Receive, limit: int, declared: bytes | None, held: HeldBytes) -> bytes:
    """Return the whole body, of at most `limit` bytes, which `held` has room for.

    Raises:
        TooLargeError: it is larger, or says so in its Content-Length (`declared`).
        HeliographError: REQUEST_TIMEOUT, it took longer than BODY_SECONDS; QUEUE_FULL.
        ClientGoneError: the client disconnected.
    """
    task = cast("asyncio.Task[object]", asyncio.current_task())
    # asyncio.timeout does the same at four times the price, on the busiest path there is.
    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, task.cancel, _TOO_SLOW)
    try:
        message = await receive()
        if not message.get("more_body", False) and message["type"] == "http.request":
            body = cast("bytes", message.get("body", b""))
            if len(body) > limit:
                raise BodyTooLargeError(limit, body[:KEPT_OF_TOO_LARGE])
            if len(body) > UNCOUNTED:
                held.at_least(len(body))
            return body
        return await _read_on(message, receive, limit, content_length(declared) or 0, held)
    except asyncio.CancelledError as error:
        if error.args != (_TOO_SLOW,) or task.uncancel() > 0:
            raise
        raise _too_slow() from None
    finally:
        timer.cancel()


async def _read_on(
    message: Message, receive: Receive, limit: int, declared: int, held: HeldBytes
) -> bytes:
    stop = KEPT_OF_TOO_LARGE if declared > limit else limit
    held.at_least(min(declared, stop))
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > stop:
            raise BodyTooLargeError(limit, bytes(body[:KEPT_OF_TOO_LARGE]))
        held.at_least(len(body))
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()


def _too_slow() -> HeliographError:
    return HeliographError(
        ErrorCode.REQUEST_TIMEOUT, f"The body did not arrive within {BODY_SECONDS:.0f} seconds"
    )


async def decompress(body: bytes, encoding: bytes, limit: int, held: HeldBytes) -> bytes:
    """Return the body without its Content-Encoding, of at most `limit` bytes.

    Raises:
        TooLargeError: it expands to more.
        HeliographError: UNSUPPORTED_MEDIA_TYPE, MALFORMED_JSON (a broken archive), QUEUE_FULL.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip"):
        raise HeliographError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "The only Content-Encoding taken is gzip"
        )
    # zlib lets go of the interpreter lock, and 8 MiB take long enough for others to notice.
    return await asyncio.to_thread(gunzip, body, limit, held)


def gunzip(body: bytes, limit: int, held: HeldBytes) -> bytes:
    """Return what a gzip archive holds, of at most `limit` bytes; never makes more than that.

    Raises:
        TooLargeError: it holds more.
        HeliographError: MALFORMED_JSON, it is broken or cut off; QUEUE_FULL.
    """
    parts: list[bytes] = []
    size = members = 0
    archive = held.bytes
    rest = body
    try:
        while rest:
            members += 1
            member = zlib.decompressobj(_GZIP)
            while not member.eof:
                part = member.decompress(rest, min(EXPANDED_PIECE, limit + 1 - size))
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise BodyTooLargeError(limit, b"".join(parts)[:KEPT_OF_TOO_LARGE])
                held.at_least(archive + size)
                rest = member.unconsumed_tail
                if not part and not rest:
                    break
            if not member.eof or members > MAXIMUM_MEMBERS:
                raise _broken_archive()
            rest = member.unused_data
    except zlib.error:
        raise _broken_archive() from None
    return b"".join(parts)


def _broken_archive() -> HeliographError:
    return HeliographError(ErrorCode.MALFORMED_JSON, "The body is not a complete gzip archive")


def is_json(content_type: bytes | None) -> bool:
    """Return whether a body of this type is taken for JSON.

    No type at all and text/plain are: small devices send no other.
    """
    if content_type is None or content_type == b"application/json":
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type in (b"application/json", b"text/plain", b"text/json", b"") or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )


def unsupported_media_type() -> HeliographError:
    """Return what a body of another type is answered with."""
    return HeliographError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json")

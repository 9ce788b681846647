"""Reading on and off: what a device's connection and the link to a broker have in common."""

import abc
import asyncio
from collections import deque

# Why reading is paused; several reasons may hold at once.
FULL = 1  # the pipeline has no room
BUSY = 2  # a packet is being answered that needs the database
CONGESTED = 4  # the other end does not take its answers
OWN = 8  # the connection's own share of what is in flight is used up
UNTAKEN = 16  # nothing is taken now: the server can't tell the time, or has no room
CLOSING = 32  # the connection is being closed
TURN = 64  # a large piece was read, or many packets: others first
SHARE = 128  # who sends has had its share, and others send as much as there is room for
# What has been read stays where it is.
WAITING = BUSY | CONGESTED | UNTAKEN | CLOSING | TURN | SHARE

# From so many bytes on there is likely to be more. libuv would read on, up to 32 times, before
# anything else is done: the database's answer to the last batch would wait for tens of
# milliseconds of decoding.
LARGE_READ = 64 << 10
# A read of 256 KiB may hold 37,000 packets of QoS 0: so many are processed in one go.
TURN_PACKETS = 500


class ReadingTurns:
    """Lets connections that have much to say go on one after the other, others between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[PausableProtocol] = deque()

    def wait(self, protocol: "PausableProtocol") -> None:
        """Have it go on in its turn."""
        self._waiting.append(protocol)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        has_processed = False
        while self._waiting and not has_processed:
            # Stays the first meanwhile, so that none is called for in between.
            has_processed = self._waiting[0].end_turn()
            self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._next)


class PausableProtocol(asyncio.Protocol):
    """Reads while nothing speaks against it; `rest` is what has been read and not processed."""

    __slots__ = ("pauses", "rest", "transport", "turns")

    def __init__(self, turns: ReadingTurns) -> None:
        self.turns = turns
        self.transport: asyncio.Transport | None = None
        self.pauses = 0
        self.rest = b""

    @abc.abstractmethod
    def _process(self, buffer: bytes) -> None:
        """Process what is whole in the buffer, and keep the rest."""

    def pause(self, reason: int) -> None:
        """Stop reading."""
        if not self.pauses and self.transport is not None:
            self.transport.pause_reading()
        self.pauses |= reason

    def resume(self, reason: int) -> None:
        """Read again, unless another reason holds."""
        if not self.pauses & reason or self.pauses & CLOSING:
            return
        self.pauses &= ~reason
        if not self.pauses & WAITING and self.rest and self.transport is not None:
            buffer, self.rest = self.rest, b""
            self._process(buffer)
        if not self.pauses and self.transport is not None:
            self.transport.resume_reading()

    def _take(self, buffer: bytes) -> None:
        """Process what has been read, or let it wait."""
        if self.pauses & WAITING:
            self.rest = buffer
        elif buffer:
            self._process(buffer)
            if len(buffer) >= LARGE_READ and not self.pauses and self._is_open():
                self.wait_for_turn()

    def wait_for_turn(self) -> None:
        """Let others go first."""
        self.pause(TURN)
        self.turns.wait(self)

    def end_turn(self) -> bool:
        """Go on; tell whether anything was processed."""
        if not self._is_open():
            return False
        waited = bool(self.rest)
        self.resume(TURN)
        return waited

    def _is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

"""One who watches: a queue with a bound, which loses the oldest and never makes others wait.

While nothing is queued and the client keeps up, what is due goes past the queue.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import field

MAXIMUM_BYTES = 1 << 20
MAXIMUM_EVENTS = 5_000
# What is written at once: more would only wait in the socket's buffer instead of here.
WRITTEN_AT_ONCE = 64 << 10


class Chunk:
    """Events of one commit for all who watch the same; made once, shared by their queues.

    `framed` is the data as it goes over their connections, kept by who writes it first: viewers
    of the same events have the same protocol.
    """

    __slots__ = ("count", "data", "framed", "ids", "parts", "size")

    def __init__(self, parts: Sequence[bytes], ids: Sequence[int | None]) -> None:
        """Take encoded events and their ids; with no ids it is a sign of life, not an event."""
        self.parts = parts
        self.ids = ids
        self.data = b"".join(parts)
        self.framed: bytes | None = None
        self.count = len(ids)
        self.size = len(self.data)

    def without(self, seen: frozenset[int]) -> "Chunk | None":
        """Return it without the events of these ids; None: nothing is left."""
        if seen.isdisjoint(self.ids):
            return self
        left = [
            (part, row_id)
            for part, row_id in zip(self.parts, self.ids, strict=True)
            if row_id not in seen
        ]
        return Chunk([part for part, _ in left], [row_id for _, row_id in left]) if left else None


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Outlet:
    """A viewer's connection itself. `ready`: it is open, and its client keeps up.

    `write` never waits; `frame` returns a chunk as the connection's protocol has it.
    """

    write: Callable[[bytes], None]
    frame: Callable[[Chunk], bytes]
    ready: bool = True


@dataclasses.dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Viewer:
    """The queue of one stream, between who publishes and the one task that writes it.

    Holds at most `maximum_bytes` and `maximum_events` beside its newest chunk.
    """

    maximum_bytes: int = MAXIMUM_BYTES
    maximum_events: int = MAXIMUM_EVENTS
    _chunks: deque[Chunk] = field(default_factory=deque, init=False)
    _size: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _waiter: "asyncio.Future[None] | None" = field(default=None, init=False)
    # How many events were lost since that was told last.
    dropped: int = 0
    # Why it ends, once it does.
    closed: str | None = None
    # Whose it is, what it watches, and whether it may go on: of the streams' registry.
    principal: int | str = ""
    selection: object = None
    allowed: Callable[[], bool] = lambda: True
    # The task that writes; since when it waits for the client (by the loop's clock, or None).
    task: "asyncio.Task[object] | None" = None
    writing_since: float | None = None
    touched_at: float = 0.0
    # Where it can be written to past the queue.
    outlet: Outlet | None = None
    # All that was queued has been written, and it is not closed.
    waits: bool = False

    def push(self, chunk: Chunk) -> None:
        """Write a chunk at once if all before it is written, else queue it.

        What is oldest in the queue gives way to it.
        """
        if self.waits and (outlet := self.outlet) is not None and outlet.ready:
            outlet.write(chunk.framed or outlet.frame(chunk))
            return
        self._chunks.append(chunk)
        self._size += chunk.size
        self._count += chunk.count
        if self._size > self.maximum_bytes or self._count > self.maximum_events:
            self._drop()
        if self._waiter is not None:
            self._wake()

    @property
    def is_behind(self) -> bool:
        """Whether more than a quarter of what it may hold is queued."""
        return self._size > self.maximum_bytes // 4 or self._count > self.maximum_events // 4

    def _drop(self) -> None:
        while len(self._chunks) > 1 and (
            self._size > self.maximum_bytes or self._count > self.maximum_events
        ):
            oldest = self._chunks.popleft()
            self._size -= oldest.size
            self._count -= oldest.count
            self.dropped += oldest.count

    def forget(self, seen: frozenset[int]) -> None:
        """Drop queued events that have been sent already."""
        kept = [left for chunk in self._chunks if (left := chunk.without(seen)) is not None]
        self._chunks = deque(kept)
        self._size = sum(chunk.size for chunk in kept)
        self._count = sum(chunk.count for chunk in kept)

    def discard(self) -> None:
        """Lose all that is queued: who is to get it may not see it any more."""
        self.dropped += self._count
        self._chunks.clear()
        self._size = self._count = 0

    def close(self, reason: str) -> None:
        """End the stream once what is queued has been taken."""
        if self.closed is None:
            self.closed = reason
        self._wake()

    async def take(self) -> tuple[int, list[Chunk]]:
        """Wait for chunks and return some; before them, how many events were lost.

        Nothing lost and no chunks: the stream has been closed.
        """
        while not self._chunks:
            if self.closed is not None:
                return 0, []
            self._waiter = asyncio.get_running_loop().create_future()
            self.waits = True
            try:
                await self._waiter
            finally:
                self._waiter = None
                self.waits = False
        taken: list[Chunk] = []
        size = 0
        while self._chunks and (not taken or size + self._chunks[0].size <= WRITTEN_AT_ONCE):
            chunk = self._chunks.popleft()
            taken.append(chunk)
            size += chunk.size
            self._count -= chunk.count
        self._size -= size
        dropped, self.dropped = self.dropped, 0
        return dropped, taken

    async def sent(self, sending: Awaitable[None]) -> None:
        """Wait until something is sent; meanwhile `writing_since` says since when."""
        self.writing_since = self.touched_at = asyncio.get_running_loop().time()
        await sending
        self.writing_since = None

    def _wake(self) -> None:
        self.waits = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def push_to_all(viewers: Iterable[Viewer], chunk: Chunk, moment: float) -> None:
    """Push a chunk to each, at a moment of the loop's clock."""
    for viewer in viewers:
        viewer.touched_at = moment
        # As `push` does it: a call for each of a thousand viewers would show.
        if viewer.waits and (outlet := viewer.outlet) is not None and outlet.ready:
            outlet.write(chunk.framed or outlet.frame(chunk))
        else:
            viewer.push(chunk)

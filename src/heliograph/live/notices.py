"""Events that are not telemetry, and have to be looked up before they are published."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.live.frames import Frame
from heliograph.live.streams import Streams
from heliograph.model.event import Committed
from heliograph.model.records import Kind

log = structlog.get_logger()

MAXIMUM_DUE = 10_000
# Of a sensor whose presence, not a revision, is to be told.
PRESENCE = -1

# From a sensor's number, and a revision or PRESENCE, to the event; None: there is nothing to tell.
LookUp: TypeAlias = Callable[[int, int], Awaitable[Frame | None]]


class Notices:
    """Publishes new configurations, and the presence that follows from `status/<sensor>`.

    At most so many wait; what comes beyond that while the database is slow is not told.
    """

    def __init__(self, streams: Streams, look_up: LookUp) -> None:
        """Publish to streams what `look_up` finds by a sensor's number and revision."""
        self._streams = streams
        self._look_up = look_up
        self._due: dict[tuple[int, int], None] = {}
        self._arrived = asyncio.Event()

    def revised(self, revisions: Sequence[tuple[int, int]]) -> None:
        """Publish revisions, each given with its sensor's number before it."""
        if self._streams.watched():
            for each in revisions[: MAXIMUM_DUE - len(self._due)]:
                self._due[each] = None
            self._arrived.set()

    def forget(self) -> None:
        """Drop what is due: the database was restored."""
        self._due.clear()

    def publish(self, events: Sequence[Committed]) -> None:
        """Publish the presence of sensors that sent a status. A sink of the hub."""
        statuses = [(event.number, PRESENCE) for event in events if event.kind is Kind.STATUS]
        if statuses:
            self.revised(statuses)

    async def run(self) -> None:
        """Publish what is due, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._due:
                number, revision = next(iter(self._due))
                del self._due[number, revision]
                try:
                    frame = await self._look_up(number, revision)
                except StoreUnavailableError:
                    log.debug("event not published", sensor=number)
                    continue
                if frame is not None:
                    self._streams.show_here([frame])

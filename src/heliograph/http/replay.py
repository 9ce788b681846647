"""Resuming a stream: what was committed since the last event that a client has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from heliograph.http.services import Services
from heliograph.http.watching import Watch
from heliograph.live import sse
from heliograph.live.frames import frame
from heliograph.live.viewer import Viewer
from heliograph.model.identifiers import ingest_id_time
from heliograph.model.records import Kind
from heliograph.model.time import HOUR, MINUTE, now
from heliograph.store.telemetry import Received

OLDEST = HOUR
AHEAD = MINUTE
MAXIMUM_EVENTS = 10_000
MAXIMUM_BYTES = 64 << 20
# What is looked through for them: the messages of all networks.
MAXIMUM_SCANNED = 50_000
PAGE_EVENTS = 500
PAGE_BYTES = 1 << 20
READING_AT_ONCE = 4
_GREATEST = (1 << 63) - 1

TOO_OLD = "too old"
TOO_MANY = "too many"
UNKNOWN = "unknown"


class _Page(NamedTuple):
    """Rows from one id to another; `kinds` of those that are wanted, none: not to be read."""

    first: int
    last: int
    kinds: frozenset[Kind]


class Replay:
    """Reads what streams have missed, for a few of them at a time."""

    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._replay = services.store.replay
        self._streams = services.streams
        self._instance = services.instance
        self._turn = asyncio.Semaphore(READING_AT_ONCE)

    async def begin(
        self, viewer: Viewer, watch: Watch, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Watch from now on; the client is told from which id on, should it come again."""
        self._streams.watch(viewer, watch.selection())
        await write(sse.heartbeat(self._streams.resume_id()))

    async def resume(
        self,
        viewer: Viewer,
        watch: Watch,
        last_event_id: str,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Write what came after an event and watch from there on, or tell that there is a gap.

        Raises:
            StoreUnavailableError: not now.
        """
        after = sse.parse_event_id(last_event_id)
        reason = self._unusable(after)
        if after is None or reason is not None:
            await self._reset(viewer, watch, reason or UNKNOWN, write)
            return
        # Far from the present without watching, so that the queue does not fill meanwhile.
        for watching in (False, True):
            if watching:
                self._streams.watch(viewer, watch.selection())
            pages = await self._plan(after, watch)
            if pages is None:
                await self._reset(viewer, watch, TOO_MANY, write)
                return
            seen: set[int] = set()
            for page in pages:
                if viewer.closed is not None:
                    return
                data = await self._read(page, watch, seen)
                if data:
                    await write(data)
                after = page.last
            viewer.forget(frozenset(seen))

    def _unusable(self, after: int | None) -> str | None:
        if after is None:
            return UNKNOWN
        made, moment = ingest_id_time(after), now()
        if made > moment + AHEAD:
            return UNKNOWN
        if made < moment - OLDEST:
            return TOO_OLD
        if self._instance is not None and not self._instance.may_resume(after):
            return UNKNOWN
        return None

    async def _reset(
        self,
        viewer: Viewer,
        watch: Watch,
        reason: str,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        await write(sse.reset(reason))
        await self.begin(viewer, watch, write)

    async def _plan(self, after: int, watch: Watch) -> list[_Page] | None:
        """Return what to read after an id; None: it is too much."""
        async with self._turn:
            index = await self._replay.index(after, _GREATEST, MAXIMUM_SCANNED + 1)
        if len(index) > MAXIMUM_SCANNED:
            return None
        if (instance := self._instance) is not None:
            # Other servers' commits are in no order with this one's: whoever has seen one of them
            # might miss what has a smaller id and is committed later.
            index = [each for each in index if instance.is_own(each.id)]
        wanted = await self._wanted(index, watch)
        chosen = [each for each in index if each.sensor in wanted and _is_wanted(each, watch)]
        if len(chosen) > MAXIMUM_EVENTS or sum(e.size for e in chosen) > MAXIMUM_BYTES:
            return None
        return _pages(index, {each.id for each in chosen})

    async def _wanted(self, index: list[Received], watch: Watch) -> set[int]:
        selection = watch.selection()
        wanted: set[int] = set()
        for number in {each.sensor for each in index}:
            sensor = await self._registry.find_number(number)
            if sensor is None or not sensor.identifier:
                continue
            if selection.covers(sensor.network_identifier, number):
                wanted.add(number)
        return wanted

    async def _read(self, page: _Page, watch: Watch, seen: set[int]) -> bytes:
        if not page.kinds:
            return b""
        async with self._turn:
            rows = await self._replay.rows(sorted(page.kinds), page.first, page.last)
        if not watch.is_allowed():
            return b""  # its stream is about to be ended
        selection = watch.selection()
        parts: list[bytes] = []
        for kind, row in rows:
            if self._instance is not None and not self._instance.is_own(row[0]):
                continue
            sensor = await self._registry.find_number(row[1])
            if sensor is None or not selection.wants(
                sensor.network_identifier, sensor.number, kind.value
            ):
                continue
            names = sensor.number, sensor.identifier, sensor.device_id, sensor.network_identifier
            parts.append(frame(kind, names, row).sse)
            seen.add(row[0])
        return b"".join(parts)


def _is_wanted(received: Received, watch: Watch) -> bool:
    return watch.kinds is None or received.kind.value in watch.kinds


def _pages(index: list[Received], wanted: set[int]) -> list[_Page]:
    """Return the rows in pieces that are bounded with all that lies between the wanted ones."""
    pages: list[_Page] = []
    at = 0
    while at < len(index):
        end, size = at, 0
        kinds: set[Kind] = set()
        while end < len(index) and end - at < PAGE_EVENTS and (not size or size < PAGE_BYTES):
            size += index[end].size + 1
            if index[end].id in wanted:
                kinds.add(index[end].kind)
            end += 1
        pages.append(_Page(index[at].id, index[end - 1].id, frozenset(kinds)))
        at = end
    return pages

"""Packed measurements by their ingest ids: of each chunk the database knows the first and the last.

Who looks from the newest down comes to a chunk at its last id. Those around the id where the look
begins are opened, and then one after the other, as long as one may have an id that is wanted.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from heliograph.model.records import ID, MeasurementRow
from heliograph.packed.chunk import PackedRows
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.store.chunks import ChangedMeanwhileError, Chunks, until_unchanged
from heliograph.store.engine import Engine, Row, json_text, narrowed
from heliograph.store.pages import GREATEST, text_size

# A search that has opened so many chunks ends; those around one id are opened together.
MOST_OPENED: Final = 1_000
_OPENED_AT_ONCE: Final = 32
# What these come to in bytes, unless it is one.
_OPENED_BYTES: Final = 4 << 20
_LISTED_AT_ONCE: Final = 512
# Chunks that stay open for the next look, which begins in them.
_KEPT: Final = 64
_KEPT_BYTES: Final = 8 << 20
# Ids that are looked up at once, and what the rows come to that are held, in bytes.
_ASKED_AT_ONCE: Final = 512
_LARGEST: Final = 16 << 20

# Returns which of some ids are not wanted.
Unwanted: TypeAlias = Callable[[Sequence[int]], Awaitable[set[int]]]
# An ingest id, its chunk and its position there.
_Place: TypeAlias = tuple[int, int, int]


class _Listed(NamedTuple):
    """A chunk: whose it is, the first and the last id in it, how many rows, and bytes of them."""

    id: int
    sensor: int
    first_id: int
    last_id: int
    rows: int
    bytes: int


class PackedMessages:
    """Finds the packed measurements of a search: of a sensor, of networks, or of all."""

    def __init__(
        self,
        engine: Engine,
        chunks: Chunks,
        sensor: int | None,
        networks: Sequence[str] | None,
        unwanted: Unwanted | None,
        most: int,
    ) -> None:
        """Leave out what is `unwanted`, and what is shown as a packet; open so many chunks."""
        # Whether there are more chunks around one id than are opened.
        self.has_left_out = False
        self._engine = engine
        self._chunks = chunks
        self._sensor = sensor
        self._networks = narrowed(networks)
        self._unwanted = unwanted
        self._most = most
        self._opened = 0
        self._open: dict[int, PackedRows] = {}
        self._newest_id: int | None = None

    @property
    def is_spent(self) -> bool:
        """Whether the search has opened as many chunks as it may."""
        return self._opened >= self._most

    async def newest(self, since: int, before: int, limit: int) -> tuple[list[MeasurementRow], int]:
        """Return the newest rows with ids between two, newest first; and down to which id."""
        return await until_unchanged(self._newest, since, before, limit)

    async def _newest(
        self, since: int, before: int, limit: int
    ) -> tuple[list[MeasurementRow], int]:
        found: list[MeasurementRow] = []
        floor = since
        lists = self._lists(since, before)
        async with aclosing(lists):
            async for listed in lists:
                last_id = listed[0].last_id
                if last_id < floor or (floor > since and floor == before - 1):
                    break
                if self.is_spent:
                    if last_id < before:
                        return [row for row in found if row[ID] > last_id], last_id + 1
                    self.has_left_out = True
                    continue
                places = await self._places(listed, floor, before)
                wanted = await self._wanted(places, limit)
                rows = await asyncio.to_thread(self._rows, wanted)
                found = sorted([*found, *rows], key=itemgetter(ID), reverse=True)
                held = _held(found[:limit])
                if held < len(found) or held == limit:
                    del found[held:]
                    floor = found[-1][ID]
        return found, floor

    async def count(self, since: int, before: int, most: int) -> tuple[int, bool]:
        """Return how many there are, and whether that is a lower bound; beyond `most` it is."""
        return await until_unchanged(self._count, since, before, most)

    async def _count(self, since: int, before: int, most: int) -> tuple[int, bool]:
        total = 0
        has_packets: bool | None = None
        lists = self._lists(since, before)
        async with aclosing(lists):
            async for listed in lists:
                if has_packets is None:
                    rows = await self._engine.fetch("packets_between", since=since, before=before)
                    has_packets = bool(rows)
                is_plain = not has_packets and self._unwanted is None
                cut = []
                for each in listed:
                    if is_plain and since <= each.first_id and each.last_id < before:
                        total += each.rows
                    else:
                        cut.append(each)
                if cut and self.is_spent:
                    return total, True
                places = await self._places(cut, since, before)
                total += len(places if is_plain else await self._wanted(places, len(places)))
                if total > most:
                    return total, True
        return total, self.has_left_out

    async def _lists(self, since: int, before: int) -> AsyncGenerator[list[_Listed], None]:
        """Yield the chunks by their last ids, the newest first, a few at a time."""
        if self._newest_id is None:
            rows = await self._engine.fetch("packed_newest_id")
            self._newest_id = rows[0][0] if rows else -1
        if self._newest_id < since:
            return
        if self._sensor is None:
            rows = await self._engine.fetch(
                "packed_around",
                id=before,
                networks=self._networks,
                limit=self._most + _OPENED_AT_ONCE,
            )
            for part in _parts(rows):
                yield part
        below = GREATEST if self._sensor is not None else before
        while True:
            if self._sensor is not None:
                rows = await self._engine.fetch(
                    "packed_of_sensor",
                    sensor=self._sensor,
                    since=since,
                    before=before,
                    below=below,
                    limit=_LISTED_AT_ONCE,
                )
                wanted = rows
            else:
                rows = await self._engine.fetch(
                    "packed_below",
                    since=since,
                    before=below,
                    networks=self._networks,
                    limit=_LISTED_AT_ONCE,
                )
                wanted = [row[:-1] for row in rows if row[-1]]
            for part in _parts(wanted):
                yield part
            if len(rows) < _LISTED_AT_ONCE:
                return
            below = rows[-1][3]

    async def _places(self, listed: Sequence[_Listed], since: int, before: int) -> list[_Place]:
        """Return where the ids between two are in these chunks."""
        missing = [each.id for each in listed if each.id not in self._open]
        size = sum(each.bytes for each in listed if each.id not in self._open)
        size += sum(packed.head.length for packed in self._open.values())
        if len(self._open) + len(missing) > _KEPT or size > _KEPT_BYTES:
            self._open.clear()
            missing = [each.id for each in listed]
        rows: Sequence[Row] = ()
        if missing:
            rows = await self._engine.fetch("chunks_by_id", ids=json_text(missing))
            if len(rows) < len(missing):
                self._newest_id = None
                raise ChangedMeanwhileError
            self._opened += len(missing)
        numbers = [each.id for each in listed]
        return await asyncio.to_thread(self._places_in, rows, numbers, since, before)

    def _places_in(
        self, rows: Sequence[Row], numbers: Sequence[int], since: int, before: int
    ) -> list[_Place]:
        for number, _, head, body in rows:
            try:
                self._open[number] = PackedRows(read_head(head), body)
            except DamagedChunkError as error:
                self._chunks.tell_damaged(number, error)
        found: list[_Place] = []
        for number in numbers:
            packed = self._open.get(number)
            if packed is not None:
                try:
                    ids = packed.ids_between(since, before)
                except DamagedChunkError as error:
                    self._chunks.tell_damaged(number, error)
                else:
                    found += [(row_id, number, position) for row_id, position in ids]
        return found

    async def _wanted(self, places: list[_Place], limit: int) -> list[_Place]:
        """Return the newest of these that are wanted, newest first."""
        places.sort(reverse=True)
        found: list[_Place] = []
        for at in range(0, len(places), _ASKED_AT_ONCE):
            part = places[at : at + _ASKED_AT_ONCE]
            ids = [row_id for row_id, _, _ in part]
            names = json_text([(each,) for each in ids])
            rows = await self._engine.fetch("packed_shown_otherwise", names=names)
            gone = {row_id for (row_id,) in rows}
            if self._unwanted is not None:
                gone |= await self._unwanted(ids)
            found += [place for place in part if place[0] not in gone]
            if len(found) >= limit:
                return found[:limit]
        return found

    def _rows(self, places: Sequence[_Place]) -> list[MeasurementRow]:
        positions: dict[int, list[int]] = {}
        for _, number, position in places:
            positions.setdefault(number, []).append(position)
        found: list[MeasurementRow] = []
        for number, wanted in positions.items():
            try:
                found += self._open[number].rows_at(wanted)
            except DamagedChunkError as error:
                self._chunks.tell_damaged(number, error)
        return found


def _parts(rows: Sequence[Row]) -> list[list[_Listed]]:
    """Return the chunks in parts that are opened together, the newest first."""
    parts: list[list[_Listed]] = []
    size = 0
    for each in sorted((_Listed(*row) for row in rows), key=lambda each: -each.last_id):
        size += each.bytes
        if not parts or len(parts[-1]) == _OPENED_AT_ONCE or size > _OPENED_BYTES:
            parts.append([])
            size = each.bytes
        parts[-1].append(each)
    return parts


def _held(rows: Sequence[MeasurementRow]) -> int:
    """Return how many of the first rows are held at once: one at least, if there is one."""
    size = 0
    for place, row in enumerate(rows):
        size += text_size(row[7])
        if place and size > _LARGEST:
            return place
    return len(rows)

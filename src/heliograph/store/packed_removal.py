"""Removal from chunks: whole ones go as wholes; of others what stays is packed anew.

Of these only what is from before the last midnight (UTC) in a span goes: else retention, which goes
by hours, would make a chunk of a day anew each hour, and one of a month seven hundred times.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from heliograph.model.records import TIMESTAMP, MeasurementRow
from heliograph.model.time import DAY
from heliograph.store.chunks import ChangedMeanwhileError, Chunks, packed_rows, replace
from heliograph.store.engine import Engine, Subject, Transaction, json_text
from heliograph.store.pages import LEAST
from heliograph.store.removal import Removed, Span

# Chunks that are removed in one transaction, tens of kilobytes each.
_REMOVED_AT_ONCE: Final = 100


class PackedCount(NamedTuple):
    """How many packed rows there are, and the bytes that they take."""

    rows: int
    bytes: int


class _Cut(NamedTuple):
    span: Span
    chunk: int
    rows: int
    bytes: int


class PackedRemoval(Subject):
    """Counts and removes what is packed; every call is one short transaction at most."""

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine)
        self._chunks = chunks

    async def sensors(self, spans: Sequence[Span]) -> set[int]:
        """Return the sensors that have chunks, whole or not, in their spans."""
        whole = await self._engine.fetch("chunks_sum_due", wanted=json_text(spans))
        cut = await self._cut(spans)
        return {sensor for sensor, *_ in whole} | {each.span.sensor for each in cut}

    async def count(self, spans: Sequence[Span]) -> dict[int, PackedCount]:
        """Return what of the spans is packed, by sensor that has any.

        What can't be read is no part of it: it stays until the whole chunk is due.
        """
        whole = await self._engine.fetch("chunks_sum_due", wanted=json_text(spans))
        found = {sensor: PackedCount(rows, size) for sensor, rows, size in whole}
        for cut in await self._cut(spans):
            rows = await self._chunks.rows_of(cut.chunk)
            gone = sum(_is_in(row, cut.span) for row in rows or ())
            if gone:
                known = found.get(cut.span.sensor, PackedCount(0, 0))
                size = cut.bytes * gone // cut.rows
                found[cut.span.sensor] = PackedCount(known.rows + gone, known.bytes + size)
        return found

    async def remove(self, spans: Sequence[Span]) -> AsyncIterator[tuple[set[int], Removed]]:
        """Remove what of the spans is packed; yield after each transaction: of whom, and what."""
        wanted = json_text(spans)
        while found := await self._engine.fetch(
            "chunks_due", wanted=wanted, limit=_REMOVED_AT_ONCE
        ):
            ids = json_text([number for number, _ in found])
            yield {sensor for _, sensor in found}, await self._remove(ids)
        for cut in await self._cut(spans):
            if (removed := await self._cut_off(cut)) is not None:
                yield {cut.span.sensor}, removed

    async def _cut(self, spans: Sequence[Span]) -> list[_Cut]:
        wanted = json_text([(*span, max(span.end - span.end % DAY, LEAST)) for span in spans])
        rows = await self._engine.fetch("chunks_cut", wanted=wanted)
        return [_Cut(Span(*row[:3]), *row[3:]) for row in rows]

    async def _remove(self, ids: str) -> Removed:
        async def work(transaction: Transaction) -> tuple[int, float]:
            began = time.monotonic()
            removed = await transaction.fetch("chunks_remove", ids=ids)
            return sum(rows for (rows,) in removed), began

        rows, began = await self._engine.change(work)
        return Removed(rows, time.monotonic() - began)

    async def _cut_off(self, cut: _Cut) -> Removed | None:
        """Pack what stays of a chunk; None: it is damaged, or made anew just now."""
        rows = await self._chunks.rows_of(cut.chunk)
        if rows is None:
            return None
        left = [row for row in rows if not _is_in(row, cut.span)]
        if len(left) == len(rows):
            return None
        chunks = await asyncio.to_thread(packed_rows, left)
        began = 0.0

        async def work(transaction: Transaction) -> None:
            nonlocal began
            began = time.monotonic()
            await replace(
                cut.span.sensor, [], [cut.chunk], chunks, transaction, engine=self._engine.name
            )

        try:
            await self._engine.change(work)
        except ChangedMeanwhileError:
            return None
        return Removed(len(rows) - len(left), time.monotonic() - began)


def _is_in(row: MeasurementRow, span: Span) -> bool:
    return span.start <= row[TIMESTAMP] < span.end

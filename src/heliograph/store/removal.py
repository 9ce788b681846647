"""What is due: counted, and removed piece by piece.

Before raw rows of an hour go, its sensor's floor is raised above it: from then on the hour is
only counted from its rollup, which nobody computes anew. It is raised no further than everything
is rolled up, where rollups are kept longer.
"""

import asyncio
import enum
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from heliograph.model.retention import Cutoffs, Needed, raw_cutoff
from heliograph.store.engine import Drop, Engine, Row, Transaction
from heliograph.store.erasure import discard_rolling
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.partitions import month_start, named_month

_encode = msgspec.json.Encoder().encode


class KeptKind(enum.StrEnum):
    """What is kept for a time of its own; heartbeats for as long as logs."""

    MEASUREMENTS = "measurements"
    LOGS = "logs"
    HEARTBEATS = "heartbeats"
    ROLLUPS = "rollups"


# Kinds with partitions, and their tables.
PARTITIONED: Final = {KeptKind.MEASUREMENTS: "measurement", KeptKind.LOGS: "log"}


# Samples are taken of so many parts.
SAMPLE_OF: Final = 1_009


class Span(NamedTuple):
    """A sensor's rows from a time to another (exclusive), in microseconds."""

    sensor: int
    start: int
    end: int


class DueRow(NamedTuple):
    """What a row that is due is found by: by its `key` alone, or together with the rest."""

    key: int
    sensor: int
    time: int


class Removed(NamedTuple):
    """How many rows there still were, and for how many seconds the writer was taken."""

    rows: int
    seconds: float


class Counted(NamedTuple):
    """How many rows are due; an estimate where they were too many to be counted."""

    rows: int
    is_exact: bool


class Sampled(NamedTuple):
    """A row that is due: its key in SQLite's table, and the bytes of its content."""

    key: int
    sensor: int
    content: int


class Partition(NamedTuple):
    """A month's rows, of which the number is an estimate, in so many bytes."""

    name: str
    month: int
    rows: int
    bytes: int

    @property
    def end(self) -> int:
        """Where it ends, in microseconds."""
        return month_start(self.month + 1)


class Removal:
    """Removes what is due; every call is one short transaction at most."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def due(self, kind: KeptKind, spans: Sequence[Span], limit: int) -> list[DueRow]:
        """Return so many rows of the spans, of each sensor the oldest first."""
        rows = await self._engine.fetch(
            f"{kind}_due",
            wanted=_encode(spans).decode(),
            low=min(span.start for span in spans),
            high=max(span.end for span in spans),
            limit=limit,
        )
        return [DueRow(*row) for row in rows]

    async def remove(self, kind: KeptKind, rows: Sequence[DueRow]) -> Removed:
        """Remove rows that are due in one transaction."""
        clock = asyncio.get_running_loop().time
        async with self._engine.transaction() as transaction:
            began = clock()
            if kind is KeptKind.ROLLUPS:
                await discard_rolling(transaction)
            removed = await transaction.fetch(
                f"{kind}_remove",
                keys=_encode(rows).decode(),
                low=min(row.time for row in rows),
                high=max(row.time for row in rows),
            )
        return Removed(len(removed), clock() - began)

    async def raw_cutoffs(self, wanted: dict[int, Cutoffs]) -> dict[int, int]:
        """Return from when on the raw rows of each sensor are not due or still needed."""
        return _cutoffs(await self._needed(self._engine, wanted), wanted)

    async def raise_floors(self, wanted: dict[int, Cutoffs]) -> dict[int, int]:
        """Do the same, and have older hours counted from their rollups alone from now on."""
        async with self._engine.transaction() as transaction:
            await discard_rolling(transaction)
            needed = await self._needed(transaction, wanted)
            found = _cutoffs(needed, wanted)
            higher = [(n, at) for n, at in found.items() if at and at > needed[n].floor]
            if higher:
                await transaction.fetch("rollup_floors_raise", floors=_encode(higher).decode())
        return found

    async def floors(self, sensors: Sequence[int]) -> dict[int, int]:
        """Return the floor of each of the sensors; `LEAST`: none."""
        needed = await self._needed(self._engine, sensors)
        return {number: each.floor for number, each in needed.items()}

    @staticmethod
    async def _needed(on: Engine | Transaction, wanted: Iterable[int]) -> dict[int, Needed]:
        frontier = (await on.fetch("retention_frontier"))[0][0]
        text = _encode(list(wanted)).decode()
        rows = await on.fetch("rollup_limits", wanted=text, least=LEAST)
        return {row[0]: Needed(frontier, *row[1:]) for row in rows}

    async def count(self, kind: KeptKind, spans: Sequence[Span], limit: int) -> dict[int, Counted]:
        """Return how many rows of the spans there are by sensor; beyond the limit by their pace."""
        rows = await self._engine.fetch(
            f"{kind}_count_due", wanted=_encode(spans).decode(), limit=limit
        )
        ends = {span.sensor: span.end for span in spans}
        return {sensor: _counted(text, limit, ends[sensor]) for sensor, text in rows}

    async def sample(self, kind: KeptKind, spans: Sequence[Span], share: int) -> list[Sampled]:
        """Return so many in `SAMPLE_OF` of the rows of the spans, whatever times they are at."""
        wanted = _encode(spans).decode()
        rows = await self._engine.fetch(f"{kind}_sample_due", wanted=wanted, share=share)
        return [Sampled(*row) for row in rows]

    async def neighbours(
        self, kind: KeptKind, ids: Sequence[int], half: int
    ) -> dict[int, list[Row]]:
        """Return (sensor, time) of so many rows on each side of each id in SQLite's file."""
        found: dict[int, list[Row]] = {}
        rows = await self._engine.fetch(f"{kind}_near", ids=_encode(ids).decode(), half=half)
        for row_id, *row in rows:
            found.setdefault(row_id, []).append(row)
        return found

    async def partitions(self, kind: KeptKind, before: int) -> list[Partition]:
        """Return the partitions of a kind that end by then, oldest first; on SQLite none."""
        table = PARTITIONED.get(kind)
        if table is None or self._engine.name == "sqlite":
            return []
        rows = await self._engine.fetch("partition_sizes", parent=table)
        months = ((row, named_month(table, row[0])) for row in rows)
        found = [Partition(row[0], month, row[1], row[2]) for row, month in months if month]
        return sorted((each for each in found if each.end <= before), key=lambda each: each.month)

    async def is_partition_due(
        self,
        kind: KeptKind,
        partition: Partition,
        *,
        moment: int,
        default_days: int,
        by_floors: bool = True,
    ) -> bool:
        """Tell whether all rows of the partition are due at the moment.

        Without `by_floors`: whether they will be, when floors have been raised.
        """
        return not await self._engine.fetch(
            f"{kind}_keep_partition",
            start=month_start(partition.month),
            end=partition.end,
            moment=moment,
            default_days=default_days,
            by_floors=by_floors,
        )

    async def drop(
        self, kind: KeptKind, partition: Partition, *, moment: int, default_days: int
    ) -> Drop:
        """Drop the partition, unless a row of it is not due."""
        return await self._engine.drop_partition(
            PARTITIONED[kind], partition.month, moment=moment, default_days=default_days
        )

    async def used(self) -> int:
        """Return the bytes that what is stored takes."""
        return await self._engine.used()

    async def empty_log(self) -> None:
        """Give the room back that the log of writes takes, as far as nobody reads from it."""
        await self._engine.empty_log()


def _cutoffs(needed: dict[int, Needed], wanted: dict[int, Cutoffs]) -> dict[int, int]:
    return {number: raw_cutoff(wanted[number], each) for number, each in needed.items()}


def _counted(row: str, limit: int, end: int) -> Counted:
    count, first, last = msgspec.json.decode(row, type=tuple[int, int | None, int | None])
    if count < limit or first is None or last is None or limit >= GREATEST:
        return Counted(count, is_exact=True)
    return Counted(max(count, count * (end - first) // max(last - first, 1)), is_exact=False)


__all__ = ["Counted", "DueRow", "KeptKind", "Partition", "Removal", "Row", "Sampled", "Span"]

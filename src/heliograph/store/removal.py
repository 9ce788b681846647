"""What is due: counted, and removed piece by piece.

Before raw rows of an hour go, its sensor's floor is raised above it: from then on the hour is
only counted from its rollup, which nobody computes anew. It is raised no further than everything
is rolled up, where rollups are kept longer.
"""

import enum
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from heliograph.model.retention import Cutoffs, Needed, raw_cutoff
from heliograph.store.engine import Drop, Engine, Row, Subject, Transaction, json_text
from heliograph.store.months import month_start, named_month
from heliograph.store.pages import GREATEST, LEAST


class KeptKind(enum.StrEnum):
    """What is kept for a time of its own; heartbeats and packets for as long as logs."""

    MEASUREMENTS = "measurements"
    LOGS = "logs"
    HEARTBEATS = "heartbeats"
    PACKETS = "packets"
    ROLLUPS = "rollups"


# Kinds with partitions, and their tables.
PARTITIONED: Final = {KeptKind.MEASUREMENTS: "measurement", KeptKind.LOGS: "log"}


# The writer is taken for about so long at a time.
TRANSACTION_SECONDS = 0.03
FEWEST_ROWS, MOST_ROWS = 100, 20_000
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


def next_size(rows: int, took: float) -> int:
    """Return how many rows take about as long as a transaction may, at most twice as many."""
    fitting = rows * min(TRANSACTION_SECONDS / max(took, 1e-6), 2.0)
    return max(FEWEST_ROWS, min(MOST_ROWS, int(fitting)))


class Removal(Subject):
    """Removes what is due; every call is one short transaction at most."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.used = engine.used
        self.empty_log = engine.empty_log
        self.shorten = engine.shorten
        self.sweep = engine.sweep

    async def due(self, kind: KeptKind, spans: Sequence[Span], limit: int) -> list[DueRow]:
        """Return so many rows of the spans, of each sensor the oldest first."""
        return await self._all(
            DueRow,
            f"{kind}_due",
            wanted=json_text(spans),
            low=min(span.start for span in spans),
            high=max(span.end for span in spans),
            limit=limit,
        )

    async def remove(self, kind: KeptKind, rows: Sequence[DueRow]) -> Removed:
        """Remove rows that are due in one transaction."""

        async def work(transaction: Transaction) -> tuple[int, float]:
            began = time.monotonic()
            if kind is KeptKind.ROLLUPS:
                await discard_rolling(transaction)
            removed = await transaction.fetch(
                f"{kind}_remove",
                keys=json_text(rows),
                low=min(row.time for row in rows),
                high=max(row.time for row in rows),
            )
            return len(removed), began

        count, began = await self._engine.change(work)
        return Removed(count, time.monotonic() - began)

    async def raw_cutoffs(self, wanted: dict[int, Cutoffs]) -> dict[int, int]:
        """Return from when on the raw rows of each sensor are not due or still needed."""
        return _cutoffs(await self._needed(self._engine, wanted), wanted)

    async def raise_floors(self, wanted: dict[int, Cutoffs]) -> dict[int, int]:
        """Do the same, and have older hours counted from their rollups alone from now on."""

        async def work(transaction: Transaction) -> dict[int, int]:
            await discard_rolling(transaction)
            needed = await self._needed(transaction, wanted)
            found = _cutoffs(needed, wanted)
            higher = [(n, at) for n, at in found.items() if at and at > needed[n].floor]
            if higher:
                await transaction.fetch("rollup_floors_raise", floors=json_text(higher))
            return found

        return await self._engine.change(work)

    async def floors(self, sensors: Sequence[int]) -> dict[int, int]:
        """Return the floor of each of the sensors; `LEAST`: none."""
        needed = await self._needed(self._engine, sensors)
        return {number: each.floor for number, each in needed.items()}

    async def needed(self, sensors: Sequence[int]) -> dict[int, Needed]:
        """Return what the rollups of each of the sensors need of its raw rows."""
        return await self._needed(self._engine, sensors)

    @staticmethod
    async def _needed(on: Engine | Transaction, wanted: Iterable[int]) -> dict[int, Needed]:
        [(frontier,)] = await on.fetch("retention_frontier")
        text = json_text(list(wanted))
        rows = await on.fetch("rollup_limits", wanted=text, least=LEAST)
        return {number: Needed(frontier, *limits) for number, *limits in rows}

    async def count(self, kind: KeptKind, spans: Sequence[Span], limit: int) -> dict[int, Counted]:
        """Return how many rows of the spans there are, by sensor that has any.

        Beyond the limit it is by their pace.
        """
        rows = await self._engine.fetch(f"{kind}_count_due", wanted=json_text(spans), limit=limit)
        ends = {span.sensor: span.end for span in spans}
        return {sensor: _counted(text, limit, ends[sensor]) for sensor, text in rows}

    async def sample(self, kind: KeptKind, spans: Sequence[Span], share: int) -> list[Sampled]:
        """Return so many in `SAMPLE_OF` of the rows of the spans, whatever times they are at."""
        wanted = json_text(spans)
        return await self._all(Sampled, f"{kind}_sample_due", wanted=wanted, share=share)

    async def neighbours(
        self, kind: KeptKind, ids: Sequence[int], half: int
    ) -> dict[int, list[Row]]:
        """Return (sensor, time) of so many rows on each side of each id in SQLite's file."""
        found: dict[int, list[Row]] = {}
        rows = await self._engine.fetch(f"{kind}_near", ids=json_text(ids), half=half)
        for row_id, *row in rows:
            found.setdefault(row_id, []).append(row)
        return found

    async def partitions(self, kind: KeptKind, before: int) -> list[Partition]:
        """Return the partitions of a kind that end by then, oldest first; on SQLite none."""
        table = PARTITIONED.get(kind)
        if table is None or self._engine.name == "sqlite":
            return []
        rows = await self._engine.fetch("partition_sizes", parent=table)
        found = [
            Partition(name, month, count, size)
            for name, count, size in rows
            if (month := named_month(table, name))
        ]
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
        """Return whether all rows of the partition are due at the moment.

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

    async def drop_empty(self, partition: Partition) -> Drop:
        """Drop a partition of measurements, unless it has a row."""
        if await self._engine.fetch(
            "measurements_in_partition", start=month_start(partition.month), end=partition.end
        ):
            return Drop.KEPT
        return await self._engine.drop_empty_partition(
            PARTITIONED[KeptKind.MEASUREMENTS], partition.month
        )

    async def remove_unknown_packets(self, end: int, limit: int) -> Removed:
        """Remove so many packets of devices that are not known, made before a time."""
        found = await self._engine.fetch("unknown_packets_due", end=end, limit=limit)
        if not found:
            return Removed(0, 0.0)

        async def work(transaction: Transaction) -> tuple[int, float]:
            began = time.monotonic()
            names = json_text([*map(list, found)])
            removed = await transaction.fetch("unknown_packets_remove", names=names)
            return len(removed), began

        count, began = await self._engine.change(work)
        return Removed(count, time.monotonic() - began)

    async def unknown_packets(self, end: int) -> tuple[int, list[int]]:
        """Return how many there are from before a time, and the bytes of content of some."""
        [(count,)] = await self._engine.fetch("unknown_packets_count", end=end)
        found = await self._engine.fetch("unknown_packets_content", end=end, limit=1_000)
        return int(count), [content for (content,) in found]

    async def drop(
        self, kind: KeptKind, partition: Partition, *, moment: int, default_days: int
    ) -> Drop:
        """Drop the partition, unless a row of it is not due."""
        return await self._engine.drop_partition(
            PARTITIONED[kind], partition.month, moment=moment, default_days=default_days
        )


def _cutoffs(needed: dict[int, Needed], wanted: dict[int, Cutoffs]) -> dict[int, int]:
    return {number: raw_cutoff(wanted[number], each) for number, each in needed.items()}


def _counted(row: str, limit: int, end: int) -> Counted:
    count, first, last = msgspec.json.decode(row, type=tuple[int, int | None, int | None])
    if count < limit or first is None or last is None or limit >= GREATEST:
        return Counted(count, is_exact=True)
    return Counted(max(count, count * (end - first) // max(last - first, 1)), is_exact=False)


# What holds a sensor's data beside rejected messages; its configurations go with its record.
ERASURES = (
    "measurements_erase",
    # After the rows that may have become chunks meanwhile.
    "chunks_erase",
    "logs_erase",
    "heartbeats_erase",
    "packets_erase",
    "observations_erase",
    "actions_erase",
    "attributes_erase",
    # After what they were made from.
    "rollups_erase",
    "touched_erase",
    "rollup_backlog_erase",
    "rollup_floor_erase",
)


# To erase a chunk takes about as long as so many rows take.
_CHUNK_WEIGHT: Final = 50


async def erase_piece(transaction: Transaction, sensor: int, limit: int) -> int:
    """Erase so many rows that the sensor has sent, or somewhat more; return how many."""
    left = limit
    for query in ERASURES:
        weight = _CHUNK_WEIGHT if query == "chunks_erase" else 1
        left -= weight * len(
            await transaction.fetch(query, sensor=sensor, limit=-(-left // weight))
        )
        if left <= 0:
            break
        if query == "rollups_erase":
            await discard_rolling(transaction)
    return limit - left


async def discard_rolling(transaction: Transaction) -> None:
    """Have what is being rolled up at this moment thrown away: it was read before."""
    await transaction.fetch("rollup_discard")


class RowBytes(NamedTuple):
    """Bytes of a row in its table, and of its entries in the indexes."""

    table: float
    indexes: float


class _RowSizes(NamedTuple):
    """Bytes of a row beside its content: id, keys and times, header, pointer."""

    sqlite: int
    sqlite_indexes: int
    postgresql: int
    # From 48 with many sensors to 69 with few: how full the index is depends on how they mix.
    postgresql_indexes: int = 58


_ROW_SIZES: Final = {
    KeptKind.MEASUREMENTS: _RowSizes(46, 38, 74),
    KeptKind.LOGS: _RowSizes(48, 38, 78),
    KeptKind.HEARTBEATS: _RowSizes(47, 38, 78),
    # With an index by device_id, and one by sensor; on PostgreSQL one by id.
    KeptKind.PACKETS: _RowSizes(45, 75, 78, 130),
    KeptKind.ROLLUPS: _RowSizes(25, 28, 58),
}

# Of SQLite's pages: what cells may fill of one, the largest part of a row that stays in it, and
# what stays of a larger one at least.
PAGE: Final = 4_096
_CELLS, _LOCAL, _LEAST, _OVERFLOW = PAGE - 8, PAGE - 35, 489, PAGE - 4
# A page is joined with its neighbours once more than two thirds of it are free; such pages are
# filled about so far in the end.
_JOINED_BELOW: Final = 1 / 3
_FILLED: Final = 0.55


def row_bytes(engine: str, kind: KeptKind, content: int) -> RowBytes:
    """Return what a row with so many bytes of content takes, as its pages are usually filled."""
    sizes = _ROW_SIZES[kind]
    if engine == "postgresql":
        return RowBytes(sizes.postgresql + content, sizes.postgresql_indexes)
    cell, overflow = sizes.sqlite + content, 0
    if cell > _LOCAL:
        local = _LEAST + (cell - _LEAST) % _OVERFLOW
        local = local if local <= _LOCAL else _LEAST
        overflow = -(-(cell - local) // _OVERFLOW) * PAGE
        cell = local
    return RowBytes(PAGE / max(_CELLS // cell, 1) + overflow, sizes.sqlite_indexes)


def rows_a_page(table_bytes: float) -> int:
    """Return how many rows of this size a page of SQLite holds."""
    return max(int(PAGE / max(table_bytes, 1)), 1)


def given_back(left: float) -> float:
    """Return the part of what is removed from a page of SQLite that becomes free pages.

    `left` is the part of the page's rows that stays: a page that is not empty enough stays too.
    """
    if left >= _JOINED_BELOW:
        return 0.0
    return (1 - left / _FILLED) / (1 - left)

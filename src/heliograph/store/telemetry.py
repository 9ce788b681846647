"""What was received, but for measurements: logs, heartbeats, what was rejected, the ledger.

And the rows of any kind as an export and a resumed stream read them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from heliograph.model.records import (
    Heartbeat,
    Kind,
    Log,
    LogAggregate,
    PacketRecord,
    RejectedMessage,
    RowName,
)
from heliograph.model.time import now
from heliograph.store.chunks import EXPORTED, Chunks
from heliograph.store.engine import Engine, Row, Subject, json_text
from heliograph.store.pages import (
    ANY_SIZE,
    ENTRY_BYTES,
    GREATEST,
    Cursor,
    Hold,
    Page,
    Pages,
    hold_any,
    text_size,
)

# An aggregate is of so many of the newest messages, and there are so many aggregates, at most.
MAXIMUM_MESSAGES = 1_000_000
MAXIMUM_AGGREGATES = 10_000
# What their subjects come to, in characters.
LARGEST_SUBJECTS = 8 << 20
# Rows a transaction when pruning: each may hold 64 KiB, and the writer waits meanwhile.
REJECTED_PRUNED_AT_ONCE = 500
PRUNED_AT_ONCE = 5_000
NAMED_AT_ONCE = 5_000

_encode = msgspec.json.Encoder().encode


def _logs(rows: Sequence[Row]) -> list[Log]:
    return [Log(*row[:-1]) for row in rows]


def _log_sizes(rows: Sequence[Row]) -> list[int]:
    # As JSON: a control character takes six.
    return [len(_encode((subject, details))) for *_, subject, details, _ in rows]


class Logs(Pages[Log]):
    """What sensors logged."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "logs", _logs, _log_sizes)

    async def aggregates(
        self, sensor: int, *, start: int, end: int, hold: Hold = hold_any
    ) -> Page[LogAggregate]:
        """Return one for each severity (warning, error) and subject, the last seen last.

        Of those last seen, as many as may be, and as their subjects are not larger than half a
        page; `truncated` tells whether there are more.
        """
        rows = await self._engine.fetch(
            "logs_aggregates",
            sensor=sensor,
            start=start,
            end=end,
            rows=MAXIMUM_MESSAGES,
            limit=MAXIMUM_AGGREGATES,
            longest=LARGEST_SUBJECTS,
        )
        page = Page([LogAggregate(*members) for *members, _total in reversed(rows)])
        page.truncated = bool(rows) and rows[0][-1] > len(rows)
        page.size = sum([len(_encode(each.subject)) + 2 * ENTRY_BYTES for each in page])
        hold(page.size)
        return page


def _heartbeats(rows: Sequence[Row]) -> list[Heartbeat]:
    # SQLite knows no booleans.
    return [
        Heartbeat(
            row_id,
            timestamp,
            fingerprint,
            receipt,
            revision,
            None if success is None else bool(success),
            details,
            bool(unknown),
        )
        for row_id, timestamp, fingerprint, receipt, revision, success, details, unknown, _ in rows
    ]


def _heartbeat_sizes(rows: Sequence[Row]) -> list[int]:
    return [text_size(details) for *_, details, _unknown, _length in rows]


class Heartbeats(Pages[Heartbeat]):
    """Signs of life, and which configurations were applied."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "heartbeats", _heartbeats, _heartbeat_sizes)


def _packets(rows: Sequence[Row]) -> list[PacketRecord]:
    return [PacketRecord(*row[:-1]) for row in rows]


def _packet_sizes(rows: Sequence[Row]) -> list[int]:
    return [text_size(payload) for *_, payload, _length in rows]


class Packets(Pages[PacketRecord]):
    """What devices said of themselves at once, as far as they are known."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "packets", _packets, _packet_sizes)


class ExportedSensor(NamedTuple):
    """A sensor as an export names it; `number` is what its rows are stored under."""

    number: int
    identifier: str
    device_id: str | None


class Exports(Subject):
    """Reads whole ranges, a page a query: no cursor stays open between two of them.

    An open cursor on SQLite would keep the write-ahead log from being taken back.
    """

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine)
        self._chunks = chunks

    async def sensors(self, network: str | None, after: int, limit: int) -> list[ExportedSensor]:
        """Return sensors of a network (None: of all) with numbers above `after`, by number."""
        which = {"network": network, "after": after, "limit": limit}
        return await self._all(ExportedSensor, "exports_sensors", **which)

    async def page(
        self,
        kind: Kind,
        sensor: int,
        after: Cursor,
        *,
        until: int,
        limit: int,
        longest: int = ANY_SIZE,
    ) -> Sequence[Row]:
        """Return rows beyond a position, ascending, up to the timestamp `until`.

        Each is timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, and then
        what its kind has (value; severity, subject, details; success, details), the id that its
        element had, and the length of its texts, which are missing if that exceeds `longest`.
        """

        async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                f"exports_{kind.value}",
                sensor=sensor,
                timestamp=at[0],
                fingerprint=at[1],
                until=until,
                limit=limit,
                longest=longest,
            )

        if kind is not Kind.MEASUREMENT:
            return await fetch(after, limit, longest)
        rows = await self._chunks.merged(fetch, after, until, limit, longest, shape=EXPORTED)
        return [(*row[:7], row[-1]) for row in rows]


class Received(NamedTuple):
    """That there is a row: its kind, ingest id, sensor's number, and characters of content."""

    kind: Kind
    id: int
    sensor: int
    size: int


class ReplayRows(Subject):
    """Rows of telemetry by their ingest ids; those of the last two hours, none being packed."""

    async def index(self, after: int, until: int, limit: int) -> list[Received]:
        """Return the rows with ids after `after` and up to `until`, the oldest first."""
        rows = await self._engine.fetch("replay_index", after=after, until=until, limit=limit)
        return [Received(Kind(kind), row_id, sensor, size) for kind, row_id, sensor, size in rows]

    async def rows(
        self, kinds: Sequence[Kind], first: int, last: int
    ) -> list[tuple[Kind, tuple[Any, ...]]]:
        """Return the rows of these kinds from one id to another, in their order.

        Columns are as those of the rows that are written.
        """
        return await self._rows("replay_{}s", kinds, first=first, last=last)

    async def index_of(
        self, numbers: list[int], after: int, until: int, limit: int
    ) -> list[Received]:
        """Return `index` of rows that servers with these instance numbers have stored."""
        rows = await self._engine.fetch(
            "replay_index_of", numbers=numbers, after=after, until=until, limit=limit
        )
        return [Received(Kind(kind), row_id, sensor, size) for kind, row_id, sensor, size in rows]

    async def rows_of(
        self, numbers: list[int], kinds: Sequence[Kind], first: int, last: int
    ) -> list[tuple[Kind, tuple[Any, ...]]]:
        """Return `rows` that servers with these instance numbers have stored."""
        return await self._rows("replay_{}s_of", kinds, numbers=numbers, first=first, last=last)

    async def _rows(
        self, query: str, kinds: Sequence[Kind], **parameters: Any
    ) -> list[tuple[Kind, tuple[Any, ...]]]:
        found: list[tuple[Kind, tuple[Any, ...]]] = []
        for kind in kinds:
            rows = await self._engine.fetch(query.format(kind.value), **parameters)
            found += [(kind, tuple(row)) for row in rows]
        found.sort(key=lambda each: each[1][0])
        return found


class RejectedMessages(Subject):
    """What could not be accepted as what it claimed to be."""

    async def list(
        self,
        *,
        limit: int,
        before: int | None = None,
        sender: str | None = None,
        sensor: int | None = None,
        reason: str | None = None,
    ) -> list[RejectedMessage]:
        """Return the newest, or the next older than the id `before`; newest first.

        `sender` narrows it to those of a topic or route, of a principal (of which the name is
        enough), or of the `sensor` of this number; `reason` to those rejected for it.
        """
        return await self._all(
            RejectedMessage,
            "rejected_list",
            before=GREATEST if before is None else before,
            limit=limit,
            sender=sender,
            sensor=sensor,
            reason=reason,
        )

    async def totals(self) -> tuple[int, int]:
        """Return how many are kept, and the bytes of their kept payloads."""
        [(count, size)] = await self._engine.fetch("rejected_totals")
        return count, size

    async def prune(self, before: int) -> int:
        """Delete those received before a time; return how many."""
        return await self._prune("rejected_prune", REJECTED_PRUNED_AT_ONCE, before=before)


class Deliveries(Subject):
    """Keys of deliveries that were stored; entered together with what they brought."""

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine)
        self._chunks = chunks

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, str | None]]:
        """Return id and answer of each key that is known and not expired."""
        if not keys:
            return {}
        rows = await self._engine.find_deliveries(keys, now())
        return {key: (row_id, answer) for key, row_id, answer in rows}

    async def stored(self, kind: Kind, names: Sequence[RowName]) -> set[RowName]:
        """Return those by which a row of the kind goes."""
        stored: set[RowName] = set()
        for at in range(0, len(names), NAMED_AT_ONCE):
            wanted = json_text(names[at : at + NAMED_AT_ONCE])
            rows = await self._engine.fetch(f"{kind.value}_by_name", names=wanted)
            stored.update((row_id, sensor, timestamp) for row_id, sensor, timestamp in rows)
        if kind is Kind.MEASUREMENT and (missing := {*names} - stored):
            stored.update(row[:3] for row in await self._chunks.named(missing))
        return stored

    async def forget(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete (key, id) pairs, unless the key stands for another id by now."""
        for at in range(0, len(deliveries), PRUNED_AT_ONCE):
            await self._engine.forget_deliveries(deliveries[at : at + PRUNED_AT_ONCE])

    async def prune(self, now: int) -> int:
        """Delete those expired at a time; return how many."""
        return await self._prune("deliveries_prune", PRUNED_AT_ONCE, now=now)

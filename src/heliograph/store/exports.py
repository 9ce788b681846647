"""Pages of stored rows with all that an export keeps of them."""

from collections.abc import Sequence
from typing import NamedTuple

from heliograph.model.records import Kind
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import Cursor
from heliograph.store.row_chunks import ANY_SIZE

QUERIES = {
    Kind.MEASUREMENT: "exports_measurement",
    Kind.LOG: "exports_log",
    Kind.HEARTBEAT: "exports_heartbeat",
}


class ExportedSensor(NamedTuple):
    """A sensor as an export names it; `number` is what its rows are stored under."""

    number: int
    identifier: str
    device_id: str | None


class Exports:
    """Reads whole ranges, a page a query: no cursor stays open between two of them.

    An open cursor on SQLite would keep the write-ahead log from being taken back.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def sensors(self, network: str | None, after: int, limit: int) -> list[ExportedSensor]:
        """Return sensors of a network (None: of all) with numbers above `after`, by number."""
        rows = await self._engine.fetch(
            "exports_sensors", network=network, after=after, limit=limit
        )
        return [ExportedSensor(*row) for row in rows]

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
        return await self._engine.fetch(
            QUERIES[kind],
            sensor=sensor,
            timestamp=after[0],
            fingerprint=after[1],
            until=until,
            limit=limit,
            longest=longest,
        )

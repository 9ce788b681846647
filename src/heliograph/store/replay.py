"""What was received after a given message, in the order of its receipt."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from heliograph.model.records import Kind
from heliograph.store.engine import Engine

_QUERIES = {
    Kind.MEASUREMENT: "replay_measurements",
    Kind.LOG: "replay_logs",
    Kind.HEARTBEAT: "replay_heartbeats",
}


class Received(NamedTuple):
    """That there is a row: its kind, ingest id, sensor's number, and characters of content."""

    kind: Kind
    id: int
    sensor: int
    size: int


class ReplayRows:
    """Rows of telemetry by their ingest ids."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        found: list[tuple[Kind, tuple[Any, ...]]] = []
        for kind in kinds:
            rows = await self._engine.fetch(_QUERIES[kind], first=first, last=last)
            found += [(kind, tuple(row)) for row in rows]
        found.sort(key=lambda each: each[1][0])
        return found

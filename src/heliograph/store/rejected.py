"""Rejected messages."""

from heliograph.model.records import RejectedMessage
from heliograph.store.engine import Engine
from heliograph.store.pages import GREATEST

# Rows a transaction when pruning: each may hold 64 KiB, and the writer waits meanwhile.
PRUNED_AT_ONCE = 500


class RejectedMessages:
    """What could not be accepted as what it claimed to be."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        rows = await self._engine.fetch(
            "rejected_list",
            before=GREATEST if before is None else before,
            limit=limit,
            sender=sender,
            sensor=sensor,
            reason=reason,
        )
        return [RejectedMessage(*row) for row in rows]

    async def totals(self) -> tuple[int, int]:
        """Return how many are kept, and the bytes of their kept payloads."""
        rows = await self._engine.fetch("rejected_totals")
        return rows[0][0], rows[0][1]

    async def prune(self, before: int) -> int:
        """Delete those received before a time; return how many."""
        pruned = 0
        while True:
            async with self._engine.transaction() as transaction:
                rows = await transaction.fetch(
                    "rejected_prune", before=before, limit=PRUNED_AT_ONCE
                )
            pruned += len(rows)
            if len(rows) < PRUNED_AT_ONCE:
                return pruned

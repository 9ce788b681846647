"""How many messages a broker had dropped when that was last heard."""

from heliograph.model.records import BrokerDrops
from heliograph.store.engine import Engine


class BrokerCounts:
    """What brokers said last, by their addresses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, broker: str) -> BrokerDrops | None:
        """Return what was noted last; None: nothing was."""
        rows = await self._engine.fetch("broker_drops_find", broker=broker)
        return BrokerDrops(*rows[0]) if rows else None

    async def note(self, broker: str, drops: BrokerDrops) -> None:
        """Note it in place of what was noted before."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch(
                "broker_drops_note",
                broker=broker,
                total=drops.total,
                uptime=drops.uptime,
                noted_at=drops.noted_at,
            )

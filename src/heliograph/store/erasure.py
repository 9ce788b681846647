"""Erasing what a sensor has sent, piece by piece: others write in between."""

from heliograph.store.engine import Engine, Transaction

# Rows erased in one transaction.
ERASED_AT_ONCE = 5_000
# What holds a sensor's data; its configurations go with its record.
ERASURES = (
    "measurements_erase",
    "logs_erase",
    "heartbeats_erase",
    "rejected_messages_erase",
    "attributes_erase",
    # After what they were made from.
    "rollups_erase",
    "touched_erase",
    "rollup_backlog_erase",
    "rollup_floor_erase",
)


async def erase_first(transaction: Transaction, sensor: int) -> None:
    """Erase the first piece in a transaction that does more."""
    await transaction.fetch(ERASURES[0], sensor=sensor, limit=ERASED_AT_ONCE)


async def erase_data(engine: Engine, sensor: int) -> None:
    """Erase all that the sensor has sent; what ends halfway may be repeated."""
    # Again until there is nothing: what was on its way when it was deleted may come late.
    while sum([await _erase(engine, query, sensor) for query in ERASURES]):
        pass


async def discard_rolling(transaction: Transaction) -> None:
    """Have what is being rolled up at this moment thrown away: it was read before."""
    await transaction.fetch("rollup_discard")


async def _erase(engine: Engine, query: str, sensor: int) -> int:
    """Return how many rows were erased."""
    total = 0
    while True:
        async with engine.transaction() as transaction:
            rows = await transaction.fetch(query, sensor=sensor, limit=ERASED_AT_ONCE)
            if query == "rollups_erase":
                await discard_rolling(transaction)
        total += len(rows)
        if len(rows) < ERASED_AT_ONCE:
            return total

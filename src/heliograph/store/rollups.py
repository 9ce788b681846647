"""What of a sensor is rolled up."""

from collections.abc import Sequence
from typing import NamedTuple

from heliograph.model.rollup_plan import Span, Standing, joined
from heliograph.store.engine import Engine, Row, Transaction

# More marks or ranges are not counted.
COUNTED = 100_000


class Pending(NamedTuple):
    """What is left to be rolled up: marks of late rows, and ranges of history."""

    marks: int
    ranges: int


class Rollups:
    """The rollups, for those who read them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def standing(self, sensor: int) -> Standing:
        """Return what of the sensor is rolled up at this moment."""
        return standing_of(await self._engine.fetch("rollup_standing", sensor=sensor))

    async def pending(self) -> Pending:
        """Return how much is left to be rolled up, counted up to `COUNTED`."""
        rows = await self._engine.fetch("rollup_counts", most=COUNTED)
        return Pending(*rows[0])


async def discard_rolling(transaction: Transaction) -> None:
    """Have what is being rolled up at this moment thrown away: it was read before."""
    await transaction.fetch("rollup_discard")


def standing_of(rows: Sequence[Row]) -> Standing:
    """Return what the rows say of a sensor."""
    frontier, raw_from = 0, None
    dirty: list[Span] = []
    for what, first, last in rows:
        if what == "frontier":
            frontier = first
        elif what == "floor":
            raw_from = first
        else:
            dirty.append((first, last))
    return Standing(frontier, joined(dirty), raw_from)

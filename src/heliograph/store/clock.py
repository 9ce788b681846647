"""What is known of the server's clock: as which time it was accepted, and retention's horizon."""

from typing import NamedTuple

from heliograph.model.retention import Horizon
from heliograph.store.engine import Engine, Row


class Acceptance(NamedTuple):
    """As which time the clock was accepted, though rows from beyond it were stored.

    Those have ids up to `highest_id`, and receipts after `at`, the newest at `until`. They are
    left out of newest values until their own time has passed. Zeros: it was never necessary.
    """

    at: int
    highest_id: int
    until: int

    def receipt(self, row_id: int, receipt: int) -> int:
        """Return when a row was received at the latest, as far as that can be known."""
        return self.at if row_id <= self.highest_id and receipt > self.at else receipt


class ClockState(NamedTuple):
    """What is known of the clock; the horizon is None before the first run of retention."""

    acceptance: Acceptance
    horizon: Horizon | None


class ClockStates:
    """The one record of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self) -> ClockState:
        """Return what is known."""
        return _state((await self._engine.fetch("clock_state"))[0])

    async def accept(self, acceptance: Acceptance) -> Acceptance:
        """Have the clock accepted; rows from beyond an earlier acceptance stay marked.

        Returns:
            What stands now.
        """
        async with self._engine.transaction() as transaction:
            earlier = _state((await transaction.fetch("clock_state"))[0]).acceptance
            merged = Acceptance(
                acceptance.at,
                max(acceptance.highest_id, earlier.highest_id),
                max(acceptance.until, earlier.until),
            )
            await transaction.fetch("clock_accept", **merged._asdict())
        return merged

    async def set_horizon(self, horizon: Horizon) -> None:
        """Note the time by which is removed from now on."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch(
                "retention_horizon_set",
                horizon=horizon.moment,
                clock=horizon.clock,
                waited=horizon.waited,
            )


def _state(row: Row) -> ClockState:
    horizon = None if row[3] is None else Horizon(*row[3:])
    return ClockState(Acceptance(*row[:3]), horizon)

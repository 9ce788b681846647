"""What is known of the server's clock: as which time it was accepted, and retention's horizon."""

from collections.abc import Callable
from typing import NamedTuple

from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.retention import LEAP, Horizon
from heliograph.model.time import to_rfc3339
from heliograph.store.audit import Changes, enter
from heliograph.store.engine import Row, Subject, Transaction


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


class ClockStates(Subject):
    """The one record of it."""

    async def read(self) -> ClockState:
        """Return what is known."""
        return _state((await self._engine.fetch("clock_state"))[0])

    async def accept(self, acceptance: Acceptance, *, actor: Actor = SYSTEM) -> Acceptance:
        """Have the clock accepted; rows from beyond an earlier acceptance stay marked.

        Returns:
            What stands now.
        """

        async def work(transaction: Transaction) -> Acceptance:
            earlier = _state((await transaction.fetch("clock_state_taken"))[0]).acceptance
            merged = Acceptance(
                acceptance.at,
                max(acceptance.highest_id, earlier.highest_id),
                max(acceptance.until, earlier.until),
            )
            await transaction.fetch("clock_accept", **merged._asdict())
            changes: Changes = {"clock": {"new": to_rfc3339(acceptance.at)}}
            if acceptance.until > acceptance.at:
                changes["beyond"] = {"new": to_rfc3339(acceptance.until)}
            made = AuditedChange(AuditAction.CLOCK_ACCEPT, changes=changes)
            await enter(transaction, actor, [made])
            return merged

        return await self._engine.change(work)

    async def move_horizon(self, following: Callable[[Horizon | None], Horizon]) -> Horizon:
        """Note what follows the horizon that stands, whoever else moves it; return it."""

        async def work(transaction: Transaction) -> Horizon:
            moved = following(_state((await transaction.fetch("clock_state_taken"))[0]).horizon)
            await _set_horizon(transaction, moved)
            return moved

        return await self._engine.change(work)

    async def accept_horizon(self, moment: int, *, actor: Actor) -> Horizon | None:
        """Have what is due by a moment removed, however far the clock has leapt to it.

        Returns:
            What stood.
        """

        async def work(transaction: Transaction) -> Horizon | None:
            last = _state((await transaction.fetch("clock_state_taken"))[0]).horizon
            await _set_horizon(transaction, Horizon(moment, moment, 0))
            if last is not None and last.moment + LEAP < moment:
                times = {"old": to_rfc3339(last.moment), "new": to_rfc3339(moment)}
                made = AuditedChange(AuditAction.RETENTION_ACCEPT, changes={"clock": times})
                await enter(transaction, actor, [made])
            return last

        return await self._engine.change(work)


async def _set_horizon(transaction: Transaction, horizon: Horizon) -> None:
    await transaction.fetch(
        "retention_horizon_set",
        horizon=horizon.moment,
        clock=horizon.clock,
        waited=horizon.waited,
    )


def _state(row: Row) -> ClockState:
    at, highest_id, until, moment, *clock = row
    horizon = None if moment is None else Horizon(moment, *clock)
    return ClockState(Acceptance(at, highest_id, until), horizon)

"""The disk budget: what is stored may take so many bytes, then nothing new is taken."""

import asyncio
import dataclasses
from collections.abc import Callable

import structlog

from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.ingest.pipeline import Pipeline
from heliograph.store import Store

log = structlog.get_logger()

WATCH_SECONDS = 5.0
# Without a budget, for metrics.
IDLE_SECONDS = 60.0
# From here on what is in flight could fill it.
CLOSE_SECONDS = 1.0
RETRY_SECONDS = 10

WARNED_FROM, WARNED_UNTIL = 0.9, 0.88
# Not at the budget itself: it would be refused again with the next batch.
REFUSED_UNTIL = 0.97


@dataclasses.dataclass(slots=True)
class DiskState:
    """What is used of the budget, in bytes; without a budget (0) nothing is refused."""

    budget: int = 0
    used: int = 0
    is_low: bool = False
    is_full: bool = False

    @property
    def percent(self) -> int:
        """How much of the budget is used."""
        return self.used * 100 // self.budget if self.budget else 0


class DiskBudget:
    """Has the pipeline refuse new data from the budget on, until there is room again."""

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        budget: int,
        *,
        refusing: Callable[[bool], None] = lambda _refuses: None,
    ) -> None:
        self.state = DiskState(budget)
        self._store = store
        self._pipeline = pipeline
        self._refusing = refusing

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        while True:
            await asyncio.sleep(self._pause())
            await self.look()

    def _pause(self) -> float:
        if not self.state.budget:
            return IDLE_SECONDS
        return CLOSE_SECONDS if self.state.is_low else WATCH_SECONDS

    async def look(self) -> None:
        """Compare what is used with the budget; while the database is away nothing changes."""
        state = self.state
        try:
            if state.is_full:
                # What was removed is in the log too, until that is emptied.
                await self._store.removal.empty_log()
            state.used = await self._store.removal.used()
        except StoreUnavailableError:
            return
        if not state.budget:
            return
        share = state.used / state.budget
        low = share >= (WARNED_UNTIL if state.is_low else WARNED_FROM)
        full = share >= (REFUSED_UNTIL if state.is_full else 1.0)
        if low and not state.is_low and not full:
            log.warning("disk budget nearly used up", **self._figures())
        if full and not state.is_full:
            log.error("disk budget used up: new data refused", **self._figures())
        elif state.is_full and not full:
            log.info("disk budget no longer exceeded", **self._figures())
        state.is_low, state.is_full = low, full
        self._pipeline.refusal = budget_used_up if full else None
        self._refusing(full)

    def _figures(self) -> dict[str, int]:
        return {"used": self.state.used, "budget": self.state.budget}


def budget_used_up() -> HeliographError:
    """Return what senders of data are answered."""
    return HeliographError(
        ErrorCode.DISK_BUDGET_USED_UP,
        "The disk budget of the server is used up",
        retry_after=RETRY_SECONDS,
    )

"""Follows what is said of the clock from outside: that it is right after all."""

import asyncio
from collections.abc import Callable

import structlog

from heliograph.access.registry import Registry
from heliograph.errors import StoreUnavailableError
from heliograph.ingest.clock import Clock
from heliograph.ingest.latest_values import LatestValues
from heliograph.model.retention import Horizon
from heliograph.model.time import DAY, to_rfc3339
from heliograph.store import Store

log = structlog.get_logger()

WATCH_SECONDS = 1.0


class ClockWatch:
    """Looks each second whether the clock was accepted, by `heliograph clock accept`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: Registry,
        latest: LatestValues,
        follow_horizon: Callable[[Horizon], None] = lambda _horizon: None,
    ) -> None:
        """Tell `follow_horizon` where retention's horizon stands: another process may move it."""
        self._follow_horizon = follow_horizon
        self._store = store
        self._clock = clock
        self._registry = registry
        self._latest = latest
        self._accepted_at = 0

    async def begin(self) -> None:
        """Take what was accepted before the start, by which the clock goes already.

        Raises:
            StoreUnavailableError: not now.
        """
        acceptance = (await self._store.clock.read()).acceptance
        self._accepted_at = acceptance.at
        if acceptance.until:
            self._latest.settle_after(acceptance.until + DAY)

    async def run(self) -> None:
        """Look each second, for ever."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            # Also so that it is soon known how long a step ahead has lasted, whoever sends.
            self._clock.moment()
            try:
                await self.look()
            except StoreUnavailableError:
                log.debug("the clock could not be compared with the database")

    async def look(self) -> None:
        """Go on from the wall clock's time if it was accepted since the last look.

        Raises:
            StoreUnavailableError: not now.
        """
        acceptance, horizon = await self._store.clock.read()
        if acceptance.at != self._accepted_at:
            self._accepted_at = acceptance.at
            wrong = self._clock.behind or self._clock.ahead
            moment = self._clock.accept() if wrong else self._clock.moment()
            self._registry.forget_beyond(moment)
            self._latest.settle_after(acceptance.until + DAY)
            log.warning("the clock was accepted", clock=to_rfc3339(moment))
        if horizon is not None:
            self._follow_horizon(horizon)

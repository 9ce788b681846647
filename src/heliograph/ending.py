"""The end of the server: one budget of time for all of its stages, from the first sign on.

    signal ─▶ HTTP ─▶ sources ─▶ drain ─▶ connections ─▶ presence ─▶ last seen ─▶ tasks ─▶ store

A stage that is quick leaves its time to those after it. One that is slow is left alone in time
for those after it: what is not committed then was not acknowledged, and comes again.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

# Which part of the budget has gone when a stage is left alone.
HTTP = 0.5
SOURCES = 0.6
DRAIN = 0.8
CONNECTIONS = 0.84
PRESENCE = 0.88
LAST_SEEN = 0.91
TASKS = 0.93
CONFIGURATIONS = 0.95
STORE = 0.98
# What a stage gets that was to be over already, and one that is left alone to notice it.
LEAST_SECONDS = 0.01


class Ending:
    """Knows how much of the budget is left; it lasts from the first `begin` on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # The stages that were left alone, in their order.
        self.unfinished: list[str] = []
        self._began: float | None = None

    def begin(self) -> bool:
        """Start the clock; False: it runs already."""
        if self._began is not None:
            return False
        self._began = time.monotonic()
        return True

    def left(self, until: float = 1.0) -> float:
        """Return the seconds until this part of the budget has gone."""
        spent = 0.0 if self._began is None else time.monotonic() - self._began
        return max(self.seconds * until - spent, LEAST_SECONDS)

    async def stage(self, name: str, work: Coroutine[Any, Any, Any], *, until: float) -> bool:
        """Do the work of a stage; False: it was left alone, or failed, and that is logged."""
        task = asyncio.create_task(work, name=f"end {name}")
        await asyncio.wait({task}, timeout=self.left(until))
        if not task.done():
            self.unfinished.append(name)
            log.warning("a stage of the end was not finished in time", stage=name)
            task.cancel()
            await asyncio.wait({task}, timeout=LEAST_SECONDS)
            return False
        if task.cancelled() or (error := task.exception()) is None:
            return not task.cancelled()
        # The stages after it are no less due.
        log.error("a stage of the end failed", stage=name, exc_info=error)
        return False

"""The shutdown of the server: one budget of time for all of its stages, from the first sign on.

    signal ─▶ HTTP ─▶ sources ─▶ drain ─▶ connections ─▶ presence ─▶ last seen ─▶ tasks ─▶ store

A stage that is quick leaves its time to those after it. One that is slow is abandoned in time
for those after it: what is not committed by then was not acknowledged, and comes again.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

# The share of the budget that has passed when a stage is abandoned.
HTTP = 0.5
SOURCES = 0.6
DRAIN = 0.8
CONNECTIONS = 0.84
PRESENCE = 0.88
LAST_SEEN = 0.91
TASKS = 0.93
CONFIGURATIONS = 0.95
STORE = 0.98
# What a stage gets whose time is up already, and an abandoned one to notice it.
LEAST_SECONDS = 0.01


class Shutdown:
    """The budget of a shutdown, which lasts from the first `begin` on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # The stages that were abandoned, in their order.
        self.unfinished: list[str] = []
        self._began: float | None = None

    def begin(self) -> bool:
        """Start the clock; return false if it runs already."""
        if self._began is not None:
            return False
        self._began = time.monotonic()
        return True

    def left(self, until: float = 1.0) -> float:
        """Return the seconds until this share of the budget has passed."""
        spent = 0.0 if self._began is None else time.monotonic() - self._began
        return max(self.seconds * until - spent, LEAST_SECONDS)

    async def stage(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], until: float
    ) -> bool:
        """Do the work of a stage; return false if it was abandoned or failed, which is logged."""
        task = asyncio.create_task(work(), name=f"shutdown {name}")
        await asyncio.wait({task}, timeout=self.left(until))
        if not task.done():
            self.unfinished.append(name)
            log.warning("shutdown stage not finished in time", stage=name)
            task.cancel()
            await asyncio.wait({task}, timeout=LEAST_SECONDS)
            return False
        if task.cancelled() or (error := task.exception()) is None:
            return not task.cancelled()
        # The stages after it are no less due.
        log.error("shutdown stage failed", stage=name, exc_info=error)
        return False

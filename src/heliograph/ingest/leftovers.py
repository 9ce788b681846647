"""What this server still commits of a sensor whose record another server has erased meanwhile.

Its work has a life beside the pipeline's, which knows nothing of it: so it is a file of its own.
"""

import asyncio
from collections.abc import Collection

from heliograph.errors import HeliographError, RolledBackError, StoreUnavailableError
from heliograph.ingest.pipeline import Pipeline
from heliograph.store import Store

AGAIN_SECONDS = 2.0


class Leftovers:
    """Erases what came in after the last of a sensor was looked for elsewhere."""

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self._store = store
        self._pipeline = pipeline
        self._numbers: set[int] = set()
        self._work = asyncio.Event()

    def erased(self, sensors: Collection[int]) -> None:
        """Take notice that sensors were erased elsewhere that have sent to this server."""
        self._numbers.update(sensors)
        self._work.set()

    def forget(self) -> None:
        """Erase nothing: the database was put back, perhaps to a state that has the sensors."""
        self._numbers.clear()

    async def run(self) -> None:
        """Erase what is left of them once it is committed, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._numbers:
                number = next(iter(self._numbers))
                try:
                    await self._pipeline.passed((number,))
                    await self._store.sensors.erase(number)
                except (HeliographError, StoreUnavailableError, RolledBackError):
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    self._pipeline.latest.forget(number)
                    self._numbers.discard(number)

"""Commit whatever has come in whenever the store is idle: the bare path's group commit."""

import asyncio
from collections.abc import Callable
from typing import Any

from bench.bare_store import BareStore, Row


class BareWriter:
    """Collects rows, and whom to answer after the commit that they are in."""

    def __init__(self, store: BareStore) -> None:
        self.rows: list[Row] = []
        self.due: list[Any] = []
        self.number = 0
        self.committed = 0
        self._store = store
        self._arrived = asyncio.Event()

    def wake(self) -> None:
        """Say that there are rows."""
        self._arrived.set()

    async def run(self, acknowledge: Callable[[list[Any]], None]) -> None:
        """Write for ever, handing those that are `due` to `acknowledge` after each commit."""
        while True:
            if not self.rows:
                self._arrived.clear()
                await self._arrived.wait()
            rows, self.rows = self.rows, []
            due, self.due = self.due, []
            await self._store.write(rows)
            self.committed += len(rows)
            acknowledge(due)

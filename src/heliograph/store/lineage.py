"""What is known of the registry's changes: whether the database is still the one that was read.

A database that is put back to an earlier state counts on from there, and may come to the same
version by other changes, with other sensors under the numbers that are in memory.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple


class RegistryChange(NamedTuple):
    """A change of the registry: its number, and a random token that no other one has."""

    version: int
    token: str


class Lineage:
    """The change up to which the registry is known; None: nothing is kept in memory of it.

    Every transaction that writes makes sure that the database has had this change.
    """

    def __init__(self) -> None:
        self.newest: RegistryChange | None = None
        self._pinned: ContextVar[RegistryChange | None] = ContextVar("change", default=None)

    @property
    def known(self) -> RegistryChange | None:
        """The change that what is written now has to be based on."""
        return self._pinned.get() or self.newest

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Base all that this task writes within on what is known now.

        What was found before the database was put back is not written after it.
        """
        token = self._pinned.set(self._pinned.get() or self.newest)
        try:
            yield
        finally:
            self._pinned.reset(token)

    def pin(self) -> None:
        """Do so for the rest of the task."""
        self._pinned.set(self.newest)

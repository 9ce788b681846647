"""What the store needs of a database."""

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from heliograph.model.batch import Batch, Written
from heliograph.store.lateness import Lateness
from heliograph.store.lineage import Lineage
from heliograph.store.rollup_change import RollupChange

Row: TypeAlias = Sequence[Any]


class Drop(enum.Enum):
    """What became of a partition that was to be dropped."""

    DROPPED = "dropped"
    KEPT = "kept"  # there is something in it that is not due
    BUSY = "busy"  # somebody has used the table for too long


class Transaction(Protocol):
    """An open transaction: committed when its block ends, rolled back when it raises."""

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query and return its rows."""
        ...


class Engine(Protocol):
    """A database. Each instance writes over one connection, in the order of the calls.

    Everything raises `StoreUnavailableError` while the database can't be used, and works again
    by itself once it can. What raised it may be repeated: what had been committed after all is
    found by its ids. What writes raises `RolledBackError` after the database was put back, until
    `lineage` is of the state that it has now.
    """

    @property
    def name(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    @property
    def batch_rows(self) -> int:
        """The rows a commit beyond which more do not make a row cheaper."""
        ...

    @property
    def lateness(self) -> Lateness:
        """Which measurements a write marks as late, for their hours to be rolled up anew."""
        ...

    @property
    def lineage(self) -> Lineage:
        """The change of the registry that all writing has to be based on."""
        ...

    async def follow(self) -> None:
        """Go over to another database that was put in place of the one that is open."""
        ...

    async def written_elsewhere(self) -> bool:
        """Return whether another process has written since the last call, where nobody should."""
        ...

    async def renew(self) -> None:
        """Open all connections anew: what is known by them is of another state."""
        ...

    async def fetch(self, query: str, **parameters: Any) -> Sequence[Row]:
        """Run a named query that reads, beside the writer, and return its rows."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction that may write.

        Raises:
            AlreadyExistsError: a unique name is taken.
            RowError: a value can't be stored.
        """
        ...

    async def write(self, batch: Batch) -> Written:
        """Commit a batch whole, or nothing of it; `Batch.sort` has put its rows in order.

        Raises:
            RowError: it holds a row that the database refuses for what it says.
            ClaimLostError: it holds keys that another server has claimed.
        """
        ...

    async def find_deliveries(self, keys: Sequence[bytes], now: int) -> Sequence[Row]:
        """Return key, id and answer of the deliveries not expired, as the writer sees them."""
        ...

    async def forget_deliveries(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete the deliveries with these keys and ids."""
        ...

    async def drop_partition(
        self, table: str, month: int, *, moment: int, default_days: int
    ) -> Drop:
        """Drop a month of measurements or logs, unless a row of it is not due at the moment."""
        ...

    async def used(self) -> int:
        """Return the bytes that what is stored takes: live pages, and the log of writes."""
        ...

    async def empty_log(self) -> None:
        """Give the room back that the log of writes takes, where it lies beside the database."""
        ...

    async def take_marks(self, until: int, limit: int) -> Sequence[Row]:
        """Return id, sensor and hour of marks up to this id, oldest first.

        What comes late from now on is marked anew, under other ids.
        """
        ...

    async def store_rollups(self, change: RollupChange) -> bool:
        """Commit a change whole; False: rollups have changed since what it was made from."""
        ...

    async def ping(self) -> None:
        """Return when the database answers, or raise after a short time."""
        ...

    async def close(self) -> None:
        """Let the running calls end, then close every connection."""
        ...

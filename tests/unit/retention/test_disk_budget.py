"""When new data is refused, and when no more."""

from types import SimpleNamespace
from typing import Any

import pytest

from heliograph.errors import ErrorCode, StoreUnavailableError
from heliograph.retention.disk_budget import DiskBudget

BUDGET = 1_000


class Database:
    """Tells how much is used as a test says; None: it is away."""

    def __init__(self) -> None:
        self.bytes: int | None = 0

    async def used(self) -> int:
        if self.bytes is None:
            raise StoreUnavailableError("away")
        return self.bytes

    async def empty_log(self) -> None:
        pass


@pytest.mark.parametrize("budget", [BUDGET, 0])
async def test_refusal_has_a_margin(budget: int) -> None:
    database, told = Database(), []
    pipeline: Any = SimpleNamespace(refusal=None)
    store: Any = SimpleNamespace(removal=database)
    disk = DiskBudget(store, pipeline, budget, refusing=told.append)
    # used, is low, is full
    for used, low, full in (
        (0, False, False),
        (899, False, False),
        (900, True, False),
        (880, True, False),
        (879, False, False),
        (899, False, False),
        (999, True, False),
        (1_000, True, True),
        (None, True, True),
        (2_000, True, True),
        (970, True, True),
        (969, True, False),
        (999, True, False),
        (None, True, False),
        (1_000, True, True),
        (10, False, False),
    ):
        database.bytes = used
        await disk.look()
        assert (disk.state.is_low, disk.state.is_full) == (
            (low, full) if budget else (False, False)
        )
        assert (pipeline.refusal is not None) == disk.state.is_full
        if used is not None:
            assert disk.state.used == used
        if pipeline.refusal is not None:
            assert pipeline.refusal().code is ErrorCode.DISK_BUDGET_USED_UP
            # Each of its own: an exception that is raised again and again holds on to its frames.
            assert pipeline.refusal() is not pipeline.refusal()
    assert set(told) == ({True, False} if budget else set())

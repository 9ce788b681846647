"""What several suites use."""

import asyncio
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from postgresql import PROGRAMS, Cluster, running_cluster

# A machine that others use too may stand still for a second: no test may fail for that.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the session's own; whoever stops it starts it again."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed")
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session", autouse=True)
def garbage_left_to_python() -> Iterator[None]:
    """Let servers inside this process not go through all that the tests have loaded and made."""

    async def nothing() -> None:
        await asyncio.get_running_loop().create_future()

    with mock.patch("heliograph.upkeep.collect", nothing):
        yield

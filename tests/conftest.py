"""What several suites use."""

from collections.abc import Iterator

import pytest

from postgresql import PROGRAMS, Cluster, running_cluster


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the session's own; whoever stops it starts it again."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed")
    with running_cluster() as cluster:
        yield cluster

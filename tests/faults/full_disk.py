"""A small disk, and how it becomes full."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from database_copies import migrated_database, migrated_postgresql
from faults.database import Database, PostgresqlDatabase, SqliteFile


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 48 MiB, where PostgreSQL's user gets to as well."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = Path(tempfile.mkdtemp(prefix="heliograph-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_on_small_disk(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[Database]:
    """A database there; PostgreSQL's log is elsewhere.

    Its cluster is no other test's: none of its checkpoints ends while the disk is full, and each
    database that is made or dropped begins by one.
    """
    if request.param == "sqlite":
        path = small_disk / "heliograph.db"
        shutil.copy(migrated_database(), path)
        yield SqliteFile(path)
        return
    cluster = request.getfixturevalue("stoppable_cluster")
    template = migrated_postgresql(cluster)
    space = small_disk / "space"
    space.mkdir()
    shutil.chown(space, "postgres")
    name = f"small_{os.getpid()}"
    cluster.execute(f"CREATE TABLESPACE {name} LOCATION '{space}'")
    cluster.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" TABLESPACE {name}')
    try:
        yield PostgresqlDatabase(cluster, name)
        assert cluster.is_running()
    finally:
        cluster.drop_database(name)
        cluster.execute(f"DROP TABLESPACE {name}")


def fill(folder: Path) -> Path:
    """Leave no byte free, and return the ballast."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4_096)
        except OSError:
            pass
    return ballast

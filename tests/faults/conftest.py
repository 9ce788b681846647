"""Servers in processes of their own, over databases of their own."""

import asyncio
import os
import shutil
from functools import partial

import pytest

from broker import running_mosquitto
from commands import called
from database_copies import migrated_database, migrated_postgresql
from faults.database import PostgresqlDatabase, SqliteFile
from faults.full_disk import database_on_small_disk, small_disk
from faults.packing import PackingServer
from faults.process import ServerProcess
from postgresql import PROGRAMS

__all__ = ["database_on_small_disk", "small_disk"]


def pytest_generate_tests(metafunc):
    """Run each fault in a short form, and where its module says LONG in a long one too."""
    if hasattr(metafunc.module, "LONG"):
        forms = ["short", pytest.param("long", marks=pytest.mark.long)]
        metafunc.parametrize("form", forms, indirect=True)


# Of itself, since pytest drops again what is added to the fixtures that a test names.
@pytest.fixture(autouse=True)
def form(request, monkeypatch):
    """Set the sizes of the long form, as far as no environment variable does."""
    if getattr(request, "param", "short") == "long":
        for name, size in request.module.LONG.items():
            if f"HELIOGRAPH_{name}" not in os.environ:
                monkeypatch.setattr(request.module, name, size)


@pytest.fixture
def sqlite_database(tmp_path):
    path = tmp_path / "heliograph.db"
    shutil.copy(migrated_database(), path)
    return SqliteFile(path)


@pytest.fixture
def postgresql_database(postgresql_cluster, postgresql_template):
    name = postgresql_cluster.create_database(postgresql_template)
    yield PostgresqlDatabase(postgresql_cluster, name)
    postgresql_cluster.drop_database(name)


@pytest.fixture
def other(database, tmp_path, postgresql_cluster):
    """A database of the same kind in which there is nothing, to restore to."""
    if database.engine == "sqlite":
        yield SqliteFile(tmp_path / "restored.db")
        return
    name = postgresql_cluster.create_database()
    yield PostgresqlDatabase(postgresql_cluster, name)
    postgresql_cluster.drop_database(name)


@pytest.fixture
def run_command(tmp_path):
    """Run a command on a database, in a thread of its own."""

    async def run(*arguments, url):
        environment = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "DATABASE_URL": url,
            "DATA_DIRECTORY": str(tmp_path),
        }
        done = await asyncio.to_thread(
            partial(called, *arguments, environment=environment, folder=tmp_path)
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def stoppable_database(stoppable_cluster):
    """A database whose server may be stopped: nobody else uses it."""
    name = stoppable_cluster.create_database(migrated_postgresql(stoppable_cluster))
    yield PostgresqlDatabase(stoppable_cluster, name)
    if not stoppable_cluster.is_running():
        stoppable_cluster.start()
    stoppable_cluster.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return request.getfixturevalue(f"{request.param}_database")


@pytest.fixture
async def make_server(tmp_path):
    """Start servers that are gone when the test is."""
    servers = []

    async def make(database_url, **variables):
        server = ServerProcess(tmp_path, database_url, AUTO_MIGRATE="false", **variables)
        servers.append(server)
        await server.start()
        return server

    yield make
    for server in servers:
        await server.stop()


@pytest.fixture
async def make_packing(tmp_path):
    """Start servers that pack all the time; they are gone when the test is."""
    servers = []

    async def make(database_url, **options):
        server = PackingServer(tmp_path, database_url, **options)
        servers.append(server)
        await server.start()
        return server

    yield make
    for server in servers:
        await server.stop()


@pytest.fixture
async def server(make_server, database):
    return await make_server(database.url)


@pytest.fixture
def broker():
    """A Mosquitto that keeps everything that it acknowledges."""
    with running_mosquitto() as broker:
        yield broker


@pytest.fixture
def make_linked(make_server, database):
    """Start a server that is linked to a broker, with no listener of its own."""

    async def make(url, **variables):
        return await make_server(database.url, MQTT_URL=url, MQTT_LISTEN="", **variables)

    return make


@pytest.fixture
async def linked(make_linked, broker):
    return await make_linked(broker.url)

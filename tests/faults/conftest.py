"""Servers in processes of their own, over databases of their own."""

import shutil

import pytest

from broker import running_mosquitto
from faults.database import PostgresqlDatabase, SqliteFile
from faults.process import ServerProcess
from heliograph.store import run_migrations


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "heliograph.db"
    run_migrations(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_name(postgresql_cluster):
    """The name of a migrated PostgreSQL database, to be copied."""
    name = postgresql_cluster.create_database()
    run_migrations(postgresql_cluster.dsn(name))
    return name


@pytest.fixture
def sqlite_database(migrated_file, tmp_path):
    path = tmp_path / "heliograph.db"
    shutil.copy(migrated_file, path)
    return SqliteFile(path)


@pytest.fixture
def postgresql_database(postgresql_cluster, migrated_name):
    name = postgresql_cluster.create_database(migrated_name)
    yield PostgresqlDatabase(postgresql_cluster, name)
    if not postgresql_cluster.is_running():
        postgresql_cluster.start()
    postgresql_cluster.drop_database(name)


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

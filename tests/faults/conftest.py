"""Servers in processes of their own, over databases of their own."""

import shutil

import pytest

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

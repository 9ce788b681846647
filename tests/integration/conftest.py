"""A store on each engine, on a database of the test's own."""

import contextlib
import shutil
import tempfile
import uuid
from pathlib import Path
from unittest import mock

import pytest
import uvloop

from database_copies import Copies, migrated_database
from heliograph.access import passwords
from heliograph.store import open_store

MEMORY = Path("/dev/shm")
LEAST_ROOM = 1 << 30


def pytest_asyncio_loop_factories(config, item):
    """Run these tests on what the server runs on as its users start it: the cheaper loop, too."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module", autouse=True)
def passwords_cheaper():
    """Hash passwords at a thousandth of the cost; `unit/access` looks at what is made of it."""
    real = f"m={passwords.MEMORY_KIBIBYTES},t={passwords.PASSES},"
    nobodys = passwords._NOBODYS.replace(real, "m=8,t=1,")
    with mock.patch.multiple(passwords, MEMORY_KIBIBYTES=8, PASSES=1, _NOBODYS=nobodys):
        yield


@pytest.fixture(scope="session")
def folders_in_memory():
    """The folder of this process's tests, where a commit waits for no disk; none without room."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < LEAST_ROOM:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="heliograph-tests-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(folders_in_memory, tmp_path_factory):
    if folders_in_memory is None:
        yield tmp_path_factory.mktemp("test")
        return
    folder = Path(tempfile.mkdtemp(dir=folders_in_memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template():
    """The file of a migrated database, to be copied."""
    return migrated_database()


@pytest.fixture(scope="session")
def postgresql_copies(postgresql_cluster, postgresql_template):
    with contextlib.closing(Copies(postgresql_cluster, postgresql_template)) as copies:
        yield copies


@pytest.fixture
def sqlite_url(sqlite_template, tmp_path):
    path = tmp_path / "heliograph.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_cluster, postgresql_copies):
    name = postgresql_copies.take()
    yield postgresql_cluster.dsn(name)
    postgresql_copies.give_back(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    return request.param


@pytest.fixture
def database_url(engine, request):
    """The DATABASE_URL of a migrated, empty database, once on each engine."""
    return request.getfixturevalue(f"{engine}_url")


@pytest.fixture
async def store(database_url):
    store = await open_store(database_url)
    yield store
    await store.close()


@pytest.fixture
def register(store):
    """Return a function that registers a sensor and returns it."""

    async def register(**members):
        members.setdefault("created_at", 1)
        return await store.sensors.create(identifier=str(uuid.uuid4()), **members)

    return register


@pytest.fixture
async def sensor(register):
    """The number of a registered sensor."""
    return (await register()).number

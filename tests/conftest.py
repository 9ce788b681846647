"""What several suites use."""

import asyncio
import contextlib
import functools
import gc
import importlib.util
import inspect
import logging
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
import structlog
from _pytest.runner import runtestprotocol
from asyncpg import Connection
from coverage import Coverage
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from limits.storage import MemoryStorage

import encodable
import shared
from database_copies import migrated_postgresql
from heliograph.store.migrations import running
from postgresql import PROGRAMS, Cluster, running_cluster, shared_cluster
from program import Forked

TESTS = Path(__file__).parent
# Of what all other tests run, each of these adds less than two in a hundred.
UNMEASURED = (
    "acceptance/",
    "faults/",
    "integration/brokers/",
    "integration/configuration/",
    "integration/http/test_audit.py",
    "integration/http/test_everybody.py",
    "integration/http/test_networks.py",
    "integration/http/test_openapi_document.py",
    "integration/mqtt_link/",
    "integration/rights/",
    "integration/store/",
    "unit/http/test_errors.py",
)
# Of those, what runs much that no other measured test does.
MEASURED = ("integration/store/test_chunks.py",)
# Single tests of which the same is true: files, and below each its tests.
UNMEASURED_TESTS = TESTS / "unmeasured.txt"
# What asks of a database only what the store's own tests ask of both engines.
SQLITE_MOSTLY = (
    "acceptance/test_story.py",
    "faults/test_broker_hostile.py",
    "faults/test_hostile.py",
    "integration/cli/test_view_import.py",
    "integration/configuration/",
    "integration/http/",
    "integration/ingest/test_latest_values.py",
    "integration/ingest/test_reports.py",
    "integration/mqtt/",
    "integration/processing/",
    "integration/test_vanished_networks.py",
)
# What measures, where it does not while tests are collected.
RESTING = pytest.StashKey[Coverage]()

# A machine that others use too may stand still for a second: no test may fail for that.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The second is for --hypothesis-profile, as scripts/test --all has it.
settings.register_profile("quick", _patient, max_examples=25)
settings.register_profile("thorough", _patient, max_examples=300)
settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Be what the run lives as long as, unless this is one of its workers."""
    # Started by nohup it would be ignored by all that is started here, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Started in the background by a shell it would ignore this one.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What is read while tests are collected stays; `pytest_collection_finish` looks for garbage.
    gc.disable()
    _measure_tests_alone(config)
    _search_no_module(config)
    config.pluginmanager.register(_SqliteMostly())
    utf_8 = encodable.known()
    utf_8.start()
    config.add_cleanup(utf_8.stop)
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(_BriefWorker())
    else:
        run = contextlib.ExitStack()
        run.enter_context(shared.begin())
        config.add_cleanup(run.close)
        if config.getoption("numprocesses", default=None):
            # Whoever runs a few tests may want to look at the files that they leave.
            config.option.basetemp = config.option.basetemp or shared.folder() / "tests"
            _compile_once(config)


class _BriefWorker:
    """Tells of each test what its call came to, and of its setup and teardown if they fail.

    A worker would send five messages more of each test, and the run's own process read them one by
    one: without them 3,000 tests that do nothing take 11 s of CPU in place of 13.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        return True


def _measure_tests_alone(config: pytest.Config) -> None:
    """Measure what tests do, in this process; what runs as modules are read in one worker only.

    Processes that tests start run what others run in the tests' own: measured, each would take
    half a second longer.
    """
    measuring = Coverage.current()
    if measuring is None or not hasattr(config, "workerinput"):
        return
    os.environ.pop("COVERAGE_PROCESS_START", None)
    if config.workerinput["workerid"] != "gw0":
        measuring.stop()
        config.stash[RESTING] = measuring


def _search_no_module(config: pytest.Config) -> None:
    """Let Hypothesis draw from its own constants, without those of all modules that are loaded.

    In a fresh clone each worker would parse the whole server for them as it collects tests. With
    another profile, such as the thorough one, it does.
    """
    if config.getoption("--hypothesis-profile") is None:
        # None but this function says which modules are a project's own: no setting does.
        patch = mock.patch.object(providers, "is_local_module_file", _no)
        patch.start()
        config.add_cleanup(patch.stop)


def _compile_once(config: pytest.Config) -> None:
    """Compile what all workers read, so that in a fresh clone not each of them does."""
    files = sorted(TESTS.rglob("test_*.py")) + sorted(TESTS.rglob("conftest.py"))
    count = os.cpu_count() or 1

    def compile_share(number: int) -> None:
        if (measuring := Coverage.current()) is not None:
            measuring.stop()
        loader: Any = config.pluginmanager.rewrite_hook
        for path in files[number::count]:
            spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            # It is compiled and kept, and ends at its first import.
            module.__dict__["__builtins__"] = {}
            with contextlib.suppress(ImportError):
                loader.exec_module(module)

    forking = multiprocessing.get_context("fork")
    shares = [forking.Process(target=compile_share, args=(number,)) for number in range(count)]
    for share in shares:
        share.start()
    for share in shares:
        share.join()


def _no(*_: object) -> bool:
    return False


class _SqliteMostly:
    """Leaves to the long run what `SQLITE_MOSTLY` has on PostgreSQL and on SQLite too.

    By default PostgreSQL gets the first such test of each file as well, those that ask which engine
    they are on, and those that are on PostgreSQL alone.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        known, files = {item.nodeid for item in items}, set()
        for item in items:
            test, _, variant = item.nodeid.partition("[")
            path = item.path.relative_to(TESTS).as_posix()
            other = f"{test}[{variant.replace('postgresql', 'sqlite')}"
            if other == item.nodeid or other not in known or not path.startswith(SQLITE_MOSTLY):
                continue
            if path in files and "engine" not in inspect.signature(item.function).parameters:
                item.add_marker("long")
            files.add(path)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask no coverage where little of the code is run that is not run elsewhere too.

    Those are whole folders and files, single tests, what is marked so, and of a test's variants
    all but the first that is on SQLite and in the newer version of MQTT. To measure takes half as
    long again, so that what is told is a lower bound.
    """
    unmeasured, measured = _unmeasured_tests(), set()
    for item in items:
        test, _, variant = item.nodeid.partition("[")
        is_other = "3.1.1" in variant or "postgresql" in variant
        path = item.path.relative_to(TESTS).as_posix()
        name = test.partition("::")[2]
        is_unmeasured = f"{path}::{name}" in unmeasured or (
            path.startswith(UNMEASURED) and path not in MEASURED
        )
        if is_unmeasured or is_other or test in measured:
            item.add_marker("uncovered")
        else:
            measured.add(test)
    if items and hasattr(items[0].config, "workerinput"):
        _mix(items)


def _unmeasured_tests() -> set[str]:
    found, path = set(), ""
    for line in UNMEASURED_TESTS.read_text().splitlines():
        if line.startswith(" "):
            found.add(f"{path}::{line.strip()}")
        elif not line.startswith("#"):
            path = line
    return found


def _mix(items: list[pytest.Item]) -> None:
    """Have files that wait and files that compute run side by side.

    Each worker begins with a part of its own of all tests, and takes from others' when it is
    through. In the order of folders, one worker waits for servers while another computes; so the
    files have an order by chance, the same in all workers. Those of whole programs do not come
    last, when nothing else is left to do beside them.
    """

    def place(item: pytest.Item) -> tuple[float, str]:
        path = item.path.relative_to(TESTS)
        chance = zlib.crc32(str(path).encode()) / 2**32
        return (chance * 0.7 if path.parts[0] in ("acceptance", "faults") else chance, str(path))

    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Ask no coverage of what is marked so."""
    measuring = Coverage.current()
    if measuring is None or item.get_closest_marker("uncovered") is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


@pytest.fixture(scope="session")
def postgresql_cluster() -> Cluster:
    """The PostgreSQL server of the run, not to be stopped."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed")
    return shared_cluster()


@pytest.fixture(scope="session")
def postgresql_template(postgresql_cluster: Cluster) -> str:
    """The name of a migrated database of the run's PostgreSQL server, to be copied."""
    return migrated_postgresql(postgresql_cluster)


@pytest.fixture(scope="session")
def stoppable_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this process's own; whoever stops it starts it again."""
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed")
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Let HTTP clients share what they trust: to read it costs more than most tests."""
    create = functools.cache(httpx.create_ssl_context)
    with mock.patch("httpx._transports.default.create_ssl_context", create):
        yield


@pytest.fixture(scope="session", autouse=True)
def requests_cheaper() -> Iterator[None]:
    """Do without what libraries do beside each request, which costs as much as the request.

    The HTTP client looks through all folders for a library that is not installed, and writes a
    log; what counts requests starts a thread to look for old counts, of which it uses none.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with (
        mock.patch("httpx._transports.asgi.is_running_trio", _no),
        mock.patch.object(MemoryStorage, "_MemoryStorage__schedule_expiry", _no),
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def types_looked_up_once() -> Iterator[None]:
    """Let connections share what PostgreSQL's own types are, whose numbers are the same everywhere.

    Each looks arrays up once: for most tests that is the dearest of all they ask of the server.
    """
    look_up = Connection._introspect_types
    known: dict[frozenset[int], Any] = {}

    async def known_types(connection: Connection, numbers: Iterable[int], limit: float) -> Any:
        wanted = frozenset(numbers)
        if (found := known.get(wanted)) is None:
            found = await look_up(connection, numbers, limit)
            if max(wanted) < 10_000:
                known[wanted] = found
        return found

    with mock.patch.object(Connection, "_introspect_types", known_types):
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_forked() -> Iterator[None]:
    """Let migrations start as quickly as other programs; servers' own processes do as ever."""
    with mock.patch.object(running, "subprocess", Forked):
        yield


@pytest.fixture(scope="session", autouse=True)
def threads_of_sqlite_left() -> Iterator[None]:
    """Let no connection that a failed test has left open keep the run from its end."""
    with mock.patch("aiosqlite.core.Thread", functools.partial(threading.Thread, daemon=True)):
        yield


@pytest.fixture(scope="session", autouse=True)
def garbage_left_to_python() -> Iterator[None]:
    """Let servers inside this process not go through all that the tests have loaded and made."""

    async def nothing() -> None:
        await asyncio.get_running_loop().create_future()

    with mock.patch("heliograph.server.collect_garbage", nothing):
        yield


@pytest.fixture(scope="session", autouse=True)
def loggers_follow() -> Iterator[None]:
    """Let no logger keep the configuration that the first test to use it had."""
    configure = structlog.configure

    def configured(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    with mock.patch.object(structlog, "configure", configured):
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage in what tests make, not in all that has been read, nor what fell off it."""
    gc.freeze()
    gc.enable()
    if (resting := session.config.stash.get(RESTING, None)) is not None:
        resting.start()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Leave the process's logging as it was for the tests that come after."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)

"""The two sides of every comparison as running processes: the server, and the bare paths."""

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Self

from bench.databases import Cluster, Database, SqliteDatabases
from bench.processes import Measured, free_port
from bench.programs import TOPIC, Influxdb, Mosquitto, start_nodered
from bench.result import Sample, alternate
from bench.scale import Profile, Scale
from bench.starting_line import ROOT, Load, LoadError
from bench.stored_rows import COMMAND, StoredRows, server_environment

ADMIN_KEY = "bench-admin-key-d41c9f6e"
SHARED_KEY = "bench-shared-key-7a0b52e8"


@dataclasses.dataclass(frozen=True)
class Side:
    """A running side; the server has two ports, a bare path one that stands for both."""

    process: Measured
    stored: Database | None
    http_port: int
    mqtt_port: int

    @property
    def database(self) -> Database:
        """The side's database."""
        if self.stored is None:
            raise LoadError("this side has no database")
        return self.stored

    def expect(self, sent: int) -> None:
        """Raise unless exactly the rows sent are stored."""
        self.database.expect(sent)


Opened = contextlib.AbstractContextManager[Side]


class Workbench:
    """The folder, the databases and the scale of one run; use it in a `with` statement."""

    def __init__(self, scale: Scale, cache: Path | None = None) -> None:
        self.scale = scale
        # Samples that more than one name is taken of.
        self.kept: dict[str, Any] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="heliograph-bench-"))
        self._sqlite = SqliteDatabases(self._folder, cache or self._folder / "cache")
        self._cluster: Cluster | None = None
        self._influxdbs: dict[Profile, Path] = {}
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster:
            self._cluster.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def database(
        self, engine: str, profile: Profile, *, bare: bool, layout: str = "rowid"
    ) -> Iterator[Database]:
        """Yield a fresh copy of the profile's rows; `layout` is of the bare SQLite table."""
        if engine == "sqlite":
            with self._sqlite.copy(profile, bare=bare, layout=layout) as database:
                yield database
            return
        if self._cluster is None:
            self._cluster = Cluster(self._folder)
        with self._cluster.copy(profile, bare=bare) as database:
            yield database

    @contextlib.contextmanager
    def server(
        self,
        engine: str,
        profile: Profile,
        broker: str = "",
        default: Collection[str] = (),
        **settings: str,
    ) -> Iterator[Side]:
        """Yield the server, ready, on a copy of the profile's rows; linked if there is a broker."""
        with (
            self.database(engine, profile, bare=False) as database,
            self.serving(database, broker, default=default, **settings) as side,
        ):
            yield side

    @contextlib.contextmanager
    def in_place(self, profile: Profile) -> Iterator[Database]:
        """Yield the profile's rows where they are kept from run to run: on SQLite, to be read."""
        with self._sqlite.in_place(profile) as database:
            yield database

    @contextlib.contextmanager
    def serving(
        self,
        database: Database,
        broker: str = "",
        module: str = "",
        default: Collection[str] = (),
        workers: int = 1,
        **settings: str,
    ) -> Iterator[Side]:
        """Yield the server, ready, on a database; `module`: a changed one, of the benchmark's.

        The settings named in `default` are left at what they are without us.
        """
        http_port, mqtt_port = free_port(), free_port()
        folder = self._next_folder()
        usual = {
            "API_SECRET_KEY": ADMIN_KEY,
            "DEVICE_API_KEYS": SHARED_KEY,
            "DATABASE_URL": database.url,
            "DATA_DIRECTORY": str(folder),
            "HOST": "127.0.0.1",
            "PORT": str(http_port),
            "MQTT_LISTEN": "" if broker else f"127.0.0.1:{mqtt_port}",
            "MQTT_URL": broker,
            "MQTT_MAX_CONNECTIONS": "12000",
            "MQTT_MAX_CONNECTIONS_PER_ADDRESS": "12000",
            "RATE_LIMIT_READ": "100000000",
            "RATE_LIMIT_WRITE": "100000000",
            "RATE_LIMIT_INGEST": "100000000",
        }
        wanted = {**usual, **settings}
        environment = server_environment(
            **{name: text for name, text in wanted.items() if name not in default}
        )
        command = [COMMAND, "serve"]
        if module:
            # Not from the folder of that name: modules there have the names of libraries.
            command = [sys.executable, "-P", str(ROOT / "bench" / f"{module}.py")]
        if workers > 1:
            command += ["--workers", str(workers)]
            # The parent says so once all serve.
            environment["LOG_LEVEL"] = "info"
        process = Measured(command, folder / "log", folder=folder, environment=environment)
        try:
            process.wait_until_ready(f"http://127.0.0.1:{http_port}/readyz")
            if workers > 1:
                process.wait_for_output("server started")
            with _telling(process):
                yield Side(process, database, http_port, mqtt_port)
        finally:
            process.stop()

    @contextlib.contextmanager
    def mosquitto(self) -> Iterator[Mosquitto]:
        """Yield a broker that has just been started."""
        broker = Mosquitto(self._next_folder())
        try:
            yield broker
        finally:
            broker.stop()

    @contextlib.contextmanager
    def influxdb(self, profile: Profile) -> Iterator[Influxdb]:
        """Yield an InfluxDB that has just been started on a copy of the profile's rows."""
        if profile not in self._influxdbs:
            filled = self._next_folder()
            with contextlib.closing(Influxdb(filled, 0)) as empty:
                empty.fill(StoredRows.until_now(profile))
            self._influxdbs[profile] = filled
        folder = self._next_folder()
        shutil.copytree(self._influxdbs[profile], folder, dirs_exist_ok=True)
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as copied:
                    os.fsync(copied.fileno())
        try:
            with (
                contextlib.closing(Influxdb(folder, profile.rows)) as database,
                _telling(database.process),
            ):
                yield database
        finally:
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def nodered(self, database: Database, broker: Mosquitto) -> Iterator[Side]:
        """Yield a Node-RED, subscribed, that inserts what the broker brings it."""
        process = start_nodered(self._next_folder(), database.address, broker.port)
        try:
            with _telling(process):
                broker.process.wait_for_output(TOPIC)
                yield Side(process, database, broker.port, broker.port)
        finally:
            process.stop()

    def compared(
        self,
        measure: Callable[[Side], Sample],
        server: Callable[[], Opened],
        bare: Callable[[], Opened],
        rounds: int = 0,
    ) -> tuple[list[Sample], list[Sample]]:
        """Return the samples of both sides, each round of each in a context of its own."""

        def sample(opened: Callable[[], Opened]) -> Sample:
            with opened() as side:
                return measure(side)

        most = self.scale.rounds
        return alternate(min(rounds or most, most), lambda: sample(server), lambda: sample(bare))

    def through_broker(
        self,
        engine: str,
        profile: Profile,
        measure: Callable[[Side, Mosquitto], Sample],
        bare: str,
        *arguments: str,
        rounds: int = 0,
    ) -> tuple[list[Sample], list[Sample]]:
        """Return the samples of both sides of a broker that has just been started."""

        def figure() -> Sample:
            with self.mosquitto() as broker, self.server(engine, profile, broker.url) as side:
                return measure(side, broker)

        def ceiling() -> Sample:
            with (
                self.mosquitto() as broker,
                self.database(engine, profile, bare=True) as database,
                self.beside(bare, database, "--broker", str(broker.port), *arguments) as side,
            ):
                return measure(side, broker)

        most = self.scale.rounds
        return alternate(min(rounds or most, most), figure, ceiling)

    def mqtt_load(self, port: int, sensors: int, **given: Any) -> Load:
        """Return a load of measurements over MQTT: of one gateway, one in a message."""
        usual = {
            "gateway": True,
            "connections": 1,
            "key": ADMIN_KEY,
            "messages": self.scale.messages,
            "warm_up": self.scale.warm_up,
            "measurements": 1,
            "window": self.scale.window,
        }
        return Load("mqtt_load", port=port, sensors=sensors, **{**usual, **given})

    def postgresql_cpu_seconds(self) -> float:
        """Return the CPU time that PostgreSQL's own processes have taken."""
        return self._cluster.cpu_seconds() if self._cluster else 0.0

    @contextlib.contextmanager
    def bare(
        self, module: str, engine: str, profile: Profile, *, layout: str = "rowid"
    ) -> Iterator[Side]:
        """Yield a bare path on a copy of the profile's rows in the bare table."""
        with (
            self.database(engine, profile, bare=True, layout=layout) as database,
            self.beside(module, database) as side,
        ):
            yield side

    @contextlib.contextmanager
    def beside(self, module: str, database: Database, *arguments: str) -> Iterator[Side]:
        """Yield a bare path that runs on a given database."""
        with self._running(module, database, "--url", database.address, *arguments) as side:
            yield side

    @contextlib.contextmanager
    def apart(self, module: str) -> Iterator[Side]:
        """Yield a bare path that needs no database."""
        with self._running(module, None) as side:
            yield side

    @contextlib.contextmanager
    def _running(self, module: str, database: Database | None, *arguments: str) -> Iterator[Side]:
        port = free_port()
        process = Measured(
            [sys.executable, "-m", f"bench.{module}", "--port", str(port), *arguments],
            self._next_folder() / "log",
        )
        try:
            process.wait_for_port(port)
            with _telling(process):
                yield Side(process, database, port, port)
        finally:
            process.stop()

    def _next_folder(self) -> Path:
        self._started += 1
        folder = self._folder / f"process-{self._started}"
        folder.mkdir()
        return folder


@contextlib.contextmanager
def _telling(process: Measured) -> Iterator[None]:
    """Add what the serving process has printed to what went wrong."""
    try:
        yield
    except LoadError as error:
        raise LoadError(f"{error}\n{process.output()}") from error


def cache_folder() -> Path:
    """Return where prepared SQLite files are kept between runs."""
    chosen = os.environ.get("HELIOGRAPH_BENCH_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "heliograph-bench"


def check_space(cache: Path, needed: int) -> None:
    """Raise while the disk can't take the files, before anything is measured."""
    for folder in (cache, Path(tempfile.gettempdir())):
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < needed:
            raise LoadError(f"{folder} has less than {needed >> 30} GiB free")

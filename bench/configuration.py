"""Benchmarks of configurations: from a request to the devices, and their answers back."""

import contextlib
import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator

from bench.configuration_load import ACKNOWLEDGED
from bench.databases import Database
from bench.programs import Mosquitto
from bench.result import Goal, Result, Sample, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError

RATE = Goal(5_000, "figure")
PUSH = Goal(100, "figure", "at most")
POLL_SECONDS = 0.05
PATIENCE = 120.0


def rate(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one request that gives every connected device a revision.

    The clock runs from the request to the last acknowledgment in the database.
    """

    def run(bench: Workbench) -> Result:
        def measure(side: Side, broker: Mosquitto) -> Sample:
            devices = side.database.profile.sensors
            with _load(side, broker, engine, samples=0) as load:
                load.ready()
                _watch(side.database, 0, devices)
                _settled(side.database)
                before, broker_before = side.process.cpu_seconds(), broker.process.cpu_seconds()
                load.signal()
                nearly, ended = _watch(side.database, 1, devices)
                spent = side.process.cpu_seconds() - before
                broker_spent = broker.process.cpu_seconds() - broker_before
                found = load.result()
                _confirm(side.database, {0: devices, 1: devices})
            seconds, per_100k = ended - found["started"], 100_000 / devices
            received = sorted(found["received"])
            extra = {
                "p99": (nearly - found["started"]) * 1_000,
                "total": seconds * 1_000,
                "answered": found["answered"],
                "received_first": received[0],
                "received_median": percentile(received, 0.5),
                "received_p99": percentile(received, 0.99),
                "broker_cpu_seconds_per_100k": broker_spent * per_100k,
            }
            return Sample(devices / seconds, spent * per_100k, extra)

        return Result(name, "acknowledged/s", RATE, *_compared(bench, engine, measure))

    return run


def push(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of one revision for one device at a time: the 99th percentile.

    From the request to the acknowledgment in the database, all devices being connected.
    """

    def run(bench: Workbench) -> Result:
        samples = bench.scale.samples

        def measure(side: Side, broker: Mosquitto) -> Sample:
            devices = side.database.profile.sensors
            with _load(side, broker, engine, samples=samples) as load:
                load.ready()
                _watch(side.database, 0, devices)
                _settled(side.database)
                found = load.run()
                _settled(side.database)
                if (stored := _answers(side.database)) != devices + samples:
                    raise LoadError(f"{stored} of {devices + samples} answers are stored")
            received, acknowledged = sorted(found["received"]), sorted(found["acknowledged"])
            extra = {
                "median": statistics.median(acknowledged),
                "received_median": statistics.median(received),
                "received_p99": percentile(received, 0.99),
            }
            return Sample(percentile(acknowledged, 0.99), None, extra)

        return Result(name, "ms", PUSH, *_compared(bench, engine, measure, rounds=3))

    return run


def _compared(
    bench: Workbench, engine: str, measure: Callable[[Side, Mosquitto], Sample], rounds: int = 0
) -> tuple[list[Sample], list[Sample]]:
    profile = bench.scale.devices
    sensors = "--sensors", str(profile.sensors)
    return bench.through_broker(
        engine, profile, measure, "bare_configuration", *sensors, rounds=rounds
    )


@contextlib.contextmanager
def _load(side: Side, broker: Mosquitto, engine: str, *, samples: int) -> Iterator[Load]:
    """Yield the devices' process, which gives each device a revision 0 to warm up."""
    network = "bare" if side.database.bare else _default_network(side.http_port)
    with Load(
        "configuration_load",
        broker=broker.port,
        port=side.http_port,
        devices=side.database.profile.sensors,
        path=f"/networks/{network}/configurations",
        key=ADMIN_KEY,
        samples=samples,
        engine=engine,
        address=side.database.address,
    ) as load:
        yield load


def _default_network(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/networks", headers={"X-API-Key": ADMIN_KEY})
        networks = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    for network in networks:
        if network["network_name"] == "default":
            return str(network["network_identifier"])
    raise LoadError(f"there is no network called default: {networks}")


def _watch(database: Database, revision: int, count: int) -> tuple[float, float]:
    """Return when 99 % and when all of the devices' answers were seen in the database.

    By the clock of `time.perf_counter`, which is one for all processes.
    """
    nearly: float | None = None
    deadline = time.monotonic() + PATIENCE
    with database.reading() as row:
        while True:
            found, moment = row(ACKNOWLEDGED.format(revision))[0], time.perf_counter()
            if nearly is None and found >= count * 0.99:
                nearly = moment
            if nearly is not None and found >= count:
                return nearly, moment
            if time.monotonic() > deadline:
                raise LoadError(f"{found} of {count} devices have acknowledged {revision}")
            time.sleep(POLL_SECONDS)


def _settled(database: Database) -> None:
    """Return when the server has nothing left to publish or to write down of it."""
    deadline = time.monotonic() + PATIENCE
    while not database.bare and (left := database.count("publication")):
        if time.monotonic() > deadline:
            raise LoadError(f"{left} topics are not up to date")
        time.sleep(POLL_SECONDS)


def _confirm(database: Database, expected: dict[int, int]) -> None:
    """Raise unless each revision was acknowledged once, and nothing is left to be done."""
    _settled(database)
    with database.reading() as row:
        found = {revision: row(ACKNOWLEDGED.format(revision))[0] for revision in expected}
    if found != expected:
        raise LoadError(f"acknowledged are {found} in place of {expected}")
    if (stored := _answers(database)) != sum(expected.values()):
        raise LoadError(f"{stored} answers are stored of {sum(expected.values())}")
    if not database.bare:
        if database.count("rejected_message"):
            raise LoadError("heartbeats were rejected")
        missing = "configuration WHERE publication_timestamp IS NULL"
        if unpublished := database.count(missing):
            raise LoadError(f"{unpublished} revisions are not said to be published")


def _answers(database: Database) -> int:
    """Return how many answers of devices are stored, those that say the same again included."""
    if not database.bare:
        return database.count("heartbeat")
    return int(database.text("SELECT coalesce(sum(answers), 0) FROM configuration"))

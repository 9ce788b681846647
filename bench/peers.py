"""Benchmarks against what else people run: the ceiling is the peer.

The CPU time is that of all processes of a side, the broker and PostgreSQL included.
"""

import time
from collections.abc import Callable

from bench import programs
from bench.http_ingest import batches, singles
from bench.processes import Measured
from bench.result import Goal, Result, Sample, alternate
from bench.sides import Side, Workbench
from bench.starting_line import LoadError

GOAL = Goal(1)
WARM_UP = 1_000
POLL_SECONDS = 0.02
PATIENCE = 300.0


def script(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark against a subscriber that commits message by message."""

    def run(bench: Workbench) -> Result:
        def ceiling() -> Sample:
            with (
                bench.mosquitto() as broker,
                bench.database(engine, bench.scale.standard, bare=True) as database,
                bench.beside("peer_script", database, "--broker", str(broker.port)) as side,
            ):
                return _until_stored(bench, side, broker.port, side.process, broker.process)

        return _against_subscriber(bench, name, engine, ceiling)

    return run


def nodered_sqlite(bench: Workbench) -> Result:
    """Return the benchmark against a flow of Node-RED."""

    def ceiling() -> Sample:
        with (
            bench.mosquitto() as broker,
            bench.database("sqlite", bench.scale.standard, bare=True) as database,
            bench.nodered(database, broker) as side,
        ):
            processes = side.process, broker.process
            return _until_stored(bench, side, broker.port, *processes, in_order=False)

    return _against_subscriber(bench, "peer-nodered-sqlite", "sqlite", ceiling)


def _against_subscriber(
    bench: Workbench, name: str, engine: str, ceiling: Callable[[], Sample]
) -> Result:
    """Return our own listener's rate against that of what subscribes to a Mosquitto.

    The clock runs from the first message until each of them is a row that another connection
    finds.
    """

    def figure() -> Sample:
        with bench.server(engine, bench.scale.standard) as side:
            return _until_stored(bench, side, side.mqtt_port, side.process)

    return Result(name, "messages/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))


def newest(messages: int, warm_up: int, sensors: int) -> tuple[int, int]:
    """Return whose the last message is, and how many rows of that sensor were sent in all.

    Messages go over the sensors in turn, which begin anew after the warm-up.
    """
    index = (messages - 1) % sensors
    return index + 1, sum(len(range(index, count, sensors)) for count in (warm_up, messages))


def _until_stored(
    bench: Workbench, side: Side, port: int, *processes: Measured, in_order: bool = True
) -> Sample:
    """Return the rate of rows until the last is found, and what a message cost all of a side.

    `in_order`: the last message's row is the last; else the bare SQLite table's ids tell how many
    there are.
    """
    scale, database = bench.scale, side.database
    sensors, messages = database.profile.sensors, scale.script_messages
    warm_up = min(scale.warm_up, WARM_UP)

    def cpu_seconds() -> float:
        spent = sum(process.cpu_seconds() for process in processes)
        return spent + (bench.postgresql_cpu_seconds() if database.engine == "postgresql" else 0.0)

    with (
        bench.mqtt_load(port, sensors, messages=messages, warm_up=warm_up) as load,
        database.reading() as row,
    ):

        def wait_for(messages: int, warm_up: int) -> None:
            """Return when all of them are found."""
            sensor, rows = newest(messages, warm_up, sensors)
            query = f"SELECT count(*) FROM measurement WHERE sensor = {sensor}"
            expected = rows + database.profile.rows_per_sensor
            if not in_order:
                query = "SELECT max(id) FROM measurement"
                expected = messages + warm_up + database.profile.rows
            deadline = time.monotonic() + PATIENCE
            while row(query)[0] < expected:
                if time.monotonic() > deadline:
                    raise LoadError(f"not stored after {PATIENCE:g} seconds")
                time.sleep(POLL_SECONDS)

        load.ready()
        wait_for(warm_up, 0)
        before, started = cpu_seconds(), time.perf_counter()
        load.run()
        wait_for(messages, warm_up)
        seconds = time.perf_counter() - started
        spent = cpu_seconds() - before
    side.expect(warm_up + messages)
    return Sample(messages / seconds, spent / messages * 100_000)


def influxdb_single(bench: Workbench) -> Result:
    """Return single readings over HTTP against InfluxDB's."""
    return _against_influxdb(bench, "peer-influxdb-single", "requests/s", singles)


def influxdb_batch(bench: Workbench) -> Result:
    """Return batches of readings over HTTP against InfluxDB's."""
    return _against_influxdb(bench, "peer-influxdb-batch", "rows/s", batches)


def _against_influxdb(
    bench: Workbench, name: str, unit: str, measured: Callable[..., Sample]
) -> Result:
    profile = bench.scale.standard

    def figure() -> Sample:
        with bench.server("sqlite", profile) as side:
            return measured(bench, side)

    def ceiling() -> Sample:
        with bench.influxdb(profile) as database:
            return measured(bench, database, "lines")

    return Result(name, unit, GOAL, *alternate(bench.scale.rounds, figure, ceiling))


def missing() -> dict[str, str]:
    """Return what this machine lacks for which benchmark."""
    lacking: dict[str, str] = {}
    if not programs.influxd():
        missing = programs.INFLUXDB_MISSING
        lacking["peer-influxdb-batch"] = lacking["peer-influxdb-single"] = missing
    if not programs.node_red():
        lacking["peer-nodered-sqlite"] = programs.NODERED_MISSING
    return lacking

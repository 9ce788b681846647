"""Benchmarks against what else people run: the ceiling is the peer.

The CPU time is that of all processes of a side, the broker and PostgreSQL included.
"""

import time
from collections.abc import Callable

from bench import influxdb
from bench.comparison import alternate
from bench.http_ingest import batches, singles
from bench.mosquitto import Mosquitto
from bench.processes import Measured
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load, LoadError
from bench.through_broker import through_broker

GOAL = Goal(1)
WARM_UP = 1_000
POLL_SECONDS = 0.02
PATIENCE = 300.0


def script(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark against a subscriber that commits message by message.

    The clock runs from the first message until each of them is a row that another connection
    finds. The messages go to our own listener, and to the script through Mosquitto.
    """

    def run(bench: Workbench) -> Result:
        profile = bench.scale.standard

        def figure() -> Sample:
            with bench.server(engine, profile) as side:
                return _until_stored(bench, side, side.mqtt_port, side.process)

        def measure(side: Side, broker: Mosquitto) -> Sample:
            return _until_stored(bench, side, broker.port, side.process, broker.process)

        _, ceiling = through_broker(bench, engine, profile, measure, "peer_script")
        return Result(name, "messages/s", GOAL, *alternate(bench.scale.rounds, figure, ceiling))

    return run


def newest(messages: int, warm_up: int, sensors: int) -> tuple[int, int]:
    """Return whose the last message is, and how many rows of that sensor were sent in all.

    Messages go over the sensors in turn, which begin anew after the warm-up.
    """
    index = (messages - 1) % sensors
    return index + 1, sum(len(range(index, count, sensors)) for count in (warm_up, messages))


def _until_stored(bench: Workbench, side: Side, port: int, *processes: Measured) -> Sample:
    """Return the rate of rows until the last is found, and what a message cost all of a side."""
    scale, database = bench.scale, side.database
    sensors, messages = database.profile.sensors, scale.script_messages
    warm_up = min(scale.warm_up, WARM_UP)

    def cpu_seconds() -> float:
        spent = sum(process.cpu_seconds() for process in processes)
        return spent + (bench.postgresql_cpu_seconds() if database.engine == "postgresql" else 0.0)

    with (
        Load(
            "mqtt_load",
            port=port,
            gateway=True,
            connections=1,
            sensors=sensors,
            key=ADMIN_KEY,
            messages=messages,
            warm_up=warm_up,
            measurements=1,
            window=scale.window,
        ) as load,
        database.reading() as row,
    ):

        def wait_for(sensor: int, sent: int) -> None:
            """Return when the sensor has so many rows more: both sides commit in order."""
            expected = sent + database.profile.rows_per_sensor
            deadline = time.monotonic() + PATIENCE
            while row(f"SELECT count(*) FROM measurement WHERE sensor = {sensor}")[0] < expected:
                if time.monotonic() > deadline:
                    raise LoadError(f"not stored after {PATIENCE:g} seconds")
                time.sleep(POLL_SECONDS)

        load.ready()
        wait_for(*newest(warm_up, 0, sensors))
        before, started = cpu_seconds(), time.perf_counter()
        load.run()
        wait_for(*newest(messages, warm_up, sensors))
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
    if influxdb.program():
        return {}
    return dict.fromkeys(("peer-influxdb-batch", "peer-influxdb-single"), influxdb.MISSING)

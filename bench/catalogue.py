"""Every benchmark by its name."""

from collections.abc import Callable, Mapping, Sequence

from bench import (
    attacks,
    broker_ingest,
    configuration,
    export,
    file_export,
    file_import,
    http_ingest,
    live,
    memory,
    mqtt_ingest,
    peers,
    query,
    reading,
    rolling_up,
)
from bench.result import Result
from bench.sides import Workbench

Benchmark = Callable[[Workbench], Result]


def catalogue() -> dict[str, Benchmark]:
    """Return the benchmarks in the order in which they run."""
    found: dict[str, Benchmark] = {}
    for engine in ("sqlite", "postgresql"):
        for suffix, measurements, few in (
            ("1", 1, False),
            ("10", 10, False),
            ("1-100sensors", 1, True),
            ("10-100sensors", 10, True),
        ):
            name = f"mqtt-{engine}-{suffix}"
            found[name] = mqtt_ingest.rate(name, engine, measurements=measurements, few=few)
    name = "mqtt-sqlite-1-100connections"
    found[name] = mqtt_ingest.rate(name, "sqlite", connections=100)
    for engine in ("sqlite", "postgresql"):
        for measurements in (1, 10):
            name = f"broker-{engine}-{measurements}"
            found[name] = broker_ingest.rate(name, engine, measurements=measurements)
    for engine in ("sqlite", "postgresql"):
        name = f"configuration-{engine}"
        found[name] = configuration.rate(name, engine)
    for engine in ("sqlite", "postgresql"):
        name = f"configuration-push-{engine}"
        found[name] = configuration.push(name, engine)
    for engine in ("sqlite", "postgresql"):
        found[f"http-single-{engine}"] = http_ingest.single(f"http-single-{engine}", engine)
        found[f"http-batch-{engine}"] = http_ingest.batch(f"http-batch-{engine}", engine)
    for name, engine, in_turn in (
        ("import-sqlite", "sqlite", True),
        ("import-sqlite-by-sensor", "sqlite", False),
        ("import-postgresql", "postgresql", True),
    ):
        found[name] = file_import.rate(name, engine, in_turn=in_turn)
    for form in file_export.QUERIES:
        found[f"export-{form}-sqlite"] = file_export.rate(f"export-{form}-sqlite", "sqlite", form)
    found["export-csv-postgresql"] = file_export.rate("export-csv-postgresql", "postgresql", "csv")
    found["mqtt-beside-http"] = mqtt_ingest.beside_http
    for start, shown in (("idle", False), ("live", True)):
        for end, share, goal in (("median", 0.5, 10), ("p99", 0.99, 50)):
            name = f"{start}-latency-{end}"
            found[name] = mqtt_ingest.latency(name, live=shown, share=share, goal=goal)
    for engine, suffix in (("sqlite", ""), ("postgresql", "-postgresql")):
        found[f"last-value{suffix}"] = reading.last_value(f"last-value{suffix}", engine)
        found[f"history-page{suffix}"] = reading.history_page(f"history-page{suffix}", engine)
    for name, attribute in (("query-year", "temperature"), ("query-year-all", None)):
        found[name] = query.year(name, attribute)
    found["query-chart"] = query.chart
    found["query-deep-page"] = query.deep_page
    found["query-newest"] = query.newest_of_network
    found["query-rollup-cost"] = rolling_up.cost
    found["query-export"] = export.beside_ingest
    found["query-export-memory"] = export.memory
    found["memory-idle"] = memory.idle
    found["memory-flood"] = memory.flood
    found["idle-connections"] = memory.connections
    for name, under_way in (("live-fan-out", 1), ("live-fan-out-4", 4)):
        found[name] = live.fan_out(name, under_way)
    found["live-idle-viewer"] = live.idle_viewers
    found["live-stalled-p99"] = live.stalled_viewers
    found |= attacks.kinds()
    for engine in ("sqlite", "postgresql"):
        found[f"peer-script-{engine}"] = peers.script(f"peer-script-{engine}", engine)
    found["peer-nodered-sqlite"] = peers.nodered_sqlite
    found["peer-influxdb-batch"] = peers.influxdb_batch
    found["peer-influxdb-single"] = peers.influxdb_single
    return found


def chosen(
    names: Sequence[str], known: Sequence[str], missing: Mapping[str, str] | None = None
) -> list[str]:
    """Return the names to run, in the catalogue's order; a name's beginning stands for all.

    `missing` tells of names what this machine lacks for them: all and beginnings leave them out.

    Raises:
        ValueError: a name is the beginning of none, or just that one is missing something.
    """
    missing = missing or {}
    found: set[str] = set() if names else set(known)
    for name in names:
        if name in missing:
            raise ValueError(f"{name}: {missing[name]}")
        matching = {name} if name in known else {n for n in known if n.startswith(name)}
        if not matching:
            raise ValueError(f"no benchmark {name!r}; there are: {', '.join(known)}")
        found |= matching
    return [name for name in known if name in found and name not in missing]

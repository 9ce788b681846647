"""`python -m bench`: run the benchmarks by name, all of them unless named."""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable

from bench import (
    attacks,
    configuration,
    dashboard,
    history,
    http_ingest,
    live,
    memory,
    messages,
    mqtt_ingest,
    packed,
    packing,
    peers,
    query,
    rules,
    targets,
    transfers,
    workers,
)
from bench.result import Result, show
from bench.scale import FULL, QUICK, Scale
from bench.sides import Workbench, cache_folder, check_space
from bench.starting_line import LoadError, raise_open_files

OPEN_FILES = 16_000
SPACE = 4 << 30
ENGINES = ("sqlite", "postgresql")

Benchmark = Callable[[Workbench], Result]


def catalogue() -> dict[str, Benchmark]:
    """Return the benchmarks by name, in the order in which they run."""
    found: dict[str, Benchmark] = {}

    def add(name: str, make: Callable[..., Benchmark], *args: object, **options: object) -> None:
        found[name] = make(name, *args, **options)

    for engine in ENGINES:
        for few in (False, True):
            for count in (1, 10):
                name = f"mqtt-{engine}-{count}{'-100sensors' * few}"
                add(name, mqtt_ingest.rate, engine, measurements=count, few=few)
    add("mqtt-sqlite-1-100connections", mqtt_ingest.rate, "sqlite", connections=100)
    found |= history.kinds()
    for engine in ENGINES:
        for count in (1, 10):
            name = f"broker-{engine}-{count}"
            add(name, mqtt_ingest.broker_rate, engine, measurements=count)
    for name, make in (
        ("configuration", configuration.rate),
        ("configuration-push", configuration.push),
        ("http-single", http_ingest.single),
        ("http-batch", http_ingest.batch),
    ):
        for engine in ENGINES:
            add(f"{name}-{engine}", make, engine)
    add("import-sqlite", transfers.importing, "sqlite", in_turn=True)
    add("import-sqlite-by-sensor", transfers.importing, "sqlite", in_turn=False)
    add("import-postgresql", transfers.importing, "postgresql", in_turn=True)
    for form in transfers.QUERIES:
        add(f"export-{form}-sqlite", transfers.exporting, "sqlite", form)
    add("export-csv-postgresql", transfers.exporting, "postgresql", "csv")
    found["mqtt-beside-http"] = mqtt_ingest.beside_http
    for start, shown in (("idle", False), ("live", True)):
        for end, share, goal in (("median", 0.5, 10), ("p99", 0.99, 50)):
            name = f"{start}-latency-{end}"
            add(name, mqtt_ingest.latency, live=shown, share=share, goal=goal)
    for engine, suffix in zip(ENGINES, ("", "-postgresql"), strict=True):
        add(f"last-value{suffix}", query.last_value, engine)
        add(f"history-page{suffix}", query.history_page, engine)
    for engine in ENGINES:
        add(f"messages-{engine}", messages.queries, engine)
    add("query-year", query.year, "temperature")
    add("query-year-all", query.year, None)
    found |= {
        "query-chart": query.chart,
        "query-deep-page": query.deep_page,
        "query-newest": query.newest_of_network,
        "query-rollup-cost": mqtt_ingest.rollup_cost,
        "query-export": transfers.beside_ingest,
        "query-export-memory": transfers.memory,
        "memory-idle": memory.idle,
        "memory-flood": memory.flood,
        "idle-connections": memory.connections,
    }
    add("live-fan-out", live.fan_out, 1)
    add("live-fan-out-4", live.fan_out, 4)
    found["live-idle-viewer"] = live.idle_viewers
    found["live-stalled-p99"] = live.stalled_viewers
    found |= dashboard.kinds()
    for engine in ENGINES:
        for kind, of_engine in targets.KINDS.items():
            found[targets.name(kind, engine)] = of_engine(engine)
    found |= packed.kinds()
    found |= packing.kinds()
    found |= rules.kinds()
    found |= workers.kinds()
    found |= attacks.kinds()
    for engine in ENGINES:
        add(f"peer-script-{engine}", peers.script, engine)
    found["peer-nodered-sqlite"] = peers.nodered_sqlite
    found["peer-influxdb-batch"] = peers.influxdb_batch
    found["peer-influxdb-single"] = peers.influxdb_single
    return found


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the server against the bare path, both in the same run.",
    )
    made.add_argument("names", nargs="*", help="names or their beginnings; all unless given")
    made.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    made.add_argument("--quick", action="store_true", help="small counts: does it work at all?")
    made.add_argument("--rounds", type=int, help="rounds of each side")
    made.add_argument("--gateways", type=int, help="connections that carry an MQTT load")
    made.add_argument("--list", action="store_true", help="print the names")
    return made


def chosen(asked: list[str], known: list[str], missing: dict[str, str]) -> list[str]:
    """Return the names to run, in the catalogue's order; a name's beginning stands for all.

    `missing` tells of names what this machine lacks for them: all and beginnings leave them out.

    Raises:
        ValueError: a name is the beginning of none, or just that one is missing something.
    """
    for name in asked:
        if name in missing:
            raise ValueError(f"{name}: {missing[name]}")
        if not any(each.startswith(name) for each in known):
            raise ValueError(f"no benchmark {name!r}; there are: {', '.join(known)}")
    wanted = [each for each in known if not asked or _is_asked(each, asked, known)]
    for name in wanted:
        if name in missing:
            print(f"{name}: left out, {missing[name]}", file=sys.stderr)
    return [name for name in wanted if name not in missing]


def _is_asked(name: str, asked: list[str], known: list[str]) -> bool:
    return any(name == each or (each not in known and name.startswith(each)) for each in asked)


def _space(name: str) -> int:
    """Return the bytes that a benchmark needs on the disk."""
    if name in transfers.BESIDE_INGEST:
        return transfers.SPACE
    return query.SPACE if name in query.OF_THE_YEAR else SPACE


def main() -> int:
    """Run, print, and return the exit status; a missed goal is no failure, a lost row is."""
    options = parser().parse_args()
    # As Ctrl-C does: the servers started here end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    benchmarks, missing = catalogue(), peers.missing() | rules.missing() | dashboard.missing()
    if options.list:
        for name in benchmarks:
            print(f"{name} ({missing[name]})" if name in missing else name)
        return 0
    try:
        names = chosen(options.names, list(benchmarks), missing)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    scale: Scale = QUICK if options.quick else FULL
    for member in ("rounds", "gateways"):
        if (number := getattr(options, member)) is not None:
            scale = dataclasses.replace(scale, **{member: max(1, number)})
    results: list[Result] = []
    cache = None if options.quick else cache_folder()
    try:
        raise_open_files(OPEN_FILES)
        if cache:
            check_space(cache, max(map(_space, names), default=0))
        with Workbench(scale, cache) as bench:
            for name in names:
                started = time.monotonic()
                results.append(benchmarks[name](bench))
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    except (LoadError, OSError) as error:
        print(
            f"{names[len(results)] if len(results) < len(names) else ''}: {error}", file=sys.stderr
        )
        return 1
    if options.json:
        print(json.dumps({result.name: result.document() for result in results}))
    else:
        show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench`: run the benchmarks by name, all of them unless named."""

import argparse
import dataclasses
import json
import signal
import sys
import time

from bench import export, peers, query
from bench.bare_store import INSERTS
from bench.catalogue import catalogue, chosen
from bench.limits import raise_open_files
from bench.result import Result, show
from bench.scale import FULL, QUICK, Scale
from bench.sides import Workbench, cache_folder, check_space
from bench.starting_line import LoadError

OPEN_FILES = 16_000
SPACE = 4 << 30


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
    made.add_argument(
        "--insert",
        choices=INSERTS,
        default="json",
        help="how the bare listener and route fill SQLite: json_each, or many rows of values",
    )
    made.add_argument("--list", action="store_true", help="print the names")
    return made


def _space(name: str) -> int:
    """Return the bytes that a benchmark needs on the disk."""
    if name in export.NAMES:
        return export.SPACE
    return query.SPACE if name in query.OF_THE_YEAR else SPACE


def main() -> int:
    """Run, print, and return the exit status; a missed goal is no failure, a lost row is."""
    options = parser().parse_args()
    # As Ctrl-C does: the servers started here end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    benchmarks, missing = catalogue(), peers.missing()
    if options.list:
        for name in benchmarks:
            print(f"{name} ({missing[name]})" if name in missing else name)
        return 0
    try:
        names = chosen(options.names, list(benchmarks), missing)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for name in chosen(options.names, list(benchmarks)):
        if name in missing:
            print(f"{name}: left out, {missing[name]}", file=sys.stderr)
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
        with Workbench(scale, cache, options.insert) as bench:
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

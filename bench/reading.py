"""Benchmarks of reading: a deep page of history and the last value, against the bare query."""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from bench.bare_query import open_query
from bench.comparison import alternate
from bench.database import Database
from bench.packets import identifier
from bench.result import Goal, Result, Sample
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import Load
from bench.stored_rows import middle
from heliograph.store import open_store

Call: TypeAlias = Callable[[], Awaitable[object]]

GOAL = Goal(1.5, "ratio", "at most")
PAGE = f"/sensors/{identifier(1)}/measurements?creation_timestamp={{key}}&limit="
LATEST = f"/sensors/{identifier(1)}/latest"
WARM_UP = 30


def history_page(name: str, engine: str, limit: int = 64) -> Callable[[Workbench], Result]:
    """Return the benchmark of a page from the middle of a long history."""
    bare = f"/page?creation_timestamp={{key}}&limit={limit}"
    return _compared(name, engine, PAGE + str(limit), bare, limit)


def last_value(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of the newest value of each attribute."""
    return _compared(name, engine, LATEST, "/latest", None)


def _compared(
    name: str, engine: str, path: str, bare_path: str, limit: int | None
) -> Callable[[Workbench], Result]:
    def run(bench: Workbench) -> Result:
        profile, samples = bench.scale.deep, bench.scale.samples
        # Both sides read one database at once: the server writes nothing meanwhile.
        with (
            bench.server(engine, profile) as server,
            bench.beside("bare_http", server.database, "--reads") as bare,
        ):
            keys = middle(*server.database.times())

            def measure(side: Side, asked: str) -> Sample:
                with Load(
                    "http_latency",
                    port=side.http_port,
                    path=asked,
                    key=ADMIN_KEY,
                    keys=keys,
                    samples=samples,
                ) as load:
                    load.ready()
                    before = side.process.cpu_seconds()
                    found = load.run()
                    spent = side.process.cpu_seconds() - before
                latencies = sorted(found["latencies"])
                return Sample(
                    statistics.median(latencies),
                    spent / samples * 100_000,
                    {"p99": latencies[int(samples * 0.99) - 1], "bytes": found["bytes"]},
                )

            figures, ceilings = alternate(
                bench.scale.rounds, lambda: measure(server, path), lambda: measure(bare, bare_path)
            )
            extra = asyncio.run(_without_http(server.database, limit, keys, samples))
        return Result(name, "ms", GOAL, figures, ceilings, extra)

    return run


async def _without_http(
    database: Database, limit: int | None, keys: tuple[float, float], samples: int
) -> dict[str, float | None]:
    """Return the medians of the store's method and of the bare query, taken in turn."""
    store, query = await open_store(database.url), await open_query(database.address)
    chosen = random.Random(2)
    ours: list[float] = []
    bare: list[float] = []
    try:
        for index in range(samples + WARM_UP):
            key = int(chosen.uniform(*keys) * 1e6)
            pair: tuple[Call, Call]
            if limit is None:
                pair = partial(store.measurements.latest, 1), partial(query.latest, 1)
            else:
                page = store.measurements.page
                pair = (
                    partial(page, 1, key=key, direction="next", limit=limit),
                    partial(query.page, 1, key, limit),
                )
            turns: list[tuple[Call, list[float]]] = list(zip(pair, (ours, bare), strict=True))
            # Whoever comes second finds the pages in the cache.
            for call, times in reversed(turns) if index % 2 else turns:
                times.append(await _timed(call))
    finally:
        await query.close()
        await store.close()
    figure, ceiling = statistics.median(ours[WARM_UP:]), statistics.median(bare[WARM_UP:])
    return {
        "store_figure": round(figure, 4),
        "store_ceiling": round(ceiling, 4),
        "store_ratio": round(figure / ceiling, 3),
    }


async def _timed(call: Call) -> float:
    started = time.perf_counter()
    await call()
    return (time.perf_counter() - started) * 1_000

"""The bare table write of batches: rows built beforehand, a commit a batch.

SQLite: one INSERT of many rows; PostgreSQL: one COPY.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from bench.bare_store import COLUMNS, Row, open_bare, sqlite_connection
from bench.packets import value
from bench.starting_line import report, wait_for_go


def built(count: int, size: int, sensors: int, first: int) -> list[list[Row]]:
    """Return batches of rows over the sensors in turn."""
    base, text = int(time.time() * 1e6) - 3_600_000_000, value(0)
    return [
        [
            (index % sensors + 1, base + index * 1_000, index, base, None, text)
            for index in range(at, at + size)
        ]
        for at in range(first, first + count * size, size)
    ]


def sqlite_insert(url: str, size: int) -> Callable[[list[Row]], Awaitable[None]]:
    """Return what writes a batch of exactly `size` rows."""
    database = sqlite_connection(url)
    places = ", ".join(["(" + ", ".join("?" * len(COLUMNS)) + ")"] * size)
    insert = f"INSERT INTO measurement ({', '.join(COLUMNS)}) VALUES {places}"

    async def write(rows: list[Row]) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute(insert, [column for row in rows for column in row])
        database.execute("COMMIT")

    return write


async def main() -> None:
    given = json.loads(sys.argv[1])
    size, sensors, warm_up = given["readings"], given["sensors"], given["warm_up"]
    batches = built(given["requests"], size, sensors, warm_up * size)
    write: Callable[[list[Row]], Awaitable[None]]
    if given["url"].startswith("postgresql://"):
        write = (await open_bare(given["url"])).write
    else:
        write = sqlite_insert(given["url"], size)
    for rows in built(warm_up, size, sensors, 0):
        await write(rows)
    await asyncio.to_thread(wait_for_go)
    started, processor = time.perf_counter(), time.process_time()
    for rows in batches:
        await write(rows)
    report(
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - processor,
        requests=len(batches),
    )


if __name__ == "__main__":
    uvloop.run(main())

"""The bare HTTP routes: Starlette under uvicorn, uvloop and httptools.

`POST /ingest` decodes, commits and answers 201. The GET routes run one query on the server's
own tables through the same driver and encode the rows as the server's answers are encoded.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import aiosqlite
import asyncpg
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.bare_store import BareWriter, encode, open_bare, options

PAGE = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} AND timestamp > {1} ORDER BY timestamp, fingerprint LIMIT {2}"
)
LATEST = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} ORDER BY timestamp DESC, fingerprint DESC LIMIT 1"
)
RANGE = (
    "SELECT timestamp, revision, value FROM measurement"
    " WHERE sensor = {0} AND timestamp >= {1} AND timestamp < {2} ORDER BY timestamp, fingerprint"
)
ROLLUPS = (
    "SELECT start, packed FROM rollup"
    " WHERE sensor = {0} AND level = 3600 AND start >= {1} AND start < {2} ORDER BY start"
)
NEWEST = (
    "SELECT newest.timestamp, newest.revision, newest.value FROM sensor"
    " JOIN measurement AS newest ON newest.id = ("
    "SELECT id FROM measurement WHERE measurement.sensor = sensor.number"
    " ORDER BY timestamp DESC, fingerprint DESC LIMIT 1) ORDER BY sensor.number"
)
QUERY_TIMEOUT = 30.0

decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Rows = Sequence[Any]


class BareQuery(Protocol):
    """Reads rows of timestamp, revision, value; or of what the query has."""

    async def read(self, query: str, *values: int) -> Rows: ...

    async def close(self) -> None: ...


class Sqlite:
    """A reading connection in its own thread."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database

    async def read(self, query: str, *values: int) -> Rows:
        """Return what any of the queries above finds."""
        statement = query.format(*"?" * len(values))
        async with asyncio.timeout(QUERY_TIMEOUT):
            return list(await self._database.execute_fetchall(statement, values))

    async def close(self) -> None:
        await self._database.close()


class Postgresql:
    """A pooled connection a query."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def read(self, query: str, *values: int) -> Rows:
        """Return what any of the queries above finds."""
        statement = query.format("$1", "$2", "$3")
        found: Rows = await self._pool.fetch(statement, *values, timeout=QUERY_TIMEOUT)
        return found

    async def close(self) -> None:
        await self._pool.close()


async def open_query(url: str) -> BareQuery:
    """Return the queries on a PostgreSQL URL or the path of a SQLite file."""
    if url.startswith("postgresql://"):
        return Postgresql(await asyncpg.create_pool(url, min_size=2, max_size=4, timeout=10))
    return Sqlite(await aiosqlite.connect(url, isolation_level=None, timeout=QUERY_TIMEOUT))


def answer(content: Any, status: int = 200) -> Response:
    """Return JSON."""
    return Response(encode(content), status, media_type="application/json")


def encodable(rows: Rows) -> list[dict[str, Any]]:
    """Return rows as the server's pages have them."""
    return [
        {
            "revision": revision,
            "creation_timestamp": timestamp / 1e6,
            "measurement": msgspec.Raw(value.encode()),
        }
        for timestamp, revision, value in rows
    ]


def resolve(due: list[asyncio.Future[None]]) -> None:
    """Let every request go on whose row is committed."""
    for future in due:
        future.set_result(None)


class Ingest:
    """Takes readings."""

    writer: BareWriter

    async def post(self, request: Request) -> Response:
        """Answer 201 after the commit."""
        reading = decode(await request.body())
        stamp = int(float(bytes(reading.pop("timestamp"))) * 1e6)
        device = request.headers["x-api-key"][-12:]
        self.writer.number += 1
        number, receipt = self.writer.number, int(time.time() * 1e6)
        row = (int(device), stamp, number, receipt, None, encode(reading).decode())
        future = asyncio.get_running_loop().create_future()
        self.writer.rows.append(row)
        self.writer.due.append(future)
        self.writer.wake()
        await future
        return answer({"id": str(number), "device_id": device, "timestamp": stamp}, 201)


def size(rows: Rows) -> int:
    """Return how large rollups are."""
    return sum(len(packed) for _, packed in rows)


# By path: the query, the parameters that are times, and what is answered of the rows.
READS: dict[str, tuple[str, tuple[str, ...], Callable[[Rows], object]]] = {
    "/page": (PAGE, ("creation_timestamp",), encodable),
    "/latest": (LATEST, (), encodable),
    "/range": (RANGE, ("start", "end"), len),
    "/rollups": (ROLLUPS, ("start", "end"), size),
    "/newest": (NEWEST, (), encodable),
}


class Reading:
    """Answers pages and last values of the first sensor, and the newest of all."""

    query: BareQuery

    async def answer(self, request: Request) -> Response:
        """Answer what the path stands for."""
        query, times, shown = READS[request.url.path]
        given = request.query_params
        values = [int(float(given[name]) * 1e6) for name in times]
        if query is not NEWEST:
            values.insert(0, 1)
        if query is PAGE:
            values.append(int(given["limit"]))
        return answer(shown(await self.query.read(query, *values)))


def application(given: argparse.Namespace) -> Starlette:
    """Return the application: it writes, or it reads."""
    ingest, reading = Ingest(), Reading()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if given.reads:
            reading.query = await open_query(given.url)
            yield
            await reading.query.close()
            return
        store = await open_bare(given.url)
        ingest.writer = BareWriter(store)
        task = asyncio.create_task(ingest.writer.run(resolve), name="bare writer")
        yield
        task.cancel()
        await asyncio.wait([task])
        await store.close()

    async def health(_: Request) -> Response:
        return answer({"status": "healthy"})

    routes = [
        Route("/ingest", ingest.post, methods=["POST"]),
        *(Route(path, reading.answer) for path in READS),
        Route("/health", health),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    given = options()
    uvicorn.run(
        application(given),
        host="127.0.0.1",
        port=given.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()

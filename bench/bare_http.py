"""The bare HTTP routes: Starlette under uvicorn, uvloop and httptools.

`POST /ingest` decodes, commits and answers 201. The GET routes run one query on the server's
own tables through the same driver and encode the rows as the server's answers are encoded.
"""

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.bare_query import NEWEST, RANGE, ROLLUPS, BareQuery, Rows, open_query
from bench.bare_store import INSERTS, open_bare
from bench.bare_writer import BareWriter

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


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


class Reading:
    """Answers pages and last values."""

    query: BareQuery

    async def page(self, request: Request) -> Response:
        """Answer the page after a key."""
        key = int(float(request.query_params["creation_timestamp"]) * 1e6)
        limit = int(request.query_params.get("limit", "64"))
        return answer(encodable(await self.query.page(1, key, limit)))

    async def latest(self, request: Request) -> Response:
        """Answer the newest row."""
        del request
        return answer(encodable(await self.query.latest(1)))

    async def range(self, request: Request) -> Response:
        """Answer how many rows a range has, all of them read."""
        return answer(len(await self.query.read(RANGE, 1, *_span(request))))

    async def rollups(self, request: Request) -> Response:
        """Answer how large the rollups of a range are."""
        rows = await self.query.read(ROLLUPS, 1, *_span(request))
        return answer(sum(len(packed) for _, packed in rows))

    async def newest(self, request: Request) -> Response:
        """Answer the newest row of every sensor."""
        del request
        return answer(encodable(await self.query.read(NEWEST)))


def _span(request: Request) -> tuple[int, int]:
    start, end = (int(float(request.query_params[name]) * 1e6) for name in ("start", "end"))
    return start, end


def application(options: argparse.Namespace) -> Starlette:
    """Return the application: it writes, or it reads."""
    ingest, reading = Ingest(), Reading()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if options.reads:
            reading.query = await open_query(options.url)
            yield
            await reading.query.close()
            return
        store = await open_bare(options.url, options.insert)
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
        Route("/page", reading.page),
        Route("/latest", reading.latest),
        Route("/range", reading.range),
        Route("/rollups", reading.rollups),
        Route("/newest", reading.newest),
        Route("/health", health),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--insert", choices=INSERTS, default="json")
    parser.add_argument("--reads", action="store_true")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)
    uvicorn.run(
        application(options),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()

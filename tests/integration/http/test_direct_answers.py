"""Small answers that go past ASGI: byte for byte what ASGI's own way would have sent."""

import asyncio
import gc
import json
import re
from collections import Counter

import pytest

from heliograph.http.connections import BoundedHttpProtocol
from integration.http.conftest import ADMIN
from server import served

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

REQUESTS = {
    "stored": b"POST /ingest HTTP/1.1\r\n%bContent-Length: 34\r\n\r\n"
    b'{"device_id":"pump-1","value":1.5}',
    "malformed": b"POST /ingest HTTP/1.1\r\n%bContent-Length: 1\r\n\r\n{",
    "unknown": b"POST /ingest HTTP/1.1\r\n%bContent-Length: 30\r\n\r\n"
    b'{"device_id":"none","value":1}',
    "closes": b"POST /ingest HTTP/1.1\r\n%bConnection: close\r\nContent-Length: 34\r\n\r\n"
    b'{"device_id":"pump-1","value":2.5}',
    "HTTP/1.0": b"POST /ingest HTTP/1.0\r\n%bContent-Length: 34\r\n\r\n"
    b'{"device_id":"pump-1","value":3.5}',
    "continued": b"POST /ingest HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 34\r\n\r\n"
    b'{"device_id":"pump-1","value":4.5}',
    "page": b"GET /sensors/pump-1/measurements HTTP/1.1\r\n%b\r\n",
    "latest": b"GET /sensors/pump-1/latest HTTP/1.1\r\n%b\r\n",
}
HEADERS = b"Host: localhost\r\nContent-Type: application/json\r\nX-API-Key: %b\r\n"
KEY = ADMIN["x-api-key"].encode()


async def said(port, data):
    """Return all that is answered, until the connection has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.readuntil(b"\r\n\r\n")
    if answer.startswith(b"HTTP/1.1 100"):
        answer += await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", answer)[1])
    answer += await reader.readexactly(length)
    if b"onnection: close" in answer:
        answer += await reader.read()
    writer.close()
    return answer


def same(answer):
    """Leave out what differs from one time to the next."""
    for pattern in (
        rb"date: [^\r]+",
        rb"x-request-id: \w{16}",
        rb";r=\d+;t=\d+",
        rb'"(id|timestamp|receipt_timestamp)":"?[^",}]+',
        rb"W?/?\"\w{8,}\"",
    ):
        answer = re.sub(pattern, b"", answer)
    return re.sub(rb"content-length: \d+", b"content-length", answer)


@pytest.mark.parametrize("what", REQUESTS)
async def test_the_bytes_are_those_of_asgis_own_way(site, monkeypatch, what):
    async with site() as here, served(here.web) as port, asyncio.timeout(60):
        await here.device("pump-1")
        request = REQUESTS[what] % (HEADERS % KEY)
        await said(port, request)
        direct = await said(port, request)
        monkeypatch.setattr(BoundedHttpProtocol, "answer", lambda *_: False)
        assert same(direct) == same(await said(port, request))


async def test_pipelined_requests_are_answered_in_their_order(site):
    async with site() as here, served(here.web) as port, asyncio.timeout(60):
        await here.device("pump-1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        bodies = [b'{"device_id":"pump-1","value":%d}' % number for number in range(20)]
        head = b"POST /ingest HTTP/1.1\r\n" + HEADERS % KEY
        writer.write(
            b"".join(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(b), b) for b in bodies)
        )
        ids = []
        for _ in bodies:
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 201 ")
            length = int(re.search(rb"content-length: (\d+)", answer)[1])
            ids.append(int(json.loads(await reader.readexactly(length))["id"]))
        writer.close()
        assert ids == sorted(ids)
        pages = await here.http.get("/sensors/pump-1/measurements?limit=64", headers=ADMIN)
        assert [entry["measurement"] for entry in pages.json()] == list(range(20))


async def test_who_takes_nothing_gets_his_answers_by_asgis_own_way(site):
    """It waits for the client: what is written past it would pile up."""
    async with site() as here, served(here.web) as port, asyncio.timeout(60):
        await here.device("pump-1")
        for value in ("x" * 100_000, "y" * 100_000):
            await here.http.post(
                "/sensors/pump-1/measurements", json={"value": value}, headers=ADMIN
            )
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
        request = REQUESTS["page"] % (HEADERS % KEY)
        count = 40
        writer.write(request * count)
        answers = 0
        while answers < count:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(re.search(rb"content-length: (\d+)", head)[1])
            await reader.readexactly(length)
            answers += 1
        writer.close()


@pytest.mark.parametrize("what", ["stored", "page", "latest", "malformed"])
async def test_a_request_leaves_nothing_to_the_garbage_collector(site, what):
    """It runs every few seconds only, and stands in everybody's way for as long as it takes."""
    async with site() as here, served(here.web) as port, asyncio.timeout(60):
        await here.device("pump-1")
        request = REQUESTS[what] % (HEADERS % KEY)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask(count):
            for _ in range(count):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))

        await ask(20)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await ask(50)
            gc.collect()
            left = Counter(type(each).__qualname__ for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        writer.close()
        assert left.total() < 50, left

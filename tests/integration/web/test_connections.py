"""What a server does about clients that hold connections or memory without sending requests."""

import asyncio
import contextlib
import socket

import httpx
import pytest
import uvicorn

from heliograph.web import bodies, connections
from heliograph.web.connections import BoundedHttpProtocol

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def a_warning_is_due(monkeypatch):
    monkeypatch.setattr(BoundedHttpProtocol, "_warn_from", 0.0)


@contextlib.asynccontextmanager
async def bounded_server(web):
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        web, lifespan="off", log_config=None, access_log=False, http=BoundedHttpProtocol
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve([listening]), name="uvicorn")
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task
    assert BoundedHttpProtocol._of_address == {}


@pytest.fixture
def served(site):
    @contextlib.asynccontextmanager
    async def running():
        async with site() as here, bounded_server(here.web) as port, asyncio.timeout(60):
            yield here, port

    return running


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port)


async def is_closed(reader):
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True


async def answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head.split(b"\r\n", 1)[0]


@pytest.mark.parametrize(
    "sent", [b"", b"GET /hea", GET[:-2], b"\r\n", GET + b"GET /hea", GET + b"\r\n"]
)
async def test_half_a_head_is_waited_for_only_so_long(served, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with served() as (_, port):
        reader, writer = await connect(port)
        for piece in (sent[: len(GET)], sent[len(GET) :]):
            writer.write(piece)
            await writer.drain()
            if piece == GET:
                await answer(reader)
        assert await is_closed(reader)
        writer.close()


async def test_a_head_that_trickles_is_not_waited_for_longer(served, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    async with served() as (_, port):
        reader, writer = await connect(port)
        writer.write(GET[:-2])
        closed = asyncio.create_task(is_closed(reader))
        while not closed.done():
            writer.write(b"x: y\r\n")
            await asyncio.wait([closed], timeout=0.05)
        assert await closed
        writer.close()


async def test_connections_that_are_kept_alive_are_kept(served, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    async with served() as (_, port):
        reader, writer = await connect(port)
        for _ in range(3):
            writer.write(GET)
            assert b"200" in await answer(reader)
            # Several of the sweeps that must leave it alone.
            await asyncio.sleep(0.25)
        writer.close()


async def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with served() as (_, port):
        reader, writer = await connect(port)
        writer.write(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert b"401" in await answer(reader)
        writer.write(b"x")
        assert await is_closed(reader)
        writer.close()


async def test_a_head_without_end_is_not_collected(served):
    async with served() as (_, port):
        reader, writer = await connect(port)
        writer.write(b"GET /health HTTP/1.1\r\nx: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                writer.write(b"y" * 8_192)
                await writer.drain()
        assert await is_closed(reader)
        writer.close()


@pytest.mark.parametrize(
    "bound", ["MAXIMUM_HTTP_CONNECTIONS", "MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS"]
)
async def test_too_many_connections_are_closed_at_once(served, monkeypatch, bound):
    monkeypatch.setattr(connections, bound, 3)
    monkeypatch.setattr(BoundedHttpProtocol, "_is_shared", lambda *_: False)
    async with served() as (_, port):
        held = [await connect(port) for _ in range(3)]
        for reader, writer in held:
            writer.write(GET)
            await answer(reader)
        reader, writer = await connect(port)
        assert await is_closed(reader)
        writer.close()
        for reader, writer in held:
            writer.write(GET)
            assert b"200" in await answer(reader)
        held[0][1].close()
        await asyncio.wait_for(accepted_again(port), 60)
        for _, writer in held:
            writer.close()


async def accepted_again(port):
    while True:
        reader, writer = await connect(port)
        writer.write(GET)
        try:
            await answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            continue
        finally:
            writer.close()
        return


async def test_clients_of_this_machine_may_take_all_there_are(served, monkeypatch):
    monkeypatch.setattr(connections, "MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS", 2)
    async with served() as (_, port):
        held = [await connect(port) for _ in range(5)]
        for reader, writer in held:
            writer.write(GET)
            assert b"200" in await answer(reader)
            writer.close()


@pytest.mark.parametrize(
    ("address", "shared"),
    [("127.0.0.1", True), ("::1", True), ("10.0.0.7", True), ("10.0.1.7", False), ("", True)],
)
def test_whose_connections_are_not_counted_by_address(address, shared):
    config = uvicorn.Config(None, proxy_headers=True, forwarded_allow_ips=["10.0.0.0/24"])
    protocol = BoundedHttpProtocol.__new__(BoundedHttpProtocol)
    protocol.config = config
    assert protocol._is_shared(address) is shared


async def test_bodies_beyond_what_may_be_received_at_once_are_put_off(site, monkeypatch):
    monkeypatch.setattr(bodies.Receiving.__init__, "__defaults__", (2 << 20,))
    async with site() as here, bounded_server(here.web) as port, asyncio.timeout(60):
        key = await here.device("pump-1")
        slow = []
        for _ in range(2):
            _, writer = await connect(port)
            head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-Key: {key['x-api-key']}\r\n"
            writer.write(f"{head}Content-Length: {1 << 20}\r\n\r\n{{".encode())
            slow.append(writer)
        body = b'{"t": 1}' + b" " * 500_000
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=key) as http:
            response = await http.post("/ingest", content=body)
            while response.status_code == 201:
                response = await http.post("/ingest", content=body)
            assert (response.status_code, response.json()["code"]) == (503, "QUEUE_FULL")
            assert response.headers["retry-after"] == "1"
            small = await http.post("/ingest", json={"t": 2})
            assert small.status_code == 201
            for writer in slow:
                writer.close()
            while response.status_code == 503:
                response = await http.post("/ingest", content=body)
            assert response.status_code == 201


@pytest.mark.parametrize("path", ["/health", "/ping", "/api/v1/health", "/readyz"])
async def test_probes_may_ask_with_head(served, path):
    async with (
        served() as (here, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for client in (http, here.http):
            head = await client.head(path)
            got = await client.get(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
        assert (await http.head("/devices")).status_code == 405

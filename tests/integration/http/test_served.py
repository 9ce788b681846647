"""The hot routes as a real server serves them: chunks, slow clients, bombs."""

import asyncio
import gzip
import json

import httpx
import pytest

from heliograph.http import bodies

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}


def request(path, headers, body=b""):
    lines = [f"POST {path} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer(reader):
    """Return the status and the body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(
        line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line
    )
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return int(head.split()[1]), fields, json.loads(body) if body else None


@pytest.fixture
def served(site, serving):
    class Served:
        async def __aenter__(self):
            self.site = site()
            here = await self.site.__aenter__()
            self.key = await here.device("pump-1")
            self.server = serving(here.web)
            self.port = await self.server.__aenter__()
            self.here = here
            return self

        async def __aexit__(self, *error):
            await self.server.__aexit__(*error)
            await self.site.__aexit__(*error)

        async def connect(self):
            return await asyncio.open_connection("127.0.0.1", self.port)

    return Served


async def test_a_chunked_body_is_taken(served):
    async def chunks(*pieces):
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    async with (
        served() as server,
        asyncio.timeout(60),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http,
    ):
        body = chunks(b'{"temp', b"erature", b'": 22.5}')
        response = await http.post("/ingest", content=body, headers=server.key)
        assert response.status_code == 201
        too_many = chunks(*[b" " * 65_536] * 17)
        response = await http.post("/ingest", content=too_many, headers=server.key)
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        response = await http.post("/ingest", json={"t": 1}, headers=server.key)
        assert response.status_code == 201


async def test_a_body_that_is_declared_too_large_is_not_waited_for(served):
    async with served() as server, asyncio.timeout(60):
        reader, writer = await server.connect()
        headers = {**server.key, "content-length": "999999999"}
        writer.write(request("/ingest", headers, b"x" * 100_000))
        status, _, body = await answer(reader)
        assert (status, body["code"]) == (413, "PAYLOAD_TOO_LARGE")
        writer.close()


@pytest.mark.parametrize("path", ["/ingest", "/ingest/batch", "/devices"])
async def test_a_body_that_never_comes_is_cut(served, path, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    async with served() as server, asyncio.timeout(25):
        reader, writer = await server.connect()
        headers = ADMIN if path == "/devices" else server.key
        writer.write(request(path, {**headers, "content-length": "100"}, b'{"t":'))
        status, fields, body = await answer(reader)
        assert (status, body["code"]) == (408, "REQUEST_TIMEOUT")
        assert fields["connection"] == "close"
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_leaves_halfway_leaves_nothing_behind(served):
    async with served() as server, asyncio.timeout(60):
        _, writer = await server.connect()
        writer.write(request("/ingest", {**server.key, "content-length": "100"}, b'{"t":'))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        reader, writer = await server.connect()
        body = b'{"t": 1}'
        writer.write(request("/ingest", {**server.key, "content-length": len(body)}, body))
        assert (await answer(reader))[0] == 201
        writer.close()
        assert await server.here.rejected() == []


async def test_requests_that_are_sent_ahead_are_answered_in_order(served):
    async with served() as server, asyncio.timeout(60):
        reader, writer = await server.connect()
        bodies_ = [b'{"t": %d}' % number for number in range(20)]
        writer.write(
            b"".join(
                request("/ingest", {**server.key, "content-length": len(body)}, body)
                for body in bodies_
            )
        )
        ids = [(await answer(reader))[2]["id"] for _ in bodies_]
        assert ids == sorted(ids, key=int)
        assert len(set(ids)) == 20
        writer.close()


async def test_many_clients_at_once_get_each_their_own_answer(served):
    async with served() as server, asyncio.timeout(60):
        base_url, answers = f"http://127.0.0.1:{server.port}", {}

        async def client(numbers):
            async with httpx.AsyncClient(base_url=base_url, timeout=20) as http:
                for number in numbers:
                    sent = await http.post("/ingest", json={"n": number}, headers=server.key)
                    assert sent.status_code == 201
                    answers[sent.json()["id"]] = number

        await asyncio.gather(*(client(range(first, 256, 32)) for first in range(32)))
        async with httpx.AsyncClient(base_url=base_url) as http:
            history = "/devices/pump-1/history?limit=10000"
            entries = (await http.get(history, headers=server.key)).json()
        assert {entry["id"]: entry["metrics"]["n"] for entry in entries} == answers
        assert len(answers) == 256


async def test_a_bomb_is_refused_and_the_server_goes_on(served):
    async with served() as server, asyncio.timeout(60):
        bomb = gzip.compress(bytes(200 << 20))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            headers = {**server.key, "content-encoding": "gzip"}
            for path in ("/ingest", "/ingest/batch", "/sensors/pump-1/logs"):
                response = await http.post(path, content=bomb, headers=headers)
                assert (response.status_code, response.json()["code"]) == (
                    413,
                    "PAYLOAD_TOO_LARGE",
                )
            assert (await http.get("/health")).status_code == 200

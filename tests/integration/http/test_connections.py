"""What a server does about clients that hold connections or memory without sending requests."""

import asyncio
import contextlib
import logging
import socket

import httpx
import pytest
import uvicorn

from heliograph.http import bodies, connections
from heliograph.http.connections import BoundedHttpProtocol
from integration.http.conftest import narrow
from server import served as over_http

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def a_warning_is_due(monkeypatch):
    monkeypatch.setattr(BoundedHttpProtocol._warnings, "_from", 0.0)


@contextlib.asynccontextmanager
async def bounded_server(web):
    async with over_http(web) as port:
        yield port
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


# --- requests that come before the answers to those ahead of them ------------------------------


class Echo:
    """Answers with its path, or `/<bytes>` with so many; waits for `go` while that is not set."""

    def __init__(self):
        self.go = asyncio.Event()
        self.go.set()
        self.paths = []
        self.gone = 0

    async def __call__(self, scope, receive, send):
        self.paths.append(scope["path"])
        waiting = asyncio.ensure_future(self.go.wait())
        leaving = asyncio.ensure_future(left(receive))
        await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            self.gone += 1
        waiting.cancel()
        leaving.cancel()
        size = scope["path"].removeprefix("/large/")
        body = bytes(int(size)) if size.isdigit() else scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def taken(monkeypatch):
    """Return the list of the heads that are parsed from now on."""
    heads = []
    complete = BoundedHttpProtocol.on_headers_complete

    def counted(self):
        heads.append(self.url)
        complete(self)

    monkeypatch.setattr(BoundedHttpProtocol, "on_headers_complete", counted)
    return heads


def get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(path, body):
    return get(path, f"Content-Length: {len(body)}").replace(b"GET", b"POST") + body


async def answers(reader, count):
    """Return the bodies of so many answers."""
    bodies = []
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-len"))
        bodies.append(await reader.readexactly(int(length.split(b":")[1])))
    return bodies


MANY = 2_000
FEW = connections.MAXIMUM_PIPELINED + connections.LINES_AT_ONCE // 3 + 1


@pytest.mark.parametrize("piece", [1 << 20, 1_000, 40])
async def test_only_a_few_pipelined_requests_are_taken_before_they_are_answered(echo, taken, piece):
    """However they arrive; and all are answered in their order once there is somebody to."""
    echo.go.clear()
    paths = [f"/{number}" for number in range(MANY if piece > 40 else 200)]
    sent = b"".join(map(get, paths))
    async with bounded_server(echo) as port, asyncio.timeout(60):
        reader, writer = await connect(port)
        for at in range(0, len(sent), piece):
            writer.write(sent[at : at + piece])
            await asyncio.sleep(0)
        while not echo.paths:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0)
        # The others have had their chance by the time that another connection is answered.
        other_reader, other = await connect(port)
        echo.go.set()
        other.write(get("/other"))
        most = len(taken)
        assert await answers(other_reader, 1) == [b"/other"]
        assert most <= FEW
        assert await answers(reader, len(paths)) == [path.encode() for path in paths]
        writer.close()
        other.close()


async def test_what_is_taken_while_nobody_reads_stays_bounded(echo, taken):
    """The answers fill what lies between both ends; then nothing more is taken."""
    async with bounded_server(echo) as port, asyncio.timeout(60):
        _, writer = await connect(port)
        writer.write(b"".join(get(f"/large/{4 << 20}") for _ in range(MANY)))
        answered = 0
        while not answered or len(echo.paths) > answered:
            answered = len(echo.paths)
            other_reader, other = await connect(port)
            other.write(get("/other"))
            await answers(other_reader, 1)
            other.close()
            answered += 1
            await asyncio.sleep(0.05)
        assert len(taken) - echo.paths.count("/other") <= 10 + FEW
        writer.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [b"{}", b"[\n1,\n2\n]" * 9_000, b"x" * 300_000])
async def test_bodies_come_whole_whatever_lines_they_have(body):
    async def echo_body(_scope, receive, send):
        got = b""
        while True:
            message = await receive()
            got += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [(b"content-length", b"%d" % len(got))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": got})

    async with bounded_server(echo_body) as port, asyncio.timeout(60):
        reader, writer = await connect(port)
        writer.write(b"".join([post("/a", body), get("/b"), post("/c", body), post("/d", b"\n")]))
        assert await answers(reader, 4) == [body, b"", body, b"\n"]
        chunked = get("/e", "Transfer-Encoding: chunked").replace(b"GET", b"POST")
        pieces = [body[at : at + 1_000] for at in range(0, len(body), 1_000)]
        chunked += b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)
        writer.write(chunked + b"0\r\n\r\n" + get("/f"))
        assert await answers(reader, 2) == [body, b""]
        writer.close()


async def test_what_is_not_http_waits_for_the_answers_before_it(echo):
    echo.go.clear()
    async with bounded_server(echo) as port, asyncio.timeout(60):
        reader, writer = await connect(port)
        writer.write(get("/a") + get("/b") + b"nothing\x00of the kind\r\n\r\n" + get("/c"))
        while not echo.paths:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0)
        echo.go.set()
        assert await answers(reader, 2) == [b"/a", b"/b"]
        assert await is_closed(reader)
        assert echo.paths == ["/a", "/b"]
        writer.close()


async def test_a_socket_is_not_opened_in_the_middle_of_an_answer(echo):
    echo.go.clear()
    upgrade = get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    async with bounded_server(echo) as port, asyncio.timeout(60):
        reader, writer = await connect(port)
        writer.write(get("/a") + upgrade)
        assert await is_closed(reader)
        writer.close()


@pytest.mark.parametrize("count", [3, 100])
async def test_clients_that_go_before_their_answers_leave_no_tracebacks(echo, caplog, count):
    echo.go.clear()
    async with bounded_server(echo) as port, asyncio.timeout(60):
        for _ in range(5):
            _, writer = await connect(port)
            before = len(echo.paths)
            writer.write(b"".join(get(f"/{number}") for number in range(count)))
            while len(echo.paths) == before:  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0)
            writer.transport.abort()
        # Of one that is read from it is heard by who answers, though that is not the last request.
        while count == 3 and echo.gone < 5:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        echo.go.set()
        while BoundedHttpProtocol._of_address:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert len(echo.paths) <= 5 * FEW
        assert count > 3 or len(echo.paths) == 5
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_answer_that_nobody_reads_ends_the_connection(echo, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)
    async with bounded_server(echo) as port, asyncio.timeout(60):
        _, writer = await narrow(port, f"/large/{20 << 20}")
        while not echo.paths or BoundedHttpProtocol._of_address:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        writer.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_rest_of_an_answer_that_nobody_reads_ends_the_connection(
    echo, monkeypatch, version
):
    """Be it so little that writing is not paused, on a connection that is being closed."""
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    buffered = []
    made = BoundedHttpProtocol.connection_made

    def narrowed(self, transport):
        made(self, transport)
        self.timeout_keep_alive = 0.1
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        buffered.append(transport)

    monkeypatch.setattr(BoundedHttpProtocol, "connection_made", narrowed)
    async with bounded_server(echo) as port, asyncio.timeout(60):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        client.send(get("/large/60000").replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        while not echo.paths:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert 0 < buffered[0].get_write_buffer_size() < 64 << 10
        while BoundedHttpProtocol._of_address:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        client.close()


async def test_an_answer_that_is_read_slowly_is_read_to_its_end(echo, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.4)
    size = 40 << 20
    async with bounded_server(echo) as port, asyncio.timeout(60):
        reader, writer = await connect(port)
        writer.write(get(f"/large/{size}"))
        await reader.readuntil(b"\r\n\r\n")
        read = 0
        # It takes several times as long as an answer that nobody reads may.
        while piece := await reader.read(1 << 18):
            read += len(piece)
            if read == size:
                break
            await asyncio.sleep(0.01)
        assert read == size
        writer.close()


async def test_a_line_about_what_is_not_http_has_its_address(served, capsys):
    async with served() as (_, port):
        reader, writer = await connect(port)
        writer.write(b"\x16\x03\x01 is TLS\r\n\r\n")
        assert (await reader.readline()).split(b" ")[1] == b"400"
        writer.close()
    [line] = [line for line in capsys.readouterr().err.splitlines() if "Invalid HTTP" in line]
    assert "address=127.0.0.1" in line


SOCKET = (
    b"GET /api/v1/realtime/all HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost:\r\n\r\n", b"200"),
        (b"GET /health HTTP/1.0\r\n\r\n", b"200"),
        (SOCKET, b"400"),
    ],
)
async def test_a_request_of_http_1_1_has_one_host(served, head, status):
    async with served() as (_, port):
        reader, writer = await connect(port)
        writer.write(head)
        assert (await reader.readline()).split(b" ")[1] == status
        if status == b"400":
            answered = await reader.read()
            assert b"one Host header" in answered
            assert b"connection: close" in answered
        writer.close()


LIMITED = GET.replace(b"/health", b"/docs")


@pytest.mark.parametrize("behind_proxy", [False, True])
async def test_who_is_told_of_too_many_requests_is_read_no_further_for_a_moment(
    site, monkeypatch, behind_proxy
):
    """Else he costs as much by what he is refused. A proxy's connection is others' too."""
    monkeypatch.setattr(connections, "REFUSED_SECONDS", 1_000.0 if behind_proxy else 0.2)
    options = {"forwarded_allow_ips": ["127.0.0.1/32"], "proxy_headers": True}
    async with (
        site(rate_limit_read=1) as here,
        over_http(here.web, **(options if behind_proxy else {})) as port,
        asyncio.timeout(60),
    ):
        loop = asyncio.get_running_loop()
        reader, writer = await connect(port)
        writer.write(LIMITED)
        assert b" 200 " in await answer(reader)
        began = loop.time()
        for _ in range(3):
            writer.write(LIMITED)
            assert b" 429 " in await answer(reader)
        if not behind_proxy:
            assert loop.time() - began >= 0.2 * 2
            # Many at once as well: one after the other, each after its moment.
            writer.write(LIMITED * 12)
            for _ in range(12):
                assert b" 429 " in await answer(reader)
            assert loop.time() - began >= 0.2 * 14
        # Another connection, and what is not limited, is answered at once.
        other, its = await connect(port)
        its.write(GET)
        assert b" 200 " in await answer(other)
        writer.close()
        its.close()


async def test_who_is_told_that_there_is_no_room_is_read_no_further_for_a_moment(site, monkeypatch):
    monkeypatch.setattr(connections, "REFUSED_SECONDS", 0.2)
    async with site() as here, bounded_server(here.web) as port, asyncio.timeout(60):
        device = await here.device("pump")
        here.services.http_ingest.state.database_available = False
        loop = asyncio.get_running_loop()
        reader, writer = await connect(port)
        head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nX-API-Key: {device['x-api-key']}\r\n"
        request = f"{head}Content-Length: 7\r\n\r\n".encode() + b'{"n":1}'
        began = loop.time()
        for _ in range(3):
            writer.write(request)
            assert b" 503 " in await answer(reader)
        assert loop.time() - began >= 0.2 * 2
        writer.close()


async def test_who_goes_while_he_is_not_read_is_forgotten(site):
    async with site(rate_limit_read=1) as here, bounded_server(here.web) as port:
        for _ in range(2):
            reader, writer = await connect(port)
            writer.write(LIMITED)
            await answer(reader)
            writer.write(LIMITED)
            writer.close()
            await writer.wait_closed()

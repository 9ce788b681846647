"""WebSockets, with the `websockets` library as the client."""

import asyncio
import json
import re
import socket

import pytest
import websockets
from websockets.frames import Opcode

from heliograph.http import connections, realtime
from heliograph.http.connections import WebSocketProtocol
from integration.http.conftest import ADMIN, SHARED, narrow

SECONDS = 60


def connect(port, path, headers=ADMIN, **options):
    return websockets.connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers, **options)


async def heard(client):
    async with asyncio.timeout(SECONDS):
        return json.loads(await client.recv())


async def said(client, message):
    await client.send(message if isinstance(message, str) else json.dumps(message))
    return await heard(client)


async def send(site, device, value):
    body = {"device_id": device, "t": value}
    assert (await site.http.post("/ingest", json=body, headers=ADMIN)).status_code == 201


async def test_a_device_is_shown_as_its_history_has_it(site, serving):
    async with site() as running, serving(running.web) as port:
        key = await running.device("pump")
        await running.device("fan")
        async with connect(port, "/realtime/subscribe/pump", key) as client:
            assert await heard(client) == {"type": "ack"}
            await send(running, "fan", 1)
            await send(running, "pump", 2)
            message = await heard(client)
            history = (await running.http.get("/devices/pump/history", headers=ADMIN)).json()
            assert message == {"type": "reading", "device_id": "pump", "data": history[0]}
        text = (await running.http.get("/metrics", headers=ADMIN)).text
        route = 'route="/api/v1/realtime/subscribe/{device_id}"'
        assert f'heliograph_http_requests_total{{{route},status="1xx"}} 1.0' in text


async def test_a_client_chooses_what_it_is_shown(site, serving):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        await running.device("fan")
        async with connect(port, "/api/v1/realtime/subscribe/pump") as client:
            await heard(client)
            assert await said(client, {"action": "ping"}) == {"type": "pong"}
            for action, device in (("subscribe", "fan"), ("unsubscribe", "pump")):
                command = {"action": action, "device_id": device}
                assert await said(client, command) == {"type": "ack", **command}
            await send(running, "pump", 1)
            await send(running, "fan", 2)
            assert (await heard(client))["data"]["metrics"] == {"t": 2}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "VALIDATION_FAILED"),
        ({"action": "dance"}, "VALIDATION_FAILED"),
        ({"action": "subscribe"}, "DEVICE_ID_MISSING"),
        ({"action": "subscribe", "device_id": "nobody"}, "DEVICE_NOT_FOUND"),
        ("x" * 17_000, "PAYLOAD_TOO_LARGE"),
    ],
)
async def test_what_makes_no_sense_is_answered(site, serving, message, code):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        async with connect(port, "/realtime/subscribe/pump") as client:
            await heard(client)
            answer = await said(client, message)
            assert (answer["type"], answer["code"]) == ("error", code)
            # In words of ours, not in those of the library that reads it.
            assert not re.search(r"`|malformed|enum|Expected", answer["detail"])
            assert await said(client, {"action": "ping"}) == {"type": "pong"}


async def test_everything_that_one_may_see(site, serving):
    async with site() as running, serving(running.web) as port:
        user = await running.user("ada")
        network = await running.network("garden", ada="viewer")
        await running.device("rose", network_identifier=network)
        await running.device("pump")
        async with connect(port, "/realtime/all", user) as client:
            await heard(client)
            await send(running, "pump", 1)
            await send(running, "rose", 2)
            assert (await heard(client))["device_id"] == "rose"
            assert (await running.http.delete("/authentication", headers=user)).is_success
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await heard(client)
            assert closed.value.rcvd.code == 4401


async def test_refusals_have_their_codes(site, serving):
    async with site(max_streams_per_principal=0) as running, serving(running.web) as port:
        key = await running.device("pump")
        await running.device("fan")
        stranger = await running.user("stranger")
        origin = {"origin": "http://elsewhere.example", "host": f"127.0.0.1:{port}"}
        token = stranger["authorization"].removeprefix("Bearer ")
        for path, headers, code in (
            ("/realtime/all", {}, 4401),
            ("/realtime/all?ticket=x", {}, 4401),
            ("/realtime/all", SHARED, 4403),
            ("/realtime/all", {"cookie": f"heliograph_session={token}", **origin}, 4403),
            ("/realtime/subscribe/pump", stranger, 4404),
            ("/realtime/subscribe/nobody", ADMIN, 4404),
            ("/realtime/subscribe/fan", key, 4404),
            ("/realtime/subscribe/pump", ADMIN, 1013),
        ):
            headers.pop("host", None)
            async with connect(port, path, headers) as client:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await heard(client)
            assert closed.value.rcvd.code == code, path
        text = (await running.http.get("/metrics", headers=ADMIN)).text
        route = 'route="/api/v1/realtime/all"'
        assert f'heliograph_http_requests_total{{{route},status="4xx"}} 4.0' in text
        assert 'status="1xx"' not in text


async def test_the_server_s_end_is_told(site, serving):
    async with (
        site() as running,
        serving(running.web) as port,
        connect(port, "/realtime/all") as client,
    ):
        await heard(client)
        running.services.streams.close()
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await heard(client)
        assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize("compressing", [False, True])
async def test_readings_go_past_asgi_where_nothing_is_compressed(
    site, serving, monkeypatch, compressing
):
    outlets, outlet_of = [], realtime.outlet_of
    written = []

    def watched(scope):
        outlet = outlet_of(scope)
        if outlet is not None:
            write = outlet.write
            outlet.write = lambda data: (written.append(len(data)), write(data))
            outlets.append(outlet)
        return outlet

    monkeypatch.setattr(realtime, "outlet_of", watched)
    async with (
        site() as running,
        serving(running.web, ws_per_message_deflate=compressing) as port,
    ):
        await running.device("pump")
        async with connect(port, "/realtime/all") as client:
            assert bool(client.protocol.extensions) is compressing
            await heard(client)
            # Lengths of one, three and nine bytes in a frame's head.
            for size in (1, 200, 70_000):
                await send(running, "pump", "x" * size)
                assert (await heard(client))["data"]["metrics"]["t"] == "x" * size
        assert len(written) == (0 if compressing else 3)
        assert not any(outlet.ready for outlet in outlets)  # the client has gone


# Frames as a client sends them, without a payload: a mask of zeros is one, too.
EMPTY = {
    "pings": b"\x89\x80" + bytes(4),
    "pongs": b"\x8a\x80" + bytes(4),
    "messages": b"\x81\x80" + bytes(4),
    "pieces": b"\x00\x80" + bytes(4),
}
BEGIN = b"\x01\x80" + bytes(4)


async def everything(client):
    while True:
        await heard(client)


def frames_of(kind, count):
    return (BEGIN if kind == "pieces" else b"") + EMPTY[kind] * count


@pytest.mark.parametrize("kind", EMPTY)
async def test_frames_of_no_payload_give_others_turns(site, serving, monkeypatch, kind):
    monkeypatch.setattr(connections, "MAXIMUM_EMPTY_FRAMES", 1 << 30)
    turn, parsed = 0, []
    handle = WebSocketProtocol.handle_events

    def watched(self):
        parsed.append((turn, len(self.conn.events)))
        handle(self)

    async def tick():
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(WebSocketProtocol, "handle_events", watched)
    async with site() as running, serving(running.web) as port:
        async with connect(port, "/realtime/all") as client:
            await heard(client)
            parsed.clear()
            ticking = asyncio.create_task(tick(), name="others")
            client.transport.write(frames_of(kind, 5_000))
            async with asyncio.timeout(SECONDS):
                while sum(count for _, count in parsed) < 5_000:  # noqa: ASYNC110 - nobody tells when
                    await asyncio.sleep(0)
            ticking.cancel()
            client.transport.abort()
        assert max(count for _, count in parsed) <= 200
        turns = [turn for turn, _ in parsed]
        assert turns == sorted(set(turns))


@pytest.mark.parametrize("kind", EMPTY)
async def test_too_many_frames_of_no_payload_end_the_socket_and_are_counted(site, serving, kind):
    floods, frames = WebSocketProtocol.floods_total, WebSocketProtocol.empty_frames_total
    async with site() as running, serving(running.web) as port:
        async with connect(port, "/realtime/all") as client:
            await heard(client)
            client.transport.write(frames_of(kind, 50_000))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await everything(client)
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1008
        metrics = (await running.http.get("/metrics", headers=ADMIN)).text
        assert WebSocketProtocol.floods_total == floods + 1
        counted = WebSocketProtocol.empty_frames_total - frames
        assert 1_000 < counted <= 1_200
        assert f"heliograph_websocket_floods_total {floods + 1}.0" in metrics
        assert f"heliograph_websocket_empty_frames_total {frames + counted}.0" in metrics


async def test_pings_of_a_client_that_takes_no_pongs_are_bounded(site, serving, monkeypatch):
    """Only the last ones are answered once it does, as RFC 6455 allows (5.5.3)."""
    sockets, seen = [], 0
    handle = WebSocketProtocol.handle_events

    def watched(self):
        nonlocal seen
        if not sockets:
            # Pongs are not to be held by the kernel, which would take megabytes.
            sending = self.transport.get_extra_info("socket")
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            sockets.append(self)
        seen += sum(event.opcode is Opcode.PING for event in self.conn.events if is_frame(event))
        handle(self)

    def is_frame(event):
        return isinstance(event, websockets.frames.Frame)

    monkeypatch.setattr(WebSocketProtocol, "handle_events", watched)
    count = 10_000
    async with site() as running, serving(running.web) as port, asyncio.timeout(SECONDS):
        head = (
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        )
        reader, writer = await narrow(port, "/realtime/all", head)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        pings = [
            websockets.frames.Frame(Opcode.PING, b"%0125d" % number).serialize(mask=True)
            for number in range(count)
        ]
        writer.write(b"".join(pings))
        try:
            while seen < count:  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.01)
            assert sockets[0].transport.get_write_buffer_size() < 128 << 10
            got = b""
            while not got.endswith(b"%0125d" % (count - 1)):
                got = got[-125:] + await reader.read(1 << 16)
        finally:
            writer.transport.abort()


async def test_what_is_sent_in_one_go_is_answered_in_its_order(site, serving):
    """More than is parsed at once, and a message that is longer than that."""
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        async with connect(port, "/realtime/subscribe/pump") as client:
            await heard(client)
            texts = [json.dumps({"action": "ping"}) + " " * at for at in (0, 3_000, 1) * 60]
            texts.append(json.dumps({"action": "subscribe", "device_id": "pump"}))
            frames = [
                websockets.frames.Frame(websockets.frames.Opcode.TEXT, text.encode())
                for text in texts
            ]
            client.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
            for _ in texts[:-1]:
                assert await heard(client) == {"type": "pong"}
            assert (await heard(client))["type"] == "ack"

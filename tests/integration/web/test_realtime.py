"""WebSockets, with the `websockets` library as the client."""

import asyncio
import contextlib
import json
import socket

import pytest
import uvicorn
import websockets

from integration.web.conftest import ADMIN, SHARED

SECONDS = 60


@pytest.fixture
def serving():
    """Serve as `heliograph serve` does, with its implementation of WebSockets."""

    @contextlib.asynccontextmanager
    async def running(web):
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            web, lifespan="off", log_config=None, access_log=False, ws="websockets-sansio"
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        task = asyncio.create_task(server.serve([listening]), name="uvicorn")
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task

    return running


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

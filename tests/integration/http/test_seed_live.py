"""What the documents stream, as they call it: Server-Sent Events and the WebSocket."""

import asyncio
import json

import httpx
import websockets

from integration.http.conftest import ADMIN

SECONDS = 60


async def test_the_activity_of_a_network_is_streamed_without_a_header(site, serving):
    async with site(anonymous_role="viewer") as here, serving(here.web) as port:
        body = {"sensor_name": "bulbasaur", "configuration": {}}
        sensor = (await here.http.post("/sensors", json=body, headers=ADMIN)).json()
        identifier = sensor["sensor_identifier"]
        send = {
            what: f"/sensors/{identifier}/{what}" for what in ("measurements", "logs", "heartbeats")
        }
        await here.http.post(send["measurements"], json={"value": 1}, headers=ADMIN)
        network = sensor["network_identifier"]
        async with (
            asyncio.timeout(SECONDS),
            httpx.AsyncClient(timeout=SECONDS) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/streams/{network}") as response,
        ):
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            events = named_events(response)
            name, (activity,) = await anext(events)
            assert name == "activity"
            assert (activity["sensor_identifier"], activity["sensor_name"]) == (
                identifier,
                "bulbasaur",
            )
            assert activity["measurement_counts"] == [1]
            (bucket,) = activity["bucket_timestamps"]
            assert bucket % (4 * 3600) == 0
            for what, body in (
                ("measurements", {"value": {"what": 42}}),
                ("logs", {"severity": "error", "subject": "The CPU is burning"}),
                ("heartbeats", {"revision": 0, "success": True}),
            ):
                sent = await here.http.post(send[what], json=body, headers=ADMIN)
                assert sent.json()["accepted"] == 1
                name, event = await anext(events)
                assert (f"{name}s", event["sensor_identifier"]) == (what, identifier)
                page = (await here.http.get(send[what])).json()
                assert event == {"sensor_identifier": identifier, "device_id": None, **page[-1]}


async def test_a_device_s_updates_are_subscribed_to_under_the_prefix(site, serving):
    async with site() as here, serving(here.web) as port:
        key = await here.device("esp32-1")
        url = f"ws://127.0.0.1:{port}/api/v1/realtime/subscribe/esp32-1"
        for headers in (key, ADMIN):
            async with (
                asyncio.timeout(SECONDS),
                websockets.connect(url, additional_headers=headers) as socket,
            ):
                assert json.loads(await socket.recv()) == {"type": "ack"}
                reading = {"temperature": 22.5, "humidity": 65.0}
                sent = await here.http.post("/api/v1/ingest", json=reading, headers=key)
                update = json.loads(await socket.recv())
                assert set(update) == {"type", "device_id", "data"}
                assert (update["type"], update["device_id"]) == ("reading", "esp32-1")
                assert update["data"] == {**sent.json(), "revision": None, "metrics": reading}
                path = "/api/v1/devices/esp32-1/history"
                newest = (await here.http.get(path, headers=key)).json()[0]
                assert update["data"] == newest
                assert set(newest) == {"id", "device_id", "timestamp", "revision", "metrics"}


async def named_events(response):
    """Yield each event's name and data."""
    name = None
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)

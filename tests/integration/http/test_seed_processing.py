"""Sections 4.3, 4.5 and 4.14 of the document on packets, with a real Mosquitto."""

import asyncio
import contextlib
import json

import httpx
import paho.mqtt.publish as paho
import pytest

from broker import PROGRAM, Mosquitto, running_mosquitto
from heliograph.model.time import MINUTE, now
from mqtt_client import Client, published, subscribe
from receiver import receiving
from server import eventually, running, served

pytestmark = [
    pytest.mark.uncovered,
    pytest.mark.skipif(PROGRAM is None, reason="Mosquitto is not installed"),
]

PREFIXES = ("", "/api/v1")
HOT = {"attribute": "temperature", "above": 30}


@contextlib.asynccontextmanager
async def linked(folder, broker: Mosquitto, **settings):
    """Run a server that hears of devices by a broker alone, with one of them."""
    options = {"mqtt_url": broker.url, "mqtt_listen": (), "processing_interval": 0.05}
    async with running(folder, **options, **settings) as server:
        await eventually(lambda: server.services.link.connected)
        await server.device("esp32-1")
        yield server


async def send(broker: Mosquitto, temperature: float) -> None:
    packet = {"device_id": "esp32-1", "measurements": {"temperature": temperature}}
    await asyncio.to_thread(paho.single, "packets/esp32-1", json.dumps(packet), 1, port=broker.port)


async def make(server, **rule):
    made = await server.http.post("/rules", json={"name": "Hot", "condition": HOT, **rule})
    assert made.status_code == 201, made.text
    # Else the processor knows of the rule a moment later.
    await server.services.processor.refresh()


async def messages(server, **query):
    answers = [
        (await server.http.get(f"{prefix}/messages", params=query)).json() for prefix in PREFIXES
    ]
    assert answers[0] == answers[1]
    return answers[0]["messages"]


@contextlib.asynccontextmanager
async def watching(server, path="/events", **headers):
    """Follow a stream over a socket; gives an iterator of name, id and data of its events."""
    headers = {**server.http.headers, **headers}
    async with (
        served(server.application) as port,
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"http://127.0.0.1:{port}{path}", headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response)


async def events(response):
    event = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name in ("event", "id"):
            event[name] = value
        elif name == "data":
            yield event.get("event"), event.get("id"), json.loads(value)
            event = {}


async def test_4_3_message_processing(tmp_path, capsys, monkeypatch):
    """Because of a message: an event, a publication, a script; what fails is told."""
    monkeypatch.setattr("heliograph.processing.dispatcher.ATTEMPTS", 1)
    monkeypatch.setattr("heliograph.processing.dispatcher.POSTPONED_SECONDS", 0.05)
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    for name, text in (("note", f"cat >> {tmp_path}/noted"), ("broken", "echo oh; exit 3")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    actions = [
        {"type": "sse", "template": {"celsius": "{{value.temperature}}"}},
        {"type": "mqtt", "topic": "commands", "payload": {"fan": "{{value.temperature}}"}},
        {"type": "script", "script": "note", "payload": "{{value.temperature}};"},
        {"type": "script", "script": "broken"},
    ]
    with running_mosquitto() as broker:
        async with linked(tmp_path, broker, scripts_dir=folder) as server:
            await make(server, actions=[each | {"on": "message"} for each in actions])
            fan = await Client.connected(broker.port, "fan")
            fan.send(subscribe("commands"))
            assert (await fan.packet())[0] == 0x90
            async with watching(server) as stream:
                await send(broker, 21)
                await send(broker, 31)
                shown = [await anext(stream) for _ in range(3)]
            # What is shown is what the template makes of the message, not the message.
            [event] = [data for name, _, data in shown if name == "rule"]
            assert event["event"] == {"celsius": 31}
            assert json.loads(published(await fan.packet()).payload) == {"fan": 31}
            await fan.close()
            await eventually(lambda: _count(server, 2, processed="true"))
            assert (tmp_path / "noted").read_text() == "31;"
            failed = (await server.http.get("/actions?state=failed")).json()
            assert [each["error"] for each in failed] == ["'broken' ended with status 3: oh"]

            # While something has yet to be done because of it, a message is not processed.
            broker.stop()
            await eventually(lambda: not server.services.link.connected)
            packet = {"device_id": "esp32-1", "measurements": {"temperature": 35}}
            posted = await server.http.post("/packets", json=packet)
            assert (posted.status_code, posted.json()["published"]) == (201, False)
            await eventually(lambda: _count(server, 1, processed="false"))
            [waiting] = await messages(server, processed="false")
            assert (waiting["id"], waiting["processed"]) == (posted.json()["id"], False)
            broker.start()
            await eventually(lambda: _count(server, 3, processed="true"))
    assert "action failed" in "".join(capsys.readouterr())


async def test_4_5_server_sent_events(tmp_path):
    """Pushed by what a rule finds; who was away is sent what it has missed."""
    with running_mosquitto() as broker:
        async with linked(tmp_path, broker) as server:
            await make(server, actions=[{"type": "sse", "on": "raised"}])
            for prefix in PREFIXES:
                async with watching(server, f"{prefix}/events?kind=measurement") as stream:
                    await send(broker, 21)
                    name, last, data = await anext(stream)
                    assert (name, data["measurement"]) == ("measurement", {"temperature": 21})
                # It was away, and comes again as EventSource does.
                await send(broker, 22)
                await eventually(lambda: _newest(server, 22))
                again = {"last-event-id": last}
                async with watching(server, f"{prefix}/events?kind=measurement", **again) as stream:
                    _, _, data = await anext(stream)
                    assert data["measurement"] == {"temperature": 22}
            async with watching(server) as stream:
                for temperature in (23, 31):
                    await send(broker, temperature)
                shown = [await anext(stream) for _ in range(3)]
            events = sorted((name, data["device_id"]) for name, _, data in shown)
            assert events == [("measurement", "esp32-1")] * 2 + [("rule", "esp32-1")]
            [rule] = [data for name, _, data in shown if name == "rule"]
            assert (rule["rule"]["name"], rule["value"]["temperature"]) == ("Hot", 31)


async def test_4_14_monitoring_and_alerting(tmp_path, monkeypatch):
    """Health, metrics, and alerts about a broker that is away, many errors and a backlog."""
    monkeypatch.setattr("heliograph.processing.alerting.WATCH_SECONDS", 1e9)
    async with receiving() as receiver:
        with running_mosquitto() as broker:
            async with linked(tmp_path, broker, webhook_allow="127.0.0.1") as server:
                url = f"http://127.0.0.1:{receiver.port}/"
                operators = {"name": "Operators", "type": "webhook", "url": url}
                mine = operators | {"network_identifier": None}
                assert (await server.http.post("/channels", json=mine)).status_code == 201
                assert await _measured(server, "broker_connected") == 1
                for prefix in PREFIXES:
                    assert (await server.http.get(f"{prefix}/health")).json() == {"status": "OK"}
                    assert (await server.http.get(f"{prefix}/ping")).json()["status"] == "OK"
                    assert (await server.http.get(f"{prefix}/readyz")).json()["ready"] is True
                assert await _measured(server, "ingest_queue_depth") == 0
                assert await _measured(server, "process_resident_memory_bytes", "") > 1 << 20
                assert await _measured(server, "http_requests_total") >= 7

                moment = now()
                watch = server.services.alerting.watch
                await watch(moment)
                broker.stop()
                await eventually(lambda: not server.services.link.connected)
                assert await _measured(server, "broker_connected") == 0
                # All of the last minute's was wrong, and something waits for the broker since.
                sent = await server.http.post("/ingest/batch", json=[{"device_id": "?"}] * 200)
                assert len(sent.json()["rejected"]) == 200
                packet = {"device_id": "esp32-1", "measurements": {"temperature": 35}}
                assert (await server.http.post("/packets", json=packet)).status_code == 201
                for minutes in (1, 2, 7, 8):
                    await watch(moment + minutes * MINUTE)
                alerts = (await server.http.get("/alerts")).json()
                raised = {(each["rule"], each["severity"], each["state"]) for each in alerts}
                assert raised == {
                    ("broker", "critical", "raised"),
                    ("outbox", "warning", "raised"),
                    ("errors", "warning", "cleared"),  # nothing was wrong in the minutes since
                }
                told = json.loads((await _request(receiver)).partition(b"\r\n\r\n")[2])
                assert told["severity"] in ("critical", "warning")

                broker.start()
                await eventually(lambda: server.services.link.connected)
                await eventually(lambda: _count(server, 1, kind="packet", processed="true"))
                for minutes in (11, 12, 13):
                    await watch(moment + minutes * MINUTE)
                assert (await server.http.get("/alerts?state=open")).json() == []


async def _count(server, count, **query):
    paths = [f"{prefix}/messages" for prefix in PREFIXES]
    answers = [(await server.http.get(path, params=query)).json() for path in paths]
    return all(answer["total_count"] == count for answer in answers)


async def _newest(server, temperature):
    newest = (await server.http.get("/messages")).json()["messages"][0]
    return newest["payload"]["measurements"] == {"temperature": temperature}


async def _measured(server, name, prefix="heliograph_"):
    text = (await server.http.get("/metrics")).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#"]
    found = [float(value) for each, value in lines if each.split("{")[0] == prefix + name]
    assert found, name
    return sum(found)


async def _request(receiver):
    await eventually(receiver.requests.__len__)
    return receiver.requests[0]

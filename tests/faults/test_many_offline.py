"""All sensors go offline at once, and come back: a person is told twice, not thousands of times.

HELIOGRAPH_SENSORS is how many there are.
"""

import asyncio
import json
import os
import time

from faults.process import condition
from mqtt_client import Client
from receiver import receiving
from smtp_server import smtp_server

SENSORS = int(os.environ.get("HELIOGRAPH_SENSORS", "100"))
# In seconds: what comes back within it is told as one.
WINDOW = os.environ.get("HELIOGRAPH_WINDOW", "5")
LONG = {"SENSORS": 2_000, "WINDOW": "60"}
SECONDS = 300
# As a person reads it, and as services of push messages take it.
LONGEST_TEXT = 2_000


async def connect(server, keys):
    """Connect all of them, some at a time."""
    turns = asyncio.Semaphore(50)

    async def one(name, key):
        async with turns:
            return await Client.connected(server.mqtt_port, name, name, key)

    return await asyncio.gather(*(one(name, key) for name, key in keys.items()))


def bodies(receiver):
    return [json.loads(each.partition(b"\r\n\r\n")[2]) for each in receiver.requests]


async def test_one_notice_a_channel_tells_that_all_are_offline_and_one_that_all_are_back(
    make_server, database
):
    async with smtp_server() as mails, receiving() as receiver:
        server = await make_server(
            database.url,
            NOTICE_WINDOW=WINDOW,
            WEBHOOK_ALLOW="127.0.0.1",
            SMTP_HOST="127.0.0.1",
            SMTP_PORT=str(mails.port),
            SMTP_SECURITY="none",
            SMTP_SENDER="alerts@example.org",
            RATE_LIMIT_FAILED_LOGINS="0",
        )
        names = [f"sensor-{number:04}" for number in range(SENSORS)]
        async with server.client() as http:
            keys = {}
            for begin in range(0, SENSORS, 1_000):
                devices = [{"device_id": name} for name in names[begin : begin + 1_000]]
                made = (await http.post("/devices/batch", json=devices)).json()
                keys |= {each["device_id"]: each["api_key"] for each in made}
            url = f"http://127.0.0.1:{receiver.port}/"
            for channel in (
                {"name": "Operators", "type": "email", "to": ["operator@example.org"]},
                {"name": "Incidents", "type": "webhook", "url": url},
            ):
                assert (await http.post("/channels", json=channel)).status_code == 201
            rule = {
                "name": "Offline",
                "condition": {"offline": 1},
                "severity": "critical",
                "actions": [{"type": "alert"}],
            }
            assert (await http.post("/rules", json=rule)).status_code == 201

            async def count(state):
                answer = await http.get(f"/alerts?state={state}&limit=1")
                return int(answer.headers["x-total-count"])

            async def all_are(state):
                return await count(state) == SENSORS

            clients = await connect(server, keys)
            gone = time.monotonic()
            for client in clients:
                await client.abort()
            await condition(lambda: receiver.requests and mails.mails, SECONDS, "a notice")
            noticed = time.monotonic() - gone
            await condition(lambda: all_are("raised"), SECONDS, "all alerts")
            raised = time.monotonic() - gone

            back = time.monotonic()
            clients = await connect(server, keys)
            connected = time.monotonic() - back
            await condition(lambda: all_are("cleared"), SECONDS, "all cleared")
            both = receiver.requests, mails.mails
            await condition(lambda: all(len(each) == 2 for each in both), SECONDS, "all clear")
            all_clear = time.monotonic() - back
            for client in clients:
                await client.close()
        await server.stop()
    raised_as_one, all_clear_as_one = bodies(receiver)
    assert raised_as_one["title"] == f"[critical] {SENSORS:,} sensors: Offline"
    assert f"Raised at this moment: {SENSORS:,}." in raised_as_one["text"]
    assert all_clear_as_one["title"] == f"[all clear] {SENSORS:,} sensors: Offline"
    for body, mail in zip(bodies(receiver), mails.mails, strict=True):
        assert body["alerts"] == SENSORS
        assert f"  and {SENSORS - 10:,} more\n" in body["text"]
        assert len(body["text"]) < LONGEST_TEXT
        assert mail.message["Subject"] == body["title"]
    print(
        f"{database.engine}: told after {noticed:.1f} s, all raised after {raised:.1f} s; connected"
        f" again in {connected:.1f} s, all clear after {all_clear:.1f} s;"
        f" {[len(body['text']) for body in bodies(receiver)]} characters"
    )

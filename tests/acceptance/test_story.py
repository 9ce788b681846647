"""The first document's whole story, by the clients that people write: Python and JavaScript.

The server runs as users run it, once on each engine; the device is on MQTT.
"""

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from browser import CHROMIUM, browser
from mqtt_client import PUBACK, Client, numbered, publish, published, subscribe
from server import ServerProcess

STORY = Path(__file__).with_name("story.mjs")
SECONDS = 120
NODE = shutil.which("node")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    options = {}
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgresql_cluster")
        options["database_url"] = cluster.dsn(cluster.create_database())
    folder = tmp_path_factory.mktemp("story")
    with ServerProcess(folder, RATE_LIMIT_READ="0", **options) as process:
        yield process


class Device:
    """A device on MQTT that takes its configurations and sends what it is told to."""

    def __init__(self, port, identifier, key):
        self.port, self.identifier, self.key = port, identifier, key
        self.numbers = itertools.count(1)

    async def _connected(self):
        return await Client.connected(self.port, "device", self.identifier, self.key)

    async def _send(self, client, topic, payload):
        number = next(self.numbers)
        body = json.dumps(payload).encode()
        client.send(publish(f"{topic}/{self.identifier}", body, packet_id=number))
        # A configuration that is subscribed to while it is published may come twice.
        while (answer := await client.packet()) and answer[0] >> 4 == 3:
            client.send(numbered(PUBACK, published(answer).packet_id))
        assert answer == bytes([PUBACK, 0, number])

    async def applies(self, revision, configuration, heartbeats):
        """Get the retained configuration, which has to be this one, and acknowledge it."""
        client = await self._connected()
        client.send(subscribe(f"configurations/{self.identifier}"))
        assert (await client.packet())[0] == 0x90
        message = published(await client.packet())
        client.send(numbered(PUBACK, message.packet_id))
        assert message.topic == f"configurations/{self.identifier}"
        expected = {"revision": revision, "configuration": configuration}
        assert json.loads(message.payload) == expected
        await self._send(client, "heartbeats", {"heartbeats": heartbeats})
        await client.close()

    async def sends(self, measurements, log_messages):
        """Send a batch each."""
        client = await self._connected()
        await self._send(client, "measurements", {"measurements": measurements})
        await self._send(client, "log-messages", {"log_messages": log_messages})
        await client.close()

    def act(self, act, **given):
        """Do what the story asks for."""
        asyncio.run(asyncio.wait_for(getattr(self, act)(**given), SECONDS))


# Node.js


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
def test_the_story_by_fetch_in_node(server):
    devices = {}
    with subprocess.Popen(
        [NODE, str(STORY), server.url, "ash"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            acts = []
            for line in program.stdout:
                asked = json.loads(line)
                if "done" in asked:
                    break
                identifier, key = asked.pop("sensor"), asked.pop("key")
                device = devices.setdefault(identifier, Device(server.mqtt_port, identifier, key))
                acts.append(asked["act"])
                device.act(**asked)
                program.stdin.write("\n")
                program.stdin.flush()
            _, complaint = program.communicate(timeout=SECONDS)
            assert program.returncode == 0, complaint
        finally:
            program.kill()
    assert acts == ["applies", "sends", "applies", "applies"]


# A page, with the session as a cookie


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_story_in_a_page_with_a_cookie(server):
    functions = STORY.read_text().replace("export ", "").partition("// As a program")[0]
    with browser() as opened, opened(f"{server.url}/docs") as evaluate:
        told = {"base": server.url, "name": "misty", "inPage": True}
        script = f"(async () => {{ {functions}; return await story({json.dumps(told)}); }})()"
        identifier = evaluate(script)
        # The page's scripts never see the session.
        assert evaluate("document.cookie") == ""
    found = server.http.get(f"/sensors/{identifier}").json()
    assert found["sensor_name"] == "bulbasaur"


# Python


def test_the_story_by_httpx(server):
    with httpx.Client(base_url=server.url, timeout=SECONDS) as client:
        tell(client, server, {"username": "brock", "password": "12345678"})


MEASUREMENTS = [
    {
        "revision": 0,
        "creation_timestamp": 1674677601.900101,
        "measurement": {"what": 42, "tomorrow": True, "somewhere": 347},
    },
    {
        "revision": 2,
        "creation_timestamp": 1674677604.365664,
        "measurement": {"what": 42, "tomorrow": True, "somewhere": 320},
    },
]
LOGS = [
    {
        "revision": 0,
        "creation_timestamp": 1674677601.900101,
        "severity": "warning",
        "subject": "The CPU is pretty hot",
        "details": None,
    },
    {
        "revision": 2,
        "creation_timestamp": 1674677604.365664,
        "severity": "error",
        "subject": "The CPU is burning",
        "details": "Please call the fire department",
    },
]


def tell(client, server, credentials):
    refused(client.get("/users/me"), 401, "INVALID_API_KEY")
    signed_up = client.post("/users", json=credentials)
    assert signed_up.status_code == 201
    refused(client.post("/users", json=credentials), 409, "USERNAME_ALREADY_REGISTERED")
    wrong = client.post("/authentication", json={**credentials, "password": "87654321"})
    refused(wrong, 401, "INVALID_CREDENTIALS")
    logged_in = client.post("/authentication", json=credentials).json()
    assert logged_in["user_identifier"] == signed_up.json()["user_identifier"]
    client.headers["authorization"] = f"Bearer {logged_in['access_token']}"

    network = client.post("/networks", json={"network_name": "kanto"}).json()
    bulbasaur = {
        "sensor_name": "bulbasaur",
        "network_identifier": network["network_identifier"],
        "configuration": {},
    }
    created = client.post("/sensors", json=bulbasaur)
    assert (created.status_code, created.json()["revision"]) == (201, 0)
    refused(client.post("/sensors", json=bulbasaur), 409, "SENSOR_NAME_ALREADY_REGISTERED")
    identifier = created.json()["sensor_identifier"]
    key = client.post(f"/devices/{identifier}/key").json()["api_key"]

    stream = f"/streams/{network['network_identifier']}"
    with client.stream("GET", stream) as response:
        assert response.status_code == 200
        shown = events(response)
        quiet = {"bucket_timestamps": [], "measurement_counts": []}
        snapshot = {"sensor_identifier": identifier, "sensor_name": "bulbasaur", **quiet}
        assert next(shown) == ("activity", [snapshot])
        tell_of_its_work(client, Device(server.mqtt_port, identifier, key), bulbasaur, shown)
        tell_of_its_pages(client, identifier)
        assert client.delete("/authentication").status_code == 204
        # What is watched ends with the session.
        assert {name for name, _ in shown} <= {"presence"}
    for path in (f"/sensors/{identifier}", stream):
        refused(client.get(path), 401, "INVALID_TOKEN")


def tell_of_its_work(client, device, bulbasaur, shown):
    """Have the device apply configurations and send, and see each thing in the stream."""
    path = f"/sensors/{device.identifier}"
    sensor = {"sensor_identifier": device.identifier, "device_id": None}
    device.act("applies", revision=0, configuration={}, heartbeats=[beat(0)])
    heartbeat = following(shown, "heartbeat")
    assert (heartbeat["revision"], heartbeat["success"]) == (0, True)
    device.act(
        "sends",
        measurements=[sent(each, measurement="value") for each in MEASUREMENTS],
        log_messages=[sent(each) for each in LOGS],
    )
    for name, rows in (("measurement", MEASUREMENTS), ("log", LOGS)):
        for row in rows:
            assert following(shown, name) == {**sensor, **row}
    changed = {**bulbasaur, "configuration": {"value": 23, "something": "else"}}
    for revision in (1, 2):
        updated = client.put(path, json=changed)
        assert (updated.status_code, updated.json()["revision"]) == (200, revision)
        configuration = following(shown, "configuration")
        assert configuration["revision"] == revision
        assert configuration["configuration"] == changed["configuration"]
        device.act(
            "applies",
            revision=revision,
            configuration=changed["configuration"],
            heartbeats=[beat(revision, success=revision == 2)],
        )
        assert following(shown, "heartbeat")["success"] == (revision == 2)
    revisions = client.get(f"{path}/configurations").json()
    assert [each["success"] for each in revisions] == [True, False, True]

    again = httpx.post(
        client.base_url.join(f"{path}/measurements"),
        headers={"x-api-key": device.key},
        json={"measurements": [sent(MEASUREMENTS[1], measurement="value")]},
    )
    assert again.status_code == 201
    assert again.json() == {"accepted": 0, "duplicates": 1, "retimed": 0, "rejected": []}


def tell_of_its_pages(client, identifier):
    path = f"/sensors/{identifier}"
    params = {"creation_timestamp": 1674677600.0, "direction": "next"}
    assert client.get(f"{path}/measurements", params=params).json() == MEASUREMENTS
    assert client.get(f"{path}/logs", params=params).json() == LOGS
    assert client.get(f"{path}/logs/aggregates").json() == [
        {
            "sensor_identifier": identifier,
            "severity": each["severity"],
            "subject": each["subject"],
            "min_revision": each["revision"],
            "max_revision": each["revision"],
            "min_creation_timestamp": each["creation_timestamp"],
            "max_creation_timestamp": each["creation_timestamp"],
            "count": 1,
        }
        for each in LOGS
    ]
    page = client.get(f"{path}/measurements", params={**params, "creation_timestamp": "soon"})
    refused(page, 422, "VALIDATION_FAILED")
    refused(client.get("/sensors/102ebc56-edb9-42be-aec0-15a6c1075c7e"), 404, "SENSOR_NOT_FOUND")


def events(response):
    """Yield the name and the data of each of a stream's events, until it ends."""
    name, deadline = None, time.monotonic() + SECONDS
    for line in response.iter_lines():
        # While nothing happens there is a comment every quarter of a minute.
        assert time.monotonic() < deadline, "nothing more was shown"
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
            deadline = time.monotonic() + SECONDS


def following(shown, name):
    """Return the data of the next event; it has this name, except for those of presence."""
    found, data = next(each for each in shown if each[0] != "presence")
    assert found == name, data
    return data


def sent(row, **names):
    """Return a page's row as a device sends it."""
    names["creation_timestamp"] = "timestamp"
    return {names.get(name, name): value for name, value in row.items()}


def beat(revision, *, success=True):
    return {"revision": revision, "timestamp": time.time(), "success": success}


def refused(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text

"""The documented calls of the systems that this one replaces, with their own bodies and fields.

Identifiers are those that the server gives; everything else is as the documents have it.
"""

import json
import logging
import re
import uuid
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from heliograph import logs
from heliograph.settings import Settings
from mqtt_client import Client, publish, published, subscribe

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

DECISIONS = Path(__file__).parents[3] / "docs/decisions"
ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
# As both documents give them: a batch each of what a sensor sends.
HEARTBEATS = {"heartbeats": [{"revision": 0, "timestamp": 0.0, "success": True}]}
LOG_MESSAGES = {
    "log_messages": [
        {
            "severity": "error",
            "revision": 0,
            "timestamp": 0.0,
            "subject": "The CPU is burning",
            "details": "Please call the fire department",
        }
    ]
}
MEASUREMENTS = {"measurements": [{"revision": 0, "timestamp": 0.0, "value": {}}]}


async def log_in(here):
    """Sign up and log in as the first document does, and return the headers of its calls."""
    credentials = {"username": "admin", "password": "12345678"}
    signed_up = await here.http.post("/users", json=credentials)
    assert signed_up.status_code == 201
    logged_in = await here.http.post("/authentication", json=credentials)
    assert logged_in.status_code == 200
    for answer in (signed_up, logged_in):
        assert set(answer.json()) >= {"access_token", "user_identifier"}
    assert signed_up.json()["user_identifier"] == logged_in.json()["user_identifier"]
    return {"authorization": f"Bearer {logged_in.json()['access_token']}"}


async def create_sensor(here, headers):
    network = await here.http.post("/networks", json={"network_name": "kanto"}, headers=headers)
    body = {
        "sensor_name": "bulbasaur",
        "network_identifier": network.json()["network_identifier"],
        "configuration": {},
    }
    created = await here.http.post("/sensors", headers=headers, json=body)
    assert created.status_code == 201, created.text
    return created.json()


async def test_the_status(site):
    async with site() as here:
        status = await here.http.get("/status")
        assert status.status_code == 200
        assert set(status.json()) >= {
            "environment",
            "commit_sha",
            "branch_name",
            "start_timestamp",
        }
        assert isinstance(status.json()["start_timestamp"], float)


async def test_a_sensor_is_created_and_updated(site):
    async with site() as here:
        headers = await log_in(here)
        sensor = await create_sensor(here, headers)
        assert str(uuid.UUID(sensor["sensor_identifier"])) == sensor["sensor_identifier"]
        assert sensor["revision"] == 0
        for revision in (1, 2):
            updated = await here.http.put(
                f"/sensors/{sensor['sensor_identifier']}",
                headers=headers,
                json={
                    "sensor_name": "bulbasaur",
                    "network_identifier": sensor["network_identifier"],
                    "configuration": {"value": 23, "something": "else"},
                },
            )
            assert updated.status_code == 200
            assert updated.json()["sensor_identifier"] == sensor["sensor_identifier"]
            assert updated.json()["revision"] == revision


async def test_measurements_and_logs_are_read_in_pages(site):
    async with site() as here:
        headers = await log_in(here)
        sensor = await create_sensor(here, headers)
        path = f"/sensors/{sensor['sensor_identifier']}"
        measurements = [
            (0, 1674677601.900101, {"what": 42, "tomorrow": True, "somewhere": 347}),
            (2, 1674677604.365664, {"what": 42, "tomorrow": True, "somewhere": 320}),
        ]
        logs = [
            (0, 1674677601.900101, "warning", "The CPU is pretty hot", None),
            (
                2,
                1674677604.365664,
                "error",
                "The CPU is burning",
                "Please call the fire department",
            ),
        ]
        sent = await here.http.post(
            f"{path}/measurements",
            headers=headers,
            json={
                "measurements": [
                    {"revision": revision, "timestamp": timestamp, "value": value}
                    for revision, timestamp, value in measurements
                ]
            },
        )
        assert sent.json() == {"accepted": 2, "duplicates": 0, "retimed": 0, "rejected": []}
        names = ("revision", "timestamp", "severity", "subject", "details")
        body = {"log_messages": [dict(zip(names, log, strict=True)) for log in logs]}
        sent = await here.http.post(f"{path}/logs", headers=headers, json=body)
        assert sent.json() == {"accepted": 2, "duplicates": 0, "retimed": 0, "rejected": []}
        params = {"creation_timestamp": 1674677600.0, "direction": "next"}
        page = await here.http.get(f"{path}/measurements", params=params, headers=headers)
        names = ("revision", "creation_timestamp", "measurement")
        assert page.json() == [dict(zip(names, each, strict=True)) for each in measurements]
        page = await here.http.get(f"{path}/logs", params=params, headers=headers)
        names = ("revision", "creation_timestamp", "severity", "subject", "details")
        assert page.json() == [dict(zip(names, each, strict=True)) for each in logs]


async def test_warnings_and_errors_are_counted(site):
    async with site() as here:
        headers = await log_in(here)
        sensor = await create_sensor(here, headers)
        path = f"/sensors/{sensor['sensor_identifier']}"
        hot, burning = "The CPU is pretty hot", "The CPU is burning"
        logs = [
            ("warning", 0, 1674678353.210926, hot),
            ("warning", 1, 1674678400.5, hot),
            ("warning", 1, 1674678408.210929, hot),
            ("info", 1, 1674678409.0, hot),
            ("error", 2, 1674678412.210929, burning),
        ]
        names = ("severity", "revision", "timestamp", "subject")
        body = {"log_messages": [dict(zip(names, log, strict=True)) for log in logs]}
        await here.http.post(f"{path}/logs", headers=headers, json=body)
        counted = await here.http.get(f"{path}/logs/aggregates", headers=headers)
        assert counted.status_code == 200
        assert counted.json() == [
            {
                "sensor_identifier": sensor["sensor_identifier"],
                "severity": "warning",
                "subject": hot,
                "min_revision": 0,
                "max_revision": 1,
                "min_creation_timestamp": 1674678353.210926,
                "max_creation_timestamp": 1674678408.210929,
                "count": 3,
            },
            {
                "sensor_identifier": sensor["sensor_identifier"],
                "severity": "error",
                "subject": burning,
                "min_revision": 2,
                "max_revision": 2,
                "min_creation_timestamp": 1674678412.210929,
                "max_creation_timestamp": 1674678412.210929,
                "count": 1,
            },
        ]


def departures(role):
    """Return the settings with which the page of departures says that calls hold."""
    page = (DECISIONS / "0004-departures-from-the-seed-documents.md").read_text()
    ((_, given),) = re.findall(rf"`(ANONYMOUS_ROLE={role}\b)([^`]*)`", page)
    pairs = [pair.split("=", 1) for pair in f"ANONYMOUS_ROLE={role}{given}".split()]
    return {name.lower(): value for name, value in pairs}


async def test_reads_without_a_header_hold_as_printed_with_the_departures_settings(site, serving):
    """Of a network that a user has made, and of its sensor, under the identifiers as printed."""
    network, sensor = "0a71a8d8-40c6-4086-a64e-58e38350cb53", "102ebc56-edb9-42be-aec0-15a6c1075c7e"
    settings = departures("viewer")
    # Any free port will do.
    settings["mqtt_listen"] = settings["mqtt_listen"].replace(":1883", ":0")
    async with site(**settings) as here, serving(here.web) as port:
        headers = await log_in(here)
        kanto = {"network_name": "kanto", "network_identifier": network}
        await here.http.post("/networks", json=kanto, headers=headers)
        body = {"id": sensor, "sensor_name": "bulbasaur", "network_identifier": network}
        created = await here.http.post("/sensors", json=body, headers=headers)
        assert created.json()["sensor_identifier"] == sensor
        params = {"creation_timestamp": 1674677600.0, "direction": "next"}
        url = f"http://localhost:{port}"
        async with httpx.AsyncClient() as client:
            for what in ("measurements", "logs"):
                page = await client.get(url=f"{url}/sensors/{sensor}/{what}", params=params)
                assert (page.status_code, page.json()) == (200, [])
            page = await client.get(url=f"{url}/sensors/{sensor}/logs/aggregates")
            assert (page.status_code, page.json()) == (200, [])
            async with client.stream("GET", url=f"{url}/streams/{network}") as stream:
                assert stream.status_code == 200
            # What is printed with a header still needs it.
            body = {"sensor_name": "bulbasaur", "network_identifier": network, "configuration": {}}
            assert (await client.post(url=f"{url}/sensors", json=body)).status_code == 403
            # Nor is it a stranger's to read from elsewhere.
            foreign = {"host": "attacker.example"}
            refused = await client.get(f"{url}/sensors/{sensor}/logs", headers=foreign)
            assert refused.status_code == 403
    async with site() as here:
        assert (await here.http.get(f"/sensors/{sensor}/logs")).status_code == 401


def test_none_of_the_departures_holds_in_production():
    for role in ("viewer", "owner"):
        given = departures(role) | {"app_env": "production", "api_secret_key": "b7Xq2mZr9tLk4WcV8s"}
        with pytest.raises(ValidationError, match="ANONYMOUS_ROLE: should be empty"):
            Settings(**given)


@pytest.mark.parametrize("severity", ["debug", "info", "warning", "error"])
async def test_the_topics_take_the_documented_payloads(site, severity):
    log_messages = {"log_messages": [{**LOG_MESSAGES["log_messages"][0], "severity": severity}]}
    async with site(mqtt_listen="127.0.0.1:0") as here:
        headers = await log_in(here)
        sensor = await create_sensor(here, headers)
        identifier = sensor["sensor_identifier"]
        key = (await here.http.post(f"/devices/{identifier}/key", headers=headers)).json()
        ((_, port),) = here.services.listener.addresses
        client = await Client.connected(port, "sensor", identifier, key["api_key"])
        for number, (topic, payload) in enumerate(
            (
                ("heartbeats", HEARTBEATS),
                ("log-messages", log_messages),
                ("measurements", MEASUREMENTS),
            ),
            1,
        ):
            body = json.dumps(payload).encode()
            client.send(publish(f"{topic}/{identifier}", body, packet_id=number))
            acknowledged = await client.packet()
            assert acknowledged[:3] == bytes([0x40, 0, number])
        await client.close()
        assert await here.rejected() == []
        path = f"/sensors/{identifier}"
        (measurement,) = (await here.http.get(f"{path}/measurements", headers=headers)).json()
        assert (measurement["revision"], measurement["measurement"]) == (0, {})
        (log,) = (await here.http.get(f"{path}/logs", headers=headers)).json()
        assert (log["severity"], log["subject"]) == (severity, "The CPU is burning")
        assert (log["revision"], log["details"]) == (0, "Please call the fire department")


async def test_devices_under_the_prefix(site):
    async with site() as here:
        health = await here.http.get("/api/v1/health")
        assert health.status_code == 200
        created = await here.http.post(
            "/api/v1/devices", headers=ADMIN, json={"device_id": "esp32-1", "name": "ESP32"}
        )
        assert created.status_code == 201
        device = created.json()
        assert set(device) >= {
            "id",
            "device_id",
            "name",
            "api_key",
            "is_active",
            "created_at",
            "last_seen_at",
        }
        listed = await here.http.get("/api/v1/devices", headers=ADMIN)
        assert [each["device_id"] for each in listed.json()] == ["esp32-1"]
        key = {"x-api-key": device["api_key"]}
        read = await here.http.get("/api/v1/devices/esp32-1", headers=key)
        assert read.json()["id"] == device["id"]
        single = await here.http.post(
            "/api/v1/ingest", headers=key, json={"temperature": 22.5, "humidity": 65.0}
        )
        assert single.status_code == 201
        several = await here.http.post(
            "/api/v1/ingest/batch", headers=key, json=[{"temperature": 22.6}, {"voltage": 3.3}]
        )
        assert several.json()["accepted"] == 2
        history = await here.http.get("/api/v1/devices/esp32-1/history", headers=key)
        assert {json.dumps(each["metrics"]) for each in history.json()} == {
            '{"humidity": 65.0, "temperature": 22.5}',
            '{"temperature": 22.6}',
            '{"voltage": 3.3}',
        }
        for wrong in ({}, {"x-api-key": "device-api-key"}):
            refused = await here.http.get("/api/v1/devices", headers=wrong)
            assert (refused.status_code, refused.json()["detail"]) == (401, "Invalid API key")
        aggregate = await here.http.get("/api/v1/devices/esp32-1/aggregate", headers=key)
        assert set(aggregate.json()) == {"device_id", "start", "end", "count", "metrics"}
        assert aggregate.json()["count"] == len(history.json())
        assert set(aggregate.json()["metrics"]["temperature"]) == {"min", "max", "avg", "count"}


async def test_nodes_and_sensors_are_created_read_updated_and_connected(site):
    async with site(**departures("owner")) as here:
        node = await here.http.post(
            "/nodes", json={"serial_number": "NODE-1", "firmware_version": "1.0.0"}
        )
        assert node.status_code == 201
        inventory = {
            "serial_number": "SENSOR-1",
            "manufacturer": "Acme",
            "model": "T-1000",
            "modality": "temperature",
        }
        sensor = await here.http.post("/sensors", json=inventory)
        assert sensor.status_code == 201
        assert sensor.json()["node_id"] is None
        for path, body in [
            ("/nodes", {"serial_number": "NODE-1", "firmware_version": "1.0.0"}),
            ("/sensors", inventory),
        ]:
            again = await here.http.post(path, json=body)
            assert again.status_code == 400
            assert again.json()["detail"].endswith("already registered in this network")
        node_id, sensor_id = node.json()["id"], sensor.json()["id"]
        attached = await here.http.post(f"/nodes/{node_id}/sensors", json={"sensor_id": sensor_id})
        assert (attached.status_code, attached.json()["node_id"]) == (200, node_id)
        full = await here.http.get(f"/nodes/{node_id}/full")
        assert [each["id"] for each in full.json()["sensors"]] == [sensor_id]
        for method in ("PUT", "PATCH"):
            updated = await here.http.request(
                method, f"/nodes/{node_id}", json={"firmware_version": method}
            )
            assert updated.json()["firmware_version"] == method
            updated = await here.http.request(
                method, f"/sensors/{sensor_id}", json={"model": method}
            )
            assert updated.json()["model"] == method
        for path, which in [
            ("/nodes", {"serial_number": "NODE-1"}),
            ("/nodes/", {"firmware_version": "PATCH"}),
            ("/sensors", {"serial_number": "SENSOR-1"}),
            ("/sensors", {"manufacturer": "Acme"}),
            ("/sensors/", {"modality": "temperature", "model": "PATCH"}),
            ("/sensors", {"node_id": node_id}),
        ]:
            found = await here.http.get(path, params=which)
            assert len(found.json()) == 1, (path, which)
        for path, which in [
            ("/nodes", {"serial_number": "NODE-2"}),
            ("/sensors", {"serial_number": "SENSOR-2"}),
        ]:
            assert (await here.http.get(path, params=which)).json() == [], path
        for body in ({"serial_number": "NODE-2"}, {"firmware_version": "1.0.0"}):
            invalid = await here.http.post("/nodes", json=body)
            assert invalid.status_code == 422
            (left_out,) = {"serial_number", "firmware_version"} - body.keys()
            assert invalid.json()["detail"][0]["loc"] == ["body", left_out]
        missing = await here.http.get(f"/nodes/{uuid.uuid4()}")
        assert (missing.status_code, missing.json()["detail"]) == (404, "Node not found")
        missing = await here.http.get(f"/sensors/{uuid.uuid4()}")
        assert (missing.status_code, missing.json()["detail"]) == (404, "Sensor not found")
        invalid = await here.http.post("/sensors", json={"serial_number": "SENSOR-2"})
        assert invalid.status_code == 422
        assert invalid.json()["detail"][0]["loc"] == ["body", "manufacturer"]
        gone = await here.http.delete(f"/nodes/{node_id}")
        assert gone.status_code == 204


async def test_the_topic_of_configurations_has_the_documented_payload(site):
    async with site(mqtt_listen="127.0.0.1:0") as here:
        headers = await log_in(here)
        sensor = await create_sensor(here, headers)
        identifier = sensor["sensor_identifier"]
        key = (await here.http.post(f"/devices/{identifier}/key", headers=headers)).json()
        ((_, port),) = here.services.listener.addresses
        client = await Client.connected(port, "sensor", identifier, key["api_key"])
        client.send(subscribe(f"configurations/{identifier}"))
        assert (await client.packet())[0] == 0x90
        message = published(await client.packet())
        assert message.topic == f"configurations/{identifier}"
        assert json.loads(message.payload) == {"revision": 0, "configuration": {}}
        await client.close()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_interface_documents_itself(site, path):
    async with site() as here:
        page = await here.http.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")


async def test_the_documented_curl_calls(site):
    """The admin's, a device's own key, and a key of DEVICE_API_KEYS that names the device."""
    async with site(device_api_keys="key1,key2,key3") as here:
        listed = await here.http.get("/api/v1/devices", headers=ADMIN)
        assert (listed.status_code, listed.json()) == (200, [])
        key = await here.device("esp32-1")
        reading = {"temperature": 22.5, "humidity": 65.0}
        for headers, body in [
            (key, reading),
            ({"x-api-key": "key2"}, {"device_id": "esp32-1", "voltage": 3.3}),
        ]:
            sent = await here.http.post(
                "/api/v1/ingest",
                headers={**headers, "content-type": "application/json"},
                content=json.dumps(body),
            )
            assert sent.status_code == 201
            assert sent.json()["device_id"] == "esp32-1"
        for key in ("key1", "key2"):
            # As printed: the key alone says which device sends.
            sent = await here.http.post(
                "/api/v1/ingest",
                headers={"x-api-key": key, "content-type": "application/json"},
                content=json.dumps(reading),
            )
            assert sent.status_code == 201, sent.text
        wrong = await here.http.post("/api/v1/ingest", headers={"x-api-key": "key4"}, json=reading)
        assert (wrong.status_code, wrong.json()["detail"]) == (401, "Invalid API key")


async def test_nodes_and_sensors_are_read_by_their_id(site):
    async with site(**departures("owner")) as here:
        node = await here.http.post(
            "/nodes", json={"serial_number": "NODE-1", "firmware_version": "1.0.0"}
        )
        sensor = await here.http.post(
            "/sensors",
            json={
                "serial_number": "SENSOR-1",
                "manufacturer": "Acme",
                "model": "T-1000",
                "modality": "temperature",
            },
        )
        for path, made in (("nodes", node), ("sensors", sensor)):
            read = await here.http.get(f"/{path}/{made.json()['id']}")
            assert (read.status_code, read.json()) == (200, made.json())
        gone = await here.http.delete(f"/sensors/{sensor.json()['id']}")
        assert gone.status_code == 204


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.usefixtures("restored_logging")
async def test_003_4_6_server_log_rolls_and_tells_of_each_area_without_secrets(
    site, tmp_path, monkeypatch, form
):
    """A file of bounded size, by the logging module; level, time, type and context a line."""
    file = tmp_path / "server.log"
    more = {"log_levels": "api=debug,sse=debug,mqtt=debug,processing=debug"}
    more |= {"log_file": str(file), "log_file_size": "4KB", "log_file_count": 50}
    async with site(log_format=form, mqtt_listen="127.0.0.1:0", **more) as here:
        (bounded,) = (h for h in logging.getLogger().handlers if isinstance(h, logs.Bounded))
        (handler,) = (h for h in bounded.handlers if isinstance(h, logs.LogFile))
        body = {"device_id": "pump-1"}
        key = (await here.http.post("/devices", json=body, headers=ADMIN)).json()["api_key"]
        ((_, port),) = here.services.listener.addresses
        client = await Client.connected(port, "one", "pump-1", key)
        await client.close()
        packet = {"device_id": "pump-1", "measurements": {"t": 1}}
        assert (await here.http.post("/packets", json=packet, headers=ADMIN)).status_code == 201
        await here.http.get("/events", headers=ADMIN)
        monkeypatch.setattr(here.services.store.networks, "list", lambda **_: 1 / 0)
        assert (await here.http.get("/networks", headers=ADMIN)).status_code == 500
    logs.configure()
    files = [file, *sorted(tmp_path.glob("server.log.*"))]
    assert handler.baseFilename == str(file)
    assert 1 < len(files) <= 51
    assert all(each.stat().st_size <= 8_000 for each in files)
    text = "".join(each.read_text() for each in reversed(files))
    assert "Traceback" in text
    assert "ZeroDivisionError" in text
    for secret in (key, ADMIN["x-api-key"]):
        assert secret not in text
    told = {
        "server started": "lifecycle",
        "server stopped": "lifecycle",
        "client connected": "mqtt",
        "client disconnected": "mqtt",
        "action done": "processing",
        "request answered": "api",
        "request failed": "api",
        "stream opened": "sse",
        "stream ended": "sse",
    }
    lines = [line for line in text.splitlines() if line[:1] in "{2"]
    for event, area in told.items():
        line = next(line for line in lines if event in line)
        if form == "json":
            shown = json.loads(line)
            assert (shown["event"], shown["type"]) == (event, area)
            assert {"level", "timestamp", "logger"} < set(shown)
        else:
            assert re.match(r"\d{4}-\d\d-\d\dT\S+Z \[(info|debug|error) *\] ", line), line
            assert f"type={area}" in line

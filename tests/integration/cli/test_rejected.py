"""A device sends rubbish: it sees PUBACK, and who reads the log sees what it sends, and why."""

import asyncio
import contextlib
import json
import shlex

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from structlog.testing import capture_logs

from bare_environment import without_variables
from broker import PROGRAM, Mosquitto
from commands import called
from mqtt_client import Client, connect
from server import ADMIN_KEY, ServerThread, eventually, running

NOT_JSON = '{"value": {temperature: 22.5}}'


def send(port: int, username: str, password: str, topic: str, payload: str) -> None:
    """Send as a device does, and return when it was acknowledged."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=username, protocol=paho.MQTTv311)
    client.username_pw_set(username, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        message = client.publish(topic, payload, qos=1)
        message.wait_for_publish(60)
        assert message.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


async def shown(server, folder, line):
    """Return what the command in a line of the log shows."""
    words = shlex.split(line["see"])
    environment = {**without_variables(), "DATABASE_URL": f"sqlite:///{folder}/heliograph.db"}
    done = await asyncio.to_thread(called, *words[1:], environment=environment, folder=folder)
    assert (words[0], done.returncode) == ("heliograph", 0)
    return done.stdout


async def test_over_the_listener(tmp_path):
    async with running(tmp_path) as server:
        pump, fan = await server.device("pump"), await server.device("fan")
        with capture_logs() as logs:
            for device in (pump, pump, fan):
                arguments = (device.device_id, device.key, device.topic, NOT_JSON)
                await asyncio.to_thread(send, server.port, *arguments)
        first, second = [each for each in logs if each["event"] == "message rejected"]
        assert (first["event"], first["log_level"]) == ("message rejected", "warning")
        assert (first["source"], first["reason"]) == (pump.topic, "MALFORMED_JSON")
        assert second["source"] == fan.topic
        listed = await shown(server, tmp_path, first)
        assert listed.count(NOT_JSON) == 2
        assert "fan" not in listed
        assert (await shown(server, tmp_path, second)).count(NOT_JSON) == 1
        # And the very message, for a person and over HTTP.
        own = {"see": f"heliograph rejected show {second['message_id']}"}
        assert NOT_JSON in await shown(server, tmp_path, own)
        found = await server.http.get(f"/messages/{second['message_id']}")
        assert (found.status_code, found.json()["id"]) == (200, second["message_id"])
        listed = (await server.http.get("/messages")).json()
        assert second["message_id"] in json.dumps(listed)


async def test_over_http(tmp_path):
    async with running(tmp_path) as server:
        pump = await server.device("pump")
        with capture_logs() as logs:
            for _ in range(2):
                answer = await server.http.post(
                    "/ingest", content=NOT_JSON, headers={"X-API-Key": pump.key}
                )
                assert answer.status_code == 400
        (told,) = logs
        assert (told["sender"], told["reason"]) == ("device:pump", "MALFORMED_JSON")
        assert (await shown(server, tmp_path, told)).count(NOT_JSON) == 2


async def test_over_http_what_is_refused_unread_is_told_of_each_client_and_reason(tmp_path):
    """A device that was given the wrong key, or is a curl without a header."""
    async with running(tmp_path) as server:
        pump = await server.device("pump")
        wrong = {"X-API-Key": "a-wrong-key"}
        form = {"X-API-Key": pump.key, "Content-Type": "application/x-www-form-urlencoded"}
        with capture_logs() as logs:
            for _ in range(3):
                for path in ("/ingest", "/sensors/pump/measurements"):
                    for headers, status in ((wrong, 401), (form, 415)):
                        answer = await server.http.post(path, content=b"{}", headers=headers)
                        assert answer.status_code == status
            await server.http.patch("/devices/pump", json={"is_active": False})
            # Rejected, and told as that.
            body = {"device_id": "pump", "t": 1}
            assert (await server.http.post("/ingest", json=body)).status_code == 403
        assert [(each["event"], each["reason"]) for each in logs] == [
            ("request with data refused", "INVALID_API_KEY"),
            ("request with data refused", "UNSUPPORTED_MEDIA_TYPE"),
            ("message rejected", "DEACTIVATED_SENSOR"),
        ]
        assert "a-wrong-key" not in str(logs)


async def test_a_device_with_an_old_key_that_tries_again_and_again_is_told_of_once(tmp_path):
    async with running(tmp_path) as server:
        await server.device("pump")
        with capture_logs() as logs:
            for name in ("pump", "pump", "pump", "fan"):
                client = await Client.open(server.port)
                client.send(connect("c", name, "an-old-key"))
                assert (await client.packet())[2] != 0
                await client.close()
    refused = [each for each in logs if each["event"] == "log-in refused"]
    assert [each["username"] for each in refused] == ["pump", "fan"]


@pytest.mark.skipif(PROGRAM is None, reason="Mosquitto is not installed")
async def test_through_a_broker(tmp_path):
    broker = Mosquitto()
    broker.start()
    with contextlib.closing(broker):
        async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
            await eventually(lambda: server.services.link.connected)
            await server.device("pump")
            with capture_logs() as logs:
                for topic in ("measurements/pump", "measurements/pump", "measurements/pmup"):
                    await asyncio.to_thread(send, broker.port, "any", "any", topic, NOT_JSON)
                await eventually(lambda: sum(server.state.rejected_total.values()) == 3)
                await eventually(lambda: server.state.depth == 0)
            known, unknown = [each for each in logs if each["event"] == "message rejected"]
            assert (known["source"], known["reason"]) == ("measurements/pump", "MALFORMED_JSON")
            assert (unknown["source"], unknown["reason"]) == ("measurements/pmup", "UNKNOWN_SENSOR")
            assert (await shown(server, tmp_path, known)).count(NOT_JSON) == 2
            assert (await shown(server, tmp_path, unknown)).count(NOT_JSON) == 1


def test_options_narrow_what_is_listed(tmp_path):
    environment = {**without_variables(), "DATABASE_URL": f"sqlite:///{tmp_path}/heliograph.db"}

    async def fill():
        async with running(tmp_path) as server:
            device = await server.device("pump")
            for body in (NOT_JSON, '{"timestamp": "soon", "t": 1}'):
                await server.http.post("/ingest", content=body, headers={"X-API-Key": device.key})
            await server.http.post("/ingest", json={"device_id": "nobody", "t": 1})

    asyncio.run(fill())

    def listed(*arguments):
        done = called("rejected", *arguments, environment=environment, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return [line.split()[3] for line in done.stdout.splitlines()[1:]]

    assert listed() == ["UNKNOWN_SENSOR", "INVALID_TIMESTAMP", "MALFORMED_JSON"]
    assert listed("--from", "pump") == ["INVALID_TIMESTAMP", "MALFORMED_JSON"]
    assert listed("--from", "pump", "--reason", "MALFORMED_JSON") == ["MALFORMED_JSON"]
    assert listed("--from", "admin") == ["UNKNOWN_SENSOR"]
    assert listed("--from", "nobody-else") == []
    wrong = called("rejected", "--reason", "MALFORMED", environment=environment, folder=tmp_path)
    assert wrong.returncode == 2
    assert "MALFORMED_JSON" in wrong.stderr


def test_one_is_shown_downloaded_and_submitted_again(tmp_path):
    with ServerThread(tmp_path) as server:
        unknown = {"device_id": "pump", "timestamp": 1_764_460_800, "t": 1}
        for body in (unknown, {**unknown, "t": 2}, {**unknown, "device_id": "fan"}):
            assert server.http.post("/ingest", json=body).status_code == 404
        device = server.http.post("/devices", json={"device_id": "pump"}).json()
        key = {"X-API-Key": device["api_key"]}
        server.http.post("/ingest", content=NOT_JSON, headers=key)
        too_large = b'{"t": "' + b"x" * 100_000
        server.http.post("/ingest", content=too_large, headers=key)

        def command(*arguments, exits=0):
            where = ("--url", f"http://127.0.0.1:{server.port}") if "resubmit" in arguments else ()
            environment = {**server.environment, "HELIOGRAPH_API_KEY": ADMIN_KEY}
            done = called(
                "rejected", *arguments, *where, environment=environment, folder=server.folder
            )
            assert done.returncode == exits, (done.stdout, done.stderr)
            return done

        listed = json.loads(command("list", "--json").stdout)
        large, broken, fan, _, first = (each["id"] for each in listed)

        assert command("show", broken).stdout.endswith(f"\n\n{NOT_JSON}\n")
        assert json.loads(command("show", large, "--json").stdout)["size"] == len(too_large)
        assert "there is no rejected message 7" in command("show", "7", exits=1).stderr

        assert command("download", broken, "-").stdout == NOT_JSON
        told = command("download", large, "large.json").stderr
        assert told == f"65536 of {len(too_large)} bytes were kept\n"
        assert (tmp_path / "large.json").read_bytes() == too_large[:65536]
        assert "File exists" in command("download", broken, "large.json", exits=1).stderr
        assert (tmp_path / "large.json").stat().st_size == 65536

        assert command("resubmit", first).stderr == "1 stored, 0 kept\n"
        done = command("resubmit", large, broken, exits=1)
        assert "MESSAGE_NOT_RESUBMITTABLE" in done.stdout
        assert "MALFORMED_JSON" in done.stdout
        assert "not found" in command("resubmit", first, exits=1).stderr
        # A narrowed request stores one and keeps one, and leaves the other reasons alone.
        narrowed = ("--reason", "UNKNOWN_SENSOR", "--start", "2001-01-01T00:00:00Z", "--json")
        result = json.loads(command("resubmit", *narrowed, exits=1).stdout)
        assert (result["stored"], [each["id"] for each in result["kept"]]) == (1, [fan])
        assert [each["id"] for each in json.loads(command("--json").stdout)] == [large, broken, fan]
        assert command("resubmit", "--all", exits=1).stderr == "0 stored, 3 kept\n"
        for wrong in ((), ("7", "--all"), ("--all", "--topic", "x"), ("--start", "soon")):
            command("resubmit", *wrong, exits=2)
        history = server.http.get("/devices/pump/history", params={"start": 1_764_460_800})
        assert sorted(each["metrics"]["t"] for each in history.json()) == [1, 2]

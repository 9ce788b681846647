"""Configurations through a real Mosquitto: retained, known to have been taken, resumed."""

import asyncio
import json
import shutil

import pytest

from broker import PLAIN
from heliograph.configuration import publisher as publishing
from mqtt_client import Client, connect, numbered, publish, published, subscribe
from server import eventually, migrated_database, retained_is_sent, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered


def linked(folder, mosquitto, **settings):
    return running(folder, mqtt_url=mosquitto.url, **{"mqtt_listen": (), **settings})


async def configured(server, device, configuration):
    response = await server.http.post(
        f"/sensors/{device.identifier}/configurations", json={"configuration": configuration}
    )
    assert response.status_code == 201, response.text
    return response.json()["revision"]


async def entries(server, device):
    return (await server.http.get(f"/sensors/{device.identifier}/configurations")).json()


def stands(server, device, state):
    async def condition():
        return (await entries(server, device))[-1]["state"] == state

    return condition


def nothing_left(server):
    async def condition():
        return await server.store.publications.count() == 0

    return condition


async def retained(mosquitto, count, topic="configurations/+"):
    """Return so many retained messages by topic, as a client gets that subscribes now."""
    client = await Client.connected(mosquitto.port, "reader")
    client.send(subscribe(topic))
    assert (await client.packet())[0] == 0x90
    found = {}
    while len(found) < count:
        message = published(await client.packet())
        assert message.retain
        client.send(numbered(0x40, message.packet_id))
        found[message.topic.removeprefix("configurations/")] = json.loads(message.payload)
    await client.quiet()
    await client.close()
    return found


async def test_it_is_retained_under_each_name_and_acknowledged_through_the_broker(
    tmp_path, mosquitto
):
    async with linked(tmp_path, mosquitto) as server:
        device = await server.device()
        assert await configured(server, device, {"interval": 60}) == 0
        await eventually(stands(server, device, "published"))
        payload = {"revision": 0, "configuration": {"interval": 60}}
        assert await retained(mosquitto, 2) == {
            device.device_id: payload,
            device.identifier: payload,
        }
        client = await Client.connected(mosquitto.port, "device")
        beat = {"revision": 0, "timestamp": 1_700_000_000, "success": True}
        client.send(publish(f"heartbeats/{device.device_id}", json.dumps(beat).encode()))
        await eventually(stands(server, device, "acknowledged"))
        await client.close()


async def test_an_outage_of_the_broker_and_a_restart_of_the_server(tmp_path, mosquitto):
    async with linked(tmp_path, mosquitto) as server:
        device = await server.device()
        await eventually(lambda: server.services.link.connected)
        mosquitto.stop()
        await eventually(lambda: not server.services.link.connected)
        await configured(server, device, 0)
        await configured(server, device, 1)
    async with linked(tmp_path, mosquitto) as server:
        await configured(server, device, 2)
        assert [each["state"] for each in await entries(server, device)] == [
            "superseded",
            "superseded",
            "pending",
        ]
        mosquitto.start()
        await eventually(stands(server, device, "published"))
        assert {each["revision"] for each in (await retained(mosquitto, 2)).values()} == {2}
    # What the broker has, it has over its own restart too.
    mosquitto.stop()
    mosquitto.start()
    assert {each["revision"] for each in (await retained(mosquitto, 2)).values()} == {2}


async def test_killed_while_it_publishes_the_broker_ends_with_the_newest(tmp_path, mosquitto):
    async with linked(tmp_path, mosquitto) as server:
        devices = [await server.device(f"device-{at}") for at in range(20)]
        network = server.services.registry.default_network
        await eventually(lambda: server.services.link.connected)

        async def configure_all(number):
            response = await server.http.post(
                f"/networks/{network}/configurations", json={"configuration": number}
            )
            assert response.status_code == 201, response.text

        for number in range(10):
            await configure_all(number)
            if number in (3, 6):
                mosquitto.kill()
                mosquitto.start()
        await eventually(nothing_left(server))
        found = await retained(mosquitto, 40)
        assert {each["revision"] for each in found.values()} == {9}
        assert set(found) == {name for d in devices for name in (d.device_id, d.identifier)}


async def test_a_changed_name_and_a_deleted_sensor_are_cleared(tmp_path, mosquitto):
    async with linked(tmp_path, mosquitto) as server:
        device = await server.device("old")
        await configured(server, device, 1)
        await eventually(nothing_left(server))
        changed = await server.http.patch("/devices/old", json={"device_id": "new"})
        assert changed.status_code == 200
        await eventually(nothing_left(server))
        assert set(await retained(mosquitto, 2)) == {"new", device.identifier}
        deleted = await server.http.delete(f"/sensors/{device.identifier}")
        assert deleted.status_code == 204
        await eventually(nothing_left(server))
        assert await retained(mosquitto, 0) == {}


async def test_what_the_broker_refuses_is_tried_again_and_holds_up_no_other(
    tmp_path, mosquitto, monkeypatch
):
    """Mosquitto 2.0.11 ends the connection after each refusal."""
    monkeypatch.setattr(publishing, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(publishing, "LONGEST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(publishing, "POLL_SECONDS", 0.05)
    rules = mosquitto.folder / "acl"
    rules.write_text("topic read #\ntopic write configurations/other\n")
    rules.chmod(0o644)
    mosquitto.stop()
    mosquitto.configure(f"{PLAIN}acl_file {rules}\n")
    mosquitto.start()
    async with linked(tmp_path, mosquitto) as server:
        device, other = await server.device(), await server.device("other")
        await configured(server, device, 1)
        await configured(server, other, 1)

        async def only_the_allowed_one():
            return await server.store.publications.count() == 3

        await eventually(only_the_allowed_one)
        assert (await entries(server, device))[0]["state"] == "pending"
        rules.write_text("topic readwrite #\n")
        mosquitto.stop()
        mosquitto.start()
        await eventually(nothing_left(server))
        assert (await entries(server, device))[0]["state"] == "published"
        assert len(await retained(mosquitto, 4)) == 4


async def test_both_the_listener_and_a_broker(tmp_path, mosquitto, monkeypatch):
    monkeypatch.setattr(publishing, "AWAY_SECONDS", 0)
    monkeypatch.setattr(publishing, "POLL_SECONDS", 0.05)
    mosquitto.stop()
    shutil.copy(migrated_database(), tmp_path / "heliograph.db")
    async with running(tmp_path, mqtt_url=mosquitto.url) as server:
        device = await server.device()
        client = await server.connect(device)
        client.send(subscribe(f"configurations/{device.device_id}"))
        assert (await client.packet())[0] == 0x90
        await retained_is_sent()
        await configured(server, device, 1)
        message = published(await client.packet())
        assert json.loads(message.payload)["revision"] == 0
        client.send(numbered(0x40, message.packet_id))
        assert (await entries(server, device))[0]["state"] == "pending"
        mosquitto.start()
        await eventually(stands(server, device, "published"))
        assert len(await retained(mosquitto, 2)) == 2
        await client.quiet()


async def test_many_devices_get_and_acknowledge_theirs(tmp_path, mosquitto):
    """Each is configured at once with the others; one connection plays all of them."""
    count = 120
    async with linked(tmp_path, mosquitto) as server:
        batch = [{"device_id": f"device-{at}"} for at in range(count)]
        for body in batch:
            assert (await server.http.post("/devices", json=body)).status_code == 201
        client = await Client.open(mosquitto.port)
        client.send(connect("fleet"))
        assert (await client.packet())[0] == 0x20
        client.send(subscribe("configurations/+"))
        assert (await client.packet())[0] == 0x90
        await eventually(lambda: server.services.link.connected)
        network = server.services.registry.default_network
        response = await server.http.post(
            f"/networks/{network}/configurations", json={"patch": {"interval": 5}}
        )
        assert (response.status_code, len(response.json())) == (201, count)
        left = set(range(count))
        async with asyncio.timeout(60):
            while left:
                message = published(await client.packet())
                client.send(numbered(0x40, message.packet_id))
                name = message.topic.removeprefix("configurations/")
                content = json.loads(message.payload)
                assert content == {"revision": 0, "configuration": {"interval": 5}}
                if name.startswith("device-"):
                    number = int(name.removeprefix("device-"))
                    left.discard(number)
                    beat = b'{"revision":0,"success":true}'
                    client.send(publish(f"heartbeats/{name}", beat, qos=0))
        sensors = response.json()

        left = {sensor["sensor_identifier"] for sensor in sensors}

        async def all_acknowledged():
            for identifier in list(left):
                path = f"/sensors/{identifier}/configurations"
                (entry,) = (await server.http.get(path)).json()
                if entry["state"] != "acknowledged":
                    return False
                left.remove(identifier)
            return True

        await eventually(all_acknowledged)
        await client.close()

"""Configurations and the listener: who is connected gets them at once."""

import asyncio
import json

from mqtt_client import PUBACK, kept, numbered, publish, published, subscribe, subscriptions
from server import eventually, retained_is_sent, running


async def configure(server, device, configuration):
    """Give the device a configuration and return its revision."""
    response = await server.http.post(
        f"/sensors/{device.identifier}/configurations", json={"configuration": configuration}
    )
    assert response.status_code == 201, response.text
    assert response.json()["sensor_identifier"] == device.identifier
    return response.json()["revision"]


async def revisions(server, device):
    response = await server.http.get(f"/sensors/{device.identifier}/configurations")
    assert response.status_code == 200, response.text
    return response.json()


async def subscribed(server, device, topic=None, **options):
    """Return a connection of the device that subscribes to its configurations."""
    client = await server.connect(device, **options)
    client.send(subscribe(topic or f"configurations/{device.device_id}", **options_of(options)))
    assert (await client.packet())[0] == 0x90
    return client


def options_of(options):
    return {"version": options["version"]} if "version" in options else {}


async def received(client):
    message = published(await client.packet())
    client.send(numbered(PUBACK, message.packet_id))
    return message


async def acknowledge(client, device, revision, *, success=True):
    beat = {"revision": revision, "timestamp": 1_700_000_000.5, "success": success}
    payload = json.dumps({"heartbeats": [beat]}).encode()
    client.send(publish(f"heartbeats/{device.identifier}", payload, packet_id=77))
    # A configuration may come between: it is sent again after a restart.
    while (answer := await client.packet())[0] != PUBACK:
        assert answer[0] >> 4 == 3


async def test_a_connected_device_gets_it_at_once_and_acknowledges(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        client = await subscribed(server, device)
        await retained_is_sent()
        assert await configure(server, device, {"interval": 60}) == 0
        message = await received(client)
        assert message.topic == f"configurations/{device.device_id}"
        assert json.loads(message.payload) == {"revision": 0, "configuration": {"interval": 60}}
        assert (message.qos, message.retain) == (1, False)
        await eventually_state(server, device, "published")
        await acknowledge(client, device, 0)
        (entry,) = await revisions(server, device)
        assert (entry["state"], entry["success"]) == ("acknowledged", True)
        assert entry["acknowledgment_timestamp"] == 1_700_000_000.5
        times = [entry[f"{n}_timestamp"] for n in ("creation", "publication", "receipt")]
        assert times == sorted(times)
        assert entry["publication_duration"] == round(times[1] - times[0], 6)
        assert entry["acknowledgment_duration"] == round(times[2] - times[0], 6)
        await client.quiet()


async def eventually_state(server, device, state):
    async def condition():
        return (await revisions(server, device))[-1]["state"] == state

    await eventually(condition)


async def test_nobody_needs_to_be_connected_and_later_it_is_retained(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        await configure(server, device, 1)
        await configure(server, device, 2)
        await eventually_state(server, device, "published")
        client = await subscribed(server, device)
        message = await received(client)
        assert (json.loads(message.payload)["revision"], message.retain) == (1, True)


async def test_others_get_only_what_they_may_see(tmp_path):
    async with running(tmp_path) as server:
        device, other = await server.device("device-1"), await server.device("device-2")
        admin = await server.admin()
        admin.send(subscribe("configurations/#"))
        assert (await admin.packet())[0] == 0x90
        client = await subscribed(server, other)
        await retained_is_sent()
        await configure(server, device, 1)
        assert (await received(admin)).topic == "configurations/device-1"
        await client.quiet()
        await admin.quiet()


async def test_each_name_is_a_topic_and_each_client_gets_it_once(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        client = await server.connect(device)
        topics = [f"configurations/{device.device_id}", f"configurations/{device.identifier}"]
        client.send(subscriptions(*((topic, 1) for topic in topics)))
        assert (await client.packet())[0] == 0x90
        await retained_is_sent()
        await configure(server, device, 1)
        assert (await received(client)).topic in topics
        await eventually_state(server, device, "published")
        await client.quiet()


async def test_they_come_in_their_order_and_the_last_is_the_newest(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        client = await subscribed(server, device)
        got = await asyncio.gather(*(configure(server, device, at) for at in range(30)))
        assert sorted(got) == list(range(30))
        seen = [json.loads((await received(client)).payload)["revision"]]
        while seen[-1] != 29:
            seen.append(json.loads((await received(client)).payload)["revision"])
        assert seen == sorted(seen)


async def test_what_was_read_before_is_not_sent_after_something_newer(tmp_path):
    """A SUBSCRIBE's retained message that waits while a new revision is published."""
    async with running(tmp_path) as server:
        device = await server.device()
        await configure(server, device, "old")
        await eventually_state(server, device, "published")
        host = server.listener.host
        retained, read, go = host.retained, asyncio.Event(), asyncio.Event()

        async def slow(*arguments):
            async for item in retained(*arguments):
                read.set()
                await go.wait()
                yield item

        host.retained = slow
        client = await subscribed(server, device)
        await read.wait()
        await configure(server, device, "new")
        assert json.loads((await received(client)).payload)["revision"] == 1
        go.set()
        await eventually(lambda: not server.listener.tasks)
        await client.quiet()


async def test_a_session_without_a_connection_gets_it_when_it_comes_back(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        client = await subscribed(server, device, **kept(4))
        await client.close()
        await eventually(lambda: server.listener.connections == 0)
        await configure(server, device, 1)
        await eventually_state(server, device, "published")
        client = await server.connect(device, **kept(4))
        assert client.session_present
        assert json.loads((await received(client)).payload)["revision"] == 0


async def test_a_restart_forgets_nothing(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        await configure(server, device, 1)
        await eventually_state(server, device, "published")
        # What was committed and not published when the process died.
        sensor = await server.store.sensors.find(device.device_id)
        await server.store.configurations.add(sensor.number, "2")
    async with running(tmp_path) as server:
        client = await subscribed(server, device)
        assert json.loads((await received(client)).payload) == {"revision": 1, "configuration": 2}
        await eventually_state(server, device, "published")
        await acknowledge(client, device, 1, success=False)
        assert (await revisions(server, device))[-1]["state"] == "failed"


async def test_an_old_revisions_late_heartbeat_changes_only_that_one(tmp_path):
    async with running(tmp_path) as server:
        device = await server.device()
        for at in range(3):
            await configure(server, device, at)
        client = await server.connect(device)
        await acknowledge(client, device, 1)
        await eventually_state(server, device, "published")
        assert [entry["state"] for entry in await revisions(server, device)] == [
            "superseded",
            "acknowledged",
            "published",
        ]
        await acknowledge(client, device, 9)
        sensor = await server.store.sensors.find("device-1")
        page = await server.store.heartbeats.page(sensor.number, key=None, direction=None, limit=10)
        assert {(row.revision, row.unknown_revision) for row in page} == {(1, False), (9, True)}

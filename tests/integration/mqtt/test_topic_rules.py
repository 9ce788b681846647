"""Who may publish and subscribe where, and what ends that right."""

import asyncio
import uuid

import pytest

from heliograph.model.credentials import hash_key, new_api_key
from heliograph.mqtt import session
from mqtt_client import Client, connect, kept, publish, subscribe, subscriptions
from server import ADMIN_KEY, SHARED_KEY, eventually, running

pytestmark = pytest.mark.uncovered

VALUE = b'{"value": 1}'


def reason(answer):
    return answer[3] if len(answer) > 3 else 0


async def test_a_device_publishes_under_both_its_names(server, version):
    device = await server.device()
    for username in (device.device_id, device.identifier, device.identifier.upper()):
        client = await Client.connected(server.port, "c", username, device.key, version=version)
        for name in (device.device_id, device.identifier, device.identifier.upper()):
            client.send(publish(f"measurements/{name}", VALUE, version=version))
            assert await client.packet() == b"\x40\0\x01"
        await client.close()
    assert len(await server.values(device)) == 9
    assert await server.rejected() == []


async def test_what_a_device_may_not_publish_on(server, version):
    """A device can't even learn whether another one exists."""
    device = await server.device()
    other = await server.device("other")
    client = await server.connect(device, version=version)
    for topic, code, kept_as in (
        ("measurements/other", 0x87, "FORBIDDEN_TOPIC"),
        ("logs/other", 0x87, "FORBIDDEN_TOPIC"),
        ("status/other", 0x87, "FORBIDDEN_TOPIC"),
        ("measurements/nobody", 0x87, "FORBIDDEN_TOPIC"),
        ("configurations/device-1", 0x87, "FORBIDDEN_TOPIC"),
        ("measurements/device-1/more", 0x90, "UNKNOWN_TOPIC"),
        ("measurements/", 0x90, "UNKNOWN_TOPIC"),
        ("$SYS/broker", 0x90, "UNKNOWN_TOPIC"),
        ("x" * 60_000, 0x90, "UNKNOWN_TOPIC"),
    ):
        client.send(publish(topic, VALUE, version=version))
        answer = await client.packet()
        assert answer[:3] == b"\x40\0\x01", topic
        assert reason(answer) == (code if version == 5 else 0), topic
        rejected, *_ = await server.rejected()
        assert (rejected.reason, rejected.source, rejected.payload) == (kept_as, topic, VALUE)
        assert rejected.principal == "device:device-1", topic
    assert len(await server.rejected()) == 9
    assert await server.values(other) == []


async def test_routes_that_lead_nowhere_take_no_memory(server):
    """A client may invent topics without end."""
    device = await server.device()
    client = await server.connect(device)
    for number in range(300):
        client.send(publish(f"{number}", VALUE, qos=0))
    for number in range(20):
        client.send(publish(f"{number}/{'x' * 300}", VALUE, qos=0))
    client.send(publish(device.topic, VALUE))
    assert await client.packet() == b"\x40\0\x01"
    (connection,) = server.listener._connections
    assert len(connection.routes) <= 101
    assert sum(map(len, connection.routes)) < 1_000


async def test_what_a_device_may_subscribe_to(server, version):
    device = await server.device()
    await server.device("other")
    refusal = 0x87 if version == 5 else 0x80
    for topic_filter, granted in {
        "measurements/device-1": True,
        "log-messages/device-1": True,
        "configurations/device-1": True,
        "commands": True,
        "configurations/other": False,
        "measurements/nobody": False,
        "measurements/+": False,
        "configurations/#": False,
        "+/device-1": False,
        "#": False,
        "$SYS/#": False,
        "packets/device-1": False,
    }.items():
        client = await server.connect(device, version=version)
        client.send(subscriptions((topic_filter, 1), ("configurations/other", 1), version=version))
        codes = bytes([1 if granted else refusal, refusal])
        assert (await client.packet())[-2:] == codes, topic_filter
        await client.close()


async def test_a_will_on_a_topic_that_is_not_allowed(server, version):
    device = await server.device()
    await server.device("other")
    for topic in ("measurements/other", "configurations/device-1", "nowhere"):
        client = await Client.open(server.port, version)
        will = (topic, b"offline", 1, True)
        client.send(connect("c", device.device_id, device.key, version=version, will=will))
        answer = await client.packet()
        assert answer[0] == 0x20, topic
        assert answer[2] == (0x87 if version == 5 else 5), topic
        assert await client.packet() == b"", topic
        await eventually(lambda: server.listener.connections == 0)
    assert await server.rejected() == []


async def test_the_admin_key_publishes_as_anybody(server, version):
    device = await server.device()
    admin = await Client.connected(server.port, "c", "whoever", ADMIN_KEY, version=version)
    admin.send(publish(device.topic, VALUE, version=version))
    assert await admin.packet() == b"\x40\0\x01"
    admin.send(publish("measurements/nobody", VALUE, version=version))
    assert reason(await admin.packet()) == (0x87 if version == 5 else 0)
    assert (await server.rejected())[0].reason == "UNKNOWN_SENSOR"
    assert await server.values(device) == ["1"]


async def test_a_shared_key_speaks_for_the_device_that_its_user_name_says(server, version):
    device, other = await server.device(), await server.device("other")
    client = await Client.connected(server.port, "c", device.device_id, SHARED_KEY, version=version)
    for topic in (device.topic, other.topic):
        client.send(publish(topic, VALUE, version=version))
        assert (await client.packet())[:3] == b"\x40\0\x01"
    assert await server.values(device) == ["1"]
    assert await server.values(other) == []
    assert (await server.rejected())[0].reason == "FORBIDDEN_TOPIC"


async def test_a_device_is_registered_on_first_sight(tmp_path, version):
    async with running(tmp_path, auto_provision=True) as server:
        client = await Client.connected(server.port, "c", "new-1", SHARED_KEY, version=version)
        client.send(publish("measurements/new-1", VALUE, version=version))
        assert await client.packet() == b"\x40\0\x01"
        assert await server.store.sensors.find("new-1")


async def test_an_anonymous_editor_publishes(tmp_path, version):
    async with running(tmp_path, anonymous_role="editor") as server:
        device = await server.device()
        client = await Client.connected(server.port, version=version)
        client.send(publish(device.topic, VALUE, version=version))
        assert await client.packet() == b"\x40\0\x01"
        assert await server.values(device) == ["1"]


@pytest.mark.parametrize("ends", ["deactivate", "rotate"])
async def test_the_right_to_be_connected_ends_at_once(server, version, ends):
    device, other = await server.device(), await server.device("other")
    clients = [await server.connect(device, f"c{n}", version=version) for n in range(3)]
    bystander = await server.connect(other, version=version)
    if ends == "deactivate":
        await server.http.delete(f"/devices/{device.device_id}")
    else:
        await server.http.post(f"/devices/{device.device_id}/key")
    for client in clients:
        assert (await client.packet())[:2] == (b"\xe0\x87" if version == 5 else b"")
    await bystander.quiet()
    refused = await Client.open(server.port, version)
    refused.send(connect("c", device.device_id, device.key, version=version))
    assert (await refused.packet())[2] == (0x86 if version == 5 else 4)


async def test_the_right_ends_while_a_packet_is_answered(server, version):
    """Whoever is looked up in the database just then is not overlooked."""
    device = await server.device()
    client = await server.connect(device, version=version)
    registry, find = server.services.registry, server.services.registry.find
    looked_up = []

    async def change_meanwhile(identifier):
        if not looked_up:
            looked_up.append(identifier)
            await server.http.post(f"/devices/{device.device_id}/key")
        return await find(identifier)

    # Changes that follow each other closely are looked at together, a little later.
    await eventually(lambda: server.listener._recheck_timer is None)
    registry.find = change_meanwhile
    client.send(subscribe(device.topic, version=version))
    answers = []
    while answer := await client.packet():
        answers.append(answer[0])
    assert looked_up
    assert answers[:1] == ([0xE0] if version == 5 else [])
    await eventually(lambda: server.listener.connections == 0)


async def test_a_deactivated_device_comes_back(server, version):
    device = await server.device()
    client = await server.connect(device, version=version, **kept(version))
    await server.http.delete(f"/devices/{device.device_id}")
    while await client.packet():
        pass
    response = await server.http.patch(f"/devices/{device.device_id}", json={"is_active": True})
    assert response.status_code == 200, response.text
    client = await server.connect(device, version=version, **kept(version))
    client.send(publish(device.topic, VALUE, version=version))
    assert await client.packet() == b"\x40\0\x01"


async def test_too_many_failed_log_ins(tmp_path, version):
    async with running(tmp_path, rate_limit_failed_logins=3) as server:
        device = await server.device()
        live = await server.connect(device, "live", version=version)
        codes = []
        for number in range(4):
            client = await Client.open(server.port, version)
            client.send(connect("c", device.device_id, f"wrong-{number}", version=version))
            codes.append((await client.packet())[2])
        assert codes == ([0x86] * 3 + [0x9F] if version == 5 else [4, 4, 4, 3])
        client = await Client.open(server.port, version)
        client.send(connect("c", device.device_id, device.key, version=version))
        assert (await client.packet())[2] == 0, "a stale key elsewhere locks out a whole site"
        await server.admin(version=version)
        await live.quiet()


async def test_the_same_wrong_key_again_is_no_new_guess(tmp_path, version):
    async with running(tmp_path, rate_limit_failed_logins=3) as server:
        device = await server.device()
        codes = []
        for key in ("stale", "stale", "stale", "stale", "other", "third", "fourth", "stale"):
            client = await Client.open(server.port, version)
            client.send(connect("c", device.device_id, key, version=version))
            codes.append((await client.packet())[2])
        wrong, limited = (0x86, 0x9F) if version == 5 else (4, 3)
        assert codes == [wrong] * 6 + [limited] * 2


async def log_in(server, version, username, password):
    """Return the reason code of the CONNACK."""
    client = await Client.open(server.port, version)
    client.send(connect("c", username, password, version=version))
    return (await client.packet())[2]


async def test_who_guesses_has_one_budget_over_http_and_mqtt(tmp_path, version):
    async with running(tmp_path, rate_limit_failed_logins=4) as server:
        device = await server.device()
        wrong, limited = (0x86, 0x9F) if version == 5 else (4, 3)

        async def by_key(key):
            return (await server.http.get("/devices", headers={"x-api-key": key})).status_code

        async def by_password(password):
            body = {"username": "ada", "password": password}
            return (await server.http.post("/authentication", json=body)).status_code

        assert await by_key("guess 1") == 401
        assert await log_in(server, version, device.device_id, "guess 2") == wrong
        assert await by_password("guess 3") == 401
        assert await log_in(server, version, device.device_id, b"\xff guess 4") == wrong
        # Whatever comes next is the fifth.
        assert await log_in(server, version, device.device_id, "guess 5") == limited
        assert await by_key("guess 5") == 429
        assert await by_password("guess 5") == 429
        assert await log_in(server, version, device.device_id, device.key) == 0
        assert await by_key(device.key) == 403


async def test_devices_with_stale_keys_keep_nobody_at_their_site_from_logging_in(tmp_path, version):
    async with running(tmp_path, rate_limit_failed_logins=2) as server:
        wrong, limited = (0x86, 0x9F) if version == 5 else (4, 3)
        codes = [await log_in(server, version, "pump", new_api_key()) for _ in range(3)]
        assert codes == [wrong, wrong, limited]
        stale = await server.http.get("/devices", headers={"x-api-key": new_api_key()})
        assert stale.status_code == 429
        body = {"username": "ada", "password": "not yet"}
        assert (await server.http.post("/authentication", json=body)).status_code == 401


async def test_many_changes_of_the_registry_cause_few_walks(server, version, monkeypatch):
    """Yet the last of them takes effect soon."""
    device, other = await server.device(), await server.device("other")
    client = await server.connect(device, version=version)
    asked, is_current = [], session.is_current
    monkeypatch.setattr(session, "is_current", lambda *who: asked.append(who) or is_current(*who))
    for _ in range(100):
        server.listener.recheck()
    await server.http.delete(f"/devices/{other.device_id}")
    await server.http.delete(f"/devices/{device.device_id}")
    async with asyncio.timeout(1):
        assert (await client.packet())[:2] == (b"\xe0\x87" if version == 5 else b"")
    assert len(asked) < 10


async def test_who_is_not_in_memory_stays_connected(server, version, monkeypatch):
    """And is found there again after a change of its own."""
    device = await server.device()
    client = await server.connect(device, version=version)
    monkeypatch.setattr("heliograph.access.registry.MAXIMUM_CACHED", 1)
    other = await server.device("other")
    assert server.services.registry.cached(device.device_id) is None
    await server.http.patch(f"/devices/{other.device_id}", json={"name": "another"})
    server.listener.recheck()
    await client.quiet()
    await server.http.post(f"/devices/{device.device_id}/key")
    assert (await client.packet())[:2] == (b"\xe0\x87" if version == 5 else b"")


async def test_a_change_is_not_forgotten_at_once(server, monkeypatch):
    """Not even by a cache that is full, when newer sensors come with it."""
    device = await server.device()
    client = await server.connect(device, version=5)
    await server.device("other")
    registry, sensors = server.services.registry, server.store.sensors
    monkeypatch.setattr("heliograph.access.registry.MAXIMUM_CACHED", 2)
    await sensors.change(registry.cached(device.device_id).number, key_hash=hash_key("new"))
    await sensors.create(
        identifier=str(uuid.uuid4()),
        network_identifier=None,
        device_id="third",
        key_hash=None,
        created_at=1,
    )
    await registry.changed()
    assert (await client.packet())[:2] == b"\xe0\x87"

"""Mosquitto's dynamic-security plugin, told who may do what."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

import isolation
from heliograph.broker_url import parse_broker_url
from heliograph.brokers import dynamic_security as control
from heliograph.brokers.dynamic_security import (
    ControlError,
    ControlTopic,
    device_acls,
    plan,
    plugin_file,
)
from heliograph.brokers.rules import AccessRules, ServerAccount
from integration.brokers.conftest import GuardedMosquitto
from mqtt_client import Client, connect
from server import Device, eventually, running

PLUGINS = [
    Path(folder) / "mosquitto_dynamic_security.so"
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
]
PLUGIN = next((path for path in PLUGINS if path.exists()), None)
OPTIONS = """
allow_anonymous false
plugin {plugin}
plugin_opt_config_file {{folder}}/access/dynamic-security.json
sys_interval 1
"""
ADMIN = ("admin", "an-administrators-password")
SERVER = ServerAccount("heliograph", "a-password-for-the-server")


def rules_of(name):
    return AccessRules.of(name, publish_topic="commands", subscribe_topic="packets/+")


@pytest.fixture
def guarded():
    """A broker with the plugin, which knows its administrator and nobody else."""
    if PLUGIN is None:
        pytest.skip("the plugin is not installed")
    broker = GuardedMosquitto(OPTIONS.format(plugin=PLUGIN))
    broker.access.chmod(0o777)
    path = broker.access / "dynamic-security.json"
    command = ["mosquitto_ctrl", "dynsec", "init", str(path), *ADMIN]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    path.chmod(0o666)
    yield broker
    broker.close()


class Told:
    """A server, and a broker that is told by hand, as the command does."""

    def __init__(self, server, guarded):
        self.server = server
        self.guarded = guarded
        self.url = parse_broker_url(guarded.url)

    async def tell(self, *devices, admin=ADMIN):
        """Bring the plugin up to date with the keys of these devices; return what was planned."""
        keys = {device.identifier: device.key for device in devices}
        known = [device async for device in self.server.store.broker_access.devices()]

        def work():
            with ControlTopic(self.url, *admin) as topic:
                planned = plan(known, topic.state(), keys, rules_of, SERVER)
                topic.call(planned.commands)
                return planned

        return await asyncio.to_thread(work)

    async def lets_in(self, device):
        client = await Client.open(self.guarded.port)
        client.send(connect("probe", device.identifier, device.key))
        answer = await client.packet()
        await client.close()
        return bool(answer) and answer[2] == 0


@pytest.fixture
async def told(guarded, tmp_path):
    guarded.start()
    settings = {
        "mqtt_listen": (),
        "mqtt_url": guarded.url,
        "mqtt_username": SERVER.name,
        "mqtt_password": SERVER.password,
    }
    async with running(tmp_path, **settings) as server:
        yield Told(server, guarded)


@pytest.fixture
async def world(told):
    own, foreign = await told.server.device("own-1"), await told.server.device("foreign-1")
    await told.tell(own, foreign)
    await eventually(lambda: told.server.services.link.connected)

    async def stored(name):
        sensor = await told.server.store.sensors.find(name)
        return await told.server.store.measurements.page(
            sensor.number, key=None, direction="next", limit=100
        )

    return isolation.World(
        told.guarded.port,
        (own.identifier, own.key),
        (foreign.identifier, foreign.key),
        (SERVER.name, SERVER.password),
        stored,
    )


async def test_publishing(world):
    await isolation.check_publishing(world)


async def test_subscribing(world, told):
    await isolation.check_subscribing(world, isolation.configured_by(told.server))


async def test_wills(world):
    await isolation.check_wills(world)


async def test_anothers_session(world, told):
    await isolation.check_sessions(world, isolation.configured_by(told.server))


async def test_nothing_is_done_twice(told):
    device = await told.server.device("pump-1")
    assert (await told.tell(device)).commands
    assert await told.lets_in(device)
    assert (await told.tell(device)).commands == []
    assert await told.tell() == ([], [])


async def test_a_device_whose_key_is_not_at_hand_is_named(told):
    device = await told.server.device("pump-1")
    planned = await told.tell()
    assert planned.unknown == ["pump-1"]
    assert not await told.lets_in(device)


async def test_a_rotated_key_ends_with_or_without_the_new_one_at_hand(told):
    device = await told.server.device("pump-1")
    await told.tell(device)
    connected = await Client.connected(told.guarded.port, "p", device.identifier, device.key)
    new = (await told.server.http.post("/devices/pump-1/key")).json()["api_key"]
    assert (await told.tell()).unknown == ["pump-1"]
    assert not await told.lets_in(device)
    assert await connected.packet() == b""
    assert (await told.tell()).commands == []
    renewed = Device(device.identifier, device.device_id, new)
    assert (await told.tell(renewed)).unknown == []
    assert await told.lets_in(renewed)
    assert not await told.lets_in(device)


async def test_a_deactivated_device_is_thrown_out_and_may_come_back(told):
    device = await told.server.device("pump-1")
    await told.tell(device)
    connected = await Client.connected(told.guarded.port, "p", device.identifier, device.key)
    await told.server.http.delete("/devices/pump-1")
    await told.tell()
    assert await connected.packet() == b""
    assert not await told.lets_in(device)
    await told.server.http.patch("/devices/pump-1", json={"is_active": True})
    assert (await told.tell()).unknown == []
    assert await told.lets_in(device)


async def test_a_deleted_device_is_deleted_and_others_stay(told):
    device, other = await told.server.device("pump-1"), await told.server.device("pump-2")
    await told.tell(device, other)
    await told.server.http.delete("/sensors/pump-1")
    await told.tell()

    def state():
        with ControlTopic(told.url, *ADMIN) as topic:
            return topic.state()

    found = await asyncio.to_thread(state)
    assert set(found.clients) == {"admin", SERVER.name, other.identifier}
    assert device.identifier not in found.roles
    assert {"admin", other.identifier} <= set(found.roles)


async def test_rules_that_have_changed_are_changed_there(told):
    device = await told.server.device("pump-1")
    await told.tell(device)

    def change():
        with ControlTopic(told.url, *ADMIN) as topic:
            modified = {"rolename": device.identifier, "acls": []}
            topic.call([{"command": "modifyRole", **modified}])

    await asyncio.to_thread(change)
    planned = await told.tell()
    assert [c["command"] for c in planned.commands] == ["modifyRole"]
    assert planned.commands[0]["acls"] == device_acls(rules_of(device.identifier))
    assert (await told.tell()).commands == []


async def test_more_devices_than_a_page(told, monkeypatch):
    monkeypatch.setattr(control, "PAGE", 7)
    monkeypatch.setattr(control, "COMMANDS_AT_ONCE", 5)
    body = [{"device_id": f"d-{number}"} for number in range(20)]
    made = (await told.server.http.post("/devices/batch", json=body)).json()
    devices = [Device(d["sensor_identifier"], d["device_id"], d["api_key"]) for d in made]
    await told.tell(*devices)
    assert (await told.tell()).commands == []
    assert await told.lets_in(devices[-1])


async def test_the_plugins_own_file_needs_no_keys(told, guarded):
    device = await told.server.device("pump-1")
    known = [device async for device in told.server.store.broker_access.devices()]
    guarded.stop()
    path = guarded.access / "dynamic-security.json"
    document, unknown = plugin_file(json.loads(path.read_text()), known, rules_of, SERVER)
    assert unknown == []
    path.write_text(json.dumps(document))
    guarded.start()
    assert await told.lets_in(device)
    # What the file says is what the commands would.
    assert (await told.tell()).commands == []


@pytest.mark.parametrize("admin", [("admin", "wrong"), ("nobody", "x")])
async def test_who_is_no_administrator_is_told(told, admin):
    with pytest.raises(ControlError, match="not authori"):
        await told.tell(admin=admin)


async def test_a_device_is_no_administrator(told, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_SECONDS", 0.5)
    device = await told.server.device("pump-1")
    await told.tell(device)
    with pytest.raises(ControlError, match="administrator"):
        await told.tell(admin=(device.identifier, device.key))


async def test_a_broker_that_is_away_is_told(told, guarded):
    guarded.stop()
    with pytest.raises(ControlError, match="refused"):
        await told.tell()

"""The password and ACL files of a real Mosquitto, written by a server that runs."""

import asyncio
import os
import stat
import subprocess
from pathlib import Path

import pytest

import isolation
from mqtt_client import Client, connect
from server import eventually, running

PASSWORD = "a-password-for-the-server"
SERVER = ("heliograph", PASSWORD)


def settings(broker, **others):
    return {
        "mqtt_listen": (),
        "mqtt_url": broker.url,
        "mqtt_username": SERVER[0],
        "mqtt_password": SERVER[1],
        "mosquitto_password_path": broker.passwords,
        "mosquitto_acl_path": broker.acl,
        "mosquitto_pid_path": broker.pid_file,
        **others,
    }


@pytest.fixture
async def server(guarded, tmp_path):
    """A server whose link is up at a broker that has read its files."""
    async with running(tmp_path, **settings(guarded)) as server:
        await eventually(guarded.passwords.exists)
        guarded.start()
        await eventually(lambda: server.services.link.connected)
        yield server


async def may_connect(broker, name, key):
    client = await Client.open(broker.port)
    client.send(connect("probe", name, key))
    answer = await client.packet()
    await client.close()
    return bool(answer) and answer[2] == 0


def login(device):
    return device.identifier, device.key


async def known(broker, device):
    """Wait until the broker lets the device in."""

    async def lets_in():
        return await may_connect(broker, *login(device))

    await eventually(lets_in)


@pytest.fixture
async def world(server, guarded):
    own, foreign = await server.device("own-1"), await server.device("foreign-1")
    for device in (own, foreign):
        await known(guarded, device)

    async def stored(identifier):
        sensor = await server.store.sensors.find(identifier)
        return await server.store.measurements.page(
            sensor.number, key=None, direction="next", limit=100
        )

    return isolation.World(guarded.port, login(own), login(foreign), SERVER, stored)


@pytest.fixture
def configure(server):
    return isolation.configured_by(server)


async def test_a_device_is_let_in_with_its_own_key_only(server, guarded):
    device, other = await server.device("pump-1"), await server.device("pump-2")
    await known(guarded, other)
    assert await may_connect(guarded, device.identifier, device.key)
    assert not await may_connect(guarded, device.identifier, other.key)
    # Its device_id may be another's tomorrow.
    assert not await may_connect(guarded, device.device_id, device.key)


async def test_publishing(world):
    await isolation.check_publishing(world)


async def test_subscribing(world, configure):
    await isolation.check_subscribing(world, configure)


async def test_wills(world):
    await isolation.check_wills(world)


async def test_anothers_session(world, configure):
    await isolation.check_sessions(world, configure)


async def test_a_rotated_key_ends_at_once_and_so_does_who_is_connected_by_it(server, guarded):
    device = await server.device("pump-1")
    await known(guarded, device)
    connected = await Client.connected(guarded.port, "pump", *login(device))
    answer = await server.http.post("/devices/pump-1/key")
    new = answer.json()["api_key"]

    async def new_key_works():
        return await may_connect(guarded, device.identifier, new)

    await eventually(new_key_works)
    assert not await may_connect(guarded, *login(device))
    # Mosquitto 2.0 looks at those who are connected, too.
    assert await connected.packet() == b""


@pytest.mark.parametrize("way", ["deactivate", "delete"])
async def test_who_is_taken_out_of_service_is_not_let_in(server, guarded, way):
    device = await server.device("pump-1")
    await known(guarded, device)
    path = "/devices/pump-1" if way == "deactivate" else "/sensors/pump-1"
    assert (await server.http.delete(path)).status_code == 204

    async def refused():
        return not await may_connect(guarded, *login(device))

    await eventually(refused)
    if way == "deactivate":
        await server.http.patch("/devices/pump-1", json={"is_active": True})
        await known(guarded, device)


async def test_what_a_deactivated_one_sends_before_that_is_rejected(tmp_path, guarded):
    """Nobody tells Mosquitto here: the device is connected and stays so."""
    async with running(tmp_path, **settings(guarded, mosquitto_pid_path=None)) as server:
        device = await server.device("pump-1")
        await eventually(guarded.passwords.exists)
        await eventually(lambda: device.identifier in guarded.passwords.read_text())
        guarded.start()
        await eventually(lambda: server.services.link.connected)
        connected = await Client.connected(guarded.port, "pump", *login(device))
        topic = f"measurements/{device.identifier}"
        await isolation.taken(connected, topic, b'{"value": 1}')
        await eventually(lambda: server.values(device))
        await server.http.delete("/devices/pump-1")
        await isolation.taken(connected, topic, b'{"value": 2}')
        await eventually(server.rejected)
        assert [message.reason for message in await server.rejected()] == ["DEACTIVATED_SENSOR"]
        assert await server.values(device) == ["1"]
        assert guarded.reloads == 0


async def test_many_changes_are_a_few_rewrites(server, guarded):
    devices = [{"device_id": f"d-{number}"} for number in range(200)]
    for at in range(0, 200, 10):
        answer = await server.http.post("/devices/batch", json=devices[at : at + 10])
        assert answer.status_code == 201
    last = answer.json()[-1]

    async def lets_in():
        return await may_connect(guarded, last["sensor_identifier"], last["api_key"])

    await eventually(lets_in)
    assert guarded.passwords.read_text().count("\n") == 201
    assert guarded.reloads < 20


async def test_changes_of_another_process_are_seen(server, guarded):
    """As the command line makes them: past the server's own memory."""
    device = await server.device("pump-1")
    await known(guarded, device)
    sensor = await server.store.sensors.find("pump-1")
    await server.store.sensors.change(sensor.number, is_active=False)

    async def refused():
        return not await may_connect(guarded, *login(device))

    await eventually(refused)


async def test_other_lines_and_rules_stay(server, guarded):
    await eventually(guarded.acl.exists)
    command = ["mosquitto_passwd", "-b", str(guarded.passwords), "a-person", "secret"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert done.stderr == b""
    rules = guarded.acl.read_text() + "\nuser a-person\ntopic read measurements/#\n"
    guarded.acl.write_text(rules)
    device = await server.device("pump-1")
    await known(guarded, device)
    person = await Client.connected(guarded.port, "person", "a-person", "secret")
    assert await isolation.granted(person, "measurements/#")
    connected = await Client.connected(guarded.port, "pump", *login(device))
    topic = f"measurements/{device.identifier}"
    await isolation.taken(connected, topic, b'{"value": 1}')
    await isolation.has_heard(person, topic)
    assert guarded.acl.read_text() == rules


async def test_a_new_password_of_the_server_replaces_the_old_one(server, guarded, tmp_path):
    folder = tmp_path / "another"
    folder.mkdir()
    line = next(x for x in guarded.passwords.read_text().splitlines() if x.startswith("heliog"))
    await server.device("pump-1")
    await eventually(lambda: guarded.passwords.read_text().count("\n") == 2)
    assert line in guarded.passwords.read_text().splitlines()
    async with running(folder, **settings(guarded, mqtt_password="another", mqtt_url=None)):
        await eventually(lambda: line not in guarded.passwords.read_text().splitlines())
    assert guarded.passwords.read_text().count("heliograph:") == 1


async def test_files_are_readable_for_mosquitto_and_nobody_else(server, guarded):
    for path in (guarded.passwords, guarded.acl):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert found.st_gid == guarded.access.stat().st_gid
    guarded.passwords.chmod(0o600)
    text = guarded.passwords.read_text()
    await server.device("pump-1")
    await eventually(lambda: guarded.passwords.read_text() != text)
    assert stat.S_IMODE(guarded.passwords.stat().st_mode) == 0o600
    assert [path.name for path in guarded.access.iterdir() if path.name.startswith(".")] == []


async def test_a_failure_is_tried_again(tmp_path, guarded):
    guarded.pid_file.write_text("2000000000")
    async with running(tmp_path, **settings(guarded)) as server:
        files = server.services.informing
        await eventually(lambda: "no process" in (files.problem or ""))
        warnings = (await server.http.get("/readyz")).json()["warnings"]
        assert any("Mosquitto" in line for line in warnings)
        guarded.pid_file.unlink()
        guarded.start()
        await eventually(lambda: files.problem is None)
        # Written before, and read by it only now.
        await eventually(lambda: guarded.reloads == 1)


@pytest.mark.parametrize(
    "pid", ["", "x", "0", "1", "-1", pytest.param(str(os.getpid()), id="ours")]
)
async def test_nobody_else_is_signalled(tmp_path, guarded, pid):
    guarded.pid_file.write_text(pid)
    async with running(tmp_path, **settings(guarded)) as server:
        files = server.services.informing
        await eventually(lambda: files.problem is not None)
        assert "not told" in files.problem
        assert Path(guarded.passwords).exists()
        await asyncio.sleep(0)

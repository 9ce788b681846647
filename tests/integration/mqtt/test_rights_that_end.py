"""What a client kept from before it lost a right: what it was owed, and its last will."""

import json

import pytest

from heliograph.model.time import now
from heliograph.mqtt.reading import CONGESTED
from integration.mqtt.test_users import PASSWORD, account, device, grant, network, session
from mqtt_client import PUBACK, Client, kept, numbered, publish, published, subscriptions
from server import eventually

SECRET = b'{"value": "secret"}'


@pytest.fixture
async def house(server):
    """Ada sees two networks, in each of which a pump sends."""
    ada = await account(server, "ada", roof="viewer", cellar="viewer")
    pumps = {}
    for name, place in (("roof-1", "roof"), ("cellar-1", "cellar")):
        key = await device(server, name, place)
        pumps[name] = await Client.connected(server.port, name, name, key)
    return ada, pumps


async def watcher(server, version, *filters):
    client = await Client.connected(
        server.port, "watcher", "ada", PASSWORD, version=version, **kept(version)
    )
    if filters:
        client.send(subscriptions(*((name, 1) for name in filters), version=version))
        assert (await client.packet())[0] == 0x90
    return client


async def send(pump, name, payload=SECRET):
    pump.send(publish(f"measurements/{name}", payload))
    assert (await pump.packet())[0] == 0x40


async def left(server, client, connections):
    await client.close()
    await eventually(lambda: server.listener.connections == connections)


async def ends(server, ada, how):
    """Take from Ada what she may see of the roof."""
    roof = await network(server, "roof")
    if how == "removed":
        await grant(server, ada, roof, None)
        return
    other = await network(server, "other")
    body = {"network_identifier": other}
    response = await server.http.patch("/sensors/roof-1", json=body)
    assert response.status_code == 200, response.text


async def configure(server, name):
    sensor = await server.store.sensors.find(name)
    await server.store.configurations.add(sensor.number, '{"password":"secret"}')

    async def nothing_left():
        return await server.store.publications.count() == 0

    await eventually(nothing_left)


HOW = pytest.mark.parametrize("how", ["removed", "sensor moved"])


@HOW
async def test_what_a_session_is_owed_is_withheld_from_who_may_not_see_it_any_more(
    server, version, house, how
):
    """Configurations, secrets included, too; what may still be seen comes."""
    ada, pumps = house
    client = await watcher(server, version, "measurements/#", "configurations/#")
    await left(server, client, 2)
    await configure(server, "roof-1")
    for name, pump in pumps.items():
        await send(pump, name)
    await configure(server, "cellar-1")
    await ends(server, ada, how)
    client = await watcher(server, version)
    assert client.session_present
    topics = [published(await client.packet(), version).topic for _ in range(2)]
    assert topics == ["measurements/cellar-1", "configurations/cellar-1"]
    await client.quiet()
    assert server.listener.counts.withheld == 2
    metrics = (await server.http.get("/metrics")).text
    assert "heliograph_mqtt_withheld_messages_total 2.0" in metrics


async def test_what_a_session_is_owed_comes_to_who_may_see_it(server, version, house):
    _, pumps = house
    client = await watcher(server, version, "#")
    await left(server, client, 2)
    await configure(server, "roof-1")
    await send(pumps["roof-1"], "roof-1")
    client = await watcher(server, version)
    topics = [published(await client.packet(), version).topic for _ in range(2)]
    assert topics == ["configurations/roof-1", "measurements/roof-1"]
    assert server.listener.counts.withheld == 0


@HOW
async def test_what_was_not_acknowledged_is_not_sent_again_to_who_lost_the_right(
    server, version, house, how
):
    ada, pumps = house
    client = await watcher(server, version, "measurements/#")
    for name in ("roof-1", "cellar-1", "roof-1"):
        await send(pumps[name], name, b'{"value": %d}' % now())
    first = [published(await client.packet(), version) for _ in range(3)]
    await left(server, client, 2)
    await ends(server, ada, how)
    client = await watcher(server, version)
    again = published(await client.packet(), version)
    assert again == first[1]._replace(dup=True)
    await client.quiet()
    # The window has room for all that comes: nothing that is withheld takes some of it.
    client.send(numbered(PUBACK, again.packet_id))
    await send(pumps["cellar-1"], "cellar-1")
    assert published(await client.packet(), version).payload == SECRET


@HOW
async def test_what_waits_for_a_slow_client_is_withheld_too(server, version, house, how):
    """It was due while the right held; it is written when there is room."""
    ada, pumps = house
    client = await watcher(server, version, "measurements/#")
    window = 64
    for number in range(window + 10):
        await send(pumps["roof-1"], "roof-1", b'{"value": %d}' % number)
    sent = [published(await client.packet(), version) for _ in range(window)]
    await ends(server, ada, how)
    for message in sent:
        client.send(numbered(PUBACK, message.packet_id))
    await client.quiet()
    assert server.listener.counts.withheld == 10


async def test_what_is_retained_and_waits_for_a_slow_client_is_withheld_too(
    server, version, house, read
):
    """It was read while the right held, for a client that does not take what it is sent."""
    ada, _ = house
    for name in ("roof-1", "cellar-1"):
        await configure(server, name)
    client = await watcher(server, version)
    (connection,) = [c for c in server.listener._connections if c.principal.account]
    connection.pause_writing()
    client.send(subscriptions(("configurations/+", 0), version=version))
    connection.resume(CONGESTED)
    assert (await client.packet())[0] == 0x90
    await eventually(lambda: read)
    await ends(server, ada, "removed")
    connection.resume_writing()
    assert published(await client.packet(), version).topic == "configurations/cellar-1"
    await client.quiet()
    assert server.listener.counts.withheld == 1


async def rotate(server, device):
    assert (await server.http.post(f"/devices/{device.device_id}/key")).status_code == 200


async def deactivate(server, device):
    assert (await server.http.delete(f"/devices/{device.device_id}")).status_code == 204


async def erase(server, device):
    response = await server.http.delete(f"/sensors/{device.device_id}", params={"data": "delete"})
    assert response.status_code in (200, 204), response.text


@pytest.mark.parametrize(
    ("version", "delay"), [(4, 0), (5, 0), (5, 60)], ids=["3.1.1", "5", "5-delayed"]
)
@pytest.mark.parametrize("change", [rotate, deactivate, erase])
async def test_a_will_is_not_published_once_the_key_it_was_set_with_ended(
    server, version, change, delay
):
    """Whether the connection ends by that, or its will is still to come when the key ends."""
    device = await server.device()
    options = {"will": (device.topic, b'{"value": "will"}', 1, False), "version": version}
    if delay:
        options |= {**kept(5), "will_properties": b"\x18" + delay.to_bytes(4, "big")}
    client = await server.connect(device, **options)
    if delay:
        await left(server, client, 0)
        await change(server, device)
        for left_behind in list(server.listener.sessions._left):
            server.listener.sessions.end(left_behind)
    else:
        await change(server, device)
        while await client.packet():
            pass
    await eventually(lambda: server.listener.connections == 0 and server.state.depth == 0)
    assert server.listener.counts.withheld_wills == 1
    metrics = (await server.http.get("/metrics")).text
    assert "heliograph_mqtt_withheld_wills_total 1.0" in metrics
    assert await server.rejected() == []
    if change is not erase:
        assert await server.values(device) == []


async def test_a_users_will_is_not_published_once_his_session_is_over(server, monkeypatch):
    ada = await account(server, "ada", roof="editor")
    await device(server, "roof-1", "roof")
    token = await session(server, ada)
    will = ("measurements/roof-1", b'{"value": "will"}', 1, False)
    await Client.connected(server.port, "c", "x", token, version=5, will=will)
    later = now() + 3_601 * 1_000_000
    monkeypatch.setattr("heliograph.mqtt.session.now", lambda: later)
    await eventually(lambda: server.listener.connections == 0 and server.state.depth == 0)
    assert server.listener.counts.withheld_wills == 1
    history = await server.http.get("/devices/roof-1/history")
    assert json.loads(history.text) == []

"""Several servers at one broker: sharing the load on purpose, or at odds by mistake."""

import asyncio

import mqtt5
import psycopg
import pytest

from heliograph.mqtt import members
from mqtt_client import Client, publish
from scripted_broker import message
from server import eventually

COUNT = 300


async def publish_all(broker, topic, values, client_id="a-device"):
    client = await Client.connected(broker.port, client_id)
    for packet_id, value in enumerate(values, 1):
        # Without a time, so that whatever came twice would be stored twice.
        client.send(publish(topic, b'{"value": %d}' % value, packet_id=packet_id))
    for _ in values:
        assert (await client.packet())[0] == 0x40
    await client.close()


async def stored(server, device, count):
    async def there():
        return len(await server.measurements(device)) >= count

    await eventually(there)
    return sorted(map(int, await server.values(device)))


def connected(server):
    return eventually(lambda: server.services.link.connected)


async def test_two_servers_share_a_load(mosquitto, linked, tmp_path, postgresql_url):
    settings = {"database_url": postgresql_url, "mqtt_shared": True}
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    async with (
        linked(mosquitto, folders[0], mqtt_client_id="a", **settings) as one,
        linked(mosquitto, folders[1], mqtt_client_id="b", **settings) as two,
    ):
        device = await one.device()
        await connected(one)
        await connected(two)
        await publish_all(mosquitto, device.topic, range(COUNT))
        assert await stored(one, device, COUNT) == list(range(COUNT))
        await eventually(lambda: not one.state.depth and not two.state.depth)
        counts = [server.state.messages_total for server in (one, two)]
        assert sum(counts) == COUNT
        assert min(counts) > COUNT // 10


async def test_each_of_them_hears_every_status(mosquitto, linked, tmp_path, postgresql_url):
    settings = {"database_url": postgresql_url, "mqtt_shared": True}
    (tmp_path / "b").mkdir()
    async with (
        linked(mosquitto, mqtt_client_id="a", **settings) as one,
        linked(mosquitto, tmp_path / "b", mqtt_client_id="b", **settings) as two,
    ):
        await one.device()
        await connected(one)
        await connected(two)
        client = await Client.connected(mosquitto.port, "a-device")
        client.send(publish("status/device-1", b"online"))
        assert (await client.packet())[0] == 0x40
        await eventually(lambda: one.state.messages_total == two.state.messages_total == 1)
        await client.close()


async def test_switching_to_shared_and_back_doubles_nothing(mosquitto, linked, postgresql_url):
    device, count = None, 0
    for shared in (False, True, True, False):
        settings = {"database_url": postgresql_url, "mqtt_shared": shared}
        async with linked(mosquitto, **settings) as server:
            device = device or await server.device()
            await connected(server)
            await publish_all(mosquitto, device.topic, range(count, count + 20))
            count += 20
            assert await stored(server, device, count) == list(range(count))
            await eventually(lambda s=server: not s.state.depth)
            assert server.state.messages_total == 20
            assert len(await server.measurements(device)) == count


async def test_a_broker_without_shared_subscriptions(broker, linked, postgresql_url, problem):
    settings = {"database_url": postgresql_url, "mqtt_shared": True}
    async with linked(broker, **settings) as server:
        conversation = await broker.accept()
        await conversation.up(shared_subscription_available=True)
        await connected(server)
        conversation.cut()
        with pytest.raises(AssertionError):  # it goes without a SUBSCRIBE
            await (await broker.accept()).up(shared_subscription_available=False)
        assert await problem(server, "MQTT_SHARED") == (
            "MQTT_SHARED: the broker has no shared subscriptions"
        )


async def test_a_plain_link_leaves_alone_what_the_broker_does_not_have(broker, server):
    conversation = await broker.accept()
    await conversation.up(shared_subscription_available=False)
    await connected(server)
    conversation.cut()
    conversation = await broker.accept()
    await conversation.read(mqtt5.ConnectPacket)
    connack = mqtt5.ConnAckPacket(session_present=True, shared_subscription_available=False)
    conversation.send(connack.write())
    # The session is there, but nothing in it can be shared: nothing is unsubscribed from.
    await conversation.subscribed()
    device = await server.device()
    conversation.send(message(device.topic, b'{"value": 1}', 1))
    assert await conversation.acknowledged(1) == [1]


async def test_a_take_over_by_another_client_is_told(mosquitto, linked, capsys):
    async with linked(mosquitto) as server:
        await connected(server)
        client = await Client.connected(mosquitto.port, "heliograph", version=5, clean=False)
        # It takes the session back, and tells why it had to.
        await eventually(lambda: server.services.link.connects == 2)
        await connected(server)
        await client.close()
        device = await server.device()
        await publish_all(mosquitto, device.topic, [1])
        assert await stored(server, device, 1) == [1]
    assert "or knows another client of this MQTT_CLIENT_ID" in capsys.readouterr().err


async def test_two_servers_of_one_name_do_not_chase_each_other(
    mosquitto, linked, tmp_path, monkeypatch
):
    monkeypatch.undo()  # as patient as in earnest
    (tmp_path / "b").mkdir()
    async with linked(mosquitto) as one, linked(mosquitto, tmp_path / "b") as two:
        await eventually(lambda: one.services.link.connects + two.services.link.connects >= 3)
        await asyncio.sleep(1)
        # Without a growing pause it would be hundreds.
        assert one.services.link.connects + two.services.link.connects < 15


async def test_what_waits_for_a_server_that_is_gone_is_read_by_another(
    mosquitto, linked, tmp_path, postgresql_url, monkeypatch
):
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(members, "LOOKS", 2)
    monkeypatch.setattr(members, "QUIET_SECONDS", 0.3)
    settings = {"database_url": postgresql_url, "mqtt_shared": True}
    (tmp_path / "b").mkdir()
    async with linked(mosquitto, mqtt_client_id="a", **settings) as one:
        device = await one.device()
        await connected(one)
    # What comes while nobody is there is assigned to the one that was.
    await publish_all(mosquitto, device.topic, range(COUNT))
    async with linked(mosquitto, tmp_path / "b", mqtt_client_id="b", **settings) as two:
        await connected(two)
        assert await stored(two, device, COUNT) == list(range(COUNT))
        await eventually(lambda: not two.state.depth)

        async def is_forgotten():
            async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
                found = await connection.execute("SELECT client_id FROM broker_member")
                return await found.fetchall() == [("b",)]

        await eventually(is_forgotten)
        # Its session is over: all that comes is the other's.
        late = await Client.connected(mosquitto.port, "a", version=5, clean=False)
        assert not late.session_present
        await late.close()
        await publish_all(mosquitto, device.topic, range(COUNT, COUNT + 20))
        assert await stored(two, device, COUNT + 20) == list(range(COUNT + 20))


async def test_a_member_that_is_back_goes_on_with_its_session(
    mosquitto, linked, tmp_path, postgresql_url, monkeypatch
):
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(members, "LOOKS", 2)
    monkeypatch.setattr(members, "QUIET_SECONDS", 60.0)
    settings = {"database_url": postgresql_url, "mqtt_shared": True}
    folders = [tmp_path / name for name in "bc"]
    for folder in folders:
        folder.mkdir()
    async with linked(mosquitto, mqtt_client_id="a", **settings) as one:
        device = await one.device()
        await connected(one)
    async with linked(mosquitto, folders[0], mqtt_client_id="b", **settings) as two:
        [_, legacies, *_] = two.application.server._sources
        await eventually(lambda: legacies._current and legacies._current._connection)
        async with linked(mosquitto, folders[1], mqtt_client_id="a", **settings) as back:
            await connected(back)
            await eventually(lambda: legacies._current is None)
            connects = back.services.link.connects
            await publish_all(mosquitto, device.topic, range(COUNT))
            assert await stored(back, device, COUNT) == list(range(COUNT))
            assert back.services.link.connects == connects
            assert back.state.messages_total > COUNT // 10

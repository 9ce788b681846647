"""`kill -9` of the server: nobody is connected afterwards who has not connected again."""

from faults.process import ADMIN_KEY, condition
from mqtt_client import Client, publish


async def told(server, name):
    async with server.client() as client:
        return (await client.get(f"/devices/{name}")).json()


async def test_after_a_kill_only_who_has_connected_again_is_connected(server, database):
    keys = {name: await server.device(name) for name in ("back", "gone", "said", "sometime")}
    clients = {
        name: await Client.connected(server.mqtt_port, name, name, keys[name])
        for name in ("back", "gone", "said")
    }
    clients["said"].send(publish("status/said", b"online", retain=True))
    assert (await clients["said"].packet())[0] == 0x40
    for name in clients:
        assert (await told(server, name))["connected"] is True
    before = await told(server, "gone")

    # The kill has to make something untrue that is stored.
    def stored():
        return "gone" in database.column("SELECT device_id FROM sensor WHERE connection_open")

    await condition(stored)
    server.kill()
    await server.ended()
    for client in clients.values():
        await client.close()
    await server.start()
    again = await Client.connected(server.mqtt_port, "back", "back", keys["back"])
    found = {name: (await told(server, name))["connected"] for name in keys}
    assert found == {"back": True, "gone": False, "said": False, "sometime": None}
    assert (await told(server, "gone"))["connected_changed_at"] > before["connected_changed_at"]
    await again.close()


async def test_who_said_so_through_a_broker_is_connected_after_a_kill(
    make_server, database, broker
):
    server = await make_server(database.url, MQTT_URL=broker.url)
    for name in ("theirs", "ours", "left"):
        await server.device(name)
    publisher = await Client.connected(broker.port, "anybody")
    for number, name in enumerate(("theirs", "left"), 1):
        # Not retained: what is stored is all there is.
        publisher.send(publish(f"status/{name}", b"online", packet_id=number))
        assert (await publisher.packet())[0] == 0x40
    gateway = await Client.connected(server.mqtt_port, "gateway", "admin", ADMIN_KEY)
    gateway.send(publish("status/ours", b"online", retain=True))
    assert (await gateway.packet())[0] == 0x40

    async def all_online():
        names = ("theirs", "ours", "left")
        return all([(await told(server, name))["connected"] for name in names])

    await condition(all_online)
    server.kill()
    await server.ended()
    await gateway.close()
    publisher.send(publish("status/left", b"offline", packet_id=9, retain=True))
    assert (await publisher.packet())[0] == 0x40
    await server.start()

    async def left():
        return (await told(server, "left"))["connected"] is False

    await condition(left)
    # The gateway's connection is gone, and what it said on it; the broker's has not ended.
    assert (await told(server, "ours"))["connected"] is False
    assert (await told(server, "theirs"))["connected"] is True
    await publisher.close()

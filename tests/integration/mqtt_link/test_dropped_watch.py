"""Messages that a broker drops after it has taken them: told wherever one looks."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from broker import PLAIN
from mqtt_client import Client, kept, publish, subscribe
from scripted_broker import message
from server import eventually

TOPIC = "$SYS/broker/publish/messages/dropped"


def said(count):
    return message(TOPIC, b"%d" % count, 0, retain=True)


async def metric(server, name):
    text = (await server.http.get("/metrics")).text
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == name]
    return family.samples[0].value


async def test_a_growing_count_is_told(broker, server, readiness, caplog):
    conversation = await broker.up()
    link = server.services.link
    conversation.send(said(7))
    await eventually(lambda: link.connected)
    await asyncio.sleep(0)
    body = await readiness(server)
    # What was dropped before the server came is no news.
    assert (body["warnings"], body["ready"]) == ([], True)
    conversation.send(said(7) + said(10))
    await eventually(lambda: link.dropped.count == 3)
    body = await readiness(server)
    assert body["warnings"] == ["The MQTT broker has dropped 3 messages"]
    assert body["ready"]
    assert body["mqtt"]["broker"]["dropped_messages"] == 3
    assert await metric(server, "heliograph_broker_dropped_messages") == 3
    assert "accepted messages dropped by the broker" in caplog.text
    assert conversation.unread == 0


async def test_what_was_dropped_while_the_link_was_down_counts(broker, server):
    conversation = await broker.up()
    link = server.services.link
    conversation.send(said(7) + said(8))
    await eventually(lambda: link.dropped.count == 1)
    conversation.cut()
    conversation = await broker.up(session_present=True)
    conversation.send(said(108))
    await eventually(lambda: link.dropped.count == 101)


async def test_a_broker_that_was_restarted_counts_from_0(broker, server, caplog):
    conversation = await broker.up()
    link = server.services.link
    conversation.send(said(7) + said(8))
    await eventually(lambda: link.dropped.count == 1)
    conversation.cut()
    conversation = await broker.up(session_present=True)
    conversation.send(said(0))
    conversation.send(said(4))
    await eventually(lambda: link.dropped.count == 5)
    assert caplog.text.count("accepted messages dropped by the broker") == 2


async def test_what_is_no_count_is_left_alone(broker, server):
    conversation = await broker.up()
    for payload in (b"", b"-1", b"1.5", b"many", b"9" * 30, b"\xff", b"5", b"6"):
        conversation.send(message(TOPIC, payload, 0))
    await eventually(lambda: server.services.link.dropped.count == 1)
    assert await server.rejected() == []


async def test_a_real_broker_that_drops(mosquittos, linked, readiness):
    broker = mosquittos(PLAIN.replace("max_queued_messages 0", "max_queued_messages 1"))
    async with linked(broker) as server:
        link = server.services.link
        await eventually(lambda: link.connected)
        await eventually(lambda: link.dropped._last is not None)
        absent = await Client.connected(broker.port, "absent", **kept(4))
        absent.send(subscribe("elsewhere/#"))
        assert (await absent.packet())[0] == 0x90
        await absent.close()
        client = await Client.connected(broker.port, "a-device")
        for packet_id in range(1, 22):
            client.send(publish("elsewhere/x", b"x", packet_id=packet_id))
        for _ in range(21):
            assert (await client.packet())[0] == 0x40
        await client.close()
        await eventually(lambda: link.dropped.count)
        assert (await readiness(server))["warnings"] == [
            f"The MQTT broker has dropped {link.dropped.count} messages"
        ]


async def test_what_a_real_broker_drops_while_the_server_is_away(
    mosquittos, linked, readiness, capsys
):
    broker = mosquittos(PLAIN.replace("max_queued_messages 0", "max_queued_messages 10"))
    async with linked(broker) as server:
        await server.device("pump-1")
        await eventually(lambda: is_noted(server, broker))
    client = await Client.connected(broker.port, "pump-1")
    for packet_id in range(1, 51):
        client.send(publish("measurements/pump-1", b"%d" % packet_id, packet_id=packet_id))
    for _ in range(50):
        assert (await client.packet())[0] == 0x40, "the broker has acknowledged it"
    await client.close()
    async with linked(broker) as server:
        link = server.services.link
        await eventually(lambda: link.dropped.count == 40)
        body = await readiness(server)
        assert body["warnings"] == ["The MQTT broker has dropped 40 messages"]
        assert body["mqtt"]["broker"]["dropped_messages"] == 40
        assert await metric(server, "heliograph_broker_dropped_messages") == 40
        await eventually(lambda: is_noted(server, broker, 40))
    told = capsys.readouterr().err
    assert told.count("accepted messages dropped by the broker") == 1
    # What was told once is not told again.
    async with linked(broker) as server:
        await eventually(lambda: server.services.link.dropped.reported() is not None)
        assert (await readiness(server))["warnings"] == []


async def is_noted(server, broker, total=0):
    noted = await server.store.broker_drops.find(broker.url)
    return noted is not None and noted.total == total and noted.uptime is not None

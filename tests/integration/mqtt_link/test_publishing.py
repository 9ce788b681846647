"""What the server publishes to a broker, until the broker has it."""

import asyncio

import mqtt5
import pytest

from broker import PLAIN
from heliograph.mqtt.publications import PublicationRefusedError
from mqtt_client import Client, kept, numbered, published, subscribe
from server import eventually


def publishing(server, *messages, **options):
    """Publish side by side, in this order; return the tasks."""
    publications = server.services.link.publications
    return [
        asyncio.create_task(publications.publish(topic, payload, **options), name=str(payload))
        for topic, payload in messages
    ]


async def heard(client, count):
    found = []
    for _ in range(count):
        one = published(await client.packet())
        client.send(numbered(0x40, one.packet_id))
        found.append(one)
    return found


@pytest.fixture
def subscriber():
    """Return a coroutine function: a client that hears of `commands`, also of what it missed."""

    async def subscriber(broker):
        client = await Client.connected(broker.port, "a-listener", **kept(4))
        client.send(subscribe("commands"))
        if not client.session_present:
            assert (await client.packet())[0] == 0x90
        return client

    return subscriber


async def test_what_is_published_reaches_who_listens(mosquitto, linked, subscriber):
    async with linked(mosquitto) as server:
        client = await subscriber(mosquitto)
        await eventually(lambda: server.services.link.connected)
        tasks = publishing(server, *[("commands", b"%d" % n) for n in range(200)])
        assert [int(m.payload) for m in await heard(client, 200)] == list(range(200))
        await asyncio.gather(*tasks)
        await client.quiet()
        body = (await server.http.get("/readyz")).json()
        assert body["mqtt"]["broker"]["waiting_messages"] == 0
        await client.close()


async def test_what_is_retained_is_there_for_who_comes_later(mosquitto, linked, subscriber):
    async with linked(mosquitto) as server:
        await server.services.link.publications.publish("commands", b"kept", retain=True)
        client = await subscriber(mosquitto)
        (one,) = await heard(client, 1)
        assert (one.payload, one.retain) == (b"kept", True)
        await client.close()


async def test_a_broker_that_is_away_gets_it_when_it_is_back(mosquitto, linked, subscriber):
    async with linked(mosquitto) as server:
        client = await subscriber(mosquitto)
        await client.close()
        await eventually(lambda: server.services.link.connected)
        await asyncio.to_thread(mosquitto.stop)
        await eventually(lambda: not server.services.link.connected)
        tasks = publishing(server, *[("commands", b"%d" % n) for n in range(100)])
        await eventually(lambda: server.services.link.waiting == 100)
        assert not any(task.done() for task in tasks)
        body = (await server.http.get("/readyz")).json()
        assert body["mqtt"]["broker"]["waiting_messages"] == 100
        await asyncio.to_thread(mosquitto.start)
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        client = await Client.connected(mosquitto.port, "a-listener", **kept(4))
        assert [int(m.payload) for m in await heard(client, 100)] == list(range(100))
        await client.close()


async def test_a_broker_that_does_not_allow_it(mosquittos, linked):
    broker = mosquittos()
    broker.stop()
    rules = broker.folder / "rules"
    rules.write_text("topic write allowed\n")
    rules.chmod(0o644)
    broker.configure(f"{PLAIN}acl_file {rules}\n")
    broker.start()
    async with linked(broker) as server:
        publications = server.services.link.publications
        await publications.publish("allowed", b"1")
        with pytest.raises(PublicationRefusedError, match="refuses commands: not authorized"):
            await publications.publish("commands", b"1")
        assert server.services.link.waiting == 0
        assert server.services.link.connects == 1


async def test_a_broker_that_takes_small_packets_only(mosquittos, linked):
    broker = mosquittos(f"{PLAIN}max_packet_size 2000\n")
    async with linked(broker) as server:
        publications = server.services.link.publications
        await publications.publish("commands", b"x" * 1_900)
        with pytest.raises(PublicationRefusedError, match="takes 2000 bytes at most"):
            await publications.publish("commands", b"x" * 2_000)
        await publications.publish("commands", b"x")
        assert server.services.link.connects == 1


async def test_a_broker_that_retains_nothing(mosquittos, linked):
    broker = mosquittos(f"{PLAIN}retain_available false\n")
    async with linked(broker) as server:
        publications = server.services.link.publications
        await publications.publish("commands", b"x")
        with pytest.raises(PublicationRefusedError, match="the broker retains nothing"):
            await publications.publish("commands", b"x", retain=True)
        assert server.services.link.connects == 1


async def test_a_publication_is_sent_again_on_the_next_connection(broker, server):
    conversation = await broker.up()
    await eventually(lambda: server.services.link.connected)
    tasks = publishing(server, ("commands", b"1"), ("commands", b"2"))
    first = [await conversation.read(mqtt5.PublishPacket) for _ in tasks]
    conversation.send(mqtt5.PubAckPacket(first[0].packet_id).write())
    await tasks[0]
    conversation.cut()
    conversation = await broker.up(session_present=True)
    again = await conversation.read(mqtt5.PublishPacket)
    assert (again.payload, again.packet_id) == (b"2", first[1].packet_id)
    assert again.duplicate
    assert not first[1].duplicate
    conversation.cut()
    conversation = await broker.up(session_present=False)
    anew = await conversation.read(mqtt5.PublishPacket)
    assert (anew.payload, anew.duplicate) == (b"2", False)
    conversation.send(mqtt5.PubAckPacket(anew.packet_id).write())
    await asyncio.wait_for(tasks[1], 60)


async def test_the_window_is_the_brokers(broker, server):
    conversation = await broker.up(receive_max=2)
    await eventually(lambda: server.services.link.connected)
    tasks = publishing(server, *[("commands", b"%d" % n) for n in range(5)])
    sent = [await conversation.read(mqtt5.PublishPacket) for _ in range(2)]
    conversation.answers_pings = True
    for expected in range(2, 5):
        assert conversation.unread == 0
        conversation.send(mqtt5.PubAckPacket(sent.pop(0).packet_id).write())
        sent.append(await conversation.read(mqtt5.PublishPacket))
        assert sent[-1].payload == b"%d" % expected
    for one in sent:
        conversation.send(mqtt5.PubAckPacket(one.packet_id).write())
    await asyncio.wait_for(asyncio.gather(*tasks), 60)

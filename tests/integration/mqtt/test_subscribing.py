"""SUBSCRIBE, UNSUBSCRIBE and what subscribers get (MQTT 5, 3.8 to 3.11)."""

import asyncio
import json

import pytest

from mqtt_client import (
    PUBACK,
    Client,
    kept,
    numbered,
    publish,
    published,
    subscribe,
    subscriptions,
    unsubscribe,
)
from server import ADMIN_KEY, eventually, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

NO_LOCAL = 0x04
IF_NEW, NEVER = 0x10, 0x20


def value(number):
    return b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)


async def subscribed(client, *filters, **options):
    """Subscribe and return the reasons."""
    filters = [name if isinstance(name, tuple) else (name, 1) for name in filters]
    client.send(subscriptions(*filters, version=client.version, **options))
    answer = await client.packet()
    assert answer[0] == 0x90
    return list(answer[3 + (client.version == 5) :])


async def received(client):
    return published(await client.packet(), client.version)


async def send(client, topic, payload, **options):
    """Publish and wait for the acknowledgment."""
    client.send(publish(topic, payload, version=client.version, **options))
    answer = await client.packet()
    assert answer[:1] == b"\x40", answer


async def configure(server, device, configuration="{}"):
    """Add a configuration, and return its revision once it is published to those there are."""
    sensor = await server.store.sensors.find(device.device_id)
    revision = await server.store.configurations.add(sensor.number, configuration)
    await all_published(server.store)
    return revision


async def all_published(store):
    async def nothing_left():
        return await store.publications.count() == 0

    await eventually(nothing_left)


async def test_a_subscription_is_granted_up_to_qos_1(server, version):
    """[MQTT-3.8.4-1], [MQTT-3.8.4-5] to [MQTT-3.8.4-8]."""
    client = await server.admin(version=version)
    filters = [("measurements/#", 0), ("logs/+", 1), ("status/a", 2)]
    client.send(subscriptions(*filters, packet_id=513, version=version))
    assert await client.packet() == b"\x90\x02\x01" + b"\0" * (version == 5) + b"\0\1\1"


async def test_everything_committed_is_shown_live(server, version):
    """Over MQTT in each quality, and over HTTP; the payload as it was sent, or made anew."""
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, "measurements/#")
    client = await server.connect(device)
    for qos in (0, 1, 2):
        payload = b'[{"value": {"a": %d}}]' % qos
        client.send(publish(device.topic, payload, qos=qos))
        message = await received(admin)
        assert (message.topic, message.payload) == (device.topic, payload)
        assert (message.qos, message.retain, message.dup) == (min(qos, 1), False, False)
        if message.qos:
            admin.send(numbered(PUBACK, message.packet_id))
    body = {"value": 4, "timestamp": 1_700_000_000.25}
    await server.http.post(f"/sensors/{device.identifier}/measurements", json=body)
    message = await received(admin)
    assert json.loads(message.payload) in (
        body,
        {"measurements": [{"revision": None, **body}]},
    )
    response = await server.http.post(
        "/ingest", json={"device_id": device.device_id, "temperature": 21.5}
    )
    assert response.status_code == 201
    (shown,) = json.loads((await received(admin)).payload)["measurements"]
    assert shown["value"] == {"temperature": 21.5}


@pytest.mark.parametrize("granted", [0, 1])
async def test_a_message_comes_with_the_smaller_of_published_and_granted_qos(
    server, version, granted
):
    """[MQTT-3.8.4-8], be it a status or a last will; what is posted counts as QoS 1."""
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, ("status/#", granted), (f"status/{device.identifier}", 0))
    await subscribed(admin, ("measurements/#", granted))
    # What is kept has been read: what comes from now on comes as it is published.
    (connection,) = server.listener._connections
    await eventually(lambda: connection.retained._task is None)
    topic = f"status/{device.device_id}"
    for published_in in (0, 1, 2):
        will = (topic, b"offline", published_in, True)
        client = await server.connect(device, version=version, will=will)
        client.send(publish(topic, b"online", qos=published_in, version=version))
        message = await received(admin)
        qos = min(published_in, granted)
        assert (message.payload, message.qos, message.retain) == (b"online", qos, False)
        await client.abort()
        message = await received(admin)
        assert (message.payload, message.qos, message.retain) == (b"offline", qos, False)
    await server.http.post("/ingest", json={"device_id": device.device_id, "t": 1})
    assert (await received(admin)).qos == granted


async def test_what_nobody_was_promised_is_not_kept_for_who_is_away(server, version):
    """QoS 0 from the device, QoS 1 granted: it is shown, and owed to nobody."""
    device = await server.device()
    client = await server.connect(device)
    admin = await server.admin(version=version, **kept(version))
    await subscribed(admin, device.topic)
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    client.send(publish(device.topic, value(1), qos=0))
    await send(client, device.topic, value(2))
    admin = await server.admin(version=version, **kept(version))
    message = await received(admin)
    assert (message.payload, message.qos) == (value(2), 1)
    await admin.quiet()


async def test_the_first_message_after_a_subscription_is_shown(server, version):
    """Whoever has his SUBACK sees whatever is sent from then on."""
    device = await server.device()
    client = await server.connect(device)
    await send(client, device.topic, value(1))
    for number in range(2, 5):
        admin = await server.admin(version=version)
        await subscribed(admin, (device.topic, 0))
        await send(client, device.topic, value(number))
        assert (await received(admin)).payload == value(number)
        await admin.close()
        await eventually(lambda: server.listener.connections == 1)


async def test_logs_heartbeats_and_status_are_shown(server, version):
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, ("#", 0))
    client = await server.connect(device)
    sent = {
        f"log-messages/{device.device_id}": b'{"severity": "info", "subject": "started"}',
        f"heartbeats/{device.device_id}": b'{"revision": 1, "success": true}',
        f"status/{device.device_id}": b"online",
    }
    for topic, payload in sent.items():
        await send(client, topic, payload)
        message = await received(admin)
        assert (message.topic, message.payload) == (topic, payload)


async def test_aliases_of_topics_are_shown_under_the_topics_own_name(server):
    device = await server.device()
    admin = await server.admin()
    await subscribed(admin, ("#", 0))
    client = await server.connect(device)
    await send(client, f"logs/{device.identifier}", b'{"severity": "info", "subject": "a"}')
    assert (await received(admin)).topic == f"log-messages/{device.device_id}"


async def test_the_uuids_topic_works_and_each_message_comes_once(server, version):
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, (f"measurements/{device.identifier}", 0))
    client = await server.connect(device)
    await send(client, device.topic, value(1))
    assert (await received(admin)).topic == f"measurements/{device.identifier}"
    await subscribed(admin, ("measurements/+", 1), ("#", 0), (device.topic, 0))
    await send(client, device.topic, value(2))
    assert (await received(admin)).qos == 1
    await admin.quiet()


async def test_repeats_are_not_shown_and_of_a_mixed_message_only_what_is_new(server, version):
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, ("#", 0))
    client = await server.connect(device)
    await send(client, device.topic, value(1))
    await received(admin)
    await send(client, device.topic, value(1), packet_id=2)
    await admin.quiet()
    mixed = b"[%b, %b, {}]" % (value(1), value(2))
    await send(client, device.topic, mixed, packet_id=3)
    shown = json.loads((await received(admin)).payload)
    assert shown == {
        "measurements": [{"revision": None, "timestamp": 1_700_000_000.000002, "value": 2}]
    }
    await send(client, device.topic, b"{", packet_id=4)
    await admin.quiet()


async def test_a_device_sees_its_own_and_no_local_hides_it(server):
    """[MQTT-3.8.3-3], with another connection's messages still shown."""
    device = await server.device()
    client = await server.connect(device, "one", version=5)
    other = await server.connect(device, "two", version=5)
    await subscribed(client, (device.topic, 0))
    client.send(publish(device.topic, value(1), version=5))
    assert {(await client.packet())[0] for _ in range(2)} == {0x30, 0x40}
    await subscribed(client, (device.topic, NO_LOCAL))
    await send(client, device.topic, value(2))
    await client.quiet()
    await send(other, device.topic, value(3))
    assert (await received(client)).payload == value(3)


async def test_no_local_holds_for_the_session_not_the_connection(server, blocked):
    device = await server.device()
    client = await server.connect(device, version=5, **kept(5))
    await subscribed(client, (device.topic, NO_LOCAL | 1))
    async with blocked(server) as started:
        client.send(publish(device.topic, value(1), version=5))
        await started.wait()
        await client.close()
        client = await server.connect(device, version=5, **kept(5))
    await eventually(lambda: server.state.depth == 0)
    await client.quiet()


async def test_unsubscribing(server, version):
    """[MQTT-3.10.4-1] to [MQTT-3.10.4-6]."""
    device = await server.device()
    admin = await server.admin(version=version)
    await subscribed(admin, ("measurements/#", 0), (device.topic, 0))
    admin.send(unsubscribe("measurements/#", "nothing", packet_id=9, version=version))
    assert await admin.packet() == b"\xb0\0\x09" + (b"\0\0\x11" if version == 5 else b"")
    client = await server.connect(device)
    await send(client, device.topic, value(1))
    assert (await received(admin)).payload == value(1)
    admin.send(unsubscribe(device.topic, version=version))
    await admin.packet()
    await send(client, device.topic, value(2))
    await admin.quiet()
    assert not server.listener.fanout.watched()


async def test_configurations_come_from_the_database(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    topics = [f"configurations/{name}" for name in (device.device_id, device.identifier)]
    await subscribed(client, topics[0])
    await client.quiet()
    for revision in range(2):
        await configure(server, device, f'{{"interval":{revision}}}')
        message = await received(client)
        assert (json.loads(message.payload)["revision"], message.retain) == (revision, False)
        client.send(numbered(PUBACK, message.packet_id))
    for topic in topics:
        await subscribed(client, topic)
        message = await received(client)
        assert message.topic == topic
        assert json.loads(message.payload) == {"revision": 1, "configuration": {"interval": 1}}
        assert (message.qos, message.retain) == (1, True)
        client.send(numbered(PUBACK, message.packet_id))


async def test_a_status_is_retained(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    await send(client, f"status/{device.device_id}", b"online", retain=True)
    await subscribed(client, (f"status/{device.device_id}", 0))
    message = await received(client)
    assert (message.payload, message.retain, message.qos) == (b"online", True, 0)
    await send(client, f"status/{device.device_id}", b"asleep", packet_id=2)
    assert (await server.rejected())[0].reason == "INVALID_STATUS"


async def test_an_empty_retained_status_clears_it(server, version):
    """[MQTT-3.3.1-6], [MQTT-3.3.1-8]; without RETAIN it is no status."""
    device = await server.device()
    client = await server.connect(device, version=version)
    topic = f"status/{device.device_id}"
    admin = await server.admin(version=version)
    await subscribed(admin, (topic, 0))
    await send(client, topic, b"online", retain=True)
    await received(admin)
    await send(client, topic, b"", packet_id=2)
    assert [message.reason for message in await server.rejected()] == ["INVALID_STATUS"]
    assert (await server.store.sensors.find(device.device_id)).status == "online"
    await send(client, topic, b"", packet_id=3, retain=True)
    message = await received(admin)
    assert (message.topic, message.payload, message.retain) == (topic, b"", False)
    assert (await server.store.sensors.find(device.device_id)).status is None
    await subscribed(admin, ("status/#", 0))
    await admin.quiet()
    await send(client, topic, b"offline", packet_id=4)
    assert (await received(admin)).payload == b"offline"
    assert len(await server.rejected()) == 1


@pytest.mark.parametrize("newer", [b"offline", b""])
async def test_a_status_that_was_read_before_is_not_sent_after_a_newer_one(server, version, newer):
    """Nor left out where it is asked for again meanwhile."""
    device = await server.device()
    client = await server.connect(device)
    topic = f"status/{device.device_id}"
    await send(client, topic, b"online", retain=True)
    host = server.listener.host
    retained, read, go = host.retained, asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        async for item in retained(*arguments):
            read.set()
            await go.wait()
            yield item

    host.retained = slow
    admin = await server.admin(version=version)
    await subscribed(admin, (topic, 0))
    await read.wait()
    await send(client, topic, newer, retain=True, packet_id=2)
    message = await received(admin)
    assert (message.payload, message.retain) == (newer, False)
    await subscribed(admin, ("status/#", 0))
    go.set()
    if newer:
        message = await received(admin)
        assert (message.payload, message.retain) == (newer, True)
    await admin.quiet()
    await eventually(lambda: not server.listener.tasks)
    await admin.quiet()


async def test_an_empty_retained_message_elsewhere_is_what_it_is_without_retain(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    await send(client, f"heartbeats/{device.device_id}", b"", retain=True)
    sensor = await server.store.sensors.find(device.device_id)
    assert (
        len(await server.store.heartbeats.page(sensor.number, key=None, direction="next", limit=9))
        == 1
    )
    client.send(publish(device.topic, b"", retain=True, version=version))
    await client.packet()
    assert [message.reason for message in await server.rejected()] == ["MALFORMED_JSON"]


async def test_a_last_will_clears_a_status(server, version):
    device = await server.device()
    topic = f"status/{device.device_id}"
    client = await server.connect(device, version=version, will=(topic, b"", 1, True))
    await send(client, topic, b"online")
    await client.abort()

    async def cleared():
        return (await server.store.sensors.find(device.device_id)).status is None

    await eventually(cleared)
    assert await server.rejected() == []


async def test_wildcards_find_what_is_retained(server, version):
    one, two = await server.device("one"), await server.device("two")
    await configure(server, one)
    await configure(server, two)
    client = await server.connect(two)
    await send(client, "status/two", b"offline")
    admin = await server.admin(version=version)
    expected = {
        "configurations/+": {"configurations/one", "configurations/two"},
        "+/two": {"configurations/two", "status/two"},
        "#": {"configurations/one", "configurations/two", "status/two"},
        "status/#": {"status/two"},
        "configurations/+/+": set(),
        "measurements/#": set(),
    }
    for topic_filter, topics in expected.items():
        await subscribed(admin, (topic_filter, 0))
        assert {(await received(admin)).topic for _ in topics} == topics
        await admin.quiet()


async def test_retain_handling(server):
    """[MQTT-3.3.1-9] to [MQTT-3.3.1-11]: always, if new, never."""
    device = await server.device()
    await configure(server, device)
    topic = f"configurations/{device.device_id}"
    client = await server.connect(device, version=5, **kept(5))
    for options, sent in ((NEVER, False), (IF_NEW, False), (0, True), (0, True), (NEVER, False)):
        await subscribed(client, (topic, options))
        if sent:
            assert (await received(client)).retain
        await client.quiet()
    client.send(unsubscribe(topic, version=5))
    await client.packet()
    await subscribed(client, (topic, IF_NEW))
    assert (await received(client)).retain
    await client.close()
    client = await server.connect(device, version=5, **kept(5))
    await subscribed(client, (topic, IF_NEW))
    await client.quiet()


async def test_all_that_is_retained_comes_however_slowly_it_is_taken(server, version, monkeypatch):
    """More than a queue's bound: it waits for the client's acknowledgments."""
    monkeypatch.setattr("heliograph.mqtt.session.OUTGOING_MESSAGES", 40)
    store, count = server.store, 60
    for number in range(count):
        sensor = await store.sensors.create(
            identifier=f"00000000-0000-4000-8000-{number:012}",
            network_identifier=None,
            device_id=f"d{number}",
            key_hash=None,
            created_at=1_700_000_000_000_000,
        )
        await store.configurations.add(sensor.number, "1")
    await all_published(store)
    await server.services.registry.changed()
    admin = await server.admin(version=version)
    await subscribed(admin, "configurations/#")
    await admin.quiet() if version == 4 else None
    topics = set()
    while len(topics) < count:
        message = await received(admin)
        topics.add(message.topic)
        admin.send(numbered(PUBACK, message.packet_id))
    await admin.quiet()


async def test_shared_subscriptions_are_refused(server, version):
    admin = await server.admin(version=version)
    refusal = 0x9E if version == 5 else 0x80
    assert await subscribed(admin, "$share/g/measurements/#", "#") == [refusal, 1]


async def test_filters_have_a_depth(server, version):
    admin = await server.admin(version=version)
    deep = [("/".join("+" * levels), 0) for levels in (16, 17, 32_000)]
    assert await subscribed(admin, *deep) == [0, *[0x8F if version == 5 else 0x80] * 2]


async def test_a_subscribe_with_more_filters_than_a_session_may_have(server, version):
    """Those beyond are refused unseen."""
    device = await server.device()
    admin = await server.admin(version=version)
    other = await server.connect(device, "other")
    filters = [(f"{number:x}", 0) for number in range(14_000)]
    reasons = await subscribed(admin, *filters)
    assert reasons[:1_000] == [0] * 1_000
    assert set(reasons[1_000:]) == {0x97 if version == 5 else 0x80}
    assert len(reasons) == len(filters)
    await send(other, device.topic, value(1))
    assert len(server.listener.sessions.find(*admin_session(server)).subscriptions) == 1_000


async def test_a_subscribe_with_200_000_filters_hurts_nobody(server, version):
    device = await server.device()
    admin = await server.admin(version=version)
    other = await server.connect(device, "other")
    admin.send(subscriptions(*[("a", 0)] * 200_000, version=version))
    assert (await admin.packet())[:2] == (b"\xe0\x95" if version == 5 else b"")
    await send(other, device.topic, value(1))


async def test_a_session_has_so_many_subscriptions(server, version):
    admin = await server.admin(version=version)
    for start in range(0, 1_000, 100):
        assert set(await subscribed(admin, *[f"a/{start + n}" for n in range(100)])) == {1}
    full = 0x97 if version == 5 else 0x80
    assert await subscribed(admin, "b", "a/7") == [full, 1]
    admin.send(unsubscribe("a/7", version=version))
    await admin.packet()
    assert await subscribed(admin, "b") == [1]


async def test_a_client_gets_no_packet_larger_than_it_takes(server):
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: it is dropped, and what follows comes."""
    device = await server.device()
    client = await server.connect(device)
    admin = await Client.connected(
        server.port, "a", "admin", ADMIN_KEY, version=5, properties=b"\x27\0\0\0\xff"
    )
    await subscribed(admin, "measurements/#")
    await send(client, device.topic, b'{"value": "%b"}' % (b"x" * 500))
    await send(client, device.topic, value(1))
    assert (await received(admin)).payload == value(1)


@pytest.mark.parametrize("topic_filter", ["measurements/other", "commands", "#"])
async def test_an_anonymous_viewer_sees_the_default_network(tmp_path, version, topic_filter):
    async with running(tmp_path, anonymous_role="viewer") as server:
        device = await server.device("other")
        viewer = await Client.connected(server.port, "v", version=version)
        assert await subscribed(viewer, topic_filter) == [1]
        client = await server.connect(device)
        await send(client, device.topic, value(1))
        if topic_filter != "commands":
            assert (await received(viewer)).payload == value(1)
        viewer.send(publish(device.topic, value(2), version=version))
        assert (await viewer.packet())[:3] == b"\x40\0\x01"
        assert await server.values(device) == ["1"]
        assert (await server.rejected())[0].reason == "UNKNOWN_SENSOR"


async def test_an_anonymous_viewer_sees_no_other_network(tmp_path, version):
    async with running(tmp_path, anonymous_role="viewer") as server:
        device = await server.device()
        await configure(server, device)
        elsewhere = await server.http.post("/networks", json={"network_name": "elsewhere"})
        change = {"network_identifier": elsewhere.json()["network_identifier"]}
        await server.http.patch(f"/devices/{device.device_id}", json=change)
        viewer = await Client.connected(server.port, "v", version=version)
        filters = ("#", device.topic, f"configurations/{device.device_id}")
        assert await subscribed(viewer, *filters) == [1] * 3
        client = await server.connect(device)
        await send(client, device.topic, value(1))
        await viewer.quiet()


def admin_session(server):
    (connection,) = [c for c in server.listener._connections if c.principal.is_admin]
    return connection.principal, connection.session.client_id


def test_subscribe_writes_one_filter():
    assert subscribe("a", qos=2, packet_id=1) == subscriptions(("a", 2))

"""Sessions, what they are owed, and last wills (MQTT 5, 3.1.2, 3.14, 4.1, 4.4)."""

import struct

import pytest

from integration.mqtt.test_users import PASSWORD, account, device
from mqtt_client import (
    PUBACK,
    Client,
    connect,
    disconnect,
    kept,
    numbered,
    publish,
    published,
    session_expiry,
    subscribe,
)
from server import ADMIN_KEY, eventually


def value(number):
    return b'{"value": %d, "timestamp": 1700000000.%06d}' % (number, number)


async def send(client, topic, *payloads):
    for payload in payloads:
        client.send(publish(topic, payload, version=client.version))
        assert (await client.packet())[0] == 0x40


async def received(client):
    return published(await client.packet(), client.version)


async def watching(server, version, client_id="watcher", **options):
    admin = await server.admin(client_id, version=version, **{**kept(version), **options})
    admin.send(subscribe("measurements/#", version=version))
    assert (await admin.packet())[0] == 0x90
    return admin


async def status(server, device):
    return (await server.store.sensors.find(device.device_id)).status


async def test_a_session_is_present_only_if_it_was_kept(server, version):
    """[MQTT-3.1.2-4] to [MQTT-3.1.2-6], [MQTT-3.2.2-2], [MQTT-3.2.2-3]."""
    clean = {"clean": True}
    steps = [(kept(version), False), (kept(version), True), (clean, False), (kept(version), False)]
    for options, present in steps:
        client = await server.admin("c", version=version, **options)
        assert client.session_present is present
        client.send(disconnect())
        assert await client.packet() == b""


async def test_a_session_without_expiry_ends_with_its_connection(server):
    """[MQTT-3.1.2-23]: in MQTT 5 clean start and the end are two things."""
    client = await server.admin("c", version=5, clean=False)
    await client.close()
    client = await server.admin("c", version=5, clean=False)
    assert not client.session_present


async def test_a_session_expires(server):
    client = await server.admin("c", version=5, **kept(5, 1))
    await client.close()
    await eventually(lambda: server.listener.connections == 0)
    assert len(server.listener.sessions) == 1
    await eventually(lambda: len(server.listener.sessions) == 0)
    assert not (await server.admin("c", version=5, clean=False)).session_present


async def test_disconnect_changes_the_expiry(server):
    """3.14.2.2.2."""
    client = await server.admin("c", version=5, **kept(5))
    client.send(disconnect(0, session_expiry(0)))
    assert await client.packet() == b""
    await eventually(lambda: len(server.listener.sessions) == 0)


async def test_a_session_is_kept_for_seven_days_at_most(server):
    """[MQTT-3.2.2-21]: the client is told."""
    client = await Client.open(server.port, 5)
    client.send(connect("c", "admin", ADMIN_KEY, version=5, **kept(5, 0xFFFF_FFFF)))
    assert (await client.parsed()).session_expiry_interval == 7 * 86_400


async def test_what_was_missed_comes_in_order(server, version):
    """[MQTT-3.1.2-5], [MQTT-4.6.0-6]; what is QoS 0 is not kept."""
    device = await server.device()
    admin = await watching(server, version)
    client = await server.connect(device)
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    await send(client, device.topic, *map(value, range(1, 6)))
    admin = await server.admin("watcher", version=version, **kept(version))
    assert admin.session_present
    messages = [await received(admin) for _ in range(5)]
    assert [message.payload for message in messages] == [*map(value, range(1, 6))]
    assert len({message.packet_id for message in messages}) == 5
    assert not any(message.dup for message in messages)


async def test_a_qos_0_subscription_is_heard_again_with_its_session(server, version):
    """Nobody watches what is committed in between."""
    device = await server.device()
    admin = await server.admin("watcher", version=version, **kept(version))
    admin.send(subscribe("measurements/#", qos=0, version=version))
    assert (await admin.packet())[0] == 0x90
    client = await server.connect(device)
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    await send(client, device.topic, value(1))
    admin = await server.admin("watcher", version=version, **kept(version))
    assert admin.session_present
    await send(client, device.topic, value(2))
    assert (await received(admin)).payload == value(2)


async def test_what_was_not_acknowledged_comes_again_with_dup(server, version):
    """[MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.3.2-1]: same ids, same order."""
    device = await server.device()
    admin = await watching(server, version)
    client = await server.connect(device)
    await send(client, device.topic, *map(value, range(1, 5)))
    first = [await received(admin) for _ in range(4)]
    admin.send(numbered(PUBACK, first[1].packet_id))
    await admin.quiet()
    await admin.close()
    admin = await server.admin("watcher", version=version, **kept(version))
    again = [await received(admin) for _ in range(3)]
    assert again == [message._replace(dup=True) for message in (first[0], *first[2:])]
    await admin.quiet()


async def test_the_clients_receive_maximum_holds(server):
    """[MQTT-3.3.4-9], on the connection and over a reconnect."""
    device = await server.device()
    admin = await watching(server, 5)
    client = await server.connect(device)
    await send(client, device.topic, *map(value, range(10)))
    first = [await received(admin) for _ in range(10)]
    await admin.close()
    properties = session_expiry(3_600) + b"\x21\0\x03"
    options = {"version": 5, "clean": False, "properties": properties}
    admin = await server.admin("watcher", **options)
    await send(client, device.topic, value(10))
    got = [await received(admin) for _ in range(3)]
    await admin.quiet()
    while len(got) < 11:
        admin.send(numbered(PUBACK, got[-3].packet_id))
        got.append(await received(admin))
        await admin.quiet()
    assert [m.packet_id for m in got[:10]] == [m.packet_id for m in first]
    assert [m.dup for m in got] == [True] * 10 + [False]
    assert [m.payload for m in got] == [value(number) for number in range(11)]


async def test_what_a_session_is_owed_is_bounded(server, version):
    """The oldest goes first, and is counted."""
    device = await server.device()
    admin = await watching(server, version)
    await admin.close()
    client = await server.connect(device)
    count = 1_200
    for hundred in range(0, count, 100):
        for number in range(hundred, hundred + 100):
            client.send(publish(device.topic, value(number)))
        for _ in range(100):
            assert (await client.packet())[0] == 0x40
    await send(client, device.topic, value(count))
    await server.shown()
    session = next(iter(server.listener.sessions._left))
    assert len(session.queue) == 1_000
    assert session.dropped == count + 1 - 1_000
    large = b'{"value": "%b"}' % (b"x" * 400_000)
    await send(client, device.topic, *[large] * 5)
    await server.shown()
    assert session.queued_bytes <= 1 << 20


async def test_what_all_sessions_of_a_user_are_owed_is_bounded(server, version, monkeypatch):
    """Of the one that is owed most the oldest goes first; another user's are left alone."""
    monkeypatch.setattr("heliograph.mqtt.session.MAXIMUM_BACKLOG_BYTES_OF_PRINCIPAL", 200_000)
    for name in ("ada", "bob"):
        await account(server, name, roof="viewer")
    keys = {name: await device(server, name, "roof") for name in ("roof-1", "roof-2")}
    pumps = {
        name: await Client.connected(server.port, name, name, key) for name, key in keys.items()
    }
    watching = [("ada", "many"), ("ada", "few"), ("bob", "many")]
    for user, what in watching:
        client = await Client.connected(
            server.port, what, user, PASSWORD, version=version, **kept(version)
        )
        client.send(subscribe(f"measurements/roof-{1 if what == 'many' else 2}", version=version))
        await client.packet()
        if (user, what) == ("ada", "many"):
            # What it is given and does not acknowledge it is owed, too.
            await send(pumps["roof-1"], "measurements/roof-1", large(0))
            assert (await received(client)).payload == large(0)
        await client.close()
    await eventually(lambda: server.listener.connections == 2)
    await send(pumps["roof-2"], "measurements/roof-2", large(1))
    await send(pumps["roof-1"], "measurements/roof-1", *map(large, range(2, 12)))
    await server.shown()
    audiences = {each.principal.name: each for each in server.listener.fanout._audiences.values()}
    owed = [audiences[f"user:{name}"].bytes for name in ("ada", "bob")]
    assert owed == [200_000, 200_000]
    assert server.listener.counts.dropped == 7 + 5
    client = await Client.connected(
        server.port, "many", "ada", PASSWORD, version=version, **kept(version)
    )
    for number in range(8, 12):
        message = await received(client)
        assert (message.payload, message.dup) == (large(number), False)
    client = await Client.connected(
        server.port, "few", "ada", PASSWORD, version=version, **kept(version)
    )
    assert (await received(client)).payload == large(1)
    client.send(disconnect())


def large(number):
    """Return a payload of 40,000 bytes."""
    return b'{"value": "%b%04d"}' % (b"x" * (40_000 - 17), number)


async def test_sessions_of_a_principal_are_bounded(server):
    device = await server.device()
    for number in range(105):
        client = await server.connect(device, f"c{number}", **kept(4))
        client.send(disconnect())
        assert await client.packet() == b""
    await eventually(lambda: len(server.listener.sessions) == 100)
    assert not (await server.connect(device, "c4", **kept(4))).session_present
    assert (await server.connect(device, "c104", **kept(4))).session_present


def will(device, **options):
    return {"will": (f"status/{device.device_id}", b"offline", 1, True), **options}


def delayed(seconds):
    return {"will_properties": b"\x18" + struct.pack(">I", seconds)}


@pytest.mark.parametrize("how", ["close", "abort", "fault"])
async def test_a_will_is_published_for_who_goes_without_a_word(server, version, how):
    """[MQTT-3.1.2-8], [MQTT-3.1.2-14]."""
    device = await server.device()
    client = await server.connect(device, "c", version=version, **will(device))
    match how:
        case "close":
            await client.close()
        case "abort":
            await client.abort()
        case "fault":
            client.send(b"\0\0")
    while await client.packet():
        pass
    await eventually(lambda: status_is(server, device, "offline"))


async def test_a_client_that_is_back_before_its_end_publishes_no_will(server, version):
    """[MQTT-3.1.2-8]."""
    device = await server.device()
    client = await server.connect(device, "c", version=version, **will(device))
    again = await server.connect(device, "c", version=version)
    while await client.packet():
        pass
    await eventually(lambda: server.listener.connections == 1)
    await again.quiet()
    await eventually(lambda: server.state.depth == 0)
    assert await status(server, device) is None


async def test_a_will_is_discarded_by_disconnect(server, version):
    """[MQTT-3.14.4-3], [MQTT-3.1.2-10]."""
    device = await server.device()
    client = await server.connect(device, version=version, **will(device))
    client.send(disconnect())
    assert await client.packet() == b""
    await eventually(lambda: server.listener.connections == 0 and server.state.depth == 0)
    assert await status(server, device) is None


async def test_disconnect_with_will_publishes_it(server):
    """3.14.2.1: reason 0x04."""
    device = await server.device()
    client = await server.connect(device, version=5, **will(device))
    client.send(disconnect(4))
    assert await client.packet() == b""
    await eventually(lambda: status_is(server, device, "offline"))


async def test_a_will_is_published_when_the_keep_alive_is_over(server, version):
    """[MQTT-3.1.2-22]: one and a half times; whoever pings stays."""
    device = await server.device()
    silent = await server.connect(device, "silent", version=version, keepalive=1, **will(device))
    loop = server.listener.loop
    started = loop.time()
    other = await server.connect(device, "never", version=version, keepalive=0)
    assert (await silent.packet())[:2] == (b"\xe0\x8d" if version == 5 else b"")
    await silent.close()
    assert 1.4 < loop.time() - started < 4
    await eventually(lambda: status_is(server, device, "offline"))
    await other.quiet()


async def test_a_will_may_be_any_topic_of_the_device(server, version):
    device = await server.device()
    client = await server.connect(
        device, version=version, will=(device.topic, b'{"value": "gone"}', 2, False)
    )
    await client.abort()
    await eventually(lambda: server.values(device))
    assert await server.values(device) == ['"gone"']


async def test_a_bad_will_is_kept_as_rejected(server, version):
    device = await server.device()
    client = await server.connect(device, version=version, will=(device.topic, b"{", 0, False))
    await client.abort()
    await eventually(server.rejected)
    assert (await server.rejected())[0].reason == "MALFORMED_JSON"


async def test_a_delayed_will_waits(server):
    """[MQTT-3.1.3-9]."""
    device = await server.device()
    options = will(device, **delayed(1), **kept(5))
    client = await server.connect(device, version=5, **options)
    await client.abort()
    await eventually(lambda: server.listener.connections == 0)
    assert await status(server, device) is None
    await eventually(lambda: status_is(server, device, "offline"))


@pytest.mark.parametrize("how", ["after", "take-over"])
async def test_a_delayed_will_is_not_sent_if_the_client_is_back_in_time(server, how):
    """[MQTT-3.1.3-9]."""
    device = await server.device()
    options = will(device, **delayed(60), **kept(5))
    client = await server.connect(device, version=5, **options)
    if how == "after":
        await client.abort()
        await eventually(lambda: server.listener.connections == 0)
    again = await server.connect(device, version=5, **kept(5))
    assert again.session_present
    while await client.packet():
        pass
    again.send(disconnect())
    assert await again.packet() == b""
    await eventually(lambda: server.listener.connections == 0 and server.state.depth == 0)
    assert not server.listener.sessions._due
    assert await status(server, device) is None


@pytest.mark.parametrize("how", ["clean start", "no expiry"])
async def test_a_delayed_will_comes_when_its_session_ends(server, how):
    """[MQTT-3.1.2-8]: whichever is earlier."""
    device = await server.device()
    expiry = kept(5) if how == "clean start" else {}
    client = await server.connect(device, version=5, **will(device, **delayed(60), **expiry))
    await client.abort()
    await eventually(lambda: server.listener.connections == 0)
    if how == "clean start":
        assert await status(server, device) is None
        await server.connect(device, version=5)
    await eventually(lambda: status_is(server, device, "offline"))


async def status_is(server, device, expected):
    return await status(server, device) == expected


async def test_what_all_sessions_are_owed_is_bounded(server, version, monkeypatch):
    """Of the user that is owed most the oldest goes first, be it an administrator."""
    monkeypatch.setattr("heliograph.mqtt.session.MAXIMUM_BACKLOG_BYTES_IN_ALL", 200_000)
    await account(server, "ada", roof="viewer")
    key = await device(server, "roof-1", "roof")
    other = await server.device()
    pump = await Client.connected(server.port, "roof-1", "roof-1", key)
    ada = await Client.connected(
        server.port, "few", "ada", PASSWORD, version=version, **kept(version)
    )
    ada.send(subscribe("measurements/roof-1", version=version))
    await ada.packet()
    await ada.close()
    admin = await watching(server, version)
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    await send(pump, "measurements/roof-1", large(0))
    await send(await server.connect(other), other.topic, *map(large, range(1, 12)))
    await server.shown()
    audiences = {each.principal.name: each for each in server.listener.fanout._audiences.values()}
    owed = audiences["admin"].bytes, audiences["user:ada"].bytes
    assert owed[1] == len(large(0))
    assert len(large(0)) * 4 < sum(owed) <= 200_000
    assert server.listener.fanout._total_backlog.bytes == sum(owed)
    assert server.listener.counts.dropped > 0
    # The newest is there.
    (session,) = audiences["admin"].sessions
    assert session.queue[-1].payload == large(11)
    server.listener.sessions.forget()
    assert server.listener.fanout._total_backlog.bytes == 0


async def test_what_is_sent_and_not_acknowledged_is_of_the_bound_over_all(
    server, version, monkeypatch
):
    """It can't be dropped while the client is there, so the one that holds most has to go."""
    monkeypatch.setattr("heliograph.mqtt.session.MAXIMUM_BACKLOG_BYTES_IN_ALL", 200_000)
    device = await server.device()
    pump = await server.connect(device)
    taking = await server.connect(device, "taking", version=version)
    taking.send(subscribe(device.topic, version=version))
    await taking.packet()
    silent = await watching(server, version)
    (session,) = [
        s for s in server.listener.sessions._sessions.values() if s.client_id == "watcher"
    ]
    for number in range(12):
        await send(pump, device.topic, large(number))
        message = await received(taking)
        assert message.payload == large(number)
        taking.send(numbered(PUBACK, message.packet_id))
    await server.shown()
    await eventually(lambda: session.connection is None)
    assert server.listener.fanout._total_backlog.bytes <= 200_000
    assert server.listener.counts.refusals["QUOTA_EXCEEDED"] == 1
    # Whoever comes back gets what is newest.
    await silent.close()
    again = await server.admin("watcher", version=version, **kept(version))
    while (message := await received(again)).payload != large(11):
        again.send(numbered(PUBACK, message.packet_id))


async def test_nothing_is_counted_as_owed_when_all_is_taken(server, version):
    device = await server.device()
    admin = await watching(server, version)
    (audience,) = server.listener.fanout._audiences.values()
    client = await server.connect(device)
    await send(client, device.topic, *map(value, range(100)))
    await server.shown()
    assert audience.bytes > 0
    for _ in range(40):
        admin.send(numbered(PUBACK, (await received(admin)).packet_id))
    await admin.close()
    await eventually(lambda: server.listener.connections == 1)
    admin = await server.admin("watcher", version=version, **kept(version))
    for _ in range(60):
        admin.send(numbered(PUBACK, (await received(admin)).packet_id))
    await admin.quiet()
    assert audience.bytes == 0

"""Payloads that nobody in his right mind sends, through Mosquitto, and what it keeps for later."""

from faults.database import values
from faults.hostile import HOSTILE, check_kept, element, rejected
from mqtt_client import Client, publish

MIB = 1 << 20


async def acknowledged(client, packet_ids):
    for packet_id in packet_ids:
        answer = await client.packet(30)
        assert answer == b"\x40" + packet_id.to_bytes(2), "Mosquitto takes it"


async def test_hostile_payloads(linked, broker, database):
    await linked.device("victim")
    payloads = []
    for at, (payload, _) in enumerate(HOSTILE.values()):
        payloads += [element(b"%d" % at), payload]
    client = await Client.connected(broker.port, "victim")
    for packet_id, payload in enumerate(payloads, 1):
        client.send(publish("measurements/victim", payload, packet_id=packet_id))
    await acknowledged(client, range(1, len(payloads) + 1))
    await client.close()
    await linked.caught_up(broker.port)

    assert values(database, "victim") == {str(n): 1 for n in range(len(HOSTILE))}
    kept = await rejected(database)
    assert len(kept) == len(HOSTILE)
    for what, (payload, reasons) in HOSTILE.items():
        check_kept(kept, payload, reasons, what)
    assert {source for *_, source in kept} == {"measurements/victim"}
    assert await linked.metric("heliograph_broker_connects_total") == 1, "the session was lost"


async def test_topics_that_lead_nowhere(make_server, broker, sqlite_database):
    linked = await make_server(sqlite_database.url, MQTT_URL=broker.url, MQTT_LISTEN="")
    await linked.device("victim")
    await linked.device("inactive")
    async with linked.client() as http:
        assert (await http.delete("/devices/inactive")).status_code in (200, 204)
    topics = {
        "measurements/nobody": "UNKNOWN_SENSOR",
        "measurements/inactive": "DEACTIVATED_SENSOR",
        "measurements/": "UNKNOWN_TOPIC UNKNOWN_SENSOR",
        "measurements/" + "\N{SNOWMAN}" * 300: "UNKNOWN_SENSOR",
        "status/victim": "INVALID_STATUS",
    }
    client = await Client.connected(broker.port, "anybody")
    good = publish("measurements/victim", element(b"1"), packet_id=1)
    for at, topic in enumerate(topics):
        client.send(good + publish(topic, b"%d" % at, packet_id=2) + good)
    await acknowledged(client, [1, 2, 1] * len(topics))
    # These are not ours; what else is said on the broker is nobody's fault.
    client.send(publish("somebody/else", b"1", packet_id=2) + publish("measurements/a/b", b"1"))
    await acknowledged(client, [2, 1])
    await client.close()
    await linked.caught_up(broker.port)
    kept = await rejected(sqlite_database)
    assert len(kept) == len(topics)
    for at, (topic, reasons) in enumerate(topics.items()):
        check_kept(kept, b"%d" % at, reasons, topic)
    assert values(sqlite_database, "victim") == {"1": 2 * len(topics)}


async def test_an_oversize_packet_is_kept_as_rejected(linked, broker, database):
    await linked.device("large")
    before = linked.resident_bytes()
    client = await Client.connected(broker.port, "large")
    for qos, mebibytes in ((1, 2), (0, 2), (1, 64)):
        payload = b'{"value":"%b"}' % (b"x" * (mebibytes * MIB))
        client.send(publish("measurements/large", payload, qos=qos))
        client.send(publish("measurements/large", element(b"%d" % qos), packet_id=2))
        await acknowledged(client, [1, 2] if qos else [2])
    await client.close()
    await linked.caught_up(broker.port)
    assert values(database, "large") == {"0": 1, "1": 2}
    kept = await rejected(database)
    assert [reason for _, reason, _ in kept] == ["TOO_LARGE"] * 3
    assert {head for head, *_ in kept} == {payload[: 64 << 10]}
    assert linked.peak_bytes() - before < 32 * MIB, "it was not streamed past"
    assert await linked.metric("heliograph_broker_connects_total") == 1, "the session was lost"


async def test_a_retained_measurement_is_no_phantom(make_server, broker, sqlite_database):
    database = sqlite_database
    variables = {"MQTT_URL": broker.url, "MQTT_LISTEN": ""}
    server = await make_server(database.url, **variables)
    await server.device("kept")
    client = await Client.connected(broker.port, "kept")
    client.send(publish("measurements/kept", element(b"1"), retain=True))
    await acknowledged(client, [1])
    await server.caught_up(broker.port)
    assert values(database, "kept") == {"1": 1}, "as it was published it is news"
    await server.stop()
    # The same session again, then one that the broker has never seen.
    for value, client_id in ((b"2", "heliograph"), (b"3", "another")):
        server = await make_server(database.url, **variables, MQTT_CLIENT_ID=client_id)
        client.send(publish("measurements/kept", element(value)))
        await acknowledged(client, [1])
        await server.caught_up(broker.port)
        await server.stop()
    await client.close()
    assert values(database, "kept") == {"1": 1, "2": 1, "3": 1}

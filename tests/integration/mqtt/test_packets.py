"""Packets in, over HTTP and MQTT, and out again on the topic for devices."""

import json
import sqlite3

import pytest

from heliograph.model.time import SECOND, parse
from mqtt_client import numbered, publish, published, subscribe
from server import ADMIN_KEY, SHARED_KEY, eventually, running

PACKET = {"device_id": "device-1", "measurements": {"t": 22.5}, "timestamp": 1_768_478_000}


async def post(server, packet, key=ADMIN_KEY, **headers):
    return await server.http.post("/packets", json=packet, headers={"X-API-Key": key, **headers})


async def listening(server, client):
    client.send(subscribe("commands"))
    assert (await client.packet())[0] == 0x90
    return client


async def on_the_roof(server):
    network = (await server.http.post("/networks", json={"network_name": "roof"})).json()
    return await server.device("roof-1", network_identifier=network["network_identifier"])


async def heard(client):
    message = published(await client.packet())
    client.send(numbered(0x40, message.packet_id))
    return message.topic, json.loads(message.payload)


def stored(server):
    names = ("id", "sensor", "payload")
    with sqlite3.connect(server.services.settings.data_directory / "heliograph.db") as database:
        rows = database.execute("SELECT id, sensor, payload FROM packet ORDER BY id").fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


async def test_a_packet_is_stored_and_published_at_once(server):
    device = await server.device()
    listener = await listening(server, await server.connect(device))
    answer = await post(server, PACKET, device.key)
    assert answer.status_code == 201, answer.text
    assert answer.json()["published"] is True
    assert await heard(listener) == ("commands", PACKET)
    assert await server.values(device) == ['{"t":22.5}']
    # What comes again is neither stored nor published again.
    again = await post(server, PACKET, device.key)
    assert again.json() == answer.json()
    await listener.quiet()
    [kept] = stored(server)
    assert (str(kept["id"]), json.loads(kept["payload"])) == (answer.json()["id"], PACKET)
    [row] = await server.measurements(device)
    assert row.id == kept["id"]


async def test_an_idempotency_key_holds_for_packets_without_a_time(server):
    device = await server.device()
    packet = {"device_id": "device-1", "measurements": {"t": 1}}
    named = {"Idempotency-Key": "k-1"}
    first = await post(server, packet, device.key, **named)

    async def is_answered_alike():
        again = await post(server, packet, device.key, **named)
        assert again.json()["id"] == first.json()["id"]
        return again.json() == first.json()

    # That it is published is written down with others' ends, up to a tenth of a second later.
    await eventually(is_answered_alike)
    assert len(await server.values(device)) == 1
    other = await post(server, {**packet, "status": "low"}, device.key, **named)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_who_may_send_a_packet_of_whom(server):
    device, other = await server.device(), await server.device("other-1")
    unknown = {**PACKET, "device_id": "nobody-1"}
    for packet, key, status in (
        (PACKET, other.key, 404),
        (unknown, device.key, 404),
        (unknown, SHARED_KEY, 404),
        (PACKET, "wrong-key", 401),
        (PACKET, SHARED_KEY, 201),
        (unknown, ADMIN_KEY, 201),
    ):
        answer = await post(server, packet, key)
        assert answer.status_code == status, (packet, answer.text)
    assert (await server.http.delete("/devices/device-1")).is_success
    assert (await post(server, {**PACKET, "timestamp": None})).status_code == 403
    assert [each["sensor"] is None for each in stored(server)] == [False, True]


async def test_devices_hear_what_came_from_their_own_network_or_the_administrator(server):
    device = await server.device()
    roof = await on_the_roof(server)
    here = await listening(server, await server.connect(device))
    above = await listening(server, await server.connect(roof))
    admin = await listening(server, await server.admin())
    assert (await post(server, PACKET, device.key)).status_code == 201
    assert (await heard(here)) == (await heard(admin)) == ("commands", PACKET)
    everybody = {**PACKET, "measurements": {"t": 2}}
    assert (await post(server, everybody)).status_code == 201
    for client in (here, above, admin):
        assert await heard(client) == ("commands", everybody)
    await above.quiet()


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b'{"device": "a"}', [["body", "device_id"], ["body", "measurements"], ["body", "device"]]),
        (
            b'{"device_id": "a", "measurements": {"t": 1}, "battery_level": 101}',
            [["body", "battery_level"]],
        ),
        (b"[]", [["body"]]),
    ],
)
async def test_a_bad_packet_is_a_400_that_tells_all_faults_and_is_kept(server, body, places):
    answer = await server.http.post("/packets", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_FAILED")
    assert [each["loc"] for each in answer.json()["detail"]] == places
    assert [each.payload for each in await server.rejected()] == [body]
    unread = await server.http.post("/packets?limt=1", content=b"{")
    assert (unread.status_code, unread.json()["detail"][0]["loc"]) == (400, ["query", "limt"])
    broken = await server.http.post("/packets", content=b"{")
    assert (broken.status_code, broken.json()["code"]) == (400, "MALFORMED_JSON")


async def test_the_schema_is_everybodys_to_read(server):
    answer = await server.http.get("/packets/schema", headers={"X-API-Key": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json()["$id"].endswith(":1")


async def test_devices_publish_packets_of_their_own(server, version):
    device = await server.device()
    client = await server.connect(device, version=version)
    for number, packet in enumerate(
        (
            PACKET,
            {**PACKET, "device_id": "other-1"},
            {**PACKET, "x": 1},
            {**PACKET, "status": "ok"},
        ),
        1,
    ):
        payload = json.dumps(packet).encode()
        client.send(publish("packets/device-1", payload, packet_id=number, version=version))
        answer = await client.packet()
        # MQTT 3.1.1 has no word for what was rejected.
        refused = len(answer) > 3 and answer[3] >= 0x80
        assert (answer[0], refused) == (0x40, version == 5 and number in (2, 3))
    assert sorted(await server.values(device)) == ['{"status":"ok","t":22.5}', '{"t":22.5}']
    assert len(stored(server)) == 2
    reasons = [each.reason for each in await server.rejected()]
    assert reasons == ["UNKNOWN_MEMBER", "UNKNOWN_SENSOR"]


async def test_the_administrator_publishes_packets_of_devices_that_nobody_knows(server):
    device = await server.device()
    client = await server.admin()
    # Not in memory: the database is asked, and what comes behind waits for it.
    server.services.registry._by_name.clear()
    for number, name in enumerate(("device-1", "nobody-1", "device-1"), 1):
        packet = {"device_id": name, "measurements": {"n": number}}
        client.send(publish("packets/x", json.dumps(packet).encode(), packet_id=number))
    for number in (1, 2, 3):
        assert await client.packet() == b"\x40\x00%c" % number
    assert await server.values(device) == ['{"n":1}', '{"n":3}']
    assert [each["sensor"] for each in stored(server)] == [1, None, 1]


async def test_a_packet_redelivered_without_a_time_is_stored_once(server):
    device = await server.device()
    client = await server.connect(device)
    payload = b'{"device_id": "device-1", "measurements": {"t": 1}}'
    for dup in (False, True):
        client.send(publish("packets/device-1", payload, packet_id=7, dup=dup))
        assert await client.packet() == b"\x40\x00\x07"
    assert len(await server.values(device)) == len(stored(server)) == 1


async def test_a_filter_of_the_users_own(tmp_path):
    topics = {"mqtt_subscribe_topic": "plant/data", "mqtt_publish_topic": "plant/out/all"}
    async with running(tmp_path, **topics) as server:
        device = await server.device()
        client = await server.connect(device)
        client.send(subscribe("plant/out/all"))
        assert (await client.packet())[0] == 0x90
        client.send(publish("plant/data", json.dumps(PACKET).encode()))
        assert await client.packet() == b"\x40\x00\x01"
        assert await server.values(device) == ['{"t":22.5}']
        assert (await post(server, {**PACKET, "status": "x"}, device.key)).status_code == 201
        assert (await heard(client))[0] == "plant/out/all"


async def test_what_a_rule_publishes_stays_in_its_network(server):
    device = await server.device()
    roof = await on_the_roof(server)
    clients = [await server.connect(device), await server.connect(roof), await server.admin()]
    here, above, admin = [await listening(server, client) for client in clients]
    rule = {
        "name": "Hot",
        "condition": {"attribute": "t", "above": 30},
        "actions": [
            {"type": "mqtt", "topic": "commands", "payload": {"fan": "{{value.t}}"}},
            {"type": "mqtt", "topic": "measurements/device-1", "payload": "1"},
        ],
    }
    home = (await server.http.get("/devices/roof-1")).json()["network_identifier"]
    made = await server.http.post("/rules", json={**rule, "network_identifier": home})
    assert made.status_code == 201, made.text
    await eventually(lambda: server.services.processor.index.rules)
    above.send(publish("measurements/roof-1", b'{"t": 31}', qos=0))
    for client in (above, admin):
        assert await heard(client) == ("commands", {"fan": 31})

    async def refused():
        shown = (await server.http.get("/actions", params={"state": "failed"})).json()
        return [each["error"] for each in shown]

    await eventually(refused)
    assert await refused() == ["the rule may not publish on 'measurements/device-1'"]
    assert await server.values(device) == []
    await here.quiet()


async def test_a_rule_about_packets_acts_on_those_that_come_over_http_and_mqtt(server):
    device = await server.device()
    await server.http.post(
        "/rules",
        json={
            "name": "Battery low",
            "kinds": ["packet"],
            "condition": {"all": [{"attribute": "battery_level", "below": 20}]},
            "actions": [{"type": "sse"}, {"type": "sse", "on": "cleared"}],
        },
        headers={"X-API-Key": ADMIN_KEY},
    )

    async def occasions():
        headers = {"X-API-Key": ADMIN_KEY}
        found = (await server.http.get("/actions", headers=headers, params={"type": "sse"})).json()
        return sorted(each["timestamp"] for each in found)

    await eventually(lambda: server.services.processor.index.rules)
    await post(server, {**PACKET, "battery_level": 10})
    await post(server, {**PACKET, "device_id": "nobody", "battery_level": 10})
    client = await server.connect(device)
    later = {**PACKET, "battery_level": 90, "timestamp": PACKET["timestamp"] + 60}
    client.send(publish("packets/device-1", json.dumps(later).encode()))

    async def both():
        return len(await occasions()) == 2

    await eventually(both)
    first, second = (parse(text) // SECOND for text in await occasions())
    assert (first, second) == (PACKET["timestamp"], later["timestamp"])

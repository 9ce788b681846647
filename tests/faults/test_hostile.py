"""Hostile payloads: never a 5xx, a lost neighbour or a dead session, each kept with its reason."""

import gzip
import json

import pytest

from faults.database import values
from faults.hostile import HOSTILE, check_kept, element, rejected
from faults.process import ADMIN_KEY
from mqtt_client import Client, publish


async def acknowledged(client, packet_ids):
    for packet_id in packet_ids:
        answer = await client.packet(30)
        assert answer, f"the session died before packet {packet_id} was acknowledged"
        assert answer[0] == 0x40, answer[:10]
        assert answer[1] << 8 | answer[2] == packet_id


@pytest.mark.parametrize("version", [4, 5])
async def test_over_mqtt(server, database, version):
    key = await server.device("victim")
    client = await Client.connected(server.mqtt_port, "victim", "victim", key, version=version)
    good = []

    def neighbour(packet_id):
        good.append(len(good))
        return publish(
            "measurements/victim", element(b"%d" % good[-1]), packet_id=packet_id, version=version
        )

    for payload, _ in HOSTILE.values():
        hostile = publish("measurements/victim", payload, packet_id=2, version=version)
        client.send(neighbour(1) + hostile + neighbour(3))
        await acknowledged(client, [1, 2, 3])
    await client.close()

    assert values(database, "victim") == {str(n): 1 for n in good}
    kept = await rejected(database)
    assert len(kept) == len(HOSTILE)
    for what, (payload, reasons) in HOSTILE.items():
        check_kept(kept, payload, reasons, what)
    assert {source for *_, source in kept} == {"measurements/victim"}


async def test_topics_over_mqtt(server, database):
    key = await server.device("victim")
    await server.device("other")
    await server.device("inactive")
    async with server.client() as http:
        assert (await http.delete("/devices/inactive")).status_code in (200, 204)
    topics = {
        "measurements/other": "FORBIDDEN_TOPIC",
        "measurements/nobody": "FORBIDDEN_TOPIC UNKNOWN_SENSOR",
        "measurements/vic/tim": "UNKNOWN_TOPIC FORBIDDEN_TOPIC",
        "measurements/": "UNKNOWN_TOPIC FORBIDDEN_TOPIC UNKNOWN_SENSOR",
        "configurations/victim": "FORBIDDEN_TOPIC",
        "$SYS/broker": "UNKNOWN_TOPIC",
        "\N{SNOWMAN}" * 300: "UNKNOWN_TOPIC",
    }
    client = await Client.connected(server.mqtt_port, "victim", "victim", key)
    good = publish("measurements/victim", element(b"1"), packet_id=1)
    for at, topic in enumerate(topics):
        client.send(good + publish(topic, b"%d" % at, packet_id=2) + good)
        await acknowledged(client, [1, 2, 1])
    client.send(good + publish("status/victim", b"asleep", packet_id=2) + good)
    await acknowledged(client, [1, 2, 1])
    admin = await Client.connected(server.mqtt_port, "admin", "admin", ADMIN_KEY)
    admin.send(publish("measurements/nobody", b'"a"', packet_id=1))
    admin.send(publish("measurements/inactive", b'"b"', packet_id=2))
    await acknowledged(admin, [1, 2])

    # A topic that is no UTF-8 is no fault of a payload, but one of the protocol.
    client.send(good + publish(b"measurements/\xff\xfe", b"1", packet_id=2) + good)
    answers = [await client.packet(30) for _ in range(2)]
    assert answers[-1] == b"", "bad UTF-8 in a topic ends the connection"
    await client.close()
    again = await Client.connected(server.mqtt_port, "victim", "victim", key)
    again.send(good)
    await acknowledged(again, [1])

    kept = await rejected(database)
    for at, (topic, reasons) in enumerate(topics.items()):
        check_kept(kept, b"%d" % at, reasons, topic)
    check_kept(kept, b"asleep", "INVALID_STATUS", "a status that is none")
    check_kept(kept, b'"a"', "UNKNOWN_SENSOR", "an unknown sensor")
    check_kept(kept, b'"b"', "DEACTIVATED_SENSOR", "a deactivated sensor")
    expected = 2 * len(topics) + 2 + 1
    assert values(database, "victim")["1"] in (expected, expected + 1)


async def test_good_elements_beside_bad_ones(server, database):
    key = await server.device("victim")
    client = await Client.connected(server.mqtt_port, "victim", "victim", key)
    bad = {
        what: payload
        for what, (payload, _) in HOSTILE.items()
        if len(payload) < 100_000 and json_shaped(payload)
    }
    assert len(bad) > 15
    good = []
    for payload in bad.values():
        good += [len(good), len(good) + 1]
        batch = b"[%b,%b,%b]" % (element(b"%d" % good[-2]), payload, element(b"%d" % good[-1]))
        client.send(publish("measurements/victim", batch, packet_id=1))
        await acknowledged(client, [1])
    assert values(database, "victim") == {str(n): 1 for n in good}
    kept = await rejected(database)
    assert len(kept) == len(bad)


def json_shaped(payload):
    """Tell whether a payload can stand in an array without spoiling its neighbours."""
    try:
        return isinstance(json.loads(payload), dict)
    except ValueError:
        return False


async def test_over_http(server, database):
    key = await server.device("victim")
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    kept_before = 0
    async with server.client(headers) as client:
        for at, (what, (payload, reasons)) in enumerate(HOSTILE.items()):
            good = element(b"%d" % at)
            for route, body in (
                ("/sensors/victim/measurements", payload),
                ("/ingest", payload),
                ("/ingest/batch", payload),
                ("/ingest/batch", b"[%b,%b]" % (b'{"n":%d}' % at, payload)),
            ):
                answer = await client.post(route, content=body)
                assert answer.status_code < 500, f"{what} {route}: {answer.text[:300]}"
            answer = await client.post("/sensors/victim/measurements", content=payload)
            if answer.status_code == 201:
                assert answer.json()["rejected"][0]["code"] in reasons.split(), what
            else:
                assert answer.status_code in (400, 413, 422), f"{what}: {answer.text[:300]}"
            answer = await client.post("/sensors/victim/measurements", content=good)
            assert answer.status_code == 201, f"after {what}: {answer.text[:300]}"
        kept_before = len(await rejected(database))
        bomb = gzip.compress(b"[" + b'{"a":1},' * 3_000_000 + b'{"a":1}]')
        answer = await client.post(
            "/ingest/batch", content=bomb, headers={"Content-Encoding": "gzip"}
        )
        assert answer.status_code == 413
        million = b'{"k":{%b}}' % b",".join(b'"%x":1' % n for n in range(700_000))
        assert (await client.post("/ingest/batch", content=million)).status_code < 500
        assert (await client.post("/ingest", content=million)).status_code == 413
    stored = values(database, "victim")
    assert not [at for at in range(len(HOSTILE)) if not stored[str(at)]]
    kept = await rejected(database)
    assert len(kept) >= kept_before + 2
    sent = [row for row in kept if row[2].endswith("/sensors/victim/measurements")]
    for what, (payload, reasons) in HOSTILE.items():
        check_kept(sent, payload, reasons, what)


async def test_good_readings_beside_bad_ones(server, database):
    key = await server.device("victim")
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    bad = [
        b'{"t":NaN}',
        b'{"t":1e400}',
        rb'{"t":"\ud800"}',
        rb'{"t":"a\u0000"}',
        b'{"t":%b1%b}' % (b"[" * 40, b"]" * 40),
        b'{"device_id":"nobody","t":1}',
        b'{"t":1,"timestamp":4000000000000}',
        b"17",
        b"{}",
    ]
    elements = [b'{"n":0}']
    for n, one in enumerate(bad, 1):
        elements += [one, b'{"n":%d}' % n]
    async with server.client(headers) as client:
        answer = await client.post("/ingest/batch", content=b"[%b]" % b",".join(elements))
    assert answer.status_code == 201, answer.text
    assert answer.json()["accepted"] == len(bad) + 1
    assert [r["index"] for r in answer.json()["rejected"]] == [2 * n + 1 for n in range(len(bad))]
    assert values(database, "victim") == {f'{{"n":{n}}}': 1 for n in range(len(bad) + 1)}
    assert len(await rejected(database)) == 1

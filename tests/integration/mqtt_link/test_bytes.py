"""What a broker sends in pieces, wrong, or too large."""

import asyncio
import contextlib
import json
import os
import random

import mqtt5
import pytest

from heliograph.mqtt.reading import FULL
from mqtt_client import packet, string, variable
from scripted_broker import message
from server import eventually

CUTS = int(os.environ.get("LINK_CUTS", "6"))
NOON = 1_768_478_400
BAD_TOPIC = b"measurements/\xff\xfe"


def reading(value, at=0):
    return json.dumps({"value": value, "timestamp": NOON + at}).encode()


def mixed(device):
    """Return packets of many kinds, and how many of them ask for an acknowledgment."""
    logs = f"logs/{device.device_id}"
    return [
        message(device.topic, reading(1, 1), 1),
        message(device.topic, b'{"value": 2}', 0),
        mqtt5.PingRespPacket().write(),
        message(device.topic, reading("x" * 200, 3), 2),
        message(BAD_TOPIC, b"{}", 3),
        message(logs, b'{"severity": "info", "subject": "s"}', 4, dup=True),
        message("nowhere/x", b"1", 5, properties=b"\x26\0\x01a\0\x01b"),
        message(device.topic, b"{", 6),
        message(device.topic, reading(9, 9), 7, retain=True),
        message(device.topic, reading(4, 4), 8),
    ]


@contextlib.contextmanager
def alone(connection):
    """What the broker itself says comes before or after what is said here, not in between.

    The transport alone does not keep it out: it reads again once a packet has been answered.
    """
    connection.pause(FULL)
    yield connection
    connection.resume(FULL)


async def check_mixed(server, device, conversation):
    assert await conversation.acknowledged(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    await eventually(lambda: server.state.depth == 0)
    values = sorted(await server.values(device))
    assert values == sorted(['"' + "x" * 200 + '"', "1", "2", "4"])
    reasons = {m.reason for m in await server.rejected()}
    assert reasons == {"INVALID_UTF8", "UNKNOWN_TOPIC", "MALFORMED_JSON"}


async def test_one_byte_at_a_time(broker, server):
    conversation = await broker.up()
    device = await server.device()
    with alone(server.services.link._connection) as connection:
        for part in b"".join(mixed(device)):
            # Given to the protocol as a socket would that has a byte each time.
            connection.data_received(bytes([part]))
            await asyncio.sleep(0)
    await check_mixed(server, device, conversation)


@pytest.mark.parametrize("seed", range(CUTS))
async def test_cut_anywhere(broker, server, seed):
    conversation = await broker.up()
    device = await server.device()
    data = b"".join(mixed(device))
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, len(data)), chance.randrange(1, 20)))
    with alone(server.services.link._connection) as connection:
        for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
            connection.data_received(data[start:stop])
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
    await check_mixed(server, device, conversation)


async def test_a_topic_that_is_not_utf8(broker, server):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(
        message(device.topic, reading(1, 1), 1)
        + message(BAD_TOPIC, b"\x00what it said", 2)
        + message(device.topic, reading(2, 2), 3)
    )
    assert await conversation.acknowledged(3) == [1, 2, 3]
    assert await server.values(device) == ["1", "2"]
    (kept,) = await server.rejected()
    assert (kept.reason, kept.principal) == ("INVALID_UTF8", "broker")
    assert kept.source == r"measurements/\xff\xfe"
    assert bytes(kept.payload) == b"\x00what it said"
    assert len(broker.conversations) == 1


async def test_what_another_client_left_open_in_qos_2_is_brought_to_its_end(broker, server):
    """Refused, it would come again with every connection."""
    conversation = await broker.up()
    device = await server.device()
    conversation.send(b"\x62\2\0\5" + b"\x50\2\0\6" + b"\x50\3\0\7\x87" + b"\x70\2\0\x08")
    conversation.send(message(device.topic, reading(1, 1), 1))
    completed = await conversation.read(mqtt5.PubCompPacket)
    assert (completed.packet_id, int(completed.reason_code)) == (5, 0x92)
    released = await conversation.read(mqtt5.PubRelPacket)
    assert (released.packet_id, int(released.reason_code)) == (6, 0x92)
    assert await conversation.acknowledged(1) == [1]
    assert len(broker.conversations) == 1


async def test_a_topic_with_wildcards_is_one_that_there_is_not(broker, server):
    conversation = await broker.up()
    conversation.send(message("#", b"1", 1) + message("measurements/+", b"2", 2))
    assert await conversation.acknowledged(2) == [1, 2]
    reasons = {kept.source: kept.reason for kept in await server.rejected()}
    assert reasons == {"#": "UNKNOWN_TOPIC", "measurements/+": "UNKNOWN_SENSOR"}


BAD_PROPERTIES = {
    "unknown": b"\x99\x01",
    "not UTF-8": b"\x26\0\x01\xff\0\x01b",
    "cut": b"\x26\0\x50a",
}


@pytest.mark.parametrize("name", BAD_PROPERTIES)
async def test_properties_that_cannot_be_read_do_not_come_back_for_ever(broker, server, name):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(
        message(device.topic, reading(1, 1), 1, properties=BAD_PROPERTIES[name])
        + message(device.topic, reading(2, 2), 2)
    )
    assert await conversation.acknowledged(2) == [1, 2]
    assert await server.values(device) == ["2"]
    assert len(await server.rejected()) == 1
    assert len(broker.conversations) == 1


async def test_a_payload_over_the_limit_in_a_packet_that_is_not(broker, server):
    conversation = await broker.up()
    device = await server.device()
    payload = b"[" + b" " * (1 << 20) + b"]"
    conversation.send(
        message(device.topic, reading(1, 1), 1)
        + message(device.topic, payload, 2)
        + message(device.topic, reading(2, 2), 3)
    )
    assert await conversation.acknowledged(3) == [1, 2, 3]
    await check_too_large(server, device, payload)


async def check_too_large(server, device, payload):
    assert await server.values(device) == ["1", "2"]
    (kept,) = await server.rejected()
    assert (kept.reason, kept.source) == ("TOO_LARGE", device.topic)
    assert kept.principal == f"broker:{device.device_id}"
    assert bytes(kept.payload) == payload[: 64 << 10]
    assert kept.size == len(payload)


async def test_a_packet_over_the_limit_is_streamed_past(broker, server):
    conversation = await broker.up()
    device = await server.device()
    connection = server.services.link._connection
    payload = random.Random(1).randbytes(3 << 20)
    data = message(device.topic, reading(1, 1), 1)
    data += message(device.topic, payload, 2) + message(device.topic, reading(2, 2), 3)
    held = 0
    for at in range(0, len(data), 10_000):
        connection.data_received(data[at : at + 10_000])
        await asyncio.sleep(0)
        if connection.oversize is not None:
            held = max(held, len(connection.oversize.head) + len(connection.rest))
    assert await conversation.acknowledged(3) == [1, 2, 3]
    assert 64 << 10 <= held <= 512 << 10
    await check_too_large(server, device, payload)


@pytest.mark.parametrize("size", [1 << 17, 64 << 10])
async def test_a_packet_over_the_limit_at_every_kind_of_cut(broker, server, monkeypatch, size):
    monkeypatch.setattr("heliograph.mqtt.reading.MAXIMUM_PACKET_BYTES", 2_000)
    monkeypatch.setattr("heliograph.mqtt.link.MAXIMUM_PAYLOAD_BYTES", 1_000)
    conversation = await broker.up()
    device = await server.device()
    connection = server.services.link._connection
    payload = bytes(size)
    chance = random.Random(size)
    data = message(device.topic, reading(1, 1), 1)
    data += message(device.topic, payload, 2) * 3 + message(device.topic, reading(2, 2), 3)
    at = 0
    while at < len(data):
        step = chance.choice([1, 2, 3, 100, 1_000, 30_000])
        connection.data_received(data[at : at + step])
        at += step
        await asyncio.sleep(0)
    assert await conversation.acknowledged(5) == [1, 2, 2, 2, 3]
    assert [m.size for m in await server.rejected()] == [size] * 3
    assert await server.values(device) == ["1", "2"]


LARGE = {
    "topic": (BAD_TOPIC, b"\0"),
    "wildcard": (b"measurements/+", b"\0"),
    "property": (b"measurements/device-1", variable(2) + b"\x99\x01"),
    "endless properties": (
        b"measurements/device-1",
        variable(150 * 20_005) + (b"\x26\0\x01a" + string("b" * 19_999)) * 150,
    ),
}


@pytest.mark.parametrize("name", LARGE)
async def test_a_packet_over_the_limit_that_cannot_be_read(broker, server, name):
    conversation = await broker.up()
    device = await server.device()
    topic, properties = LARGE[name]
    body = string(topic) + b"\0\x02" + properties + bytes(2 << 20)
    conversation.send(
        message(device.topic, reading(1, 1), 1)
        + packet(0x32, body)
        + message(device.topic, reading(2, 2), 3)
    )
    assert await conversation.acknowledged(3) == [1, 2, 3]
    assert await server.values(device) == ["1", "2"]
    (kept,) = await server.rejected()
    assert kept.reason in {"TOO_LARGE", "INVALID_UTF8"}
    assert len(broker.conversations) == 1


async def test_what_is_retained_on_a_data_topic_is_old_news(broker, server):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(
        message(device.topic, reading(1, 1), 1)
        + message(device.topic, reading(2, 2), 2, retain=True)
        + message(f"logs/{device.device_id}", b"{", 3, retain=True)
        + message("nowhere/x", b"{", 4, retain=True)
        + message(device.topic, reading(3, 3), 5)
    )
    assert await conversation.acknowledged(5) == [1, 2, 3, 4, 5]
    assert await server.values(device) == ["1", "3"]
    assert await server.rejected() == []


async def test_a_retained_status_counts(broker, server):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(message(f"status/{device.device_id}", b"online", 1, retain=True))
    assert await conversation.acknowledged(1) == [1]
    sensor = await server.store.sensors.find(device.device_id)
    assert sensor.status == "online"


WRONG = {
    "no packet": b"\x00\x00",
    "PUBLISH in QoS 3": packet(0x36, string("a") + b"\0\x01\0x"),
    "PUBLISH that ends early": packet(0x32, b"\0\x50ab"),
    "length of five bytes": b"\x30\xff\xff\xff\xff\x01" + bytes(10),
    "SUBACK with an unknown code": b"\x90\x04\0\x01\0\x77",
    "too large to be anything": b"\x40" + variable(2 << 20),
    "DISCONNECT that is no text": b"\xe0\x06\x8e\x04\x1f\0\x01\xff",
}


@pytest.mark.parametrize("name", WRONG)
async def test_after_a_malformed_packet_the_connection_is_made_anew(broker, server, name):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(message(device.topic, reading(1, 1), 1))
    assert await conversation.acknowledged(1) == [1]
    conversation.send(WRONG[name])
    await conversation.end()
    conversation = await broker.up(session_present=True)
    conversation.send(message(device.topic, reading(2, 2), 1))
    assert await conversation.acknowledged(1) == [1]
    assert await server.values(device) == ["1", "2"]
    assert not server.application.server.failed.is_set()

"""What a broker is told, when, and on which connection."""

import asyncio
import json

import mqtt5
import pytest

from heliograph.model.time import HOUR, now
from scripted_broker import message
from server import eventually, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

NOON = 1_768_478_400
BAD_TOPIC = b"measurements/\xff\xfe"


def reading(value, at=0):
    return json.dumps({"value": value, "timestamp": NOON + at}).encode()


async def test_nothing_is_acknowledged_before_its_commit(broker, server, blocked):
    conversation = await broker.up()
    device = await server.device()
    async with blocked(server) as started:
        conversation.send(message(device.topic, reading(1), 7))
        await started.wait()
        assert conversation.unread == 0
        assert await server.values(device) == []
    assert await conversation.acknowledged(1) == [7]
    assert await server.values(device) == ["1"]


async def test_acknowledgments_come_in_the_order_of_receipt(broker, server, blocked):
    conversation = await broker.up()
    device, other = await server.device(), await server.device("other")
    packet_ids = [9, 3, 65_535, 1, 20, 21, 22, 23, 24, 25]
    kinds = [
        (device.topic, reading(1, 1)),
        (f"logs/{device.device_id}", b'{"severity": "info", "subject": "s"}'),
        (other.topic, b"{"),
        ("nowhere/x", b""),
        (f"status/{device.device_id}", b"online"),
        (device.topic, b'{"value": 2}'),
        ("measurements/nobody", b"{}"),
        (other.topic, reading(3, 3)),
        (f"heartbeats/{other.device_id}", b"{}"),
        (device.topic, reading(4, 4)),
    ]
    async with blocked(server):
        for packet_id, (topic, payload) in zip(packet_ids, kinds, strict=True):
            conversation.send(message(topic, payload, packet_id))
            conversation.send(message(topic, payload, 0))
        await eventually(lambda: server.state.depth == 20)
    assert await conversation.acknowledged(10) == packet_ids


async def test_what_was_committed_after_the_connection_was_lost_is_not_told_on_the_next(
    broker, server, blocked
):
    conversation = await broker.up()
    device = await server.device()
    async with blocked(server) as started:
        conversation.send(message(device.topic, reading(1, 1), 1))
        conversation.send(message(device.topic, b'{"value": 2}', 2))
        await started.wait()
        await eventually(lambda: server.state.depth == 2)
        conversation.cut()
        conversation = await broker.up(session_present=True)
        # To the broker 1 and 2 are other messages by now.
        conversation.send(message(device.topic, reading(3, 3), 5))
        await eventually(lambda: server.state.depth == 3)
    assert await conversation.acknowledged(1) == [5]
    await eventually(lambda: server.state.depth == 0)
    assert conversation.unread == 0
    assert sorted(await server.values(device)) == ["1", "2", "3"]


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "on its way"])
@pytest.mark.parametrize(
    "payload", [b'{"value": 1}', b"{", reading(1)], ids=["untimed", "rejected", "timed"]
)
async def test_what_comes_again_after_a_reconnect_is_stored_once(
    broker, server, blocked, payload, committed
):
    conversation = await broker.up()
    # What it is not told by then it is not asked after either.
    conversation.answers_pings = False
    device = await server.device()
    async with blocked(server) as started:
        conversation.send(message(device.topic, payload, 4))
        await started.wait()
        if not committed:
            conversation.cut()
            conversation = await broker.up(session_present=True)
            conversation.send(message(device.topic, payload, 4, dup=True))
            await eventually(lambda: server.state.depth == 2)
    assert await conversation.acknowledged(1) == [4]
    if committed:  # and the acknowledgment was lost on its way
        conversation.cut()
        conversation = await broker.up(session_present=True)
        conversation.send(message(device.topic, payload, 4, dup=True))
        assert await conversation.acknowledged(1) == [4]
    await eventually(lambda: server.state.depth == 0)
    assert len(await server.values(device)) + len(await server.rejected()) == 1


async def test_what_comes_again_after_a_restart_is_stored_once(broker, tmp_path):
    for again in (False, True):
        async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
            conversation = await broker.up(session_present=again)
            # It has not got the PUBACK: then it has not got a later PINGREQ either.
            conversation.answers_pings = False
            device = device if again else await server.device()  # noqa: F821 - of the first round
            conversation.send(message(device.topic, b'{"value": 1}', 4, dup=again))
            assert await conversation.acknowledged(1) == [4]
            assert await server.values(device) == ["1"]


async def test_what_only_looks_like_a_repeat_is_stored(broker, server):
    conversation = await broker.up()
    device, other = await server.device(), await server.device("other")
    payload = b'{"value": 1}'
    conversation.send(message(device.topic, payload, 4))
    conversation.send(message(device.topic, payload, 5))
    conversation.send(message(device.topic, b'{"value": 2}', 4))
    # The packet ids have gone round: the first delivery of this one was lost with a connection.
    conversation.send(message(other.topic, payload, 4, dup=True))
    assert await conversation.acknowledged(4) == [4, 5, 4, 4]
    assert await server.values(device) == ["1", "1", "2"]
    assert await server.values(other) == ["1"]


async def test_qos_0_is_stored_and_not_acknowledged(broker, server):
    conversation = await broker.up()
    device = await server.device()
    conversation.send(message(device.topic, reading(1, 1), 0))
    conversation.send(message(device.topic, reading(2, 2), 3))
    assert await conversation.acknowledged(1) == [3]
    assert await server.values(device) == ["1", "2"]


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_full_pipeline_stops_reading_and_goes_on(broker, tmp_path, blocked, qos):
    count, payload = 400, reading("x" * 20_000)
    bound = 1 << 20
    settings = {"mqtt_url": broker.url, "mqtt_listen": (), "max_in_flight_bytes": bound}
    async with running(tmp_path, **settings) as server:
        conversation = await broker.up()
        device = await server.device()
        async with blocked(server) as started:
            for number in range(1, count + 1):
                conversation.send(
                    message(device.topic, reading("x" * 20_000, number), number * qos)
                )
            await started.wait()
            connection = server.services.link._connection
            await eventually(lambda: connection.pauses)
            for _ in range(20):
                await asyncio.sleep(0)
            # One read more than the bound, at most.
            assert server.state.bytes_in_flight < bound + (512 << 10)
            assert (await server.http.get("/readyz")).json()["mqtt"]["broker"]["connected"]
        if qos:
            assert await conversation.acknowledged(count) == list(range(1, count + 1))

        async def all_there():
            return len(await server.measurements(device)) == count

        await eventually(all_there)
        assert len(broker.conversations) == 1
        assert len(payload) * count > 4 * bound


async def test_a_link_that_is_to_end_reads_no_more_when_the_pipeline_has_room_again(broker, server):
    conversation = await broker.up()
    device = await server.device()
    link = server.services.link
    link.pause()
    link.stop_taking()
    conversation.send(message(device.topic, reading(1)))
    await conversation.flushed()
    link.resume()
    for _ in range(10):
        assert (await server.http.get("/health")).status_code == 200
    assert server.state.messages_total == 0


async def test_the_share_of_one_link_is_bounded(broker, server, blocked, monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.reading.IN_FLIGHT_BYTES", 10_000)
    monkeypatch.setattr("heliograph.mqtt.link.IN_FLIGHT_BYTES", 10_000)
    conversation = await broker.up()
    device = await server.device()
    connection = server.services.link._connection
    async with blocked(server) as started:
        for number in range(1, 101):
            # One read of the socket each.
            connection.data_received(message(device.topic, reading("x" * 400, number), number))
            if connection.pauses:
                break
        await started.wait()
        assert 10 <= number <= 20
        assert 10_000 < connection.in_flight_bytes < 12_000
    assert await conversation.acknowledged(number) == list(range(1, number + 1))
    await eventually(lambda: not connection.pauses)
    assert connection.in_flight == connection.in_flight_bytes == 0


async def test_where_nothing_is_acknowledged_for_too_long_the_connection_is_made_anew(
    broker, server, blocked, monkeypatch, problem
):
    conversation = await broker.up()
    device = await server.device()
    monkeypatch.setattr("heliograph.mqtt.link.STUCK_SECONDS", 0.1)
    async with blocked(server) as started:
        conversation.send(message(device.topic, reading(1), 1))
        await started.wait()
        await conversation.end()
        assert await problem(server) == "nothing was acknowledged for 0 seconds"
        monkeypatch.undo()
        conversation = await broker.up(session_present=True)
        conversation.send(message(device.topic, reading(1), 1, dup=True))
    assert await conversation.acknowledged(1) == [1]
    assert await server.values(device) == ["1"]


async def test_while_the_database_is_away_the_connection_stays(
    broker, server, blocked, monkeypatch
):
    conversation = await broker.up()
    device = await server.device()
    monkeypatch.setattr("heliograph.mqtt.link.STUCK_SECONDS", 0.1)
    monkeypatch.setattr("heliograph.mqtt.link.CHECK_SECONDS", 0.05)
    link = server.services.link
    async with blocked(server) as started:
        server.state.database_available = False
        conversation.send(message(device.topic, reading(1), 1))
        await started.wait()
        began = link._connection.progress_at
        await eventually(lambda: link._connection.progress_at > began + 0.3)
        assert link.connected
    assert await conversation.acknowledged(1) == [1]


@pytest.mark.parametrize("answers", [True, False], ids=["confirmed", "not confirmed"])
async def test_a_delivery_that_the_broker_knows_to_be_over_is_forgotten(
    broker, server, monkeypatch, answers
):
    monkeypatch.setattr("heliograph.mqtt.link.CHECK_SECONDS", 0.02)
    conversation = await broker.up()
    conversation.answers_pings = answers
    device = await server.device()
    forgotten = []
    forget = server.services.link.host.forget

    async def told(deliveries):
        await forget(deliveries)
        forgotten.extend(deliveries)

    monkeypatch.setattr(server.services.link.host, "forget", told)
    conversation.send(message(device.topic, b'{"value": 1}', 4))
    assert await conversation.acknowledged(1) == [4]
    pings = conversation.pings
    await eventually(lambda: bool(forgotten) if answers else conversation.pings > pings)
    conversation.cut()
    conversation = await broker.up(session_present=True)
    # Either the acknowledgment was lost, or this is another message in the same words.
    conversation.send(message(device.topic, b'{"value": 1}', 4, dup=True))
    assert await conversation.acknowledged(1) == [4]
    assert await server.values(device) == ["1"] * (2 if answers else 1)


async def test_what_was_read_is_acknowledged_before_the_link_says_goodbye(
    broker, tmp_path, blocked
):
    async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
        conversation = await broker.up()
        device = await server.device()
        link = server.services.link
        async with asyncio.TaskGroup() as tasks, blocked(server) as started:
            for number in range(1, 51):
                conversation.send(message(device.topic, reading(number, number), number))
            await started.wait()
            await eventually(lambda: server.state.depth == 50)
            tasks.create_task(server.application.server.stop(), name="stop")
            await eventually(lambda: link._connection.pauses)
            # Not read any more, and so the broker's to keep.
            conversation.send(message(device.topic, reading(99, 99), 99))
            assert conversation.unread == 0
        assert await conversation.acknowledged(50) == list(range(1, 51))
        goodbye = await conversation.read(mqtt5.DisconnectPacket)
        assert goodbye.reason_code == mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION
        assert goodbye.session_expiry_interval is None
        await conversation.end()
        assert conversation.unread == 1  # the end itself
    async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
        conversation = await broker.up(session_present=True)
        conversation.send(message(device.topic, reading(99, 99), 99, dup=True))
        assert await conversation.acknowledged(1) == [99]
        assert len(await server.values(device)) == 51


@pytest.mark.parametrize("first", [b"measurements/device-1", BAD_TOPIC], ids=["read", "unreadable"])
async def test_a_clock_that_is_behind_stops_reading_until_it_is_right(broker, server, first):
    conversation = await broker.up()
    device = await server.device()
    clock = server.services.http_ingest.clock
    floor, clock.floor = clock.floor, now() + HOUR
    conversation.send(message(first, reading(0, 0), 1) + message(device.topic, reading(1, 1), 2))
    connection = server.services.link._connection
    await eventually(lambda: connection.pauses)
    assert conversation.unread == 0
    assert connection.in_flight == 0
    clock.floor = floor
    assert await conversation.acknowledged(2) == [1, 2]
    assert (await server.values(device))[-1] == "1"
    assert len(broker.conversations) == 1

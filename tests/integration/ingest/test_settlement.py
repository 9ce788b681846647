"""Batches, their bounds, and the order in which senders are told."""

import asyncio

import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest import pipeline
from heliograph.model.records import Kind
from ingest_core import NOON, Origin, clock_moved, running
from server import eventually


def reading(value, at=0, **members):
    return {"value": value, "timestamp": NOON + at, **members}


async def test_nothing_is_settled_before_its_commit(core):
    sensor = await core.device("pump")
    async with core.blocked():
        await core.publish("measurements/pump", reading(1))
        await asyncio.sleep(0)
        assert core.origin.tokens == []
        assert await core.values(sensor) == []
    assert core.origin.tokens == [1]
    assert await core.values(sensor) == [1]


async def test_senders_are_told_in_the_order_in_which_they_sent(core):
    await core.device("pump")
    other = Origin()
    async with core.blocked():
        for at in range(10):
            await core.publish("measurements/pump", reading(at, at))
            await core.publish("logs/pump", {"severity": "info", "subject": str(at)})
            await core.publish("measurements/pump", b"{")
            await core.publish("status/pump", b"online")
            await core.publish("heartbeats/pump", {}, origin=other, token=at)
    assert core.origin.tokens == list(range(1, 41))
    assert other.tokens == list(range(10))


async def test_what_waits_is_committed_in_one_batch(plain_core):
    core = plain_core
    sensor = await core.device("pump")
    async with core.blocked():
        for at in range(20):
            await core.publish("measurements/pump", reading(at, at), origin=Origin())
    assert [len(batch.measurements) for batch in core.store.batches] == [0, 20]
    assert len(await core.rows(sensor)) == 20
    assert core.state.commits_total == 2


@pytest.mark.parametrize("bound", ["rows", "bytes"])
async def test_a_batch_is_bounded(plain_core, monkeypatch, bound):
    core = plain_core
    if bound == "rows":
        monkeypatch.setattr(core.pipeline, "_batch_rows", 4)
    else:
        monkeypatch.setattr(pipeline, "MAXIMUM_BATCH_BYTES", 1_500)
    sensor = await core.device("pump")
    async with core.blocked():
        for at in range(6):
            await core.publish("measurements/pump", reading(at, at), origin=Origin())
    sizes = [len(batch.measurements) for batch in core.store.batches[1:]]
    assert sum(sizes) == 6
    assert max(sizes) < 6
    assert await core.values(sensor) == list(range(6))


async def test_a_full_batch_is_put_together_while_one_is_in_the_writer(plain_core, monkeypatch):
    core = plain_core
    monkeypatch.setattr(core.pipeline, "_batch_rows", 4)
    pump, fan = await core.device("pump"), await core.device("fan")
    async with core.blocked():
        for at in reversed(range(5)):
            await core.publish("measurements/fan", reading(at, at), origin=Origin())
            await core.publish("measurements/pump", reading(at, at), origin=Origin())
        messages, batch = core.pipeline._next
        assert len(messages) == 2
        assert [row[1] for row in batch.measurements] == [pump.number, fan.number]
        assert len(core.pipeline._waiting) == 8
    assert core.store.batches[1] is batch
    assert core.pipeline._waiting_rows == 0
    assert await core.values(pump) == await core.values(fan) == list(range(5))


async def test_a_batch_that_asks_the_ledger_waits_for_the_one_before(plain_core, monkeypatch):
    core = plain_core
    monkeypatch.setattr(core.pipeline, "_batch_rows", 4)
    sensor = await core.device("pump")
    async with core.blocked():
        await core.publish("measurements/pump", [reading(at, at) for at in range(2)])
        await core.publish("measurements/pump", reading(3, 3, id="a"))
        for at in range(4):
            await core.publish("measurements/pump", reading(3, at, id="a"), origin=Origin())
        assert core.pipeline._next[1] is None
    assert await core.values(sensor) == [0, 1, 3]
    assert core.state.duplicates_total == 4


async def test_who_waits_for_a_batch_put_together_is_told_of_a_failure(sqlite_store, monkeypatch):
    def fail(_batch):
        raise RuntimeError("a defect")

    async def post(core, sensor, at):
        with pytest.raises(HeliographError) as caught:
            await core.post(sensor, [reading(at, at), reading(at, at + 10)], kind=Kind.MEASUREMENT)
        return caught.value.code

    async def fail_with_a_batch_waiting():
        async with running(sqlite_store) as core, asyncio.timeout(60):
            monkeypatch.setattr(core.pipeline, "_batch_rows", 4)
            sensor = await core.device("pump")
            core.store.free.clear()
            posts = [asyncio.create_task(post(core, sensor, 0))]
            await core.store.started.wait()
            posts += [asyncio.create_task(post(core, sensor, at)) for at in range(1, 9)]
            await eventually(lambda: core.pipeline._next is not None)
            core.store.refuses_batch = fail
            core.store.free.set()
            assert set(await asyncio.gather(*posts)) == {ErrorCode.SHUTTING_DOWN}

    with pytest.raises(RuntimeError, match="a defect"):
        await fail_with_a_batch_waiting()


async def test_plain_messages_of_one_origin_become_one(plain_core):
    core = plain_core
    sensors = [await core.device("pump"), await core.device("fan")]
    for sensor in sensors:
        sensor.attributes.add("value")
    async with core.blocked():
        for at in range(3):
            await core.publish("measurements/pump", reading(at, at))
            await core.publish("measurements/fan", [reading(at, at), reading(at, at + 10)])
    assert [message.tokens for message in core.origin.messages] == [[1, 2, 3, 4, 5, 6]]
    assert len(core.origin.messages[0].rows) == 9
    assert await core.values(sensors[0]) == [0, 1, 2]
    assert await core.values(sensors[1]) == [0, 1, 2, 0, 1, 2]
    assert core.state.messages_total == 7  # with the one that blocked
    assert core.state.rows_total == 9
    assert core.state.bytes_in_flight == 0


async def test_joining_ends_at_a_number_of_rows(plain_core, monkeypatch):
    monkeypatch.setattr(pipeline, "MERGED_ROWS", 3)
    core = plain_core
    (await core.device("pump")).attributes.add("value")
    async with core.blocked():
        for at in range(7):
            await core.publish("measurements/pump", reading(at, at))
    assert [message.tokens for message in core.origin.messages] == [[1, 2, 3], [4, 5, 6], [7]]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("measurements/pump", {"value": 2}),
        ("measurements/pump", [reading(2, 2), {"value": 3, "timestamp": "soon"}]),
        ("measurements/pump", reading(2, 2, id="b")),
        ("measurements/pump", reading({"new": 2}, 2)),
        ("logs/pump", {"severity": "info", "subject": "x", "timestamp": NOON}),
        ("status/pump", "online"),
    ],
    ids=["untimed", "faults", "identity", "attribute", "kind", "status"],
)
async def test_what_is_not_plain_joins_nothing(plain_core, topic, payload):
    core = plain_core
    (await core.device("pump")).attributes.add("value")
    async with core.blocked():
        await core.publish("measurements/pump", reading(1, 1))
        payload = payload.encode() if payload == "online" else payload
        await core.publish(topic, payload)
        await core.publish("measurements/pump", reading(4, 4))
    assert [message.tokens for message in core.origin.messages] == [[1], [2], [3]]


async def test_messages_of_two_origins_do_not_join(plain_core):
    core = plain_core
    (await core.device("pump")).attributes.add("value")
    other = Origin()
    async with core.blocked():
        await core.publish("measurements/pump", reading(1, 1))
        await core.publish("measurements/pump", reading(2, 2), origin=other)
    assert (core.origin.tokens, other.tokens) == ([1], [2])


async def test_watched_messages_stay_apart_and_are_told_with_their_payload(plain_core):
    core = plain_core
    (await core.device("pump")).attributes.add("value")
    async with core.blocked():
        await core.publish("measurements/pump", reading(0, 0))
        core.watching = True
        core.mqtt.watch()
        await core.publish("measurements/pump", reading(1, 1))
        await core.publish("measurements/pump", [reading(1, 1), reading(2, 2)])
    assert [message.tokens for message in core.origin.messages] == [[1], [2], [3]]
    # What came before anybody watched is told by its rows alone; of a repeat only the rest is.
    told = [(len(e.rows), e.payload is not None) for e in core.events]
    assert told == [(1, False), (1, True), (1, False)]
    core.watching = False
    await core.publish("measurements/pump", reading(5, 5))
    await core.settled()
    assert len(core.events) == 3
    assert core.pipeline.watched is False


async def test_sources_pause_at_the_byte_bound_and_resume_with_room(sqlite_store):
    async with running(sqlite_store, maximum_bytes=4_000) as core:
        sensor = await core.device("pump")
        calls = []
        core.pipeline.add_source(lambda: calls.append("pause"), lambda: calls.append("resume"))
        async with core.blocked():
            for at in range(20):
                await core.publish("measurements/pump", reading(at, at))
            assert calls == ["pause"]
            with pytest.raises(HeliographError) as caught:
                await core.post(sensor, reading(1), kind=Kind.MEASUREMENT)
            assert caught.value.code is ErrorCode.QUEUE_FULL
            assert caught.value.retry_after
        assert calls == ["pause", "resume"]
        assert len(await core.rows(sensor)) == 20
        await core.post(sensor, reading(99, 99), kind=Kind.MEASUREMENT)


async def test_a_message_that_joins_counts_against_the_bound(sqlite_store):
    async with running(sqlite_store, maximum_bytes=4_000) as core:
        (await core.device("pump")).attributes.add("value")
        calls = []
        core.pipeline.add_source(lambda: calls.append("pause"), lambda: calls.append("resume"))
        async with core.blocked():
            for at in range(20):
                await core.publish("measurements/pump", reading(at, at))
        assert len(core.origin.messages) == 1
        assert calls == ["pause", "resume"]


async def test_draining_waits_for_what_was_taken_and_refuses_posts(core):
    sensor = await core.device("pump")
    async with core.blocked():
        await core.publish("measurements/pump", reading(1))
        draining = asyncio.create_task(core.pipeline.drain())
        await asyncio.sleep(0)
        with pytest.raises(HeliographError) as caught:
            await core.post(sensor, reading(2), kind=Kind.MEASUREMENT)
        assert caught.value.code is ErrorCode.SHUTTING_DOWN
        assert not draining.done()
    await asyncio.wait_for(draining, 60)
    assert await core.values(sensor) == [1]


async def test_nothing_is_taken_while_the_clock_is_behind(plain_core):
    core = plain_core
    sensor = await core.device("pump")
    await core.publish("measurements/pump", reading(1))
    await core.settled()
    with clock_moved(core.clock, -10_000_000):
        assert core.state.clock_behind
        with pytest.raises(HeliographError) as caught:
            await core.publish("measurements/pump", reading(2, 1))
        assert caught.value.code is ErrorCode.CLOCK_BEHIND
        with pytest.raises(HeliographError) as caught:
            await core.post(sensor, reading(3, 2), kind=Kind.MEASUREMENT)
        assert caught.value.code is ErrorCode.CLOCK_BEHIND
    assert not core.state.clock_behind
    assert await core.values(sensor) == [1]


async def test_an_outage_is_told_and_survived(core):
    sensor = await core.device("pump")
    core.store.outages = 3
    await core.publish("measurements/pump", reading(1))
    await eventually(lambda: not core.state.database_available)
    with pytest.raises(HeliographError) as caught:
        await core.post(sensor, reading(2), kind=Kind.MEASUREMENT)
    assert caught.value.code is ErrorCode.DATABASE_UNAVAILABLE
    await core.settled()
    assert core.state.database_available
    assert core.origin.tokens == [1]
    assert await core.values(sensor) == [1]


async def test_a_post_gives_up_waiting_but_not_its_rows(plain_core, monkeypatch):
    monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 0.02)
    core = plain_core
    sensor = await core.device("pump")
    async with core.blocked():
        with pytest.raises(HeliographError) as caught:
            await core.post(sensor, reading(1), kind=Kind.MEASUREMENT)
        assert caught.value.code is ErrorCode.DATABASE_UNAVAILABLE
    assert await core.values(sensor) == [1]


async def test_each_post_waits_as_long_as_it_may_whoever_waits_beside_it(plain_core, monkeypatch):
    core = plain_core
    sensor = await core.device("pump")
    async with core.blocked():
        monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 0.02)
        first = asyncio.create_task(core.post(sensor, reading(1), kind=Kind.MEASUREMENT))
        await asyncio.sleep(0)
        monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 0.04)
        second = asyncio.create_task(core.post(sensor, reading(2), kind=Kind.MEASUREMENT))
        await asyncio.sleep(0)
        monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 60)
        patient = asyncio.create_task(core.post(sensor, reading(3), kind=Kind.MEASUREMENT))
        gone = asyncio.create_task(core.post(sensor, reading(4), kind=Kind.MEASUREMENT))
        await asyncio.sleep(0)
        gone.cancel()
        for ended in (first, second):
            with pytest.raises(HeliographError) as caught:
                await asyncio.wait_for(ended, 10)
            assert caught.value.code is ErrorCode.DATABASE_UNAVAILABLE
        assert not patient.done()
    assert len((await patient).accepted) == 1
    assert sorted(await core.values(sensor)) == [1, 2, 3, 4]


async def test_when_sensors_were_last_seen_is_flushed(core):
    sensor = await core.device("pump")
    fan = await core.device("fan")
    await core.publish("measurements/pump", reading(1))
    await core.publish("heartbeats/fan", {})
    await core.settled()
    await core.registry.flush()
    assert core.registry.touched == set()
    stored = await core.store.sensors.find("pump")
    assert stored.last_seen_at == stored.last_measurement_at == sensor.seen_at > 0
    stored = await core.store.sensors.find("fan")
    assert (stored.last_seen_at, stored.last_measurement_at) == (fan.seen_at, None)


async def test_a_status_is_stored_and_shown(core):
    await core.device("pump")
    core.watching = True
    core.mqtt.watch()
    await core.publish("status/pump", b"online")
    await core.publish("status/pump", b" Offline\n")
    await core.publish("status/pump", b"asleep")
    await core.settled()
    assert (await core.store.sensors.find("pump")).status == "offline"
    assert [event.payload for event in core.events] == [b"online", b" Offline\n"]
    assert await core.reasons() == ["INVALID_STATUS"]

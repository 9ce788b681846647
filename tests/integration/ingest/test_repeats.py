"""What comes twice, and what only seems to."""

import asyncio

import pytest

from heliograph.access.authenticator import ADMIN
from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest.decode import decode_reading
from heliograph.model.records import Kind
from ingest_core import NOON, clock_moved, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

POST = {"kind": Kind.MEASUREMENT}


def reading(value, at=0, **members):
    return {"value": value, "timestamp": NOON + at, **members}


async def counts(core, sensor):
    beats = await core.store.heartbeats.page(sensor.number, key=None, direction="next", limit=100)
    return len(await core.rows(sensor)), len(beats), len(await core.rejected())


async def test_an_ambiguous_commit_is_repeated_and_nothing_stored_twice(core):
    sensor = await core.device("pump")
    core.store.ambiguous = 1
    async with core.blocked():
        await core.publish("measurements/pump", [reading(1), reading(2, id="a"), {"value": 3}])
        await core.publish("heartbeats/pump", {})
        await core.publish("measurements/pump", b"{")
        core.store.ambiguous = 2
    assert core.origin.tokens == [1, 2, 3]
    assert await counts(core, sensor) == (3, 1, 1)
    assert core.state.duplicates_total == 0
    assert all(not message.duplicates for message in core.origin.messages)


async def test_an_ambiguous_post_is_answered_as_accepted(core):
    sensor = await core.device("pump")
    for key in (None, "k"):
        core.store.ambiguous = 1
        payload = [reading(str(key)), {"value": 1, "id": f"id-{key}"}]
        outcome = await core.post(sensor, payload, idempotency_key=key, **POST)
        assert [accepted.duplicate for accepted in outcome.accepted] == [False, False]
    assert len(await core.rows(sensor)) == 4


async def test_a_repeat_is_dropped_and_counted(core):
    sensor = await core.device("pump")
    for _ in range(2):
        await core.publish("measurements/pump", reading(1))
        await core.settled()
    await core.publish("measurements/pump", reading(2))
    await core.settled()
    assert sorted(await core.values(sensor)) == [1, 2]
    assert core.state.duplicates_total == 1
    assert core.origin.tokens == [1, 2, 3]


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        ("measurements/pump", b'{"value":1}', (1, 0, 0)),
        ("heartbeats/pump", b"", (0, 1, 0)),
        ("measurements/pump", b"{", (0, 0, 1)),
        ("measurements/nobody", b"1", (0, 0, 1)),
        ("status/pump", b"asleep", (0, 0, 1)),
        ("measurements/pump", b'[{"value":1},{"value":2,"timestamp":"x"}]', (1, 0, 1)),
    ],
    ids=["untimed", "heartbeat", "rejected", "unknown", "status", "partly"],
)
async def test_a_redelivery_is_found_in_the_ledger(core, topic, payload, expected):
    sensor = await core.device("pump")
    doubled = tuple(2 * count for count in expected)
    await core.publish(topic, payload, token=7)
    await core.publish(topic, payload, token=7, redelivered=True)  # in one batch with the first
    await core.settled()
    await core.publish(topic, payload, token=7 | 1 << 16, redelivered=True)
    await core.settled()
    assert await counts(core, sensor) == expected
    # Another packet id, or another session: another message.
    await core.publish(topic, payload, token=8, redelivered=True)
    await core.settled()
    assert await counts(core, sensor) == doubled
    await core.publish(topic, payload, token=7, delivery=b"another", redelivered=True)
    await core.settled()
    assert await counts(core, sensor) == tuple(3 * count for count in expected)
    assert core.origin.tokens == [7, 7, 7 | 1 << 16, 8, 7]


async def test_a_packet_id_is_used_again_without_the_flag(core):
    sensor = await core.device("pump")
    for _ in range(2):
        await core.publish("measurements/pump", {"value": 1}, token=7)
        await core.settled()
    assert await core.values(sensor) == [1, 1]


async def test_a_redelivery_after_a_restart_is_found(store):
    async with running(store) as core:
        sensor = await core.device("pump")
        await core.publish("measurements/pump", {"value": 1}, token=7)
        await core.settled()
    async with running(store) as core:
        await core.publish("measurements/pump", {"value": 1}, token=7, redelivered=True)
        await core.settled()
        assert await core.values(sensor) == [1]


async def test_an_id_is_stored_once_whatever_its_time(core):
    sensor, other = await core.device("pump"), await core.device("fan")
    same = [reading(1, id="a"), reading(2, 5, id="a"), {"value": 3, "id": "b"}]
    async with core.blocked():
        await core.publish("measurements/pump", same)
        await core.publish("measurements/pump", [reading(4, 9, id="b"), reading(5, id="c")])
    await core.publish("measurements/pump", [reading(6, id=name) for name in "abc"])
    await core.settled()
    assert sorted(await core.values(sensor)) == [1, 3, 5]
    assert core.state.duplicates_total == 5
    # Another sensor's or another kind's ids are its own.
    await core.publish("measurements/fan", reading(7, id="a"))
    await core.publish("heartbeats/pump", {"id": "a"})
    await core.settled()
    assert await core.values(other) == [7]
    assert (await counts(core, sensor))[1] == 1


async def test_pulses_that_their_ids_tell_apart_are_two(core):
    sensor = await core.device("gauge")
    pulses = [reading(1, id="a"), reading(1, id="b"), reading(1, id="a")]
    await core.publish("measurements/gauge", pulses)
    await core.settled()
    assert await core.values(sensor) == [1, 1]
    await core.publish("measurements/gauge", pulses[:2])
    await core.publish("measurements/gauge", reading(1))
    await core.settled()
    assert await core.values(sensor) == [1, 1, 1]


async def test_a_sensors_own_name_tells_nothing_apart(core):
    sensor = await core.device("gauge")
    for moment in (1, 2, 2):
        await core.publish("measurements/gauge", {**reading(1, moment), "id": "gauge"})
    await core.settled()
    assert await core.values(sensor) == [1, 1]


async def test_history_of_another_sensor_or_time_names_no_row(core):
    sensor, other = await core.device("pump"), await core.device("fan")
    first = (await core.post(sensor, reading(1), **POST)).accepted[0]
    name = str(first.id)
    again = await core.post(sensor, reading(5, id=name), **POST)
    assert [(each.duplicate, each.id) for each in again.accepted] == [(True, first.id)]
    elsewhere = await core.post(other, reading(1, id=name), **POST)
    later = await core.post(sensor, reading(1, 9, id=name), **POST)
    assert not elsewhere.accepted[0].duplicate
    assert not later.accepted[0].duplicate
    assert await core.values(sensor) == [1, 1]
    # A heartbeat of that name is none either.
    beat = await core.post(sensor, {"timestamp": NOON, "id": name}, kind=Kind.HEARTBEAT)
    assert not beat.accepted[0].duplicate


async def test_an_element_may_name_no_other_device_than_its_topic(core):
    sensor = await core.device("pump")
    await core.device("fan")
    named = [{**reading(at, at), "device_id": name} for at, name in enumerate(("pump", "fan"))]
    await core.publish("measurements/pump", named)
    await core.publish(
        "measurements/pump", {**reading(2, 2), "device_id": sensor.identifier.upper()}
    )
    await core.settled()
    assert await core.values(sensor) == [0, 2]
    assert await core.reasons() == ["UNKNOWN_SENSOR"]


async def test_a_device_id_that_differs_by_case_is_another_ones(core):
    sensor = await core.device("pump")
    await core.device("Pump")
    await core.publish("measurements/pump", {**reading(1), "device_id": "Pump"})
    await core.settled()
    assert await core.values(sensor) == []
    assert await core.reasons() == ["UNKNOWN_SENSOR"]


async def test_a_posted_repeat_names_what_was_stored_first(core):
    sensor = await core.device("pump")
    first = await core.post(sensor, [reading(1), {"value": 2, "id": "a"}], **POST)
    again = await core.post(sensor, [{"value": 9, "id": "a"}, reading(1), reading(3)], **POST)
    assert [a.duplicate for a in again.accepted] == [True, True, False]
    assert [a.id for a in again.accepted[:2]] == [first.accepted[1].id, first.accepted[0].id]
    assert len(await core.rows(sensor)) == 3


async def test_the_same_key_and_body_have_the_same_outcome(core):
    sensor = await core.device("pump")
    await core.post(sensor, reading(1), **POST)
    payload = [reading(1), {"value": 2}, {"value": 3, "timestamp": "soon"}, {"v": []}]
    first = await core.post(sensor, payload, idempotency_key="k", **POST)
    assert [a.duplicate for a in first.accepted] == [True, False]
    again = await core.post(sensor, payload, idempotency_key="k", **POST)
    assert again == first
    assert await counts(core, sensor) == (2, 0, 1)
    stored = {row.id for row in await core.rows(sensor)}
    assert {accepted.id for accepted in again.accepted} == stored


async def test_a_key_belongs_to_one_body_one_route_and_one_principal(core):
    sensor = await core.device("pump")
    await core.post(sensor, {"value": 1}, idempotency_key="k", **POST)
    with pytest.raises(HeliographError) as caught:
        await core.post(sensor, {"value": 2}, idempotency_key="k", **POST)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    await core.post(sensor, {"value": 3}, idempotency_key="k", source="POST /other", **POST)
    await core.post(sensor, {"value": 4}, idempotency_key="other", **POST)
    assert await core.values(sensor) == [1, 3, 4]


async def test_a_key_is_remembered_where_nothing_was_stored(core):
    sensor = await core.device("pump")
    core.rejections.per_source_per_hour = 0
    first = await core.post(sensor, b"{", idempotency_key="k", **POST)
    assert await core.post(sensor, b"{", idempotency_key="k", **POST) == first
    with pytest.raises(HeliographError) as caught:
        await core.post(sensor, b"[", idempotency_key="k", **POST)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_two_posts_at_once_with_one_key_are_stored_once(core):
    sensor = await core.device("pump")
    async with core.blocked():
        posts = [
            asyncio.create_task(core.post(sensor, {"value": 1}, idempotency_key="k", **POST))
            for _ in range(3)
        ]
        other = asyncio.create_task(core.post(sensor, {"value": 2}, idempotency_key="k", **POST))
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*posts)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    with pytest.raises(HeliographError):
        await other
    assert await core.values(sensor) == [1]


async def test_readings_are_told_apart_by_key_and_id(core):
    sensor = await core.device("pump")
    body = b'{"metrics":{"t":1},"id":"a"}'
    given = [(0, sensor, decode_reading(body, 0))]
    first = await core.http.post_readings([*given], [], body, ADMIN, "POST /ingest")
    again = await core.http.post_readings([*given], [], body, ADMIN, "POST /ingest", "k")
    assert again.accepted[0].duplicate
    assert again.accepted[0].id == first.accepted[0].id
    assert again == await core.http.post_readings([*given], [], body, ADMIN, "POST /ingest", "k")
    assert len(await core.rows(sensor)) == 1


async def test_untimed_records_get_increasing_times(store):
    async with running(store) as core:
        sensor = await core.device("pump")
        for _ in range(3):
            await core.publish("measurements/pump", [{"value": 1}] * 50)
        await core.post(sensor, [{"value": 1}] * 50, **POST)
        given = [(at, sensor, decode_reading(b'{"t":1}', 0)) for at in range(50)]
        await core.http.post_readings(given, [], b"", ADMIN, "POST /ingest/batch")
        await core.settled()
        times = [row.timestamp for row in await core.rows(sensor)]
        receipts = [row.receipt_timestamp for row in await core.rows(sensor)]
    assert len(times) == len(set(times)) == 250
    async with running(store) as core:
        with clock_moved(core.clock, -500_000):
            for _ in range(2):
                await core.publish("measurements/pump", [{"value": 1}] * 2)
            await core.settled()
        rows = await core.rows(sensor)
    assert len(rows) == 254
    assert [row.timestamp for row in rows[:250]] == times
    later = [row.timestamp for row in rows[250:]]
    assert times[-1] < later[0] < later[1] < later[2] < later[3]
    assert sorted(rows, key=lambda row: row.id) == rows
    assert rows[-1].receipt_timestamp >= receipts[-1]


async def test_attributes_are_registered_with_their_first_message(core):
    sensor = await core.device("pump")
    await core.publish("measurements/pump", reading({"t": 1, "a": {"b.c": 2}}))
    await core.settled()
    await core.publish("measurements/pump", reading({"t": 2}, 1))
    await core.settled()
    batches = [batch for batch in core.store.batches if batch.attributes]
    assert len(batches) == 1
    assert len(batches[0].measurements) == 1
    names = {"t", "a.b\\.c"}
    assert await core.store.sensors.attributes([sensor.number]) == {sensor.number: names}
    async with running(core.store._store) as again:
        assert (await again.registry.find("pump")).attributes == names


async def test_a_sensor_has_a_bounded_number_of_attributes(plain_core):
    core = plain_core
    sensor = await core.device("pump")
    for start in range(0, 1_500, 500):
        await core.publish(
            "measurements/pump", reading({f"m{start + at}": 1 for at in range(500)}, start)
        )
        await core.post(sensor, reading({f"p{start + at}": 1 for at in range(300)}, start), **POST)
    await core.settled()
    stored = (await core.store.sensors.attributes([sensor.number]))[sensor.number]
    assert len(stored) == 1_000
    assert stored == sensor.attributes
    assert len(await core.rows(sensor)) == 6


async def test_rejected_messages_are_kept_within_a_budget(sqlite_store):
    async with running(sqlite_store, per_source_per_hour=3, rejected_bytes=1_000) as core:
        await core.device("pump")
        for _ in range(5):
            await core.publish("measurements/pump", b"{")
        await core.settled()
        assert await core.reasons() == ["MALFORMED_JSON"] * 3
        assert core.state.rejected_not_kept_total == 2
        assert core.state.rejected_total == {"MALFORMED_JSON": 5}
        assert core.origin.tokens == [1, 2, 3, 4, 5]
        route = await core.mqtt.route(ADMIN, "measurements/pump")
        core.mqtt.receive_oversize(core.origin, 6, route, b"x" * 100, 2 << 20)
        await core.settled()
        assert core.origin.tokens[-1] == 6
        assert core.state.rejected_total["TOO_LARGE"] == 1

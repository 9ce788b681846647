"""Rows that the database refuses: found, kept apart, and their neighbours stored."""

import json
import random
import string

import pytest

from heliograph.access.authenticator import ADMIN
from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_reading
from heliograph.model.records import Kind
from ingest_core import NOON, Origin

BAD = '"bad"'


def refuse_bad(row):
    return row[7] == BAD


def readings(*values, **members):
    return [{"value": value, "timestamp": NOON + at, **members} for at, value in enumerate(values)]


async def test_a_failing_batch_is_split_down_to_the_row(core):
    sensors = [await core.device(f"pump-{at}") for at in range(4)]
    core.store.refuses = refuse_bad
    async with core.blocked():
        for at in range(4):
            values = (1, "bad", 3) if at == 2 else (1, 2, 3)
            await core.publish(f"measurements/pump-{at}", readings(*values))
    assert core.origin.tokens == [1, 2, 3, 4]
    expected = [[1, 2, 3], [1, 2, 3], [1, 3], [1, 2, 3]]
    assert [await core.values(sensor) for sensor in sensors] == expected
    (kept,) = await core.rejected()
    assert kept.reason == "NOT_STORABLE"
    assert kept.sensor == sensors[2].number
    assert b"bad" in kept.payload
    assert core.state.rejected_total["NOT_STORABLE"] == 1
    assert core.origin.messages[2].faults[0].reason is RejectionReason.NOT_STORABLE
    assert not core.origin.messages[3].faults


async def test_of_joined_messages_only_the_bad_row_is_lost(core):
    pump, fan = await core.device("pump"), await core.device("fan")
    for sensor in (pump, fan):
        sensor.attributes.add("value")
    core.store.refuses = refuse_bad
    async with core.blocked():
        await core.publish("measurements/pump", readings(1)[0])
        await core.publish("measurements/fan", readings("bad")[0])
        await core.publish("measurements/pump", readings(0, 2)[1])
    (message,) = core.origin.messages
    assert message.tokens == [1, 2, 3]
    assert await core.values(pump) == [1, 2]
    (kept,) = await core.rejected()
    assert kept.sensor == fan.number


async def test_ids_and_deliveries_stay_with_their_rows(core):
    sensor = await core.device("pump")
    payload = [
        {"value": "bad", "id": "a"},
        {"value": 1, "id": "b"},
        {"value": 2},
        {"value": 3, "id": "c"},
    ]
    core.store.refuses = refuse_bad
    await core.publish("measurements/pump", payload, token=7)
    await core.settled()
    core.store.refuses = None
    # The same delivery again is known; the good elements' ids are too, the bad one's is not.
    await core.publish("measurements/pump", payload, token=7, redelivered=True)
    await core.settled()
    assert await core.values(sensor) == [1, 2, 3]
    await core.publish("measurements/pump", [{"value": 9, "id": name} for name in "abc"])
    await core.settled()
    assert await core.values(sensor) == [1, 2, 3, 9]


async def test_a_message_kept_for_other_elements_stays_as_it_is(core):
    sensor = await core.device("pump")
    core.store.refuses = refuse_bad
    payload = [*readings(1, "bad"), {"value": 1, "timestamp": "soon"}]
    await core.publish("measurements/pump", payload)
    await core.settled()
    (kept,) = await core.rejected()
    assert (kept.reason, kept.indexes) == ("INVALID_TIMESTAMP", "[2]")
    assert (kept.source, json.loads(kept.payload)) == ("measurements/pump", payload)
    assert core.state.rejected_total == {"INVALID_TIMESTAMP": 1, "NOT_STORABLE": 1}
    assert await core.values(sensor) == [1]


@pytest.mark.parametrize("key", [None, "k"])
async def test_who_posts_is_told_what_was_refused(core, key):
    sensor = await core.device("pump")
    core.store.refuses = refuse_bad
    payload = [*readings(1, "bad", 3), readings(1)[0]]
    options = {"kind": Kind.MEASUREMENT, "idempotency_key": key}
    outcome = await core.post(sensor, payload, **options)
    stored = await core.rows(sensor)
    assert [(a.index, a.id, a.duplicate) for a in outcome.accepted] == [
        (0, stored[0].id, False),
        (2, stored[1].id, False),
        (3, stored[0].id, True),
    ]
    assert [(f.index, f.reason.value) for f in outcome.faults] == [(1, "NOT_STORABLE")]
    if key is not None:
        assert await core.post(sensor, payload, **options) == outcome


async def test_readings_of_many_sensors_stay_with_theirs(core):
    pump, fan = await core.device("pump"), await core.device("fan")
    core.watching = True
    core.mqtt.watch()
    core.store.refuses = lambda row: "bad" in row[7]
    bodies = [(pump, b'{"t":1}'), (pump, b'{"t":"bad"}'), (fan, b'{"t":3}')]
    given = [(at, sensor, decode_reading(body, 0)) for at, (sensor, body) in enumerate(bodies)]
    outcome = await core.http.post_readings(given, [], b"all", ADMIN, "POST /ingest/batch")
    assert [accepted.index for accepted in outcome.accepted] == [0, 2]
    assert [fault.index for fault in outcome.faults] == [1]
    assert await core.values(pump) == [{"t": 1}]
    assert await core.values(fan) == [{"t": 3}]
    assert [(event.number, len(event.rows)) for event in core.events] == [
        (pump.number, 1),
        (fan.number, 1),
    ]


async def test_what_stands_beside_rows_never_costs_them(core):
    sensor = await core.device("pump")
    core.store.refuses_batch = lambda batch: bool(batch.attributes)
    payload = [*readings({"t": 1}, {"t": 2}), {"value": {"t": 3}, "id": "a"}]
    await core.publish("measurements/pump", payload)
    await core.settled()
    assert core.origin.tokens == [1]
    # Nor does it cost what tells the repeat apart.
    await core.publish("measurements/pump", payload)
    await core.settled()
    assert await core.values(sensor) == [{"t": 1}, {"t": 2}, {"t": 3}]
    assert await core.rejected() == []
    # What could not be registered is not taken for known.
    assert sensor.attributes == set()


async def test_an_attribute_of_any_length_costs_nothing(core):
    sensor = await core.device("pump")
    name = "".join(random.Random(1).choices(string.ascii_letters, k=50_000))
    origin = Origin()
    await core.publish("measurements/pump", readings({name: 1, "t": 2}), origin=origin)
    await core.settled()
    assert await core.values(sensor) == [{name: 1, "t": 2}]
    assert await core.rejected() == []
    assert not origin.messages[0].faults
    assert await core.store.sensors.attributes([sensor.number]) == {sensor.number: {"t"}}


async def test_a_rejected_message_that_is_not_kept_is_counted_and_costs_no_row(core):
    sensor = await core.device("pump")
    core.store.refuses_batch = lambda batch: any(row[4] != "nowhere/x" for row in batch.rejected)
    payload = [*readings(1, 2), {"value": 1, "timestamp": "soon"}]
    await core.publish("measurements/pump", payload)
    await core.settled()
    await core.publish("measurements/pump", b"{")
    await core.settled()
    assert core.origin.tokens == [1, 2]
    assert await core.values(sensor) == [1, 2]
    assert await core.rejected() == []
    assert core.state.rejected_not_kept_total == 2


async def test_refused_messages_have_a_budget(plain_core):
    core = plain_core
    core.rejections.per_source_per_hour = 1
    await core.device("pump")
    core.store.refuses = refuse_bad
    for at in range(2):
        await core.publish("measurements/pump", {"value": "bad", "timestamp": NOON + at})
        await core.settled()
    assert await core.reasons() == ["NOT_STORABLE"]
    assert core.state.rejected_not_kept_total == 1
    assert core.origin.tokens == [1, 2]

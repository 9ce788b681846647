"""What a batch comes to, on both engines."""

import asyncio

import pytest

from heliograph.errors import ClaimLostError, RowError, StoreUnavailableError
from heliograph.model.time import OLDEST, now
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, again, heartbeat, log, measurement, rejected


async def stored(store, sensor):
    page = await store.measurements.page(sensor, key=None, direction=None, limit=9_000)
    return {row.id for row in page}


async def test_a_batch_is_read_back_as_it_was_written(store, sensor):
    batch = Batch(
        measurements=[(5 << 9, sensor, NOON, -7, NOON + 1, 3, 12.5, '{"a":"\u00e9"}')],
        logs=[(6 << 9, sensor, NOON, 8, NOON + 1, None, None, "warning", "hot", "very")],
        heartbeats=[(7 << 9, sensor, NOON, 9, NOON + 1, 4, None, False, '{"b":1}')],
        rejected=[(8 << 9, NOON, sensor, "p", "s", b"\x00\xff", 99, "R", "d", "[1]")],
    )
    assert (await store.write(batch)).duplicates == {}
    first = {"key": None, "direction": None, "limit": 10}
    (row,) = await store.measurements.page(sensor, **first)
    assert (row.id, row.timestamp, row.fingerprint, row.receipt_timestamp, row.revision) == (
        (5 << 9, NOON, -7, NOON + 1, 3)
    )
    assert bytes(row.value) == '{"a":"\u00e9"}'.encode()
    (row,) = await store.logs.page(sensor, **first)
    assert (row.severity, row.subject, row.details) == ("warning", "hot", "very")
    (row,) = await store.heartbeats.page(sensor, **first)
    assert (row.revision, row.success, row.details) == (4, False, '{"b":1}')
    (row,) = await store.rejected.list(limit=10)
    assert (row.payload, row.size, row.indexes, row.sensor) == (b"\x00\xff", 99, "[1]", sensor)
    assert await store.newest() == (8 << 9, NOON + 1)


async def test_an_empty_store_has_nothing_newest(store):
    assert await store.newest() == (0, 0)
    assert (await store.write(Batch())).duplicates == {}


async def test_extreme_numbers_are_kept(store, sensor):
    low, high = -(1 << 63), (1 << 63) - 1
    batch = Batch(
        measurements=[
            (1, sensor, NOON, low, NOON, high, 1e308, "1"),
            (high, sensor, NOON, high, NOON, low, -0.0, "2"),
            (2, sensor, OLDEST, 0, NOON, None, None, "3"),
        ]
    )
    assert (await store.write(batch)).duplicates == {}
    assert await stored(store, sensor) == {1, high, 2}


@pytest.mark.parametrize("count", [1, 5, 300, 2_500])
async def test_repeats_are_dropped_and_name_the_row_stored_first(store, sensor, count):
    rows = [measurement(sensor, NOON + at) for at in range(count)]
    await store.write(Batch(measurements=rows))
    repeats = [again(row) for row in rows[::2]]
    fresh = [measurement(sensor, NOON - 1 - at) for at in range(count)]
    written = await store.write(Batch(measurements=repeats + fresh))
    assert written.duplicates == {
        repeat[0]: row[0] for repeat, row in zip(repeats, rows[::2], strict=True)
    }
    assert await stored(store, sensor) == {row[0] for row in rows + fresh}


async def test_repeats_of_logs_and_heartbeats_are_dropped(store, sensor):
    batch = Batch(logs=[log(sensor)], heartbeats=[heartbeat(sensor)])
    await store.write(batch)
    repeat = Batch(logs=[again(batch.logs[0])], heartbeats=[again(batch.heartbeats[0])])
    assert (await store.write(repeat)).duplicates == {
        repeat.logs[0][0]: batch.logs[0][0],
        repeat.heartbeats[0][0]: batch.heartbeats[0][0],
    }


async def test_a_repeat_within_a_batch_is_dropped(store, sensor):
    row = measurement(sensor)
    repeat = again(row)
    written = await store.write(Batch(measurements=[row, repeat]))
    assert written.duplicates == {repeat[0]: row[0]}
    assert await stored(store, sensor) == {row[0]}


async def test_two_values_at_one_time_are_both_kept(store, sensor):
    rows = [measurement(sensor, NOON, 1), measurement(sensor, NOON, 2)]
    assert (await store.write(Batch(measurements=rows))).duplicates == {}
    assert await stored(store, sensor) == {row[0] for row in rows}


async def test_a_batch_written_again_finds_its_own_rows(store, sensor):
    batch = Batch(
        measurements=[measurement(sensor, NOON + at) for at in range(300)],
        logs=[log(sensor)],
        heartbeats=[heartbeat(sensor, success=True)],
        rejected=[rejected(), rejected(b"[")],
        deliveries=[(b"k" * 16, 1, None, "x")],
        attributes=[(sensor, "value")],
        statuses=[(sensor, NOON, "online", False)],
    )
    for _ in range(3):
        assert (await store.write(batch)).duplicates == {}
    assert await stored(store, sensor) == {row[0] for row in batch.measurements}
    assert (await store.rejected.totals())[0] == 2


async def test_a_retry_with_repeats_tells_the_same_again(store, sensor):
    first = measurement(sensor)
    await store.write(Batch(measurements=[first]))
    batch = Batch(measurements=[again(first), measurement(sensor, NOON + 1)])
    expected = {batch.measurements[0][0]: first[0]}
    assert (await store.write(batch)).duplicates == expected
    assert (await store.write(batch)).duplicates == expected


async def test_instances_that_write_the_same_rows_at_once_agree(database_url, store, sensor):
    other = await open_store(database_url)
    try:
        for start in range(0, 50_000, 5_000):
            rows = [measurement(sensor, NOON + start + at) for at in range(400)]
            repeats = [again(row) for row in reversed(rows)]
            batches = [Batch(measurements=rows), Batch(measurements=repeats)]
            for batch in batches:
                batch.sort()
            one, two = await asyncio.gather(store.write(batches[0]), other.write(batches[1]))
            assert len(one.duplicates) + len(two.duplicates) == 400
    finally:
        await other.close()


# Both engines refuse these; what only one of them can't hold, decoding has refused before.
UNSTORABLE = {
    "a lone surrogate": ("value", '"\ud800"'),
    "no value": ("value", None),
    "too large a number": ("fingerprint", 1 << 63),
    "too small a number": ("timestamp", -(1 << 63) - 1),
    "text for a number": ("timestamp", "now"),
    "a number for text": ("value", 5),
    "an object": ("value", {}),
}


COLUMNS = ["id", "sensor", "timestamp", "fingerprint", "", "", "", "value"]


async def test_a_row_that_cannot_be_stored_fails_the_batch_and_only_it(store, sensor):
    rows = [measurement(sensor, NOON + at) for at in range(300)]
    for fault, (column, value) in UNSTORABLE.items():
        if fault == "a number for text" and store.engine.name == "sqlite":
            continue  # it makes text of the number, which loses nothing
        for position in (0, 150, 299):
            bad = list(rows[position])
            bad[COLUMNS.index(column)] = value
            with pytest.raises(RowError):
                await store.write(
                    Batch(measurements=[*rows[:position], tuple(bad), *rows[position + 1 :]])
                )
            assert await stored(store, sensor) == set(), fault
    assert (await store.write(Batch(measurements=rows[1:]))).duplicates == {}
    assert len(await stored(store, sensor)) == 299


@pytest.mark.parametrize(
    "batch",
    [
        Batch(rejected=[(1, NOON, None, "p\ud800", "s", b"", 0, "R", "d", None)]),
        Batch(attributes=[(1, "\ud800")]),
        Batch(statuses=[(1, 1 << 70, "online", False)]),
        Batch(deliveries=[(b"k", 1 << 70, None, None)]),
    ],
    ids=["rejected", "attribute", "status", "delivery"],
)
async def test_other_rows_that_cannot_be_stored_are_told_apart_too(store, sensor, batch):
    assert sensor == 1
    with pytest.raises(RowError):
        await store.write(batch)
    await store.write(Batch(rejected=[rejected()]))


async def test_a_different_rejected_message_under_a_known_id_is_not_lost_silently(store):
    row = rejected()
    await store.write(Batch(rejected=[row]))
    with pytest.raises(RowError):
        await store.write(Batch(rejected=[rejected(), (*row[:5], b"other", *row[6:])]))
    assert (await store.rejected.totals())[0] == 1


async def test_the_newest_status_counts(store, sensor, register):
    other = (await register()).number

    async def status(number):
        found = await store.sensors.find_number(number)
        return found.status, found.status_at

    await store.write(
        Batch(statuses=[(sensor, NOON, "online", False), (sensor, NOON, "offline", False)])
    )
    assert await status(sensor) == ("offline", NOON)
    await store.write(
        Batch(statuses=[(sensor, NOON - 1, "online", False), (other, 5, "online", False)])
    )
    assert await status(sensor) == ("offline", NOON)
    assert await status(other) == ("online", 5)
    await store.write(
        Batch(statuses=[(sensor, NOON + 2, "online", False), (sensor, NOON + 1, "x", False)])
    )
    assert await status(sensor) == ("online", NOON + 2)
    await store.write(Batch(statuses=[(999, NOON, "online", False)]))


async def test_deliveries_are_found_until_they_expire(store):
    keys = [at.to_bytes(16, "big") for at in range(300)]
    later = now() + 60_000_000
    rows = [(key, at, later if at % 2 else None, str(at)) for at, key in enumerate(keys)]
    rows[7] = (keys[7], 7, now() - 1, "old")
    await store.write(Batch(deliveries=rows))
    found = await store.deliveries.find([*keys, b"unknown"])
    assert found == {key: (at, str(at)) for at, key in enumerate(keys) if at != 7}
    assert await store.deliveries.find([]) == {}
    assert await store.deliveries.prune(now()) == 1
    assert await store.deliveries.prune(now()) == 0
    assert len(await store.deliveries.find(keys)) == 299


async def test_deliveries_are_forgotten_unless_they_are_others_by_now(store):
    keys = [b"%016d" % number for number in range(300)]
    await store.write(Batch(deliveries=[(key, at, None, None) for at, key in enumerate(keys)]))
    await store.deliveries.forget([])
    await store.deliveries.forget([(key, at + at % 2) for at, key in enumerate(keys)])
    assert set(await store.deliveries.find(keys)) == set(keys[1::2])


async def test_the_last_delivery_of_a_key_counts(store):
    key = b"k" * 16
    await store.write(Batch(deliveries=[(key, 1, None, "a"), (key, 2, None, "b")]))
    assert await store.deliveries.find([key]) == {key: (2, "b")}
    await store.write(Batch(deliveries=[(key, 3, None, None)]))
    assert await store.deliveries.find([key, key]) == {key: (3, None)}


async def test_a_lost_claim_stores_nothing_and_names_the_keys(store, sensor):
    keys = [b"%016d" % number for number in range(300)]
    await store.write(Batch(claims=[(keys[7], 5, None, "first"), (keys[250], 6, None, None)]))
    claims = [(key, 100 + at, None, "second") for at, key in enumerate(keys)]
    with pytest.raises(ClaimLostError) as lost:
        await store.write(Batch(measurements=[measurement(sensor)], claims=claims))
    assert keys[7] in lost.value.keys
    assert lost.value.keys <= {keys[7], keys[250]}
    assert await stored(store, sensor) == set()
    assert await store.deliveries.find(keys) == {keys[7]: (5, "first"), keys[250]: (6, None)}
    # What was committed after all is one's own; what has expired is anybody's.
    await store.write(Batch(claims=[(keys[7], 5, now() - 1, "first")]))
    await store.write(Batch(claims=[(keys[7], 8, None, "third")]))
    assert await store.deliveries.find(keys[:9]) == {keys[7]: (8, "third")}


async def test_a_claim_of_no_row_is_lost_to_another_of_none(store):
    await store.write(Batch(claims=[(b"k" * 16, 0, None, "first")]))
    with pytest.raises(ClaimLostError):
        await store.write(Batch(claims=[(b"k" * 16, 0, None, "second")]))


async def test_a_delivery_does_not_take_the_place_of_its_own_repeat(store, sensor):
    key = b"k" * 16
    await store.write(Batch(claims=[(key, 9, None, "repeated")]))
    with pytest.raises(ClaimLostError) as lost:
        await store.write(
            Batch(measurements=[measurement(sensor)], deliveries=[(key, 8, None, None)])
        )
    assert lost.value.keys == {key}
    assert await stored(store, sensor) == set()
    await store.write(Batch(deliveries=[(key, 10, None, None)]))
    assert await store.deliveries.find([key]) == {key: (10, None)}
    # Neither is marked as a repeat: two packets that have the same id and content.
    await store.write(Batch(deliveries=[(key, 9, None, None)]))
    assert await store.deliveries.find([key]) == {key: (9, None)}


async def test_servers_that_claim_the_same_keys_at_once_wait_in_one_order(database_url, store):
    other = await open_store(database_url)
    try:
        for turn in range(5):
            keys = [b"%08d%08d" % (turn, number) for number in range(2_000)]
            one = [(key, 1, None, None) for key in keys]
            two = [(key, 2, None, None) for key in reversed(keys)]
            outcomes = await asyncio.gather(
                store.write(Batch(claims=one)),
                other.write(Batch(deliveries=two[:1_000], claims=two[1_000:])),
                return_exceptions=True,
            )
            # A deadlock would be an unavailable store.
            lost = [each for each in outcomes if isinstance(each, Exception)]
            assert [type(each) for each in lost] in ([], [ClaimLostError])
    finally:
        await other.close()


async def test_answers_are_corrected_in_the_transaction_that_finds_the_repeats(store, sensor):
    key, row = b"k" * 16, measurement(sensor)
    await store.write(Batch(measurements=[row]))
    repeat = again(row)
    batch = Batch(measurements=[repeat], claims=[(key, repeat[0], None, "new")])
    batch.answers = lambda duplicates: [(key, repeat[0], None, str(duplicates))]
    await store.write(batch)
    answer = str({repeat[0]: row[0]})
    assert await store.deliveries.find([key]) == {key: (repeat[0], answer)}


@pytest.mark.parametrize("count", [1, 300])
async def test_a_trial_tells_what_can_be_stored_and_stores_nothing(store, sensor, count):
    rows = [measurement(sensor, NOON + at) for at in range(count)]
    assert (await store.write(Batch(measurements=rows, trial=True))).duplicates == {}
    bad = (*rows[0][:3], 1 << 63, *rows[0][4:])
    with pytest.raises(RowError):
        await store.write(Batch(measurements=[*rows[1:], bad], trial=True))
    assert await stored(store, sensor) == set()
    await store.write(Batch(measurements=rows))
    assert await stored(store, sensor) == {row[0] for row in rows}


async def test_rejected_messages_are_listed_counted_and_pruned(store):
    rows = [rejected(b"x" * at, receipt=NOON + at) for at in range(1_200)]
    await store.write(Batch(rejected=rows))
    assert await store.rejected.totals() == (1_200, sum(range(1_200)))
    page = await store.rejected.list(limit=2)
    assert [row.id for row in page] == [rows[-1][0], rows[-2][0]]
    page = await store.rejected.list(limit=2, before=page[-1].id)
    assert [row.id for row in page] == [rows[-3][0], rows[-4][0]]
    assert await store.rejected.prune(NOON + 1_100) == 1_100
    assert (await store.rejected.totals())[0] == 100


async def test_a_closed_store_is_unavailable_and_may_be_closed_again(store, sensor):
    await store.close()
    for attempt in (
        store.write(Batch(measurements=[measurement(sensor)])),
        store.sensors.touch([(sensor, 1, 1)]),
        store.sensors.find_number(sensor),
        store.deliveries.find([b"k"]),
        store.ping(),
    ):
        with pytest.raises(StoreUnavailableError):
            await attempt
    await store.close()

"""What the preview announces, against what a run removes and the database gets back."""

import uuid

import pytest

from heliograph.model.retention import Retention
from heliograph.model.time import DAY, HOUR
from heliograph.retention.plan import DueCounter
from heliograph.retention.runs import RetentionRuns
from heliograph.store.engine import Batch
from heliograph.store.removal import KeptKind
from rows import NOON, heartbeat, log, measurement, packet

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

KEEP = Retention(10, 10, 10)
# From a month before: so that on PostgreSQL whole partitions go, and nothing else.
OLD = NOON - 30 * DAY
# As large as fingerprints are.
HASH = 1 << 62
DETAILS = '{"code":17,"text":"pump stopped"}'


def small(number):
    return {"temperature": 20 + number % 70 / 10, "humidity": 50 + number % 30}


def mixed(number):
    return {"image": "x" * (20_000 if number % 50 == 0 else 30), "number": number}


def packets(number):
    return {"samples": [number] * 250}


async def free_bytes(store):
    """Return what is free in SQLite's file, or not taken by PostgreSQL's partitions."""
    if store.engine.name == "sqlite":
        sql = "SELECT freelist_count * page_size FROM pragma_freelist_count(), pragma_page_size()"
        ((free,),) = await store.engine._run(
            lambda: store.engine._writer.open().execute(sql).fetchall()
        )
        return free
    taken = 0
    for kind in (KeptKind.MEASUREMENTS, KeptKind.LOGS):
        taken += sum(each.bytes for each in await store.removal.partitions(kind, NOON + 99 * DAY))
    return -taken


async def fill(store, sensors, value, count, *, start, step):
    """Store measurements of the sensors in turn, in the order of their times."""
    for at in range(0, count, 1_000):
        rows = [
            measurement(sensors[n % len(sensors)], start + n * step, value(n), receipt=start)
            for n in range(at, min(at + 1_000, count))
        ]
        await store.write(Batch(measurements=rows))


async def announced_and_given_back(store, retention=KEEP):
    plan = DueCounter(store, retention, NOON)
    planned = await plan.totals()
    before = await free_bytes(store)
    runs = RetentionRuns(store, retention, clock=lambda: NOON)
    await runs.sweep(NOON)
    left = await DueCounter(store, retention, NOON).totals()
    assert not any(due.rows for due in left.values())
    return planned, runs.state, await free_bytes(store) - before


@pytest.mark.parametrize("value", [small, mixed, packets])
async def test_the_bytes_announced_are_within_a_fifth_of_what_is_given_back(store, register, value):
    sensors = [(await register()).number for _ in range(10)]
    await fill(store, sensors, value, 8_000, start=OLD, step=100_000_000)
    # What is newer is of another size.
    await fill(store, sensors, lambda n: "y" * 3_000, 200, start=NOON - DAY, step=100_000_000)
    planned, _, back = await announced_and_given_back(store)
    assert planned[KeptKind.MEASUREMENTS].rows == 8_000
    assert sum(due.bytes for due in planned.values()) == pytest.approx(back, rel=0.2)


async def test_a_page_that_others_have_rows_in_is_not_announced(store, register):
    """The old rows of one sensor of ten lie between those of the others, which stay."""
    sensors = [(await register()).number for _ in range(10)]
    await fill(store, sensors, small, 20_000, start=OLD, step=40_000_000)
    await store.retentions.set_sensor(sensors[3], raw_days=10, rollup_days=10)
    planned, state, back = await announced_and_given_back(store, Retention(0, 0, 0))
    assert planned[KeptKind.MEASUREMENTS].rows == 2_000
    if store.engine.name == "sqlite":
        assert state.removed_total[KeptKind.MEASUREMENTS] == 2_000
        assert planned[KeptKind.MEASUREMENTS].bytes == pytest.approx(back, rel=0.2)
    else:
        assert (state.partitions_total, back) == (0, 0)
        assert 150 * 2_000 < planned[KeptKind.MEASUREMENTS].bytes < 250 * 2_000


async def test_the_bytes_of_logs_and_heartbeats(store, register, engine):
    sensors = [(await register()).number for _ in range(5)]
    for at in range(8):
        times = [(sensors[n % 5], OLD + (at * 1_000 + n) * 100_000_000) for n in range(1_000)]
        await store.write(
            Batch(
                logs=[log(*each, fingerprint=HASH, details=DETAILS) for each in times],
                heartbeats=[heartbeat(*each, fingerprint=HASH) for each in times],
            )
        )
    planned, _, back = await announced_and_given_back(store)
    assert planned[KeptKind.LOGS].rows == planned[KeptKind.HEARTBEATS].rows == 8_000
    announced = planned[KeptKind.LOGS].bytes
    if engine == "sqlite":
        announced += planned[KeptKind.HEARTBEATS].bytes  # of which PostgreSQL has no partitions
    assert announced == pytest.approx(back, rel=0.2)


async def test_the_packets_of_sensors_and_of_unknown_devices(store, register, engine):
    sensors = [(await register()).number for _ in range(5)]
    for at in range(8):
        packets = [
            packet(
                sensors[n % 5] if n % 2 else None, OLD + n * 100_000_000, f"device-{n % 10}", n=n
            )
            for n in range(at * 1_000, at * 1_000 + 1_000)
        ]
        await store.write(Batch(packets=packets))
    taken = 0
    if engine == "postgresql":
        sizes = "SELECT pg_total_relation_size('packet')"
        taken = await store.engine.writer._connection.fetchval(sizes)
    planned, state, back = await announced_and_given_back(store)
    assert planned[KeptKind.PACKETS].rows == state.removed_total[KeptKind.PACKETS] == 8_000
    assert planned[KeptKind.PACKETS].bytes == pytest.approx(taken or back, rel=0.2)


async def test_rows_are_exact_for_one_moment_however_many(store, register):
    network = (
        await store.networks.create(
            identifier=str(uuid.uuid4()), name="n", created_at=1, owner=None
        )
    ).identifier
    sensors = [(await register(network_identifier=network)).number for _ in range(3)]
    # In bursts: a pace tells nothing.
    for burst in (0, 40, 41, 300):
        await fill(store, sensors, small, 3_000, start=OLD + burst * HOUR, step=1_000)
    await fill(store, sensors, small, 500, start=NOON - 9 * DAY, step=1_000)
    planned = await DueCounter(store, KEEP, NOON).of_network(network)
    assert planned.due[KeptKind.MEASUREMENTS][:1] == (12_000,)
    assert planned.due[KeptKind.MEASUREMENTS].is_exact
    one = await DueCounter(store, KEEP, NOON).of_sensor(sensors[0], network, KEEP)
    assert one[KeptKind.MEASUREMENTS].rows == 4_000
    total = (await DueCounter(store, KEEP, NOON).totals())[KeptKind.MEASUREMENTS]
    assert total == planned.due[KeptKind.MEASUREMENTS]


async def test_rows_that_wait_for_their_rollups_are_told_apart(store, register):
    sensor = (await register()).number
    await fill(store, [sensor], small, 1_000, start=OLD, step=1_000)
    keep = Retention(10, 0, 10)
    plan = DueCounter(store, keep, NOON)
    # Late rows, whose hours are marked and not rolled up yet.
    assert (await plan.totals())[KeptKind.MEASUREMENTS] == (0, 0, False)
    assert plan.not_rolled_up == 1_000
    runs = RetentionRuns(store, keep, clock=lambda: NOON)
    await runs.sweep(NOON)
    assert not runs.state.removed_total

"""Pages are bounded in bytes, and so is what is read for them, on both engines."""

import pytest

from heliograph.store import measurements as measurements_module
from heliograph.store import pages as pages_module
from heliograph.store import telemetry as telemetry_module
from heliograph.store.engine import Batch
from heliograph.store.measurements import having
from heliograph.store.pages import ENTRY_BYTES
from rows import NOON, heartbeat, log, measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

# Characters of a large value, and how many of them fit on a page.
LARGE, FITTING = 2_000, 10


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(pages_module, "LARGEST_PAGE", FITTING * (LARGE + ENTRY_BYTES) + LARGE // 2)
    monkeypatch.setattr(pages_module, "CHUNK_SIZE", 4 * LARGE)
    monkeypatch.setattr(measurements_module, "CHUNK_SIZE", 4 * LARGE)


@pytest.fixture
def fetched(store, monkeypatch):
    """Return the list of what each query from now on returns, in characters."""
    sizes = []
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        rows = await fetch(query, **parameters)
        texts = [value for row in rows for value in row if isinstance(value, str)]
        sizes.append(sum(map(len, texts)))
        return rows

    monkeypatch.setattr(store.engine, "fetch", fetching)
    return sizes


def numbered(subject, sensor, count, per_time):
    """Return a batch of large rows, each known by its fingerprint."""
    text = "x" * LARGE
    times = [NOON + at // per_time for at in range(count)]
    if subject == "measurements":
        rows = [measurement(sensor, time, text, fingerprint=at) for at, time in enumerate(times)]
        return Batch(measurements=rows)
    if subject == "logs":
        rows = [log(sensor, time, text, fingerprint=at) for at, time in enumerate(times)]
        return Batch(logs=rows)
    rows = [heartbeat(sensor, time, fingerprint=at) for at, time in enumerate(times)]
    return Batch(heartbeats=[(*row[:8], f'{{"x":"{text}"}}') for row in rows])


def numbers(rows):
    return [row.fingerprint for row in rows]


@pytest.mark.parametrize("subject", ["measurements", "logs", "heartbeats"])
@pytest.mark.parametrize("direction", ["next", "previous"])
async def test_pages_end_early_by_bytes_at_the_last_complete_timestamp(
    store, sensor, fetched, subject, direction
):
    await store.write(numbered(subject, sensor, 60, per_time=4))
    table, key, seen = getattr(store, subject), None, []
    # As document 000 has it: on from the last timestamp.
    while page := await table.page(sensor, key=key, direction=direction, limit=1_000):
        assert len(page) == 8 or len(seen) + len(page) == 60
        assert not page.truncated
        assert page.size <= pages_module.LARGEST_PAGE
        seen = seen + numbers(page) if direction == "next" else numbers(page) + seen
        key = page[-1 if direction == "next" else 0].timestamp
    assert seen == list(range(60))
    # Never more at once than a few rows.
    assert max(fetched) <= 8 * (LARGE + 100)


@pytest.mark.parametrize("direction", ["next", "previous"])
async def test_a_timestamp_too_large_for_a_page_is_divided_and_the_cursor_goes_on(
    store, sensor, direction
):
    await store.write(numbered("measurements", sensor, 35, per_time=30))
    forward = direction == "next"
    cursor = (NOON - 1, 0) if forward else (NOON + 9, 0)
    seen, truncated = [], []
    while page := await store.measurements.page(
        sensor, cursor=cursor, direction=direction, limit=1_000
    ):
        truncated.append(page.truncated)
        seen = seen + numbers(page) if forward else numbers(page) + seen
        cursor = page.reached
        if not page.more:
            break
    assert seen == list(range(35))
    # The five of the other time are a page of their own.
    assert truncated == ([True, True, False, False] if forward else [False, True, True, False])


@pytest.mark.parametrize("newer", [True, False])
async def test_history_ends_early_by_bytes_too(store, sensor, newer):
    await store.write(numbered("measurements", sensor, 60, per_time=4))
    seen, cursor = [], None
    while True:
        page = await store.measurements.history(
            sensor, start=NOON, end=NOON + 99, limit=10_000, cursor=cursor, newer=newer
        )
        assert len(page) == 8 or not page.more
        seen = numbers(page) + seen if newer else seen + numbers(page)
        cursor = page.reached
        if not page.more:
            break
    assert seen == list(range(59, -1, -1))


async def test_what_leaves_out_some_looks_at_no_more_bytes(store, sensor, fetched):
    rows = [measurement(sensor, NOON + at, {"n": at, "t": "x" * LARGE}) for at in range(40)]
    await store.write(Batch(measurements=rows))
    page = await store.measurements.page(
        sensor, key=None, direction="next", limit=100, select=having(["n"])
    )
    assert len(page) == 10
    assert page.more
    assert max(fetched) <= 8 * (LARGE + 100)


async def test_what_is_held_grows_with_what_is_read_and_ends_it(store, sensor):
    await store.write(numbered("measurements", sensor, 60, per_time=1))
    held = []

    def hold(size):
        held.append(size)
        if size > 5 * LARGE:
            raise MemoryError

    with pytest.raises(MemoryError):
        await store.measurements.page(sensor, key=None, direction="next", limit=99, hold=hold)
    assert held == sorted(held)
    assert held[-1] <= 8 * (LARGE + ENTRY_BYTES + 2)


async def test_the_newest_values_are_read_a_few_large_ones_at_a_time(store, register, fetched):
    sensors = [(await register()).number for _ in range(20)]
    rows = [measurement(sensor, NOON, "x" * LARGE) for sensor in sensors]
    rows += [measurement(sensor, NOON + 1, {"n": 1}) for sensor in sensors]
    names = [(sensor, name) for sensor in sensors for name in ("n", "value")]
    await store.write(Batch(measurements=rows, attributes=names))
    found = await store.measurements.latest_of(sensors)
    assert found.keys() == set(sensors)
    assert {each.name for each in found[sensors[0]]} == {"n", "value"}
    rows = [measurement(sensor, NOON + 2, "y" * LARGE) for sensor in sensors]
    await store.write(Batch(measurements=rows))
    found = await store.measurements.latest_of(sensors)
    assert all(each[1].value == "y" * LARGE for each in found.values())
    assert max(fetched) <= 8 * (LARGE + 100)


async def test_points_are_read_a_few_large_ones_at_a_time(store, sensor, monkeypatch, fetched):
    monkeypatch.setattr("heliograph.store.points.LARGEST_CHUNK", 4 * LARGE)
    rows = [measurement(sensor, NOON + at, {"n": at, "t": "x" * LARGE}) for at in range(40)]
    await store.write(Batch(measurements=rows))
    found = await store.points.pick(sensor, "n", start=NOON, end=NOON + 99, count=30)
    assert len(found) == 30
    assert bytes(found[0].value) == b'{"n":0}'
    assert max(fetched) <= 8 * (LARGE + 100)


async def test_aggregates_of_logs_are_bounded_by_what_their_subjects_come_to(
    store, sensor, monkeypatch, fetched
):
    monkeypatch.setattr(telemetry_module, "LARGEST_SUBJECTS", 5 * LARGE + 50)
    rows = [log(sensor, NOON + at, f"{at:02}" + "x" * (LARGE - 2)) for at in range(12)]
    await store.write(Batch(logs=[(*row[:7], "warning", *row[8:]) for row in rows]))
    found = await store.logs.aggregates(sensor, start=0, end=NOON + 99)
    # Those last seen.
    assert [each.subject[:2] for each in found] == ["07", "08", "09", "10", "11"]
    assert found.truncated
    assert max(fetched) <= 5 * (LARGE + 100)
    found = await store.logs.aggregates(sensor, start=NOON + 8, end=NOON + 99)
    assert len(found) == 4
    assert not found.truncated
    assert not (await store.logs.aggregates(sensor, start=0, end=1)).truncated


async def test_the_newest_values_of_one_sensor_are_bounded(store, sensor, monkeypatch):
    monkeypatch.setattr(measurements_module, "LARGEST_LATEST", 5 * LARGE)
    monkeypatch.setattr(measurements_module, "LOOKED_THROUGH_BYTES", 9 * LARGE)
    monkeypatch.setattr(measurements_module, "CANDIDATES", 2)
    rows = [measurement(sensor, NOON + at, {f"a{at:02}": "x" * LARGE}) for at in range(20)]
    names = [(sensor, f"a{at:02}") for at in range(20)]
    await store.write(Batch(measurements=rows, attributes=names))
    found = (await store.measurements.latest_of([sensor]))[sensor]
    assert found.truncated
    # Those that have been silent for the shortest time, and one chunk more at most.
    assert [each.name for each in found] == [f"a{at:02}" for at in range(20 - len(found), 20)]
    assert 5 <= len(found) <= 14
    monkeypatch.setattr(measurements_module, "LARGEST_LATEST", 50 * LARGE)
    found = (await store.measurements.latest_of([sensor]))[sensor]
    assert (len(found), found.truncated) == (20, False)

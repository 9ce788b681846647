"""Pages, history and newest values, on both engines."""

import itertools

import pytest

from aggregating import aggregates_of
from heliograph.store import measurements as measurements_module
from heliograph.store import pages as pages_module
from heliograph.store.engine import Batch
from rows import NOON, heartbeat, log, measurement


def keys(rows):
    return [(row.timestamp - NOON, row.fingerprint) for row in rows]


@pytest.fixture
async def spread(store, sensor):
    """The positions of 30 rows: 1 at each of 10 times, 5 at each of 4, all of one sensor."""
    positions = [(at, 1) for at in range(10)]
    positions += [(at, fingerprint) for at in range(10, 14) for fingerprint in range(-2, 3)]
    rows = [
        measurement(sensor, NOON + at, {"a": at}, fingerprint=fingerprint)
        for at, fingerprint in positions
    ]
    # A neighbour's rows must never be seen.
    rows += [measurement(sensor + 1, NOON + at, 0) for at in range(20)]
    await store.write(Batch(measurements=rows[::-1]))
    return positions


async def test_without_a_key_the_newest_page_comes_unless_next_is_wanted(store, sensor, spread):
    page = store.measurements.page
    for direction in (None, "previous"):
        rows = await page(sensor, key=None, direction=direction, limit=5)
        assert keys(rows) == spread[-5:]
    assert keys(await page(sensor, key=None, direction="next", limit=5)) == spread[:5]


async def test_a_page_does_not_end_between_rows_of_one_time(store, sensor, spread):
    page = store.measurements.page
    for limit in (11, 12, 15):
        rows = await page(sensor, key=None, direction="next", limit=limit)
        assert keys(rows) == spread[:15]
    for limit in (1, 4, 5):
        rows = await page(sensor, key=None, direction=None, limit=limit)
        assert keys(rows) == spread[-5:]
    rows = await page(sensor, key=NOON + 13, direction="previous", limit=7)
    assert keys(rows) == [position for position in spread if position[0] in (11, 12)]


async def test_the_key_is_exclusive_and_next_is_its_default(store, sensor, spread):
    page = store.measurements.page
    for direction in (None, "next"):
        rows = await page(sensor, key=NOON + 3, direction=direction, limit=2)
        assert keys(rows) == [(4, 1), (5, 1)]
    rows = await page(sensor, key=NOON + 3, direction="previous", limit=2)
    assert keys(rows) == [(1, 1), (2, 1)]
    assert await page(sensor, key=NOON + 13, direction="next", limit=2) == []
    assert await page(sensor, key=NOON, direction="previous", limit=2) == []


@pytest.mark.parametrize("direction", ["next", "previous"])
async def test_following_the_pages_meets_every_row_once(store, sensor, spread, direction):
    edge = -1 if direction == "next" else 0
    for limit in (1, 3, 7, 100):
        seen, key = [], None
        while rows := await store.measurements.page(
            sensor, key=key, direction=direction, limit=limit
        ):
            seen = seen + keys(rows) if direction == "next" else keys(rows) + seen
            key = rows[edge].timestamp
        assert seen == spread


@pytest.mark.parametrize("direction", ["next", "previous"])
async def test_following_the_exact_cursor_meets_every_row_once(store, sensor, spread, direction):
    edge = -1 if direction == "next" else 0
    for limit in (1, 3, 7, 100):
        seen = []
        cursor = (NOON - 1, 0) if direction == "next" else (NOON + 99, 0)
        while rows := await store.measurements.page(
            sensor, cursor=cursor, direction=direction, limit=limit
        ):
            # As any page it ends between two times.
            times = [time for time, _ in keys(rows)]
            assert not {time for time, _ in seen} & set(times)
            assert len(rows) - times.count(times[edge]) < limit
            seen = seen + keys(rows) if direction == "next" else keys(rows) + seen
            cursor = (rows[edge].timestamp, rows[edge].fingerprint)
        assert seen == spread


async def test_a_page_of_one_time_is_bounded_and_the_cursor_goes_on(store, sensor, monkeypatch):
    monkeypatch.setattr(pages_module, "MAXIMUM_ROWS", 50)
    rows = [measurement(sensor, NOON, 0, fingerprint=at) for at in range(120)]
    await store.write(Batch(measurements=rows))
    for direction, expected in (("next", range(50)), ("previous", range(70, 120))):
        page = await store.measurements.page(sensor, key=None, direction=direction, limit=10)
        assert [row.fingerprint for row in page] == list(expected)
    last = (NOON, 49)
    page = await store.measurements.page(sensor, cursor=last, limit=100)
    assert [row.fingerprint for row in page] == list(range(50, 120))


async def test_logs_and_heartbeats_have_pages_too(store, sensor):
    times = [NOON, NOON + 1, NOON + 1, NOON + 2]
    batch = Batch(
        logs=[log(sensor, time, fingerprint=at) for at, time in enumerate(times)],
        heartbeats=[
            heartbeat(sensor, time, fingerprint=at, success=success)
            for (at, time), success in zip(enumerate(times), (None, True, False, None), strict=True)
        ],
    )
    await store.write(batch)
    for subject in (store.logs, store.heartbeats):
        page = await subject.page(sensor, key=None, direction="next", limit=2)
        assert keys(page) == [(0, 0), (1, 1), (1, 2)]
        page = await subject.page(sensor, key=NOON + 2, direction="previous", limit=1)
        assert keys(page) == [(1, 1), (1, 2)]
        page = await subject.page(sensor, cursor=(NOON + 1, 1), limit=9)
        assert keys(page) == [(1, 2), (2, 3)]
    page = await store.heartbeats.page(sensor, key=None, direction=None, limit=9)
    assert [row.success for row in page] == [None, True, False, None]


async def test_history_is_newest_first_with_start_inclusive_and_end_exclusive(
    store, sensor, spread
):
    history = store.measurements.history
    rows = await history(sensor, start=NOON + 2, end=NOON + 5, limit=100)
    assert keys(rows) == [(4, 1), (3, 1), (2, 1)]
    assert keys(await history(sensor, start=NOON, end=NOON + 99, limit=7)) == spread[:-8:-1]
    assert await history(sensor, start=NOON + 5, end=NOON + 5, limit=7) == []


async def latest(store, sensor):
    return {
        attribute.name: (attribute.timestamp - NOON, attribute.value)
        for attribute in await store.measurements.latest(sensor)
    }


async def write_values(store, sensor, values, attributes):
    rows = [measurement(sensor, NOON + at, value) for at, value in values]
    await store.write(Batch(measurements=rows, attributes=[(sensor, name) for name in attributes]))


async def test_latest_of_many_is_that_of_each(store, sensor, register):
    network = (await store.networks.default()).identifier
    others = [(await register()).number for _ in range(3)]
    await write_values(store, others[0], [(1, {"a": 1}), (2, {"b": 2})], ["a", "b"])
    await write_values(store, others[2], [(3, 5)], ["value"])
    await write_values(store, sensor, [(4, {"a": 4}), (5, {"a": 5})], ["a"])
    asked = [others[2], sensor, others[1], others[0]]
    found = await store.measurements.latest_of(asked)
    assert found.keys() == {others[2], sensor, others[0]}
    for number in asked:
        assert found.get(number, []) == await store.measurements.latest(number)
    assert [each.name for each in found[others[0]]] == ["a", "b"]
    assert await store.measurements.latest_of([]) == {}
    assert await store.sensors.numbers(network, offset=0, limit=9) == ([sensor, *others], 4)
    assert await store.sensors.numbers(network, offset=1, limit=2) == (others[:2], 4)
    assert await store.sensors.numbers(network, offset=9, limit=9) == ([], 4)
    await store.sensors.delete(others[1], NOON)
    assert await store.sensors.numbers(network, offset=2, limit=9) == ([others[2]], 3)


async def test_what_the_newest_rows_of_many_lack_is_looked_for_at_once(
    store, register, monkeypatch
):
    # Of three sensors 16 rows each: longer texts than 20 bytes are not read with them.
    monkeypatch.setattr("heliograph.store.measurements.CHUNK_SIZE", 3 * 16 * 20)
    plain, large, long_ago = [(await register()).number for _ in range(3)]
    await write_values(store, plain, [(1, {"a": 1}), (2, {"a": 2}), (3, {"b": 3})], ["a", "b"])
    hidden = {"a": 2, "t": "x" * 20}
    await write_values(store, large, [(1, {"a": 1}), (2, hidden), (3, {"b": 3})], ["a", "b", "t"])
    values = [(0, {"a": 0}), *((at, {"b": at}) for at in range(1, 20))]
    await write_values(store, long_ago, values, ["a", "b"])
    asked = []
    fetch = store.engine.fetch

    async def noted(query, **parameters):
        asked.append((query, parameters.get("sensor")))
        return await fetch(query, **parameters)

    with monkeypatch.context() as patch:
        patch.setattr(store.engine, "fetch", noted)
        found = await store.measurements.latest_of([plain, large, long_ago])
    assert [query for query, _ in asked[:2]] == ["measurements_newest", "measurements_newest_few"]
    assert {number for _, number in asked[2:]} == {large, long_ago}
    values = {number: {each.name: each.value for each in found[number]} for number in found}
    assert values[plain] == {"a": 2, "b": 3}
    assert values[large] == {"a": 2, "b": 3, "t": "x" * 20}
    assert values[long_ago] == {"a": 0, "b": 19}


async def test_latest_of_a_sensor_without_measurements_is_empty(store, sensor):
    assert await store.measurements.latest(sensor) == []
    assert (await aggregates_of(store).standing(sensor)).newest is None
    await write_values(store, sensor, [(0, {})], [])
    assert await store.measurements.latest(sensor) == []


async def test_latest_is_newest_by_time_and_ties_go_to_the_fingerprint(store, sensor):
    rows = [
        measurement(sensor, NOON + 1, {"a": 1}, fingerprint=5),
        measurement(sensor, NOON + 1, {"a": 2}, fingerprint=9),
        measurement(sensor, NOON + 1, {"a": 3}, fingerprint=-9),
        measurement(sensor, NOON, {"a": 4}, fingerprint=99),
    ]
    await store.write(Batch(measurements=rows, attributes=[(sensor, "a")]))
    assert await latest(store, sensor) == {"a": (1, 2)}
    assert (await aggregates_of(store).standing(sensor)).newest == NOON + 1


NAMES = {
    "a.b": (5, 7),
    r"a\.b": (4, 8),
    r"c\\d": (3, None),
    r"e\.\\.": (2, [1, {"x": 2}]),
    'q"\u00e9\n': (2, "text"),
    "value": (1, 3.5),
    "gone": None,
}


@pytest.mark.parametrize("silence", [0, 100, 20_000])
async def test_latest_finds_attributes_that_have_fallen_silent(store, sensor, silence, monkeypatch):
    if silence == 20_000:
        monkeypatch.setattr(measurements_module, "LOOKED_THROUGH", 24)
        silence = 30
    values = [
        (0, {"a": {"b": 1}}),
        (1, 3.5),
        (2, {"e.\\": {"": [1, {"x": 2}]}, 'q"\u00e9\n': "text"}),
        (3, {"c\\d": None}),
        (4, {"a.b": 8}),
        (5, {"a": {"b": 7}}),
        # Parents and namesakes elsewhere are not the attribute.
        (6, {"a.b": {"x": 1}, "a": [1], "x": {"value": 1, "c\\d": 2}, "s": '"value":1'}),
        (7, [1, {"value": {"a": 1}}, {}][2]),
    ]
    values += [(10 + at, {"other": at}) for at in range(silence)]
    await write_values(store, sensor, values, NAMES)
    expected = {name: found for name, found in NAMES.items() if found is not None}
    assert await latest(store, sensor) == expected


async def test_latest_reads_few_rows_of_what_is_sent_in_parts(store, sensor, monkeypatch):
    values = [(at, {"ab"[at % 2]: at}) for at in range(200)]
    await write_values(store, sensor, values, ["a", "b"])
    fetch, read = store.engine.fetch, []

    async def counted(query, **parameters):
        rows = await fetch(query, **parameters)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(store.engine, "fetch", counted)
    assert await latest(store, sensor) == {"a": (198, 198), "b": (199, 199)}
    assert sum(read) <= 1 + measurements_module.CANDIDATES


async def test_a_candidate_with_only_a_namesake_does_not_end_the_search(store, sensor, monkeypatch):
    monkeypatch.setattr(measurements_module, "LOOKED_THROUGH", 2)
    monkeypatch.setattr(measurements_module, "CANDIDATES", 2)
    values = [(0, {"a": 1}), *[(at, {"b": {"a": at}}) for at in range(1, 40)], (50, "x")]
    await write_values(store, sensor, values, ["a", "value"])
    assert await latest(store, sensor) == {"a": (0, 1), "value": (50, "x")}


async def test_value_is_found_whichever_way_it_was_given(store, sensor, monkeypatch):
    monkeypatch.setattr(measurements_module, "LOOKED_THROUGH", 1)
    for first, second in itertools.permutations((5, {"value": 6})):
        await write_values(store, sensor, [(0, first), (1, second), (9, {"o": 1})], ["value"])
        await write_values(store, sensor, [(8, {"o": 1}), (7, {"o": 1})], ["o"])
        found = await latest(store, sensor)
        assert found["value"][0] == 1
        sensor += 1


async def test_latest_is_one_query_when_the_newest_row_has_everything(store, sensor):
    await write_values(store, sensor, [(at, {"a": at, "b": 2}) for at in range(5)], ["a", "b"])
    fetch, asked = store.engine.fetch, []

    def counting(query, **parameters):
        asked.append(query)
        return fetch(query, **parameters)

    store.measurements._engine = type("Counting", (), {"fetch": staticmethod(counting)})()
    assert await latest(store, sensor) == {"a": (4, 4), "b": (4, 2)}
    assert len(asked) == 1

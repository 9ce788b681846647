"""Packed history: what is read is the same, packed or not, on both engines."""

import asyncio
import itertools
import random
from operator import attrgetter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregating import aggregates_of
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint, telling_text
from heliograph.model.records import Kind
from heliograph.model.time import DAY, HOUR, SECOND
from heliograph.packed import chunk as packing
from heliograph.packed import pieces
from heliograph.packed.head import read_head
from heliograph.rollups.aggregates import Series
from heliograph.rollups.counting import NumberTexts, Work
from heliograph.rollups.task import Rolling
from heliograph.store import chunks as chunks_module
from heliograph.store import measurements as measurements_module
from heliograph.store import packed_repeats
from heliograph.store import stretches as stretches_module
from heliograph.store.chunks import ChangedMeanwhileError, packed_rows
from heliograph.store.engine import Batch
from heliograph.store.measurements import having, measurements_of
from heliograph.store.packed_repeats import PackedRepeats
from heliograph.store.pages import GREATEST, LEAST
from packing_rows import pack_range
from rows import NOON, again, measurement

END = NOON + 1_000
# Rows by (time, fingerprint), with the step in which they come; what is packed after each step.
came = st.dictionaries(
    st.tuples(st.integers(0, 12), st.integers(-2, 2)), st.integers(0, 3), min_size=8, max_size=40
)
spans = st.lists(st.tuples(st.integers(0, 6), st.integers(4, 14)), min_size=4, max_size=4)


def limit_chunks(monkeypatch, rows):
    for module in (packing, chunks_module, pieces):
        monkeypatch.setattr(module, "MAXIMUM_ROWS", rows)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    limit_chunks(monkeypatch, 5)
    monkeypatch.setattr(chunks_module, "_REWRITTEN_AT_ONCE", 1)
    monkeypatch.setattr(stretches_module, "ROWS", 4)
    monkeypatch.setattr(stretches_module, "HEADS", 2)
    monkeypatch.setattr(stretches_module, "_BODIES", 300)


def reading(sensor, at, fingerprint):
    value = {"a": at, "b": fingerprint / 2} | ({"odd": at * fingerprint} if at % 4 == 1 else {})
    return measurement(sensor, NOON + at, value, fingerprint=fingerprint)


async def count_of_rows(store, sensor):
    rows = await store.engine.fetch(
        "chunk_rows", sensor=sensor, start=NOON - 1, end=END, limit=10_000, longest=1
    )
    return len(rows)


async def all_ways(store, sensor):
    """Return what pages say, from every position on, in both directions and any size."""
    found = []
    read = store.measurements
    cursors = [None, *itertools.product((NOON, NOON + 5, NOON + 9), (LEAST, 0))]
    for cursor, direction, limit in itertools.product(cursors, ("next", "previous"), (1, 4, 60)):
        page = await read.page(sensor, cursor=cursor, direction=direction, limit=limit)
        found.append((list(page), page.more, page.reached, page.truncated))
    for start, newer in itertools.product((NOON, NOON + 5), (False, True)):
        page = await read.history(sensor, start=start, end=NOON + 11, limit=7, newer=newer)
        found.append((list(page), page.more, page.reached))
    for count in (3, 8):
        points = await store.points.pick(sensor, "a", start=NOON, end=NOON + 13, count=count)
        found.append((points,))
    return found


async def columns_of(store, sensor, after, *, is_resumed=False):
    """Return rows behind a position as columns have them; what is gone on with is the rest."""
    parts = [each async for each in store.columns.of(sensor, after, NOON + 12, ("odd", "a"))]
    rows = [row for part in parts for row in zip(part.times, *part.values, strict=True)]
    done = 0
    for part in () if is_resumed else parts:
        done += len(part.times)
        assert await columns_of(store, sensor, part.through, is_resumed=True) == rows[done:]
    return rows


async def numbers_of(store, sensor):
    """Return aggregates of buckets of any width, and the newest values."""
    found = []
    for width, names in itertools.product((1, 3, 40), (None, ["b"], ["odd", "a"])):
        starts = range(NOON - 2, NOON + 40, width)
        series = await aggregates_of(store).read(
            sensor, starts, names, start=NOON + 1, end=NOON + 12
        )
        for buckets in series.attributes.values():
            for known in buckets.values():
                known.at = 0  # of the last part that was counted in, however long that was
        found.append((series.rows, series.attributes))
    return found, await store.measurements.latest(sensor)


async def test_pages_are_the_same_packed_or_not(register, store):
    cases = []

    @settings(max_examples=6, database=None)
    @given(came, spans)
    def draw(keys, packs):
        cases.append((keys, packs))

    draw()
    for keys, packs in cases:
        packed, plain = [(await register()).number for _ in range(2)]
        for step, (start, end) in enumerate(packs):
            rows = [
                reading(sensor, *key)
                for sensor in (packed, plain)
                for key, at in keys.items()
                if at == step
            ]
            batch = Batch(measurements=rows)
            batch.sort()
            await store.write(batch)
            await pack_range(store.chunks, packed, NOON + start, NOON + end)
        one, other = await all_ways(store, packed), await all_ways(store, plain)
        assert without_ids(one) == without_ids(other)
        assert await numbers_of(store, packed) == await numbers_of(store, plain)
        for after in ((NOON, LEAST), (NOON + 5, 0)):
            assert await columns_of(store, packed, after) == await columns_of(store, plain, after)


def without_ids(found):
    return [
        ([(row.timestamp, row.fingerprint, bytes(row.value)) for row in rows], *rest)
        for rows, *rest in found
    ]


async def test_rows_become_chunks_but_for_the_newest(store, sensor):
    rows = [reading(sensor, at, 0) for at in range(12)]
    await store.write(Batch(measurements=rows))
    before = await store.measurements.page(sensor, key=0, limit=100)
    assert await pack_range(store.chunks, sensor, NOON, END) == 11
    assert await count_of_rows(store, sensor) == 1
    after = await store.measurements.page(sensor, key=0, limit=100)
    assert list(after) == list(before)
    assert await pack_range(store.chunks, sensor, NOON, END) == 0


async def test_large_values_are_read_as_many_as_a_chunk_takes(store, sensor, monkeypatch):
    rows = [measurement(sensor, NOON + at, "x" * (9 if at % 7 else 60)) for at in range(30)]
    await store.write(Batch(measurements=rows))
    before = await store.measurements.page(sensor, key=0, limit=100)
    for module in (packing, chunks_module):
        monkeypatch.setattr(module, "MAXIMUM_CHARACTERS", 100)
    monkeypatch.setattr(chunks_module, "_FIRST_ROWS", 2)
    read = []

    async def noted(query, **parameters):
        found = await fetch(query, **parameters)
        read.append(sum(len(row[7] or "") for row in found) if query == "chunk_rows" else 0)
        return found

    fetch = store.engine.fetch
    monkeypatch.setattr(store.engine, "fetch", noted)
    assert await pack_range(store.chunks, sensor, NOON, END) == 29
    assert 90 < max(read) <= 100
    assert list(await store.measurements.page(sensor, key=0, limit=100)) == list(before)


async def test_what_comes_while_it_packs_is_not_lost(store, sensor, monkeypatch):
    await store.write(Batch(measurements=[reading(sensor, at, 0) for at in (0, 2, 4, 9)]))
    make = chunks_module.pack

    def slow(rows):
        asyncio.run_coroutine_threadsafe(
            store.write(Batch(measurements=[reading(sensor, 3, 0)])), loop
        ).result(30)
        return make(rows)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(chunks_module, "pack", slow)
    with pytest.raises(ChangedMeanwhileError):
        await pack_range(store.chunks, sensor, NOON, NOON + 9)
    monkeypatch.setattr(chunks_module, "pack", make)
    assert await count_of_rows(store, sensor) == 5
    assert await pack_range(store.chunks, sensor, NOON, NOON + 9) == 4
    page = await store.measurements.page(sensor, key=0, limit=100)
    assert [row.timestamp - NOON for row in page] == [0, 2, 3, 4, 9]


async def test_a_damaged_chunk_is_left_out_and_named_once(store, sensor):
    await store.write(Batch(measurements=[reading(sensor, at, 0) for at in range(12)]))
    await pack_range(store.chunks, sensor, NOON, END)
    [first, *_] = await store.engine.fetch(
        "chunks_between",
        sensor=sensor,
        first=NOON,
        first_fingerprint=0,
        last=NOON,
        last_fingerprint=0,
        limit=1,
    )
    body = bytes(first[6])
    flipped = body[:-3] + bytes((body[-3] ^ 4,)) + body[-2:]

    async def damage(transaction):
        await transaction.fetch("chunk_delete", id=first[0])
        await transaction.fetch(
            "chunk_insert",
            sensor=sensor,
            first=first[1],
            first_fingerprint=first[2],
            last=first[3],
            last_fingerprint=first[4],
            row_count=5,
            first_id=1,
            last_id=2,
            head=bytes(first[5]),
            body=flipped,
        )

    await store.engine.change(damage)
    store.chunks._open.clear()
    for _ in range(2):
        page = await store.measurements.page(sensor, key=0, limit=100)
        assert [row.timestamp - NOON for row in page] == list(range(5, 12))
    assert len(store.chunks.damaged) == 1


async def test_a_repeat_of_what_is_packed_is_dropped(store, sensor):
    rows = [reading(sensor, at, 0) for at in range(12)]
    await store.write(Batch(measurements=rows))
    assert await pack_range(store.chunks, sensor, NOON, END) == 11
    # Repeats among others, one beside a packed row of the same time.
    came = [again(row) for row in rows] + [reading(sensor, 3, 1), reading(sensor, 20, 0)]
    batch = Batch(measurements=list(came))
    batch.sort()
    written = await store.write(batch)
    assert written.duplicates == {
        repeat[0]: row[0] for repeat, row in zip(came, rows, strict=False)
    }
    page = await store.measurements.page(sensor, key=0, limit=100)
    assert [row.id for row in page] == sorted(
        [*(row[0] for row in rows), came[-2][0], came[-1][0]],
        key={row[0]: row[2:4] for row in [*rows, *came]}.get,
    )


async def test_what_is_written_again_after_its_packing_was_accepted(store, sensor):
    """A commit whose end nobody has heard of, and the same rows once more under their ids."""
    rows = [reading(sensor, at, 0) for at in range(12)]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, END)
    assert (await store.write(Batch(measurements=rows))).duplicates == {}
    assert await count_of_rows(store, sensor) == 1
    assert len(await store.measurements.page(sensor, key=0, limit=100)) == 12


async def test_a_repeat_of_what_is_just_being_packed_is_dropped(store, sensor, monkeypatch):
    """It comes after the rows were read, and is written before or after they are deleted."""
    rows = [reading(sensor, at, 0) for at in range(12)]
    await store.write(Batch(measurements=rows))
    replace = chunks_module.replace

    async def crosswise(*arguments, **named):
        writing.append(
            asyncio.run_coroutine_threadsafe(
                store.write(Batch(measurements=[again(row) for row in rows])), loop
            )
        )
        await replace(*arguments, **named)

    loop, writing = asyncio.get_running_loop(), []
    monkeypatch.setattr(chunks_module, "replace", crosswise)
    assert await pack_range(store.chunks, sensor, NOON, END) == 11
    for written in await asyncio.gather(*map(asyncio.wrap_future, writing)):
        assert sorted(written.duplicates.values()) == [row[0] for row in rows]
    assert len(await store.measurements.page(sensor, key=0, limit=100)) == 12


async def test_the_newest_value_of_what_is_silent_is_found_in_chunks(store, sensor, monkeypatch):
    monkeypatch.setattr(measurements_module, "LOOKED_THROUGH", 4)
    monkeypatch.setattr(measurements_module, "CANDIDATES", 2)
    rows = [measurement(sensor, NOON, {"x.y": {"z": 7}, "t": 1}), measurement(sensor, NOON + 1, 5)]
    rows += [measurement(sensor, NOON + at, {"t": at}) for at in range(2, 30)]
    await store.write(
        Batch(
            measurements=rows,
            attributes=[(sensor, name) for name in ("x\\.y.z", "t", "value")],
        )
    )
    plain = await store.measurements.latest(sensor)
    assert [attribute.name for attribute in plain] == ["t", "value", "x\\.y.z"]
    await pack_range(store.chunks, sensor, NOON, END)
    assert await store.measurements.latest(sensor) == plain


async def test_rollups_count_packed_rows(store, register):
    """As after a late row, which has its hour counted anew."""
    packed, plain = [(await register()).number for _ in range(2)]
    for sensor in (packed, plain):
        rows = [reading(sensor, at * 7 * SECOND, 0) for at in range(30)]
        said = [{"mixed": 1}, {"mixed": "2.5"}, {"said": "off"}, {"said": "on"}]
        rows += [
            measurement(sensor, NOON + (40 + at) * SECOND, value) for at, value in enumerate(said)
        ]
        rows.append(measurement(sensor, NOON + 61 * SECOND, {"mixed": "4.5"}))
        await store.write(Batch(measurements=sorted(rows, key=lambda row: row[2:4])))
    await pack_range(store.chunks, packed, NOON, NOON + 100 * SECOND)
    for sensor in (packed, plain):
        await store.write(Batch(measurements=[reading(sensor, 10 * SECOND, 0)]))
    counted = []
    for sensor in (packed, plain):
        works = [Work(sensor, NOON, NOON + HOUR), Work(sensor, NOON + HOUR, NOON + 2 * HOUR)]
        texts = NumberTexts(lambda *_: True)
        rollups, rows = await Rolling(store, unhurried, texts)._counted(works)
        taken = {name: text for (_, name), text in texts.take().items()}
        counted.append(({start: rollup for (_, start), rollup in rollups.items()}, rows, taken))
    assert counted[0] == counted[1]
    assert counted[0][1:] == (36, {"mixed": "4.5"})


async def unhurried():
    """Wait for nobody."""


async def test_a_row_among_packed_ones_that_lack_its_attribute_is_a_point(store, sensor):
    rows = [measurement(sensor, NOON + 2 * at, {"b": at}) for at in range(6)]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, END)
    await store.write(Batch(measurements=[measurement(sensor, NOON + 3, {"a": 7})]))
    found = await store.points.pick(sensor, "a", start=NOON, end=END, count=3)
    assert [row.timestamp for row in found] == [NOON + 3]
    assert store.chunks.damaged == {}


async def test_a_chunk_in_several_spans_is_counted_once(store, sensor):
    """Spans that are too much for one query are halved, and both halves see the chunk."""
    await store.write(Batch(measurements=[reading(sensor, 2 * at, 0) for at in range(20)]))
    await pack_range(store.chunks, sensor, NOON, NOON + 29)
    spans = [(NOON + at, NOON + end) for at, end in ((21, 23), (24, 25), (26, 27), (28, 37))]
    series = Series(range(NOON, NOON + 41, 10), None)
    async with store.raw_reads.begin(sensor) as read:
        await aggregates_of(store)._count_rows(read, series, spans)
    assert series.rows == [0, 0, 4, 4]


async def test_repeats_of_several_chunks_are_found_among_what_is_new(store, sensor):
    rows = [reading(sensor, at, fingerprint) for at in range(0, 24, 2) for fingerprint in (0, 1)]
    await store.write(Batch(measurements=rows))
    assert await pack_range(store.chunks, sensor, NOON, NOON + 22) == 22
    sent = [again(row) for row in rows]
    known = {row[0]: earlier[0] for row, earlier in zip(sent[:22], rows, strict=False)}
    sent += [reading(sensor, at, 2) for at in range(24)]
    # As they come from several devices' queues: in no order.
    repeats, rows = PackedRepeats(), sent[::3] + sent[1::3] + sent[2::3]
    for _ in range(2):
        assert await repeats.find(store.engine.fetch, rows, {}) == known


async def test_times_of_chunks_are_read_once_and_bodies_for_repeats_alone(
    store, sensor, monkeypatch
):
    rows = [reading(sensor, 2 * at, 0) for at in range(24)]
    await store.write(Batch(measurements=rows))
    assert await pack_range(store.chunks, sensor, NOON, NOON + 40) == 20
    read = []

    async def noting(query, **parameters):
        read.append(query)
        return await store.engine.fetch(query, **parameters)

    async def found(came):
        read.clear()
        return list((await repeats.find(noting, came, {})).values())

    repeats = PackedRepeats()
    others = [reading(sensor, 2 * at + 1, 0) for at in range(15)]
    assert await found(others) == []
    assert read == ["chunks_to_search", "chunk_times"]
    # Between the ends of chunks nothing is packed.
    assert await found([reading(sensor, 9, 0)]) == []
    assert read == ["chunks_to_search"]
    assert await found([*others, again(rows[6]), reading(sensor, 14, 3)]) == [rows[6][0]]
    assert read == ["chunks_to_search", "chunks_by_id"]
    # Those that are kept are bounded: the ones that were asked for longest ago go.
    monkeypatch.setattr(packed_repeats, "_KEPT_BYTES", 1_100)
    repeats = PackedRepeats()
    for at, reads in ((1, 2), (11, 2), (1, 1), (21, 2), (1, 1), (11, 2)):
        assert await found([reading(sensor, at, 0)]) == []
        assert len(read) == reads, at


async def test_repeats_are_found_where_times_take_more_than_is_read_of_them(
    store, sensor, monkeypatch
):
    limit_chunks(monkeypatch, 60)
    chosen = random.Random(1)
    times = sorted(chosen.sample(range(20 * DAY), 61))
    rows = [measurement(sensor, NOON - 25 * DAY + time) for time in times]
    await store.write(Batch(measurements=rows))
    [(_, made)] = packed_rows(rows[:60])
    assert read_head(made.head).columns["times"].length > 2 * 60 + 128
    assert await pack_range(store.chunks, sensor, 0, NOON) == 60
    came = [again(row) for row in rows]
    found = await PackedRepeats().find(store.engine.fetch, came, {})
    assert list(found.values()) == [row[0] for row in rows[:60]]


async def test_a_chunk_that_is_made_anew_before_it_is_read_is_found_again(
    store, sensor, monkeypatch
):
    """Another server packs between the statements of a write, or of a reader."""
    rows = [measurement(sensor, NOON, {"once": 1}), *(reading(sensor, at, 0) for at in range(1, 9))]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, NOON + 4)

    async def crosswise(query, **parameters):
        if query == "chunks_by_id" and late:
            await store.write(Batch(measurements=[late.pop()]))
            await pack_range(store.chunks, sensor, NOON, NOON + 4)
        return await fetch(query, **parameters)

    fetch = store.engine.fetch
    monkeypatch.setattr(store.engine, "fetch", crosswise)
    late = [reading(sensor, 1, 1)]
    assert await PackedRepeats().find(crosswise, [again(rows[2])], {}) != {}
    late = [reading(sensor, 1, 2)]
    keys = [row[2:4] for row in rows[:3]]
    assert len(await store.measurements.named(sensor, keys, lambda row: row)) == 3
    late = [reading(sensor, 1, 3)]
    [row] = await store.chunks.newest_with(sensor, ("once",), (GREATEST, GREATEST))
    assert row[0] == rows[0][0]
    assert late == []


async def test_exports_and_activity_have_packed_rows(store, register):
    packed, plain = [await register() for _ in range(2)]
    for sensor in (packed, plain):
        rows = [reading(sensor.number, at, 0) for at in range(23)]
        rows[3] = (*rows[3], "named")
        batch = Batch(measurements=rows)
        batch.sort()
        await store.write(batch)
    await pack_range(store.chunks, packed.number, NOON + 2, END)

    async def exported(sensor, longest):
        found, at = [], (NOON - 1, GREATEST)
        while page := await store.exports.page(
            Kind.MEASUREMENT, sensor.number, at, until=NOON + 20, limit=4, longest=longest
        ):
            found += page
            at = page[-1][:2]
        return found

    for longest in (12, 1_000):
        assert await exported(packed, longest) == await exported(plain, longest)
    assert len(await exported(packed, 1_000)) == 21
    one, other = [
        (await store.measurements.activity(
            sensor.network_identifier, since=NOON, until=NOON + 20, width=10, limit=10
        ))
        for sensor in (packed, plain)
    ]  # fmt: skip
    counts = {each.identifier: each.counts for each in (*one, *other)}
    assert counts[plain.identifier] == [10, 10]
    assert sum(counts[packed.identifier]) == 20


async def test_a_packed_row_is_the_newest_received(store, sensor):
    await store.write(Batch(measurements=[reading(sensor, 99, 0)]))
    late = reading(sensor, 1, 0)
    await store.write(Batch(measurements=[late]))
    await pack_range(store.chunks, sensor, NOON, END)
    assert await count_of_rows(store, sensor) == 1
    assert (await store.newest())[0] == late[0]


async def test_what_has_just_come_is_not_packed(store, sensor):
    rows = [reading(sensor, at, 0) for at in range(4)]
    await store.write(Batch(measurements=rows))
    with pytest.raises(ChangedMeanwhileError):
        await pack_range(store.chunks, sensor, NOON, END, before=rows[2][0])
    assert await count_of_rows(store, sensor) == 4


async def test_faults_name_what_is_damaged(store, sensor, engine):
    await store.write(Batch(measurements=[reading(sensor, at, 0) for at in range(12)]))
    await pack_range(store.chunks, sensor, NOON, END)
    assert await store.chunks.faults(30) == []
    text = "x'00'" if engine == "sqlite" else "'\\x00'"
    sql = f"UPDATE chunk SET body = {text} WHERE id = (SELECT min(id) FROM chunk)"
    if engine == "sqlite":
        await store.engine._run(lambda: store.engine._writer.open().execute(sql).fetchall())
    else:
        await (await store.engine.writer.open()).execute(sql)
    [fault] = await store.chunks.faults(30)
    assert f"of sensor {sensor}: " in fault


@pytest.mark.parametrize("for_a_point", [1, 8])
async def test_points_of_many_packed_rows_have_both_ends_and_what_stands_out(
    store, sensor, monkeypatch, for_a_point
):
    """By the heads of chunks, or by a few numbers of each."""
    monkeypatch.setattr("heliograph.store.packed_points.HELD", 10)
    monkeypatch.setattr("heliograph.store.packed_points._FOR_A_POINT", for_a_point)
    numbers = {at: at % 3 for at in range(2, 90)} | {31: 500, 58: -500}
    rows = [measurement(sensor, NOON + at, {"a": a}) for at, a in numbers.items()]
    # At the beginning, among packed rows and at the end some are without the attribute.
    rows += [measurement(sensor, NOON + at, {"b": 1}) for at in (0, 1, 40, 41, 42, 90, 91, 92)]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, END)
    late = measurement(sensor, NOON + 50, {"a": 700}, fingerprint=1)
    await store.write(Batch(measurements=[late]))
    picked = await store.points.pick(sensor, "a", start=NOON - 5, end=END, count=7)
    assert len(picked) == 7
    times = [row.timestamp - NOON for row in picked]
    assert (times[0], times[-1]) == (2, 89)
    assert {31, 50, 58} <= set(times)
    known = {(row[2], row[0]): row[7] for row in [*rows, late]}
    assert all(known[row.timestamp, row.id].encode() == bytes(row.value) for row in picked)
    # A part of two chunks.
    picked = await store.points.pick(sensor, "a", start=NOON + 29, end=NOON + 33, count=9)
    assert [row.timestamp - NOON for row in picked] == [29, 30, 31, 32]


async def test_a_boolean_of_which_a_head_tells_is_shown_as_what_it_was(store, sensor, monkeypatch):
    """Heads have 0 and 1."""
    monkeypatch.setattr("heliograph.store.packed_points.HELD", 10)
    monkeypatch.setattr("heliograph.store.packed_points._FOR_A_POINT", 1)
    rows = [measurement(sensor, NOON + at, {"a": at == 22}) for at in range(40)]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, NOON + 35)
    picked = await store.points.pick(sensor, "a", start=NOON, end=END, count=5)
    shown = {row.timestamp - NOON: bytes(row.value) for row in picked}
    assert shown[22] == b'{"a":true}'
    assert {*shown.values()} == {b'{"a":true}', b'{"a":false}'}


NUMBERS = [
    [20.25, 0.1, -3.5, 7.0],
    [20.25, 1, -3, 7.0, True],
    [True, False, False],
    [1, 0, 5, -4],
    [1 << 60, 3, (1 << 60) + 1],
    [1e300, 5e-324, -0.0, 3],
    [1.5, "off", True, 4],
]
WRAPPED = [
    ("value", lambda number: number),
    ("value", lambda number: {"value": number} if number != 7 else 7.5),
    (r"a\.b.c", lambda number: {"a.b": {"c": number, "d": 0}}),
]
KINDS_OF_POINTS = [
    *[("a", lambda number: {"a": number, "b": 1}, each) for each in NUMBERS],
    *[(*wrapped, each) for wrapped in WRAPPED for each in NUMBERS[:2]],
]


@pytest.mark.parametrize("held", [1 << 18, 20])
async def test_points_of_packed_rows_are_what_came(register, store, monkeypatch, held):
    monkeypatch.setattr("heliograph.store.packed_points.HELD", held)
    monkeypatch.setattr("heliograph.store.packed_points._FOR_A_POINT", 1)
    for name, wrap, numbers in KINDS_OF_POINTS:
        sensor = (await register()).number
        rows = []
        for at in range(40):
            value, revision = wrap(numbers[at * at % len(numbers)]), at // 20 or None
            text = telling_text(value, canonical(value))
            fingerprint = measurement_fingerprint(revision, text)
            row = measurement(sensor, NOON + at, value, fingerprint=fingerprint, receipt=NOON + at)
            rows.append((*row[:5], revision, *row[6:]))
        await store.write(Batch(measurements=rows))
        await pack_range(store.chunks, sensor, NOON, NOON + 35)
        late = measurement(sensor, NOON + 3, wrap(4.5), fingerprint=1)
        await store.write(Batch(measurements=[late]))
        rows.append(late)
        whole = measurements_of([(row[0], *row[2:6], row[7], 0) for row in rows])
        known = {row.id: row for row in map(having([name]), whole)}
        assert not store.chunks.damaged
        # If so few are held: from heads, from a few numbers of each chunk, from all.
        for count in (5, 20, 41):
            picked = await store.points.pick(sensor, name, start=NOON, end=END, count=count)
            assert len(picked) == count or "off" in numbers or held < 41
            assert picked == sorted(picked, key=attrgetter("timestamp"))
            for row in picked:
                came = known[row.id]
                assert row == msgspec.structs.replace(came, fingerprint=row.fingerprint)


async def test_chunks_that_go_while_they_are_read_are_read_anew(store, sensor, monkeypatch):
    """Between the statement that finds their heads and the one that reads their bodies."""
    rows = [measurement(sensor, NOON + at, {"a": at}) for at in range(40)]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, END)
    fetch, late = store.engine.fetch, [measurement(sensor, NOON + 12, {"a": 900}, fingerprint=1)]

    async def fetching(query, **parameters):
        if query == between and late:
            await store.write(Batch(measurements=[late.pop()]))
            # It makes the chunk anew, under another id.
            await pack_range(store.chunks, sensor, NOON, END)
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", fetching)
    between = "chunk_bodies"
    starts = [NOON - 1, NOON + 13, NOON + 100]
    series = await aggregates_of(store).read(sensor, starts, ["a"], start=starts[0], end=starts[2])
    assert not late
    assert series.rows == [14, 27]
    assert [known.maximum for known in series.attributes["a"].values()] == [900, 39]
    # Between the choice of the points and the reading of their rows.
    between = "chunks_by_id"
    late.append(measurement(sensor, NOON + 22, {"a": 800}, fingerprint=1))
    picked = await store.points.pick(sensor, "a", start=NOON, end=END, count=100)
    assert not late
    assert len(picked) == 42


async def test_no_chunk_is_longer_than_a_month(store, sensor):
    """Repeats are looked for among chunks that end so soon after them at most."""
    times = [0, 20 * DAY, 31 * DAY, 31 * DAY + 1, 80 * DAY]
    rows = [measurement(sensor, NOON - 90 * DAY + at, 1) for at in times]
    await store.write(Batch(measurements=rows))
    assert await pack_range(store.chunks, sensor, 0, NOON) == 4
    assert (await store.write(Batch(measurements=[again(row) for row in rows]))).duplicates
    page = await store.measurements.page(sensor, key=0, limit=100)
    assert [row.id for row in page] == [row[0] for row in rows]
    spans = await store.engine.fetch(
        "chunk_heads_before", sensor=sensor, timestamp=NOON, fingerprint=0, limit=9
    )
    assert len(spans) == 2


def test_chunks_are_read_as_many_bytes_at_a_time_as_fit_but_one_at_least():
    megabyte = 1 << 20
    lengths = [(1, megabyte), (2, megabyte), (3, 1), (4, 9 * megabyte), (5, megabyte)]
    assert list(chunks_module.read_together(lengths)) == [[1, 2], [3], [4], [5]]
    small = [(number, 100) for number in range(300)]
    assert [len(group) for group in chunks_module.read_together(small)] == [128, 128, 44]
    assert list(chunks_module.read_together([])) == []

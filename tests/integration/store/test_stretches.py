"""Values are read a bounded number of bytes at a time, however large they are."""

import random

import pytest

from heliograph.model.time import DAY, HOUR, SECOND
from heliograph.store import pages as pages_module
from heliograph.store import stretches as stretches_module
from heliograph.store.engine import Batch
from heliograph.store.pages import LEAST
from heliograph.store.stretches import Stretches
from packing_rows import pack_range
from rows import NOON, measurement

# Characters of values: most are small, some are more than a chunk of several may have.
SIZES = {
    "small": [1],
    "large": [900],
    "mixed": [1, 1, 1, 20, 150, 900],
    "rarely large": [1] * 60 + [900],
}


async def stretches_of(store, sensor, start, end):
    """Yield the rows of each stretch."""
    stretches = Stretches(store.engine, store.chunks, sensor, None)
    async for stretch, _ in stretches.between((start, LEAST), end):
        yield stretch.rows


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
async def test_every_value_comes_in_order_and_few_large_ones_together(
    store, sensor, monkeypatch, sizes
):
    monkeypatch.setattr(stretches_module, "_CHUNK_SIZE", 2_000)
    monkeypatch.setattr(stretches_module, "ROWS", 40)
    monkeypatch.setattr(stretches_module, "FEW", 2)
    monkeypatch.setattr(pages_module, "FEW", 2)
    pick = random.Random(1)
    # Two at a time, so that chunks end between rows of one time.
    rows = [
        measurement(sensor, NOON + at // 2 * SECOND, f"{at}" + "x" * pick.choice(sizes))
        for at in range(300)
    ]
    await store.write(Batch(measurements=rows))
    start, end = NOON + 3 * SECOND, NOON + 140 * SECOND
    fetched = []
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        found = await fetch(query, **parameters)
        fetched.append(sum(len(row[2] or "") for row in found))
        return found

    monkeypatch.setattr(store.engine, "fetch", fetching)
    chunks = [chunk async for chunk in stretches_of(store, sensor, start, end)]
    assert all(chunks[:-1])
    assert max(fetched) <= 2_000
    wanted = sorted((row[2], row[3], row[7]) for row in rows if start <= row[2] < end)
    assert [tuple(row[:3]) for chunk in chunks for row in chunk] == wanted
    # Not row by row where they are small.
    if sizes == [1]:
        assert len(chunks) == len(wanted) // 40 + 1


async def test_nothing_comes_of_an_empty_range(store, sensor):
    assert [rows async for rows in stretches_of(store, sensor, NOON, NOON)] == [[]]


async def test_chunks_of_a_long_span_are_read_once_beside_short_ones(store, sensor, monkeypatch):
    monkeypatch.setattr(stretches_module, "HEADS", 2)
    hours = range(6 * 24)
    rows = [measurement(sensor, NOON + at * HOUR, {"a": at}) for at in hours]
    await store.write(Batch(measurements=rows))
    for day in range(1, 5):
        await pack_range(store.chunks, sensor, NOON + day * DAY, NOON + (day + 1) * DAY)
    spans = [
        (NOON, NOON + HOUR),
        (NOON + 2 * HOUR, NOON + 3 * HOUR),
        (NOON + DAY, NOON + 5 * DAY),
        (NOON + 5 * DAY + HOUR, NOON + 5 * DAY + 2 * HOUR),
    ]
    heads = []
    fetch = store.engine.fetch

    async def fetching(query, **parameters):
        found = await fetch(query, **parameters)
        if query in ("measurements_stretch", "measurements_stretches"):
            heads.extend(row[3] for row in found if row[3] is not None)
        return found

    monkeypatch.setattr(store.engine, "fetch", fetching)
    stretches = Stretches(
        store.engine, store.chunks, sensor, lambda _, chunk: chunk.head.needed(["a"])
    )
    found = []
    async for among, stretch, opened in stretches.of(spans):
        for part in stretch.parts(opened, []):
            times = (
                [row[0] for row in part.rows]
                if part.packed is None
                else part.packed.times_between(part.first, part.last)
            )
            found += [time for time in times if any(start <= time < end for start, end in among)]
    wanted = [time for start, end in spans for time in range(start, end, HOUR)]
    assert found == wanted
    assert len(heads) == len(set(heads)) == 4

"""Values are read a bounded number of bytes at a time, however large they are."""

import random

import pytest

from heliograph.model.time import SECOND
from heliograph.rollups import value_chunks as value_chunks_module
from heliograph.rollups.value_chunks import value_chunks
from heliograph.store import pages as pages_module
from heliograph.store.engine import Batch
from rows import NOON, measurement

# Characters of values: most are small, some are more than a chunk of several may have.
SIZES = {
    "small": [1],
    "large": [900],
    "mixed": [1, 1, 1, 20, 150, 900],
    "rarely large": [1] * 60 + [900],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
async def test_every_value_comes_in_order_and_few_large_ones_together(
    store, sensor, monkeypatch, sizes
):
    monkeypatch.setattr(value_chunks_module, "CHUNK_SIZE", 2_000)
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
    chunks = [chunk async for chunk in value_chunks(store.engine, sensor, start, end, 40)]
    assert all(chunks)
    assert max(fetched) <= 2_000
    wanted = sorted((row[2], row[3], row[7]) for row in rows if start <= row[2] < end)
    assert [tuple(row[:3]) for chunk in chunks for row in chunk] == wanted
    # Not row by row where they are small.
    if sizes == [1]:
        assert len(chunks) == len(wanted) // 40 + 1


async def test_nothing_comes_of_an_empty_range(store, sensor):
    assert [chunk async for chunk in value_chunks(store.engine, sensor, NOON, NOON, 9)] == []

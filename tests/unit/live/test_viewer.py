"""A viewer's queue: bounded, the oldest lost and counted, in order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.live.viewer import Chunk, Viewer


def chunk(*ids, size=10):
    return Chunk([b"%0*d" % (size, row_id) for row_id in ids], ids)


async def taken(viewer):
    """Take everything; return the ids, and how many events were lost."""
    ids, lost = [], 0
    viewer.close("end")
    while True:
        dropped, chunks = await viewer.take()
        lost += dropped
        if not chunks:
            return ids, lost
        ids += [row_id for each in chunks for row_id in each.ids]


@given(st.lists(st.integers(1, 9)), st.integers(1, 30), st.integers(1, 300))
def test_what_is_not_taken_is_counted_as_lost(sizes, maximum_events, maximum_bytes):
    viewer = Viewer(maximum_events=maximum_events, maximum_bytes=maximum_bytes)
    expected, newest = [], 0
    for size in sizes:
        ids = list(range(newest, newest + size))
        newest += size
        expected += ids
        viewer.push(chunk(*ids))
    ids, lost = asyncio.run(taken(viewer))
    # A suffix is left, in order, and never more than the bound beside the newest chunk.
    assert ids == expected[lost:]
    assert len(ids) <= max(maximum_events, sizes[-1] if sizes else 0)
    assert len(ids) * 10 <= max(maximum_bytes, (sizes[-1] if sizes else 0) * 10)
    assert not sizes or ids


async def test_taking_waits_for_what_comes():
    viewer = Viewer()
    task = asyncio.create_task(viewer.take())
    await asyncio.sleep(0)
    assert not task.done()
    viewer.push(chunk(1))
    viewer.push(chunk(2))
    dropped, chunks = await asyncio.wait_for(task, 60)
    assert (dropped, [each.ids for each in chunks]) == (0, [(1,), (2,)])


async def test_closing_wakes_and_gives_what_is_queued_first():
    viewer = Viewer()
    viewer.push(chunk(1))
    viewer.close("end")
    assert (await viewer.take())[1]
    assert await viewer.take() == (0, [])
    waiting = Viewer()
    task = asyncio.create_task(waiting.take())
    await asyncio.sleep(0)
    waiting.close("end")
    assert await asyncio.wait_for(task, 60) == (0, [])


@given(st.lists(st.lists(st.integers(0, 20), min_size=1)), st.sets(st.integers(0, 20)))
def test_what_has_been_sent_is_forgotten(queued, seen):
    viewer = Viewer()
    for ids in queued:
        viewer.push(chunk(*ids))
    viewer.forget(frozenset(seen))
    ids, lost = asyncio.run(taken(viewer))
    assert ids == [row_id for each in queued for row_id in each if row_id not in seen]
    assert lost == 0


@pytest.mark.parametrize("lost", [1, 7])
async def test_how_many_were_lost_is_told_once(lost):
    viewer = Viewer(maximum_events=1)
    for row_id in range(lost + 1):
        viewer.push(chunk(row_id))
    assert (await viewer.take())[0] == lost
    viewer.push(chunk(99))
    assert (await viewer.take())[0] == 0

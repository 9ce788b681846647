"""A viewer's queue: bounded, the oldest lost and counted, in order."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.live.viewer import Chunk, Outlet, Viewer, push_to_all


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


@given(st.lists(st.sampled_from(["event", "paused", "ready", "turn"]), max_size=60))
def test_past_the_queue_or_through_it_all_comes_once_and_in_order(steps):
    """Whether the client keeps up changes at any moment; `turn`: the viewer's task runs."""

    async def scenario():
        viewer, written, pushed = Viewer(), [], 0
        viewer.outlet = Outlet(written.extend, lambda chunk: chunk.ids)

        async def run():
            while True:
                lost, chunks = await viewer.take()
                if not chunks:
                    return
                assert not lost
                await asyncio.sleep(0)  # as `send` may, while more is pushed
                written.extend(row_id for each in chunks for row_id in each.ids)

        task = asyncio.create_task(run(), name="viewer")
        for step in steps:
            if step == "event":
                push = viewer.push if pushed % 2 else lambda c: push_to_all([viewer], c, 1.0)
                push(chunk(pushed))
                pushed += 1
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                viewer.outlet.ready = step == "ready"
        viewer.close("end")
        await asyncio.wait_for(task, 30)
        assert written == list(range(pushed))

    asyncio.run(scenario())


@pytest.mark.parametrize("to_all", [False, True])
async def test_who_has_nothing_to_write_is_written_to_at_once(to_all):
    viewer, written = Viewer(), []
    viewer.outlet = Outlet(written.append, lambda chunk: chunk.ids)
    push = (lambda c: push_to_all([viewer], c, 1.0)) if to_all else viewer.push
    push(chunk(0))  # nobody has begun to write: it waits
    task = asyncio.create_task(viewer.take())
    assert (await asyncio.wait_for(task, 30))[1][0].ids == (0,)
    push(chunk(1))  # what was taken last may not be written yet
    assert (await viewer.take())[1][0].ids == (1,)
    task = asyncio.create_task(viewer.take())
    await asyncio.sleep(0)
    push(chunk(2))
    push(chunk(3))
    assert written == [(2,), (3,)]
    viewer.close("end")
    push(chunk(4))
    assert written == [(2,), (3,)]
    assert (await asyncio.wait_for(task, 30))[1][0].ids == (4,)

"""How many raw rows are read, and by how many at a time."""

import asyncio

import pytest

from heliograph.store import measurements
from heliograph.store.measurements import RangeTooLargeError, RawReads


async def test_rows_of_all_spans_are_counted_together(monkeypatch):
    monkeypatch.setattr(measurements, "MAXIMUM_RAW_ROWS", 9)
    async with RawReads(None).begin(1) as read:
        await read.note(5)
        await read.note(4)
        with pytest.raises(RangeTooLargeError, match="9 measurements"):
            await read.note(1)


async def test_a_read_that_fails_or_is_cancelled_gives_its_turn_back(monkeypatch):
    monkeypatch.setattr(measurements, "LARGE_READ", 5)
    reads = RawReads(None)

    async def large(then):
        async with reads.begin(1) as read:
            await read.note(5)
            await read.note(5)
            await then()

    async def fail():
        raise ZeroDivisionError

    turns = measurements.LARGE_READS_AT_ONCE
    forever = [asyncio.create_task(large(asyncio.Event().wait)) for _ in range(turns)]
    waiting = asyncio.create_task(large(fail))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    forever[0].cancel()
    for _ in range(2 * turns):
        with pytest.raises(ZeroDivisionError):
            await waiting
        waiting = asyncio.create_task(large(fail))
    for task in (waiting, *forever):
        task.cancel()
    await asyncio.gather(waiting, *forever, return_exceptions=True)

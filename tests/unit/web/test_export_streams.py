"""Exports beside each other and beside ingest."""

import asyncio

import pytest

from heliograph.web import export_streams
from heliograph.web.export_streams import ExportSlots, in_turn

SECONDS = 2.0


@pytest.fixture
async def clock(monkeypatch):
    """Make time pass only for pages, of so many seconds each; return what was waited."""
    loop, waited = asyncio.get_running_loop(), []
    now = 0.0

    async def pages():
        nonlocal now
        for number in range(3):
            now += SECONDS
            yield number

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(export_streams.asyncio, "sleep", sleep)
    return pages, waited


@pytest.mark.parametrize(
    ("running", "busy", "expected"),
    [
        pytest.param(1, True, [SECONDS] * 3, id="alone"),
        pytest.param(2, True, [SECONDS * 2] * 3, id="of two"),
        pytest.param(4, True, [export_streams.LONGEST_TURN_SECONDS] * 3, id="of four"),
        pytest.param(2, False, [], id="with nothing to be ingested"),
    ],
)
async def test_while_ingest_is_busy_exports_wait_as_long_as_all_of_them_work(
    clock, running, busy, expected
):
    pages, waited = clock
    slots = ExportSlots()
    for name in range(running):
        slots.take(name)
    assert [page async for page in in_turn(pages(), slots, lambda: busy)] == [0, 1, 2]
    assert waited == expected


async def test_pages_are_closed_with_the_export():
    closed = False

    async def pages():
        nonlocal closed
        try:
            while True:
                yield 1
        finally:
            closed = True

    turns = in_turn(pages(), ExportSlots(), lambda: True)
    assert await anext(turns) == 1
    await turns.aclose()
    assert closed

"""Exports beside each other, beside ingest, and at the end of the server."""

import asyncio
import contextlib

import pytest

from heliograph.http import exports
from heliograph.http.exports import ExportResponse, ExportSlots, in_turn
from heliograph.ingest.state import PipelineState

SECONDS = 2.0


@pytest.fixture
async def clock(monkeypatch):
    """Make time pass only for pages, of so many seconds each; return what was waited."""
    loop, waited = asyncio.get_running_loop(), []
    now = 0.0

    async def pages(ingest, commits):
        nonlocal now
        for number in range(3):
            now += SECONDS
            ingest.commits_total += commits
            yield number

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(exports.asyncio, "sleep", sleep)
    return pages, waited


@pytest.mark.parametrize(
    ("running", "waiting", "commits", "expected"),
    [
        pytest.param(1, 5, 0, [SECONDS] * 3, id="alone"),
        pytest.param(2, 5, 0, [SECONDS * 2] * 3, id="of two"),
        pytest.param(4, 5, 0, [exports.LONGEST_TURN_SECONDS] * 3, id="of four"),
        pytest.param(1, 0, 1, [SECONDS] * 3, id="with a commit meanwhile"),
        pytest.param(2, 0, 0, [], id="with nothing to be ingested"),
    ],
)
async def test_while_ingest_is_busy_exports_wait_as_long_as_all_of_them_work(
    clock, running, waiting, commits, expected
):
    pages, waited = clock
    slots, ingest = ExportSlots(), PipelineState(depth=waiting, commits_total=7)
    with contextlib.ExitStack() as stack:
        for name in range(running):
            stack.enter_context(slots.taken(name))
        assert [page async for page in in_turn(pages(ingest, commits), slots, ingest)] == [0, 1, 2]
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

    turns = in_turn(pages(), ExportSlots(), PipelineState())
    assert await anext(turns) == 1
    await turns.aclose()
    assert closed


@pytest.mark.parametrize("is_ending", [True, False])
async def test_what_the_server_s_end_cuts_off_is_no_failure(is_ending):
    closed, stalled, sent = asyncio.Event(), asyncio.Event(), []

    async def pieces():
        try:
            while True:
                yield b"row"
        finally:
            closed.set()

    async def send(message):
        sent.append(message)
        if len(sent) > 3:
            stalled.set()
            await asyncio.Event().wait()

    rows = pieces()
    response = ExportResponse(await anext(rows), rows, {}, lambda: is_ending)
    answering = asyncio.create_task(response({}, asyncio.Event().wait, send))
    await stalled.wait()
    answering.cancel()
    (outcome,) = await asyncio.gather(answering, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError) is not is_ending
    assert closed.is_set()
    # The client sees that there is no last piece.
    assert sent[-1]["more_body"]

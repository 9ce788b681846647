"""The end's budget: who is quick leaves time to the others, who is slow is left alone."""

import asyncio

from heliograph.ending import Ending


async def test_a_stage_that_hangs_is_left_alone_in_time_for_the_next():
    end = Ending(0.1)
    end.begin()
    assert not await end.stage("hangs", asyncio.Event().wait(), until=0.5)
    assert end.left() > 0.01
    assert await end.stage("quick", asyncio.sleep(0), until=0.9)
    assert end.unfinished == ["hangs"]


async def test_a_stage_that_does_not_let_go_is_not_waited_for():
    end, free = Ending(0.05), asyncio.Event()

    async def stubborn():
        with_nothing = asyncio.shield(asyncio.ensure_future(free.wait()))
        try:
            await with_nothing
        except asyncio.CancelledError:
            await free.wait()

    end.begin()
    assert not await end.stage("stubborn", stubborn(), until=0.5)
    free.set()


async def test_a_stage_that_fails_lets_the_others_be(caplog):
    end = Ending(10)

    async def fail():
        raise ValueError

    assert not await end.stage("fails", fail(), until=0.5)
    assert await end.stage("goes on", asyncio.sleep(0), until=0.6)
    assert end.unfinished == []


async def test_the_clock_starts_once():
    end = Ending(10)
    assert end.left() == 10
    assert end.begin()
    assert not end.begin()
    assert end.left(0.5) < 5

"""The budget of a shutdown: a quick stage leaves time to the others, a slow one is abandoned."""

import asyncio

from heliograph.shutdown import Shutdown


async def nothing():
    await asyncio.sleep(0)


async def test_a_stage_that_hangs_is_abandoned_in_time_for_the_next():
    shutdown = Shutdown(60)
    shutdown.begin()
    assert not await shutdown.stage("hangs", asyncio.Event().wait, until=0.001)
    assert shutdown.left() > 1
    assert await shutdown.stage("quick", nothing, until=0.9)
    assert shutdown.unfinished == ["hangs"]


async def test_a_stage_that_does_not_let_go_is_not_waited_for():
    shutdown, free = Shutdown(0.05), asyncio.Event()

    async def stubborn():
        with_nothing = asyncio.shield(asyncio.ensure_future(free.wait()))
        try:
            await with_nothing
        except asyncio.CancelledError:
            await free.wait()

    shutdown.begin()
    assert not await shutdown.stage("stubborn", stubborn, until=0.5)
    free.set()


async def test_a_stage_that_fails_lets_the_others_be(caplog):
    shutdown = Shutdown(10)

    async def fail():
        raise ValueError

    assert not await shutdown.stage("fails", fail, until=0.5)
    assert await shutdown.stage("goes on", nothing, until=0.6)
    assert shutdown.unfinished == []


async def test_the_clock_starts_once():
    shutdown = Shutdown(10)
    assert shutdown.left() == 10
    assert shutdown.begin()
    assert not shutdown.begin()
    assert shutdown.left(0.5) < 5

"""In which order turns at the writer are given."""

import asyncio

import pytest

from heliograph.store.sqlite import AHEAD_OF_A_BATCH, WriterTurns


class Line:
    """Who stands in line for turns, and the order in which they had theirs."""

    def __init__(self):
        self.turns, self.had, self.tasks = WriterTurns(), [], {}

    async def stand(self, name, *, batch=False):
        async def have():
            async with self.turns.turn(batch=batch):
                self.had.append(name)
                await asyncio.sleep(0)

        self.tasks[name] = asyncio.create_task(have())
        await asyncio.sleep(0)

    async def end(self):
        async with asyncio.timeout(10):
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return self.had


async def test_a_batch_waits_for_few_others_who_keep_their_order():
    line = Line()
    others = [f"other {n}" for n in range(AHEAD_OF_A_BATCH + 3)]
    async with line.turns.turn():
        for name in others:
            await line.stand(name)
        await line.stand("batch", batch=True)
        await line.stand("last")
    expected = [*others[:AHEAD_OF_A_BATCH], "batch", *others[AHEAD_OF_A_BATCH:], "last"]
    assert await line.end() == expected


async def test_a_batch_passes_nobody_where_few_wait():
    line = Line()
    async with line.turns.turn():
        await line.stand("other")
        await line.stand("batch", batch=True)
        await line.stand("last")
    assert await line.end() == ["other", "batch", "last"]


@pytest.mark.parametrize("is_given", [False, True])
async def test_who_gives_up_loses_nobody_the_turn(is_given):
    line = Line()
    async with line.turns.turn():
        for name in ("first", "second"):
            await line.stand(name)
        if not is_given:
            line.tasks["first"].cancel()
            await asyncio.sleep(0)
    if is_given:
        line.tasks["first"].cancel()
    assert await line.end() == ["second"]
    async with asyncio.timeout(10), line.turns.turn():
        pass


async def test_all_who_wait_may_give_up_while_the_turn_ends():
    """As they do when the server stops: each is cancelled, and no error takes the place of that."""
    line = Line()
    async with line.turns.turn():
        for name in ("first", "second"):
            await line.stand(name)
        for task in line.tasks.values():
            task.cancel()
    assert await line.end() == []
    assert [task.cancelled() for task in line.tasks.values()] == [True, True]
    async with asyncio.timeout(10), line.turns.turn():
        pass

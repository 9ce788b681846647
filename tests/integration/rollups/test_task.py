"""The task that keeps the rollups going, over a store."""

import asyncio
import contextlib
import uuid

import pytest

from aggregating import aggregates_of
from heliograph.errors import StoreUnavailableError
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.state import PipelineState
from heliograph.model.time import DAY, HOUR, MINUTE, now
from heliograph.rollups import task as task_module
from heliograph.rollups.task import STEP, RollupTask
from heliograph.store.duties import Duty, DutyName
from heliograph.store.engine import LAG, Batch
from rows import measurement

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

NO_TEXTS = NewAttributes(lambda _number: None, now)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(task_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(task_module, "LONGEST_RETRY_SECONDS", 0.02)


@contextlib.asynccontextmanager
async def running(store):
    task = RollupTask(store, PipelineState(), NO_TEXTS)
    run = asyncio.create_task(task.run(), name="rollups")
    try:
        async with asyncio.timeout(60):
            yield task
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    assert run.cancelled()


async def until(condition):
    while not await condition():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


async def sensor_of(store):
    return (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number


async def test_it_rolls_up_what_comes_and_what_came_late(store):
    sensor = await sensor_of(store)
    moment = now()
    # Some behind the frontier, which the migration has put an hour or two ago, some before.
    late = [measurement(sensor, moment - DAY + at * MINUTE, at) for at in range(50)]
    rows = [measurement(sensor, moment - 50 * MINUTE + at * MINUTE, at) for at in range(50)]
    await store.write(Batch(measurements=late + rows))
    async with running(store) as task:

        async def done():
            standing = await aggregates_of(store).standing(sensor)
            return standing.frontier > moment - LAG - STEP and not standing.dirty

        await until(done)
        start, end = moment - 2 * DAY, moment + HOUR
        series = await aggregates_of(store).read(sensor, [start, end], None, start=start, end=end)
        assert series.rows == [100]
        assert series.attributes["value"][0].total == sum(range(50)) * 2

        async def told():
            return task.state.frontier is not None and task.state.marks == 0

        await until(told)
        assert 0 < task.state.lag_seconds(now()) < 1_000
        assert task.state.stored_total >= 2
        # What comes late now is taken at the look after the next.
        await store.write(Batch(measurements=[measurement(sensor, moment - DAY, "x")]))
        await until(done)


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), ZeroDivisionError("a bug")])
async def test_it_goes_on_after_an_error(store, monkeypatch, error):
    failures = 0
    fetch = store.engine.fetch

    async def failing(query, **parameters):
        nonlocal failures
        if query == "rollup_state" and failures < 3:
            failures += 1
            raise error
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", failing)
    async with running(store) as task:

        async def told():
            return task.state.frontier is not None

        await until(told)
    assert failures == 3


async def test_it_waits_longer_while_ingest_is_busy(store, monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    pipeline = PipelineState()
    task = RollupTask(store, pipeline, NO_TEXTS)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        for rows in (0, 1_000_000, 1_000_000):
            pipeline.rows_total += rows
            # As if it had worked for half a second.
            task._since = (asyncio.get_running_loop().time() - 0.5, pipeline.rows_total - rows)
            await task._pace()
        pipeline.depth = 1_000
        task._since = (asyncio.get_running_loop().time() - 0.5, pipeline.rows_total)
        await task._pace()
    idle, *busy = waits
    assert all(wait > idle * 4 for wait in busy)


async def test_while_another_server_has_the_duty_it_only_tells_how_far_rollups_are(
    store, monkeypatch
):
    monkeypatch.setattr(task_module, "WATCH_SECONDS", 0.01)
    duty = Duty.leased(DutyName.ROLLUPS, lambda: True)
    task = RollupTask(store, PipelineState(), NO_TEXTS, duty=duty)
    before = (await task._rolling.state()).generation
    run = asyncio.create_task(task.run(), name="rollups")
    try:

        async def has_told():
            return task.state.frontier is not None

        async def has_worked():
            return (await task._rolling.state()).generation != before

        await until(has_told)
        assert not await has_worked()
        monkeypatch.setattr(duty, "_is_sure", None)
        duty._given.set()
        await until(has_worked)
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

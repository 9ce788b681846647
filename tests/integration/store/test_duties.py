"""What one server at a time does, on PostgreSQL: taken, left, and lost to another one."""

import asyncio
import contextlib

import pytest

from heliograph.errors import DutyLostError
from heliograph.ingest.batch import IngestIds
from heliograph.ingest.instance import Instance
from heliograph.store import open_store
from heliograph.store.duties import Duties, Duty, DutyName
from heliograph.store.engine import RollupChange

ALL = [name.value for name in DutyName]
ROLLUPS = DutyName.ROLLUPS


class Server:
    """What a server has of duties."""

    def __init__(self, store, instance):
        self.store = store
        self.instance = instance
        self.duties = Duties(store.engine, instance.token, lambda: instance.held)

    async def write(self, name=ROLLUPS):
        """Write something under a duty."""
        with self.duties[name].fenced():
            await self.store.engine.change(lambda change: change.fetch("registry_version"))

    async def run_out(self):
        """Let its lease have ended, by the database's clock alone."""
        await self.store.engine.change(
            lambda transaction: transaction.fetch(
                "instance_renew", token=self.instance.token, lease=-1
            )
        )


@pytest.fixture
async def start(postgresql_url):
    async with contextlib.AsyncExitStack() as stack:

        async def start():
            store = await open_store(postgresql_url)
            stack.push_async_callback(store.close)
            instance = Instance(store, IngestIds())
            await instance.start()
            server = Server(store, instance)
            await server.duties.look()
            return server

        yield start


async def test_the_first_server_has_all_and_leaves_them_to_the_next(start):
    first, second = await start(), await start()
    assert (first.duties.held, second.duties.held) == (ALL, [])
    assert [each.number for each in await second.store.instances.duties()] == [0] * len(ALL)
    waiting = asyncio.create_task(second.duties[ROLLUPS].given())
    await first.write()
    with pytest.raises(DutyLostError):
        await second.write()
    await first.duties.end()
    await second.duties.look()
    await asyncio.wait_for(waiting, 60)
    assert second.duties.held == ALL
    await second.write()


async def test_who_lost_a_duty_writes_nothing_under_it(start):
    first, second = await start(), await start()
    [(_, generation)] = await first.store.engine.fetch("rollup_state")
    change = RollupChange(generation, frontier=60_000_000)
    await first.run_out()
    await second.duties.look()
    # It stood still meanwhile: by all that it knows it has them.
    assert first.duties.held == ALL
    duty = first.duties[ROLLUPS]
    with pytest.raises(DutyLostError), duty.fenced():
        await first.store.engine.store_rollups(change)
    assert first.duties.held == [name for name in ALL if name != ROLLUPS.value]
    for name in (DutyName.RETENTION, DutyName.ALERTS):
        with pytest.raises(DutyLostError):
            await first.write(name)
    assert (await first.store.engine.fetch("rollup_state"))[0][0] != 60_000_000
    with second.duties[ROLLUPS].fenced():
        assert await second.store.engine.store_rollups(change)


async def test_who_lost_a_duty_drops_no_partition(start):
    first, second = await start(), await start()
    await first.run_out()
    await second.duties.look()
    with pytest.raises(DutyLostError), first.duties[DutyName.RETENTION].fenced():
        await first.store.engine.drop_partition("measurement", 600, moment=0, default_days=0)


async def test_a_duty_that_comes_back_has_another_fence(start):
    first, second = await start(), await start()
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def work():
        with first.duties[ROLLUPS].fenced():
            began.set()
            await goes_on.wait()
            await first.store.engine.change(lambda change: change.fetch("registry_version"))

    working = asyncio.create_task(work())
    await began.wait()
    await first.run_out()
    await second.duties.look()
    await second.duties.end()
    await first.instance.hold()
    await first.duties.look()
    assert first.duties.held == ALL
    goes_on.set()
    with pytest.raises(DutyLostError):
        await working
    # What began before did not go on, and yet the duty is this server's.
    await first.write()


async def test_who_stands_still_in_a_transaction_keeps_its_duty_and_no_other(start):
    first, second = await start(), await start()
    with first.duties[ROLLUPS].fenced():
        async with first.store.engine.transaction():
            await second.run_out()  # of its own lease: it takes nothing
            await second.duties.look()
            assert second.duties.held == []
            await second.instance.hold()
            await second.store.engine.change(
                lambda transaction: transaction.fetch(
                    "instance_renew", token=first.instance.token, lease=-1
                )
            )
            await asyncio.wait_for(second.duties.look(), 60)
            assert second.duties.held == [name for name in ALL if name != ROLLUPS.value]
    await second.duties.look()
    assert second.duties.held == ALL


async def test_one_that_the_lease_does_not_cover_is_not_held(start):
    server = await start()
    assert server.duties[ROLLUPS].held
    server.instance._held_until = 0.0
    assert not server.duties[ROLLUPS].held


async def test_after_the_database_was_put_back_they_are_taken_anew(start):
    server = await start()
    server.duties.forget()
    assert server.duties.held == []
    await server.duties.look()
    assert server.duties.held == ALL


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_server_that_is_alone_has_all_without_a_transaction(store):
    duties = Duties(store.engine, "", None)
    store.engine.change = None
    await duties.look()
    await duties.end()
    duties.forget()
    assert duties.held == ALL
    await duties[ROLLUPS].given()
    with duties[ROLLUPS].fenced():
        assert Duty(ROLLUPS).held

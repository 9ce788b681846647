"""Actions run at least once each, whatever fails between their claim and what became of them."""

import asyncio
import contextlib

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.model.time import SECOND, now
from heliograph.processing import dispatcher as module
from heliograph.processing.dispatcher import ATTEMPTS, ActionFailedError, Dispatcher, NotNowError
from heliograph.store import actions as outbox
from heliograph.store import open_store
from heliograph.store.actions import DueAction
from heliograph.store.engine import Batch
from rows import NOON

HOUR = 3_600 * SECOND
# Nothing is found by looking again: only by being woken, or because it is due.
INTERVAL = 3_600.0


class Clock:
    def __init__(self):
        self.at = NOON

    def __call__(self):
        return self.at


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "now", clock)
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(module, "AWAY_SECONDS", 0.01)
    for place in (module, outbox):
        monkeypatch.setattr(place, "SUSPECT_SECONDS", 0.01)
    return clock


class Faulty:
    """The outbox, with faults: each call asks `fault` whether it fails before or after."""

    def __init__(self, actions):
        self._actions = actions
        self.fault = lambda _name, _is_done: None

    def __getattr__(self, name):
        async def call(*arguments, **options):
            self.fault(name, False)
            found = await getattr(self._actions, name)(*arguments, **options)
            self.fault(name, True)
            return found

        return call


class Runs:
    """Notes which actions run; `held` keeps them from ending."""

    def __init__(self):
        self.ran = []
        self.held = asyncio.Event()
        self.held.set()
        self.failing = []

    async def __call__(self, due):
        self.ran.append(due.position)
        await self.held.wait()
        if self.failing:
            raise self.failing.pop()


def made(actions, runs, server="gone"):
    publish = {"publish": runs}
    return Dispatcher(actions, publish, interval=INTERVAL, server=server, concurrent=16)


@contextlib.asynccontextmanager
async def running(dispatcher):
    task = asyncio.create_task(dispatcher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def packets(count, message=8):
    frame = (message, None, NOON, message, NOON, f"d-{message}", None, "admin", "-", "{}")
    actions = [
        ("", n, 0, NOON, message, message, None, "publish", "{}", NOON, NOON) for n in range(count)
    ]
    return Batch(packets=[frame], actions=actions)


async def enter(store, count, message=8):
    await store.write(packets(count, message))


async def until(condition):
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is awaited is in the database
            await asyncio.sleep(0.002)


async def all_done(store):
    return await store.actions.waiting(1) == 0


async def states(store):
    page, _ = await store.actions.page(None, offset=0, limit=1_000)
    return [(each.state, each.attempts, each.error) for each in page]


async def test_what_was_stored_as_claimed_runs_without_being_looked_for(store, clock):
    runs = Runs()
    dispatcher = made(Faulty(store.actions), runs)
    assert dispatcher.room == 0  # nobody would see to what it began
    async with running(dispatcher):
        await until(lambda: asyncio.sleep(0, dispatcher.room > 0))
        batch = packets(2)
        batch.runs = True
        dispatcher.take(DueAction(*row, False) for row in (await store.write(batch)).claimed)
        await until(lambda: all_done(store))
        # Whoever asks after it was done is told so at once.
        assert await dispatcher.finished(8, "publish", 2, 0)
    assert sorted(runs.ran) == [0, 1]
    assert await states(store) == [("done", 1, None)] * 2


async def test_what_was_killed_before_it_was_noted_runs_again(store, clock):
    await enter(store, 3)
    faulty, runs = Faulty(store.actions), Runs()
    stuck = asyncio.Event()

    def kill(name, _is_done):
        if name == "settle":
            stuck.set()
            raise asyncio.CancelledError

    faulty.fault = kill
    async with running(made(faulty, runs)):
        await stuck.wait()
    again = made(store.actions, runs)
    async with running(again):
        await until(lambda: all_done(store))
    assert sorted(runs.ran) == [0, 0, 1, 1, 2, 2]


async def test_what_ends_the_server_each_time_is_parked_and_nothing_beside_it_is(store, clock):
    await enter(store, 4)
    for _ in range(ATTEMPTS + 2):
        ends, begun = asyncio.Event(), []

        async def run(due, begun=begun, ends=ends):
            begun.append(due.position)
            # What runs beside it is done no sooner than it ends the server.
            if due.position == 2:
                ends.set()
            if due.position == 2 or 2 in begun:
                await asyncio.Event().wait()

        dispatcher = made(Killed(store.actions, ends), run)
        async with running(dispatcher):

            async def ended(ends=ends):
                clock.at += SECOND // 100
                return ends.is_set() or await all_done(store)

            await until(ended)
        clock.at += SECOND
    why = f"{outbox.ENDED}, in the last of {ATTEMPTS} attempts"
    assert await states(store) == [
        ("done", 3, None),
        ("failed", ATTEMPTS, why),
        *[("done", 3, None)] * 2,
    ]


class Killed:
    """The outbox of a server that is killed: no word reaches it any more."""

    def __init__(self, actions, is_killed):
        self._actions = actions
        self._is_killed = is_killed

    def __getattr__(self, name):
        async def call(*arguments, **options):
            if self._is_killed.is_set():
                raise asyncio.CancelledError
            return await getattr(self._actions, name)(*arguments, **options)

        return call


async def test_each_fault_of_the_database_ends_with_all_done(store, clock):
    faulty, runs = Faulty(store.actions), Runs()
    failing = [(name, end) for name in ("next_due", "claim", "settle") for end in (False, True)]

    def away(name, is_done):
        if failing and failing[0] == (name, is_done):
            failing.pop(0)
            # What was claimed although the answer was lost is due again once that lapses.
            clock.at += HOUR
            raise StoreUnavailableError("away")

    faulty.fault = away
    await enter(store, 4)
    dispatcher = made(faulty, runs)
    async with running(dispatcher):
        for message in range(16, 48, 8):
            await enter(store, 4, message)
            dispatcher.wake()
            await until(lambda: all_done(store))
    assert failing == []
    assert len(runs.ran) == 20
    assert {state for state, _, _ in await states(store)} == {"done"}


async def test_two_servers_run_each_action_once(postgresql_url):
    async with contextlib.AsyncExitStack() as stack:
        stores = [await open_store(postgresql_url) for _ in range(2)]
        for store in stores:
            stack.push_async_callback(store.close)
        await enter(stores[0], 200)
        runs = [Runs(), Runs()]
        for store, ran in zip(stores, runs, strict=True):
            dispatcher = Dispatcher(store.actions, {"publish": ran}, interval=0.02, concurrent=16)
            await stack.enter_async_context(running(dispatcher))
        await until(lambda: all_done(stores[0]))
        assert sorted(runs[0].ran + runs[1].ran) == list(range(200))
        assert runs[0].ran
        assert runs[1].ran


async def test_what_a_server_ran_that_is_gone_is_run_by_another(postgresql_url, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    async with contextlib.AsyncExitStack() as stack:
        stores = [await open_store(postgresql_url) for _ in range(2)]
        for store, token in zip(stores, "ab", strict=True):
            stack.push_async_callback(store.close)
            await store.instances.take(token, 30 * SECOND)
        await enter(stores[0], 2)
        # So late that its claim does not lapse meanwhile.
        assert len(await stores[0].actions.claim(now() + HOUR // 2, "publish", 2, server="a")) == 2
        runs = Runs()
        publish = {"publish": runs}
        dispatcher = Dispatcher(stores[1].actions, publish, interval=0.01, server="b")
        task = await stack.enter_async_context(running(dispatcher))
        await enter(stores[1], 1, message=16)
        await until(lambda: has_ran(runs, 1))
        assert not task.done()
        await stores[0].instances.release("a", 30 * SECOND)
        await until(lambda: all_done(stores[1]))
        assert runs.ran == [0, 0, 1]


async def test_a_clock_that_leaps_ahead_runs_nothing_twice_at_once(store, clock):
    await enter(store, 2)
    runs = Runs()
    runs.held.clear()
    dispatcher = made(store.actions, runs)
    async with running(dispatcher):
        await until(lambda: is_running(dispatcher, 2))
        clock.at += HOUR
        dispatcher.wake()
        await until(lambda: has_attempts(store, 2))
        runs.held.set()
        await until(lambda: all_done(store))
    assert sorted(runs.ran) == [0, 1]


async def is_running(dispatcher, count):
    return len(dispatcher._running) == count


async def has_attempts(store, count):
    return {attempts for _, attempts, _ in await states(store)} == {count}


async def test_what_failed_is_not_late_because_the_clock_was_set_back(store, clock):
    clock.at = NOON + 24 * HOUR
    await enter(store, 1)
    runs = Runs()
    runs.failing = [ActionFailedError("no route")]
    dispatcher = made(store.actions, runs)
    async with running(dispatcher):
        # Not only claimed: until it has failed it is not known when it is due again.
        await until(lambda: has_ran(runs, 1))
        await until(lambda: is_running(dispatcher, 0))
        clock.at = NOON
        dispatcher.wake()
        await until(lambda: all_done(store))
    assert runs.ran == [0, 0]
    # Nor after a restart, of what was claimed by a clock that was ahead.
    clock.at = NOON + 24 * HOUR
    await enter(store, 1, 16)
    runs.held.clear()
    async with running(made(store.actions, runs)) as task:
        await until(lambda: has_ran(runs, 3))
        task.cancel()
    clock.at = NOON
    runs.held.set()
    async with running(made(store.actions, runs)):
        await until(lambda: all_done(store))


async def has_ran(runs, count):
    return len(runs.ran) == count


async def test_an_action_that_fails_is_tried_again_when_that_is_due(store, clock):
    await enter(store, 1)
    runs = Runs()
    # No database takes each of these texts.
    runs.failing = [
        ActionFailedError("\x00 \ud800", is_final=True),
        asyncio.CancelledError(),
        TimeoutError(),
        ActionFailedError("\x00 \ud800"),
    ]
    async with running(made(store.actions, runs)) as task:

        async def ended():
            # Nobody wakes it: the wall clock alone goes on.
            clock.at += SECOND // 200
            return await all_done(store) or task.done()

        await until(ended)
        assert not task.done()
    assert runs.ran == [0] * 4
    assert await states(store) == [("failed", 4, "\\x00 \\ud800")]


async def test_what_was_running_is_not_noted_in_a_database_that_was_put_back(store, clock):
    await enter(store, 1)
    runs = Runs()
    runs.held.clear()

    async def just_done(due):
        with contextlib.suppress(asyncio.CancelledError):
            await runs(due)

    dispatcher = made(store.actions, just_done)
    async with running(dispatcher):
        await until(lambda: has_ran(runs, 1))
        dispatcher.forget()
        runs.held.set()
        await until(lambda: is_running(dispatcher, 0))
        clock.at += HOUR
        dispatcher.wake()
        await until(lambda: all_done(store))
    assert runs.ran == [0, 0]


async def test_a_server_that_stops_leaves_what_it_runs_to_the_next_at_once(store, clock):
    await enter(store, 1)
    runs = Runs()
    runs.held.clear()
    first = made(store.actions, runs, server="")
    async with running(first):
        await until(lambda: has_ran(runs, 1))
    await first.close()
    runs.held.set()
    async with running(made(store.actions, runs, server="")):
        await until(lambda: all_done(store))
    assert (runs.ran, await states(store)) == ([0, 0], [("done", 1, None)])


async def test_who_waits_for_what_follows_from_a_message_waits_for_all_of_it(store, clock):
    await enter(store, 2)
    is_away = True
    tried = asyncio.Event()

    async def run(due):
        # The first is done at once, the second waits for a broker.
        if due.position == 1:
            tried.set()
            if is_away:
                raise NotNowError("the broker is away")

    dispatcher = Dispatcher(store.actions, {"publish": run}, interval=INTERVAL)
    async with running(dispatcher):
        waiting = asyncio.create_task(dispatcher.finished(8, "publish", 2, 30))
        of_another_type = asyncio.create_task(dispatcher.finished(8, "sse", 1, 0.05))
        await tried.wait()
        assert not await of_another_type
        assert not waiting.done()
        is_away = False
        clock.at += 10 * SECOND
        dispatcher.wake()
        assert await waiting


async def test_what_has_ended_is_noted_by_the_next_claim(store, clock, monkeypatch):
    monkeypatch.setattr(module, "GATHER_SECONDS", 3_600.0)
    called, runs = [], Runs()
    faulty = Faulty(store.actions)
    faulty.fault = lambda name, is_done: called.append(name) if is_done else None
    dispatcher = made(faulty, runs)
    async with running(dispatcher):
        await enter(store, 1)
        dispatcher.wake()
        await until(lambda: asyncio.sleep(0, dispatcher.done_total == 1))
        await enter(store, 1, message=9)
        dispatcher.wake()
        await until(lambda: asyncio.sleep(0, dispatcher.done_total == 2))
    assert called.count("claim") == 2
    assert "settle" not in called
    # The last one is noted at the end at the latest.
    assert sorted(state for state, *_ in await states(store)) == ["done", "pending"]
    await dispatcher.close()
    assert [state for state, *_ in await states(store)] == ["done"] * 2

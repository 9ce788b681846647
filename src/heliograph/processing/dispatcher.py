"""Runs what is due in the outbox: each action at least once, failed ones again and again later."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.model.time import SECOND, now
from heliograph.printable import printable
from heliograph.store.actions import (
    ENDED,
    SUSPECT_SECONDS,
    Actions,
    ActionState,
    DueAction,
    SettledAction,
)

log = structlog.get_logger()

# After so many attempts an action is parked as failed, where a person can see and repeat it.
ATTEMPTS = 8
FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 300.0
# What nothing can be done about now, such as a broker that is away, is tried again so often.
POSTPONED_SECONDS = 5.0
# No action takes longer: the claim on it would lapse.
LONGEST_SECONDS = 45.0
CONCURRENT = 64
# So many messages whose actions somebody may wait for are known at once.
AWAITED = 1_000
# So long after a claim what has ended waits for the next one, which notes it without a transaction
# of its own. Actions of rules come so often at most, see `processor.GATHER_SECONDS`.
GATHER_SECONDS = 0.1
CLOSE_SECONDS = 2.0
LONGEST_ERROR = 500
# While the database is away: how often to see whether it is back.
AWAY_SECONDS = 2.0
# How often to see whether a server is gone that has claimed something.
LOOK_SECONDS = 5.0

# Returns what is to be noted of an action that was done, if anything is.
Run = Callable[[DueAction], Awaitable[str | None]]


class ActionFailedError(Exception):
    """An action could not be done; the text says why. It is tried again unless `is_final`."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class NotNowError(Exception):
    """Nothing is wrong with the action: it waits for somebody else, however long that takes."""


class _Awaited(NamedTuple):
    """The positions of the actions that somebody waits for and that are not done yet."""

    left: set[int]
    all_done: asyncio.Event


class Dispatcher:
    """Claims actions of some types and runs them, many at once, for as long as it runs.

    Types that take long are another dispatcher's, so that they don't keep quick ones waiting.
    """

    def __init__(
        self,
        actions: Actions,
        runs: Mapping[str, Run],
        *,
        interval: float,
        server: str = "",
        concurrent: int = CONCURRENT,
        suspects: asyncio.Lock | None = None,
    ) -> None:
        """Look for what others have entered every `interval` seconds without being woken.

        `server` is the token of this one; a file has one server, which needs none.
        `suspects`: held while an action runs that may be what ends the server. All dispatchers of
        a process share it, so that nothing else is blamed for the end.
        """
        # Told of each action that was tried: seconds, type, id, outcome. None: nobody asks.
        self.traced: Callable[[float, str, int, str], None] | None = None
        self._actions = actions
        self._runs = runs
        self._types = tuple(runs)
        self.interval = interval
        self._server = server
        # None: not yet.
        self._looks_at: float | None = None
        self._concurrent = concurrent
        self._suspects = suspects or asyncio.Lock()
        self._work = asyncio.Event()
        self._is_open = False
        self._running: dict[int, asyncio.Task[None]] = {}
        self._settled: list[SettledAction] = []
        # What was claimed before the database was put back is settled in no later one: its id may
        # be another action's there.
        self._generation = 0
        # When something was claimed last.
        self._claimed_at = -GATHER_SECONDS
        # The newest time seen: a clock that is behind it was set back.
        self._newest = 0
        # Who waits for actions, or will, by the message that is their cause and their type.
        self._awaited: dict[tuple[int | None, str], _Awaited] = {}
        self.done_total = 0
        self.failed_total = 0
        self.retried_total = 0

    def wake(self) -> None:
        """Look for work now: something was committed, or somebody who was away is back."""
        self._work.set()

    def forget(self) -> None:
        """Forget what was claimed before the database was put back."""
        self._generation += 1
        self._settled.clear()
        for task in self._running.values():
            task.cancel()
        self._work.set()

    async def finished(self, message: int, type_: str, positions: int, seconds: float) -> bool:
        """Wait until the actions of a type that follow from a message have been done.

        There are so many `positions`. Returns False if they are not all done after the seconds.
        """
        if (awaited := self._awaited.get((message, type_))) is None:
            awaited = self._await_all_of(message, type_)
            awaited.left.update(range(positions))
            self.wake()
        try:
            async with asyncio.timeout(seconds):
                await awaited.all_done.wait()
        except TimeoutError:
            return False
        finally:
            self._awaited.pop((message, type_), None)
        return True

    def _await_all_of(self, message: int | None, type_: str) -> _Awaited:
        awaited = self._awaited.setdefault((message, type_), _Awaited(set(), asyncio.Event()))
        while len(self._awaited) > AWAITED:
            del self._awaited[next(iter(self._awaited))]
        return awaited

    def _tell_who_waits(self, due: DueAction) -> None:
        awaited = self._awaited.get((due.message, due.type))
        if awaited is not None:
            awaited.left.discard(due.position)
            if not awaited.left:
                awaited.all_done.set()

    async def run(self) -> None:
        """Run what is due, for ever."""
        self._is_open = True
        try:
            while True:
                try:
                    seconds = await self._round()
                except StoreUnavailableError as error:
                    log.debug("actions waiting for the database", reason=str(error))
                    seconds = AWAY_SECONDS
                await self._wait(min(seconds, self.interval))
        finally:
            self._is_open = False
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """Note what has been done, and leave to others what has not."""
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._settle()

    async def _round(self) -> float:
        """Start what is due and finds room; return in how many seconds to look again."""
        await self._take_over()
        await self._follow_clock()
        while True:
            due = await self._actions.next_due(self._types) if self._has_room else None
            wait = self.interval if due is None else (due.due_at - now()) / SECOND
            if due is None or wait > 0:
                # The next claim may come soon, and notes what has ended in the same transaction.
                rest = self._claimed_at + GATHER_SECONDS - time.monotonic()
                if self._settled and rest > 0:
                    return min(wait, rest)
                if await self._settle():
                    continue
                return wait
            generation = self._generation
            claimed = await self._claim(due.type)
            if not claimed:
                return SUSPECT_SECONDS  # they wait for a suspect one, or another server was quicker
            for action in claimed:
                if generation == self._generation and not self._is_known(action.id):
                    self._begin(action)
                elif action.is_suspect:
                    self._suspects.release()

    async def _take_over(self) -> None:
        """Have due now what servers had claimed that are gone."""
        if self._looks_at is not None and time.monotonic() < self._looks_at:
            return
        begins = self._looks_at is None
        count = await self._actions.take_over(now(), self._types, begins=begins)
        self._looks_at = time.monotonic() + LOOK_SECONDS
        if count:
            log.info("actions taken over from a server that is gone", count=count)

    def _begin(self, action: DueAction) -> None:
        """Run what was claimed, unless it has had its attempts: nobody noted how the last ended."""
        if action.attempts <= ATTEMPTS:
            running = self._run(action, self._generation)
            task = asyncio.create_task(running, name=f"action {action.id}")
            self._running[action.id] = task
            if action.is_suspect:
                task.add_done_callback(lambda _: self._suspects.release())
            return
        failed = self._failed(action, f"{ENDED}, in the last of {ATTEMPTS} attempts", is_final=True)
        self._settled.append(msgspec.structs.replace(failed, attempts=ATTEMPTS))
        if action.is_suspect:
            self._suspects.release()

    @property
    def room(self) -> int:
        """How many more actions it runs at once now."""
        return self._concurrent - len(self._running) if self._is_open else 0

    @property
    def _has_room(self) -> bool:
        return self.room >= max(self._concurrent // 4, 1)

    def take(self, claimed: Iterable[DueAction]) -> None:
        """Run what was entered as claimed by this server, without looking for it."""
        for action in claimed:
            self._await_all_of(action.message, action.type).left.add(action.position)
            self._begin(action)

    async def _claim(self, type_: str) -> list[DueAction]:
        """Claim what is due; if something suspect is, the turn of what is suspect is held."""
        is_free = not self._suspects.locked()
        if is_free:
            await self._suspects.acquire()
        is_held = False
        try:
            settled, generation = self._take_settled(), self._generation
            try:
                claimed = await self._actions.claim(
                    now(),
                    type_,
                    self.room,
                    suspects=is_free,
                    settled=settled,
                    server=self._server,
                )
            except BaseException:
                self._keep_settled(settled, generation)
                raise
            self._claimed_at = time.monotonic()
            is_held = any(each.is_suspect for each in claimed)
        finally:
            if is_free and not is_held:
                self._suspects.release()
        return claimed

    def _is_known(self, action: int) -> bool:
        """Return whether an action is running, or ran and is not settled: its claim has lapsed."""
        return action in self._running or any(each.id == action for each in self._settled)

    async def _follow_clock(self) -> None:
        """Have nothing wait for a time that is far ahead because the clock was set back."""
        at = now()
        if at < self._newest - SECOND or not self._newest:
            # What ended before that was put off by the former clock.
            await self._settle()
            await self._actions.hasten(at)
            self._newest = at
        self._newest = max(self._newest, at)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()
        self._work.clear()

    async def _settle(self) -> bool:
        """Note what became of those that have ended; return whether one of them is due again."""
        settled, generation = self._take_settled(), self._generation
        if not settled:
            return False
        try:
            await self._actions.settle(settled)
        except BaseException:
            self._keep_settled(settled, generation)
            raise
        return any(each.state is ActionState.PENDING for each in settled)

    def _take_settled(self) -> list[SettledAction]:
        settled, self._settled = self._settled, []
        return settled

    def _keep_settled(self, settled: list[SettledAction], generation: int) -> None:
        # Even if it was noted: to note it twice changes nothing.
        if generation == self._generation:
            self._settled = settled + self._settled

    async def _run(self, due: DueAction, generation: int) -> None:
        settled: SettledAction | None = None
        began = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST_SECONDS) as deadline:
                note = await self._runs[due.type](due)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # The server ends: whoever comes next need not wait until the claim lapses.
                settled = _put_off(due, 0, "the server was stopped", counts=False)
                raise
            settled = self._failed(due, "what it waited for was cancelled", is_final=False)
        except NotNowError as error:
            settled = _put_off(due, POSTPONED_SECONDS, str(error), counts=False)
        except ActionFailedError as error:
            settled = self._failed(due, str(error), is_final=error.is_final)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                reason = f"not done within {LONGEST_SECONDS:.0f} s"
            else:
                log.exception("action raised an error", action=due.id, action_type=due.type)
                reason = f"the server failed: {type(error).__name__}"
            settled = self._failed(due, reason, is_final=False)
        else:
            log.debug("action done", action=due.id, action_type=due.type, attempts=due.attempts)
            self.done_total += 1
            settled = _ended(
                due, ActionState.DONE, printable(note)[:LONGEST_ERROR] if note else None
            )
            self._tell_who_waits(due)
        finally:
            if settled is not None and generation == self._generation:
                self._settled.append(settled)
            if settled is not None and self.traced is not None:
                self.traced(time.monotonic() - began, due.type, due.id, str(settled.state))
            if self._running.get(due.id) is asyncio.current_task():
                del self._running[due.id]
            self._work.set()

    def _failed(self, due: DueAction, reason: str, *, is_final: bool) -> SettledAction:
        # Strangers' texts are in it, and no database takes all of them.
        reason = printable(reason)[:LONGEST_ERROR]
        if is_final or due.attempts >= ATTEMPTS:
            self.failed_total += 1
            log.warning("action failed", action=due.id, action_type=due.type, reason=reason)
            return _ended(due, ActionState.FAILED, reason)
        self.retried_total += 1
        delay = min(FIRST_RETRY_SECONDS * 2.0 ** (due.attempts - 1), LONGEST_RETRY_SECONDS)
        # Those that failed together don't come back together.
        return _put_off(due, delay * random.uniform(0.5, 1.0), reason)  # noqa: S311 - spreads load


def _ended(due: DueAction, state: ActionState, note: str | None) -> SettledAction:
    return SettledAction(due.id, state, due.attempts, 0, now(), note, due.attempts)


def _put_off(due: DueAction, seconds: float, reason: str, *, counts: bool = True) -> SettledAction:
    """Return that the action waits for so many seconds; `counts`: this was an attempt."""
    attempts, due_at = due.attempts - (not counts), now() + int(seconds * SECOND)
    reason = printable(reason)[:LONGEST_ERROR]
    return SettledAction(due.id, ActionState.PENDING, attempts, due_at, None, reason, due.attempts)

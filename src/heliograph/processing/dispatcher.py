"""Runs what is due in the outbox: each action at least once, failed ones again and again later."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.model.time import SECOND, now
from heliograph.store.actions import Actions, ActionState, DueAction, SettledAction

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
CLOSE_SECONDS = 2.0
LONGEST_ERROR = 500

Run = Callable[[DueAction], Awaitable[None]]


class ActionFailedError(Exception):
    """An action could not be done; the text says why. It is tried again unless `is_final`."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class NotNowError(Exception):
    """Nothing is wrong with the action: it waits for somebody else, however long that takes."""


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
        alone: bool,
        concurrent: int = CONCURRENT,
    ) -> None:
        """Look for what is due every `interval` seconds without being woken.

        `alone`: no other process does, so that what is claimed at the start is nobody's.
        """
        self._actions = actions
        self._runs = runs
        self._types = tuple(runs)
        self._interval = interval
        self._alone = alone
        self._concurrent = concurrent
        self._work = asyncio.Event()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._settled: list[SettledAction] = []
        # Who waits for the actions of a message, by its id.
        self._awaited: dict[int, asyncio.Event] = {}
        self.done_total = 0
        self.failed_total = 0
        self.retried_total = 0

    def wake(self) -> None:
        """Look for work now: something was committed, or somebody who was away is back."""
        self._work.set()

    def forget(self) -> None:
        """Forget what was claimed before the database was put back."""
        self._settled.clear()
        self._work.set()

    async def finished(self, message: int, seconds: float) -> bool:
        """Wait until an action of the message has been done, but not for longer; whether it was."""
        done = self._awaited.setdefault(message, asyncio.Event())
        self.wake()
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            return False
        finally:
            self._awaited.pop(message, None)
        return True

    async def run(self) -> None:
        """Run what is due, for ever."""
        try:
            while True:
                try:
                    if self._alone:
                        await self._actions.release(now())
                        self._alone = False
                    await self._round()
                except StoreUnavailableError as error:
                    log.debug("actions waiting for the database", reason=str(error))
                await self._wait()
        finally:
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """Note what has been done; what has not comes again once its claim lapses."""
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._settle()

    async def _round(self) -> None:
        while True:
            await self._settle()
            room = self._concurrent - len(self._running)
            if room < max(self._concurrent // 4, 1):
                return
            due_at = await self._actions.due_at(self._types)
            if due_at is None or due_at > now():
                return
            claimed = await self._actions.claim(now(), self._types, room)
            for due in claimed:
                if due.id not in self._running:
                    task = asyncio.create_task(self._run(due), name=f"action {due.id}")
                    self._running[due.id] = task
            if not claimed:
                return

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval):
                await self._work.wait()
        self._work.clear()

    async def _settle(self) -> None:
        """Note what became of those that have ended."""
        settled = self._settled
        if not settled:
            return
        self._settled = []
        try:
            await self._actions.settle(settled)
        except StoreUnavailableError:
            self._settled = settled + self._settled
            raise

    async def _run(self, due: DueAction) -> None:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await self._runs[due.type](due)
        except NotNowError as error:
            self._put_off(due, due.attempts - 1, POSTPONED_SECONDS, str(error))
        except TimeoutError:
            self._fail(due, f"not done within {LONGEST_SECONDS:.0f} s", is_final=False)
        except ActionFailedError as error:
            self._fail(due, str(error), is_final=error.is_final)
        except Exception as error:
            log.exception("action raised an error", action=due.id, type=due.type)
            self._fail(due, f"the server failed: {type(error).__name__}", is_final=False)
        else:
            self.done_total += 1
            done = ActionState.DONE
            self._settled.append(SettledAction(due.id, done, due.attempts, 0, now(), None))
            if due.message is not None and due.message in self._awaited:
                self._awaited[due.message].set()
        finally:
            self._running.pop(due.id, None)
            self._work.set()

    def _fail(self, due: DueAction, reason: str, *, is_final: bool) -> None:
        reason = reason[:LONGEST_ERROR]
        if is_final or due.attempts >= ATTEMPTS:
            self.failed_total += 1
            log.warning("action failed", action=due.id, type=due.type, reason=reason)
            failed = ActionState.FAILED
            self._settled.append(SettledAction(due.id, failed, due.attempts, 0, now(), reason))
            return
        self.retried_total += 1
        delay = min(FIRST_RETRY_SECONDS * 2.0 ** (due.attempts - 1), LONGEST_RETRY_SECONDS)
        # Those that failed together don't come back together.
        self._put_off(due, due.attempts, delay * random.uniform(0.5, 1.0), reason)  # noqa: S311 - spreads load

    def _put_off(self, due: DueAction, attempts: int, seconds: float, reason: str) -> None:
        due_at = now() + int(seconds * SECOND)
        pending = ActionState.PENDING
        self._settled.append(SettledAction(due.id, pending, attempts, due_at, None, reason))

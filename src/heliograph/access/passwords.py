"""Passwords of people: Argon2id, away from the event loop, one at a time, everybody in turn."""

import asyncio
import base64
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heliograph.access.turns import Party, Turns
from heliograph.errors import ErrorCode, HeliographError

log = structlog.get_logger()

# Of what OWASP recommends as equally strong: the quickest with the most memory.
MEMORY_KIBIBYTES = 9 * 1_024
PASSES = 4
# A hash takes some 30 ms. An MQTT client is let go after 10 s.
MOST_WAITING = 256
MOST_WAITING_OF_ADDRESS = 64
MOST_WAITING_OF_ACCOUNT = 32
TELL_SECONDS = 60.0
# While more wait from the network that has just been served: for so many times as long as the
# event loop was busy during the hash the processor is left to it.
REST = 8.0


def _blank(size: int) -> str:
    return base64.b64encode(bytes(size)).rstrip(b"=").decode()


# What a password is compared with where there is no account, so that timing reveals nothing. It is
# nobody's hash: no password is known for it, and a match counts for nothing.
_NOBODYS = f"$argon2id$v=19$m={MEMORY_KIBIBYTES},t={PASSES},p=1${_blank(16)}${_blank(32)}"

T = TypeVar("T")


class Guess(Protocol):
    """Somebody's attempt to give the right password."""

    @property
    def party(self) -> Party:
        """On whose account it waits for its turn."""
        ...

    async def check(self) -> None:
        """Refuse it if there were too many.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        ...

    async def failed(self) -> None:
        """Count it as a wrong one."""
        ...

    async def succeeded(self) -> None:
        """Count it as a right one."""
        ...


@dataclasses.dataclass(slots=True)
class PasswordState:
    """What there is to know from outside; `refused_total` by the code of the refusal."""

    waiting: int = 0
    hashed_total: int = 0
    refused_total: Counter[ErrorCode] = dataclasses.field(default_factory=Counter)


# Who makes an account for the server itself, or by the command line.
_NOBODY = Party("", "")


class Passwords:
    """Serves one at a time: each password takes 9 MiB and all of a processor, a new one twice that.

    Who waits is served in turn, so that nobody waits longer for the many log-ins of another
    address than one of them takes. While the server has other things to do, many log-ins from one
    place take a part of a processor, not all of it.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIBIBYTES, parallelism=1)
        # One at a time in each, also where nobody waits any more for what a thread goes on with.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._second_thread = ThreadPoolExecutor(1, thread_name_prefix="new-passwords")
        self._turns = Turns(
            most=MOST_WAITING,
            most_of_network=MOST_WAITING_OF_ADDRESS,
            most_of_party=MOST_WAITING_OF_ACCOUNT,
            rest=REST,
        )
        self._state = PasswordState()
        self._tell_from = 0.0

    @property
    def state(self) -> PasswordState:
        """How many wait, were hashed and were refused."""
        self._state.waiting = self._turns.waiting
        return self._state

    async def hash(self, password: str, party: Party = _NOBODY) -> str:
        """Return the hash of a new password; `party` is who waits for it.

        Raises:
            HeliographError: QUEUE_FULL or RATE_LIMITED, too many are waiting.
        """
        with self._counting():
            async with self._turns.take(party):
                return await self._run(lambda: self._hasher.hash(password))

    async def verify(
        self, password_hash: str | None, password: str, guess: Guess | None = None
    ) -> bool:
        """Return whether the password is the hashed one; never so without a hash.

        Raises:
            HeliographError: QUEUE_FULL or RATE_LIMITED, too many are waiting; what the `guess`
                raises.
        """
        async with self._guessing(guess):
            right = await self._is_right(password_hash, password)
            if guess is not None:
                await (guess.succeeded if right else guess.failed)()
            return right

    async def replace(
        self, password_hash: str, password: str, new: str, guess: Guess
    ) -> str | None:
        """Return the hash of a new password; None: the password so far is another one.

        Both are hashed at once: nobody waits twice, and who guesses is told as late.

        Raises:
            HeliographError: as `verify`.
        """
        async with self._guessing(guess):
            right, renewed = await asyncio.gather(
                self._is_right(password_hash, password),
                self._run(lambda: self._hasher.hash(new), self._second_thread),
            )
            await (guess.succeeded if right else guess.failed)()
            return renewed if right else None

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether a hash that was verified has other parameters than new ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Begin nothing more."""
        for thread in (self._thread, self._second_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def _guessing(self, guess: Guess | None) -> AsyncIterator[None]:
        """Have the turn for what somebody guesses, if that is not one guess too many."""
        with self._counting():
            if guess is not None:
                await guess.check()
            async with self._turns.take(_NOBODY if guess is None else guess.party):
                if guess is not None:
                    # Again: those before it may have been the last that were allowed.
                    await guess.check()
                yield

    async def _is_right(self, password_hash: str | None, password: str) -> bool:
        expected = _NOBODYS if password_hash is None else password_hash
        matches = await self._run(lambda: self._matches(expected, password))
        return matches and password_hash is not None

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Count who is refused, and tell of it at most once in a while."""
        try:
            yield
        except HeliographError as error:
            self._state.refused_total[error.code] += 1
            if (moment := time.monotonic()) >= self._tell_from:
                self._tell_from = moment + TELL_SECONDS
                refused = self._state.refused_total.total()
                log.warning("log-ins refused unread", reason=error.detail, refused=refused)
            raise

    async def _run(self, work: Callable[[], T], thread: ThreadPoolExecutor | None = None) -> T:
        self._state.hashed_total += 1
        return await asyncio.get_running_loop().run_in_executor(thread or self._thread, work)

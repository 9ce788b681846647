"""Passwords of people: Argon2id, away from the event loop, one at a time."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.credentials import LONGEST_PASSWORD as LONGEST
from heliograph.model.credentials import SHORTEST_PASSWORD as SHORTEST

__all__ = ["LONGEST", "SHORTEST", "Guess", "Passwords"]

# OWASP's least: 19 MiB, two passes, one lane.
MEMORY_KIBIBYTES = 19 * 1_024
PASSES = 2
MOST_WAITING = 64


def _blank(size: int) -> str:
    return base64.b64encode(bytes(size)).rstrip(b"=").decode()


# What a password is compared with where there is no account, so that time tells nothing. It is
# nobody's hash: no password is known for it, and a match counts for nothing.
_NOBODYS = f"$argon2id$v=19$m={MEMORY_KIBIBYTES},t={PASSES},p=1${_blank(16)}${_blank(32)}"

T = TypeVar("T")


class Guess(Protocol):
    """Somebody's attempt to give the right password."""

    def check(self) -> None:
        """Refuse it if there were too many wrong ones.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        ...

    def failed(self) -> None:
        """Count it as a wrong one."""
        ...


class Passwords:
    """Hashes and checks one password at a time: each takes 19 MiB and all of a processor."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIBIBYTES, parallelism=1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            HeliographError: QUEUE_FULL, too many are waiting.
        """
        async with self._next():
            return await self._run(lambda: self._hasher.hash(password))

    async def verify(
        self, password_hash: str | None, password: str, guess: Guess | None = None
    ) -> bool:
        """Tell whether the password is the hashed one; never so without a hash.

        Raises:
            HeliographError: QUEUE_FULL, too many are waiting; what the `guess` raises.
        """
        if guess is not None:
            guess.check()
        async with self._next():
            if guess is not None:
                # Again: those before it in the queue may have been the last that were allowed.
                guess.check()
            expected = _NOBODYS if password_hash is None else password_hash
            matches = await self._run(lambda: self._matches(expected, password))
            right = matches and password_hash is not None
            if guess is not None and not right:
                guess.failed()
            return right

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    @contextlib.asynccontextmanager
    async def _next(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise HeliographError(
                ErrorCode.QUEUE_FULL, "Too many log in at the same time", retry_after=5
            )
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

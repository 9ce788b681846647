"""How often something happened in the time just past: here, or on all servers together."""

import hashlib
import math
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from limits.storage import MemoryStorage

MINUTE = 60
HOUR = 3_600
KEY_BYTES = 16


class Limit(NamedTuple):
    """At most `amount` of a kind in any so many seconds."""

    kind: str
    amount: int
    seconds: int = MINUTE


class Window(NamedTuple):
    """How many more a window takes, and the time (epoch seconds) when the oldest one leaves it.

    `amount` is how many it takes when it is empty: of a limit all, or this server's share.
    """

    left: int
    reset: float
    amount: int


class SharedWindows(Protocol):
    """Windows that all servers count in."""

    async def take(self, key: str, limit: Limit) -> bool | None:
        """Count one; False: that is too many, and it is not counted; None: not now."""
        ...

    async def look(self, key: str, limit: Limit) -> Window | None:
        """Return how full the window is; None: not now."""
        ...


class Windows:
    """Windows that slide: around the turn of a minute there would be twice as many otherwise.

    Without shared ones, or while they are away, each of so many `servers` counts by itself, and
    allows its share. A name is kept as a hash only, by a secret: it may have a password in it.
    """

    def __init__(self, secret: bytes, shared: SharedWindows | None = None) -> None:
        """Count on all servers that have the same secret, if there are shared windows."""
        self.servers = 1
        self._secret = secret[: hashlib.blake2b.MAX_KEY_SIZE]
        self._memory: MemoryStorage | None = None
        self._shared = shared

    async def take(self, limit: Limit, *names: str | bytes) -> bool:
        """Count one; False: that is too many, and it is not counted."""
        key = self._key(limit, names)
        share = share_of(limit.amount, self.servers)
        # Here too, so that it counts when the others are away.
        is_in_share = self._own().acquire_entry(key, share, limit.seconds)
        if self._shared is None or (share == limit.amount == 1 and not is_in_share):
            return is_in_share
        found = await self._shared.take(key, limit)
        return is_in_share if found is None else found

    async def look(self, limit: Limit, *names: str | bytes) -> Window:
        """Return how many more may be taken, and until when that is so."""
        key = self._key(limit, names)
        if self._shared is not None and (found := await self._shared.look(key, limit)) is not None:
            return found
        share = share_of(limit.amount, self.servers)
        start, count = self._own().get_moving_window(key, share, limit.seconds)
        return window(limit._replace(amount=share), start, count)

    def _own(self) -> "MemoryStorage":
        if self._memory is None:
            # With the first that is counted: its import is a start in forty.
            from limits.storage import MemoryStorage  # noqa: PLC0415 - see above

            self._memory = MemoryStorage()
        return self._memory

    def _key(self, limit: Limit, names: tuple[str | bytes, ...]) -> str:
        digest = hashlib.blake2b(key=self._secret, digest_size=KEY_BYTES)
        for name in (limit.kind, *names):
            encoded = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
            digest.update(b"%d:" % len(encoded) + encoded)
        return digest.hexdigest()


def window(limit: Limit, start: float, count: int) -> Window:
    """Return a window whose oldest one was counted at `start`; an empty one begins now."""
    return Window(max(0, limit.amount - count), start + limit.seconds, limit.amount)


def seconds_until(reset: float) -> float:
    """Return for how long a window stays as it is."""
    return max(0.0, reset - time.time())


def share_of(amount: int, servers: int) -> int:
    """Return what each of so many servers allows where they do not count together."""
    return math.ceil(amount / servers)

"""Counts of all servers together, in Redis (RATE_LIMIT_STORAGE).

Windows are counted there one by one: who gives wrong credentials waits for Redis. Tokens are not:
each server takes them from buckets of its own, and settles now and then, many at once, what it has
taken of each. So no request that is let through waits for Redis.

No call takes longer than a time-out. While Redis is away nothing waits for it: each server counts
by itself and allows its share.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import structlog

from heliograph.access.windows import Limit, Window, window
from heliograph.errors import StartError
from heliograph.libraries import load
from heliograph.model.listeners import Listeners
from heliograph.model.tokens import Taken

log = structlog.get_logger()

PREFIX: Final = "heliograph"
CALL_SECONDS = 0.5
# How many calls are under way at the same time; others wait for these.
CALLS = 16
RETRY_SECONDS = 1.0
# A Redis that comes and goes is told of so often.
TELL_SECONDS = 60.0
SETTLE_SECONDS = 0.5
# Names of which a bucket is settled by one call.
AT_ONCE = 500
KEY_BYTES = 16

# A bucket is kept as its tokens and the time by Redis' clock. What was taken is taken, also if it
# was more than there were: several servers may have let through what each had left.
_SETTLE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local left = {}
for i, key in ipairs(KEYS) do
    local tokens = capacity
    local kept = redis.call('GET', key)
    if kept then
        local before, at = string.match(kept, '(%S+) (%S+)')
        tokens = math.min(capacity, before + math.max(0, now - at) * rate)
    end
    tokens = math.max(math.min(tokens - ARGV[2 + i], capacity), -capacity)
    redis.call('SET', key, string.format('%.4f %.6f', tokens, now), 'EX', ARGV[#ARGV])
    left[i] = string.format('%.4f', tokens)
end
return left
"""

T = TypeVar("T")


class Buckets(Protocol):
    """Buckets of tokens, one a name, of which each server has its own."""

    def share(self, *, is_shared: bool) -> None:
        """Begin to note what is taken, or end that."""
        ...

    def taken(self) -> Taken:
        """Return what has to be settled, and forget it."""
        ...

    def settle(self, left: dict[int | str, float]) -> None:
        """Have what all servers together have left."""
        ...


class SharedCounts:
    """Counts with other servers. Implements `SharedWindows`."""

    def __init__(self, url: str, secret: bytes) -> None:
        """Use the Redis of this URL; call `start` first."""
        self._url = url
        self._secret = secret[: hashlib.blake2b.MAX_KEY_SIZE]
        self._buckets: list[Buckets] = []
        self._calls = asyncio.Semaphore(CALLS)
        self._client: Any = None
        self._windows: Any = None
        self._settle: Any = None
        self._errors: tuple[type[Exception], ...] = (OSError, TimeoutError)
        # Why Redis is not used now.
        self.problem: str | None = "not asked yet"
        self.failures_total = 0
        self._tell_from = 0.0
        self._has_told = False
        # Told when Redis has gone, and when it is back.
        self.changed: Listeners[[]] = Listeners()

    async def start(self) -> None:
        """Connect; a Redis that is away keeps nobody from starting.

        Raises:
            StartError: the library is missing.
        """
        if importlib.util.find_spec("redis") is None:
            raise StartError(
                "RATE_LIMIT_STORAGE: needs the extra redis: pip install 'heliograph[redis]'"
            )
        await load("redis.asyncio")
        await load("limits.aio.storage")
        # For those alone who have Redis.
        from limits.aio.storage import RedisStorage  # noqa: PLC0415 - see above
        from redis.asyncio import Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._errors = (*self._errors, RedisError)
        try:
            self._client = Redis.from_url(
                self._url,
                socket_timeout=CALL_SECONDS,
                socket_connect_timeout=CALL_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise StartError(f"RATE_LIMIT_STORAGE: {error}") from None
        self._windows = RedisStorage(
            f"async+{self._url}",
            implementation="redispy",
            key_prefix=PREFIX,
            connection_pool=self._client.connection_pool,
        )
        self._settle = self._client.register_script(_SETTLE)
        await self._probe()
        if self.problem is not None:
            self._tell()

    async def close(self) -> None:
        """Settle what is open, and disconnect."""
        if self.problem is None:
            await self._settle_all()
        if self._client is not None:
            with contextlib.suppress(*self._errors):
                async with asyncio.timeout(CALL_SECONDS):
                    await self._client.aclose()

    def add(self, buckets: Buckets) -> None:
        """Count these with other servers from now on."""
        self._buckets.append(buckets)
        buckets.share(is_shared=self.problem is None)

    async def take(self, key: str, limit: Limit) -> bool | None:
        """Count one, as `SharedWindows` has it."""
        return await self._call(
            lambda: self._windows.acquire_entry(key, limit.amount, limit.seconds)
        )

    async def look(self, key: str, limit: Limit) -> Window | None:
        """Return how full a window is, as `SharedWindows` has it."""
        found = await self._call(
            lambda: self._windows.get_moving_window(key, limit.amount, limit.seconds)
        )
        return None if found is None else window(limit, *found)

    async def run(self) -> None:
        """Settle, and look whether Redis is back, for ever."""
        while True:
            if self.problem is None:
                await asyncio.sleep(SETTLE_SECONDS)
                await self._settle_all()
            else:
                await asyncio.sleep(RETRY_SECONDS)
                await self._probe()

    async def _probe(self) -> None:
        # As what it is for: it may answer, and take nothing.
        found = await self._tried(lambda: self._settle([f"{PREFIX}:probe"], [1, 1, 0, 1]))
        if isinstance(found, _Failed):
            self.problem = found.reason
            return
        self.problem = None
        for each in self._buckets:
            each.share(is_shared=True)
        if self._has_told:
            self._has_told = False
            log.info("RATE_LIMIT_STORAGE available: limits count for all servers together")
        self.changed()

    async def _settle_all(self) -> None:
        for buckets in self._buckets:
            taken = buckets.taken()
            names = iter(taken.by_name.items())
            while part := dict(itertools.islice(names, AT_ONCE)):
                left = await self._settle_part(taken, part)
                if left is None:
                    return
                buckets.settle(dict(zip(part, map(float, left), strict=True)))

    async def _settle_part(
        self, taken: Taken, part: dict[int | str, float]
    ) -> Sequence[bytes] | None:
        keys = [self._key(taken.kind, name) for name in part]
        # As long as it may take from the deepest debt until a bucket is full.
        seconds = int(2 * taken.capacity / taken.per_second) + 1
        arguments = [taken.capacity, taken.per_second, *part.values(), seconds]
        return await self._call(lambda: self._settle(keys, arguments))

    def _key(self, kind: str, name: int | str) -> str:
        text = f"{kind}:{name}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, key=self._secret, digest_size=KEY_BYTES)
        return f"{PREFIX}:{digest.hexdigest()}"

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return what Redis answers; None: it is away."""
        if self.problem is not None:
            return None
        async with self._calls:
            if self.problem is not None:
                return None
            found = await self._tried(call)
        if not isinstance(found, _Failed):
            return found
        if self.problem is None:
            self._lose(found.reason)
        return None

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> "T | _Failed":
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await call()
        except self._errors as error:
            self.failures_total += 1
            return _Failed(str(error) or "no answer in time")

    def _lose(self, reason: str) -> None:
        self.problem = reason
        for each in self._buckets:
            each.share(is_shared=False)
        if asyncio.get_running_loop().time() >= self._tell_from:
            self._tell()
        self.changed()

    def _tell(self) -> None:
        self._tell_from = asyncio.get_running_loop().time() + TELL_SECONDS
        self._has_told = True
        log.warning("RATE_LIMIT_STORAGE away: each server counts alone", reason=self.problem)


class _Failed(NamedTuple):
    reason: str

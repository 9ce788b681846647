"""How often somebody may call: reads, changes, ingest and probes, all per minute."""

import time

from heliograph.access.limiter import Limiter, rate_limited
from heliograph.address import network_of
from heliograph.model.principal import Principal
from limits import RateLimitItemPerMinute

MAXIMUM_BUCKETS = 250_000
READING = frozenset({"GET", "HEAD"})


class TokenBuckets:
    """So many tokens a minute for each name; a full bucket holds a minute's worth.

    For ingest only. The fixed window of `limits` takes 2.8 µs a call, and its storage starts a
    thread every 10 ms that walks over all names, which is dear with 10,000 devices; this takes
    0.4 µs and nothing in between.
    """

    def __init__(self, per_minute: int) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._buckets: dict[int | str, list[float]] = {}

    def take(self, name: int | str) -> None:
        """Take a token.

        Raises:
            HeliographError: RATE_LIMITED, there is none.
        """
        if not self._capacity:
            return
        moment = time.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MAXIMUM_BUCKETS:
                self._buckets.clear()
            self._buckets[name] = [self._capacity - 1, moment]
            return
        tokens = bucket[0] + (moment - bucket[1]) * self._per_second
        bucket[1] = moment
        if tokens < 1:
            bucket[0] = tokens
            raise rate_limited("requests", (1 - tokens) / self._per_second)
        bucket[0] = min(tokens, self._capacity) - 1


class Limits:
    """The limits of one application. 0 a minute is no limit."""

    def __init__(self, limiter: Limiter, *, read: int, write: int, ingest: int) -> None:
        self._limiter = limiter
        self._window = limiter.window
        self._read = RateLimitItemPerMinute(read) if read else None
        self._write = RateLimitItemPerMinute(write) if write else None
        self._ingest = TokenBuckets(ingest)

    def ingest(self, principal: Principal, address: str) -> None:
        """Count a request that brings data.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        self._ingest.take(bearer(principal, address))

    def read(self, name: int | str) -> None:
        """Count a request that reads.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        self._hit(self._read, "read", str(name))

    def call(self, method: str, name: int | str) -> None:
        """Count a request that reads or, by its method, one that changes something.

        Who reads too much may still change what he reads, and the other way round.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        if method in READING:
            self.read(name)
        else:
            self._hit(self._write, "write", str(name))

    def probe(self, address: str) -> None:
        """Count a question of how the server is: no flood of others from there hides the answer.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        self._hit(self._read, "probe", network_of(address))

    def broker(self, address: str) -> None:
        """Count a broker's question: there is one for each connection and, at worst, message.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        self._ingest.take(f"broker:{address}")

    def _hit(self, limit: RateLimitItemPerMinute | None, *names: str) -> None:
        if limit is not None and not self._window.hit(limit, *names):
            raise self._limiter.exceeded(limit, *names)


def bearer(principal: Principal, address: str) -> int | str:
    """Return whose calls are counted together."""
    if principal.sensor is not None:
        return principal.sensor
    if principal.kind == "anonymous":
        return f"anonymous:{network_of(address)}"
    return principal.name


def stranger(address: str) -> str:
    """Return as whom those are counted who need no credential: of IPv6 a whole /64."""
    return f"address:{network_of(address)}"

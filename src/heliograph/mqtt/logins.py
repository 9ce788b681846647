"""How often an address may fail to log in."""

from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from heliograph.address import network_of
from heliograph.model.credentials import hash_key
from limits import RateLimitItemPerMinute

_ONCE = RateLimitItemPerMinute(1)


class FailedLogins:
    """Counts wrong keys by address over a sliding minute; 0 a minute is no limit.

    Who has the right key is never asked here: behind one address there may be a whole site, and
    one device with a stale key must not silence the others.
    """

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(storage)
        self._known = FixedWindowRateLimiter(storage)

    def exceeded(self, address: str, username: str, key: bytes) -> bool:
        """Tell whether there were too many wrong keys before this one, and count it if not.

        The same one again for the same user is no new guess.
        """
        if self._limit is None:
            return False
        network = network_of(address)
        if not self._limiter.test(self._limit, network):
            return True
        guess = hash_key(username.encode() + b"\0" + key).hex()
        if self._known.hit(_ONCE, "wrong", network, guess):
            self._limiter.hit(self._limit, network)
        return False

"""How often an address may fail to log in."""

from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from limits import RateLimitItemPerMinute


class FailedLogins:
    """Counts failed log-ins by address over a sliding minute; 0 a minute is no limit."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def add(self, address: str) -> None:
        """Count a failed log-in."""
        if self._limit is not None:
            self._limiter.hit(self._limit, address)

    def exceeded(self, address: str) -> bool:
        """Tell whether the address has to wait."""
        return self._limit is not None and not self._limiter.test(self._limit, address)

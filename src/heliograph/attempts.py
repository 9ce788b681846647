"""How often somebody may give a wrong password, over HTTP and MQTT together."""

import hashlib
import secrets
import time

from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from limits import RateLimitItemPerMinute

# Of one account from one address, and from all of them together: whoever guesses from one place
# must not keep the account's owner out everywhere else.
_OF_ACCOUNT_AND_ADDRESS = RateLimitItemPerMinute(10)
_OF_ACCOUNT = RateLimitItemPerMinute(100)


_ONCE = RateLimitItemPerMinute(1)

_Counted = tuple[RateLimitItemPerMinute, tuple[str, ...]]


class Attempts:
    """Counts wrong passwords a minute, by account and by address; 0 an address is no limit."""

    def __init__(self, per_address: int) -> None:
        self._window = FixedWindowRateLimiter(MemoryStorage())
        self._of_address = RateLimitItemPerMinute(per_address) if per_address else None
        # A wrong password is often nearly a right one: its hash is of use to nobody else.
        self._secret = secrets.token_bytes(32)

    def of(self, address: str, username: str, password: str) -> "Attempt":
        """Return an attempt to log in as this user from this address."""
        if self._of_address is None:
            return Attempt(self._window, [], [], ())
        network = network_of(address)
        text = f"{username}\0{password}".encode("utf-8", "surrogatepass")
        guess = hashlib.blake2b(text, key=self._secret).hexdigest()
        return Attempt(
            self._window,
            [
                (_OF_ACCOUNT_AND_ADDRESS, ("account", username, network)),
                (_OF_ACCOUNT, ("account", username)),
            ],
            [(self._of_address, ("address", network))],
            ("guess", network, guess),
        )


class Attempt:
    """A password that somebody gives. Implements `Guess`; a right one counts for nothing.

    The same wrong one again is no new guess of its address: one device with an old password
    must not lock out its neighbours.
    """

    def __init__(
        self,
        window: FixedWindowRateLimiter,
        of_account: list[_Counted],
        of_address: list[_Counted],
        guess: tuple[str, ...],
    ) -> None:
        self._window = window
        self._of_account = of_account
        self._of_address = of_address
        self._guess = guess

    def check(self) -> None:
        """Refuse the password unread after too many wrong ones.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        for limit, names in [*self._of_account, *self._of_address]:
            if not self._window.test(limit, *names):
                reset = self._window.get_window_stats(limit, *names).reset_time
                seconds = max(1, int(reset - time.time()) + 1)
                raise HeliographError(
                    ErrorCode.RATE_LIMITED,
                    f"Too many wrong passwords; again in {seconds} s",
                    retry_after=seconds,
                )

    def failed(self) -> None:
        """Count a wrong one."""
        is_new = self._window.hit(_ONCE, *self._guess)
        for limit, names in [*self._of_account, *(self._of_address if is_new else ())]:
            self._window.hit(limit, *names)

"""How often somebody may log in, over HTTP and MQTT together."""

import hashlib
import secrets
import time

from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.turns import Party
from limits import RateLimitItemPerMinute

# Wrong passwords a minute of one account from one address, and from all of them together: whoever
# guesses from one place must not keep the account's owner out everywhere else.
WRONG_OF_ACCOUNT_AND_ADDRESS = 10
WRONG_OF_ACCOUNT = 100
# Right ones cost a hash too. A hundred clients of one user may come back at the same time.
RIGHT_OF_ACCOUNT_AND_ADDRESS = 120
RIGHT_OF_ADDRESS = 600
# Addresses from which users have logged in, the latest ones.
MOST_KNOWN = 10_000

_ONCE = RateLimitItemPerMinute(1)

_Counted = tuple[RateLimitItemPerMinute, tuple[str, ...]]


class Attempts:
    """Counts log-ins a minute, by account and by address.

    `per_address` is how many wrong passwords an address may give; 0 is no limit, of anything.
    """

    def __init__(self, per_address: int) -> None:
        self._window = FixedWindowRateLimiter(MemoryStorage())
        self._of_address = RateLimitItemPerMinute(per_address) if per_address else None
        # A wrong password is often nearly a right one: its hash is of use to nobody else.
        self._secret = secrets.token_bytes(32)
        self._known: dict[Party, None] = {}

    def of(self, address: str, username: str, password: str) -> "Attempt":
        """Return an attempt to log in as this user from this address."""
        party = Party(network_of(address), username)
        if self._of_address is None:
            return Attempt(self, party, [], [], [], ())
        text = f"{username}\0{password}".encode("utf-8", "surrogatepass")
        guess = hashlib.blake2b(text, key=self._secret).hexdigest()
        of_account = [_limit(WRONG_OF_ACCOUNT_AND_ADDRESS, "account", username, party.network)]
        if party not in self._known:
            of_account.append(_limit(WRONG_OF_ACCOUNT, "account", username))
        return Attempt(
            self,
            party,
            of_account,
            [(self._of_address, ("address", party.network))],
            [
                _limit(RIGHT_OF_ACCOUNT_AND_ADDRESS, "right", username, party.network),
                _limit(RIGHT_OF_ADDRESS, "right", party.network),
            ],
            ("guess", party.network, guess),
        )

    def exceeded(self, limit: RateLimitItemPerMinute, names: tuple[str, ...]) -> int | None:
        """Return in how many seconds there may be another one; None: now."""
        if self._window.test(limit, *names):
            return None
        reset = self._window.get_window_stats(limit, *names).reset_time
        return max(1, int(reset - time.time()) + 1)

    def hit(self, limit: RateLimitItemPerMinute, names: tuple[str, ...]) -> bool:
        """Count one; tell whether it is within the limit."""
        return self._window.hit(limit, *names)

    def know(self, party: Party) -> None:
        """Let what others guess of this account not count here: its user has logged in here."""
        self._known.pop(party, None)
        self._known[party] = None
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]


class Attempt:
    """A password that somebody gives. Implements `Guess`.

    The same wrong one again is no new guess of its address: one device with an old password
    must not lock out its neighbours.
    """

    def __init__(
        self,
        attempts: Attempts,
        party: Party,
        of_account: list[_Counted],
        of_address: list[_Counted],
        right: list[_Counted],
        guess: tuple[str, ...],
    ) -> None:
        self.party = party
        self._attempts = attempts
        self._of_account = of_account
        self._of_address = of_address
        self._right = right
        self._guess = guess

    def check(self) -> None:
        """Refuse the password unread after too many wrong ones, or too many at all.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        for limits, what in (
            ([*self._of_account, *self._of_address], "wrong passwords"),
            (self._right, "log-ins"),
        ):
            for limit, names in limits:
                if (seconds := self._attempts.exceeded(limit, names)) is not None:
                    message = f"Too many {what}; again in {seconds} s"
                    raise HeliographError(ErrorCode.RATE_LIMITED, message, retry_after=seconds)

    def failed(self) -> None:
        """Count a wrong one."""
        if not self._guess:
            return
        is_new = self._attempts.hit(_ONCE, self._guess)
        for counted in [*self._of_account, *(self._of_address if is_new else ())]:
            self._attempts.hit(*counted)

    def succeeded(self) -> None:
        """Count a right one."""
        for counted in self._right:
            self._attempts.hit(*counted)
        self._attempts.know(self.party)


def _limit(per_minute: int, *names: str) -> _Counted:
    return RateLimitItemPerMinute(per_minute), names

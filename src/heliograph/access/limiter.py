"""How often: wrong keys, log-ins and calls, counted in one place for HTTP and MQTT alike.

Whoever guesses has one budget at an address (of IPv6: a /64), whatever they guess at and by which
protocol. What has the form of a key or token of the server's own making is no guess but a stale
one: these are counted apart, so that devices and browsers that were left behind keep nobody at
their site from logging in.
"""

import hashlib
import math
import secrets
import time
from collections.abc import Sequence

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from heliograph.access.turns import Party
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.credentials import is_random

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

_Counted = tuple[RateLimitItem, tuple[str, ...]]


class Limiter:
    """Counts by name, and says when there were too many.

    `per_address` is how many different wrong credentials, and how many sign-ups, an address may
    send a minute; 0 is no limit, of any log-ins.
    """

    def __init__(self, per_address: int) -> None:
        storage = MemoryStorage()
        self.window = FixedWindowRateLimiter(storage)
        # These windows slide: around the turn of a minute there would be twice as many guesses.
        self._guesses = MovingWindowRateLimiter(storage)
        self.allow(per_address)
        # A wrong password is often nearly a right one: its hash is of use to nobody else.
        self._secret = secrets.token_bytes(32)
        self._known: dict[Party, None] = {}

    def allow(self, per_address: int) -> None:
        """Allow an address so many a minute from now on."""
        self._of_address = RateLimitItemPerMinute(per_address) if per_address else None

    def exceeded(self, limit: RateLimitItem, *names: str) -> HeliographError:
        """Return the error for a caller over the limit of the `window`."""
        reset = self.window.get_window_stats(limit, *names).reset_time
        return rate_limited("requests", reset - time.time())

    def told(self, address: str, key: bytes = b"") -> bytes:
        """Return the header lines for who logs in from there: what they may still guess wrong."""
        limit = self._of_address
        if limit is None:
            return b""
        kind = "stale" if is_random(key) else "guess"
        stats = self._guesses.get_window_stats(limit, kind, network_of(address))
        wait = max(0, math.ceil(stats.reset_time - time.time()))
        return rate_lines("log-in", limit.amount) % (stats.remaining, wait)

    def sign_up(self, address: str) -> None:
        """Count an account that is made: each costs a password's hash.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        limit, names = self._of_address, ("sign-up", network_of(address))
        if limit is not None and not self.window.hit(limit, *names):
            raise self.exceeded(limit, *names)

    def wrong_key(self, address: str, key: bytes, username: str = "") -> None:
        """Count a wrong key or token of this address; the same one again is no new guess.

        Right keys are never refused: behind one address there may be a whole site, and one
        device with a stale key must not silence the others.

        Raises:
            HeliographError: RATE_LIMITED, there were too many before this one.
        """
        if self._of_address is None:
            return
        network = network_of(address)
        counted = self._of_address, ("stale" if is_random(key) else "guess", network)
        self.check(*counted, what="wrong keys")
        if self.is_new(network, username, key):
            self.count(*counted)

    def password(self, address: str, username: str, password: str) -> "Attempt":
        """Return an attempt to log in as this user from this address."""
        party = Party(network_of(address), username)
        if self._of_address is None:
            return Attempt(self, party, password)
        of_account = [_limit(WRONG_OF_ACCOUNT_AND_ADDRESS, "account", username, party.network)]
        if party not in self._known:
            of_account.append(_limit(WRONG_OF_ACCOUNT, "account", username))
        return Attempt(
            self,
            party,
            password,
            of_account=of_account,
            of_address=[(self._of_address, ("guess", party.network))],
            right=[
                _limit(RIGHT_OF_ACCOUNT_AND_ADDRESS, "right", username, party.network),
                _limit(RIGHT_OF_ADDRESS, "right", party.network),
            ],
        )

    def check(self, limit: RateLimitItem, names: tuple[str, ...], *, what: str) -> None:
        """Refuse what comes after too many.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        if not self._guesses.test(limit, *names):
            reset = self._guesses.get_window_stats(limit, *names).reset_time
            raise rate_limited(what, reset - time.time())

    def count(self, limit: RateLimitItem, names: tuple[str, ...]) -> None:
        """Count one."""
        self._guesses.hit(limit, *names)

    def is_new(self, network: str, username: str, secret: bytes) -> bool:
        """Return whether a secret is given there for the first time in a minute."""
        text = username.encode("utf-8", "surrogatepass") + b"\0" + secret
        guess = hashlib.blake2b(text, key=self._secret).hexdigest()
        return self.window.hit(_ONCE, "new", network, guess)

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
        limiter: Limiter,
        party: Party,
        password: str,
        *,
        of_account: Sequence[_Counted] = (),
        of_address: Sequence[_Counted] = (),
        right: Sequence[_Counted] = (),
    ) -> None:
        self.party = party
        self._limiter = limiter
        self._password = password.encode("utf-8", "surrogatepass")
        self._of_account = of_account
        self._of_address = of_address
        self._right = right

    def check(self) -> None:
        """Refuse the password unread after too many wrong ones, or too many at all.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        for counted in (*self._of_account, *self._of_address):
            self._limiter.check(*counted, what="wrong passwords")
        for counted in self._right:
            self._limiter.check(*counted, what="log-ins")

    def failed(self) -> None:
        """Count a wrong one."""
        for counted in self._of_account:
            self._limiter.count(*counted)
        if self._of_address and self._limiter.is_new(*self.party, self._password):
            for counted in self._of_address:
                self._limiter.count(*counted)

    def succeeded(self) -> None:
        """Count a right one."""
        for counted in self._right:
            self._limiter.count(*counted)
        self._limiter.know(self.party)


def rate_lines(name: str, per_minute: int) -> bytes:
    """Return the header lines that tell a limit, with two `%d`: what is left, and for how long.

    As draft-ietf-httpapi-ratelimit-headers-10 has them.
    """
    lines = f'ratelimit-policy: "{name}";q={per_minute};w=60\r\nratelimit: "{name}"'
    return lines.encode() + b";r=%d;t=%d\r\n"


def rate_limited(what: str, seconds: float) -> HeliographError:
    """Return the error for a caller who has to wait for so many seconds."""
    seconds = max(1, int(seconds) + 1)
    message = f"Too many {what}; again in {seconds} s"
    return HeliographError(ErrorCode.RATE_LIMITED, message, retry_after=seconds)


def _limit(per_minute: int, *names: str) -> _Counted:
    return RateLimitItemPerMinute(per_minute), names

"""How often: wrong keys, log-ins and calls, counted in one place for HTTP and MQTT alike.

Whoever guesses has one budget at an address (of IPv6: a /64), whatever they guess at and by which
protocol. What has the form of a key or token of the server's own making is no guess but a stale
one: these are counted apart, so that devices and browsers that were left behind keep nobody at
their site from logging in.
"""

import math
import secrets
from collections.abc import Sequence

from heliograph.access.turns import Party
from heliograph.access.windows import Limit, Windows, seconds_until
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.credentials import is_random

# Wrong passwords a minute of one account from one address, and from all of them together: whoever
# guesses from one place must not keep the account's owner out everywhere else.
WRONG_OF_ACCOUNT_AND_ADDRESS = Limit("account and address", 10)
WRONG_OF_ACCOUNT = Limit("account", 100)
# Right ones cost a hash too. A hundred clients of one user may come back at the same time.
RIGHT_OF_ACCOUNT_AND_ADDRESS = Limit("right of account and address", 120)
RIGHT_OF_ADDRESS = Limit("right of address", 600)
# Addresses from which users have logged in, the latest ones.
MOST_KNOWN = 10_000

# Of what is given there again within a minute.
_ONCE = Limit("new", 1)
_GUESS, _STALE, _SIGN_UP = "guess", "stale", "sign-up"

_Counted = tuple[Limit, tuple[str, ...]]


class Limiter:
    """Counts by name, and says when there were too many.

    `per_address` is how many different wrong credentials, and how many sign-ups, an address may
    send a minute; 0 is no limit, of any log-ins.
    """

    def __init__(self, per_address: int, windows: Windows | None = None) -> None:
        # Without others a secret that nobody else has: a wrong password is often nearly right.
        self.windows = windows or Windows(secrets.token_bytes(32))
        self.allow(per_address)
        self._known: dict[Party, None] = {}

    def allow(self, per_address: int) -> None:
        """Allow an address so many a minute from now on."""
        self._per_address = per_address

    async def told(self, address: str, key: bytes = b"") -> bytes:
        """Return the header lines for who logs in from there: what they may still guess wrong."""
        if not self._per_address:
            return b""
        limit = self._of_address(_kind(key))
        found = await self.windows.look(limit, network_of(address))
        wait = math.ceil(seconds_until(found.reset))
        return rate_lines("log-in", found.amount) % (found.left, wait)

    async def sign_up(self, address: str) -> None:
        """Count an account that is made: each costs a password's hash.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        if not self._per_address:
            return
        limit, network = self._of_address(_SIGN_UP), network_of(address)
        if not await self.windows.take(limit, network):
            found = await self.windows.look(limit, network)
            raise rate_limited("requests", seconds_until(found.reset))

    async def wrong_key(self, address: str, key: bytes, username: str = "") -> None:
        """Count a wrong key or token of this address; the same one again is no new guess.

        Right keys are never refused: behind one address there may be a whole site, and one
        device with a stale key must not silence the others.

        Raises:
            HeliographError: RATE_LIMITED, there were too many before this one.
        """
        if not self._per_address:
            return
        network = network_of(address)
        counted = self._of_address(_kind(key)), (network,)
        await self.check(*counted, what="wrong keys")
        if await self.is_new(network, username, key) and not await self.count(*counted):
            # Others, here or on another server, were counted between the two.
            await self.check(*counted, what="wrong keys")

    def password(self, address: str, username: str, password: str) -> "Attempt":
        """Return an attempt to log in as this user from this address."""
        party = Party(network_of(address), username)
        if not self._per_address:
            return Attempt(self, party, password)
        of_account: list[_Counted] = [(WRONG_OF_ACCOUNT_AND_ADDRESS, (username, party.network))]
        if party not in self._known:
            of_account.append((WRONG_OF_ACCOUNT, (username,)))
        return Attempt(
            self,
            party,
            password,
            of_account=of_account,
            of_address=[(self._of_address(_GUESS), (party.network,))],
            right=[
                (RIGHT_OF_ACCOUNT_AND_ADDRESS, (username, party.network)),
                (RIGHT_OF_ADDRESS, (party.network,)),
            ],
        )

    async def check(self, limit: Limit, names: tuple[str, ...], *, what: str) -> None:
        """Refuse what comes after too many.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        found = await self.windows.look(limit, *names)
        if not found.left:
            raise rate_limited(what, seconds_until(found.reset))

    async def count(self, limit: Limit, names: tuple[str, ...]) -> bool:
        """Count one; return whether it was not too many."""
        return await self.windows.take(limit, *names)

    async def is_new(self, network: str, username: str, secret: bytes) -> bool:
        """Return whether a secret is given there for the first time in a minute."""
        return await self.windows.take(_ONCE, network, username, secret)

    def _of_address(self, kind: str) -> Limit:
        return Limit(kind, self._per_address)

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

    async def check(self) -> None:
        """Refuse the password unread after too many wrong ones, or too many at all.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        for counted in (*self._of_account, *self._of_address):
            await self._limiter.check(*counted, what="wrong passwords")
        for counted in self._right:
            await self._limiter.check(*counted, what="log-ins")

    async def failed(self) -> None:
        """Count a wrong one."""
        for counted in self._of_account:
            await self._limiter.count(*counted)
        if self._of_address and await self._limiter.is_new(*self.party, self._password):
            for counted in self._of_address:
                await self._limiter.count(*counted)

    async def succeeded(self) -> None:
        """Count a right one."""
        for counted in self._right:
            await self._limiter.count(*counted)
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


def _kind(key: bytes) -> str:
    return _STALE if is_random(key) else _GUESS

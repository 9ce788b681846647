"""Who is calling, how often they may, and what."""

import time
from typing import Any, Final, NoReturn

from starlette.types import Scope

from heliograph.access.authenticator import Authenticator
from heliograph.access.limiter import Limiter, rate_limited, rate_lines
from heliograph.access.policy import Action, may, may_read, may_send_data, networks_of
from heliograph.access.registry import KnownSensor, Registry
from heliograph.access.windows import share_of
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.answers import GUESSES, HELD, RATE
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal
from heliograph.model.sensor import Network
from heliograph.model.time import now
from heliograph.model.tokens import Taken
from heliograph.store.accounts import SESSION

MAXIMUM_REMEMBERED = 50_000
MAXIMUM_BUCKETS = 250_000
CHANNEL_TESTS_PER_MINUTE = 6
# Settled with other servers is what makes out one of so many parts of a bucket, within a minute.
SETTLED_PARTS = 200
FORGET_SECONDS = 60.0
READING = frozenset({"GET", "HEAD"})
COOKIE = "heliograph_session"
# In the ASGI scope: an origin of CORS_ORIGINS makes the request.
OF_ALLOWED_ORIGIN: Final = "heliograph.of_allowed_origin"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
NOT_FOUND = {
    ErrorCode.USER_NOT_FOUND: "User not found",
    ErrorCode.MEMBER_NOT_FOUND: "Member not found",
    ErrorCode.NODE_NOT_FOUND: "Node not found",
    ErrorCode.CHANNEL_NOT_FOUND: "Channel not found",
    ErrorCode.ALERT_NOT_FOUND: "Alert not found",
    ErrorCode.SILENCE_NOT_FOUND: "Silence not found",
    ErrorCode.ANNOTATION_NOT_FOUND: "Annotation not found",
    ErrorCode.SESSION_NOT_FOUND: "Session not found",
    ErrorCode.BOARD_NOT_FOUND: "Board not found",
    ErrorCode.SENSOR_NOT_FOUND: "Sensor not found",
    ErrorCode.DEVICE_NOT_FOUND: "Device not found",
    ErrorCode.NETWORK_NOT_FOUND: "Network not found",
    ErrorCode.CONFIGURATION_NOT_FOUND: "Configuration not found",
    ErrorCode.RULE_NOT_FOUND: "Rule not found",
    ErrorCode.ACTION_NOT_FOUND: "Action not found",
    ErrorCode.MESSAGE_NOT_FOUND: "Message not found",
}


class TokenBuckets:
    """So many tokens a minute for each name; 0: any number. A full bucket holds a minute's worth.

    A window of the library `limits` takes 2.8 µs a call, and its storage starts a thread every
    10 ms that walks over all names, which is dear with 10,000 devices; this takes 0.4 µs and
    nothing in between.
    """

    def __init__(self, name: str, per_minute: int) -> None:
        self._name = name
        self.allow(per_minute)
        self._buckets: dict[int | str, list[float]] = {}
        # What was taken since it was settled with other servers; None: this one counts alone.
        self._spent: dict[int | str, float] | None = None
        self._forget_from = 0.0

    def allow(self, per_minute: int) -> None:
        """Allow so many a minute from now on."""
        self._capacity, self._per_second = float(per_minute), per_minute / 60
        self._told = rate_lines(self._name, per_minute)

    def take(self, name: int | str, scope: Scope) -> None:
        """Take a token, and leave in the scope what the caller is told of those that are left.

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
            if self._spent is not None:
                self._spent[name] = self._spent.get(name, 0) + 1
            scope[RATE] = self._told % (self._capacity - 1, 1 / self._per_second + 1)
            return
        tokens = bucket[0] + (moment - bucket[1]) * self._per_second
        bucket[1] = moment
        if tokens < 1:
            bucket[0] = tokens
            wait = (1 - tokens) / self._per_second
            scope[RATE] = self._told % (0, wait + 1)
            raise rate_limited("requests", wait)
        bucket[0] = tokens = min(tokens, self._capacity) - 1
        scope[RATE] = self._told % (tokens, (self._capacity - tokens) / self._per_second + 1)
        if self._spent is not None:
            self._spent[name] = self._spent.get(name, 0) + 1

    def share(self, *, is_shared: bool) -> None:
        """Note what is taken from now on, to settle it with other servers; or count alone."""
        self._spent = {} if is_shared else None

    def taken(self) -> Taken:
        """Return what is to be settled with other servers; the least is, once a minute, forgotten.

        So whoever calls seldom costs other servers nothing.
        """
        spent, least = self._spent or {}, self._capacity / SETTLED_PARTS
        due = {name: count for name, count in spent.items() if count >= least}
        for name in due:
            del spent[name]
        if (moment := time.monotonic()) >= self._forget_from:
            self._forget_from = moment + FORGET_SECONDS
            spent.clear()
        return Taken(self._name, self._capacity, self._per_second, due if self._capacity else {})

    def settle(self, left: dict[int | str, float]) -> None:
        """Have what all servers together have left, but for what was taken since it was asked."""
        moment, spent = time.monotonic(), self._spent or {}
        for name, tokens in left.items():
            self._buckets[name] = [tokens - spent.get(name, 0), moment]


class Limits:
    """How often each caller may call: reads, changes, ingest and probes have a bucket each."""

    def __init__(self, *, read: int, write: int, ingest: int) -> None:
        self.read = TokenBuckets("read", read)
        self.write = TokenBuckets("write", write)
        # No flood of other requests from an address hides from it how the server is.
        self.probe = TokenBuckets("probe", read)
        # And what brokers ask: there is one for each connection and, at worst, message.
        self.ingest = TokenBuckets("ingest", ingest)
        # Of the channels of a network together: each is sent to somebody.
        self.channel_tests = TokenBuckets("channel-tests", CHANNEL_TESTS_PER_MINUTE)

    @property
    def all(self) -> tuple[TokenBuckets, ...]:
        """The buckets of each kind."""
        return self.read, self.write, self.probe, self.ingest, self.channel_tests

    def allow(self, *, read: int, write: int, ingest: int, servers: int = 1) -> None:
        """Allow so many calls a minute from now on: one of so many servers its share."""
        self.read.allow(share_of(read, servers))
        self.probe.allow(share_of(read, servers))
        self.write.allow(share_of(write, servers))
        self.ingest.allow(share_of(ingest, servers))
        self.channel_tests.allow(share_of(CHANNEL_TESTS_PER_MINUTE, servers))

    def call(self, name: int | str, scope: Scope) -> None:
        """Count a request that reads or, by its method, one that changes something.

        Whoever reads too much may still change what they read, and the other way round.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        (self.read if scope.get("method", "GET") in READING else self.write).take(name, scope)

    def refused(self, scope: Scope, bucket: TokenBuckets | None = None) -> HeliographError | None:
        """Count a request or socket that is refused, of its client's address, if nothing has yet.

        Without a bucket it is one that reads or changes. Returns the error for one too many.
        """
        if RATE in scope:
            return None
        try:
            if bucket is None:
                self.call(stranger(scope), scope)
            else:
                bucket.take(stranger(scope), scope)
        except HeliographError as error:
            return error
        return None


class Access:
    """Decides, for every route, who is calling."""

    def __init__(
        self, authenticator: Authenticator, registry: Registry, limits: Limits, limiter: Limiter
    ) -> None:
        self._authenticator = authenticator
        # Its generation says as of which change callers are known.
        self.registry = registry
        self.limits = limits
        self._limiter = limiter
        self._principals: dict[bytes, Principal] = {}
        # By the hash of their token.
        self._sessions: dict[bytes, Principal] = {}
        self._generation = registry.generation

    def may_have_ended(self, principal: Principal, generation: int) -> bool:
        """Return whether what was found of a caller, as of a generation, has to be asked again."""
        if generation != self.registry.generation:
            return True
        return principal.has_expired(now())

    def _remember(
        self, cache: dict[bytes, Principal], hashed: bytes, principal: Principal, generation: int
    ) -> None:
        if generation != self.registry.generation:
            return  # it may be someone else's by now
        if len(cache) >= MAXIMUM_REMEMBERED:
            cache.clear()
        cache[hashed] = principal

    async def caller(self, scope: Scope) -> Principal:
        """Return who is calling, by `X-API-Key`, `Authorization`, or the session's cookie.

        Another site's page can have a browser send the cookie. So that counts for what changes
        something only if the browser says that the page is ours. Where no credential is asked for
        at all, `ForeignPages` has looked before.

        Raises:
            HeliographError: INVALID_API_KEY, INVALID_TOKEN, RATE_LIMITED (wrong keys); FORBIDDEN,
                another site's page.
        """
        if self._generation != self.registry.generation:
            self._principals.clear()
            self._sessions.clear()
            self._generation = self.registry.generation
        headers = dict(scope["headers"])
        if (key := headers.get(b"x-api-key")) is not None:
            hashed = hash_key(key)
            return self._principals.get(hashed) or await self._key(hashed, key, scope)
        token = session_token(scope, headers)
        if token is None:
            anonymous = self._authenticator.anonymous()
            if anonymous is None:
                raise HeliographError(ErrorCode.INVALID_API_KEY, "Invalid API key")
            return anonymous
        is_cookie = b"authorization" not in headers
        if is_cookie and scope.get("method") not in SAFE_METHODS and not is_own_page(scope):
            raise another_site()
        return await self._bearer(token, scope)

    async def _key(self, hashed: bytes, key: bytes, scope: Scope) -> Principal:
        generation = self._generation
        found = await self._authenticator.key(key.decode("utf-8", "surrogateescape"))
        if found is None:
            await self.refuse_key(key, scope)
        self._remember(self._principals, hashed, found, generation)
        return found

    async def _bearer(self, token: bytes, scope: Scope) -> Principal:
        hashed, moment = hash_key(token), now()
        found = self._sessions.get(hashed)
        if (
            found is not None
            and moment < (found.until or 0)
            # There may have been no room to keep the caller's roles.
            and await self.registry.find_account(found.account or "")
        ):
            self.registry.note_session(hashed, moment)
            return found
        generation = self._generation
        text = token.decode("utf-8", "surrogateescape")
        found = await self._authenticator.session(text, SESSION, moment)
        if found is None:
            self._sessions.pop(hashed, None)
            invalid = HeliographError(ErrorCode.INVALID_TOKEN, "Invalid token")
            await self.refuse_key(token, scope, invalid)
        self._remember(self._sessions, hashed, found, generation)
        self.registry.note_session(hashed, moment)
        return found

    async def limit_sign_ups(self, address: str) -> None:
        """Count an account that is made from this address.

        Raises:
            HeliographError: RATE_LIMITED.
        """
        await self._limiter.sign_up(address)

    async def refuse_key(
        self, key: bytes, scope: Scope, error: HeliographError | None = None
    ) -> NoReturn:
        """Count a wrong key, or token, of the client's address, and refuse it.

        Raises:
            HeliographError: RATE_LIMITED; otherwise `error`, by default INVALID_API_KEY.
        """
        address = client_address(scope)
        try:
            await self._limiter.wrong_key(address, key)
        finally:
            await self.tell_log_ins(scope, key)
        raise error or HeliographError(ErrorCode.INVALID_API_KEY, "Invalid API key")

    async def tell_log_ins(self, scope: Scope, key: bytes = b"") -> None:
        """Leave in the scope what the caller is told of wrong credentials that are left to them."""
        scope[GUESSES] = await self._limiter.told(client_address(scope), key)

    async def sender(self, scope: Scope) -> Principal:
        """Return who is calling if they may send data at all.

        Raises:
            HeliographError: as `caller`; FORBIDDEN.
        """
        principal = await self.caller(scope)
        if not may_send_data(principal):
            raise forbidden()
        return principal

    async def reader(self, scope: Scope) -> Principal:
        """Return who is calling to read, and count that; it may have to wait for large answers.

        Raises:
            HeliographError: as `caller`; RATE_LIMITED.
        """
        principal = await self.caller(scope)
        name = bearer(principal, scope)
        self.limits.read.take(name, scope)
        if principal.kind != "admin":
            await scope[HELD].charge(name)
        return principal


class Rights:
    """What a caller may do.

    What they may not see answers exactly as what does not exist.
    """

    def __init__(self, caller: Principal, registry: Registry) -> None:
        self.caller = caller
        self.registry = registry
        self.grants = registry.grants

    def may(self, action: Action, resource: Any = None) -> bool:
        """Return whether the caller may do this with a sensor, in a network, or at all."""
        return may(self.caller, action, resource, self.grants)

    def require(self, action: Action, resource: Any = None) -> None:
        """Allow an action with a sensor, in a network, or one that belongs to none.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if not self.may(action, resource):
            raise forbidden()

    def require_leave(self, network: str, target: str) -> None:
        """Allow that something moves from a network to the target, where it differs.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if target != network:
            # Only an owner takes out of a network what its editors could not delete there.
            self.require(Action.MANAGE, network)

    async def network(self, identifier: str, action: Action = Action.VIEW) -> Network:
        """Return the network if the caller may do this with it.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, none for this caller; FORBIDDEN.
        """
        wanted = identifier.lower()
        is_seen = self.may(Action.VIEW, wanted)
        if not is_seen and is_machine(self.caller):
            raise forbidden()
        found = await self.registry.network(identifier) if is_seen else None
        if found is None:
            raise not_found(ErrorCode.NETWORK_NOT_FOUND)
        self.require(action, wanted)
        return found

    async def target_network(self, identifier: str | None) -> str:
        """Return the network that the caller may put something into; None: `default`.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, FORBIDDEN.
        """
        if identifier is None:
            self.require(Action.EDIT, self.registry.default_network)
            return self.registry.default_network
        return (await self.network(identifier, Action.EDIT)).identifier

    async def visible(self, identifier: str | None = None) -> list[str] | None:
        """Return the networks whose sensors are listed for the caller; None: all of them.

        With `identifier` it is the one that is asked for.

        Raises:
            HeliographError: FORBIDDEN, a caller who reads no lists; NETWORK_NOT_FOUND.
        """
        seen = networks_of(self.caller, Action.VIEW, self.grants)
        if seen == [] and self.caller.account is None:
            raise forbidden()
        if identifier is None:
            return seen
        return [(await self.network(identifier)).identifier]

    async def audited(self, identifier: str | None) -> list[str] | None:
        """Return the networks whose audit log the caller may read; None: all of them.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, FORBIDDEN, as from `network` for an owner;
                FORBIDDEN, a caller who can own none.
        """
        if identifier is not None:
            return [(await self.network(identifier, Action.MANAGE)).identifier]
        owned = networks_of(self.caller, Action.MANAGE, self.grants)
        if owned == [] and self.caller.account is None:
            raise forbidden()
        return owned

    async def readable(
        self,
        identifier: str,
        code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
    ) -> KnownSensor:
        """Return the sensor if the caller may read it.

        Raises:
            HeliographError: `code` if there is none for this caller; FORBIDDEN.
        """
        sensor = await self.registry.find(identifier)
        if sensor is None or not may_read(self.caller, sensor, self.grants):
            if self.caller.kind == "shared":
                raise forbidden()
            raise not_found(code)
        return sensor

    async def device(self, identifier: str) -> KnownSensor:
        """Return the device if the caller may read its record and its readings.

        Raises:
            HeliographError: DEVICE_NOT_FOUND, there is none for this caller.
        """
        sensor = await self.registry.find(identifier)
        if sensor is None or not self.may(Action.READ_READINGS, sensor):
            raise not_found(ErrorCode.DEVICE_NOT_FOUND)
        return sensor

    async def changeable(
        self,
        identifier: str,
        action: Action,
        code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
    ) -> KnownSensor:
        """Return the sensor if the caller may do this with it.

        Raises:
            HeliographError: `code` if there is none for this caller; FORBIDDEN.
        """
        sensor = await self.readable(identifier, code)
        self.require(action, sensor)
        return sensor


def bearer(principal: Principal, scope: Scope) -> int | str:
    """Return whose calls are counted together."""
    if principal.sensor is not None:
        return principal.sensor
    if principal.kind == "anonymous":
        return f"anonymous:{network_of(client_address(scope))}"
    return principal.name


def stranger(scope: Scope) -> str:
    """Return the name under which calls without a credential are counted: for IPv6, the /64."""
    return f"address:{network_of(client_address(scope))}"


def is_machine(principal: Principal) -> bool:
    """Return whether the caller can have no role of their own: a device, or a shared key."""
    return principal.kind == "shared" or principal.sensor is not None


def forbidden() -> HeliographError:
    """Return the error for a known caller without the right."""
    return HeliographError(ErrorCode.FORBIDDEN, "This credential does not allow that")


def not_found(code: ErrorCode) -> HeliographError:
    """Return what is answered for what does not exist, or not for this caller."""
    return HeliographError(code, NOT_FOUND[code])


def client_address(scope: Scope) -> str:
    """Return the address that limits count by."""
    client = scope.get("client")
    return client[0] if client else ""


def is_encrypted(scope: Scope) -> bool:
    """Return whether the client speaks TLS, with us or with a proxy that is trusted."""
    return scope.get("scheme") in ("https", "wss")


def cookie_name(scope: Scope) -> str:
    """Return the name of the session's cookie.

    Over TLS it is one that browsers take from nobody else: neither from what is sent without TLS
    to a host of this name, nor from another host of its domain (RFC 6265bis, 4.1.3). In a folder
    of a host it belongs to that alone, for which the prefix is another.
    """
    if not is_encrypted(scope):
        return COOKIE
    return f"__Secure-{COOKIE}" if scope.get("root_path") else f"__Host-{COOKIE}"


def session_token(scope: Scope, headers: dict[bytes, bytes]) -> bytes | None:
    """Return the token of the session that a request is made with, as a header or a cookie."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        return _bearer_token(authorization)
    cookies = headers.get(b"cookie")
    if cookies is None:
        return None
    wanted = cookie_name(scope).encode()
    for part in cookies.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == wanted and value:
            return value.strip()
    return None


def is_own_page(scope: Scope) -> bool | None:
    """Return whether a page of this server makes the request; None if no browser says so.

    A page of an origin that is allowed counts as one.
    """
    if OF_ALLOWED_ORIGIN in scope:
        return True
    headers = dict(scope["headers"])
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        # none: the users themselves, from the address bar.
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    if origin is None:
        return None
    scheme, _, host = origin.partition(b"://")
    # Behind a proxy that ends TLS the page's scheme is more than we know of; never less.
    if is_encrypted(scope) and scheme != b"https":
        return False
    return bool(host) and host == headers.get(b"host")


def _bearer_token(authorization: bytes | None) -> bytes | None:
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:].strip()


def another_site() -> HeliographError:
    """Return the error for a browser that shows another site's page."""
    return HeliographError(ErrorCode.FORBIDDEN, "Another site's page may not do that")

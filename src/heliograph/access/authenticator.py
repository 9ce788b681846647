"""From a credential to a principal."""

import hmac
import re

import msgspec

from heliograph.access.limiter import Limiter
from heliograph.access.passwords import Passwords
from heliograph.access.registry import KnownSensor, Registry
from heliograph.access.windows import HOUR, Limit
from heliograph.address import network_of
from heliograph.errors import HeliographError
from heliograph.model.account import LONGEST_USERNAME, Account
from heliograph.model.audit import Actor, ActorKind, AuditAction, AuditedChange
from heliograph.model.credentials import (
    LONGEST_PASSWORD,
    hash_key,
    is_api_key,
    setup_code,
)
from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.principal import Principal, Role
from heliograph.model.time import now
from heliograph.store.accounts import SESSION, Accounts
from heliograph.store.audit import Audit

ADMIN = Principal("admin", "admin", Role.OWNER)

# Of one name from one address, and of all together: whoever guesses at one account must not be
# able to hide it behind guesses at others from the same place.
OF_NAME_AND_ADDRESS = Limit("entries of name and address", 10, HOUR)
OF_ALL = Limit("entries", 100, HOUR)


class FailedLogIns:
    """Enters wrong passwords in the audit log, up to a number an hour; the next says how many more.

    A name that is no user's is not entered: people type passwords where names belong.
    """

    def __init__(self, audit: Audit, limiter: Limiter) -> None:
        self._audit = audit
        self._windows = limiter.windows
        self._left_out = 0

    async def enter(
        self, username: str, account: Account | None, address: str, actor: Actor | None = None
    ) -> None:
        """Enter a wrong password for this name; `account` is whose it is, if anybody's.

        Known and unknown names cost the same, so that timing reveals nothing.
        """
        if actor is None:
            actor = Actor(ActorKind.ANONYMOUS, "anonymous", address or None)
        # Over MQTT a name may be as long as it likes; what is longer is nobody's.
        name = username[: LONGEST_USERNAME + 1]
        if not (
            await self._windows.take(OF_NAME_AND_ADDRESS, name, network_of(address))
            and await self._windows.take(OF_ALL)
        ):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        change = AuditedChange(
            AuditAction.USER_FAIL_TO_LOG_IN,
            account.identifier if account is not None else None,
            account.username if account is not None else None,
            changes={"left_out_before": {"new": left_out}} if left_out else {},
        )
        await self._audit.enter(actor, change)


class Authenticator:
    """Knows the admin key, the shared device keys, the devices' own keys, and users.

    Keys are compared as SHA-256 hashes and in constant time; none is kept in the clear.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        admin_key: str,
        device_keys: tuple[str, ...] = (),
        anonymous_role: str = "",
        accounts: Accounts | None = None,
        passwords: Passwords | None = None,
        limiter: Limiter | None = None,
        failed: FailedLogIns | None = None,
    ) -> None:
        self._registry = registry
        self._accounts = accounts
        self._passwords = passwords
        self._limiter = limiter or Limiter(0)
        self._failed = failed
        self._admin = hash_key(admin_key)
        self._shared = [hash_key(key) for key in device_keys]
        self._anonymous = (
            Principal("anonymous", "anonymous", Role[anonymous_role.upper()])
            if anonymous_role
            else None
        )

    def anonymous(self) -> Principal | None:
        """Return who calls without a credential; None: nobody may."""
        return self._anonymous

    @property
    def setup_code(self) -> str:
        """The code that makes the first administrator; of no use once there is one."""
        return setup_code(self._admin)

    def may_set_up(self, given: str) -> bool:
        """Return whether this is the setup code, however it is spaced, or the admin key."""
        text = given.strip().encode("utf-8", "surrogateescape")
        code = re.sub(rb"[\s-]", b"", text).lower()
        is_code = hmac.compare_digest(code, self.setup_code.replace("-", "").encode())
        return hmac.compare_digest(hash_key(text), self._admin) or is_code

    async def key(self, key: str) -> Principal | None:
        """Return whose `X-API-Key` this is; None if nobody's, or a deactivated device's."""
        hashed = hash_key(key.encode("utf-8", "surrogateescape"))
        if hmac.compare_digest(hashed, self._admin):
            return ADMIN
        if self._is_shared(hashed):
            # Networks' owners are told this name. Of a hash that anybody can make, eight digits
            # are enough to find a short key by.
            named = hmac.digest(self._admin, hashed, "sha256").hex()[:8]
            return Principal("shared", f"shared:{named}", key_hash=hashed)
        sensor = await self._registry.find_key(hashed)
        return _device(sensor) if sensor and sensor.is_active else None

    async def session(self, token: str, purpose: str, moment: int) -> Principal | None:
        """Return whose session this token opens, at a moment in microseconds."""
        hashed = hash_key(token.encode("utf-8", "surrogateescape"))
        return await self.session_of(hashed, purpose, moment)

    async def session_of(self, hashed: bytes, purpose: str, moment: int) -> Principal | None:
        """Return whose session it is whose token has this hash."""
        if self._accounts is None:
            return None
        found = await self._accounts.find_session(hashed, purpose, moment)
        if found is None or await self._registry.find_account(found.account.identifier) is None:
            return None
        return _user(found.account, session=hashed, until=found.expires_at)

    async def password(self, username: str, password: str, address: str) -> Account | None:
        """Return the account with this name and password; unknown and inactive ones take as long.

        Raises:
            HeliographError: RATE_LIMITED, too many wrong ones of the account or the address;
                QUEUE_FULL, too many are waiting.
        """
        if self._accounts is None or self._passwords is None:
            return None
        guess = self._limiter.password(address, username, password)
        account = await self._accounts.find_username(username)
        # Of an account that is out of use every password is wrong.
        known = account.password_hash if account is not None and account.is_active else None
        if not await self._passwords.verify(known, password, guess):
            if self._failed is not None:
                await self._failed.enter(username, account, address)
            return None
        if account is None or not self._passwords.is_outdated(account.password_hash):
            return account
        try:
            renewed = await self._passwords.hash(password, guess.party)
        except HeliographError:
            return account  # too many wait: another time
        if await self._accounts.rehash(account.identifier, renewed, expected=account.password_hash):
            return msgspec.structs.replace(account, password_hash=renewed)
        # It was changed meanwhile, by another log-in perhaps.
        return await self.password(username, password, address)

    async def replace_password(
        self, account: Account, password: str, new: str, address: str, actor: Actor | None = None
    ) -> str | None:
        """Return the hash of a new password of the account's; None: its own is another one.

        It is counted like a log-in.

        Raises:
            HeliographError: as `password`.
        """
        if self._passwords is None:
            return None
        guess = self._limiter.password(address, account.username, password)
        renewed = await self._passwords.replace(account.password_hash, password, new, guess)
        if renewed is None and self._failed is not None:
            await self._failed.enter(account.username, account, address, actor)
        return renewed

    async def login(self, username: str, password: bytes, address: str = "") -> Principal | None:
        """Return who logs in over MQTT: the admin key under any name, or a device by its key.

        A shared key speaks for the one device that the user name says. A user gives their name
        and password, or any name and the token of a session.

        Raises:
            HeliographError: RATE_LIMITED, too many wrong keys or passwords; QUEUE_FULL, too many
                are being checked.
        """
        hashed = hash_key(password)
        if hmac.compare_digest(hashed, self._admin):
            return ADMIN
        if self._is_shared(hashed) and (is_device_id(username) or is_uuid(username)):
            return Principal("shared", f"shared:{username}", device=username)
        sensor = await self._registry.find(username)
        # The comparison happens for unknown names too, so that timing reveals nothing.
        expected = sensor.key_hash if sensor and sensor.key_hash else self._admin
        is_its_key = hmac.compare_digest(hashed, expected)
        if is_its_key and sensor and sensor.is_active:
            return _device(sensor)
        text = None if is_its_key else _text(password)
        # A device with an old key must not cost what a person's password does, and for a name
        # that is a device's too nothing else is done than for any other.
        if text is not None and not is_api_key(text):
            if found := await self._session_to_hold(text):
                return found
            if len(text) <= LONGEST_PASSWORD:
                return await self._login_user(username, text, address)
        await self._limiter.wrong_key(address, password, username)
        return None

    def device(self, sensor: KnownSensor) -> Principal | None:
        """Return who the sensor is as a caller; None: it is deactivated."""
        return _device(sensor) if sensor.is_active else None

    async def user(self, username: str) -> Principal | None:
        """Return who the user of this name is as a caller; None: there is none in use."""
        found = await self._accounts.find_username(username) if self._accounts else None
        if found is None or await self._registry.find_account(found.identifier) is None:
            return None
        return _user(found)

    async def sender(self, name: str) -> Principal | None:
        """Return who goes by this name, as rejected messages have it; None: nobody any more."""
        kind, _, rest = name.partition(":")
        if kind == "admin":
            return ADMIN
        if kind == "anonymous":
            return self._anonymous
        if kind == "broker":
            return Principal(kind, name)
        if kind == "shared":
            device = rest if is_device_id(rest) or is_uuid(rest) else None
            return Principal(kind, name, device=device) if self._shared else None
        if kind == "device":
            sensor = await self._registry.find(rest)
            return None if sensor is None else self.device(sensor)
        return await self.user(rest) if kind == "user" else None

    async def _login_user(self, username: str, password: str, address: str) -> Principal | None:
        account = await self.password(username, password, address)
        if account is None:
            return None
        current = await self._registry.find_account(account.identifier)
        # A password that was changed while it was being checked is not the one any more.
        if current is None or current.password_hash != account.password_hash:
            return None
        return _user(account)

    async def _session_to_hold(self, token: str) -> Principal | None:
        """Return whose session this is, and know from now on when it ends."""
        while self._accounts is not None:
            generation = self._registry.generation
            found = await self.session(token, SESSION, now())
            if found is None or found.session is None or found.account is None:
                break
            if generation == self._registry.generation:
                self._registry.hold_session(found.session, found.account)
                return found
        return None

    def _is_shared(self, hashed: bytes) -> bool:
        # Not any(): it would stop at the first match, and time would tell which it was.
        return sum(hmac.compare_digest(hashed, shared) for shared in self._shared) > 0


def _text(password: bytes) -> str | None:
    try:
        return password.decode()
    except UnicodeDecodeError:
        return None


def _device(sensor: KnownSensor) -> Principal:
    # No device_id has a colon, so that no device goes by another principal's name.
    name = f"device:{sensor.device_id or sensor.identifier}"
    return Principal("device", name, sensor=sensor.number)


def _user(account: Account, session: bytes | None = None, until: int | None = None) -> Principal:
    return Principal(
        "admin" if account.is_admin else "user",
        f"user:{account.username}",
        account=account.identifier,
        session=session,
        until=until,
    )

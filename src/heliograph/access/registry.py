"""The sensors as the hot path knows them: a cache in front of the store."""

import asyncio
import contextlib
import secrets
import sys
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, NamedTuple

import structlog

from heliograph.access.connected import Connected
from heliograph.access.policy import Action, Grants, KnownAccount, UnknownSensor, may
from heliograph.errors import AlreadyExistsError, StoreUnavailableError
from heliograph.model.account import Account
from heliograph.model.audit import Actor, ActorKind, actor_of
from heliograph.model.credentials import shared_key_hash
from heliograph.model.identifiers import RESERVED_PREFIX, is_device_id, is_uuid, may_name_a_device
from heliograph.model.listeners import Listeners
from heliograph.model.principal import Principal, Role
from heliograph.model.sensor import Network, Sensor
from heliograph.model.time import MINUTE, now
from heliograph.store import Store
from heliograph.store.engine import RegistryChange
from heliograph.store.sensors import Unwritten

log = structlog.get_logger()

PRELOADED = 100_000
PAGE = 5_000
TOUCHED_AT_ONCE = 500
MAXIMUM_CACHED = 200_000
MAXIMUM_UNKNOWN = 10_000
MAXIMUM_ACCOUNTS = 5_000
MAXIMUM_SESSIONS = 5_000
# Sessions are told to have been used at a time that is right to so much.
SESSION_USED_TO = 5 * MINUTE
SOONEST_LOOK_SECONDS = 0.1
AUTO_PROVISION = Actor(ActorKind.SYSTEM, "auto-provision")
# Of the name of a shared key's own device, which tells nothing of the key.
OWN_NAME_BYTES = 8


class RegistryPeriod:
    """The time for which the registry has gone on from the same state of the database.

    `is_over`: the database was put back, and what was found before is not to be used any more.
    """

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Guests(NamedTuple):
    """What everybody may do, without a credential too.

    `networks` are names or identifiers of those in which that holds, beside `default`; `*`: all.
    """

    role: Role = Role.NONE
    networks: tuple[str, ...] = ()


NO_GUESTS = Guests()


_NONE: frozenset[str] = frozenset()


class KnownSensor:
    """A sensor in use: its identity, and what the hot path keeps in memory of it.

    `newest_assigned` is the newest timestamp given to a record that carried none, `number_texts`
    the attributes of which it was told that their numbers come as texts.
    """

    __slots__ = (
        "attribute_labels",
        "attributes",
        "device_id",
        "identifier",
        "is_active",
        "key_hash",
        "measured_at",
        "network_identifier",
        "newest_assigned",
        "number",
        "number_texts",
        "reading",
        "seen_at",
        "status",
        "tags",
    )

    def __init__(self, sensor: Sensor, reading: RegistryPeriod | None = None) -> None:
        self.number = sensor.number
        self.reading = reading if reading is not None else RegistryPeriod()
        self.attributes: set[str] = set()
        self.number_texts: frozenset[str] = _NONE
        self.newest_assigned = 0
        self.seen_at = 0
        self.measured_at: int | None = None
        self.assume(sensor)

    def assume(self, sensor: Sensor) -> None:
        """Take over what the registry now says of the sensor."""
        self.identifier = sensor.identifier
        self.network_identifier = sensor.network_identifier
        self.device_id = sensor.device_id
        self.key_hash = sensor.key_hash
        self.is_active = sensor.is_active
        self.status = sensor.status
        self.attribute_labels = sensor.attribute_labels
        self.tags = frozenset(sensor.tags) if sensor.tags else _NONE

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it goes by in topics and routes."""
        return (self.identifier, self.device_id) if self.device_id else (self.identifier,)


class Renewal:
    """What has become of everything that was known, so far as it was `asked`."""

    __slots__ = ("accounts", "asked", "sessions")

    def __init__(self) -> None:
        self.accounts: dict[str, KnownAccount] = {}
        self.sessions: set[bytes] = set()
        self.asked: set[str | bytes] = set()


class KnownAccounts:
    """Active accounts with their roles, and the sessions that somebody is connected by.

    Who is not known here may do nothing until they are looked up: what is forgotten for lack of
    room is refused too much, never too little.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.accounts: dict[str, KnownAccount] = {}
        # Whose they are, by the hash of their token.
        self.sessions: dict[bytes, str] = {}
        # How often somebody became known, and another was forgotten for lack of room perhaps.
        self.additions = 0

    def get(self, account: str) -> KnownAccount | None:
        """Return the account if it is known."""
        return self.accounts.get(account)

    async def read(self, account: str) -> KnownAccount | None:
        """Return what the store says of an account; None: there is none in use."""
        found = (await self._store.accounts.known([account])).get(account)
        return KnownAccount(*found) if found is not None else None

    def add(self, known: KnownAccount) -> None:
        """Know an account from now on."""
        self.additions += 1
        self.accounts[known.account.identifier] = known
        while len(self.accounts) > MAXIMUM_ACCOUNTS:
            del self.accounts[next(iter(self.accounts))]

    def hold(self, session: bytes, account: str) -> None:
        """Know from now on whether the session of this token's hash lives."""
        self.sessions[session] = account
        while len(self.sessions) > MAXIMUM_SESSIONS:
            del self.sessions[next(iter(self.sessions))]

    def forget(self) -> None:
        """Know nobody, and no session."""
        self.accounts.clear()
        self.sessions.clear()

    async def ask(self, renewal: Renewal) -> None:
        """Add what the store says now of all that is known and was not asked yet.

        If that is nothing, nothing is awaited: `assume` right after it misses nobody.
        """
        while True:
            # Whatever was looked up meanwhile may be older than the change.
            wanted = self.accounts.keys() - renewal.asked
            sessions = {k: v for k, v in self.sessions.items() if k not in renewal.asked}
            if not wanted and not sessions:
                return
            renewal.asked |= wanted | sessions.keys()
            if wanted:
                found = await self._store.accounts.known(list(wanted))
                renewal.accounts |= {name: KnownAccount(*known) for name, known in found.items()}
            if sessions:
                renewal.sessions |= await self._store.accounts.living_sessions(sessions, now())

    def assume(self, renewal: Renewal) -> None:
        """Take over what has become of everything that was known."""
        for name in list(self.accounts):
            if name in renewal.accounts:
                self.accounts[name] = renewal.accounts[name]
            else:
                del self.accounts[name]
        for session in self.sessions.keys() - renewal.sessions:
            del self.sessions[session]


class Registry:
    """Finds sensors by any of their names, from memory where it can.

    `generation` changes with every change of the registry, so that whoever keeps what it
    concluded from a sensor (may this one publish here?) knows when to ask again.
    """

    def __init__(
        self, store: Store, *, auto_provision: bool = False, guests: Guests = NO_GUESTS
    ) -> None:
        self.generation = 0
        self._store = store
        self._auto_provision = auto_provision
        self._by_name: dict[str, KnownSensor] = {}
        self._by_number: dict[int, KnownSensor] = {}
        self._by_key_hash: dict[bytes, KnownSensor] = {}
        self._unknown: set[str | bytes | int] = set()
        self._accounts = KnownAccounts(store)
        self._guests = guests
        self.grants = Grants(
            everybody=guests.role,
            accounts=self._accounts.accounts,
            sessions=self._accounts.sessions,
            sensors=self._by_number,
        )
        self._reading = RegistryPeriod()
        self._change: RegistryChange | None = None
        self._is_loaded = False
        self._changing = asyncio.Lock()
        # How many looks at the store have begun, and the last of these that came to its end.
        self._looks = self._looked = 0
        # Told after every change of the registry.
        self.changes: Listeners[[]] = Listeners()
        # Told when this server has changed it, or thinks so.
        self.changed_here: Listeners[[]] = Listeners()
        # Told after the database was put back, to forget what they know of it.
        self.rollbacks: Listeners[[]] = Listeners()
        # Told after another process has written to the file that this one has for itself.
        self.written_elsewhere: Listeners[[]] = Listeners()
        # Told the numbers of sensors that have sent to this server, and were erased by another one.
        self.erased_elsewhere: Listeners[[Collection[int]]] = Listeners()
        self._look = asyncio.Event()
        # Sensors whose `seen_at` has moved since the last flush.
        self.touched: set[KnownSensor] = set()
        # Those of a flush that is under way.
        self._flushing: set[KnownSensor] = set()
        # When sessions were last used, as far as it is known here, and what is not written of it.
        self._sessions_used: dict[bytes, int] = {}
        self._sessions_touched: dict[bytes, int] = {}
        self.connected = Connected(alone=store.engine.name == "sqlite")

    async def load(self) -> None:
        """Fill the cache with the sensors there are, as far as it holds them."""
        self._assume(await self._store.sensors.newest_change())
        await self._preload()

    def _assume(self, change: RegistryChange) -> None:
        self._change = self._store.lineage.newest = change

    async def _preload(self) -> None:
        self._is_loaded = False
        self.grants.default_network = (await self._store.networks.default()).identifier
        self.grants.sharing = await self._store.networks.sharing()
        self.grants.open_networks = await self._read_open_networks()
        after, loaded = 0, 0
        while loaded < PRELOADED:
            page = await self._store.sensors.load(after, PAGE)
            if not page:
                break
            await self._remember(page)
            after, loaded = page[-1].number, loaded + len(page)
        self._is_loaded = True

    @property
    def rights(self) -> int:
        """A number that changes whenever what somebody may do may have changed."""
        return self.generation + self._accounts.additions

    @property
    def default_network(self) -> str:
        """The network of what is registered without one."""
        return self.grants.default_network

    async def _read_open_networks(self) -> frozenset[str] | None:
        if self._guests.role is Role.NONE:
            return frozenset()
        if "*" in self._guests.networks:
            return None
        named = await self._store.networks.named(self._guests.networks)
        return named | {self.default_network}

    def cached(self, identifier: str) -> KnownSensor | None:
        """Return the sensor if it is in memory; None says nothing about its existence."""
        return self._by_name.get(identifier)

    def number(self, number: int) -> KnownSensor | None:
        """Return the sensor with this internal number if it is in memory."""
        return self._by_number.get(number)

    async def find(self, identifier: str) -> KnownSensor | None:
        """Return the sensor with this UUID or `device_id`; None if there is none."""
        if sensor := self._by_name.get(identifier):
            return sensor
        if is_uuid(identifier):
            identifier = identifier.lower()
            if sensor := self._by_name.get(identifier):
                return sensor
        elif not is_device_id(identifier):
            return None
        if identifier in self._unknown:
            return None
        return await self._look_up(self._store.sensors.find, identifier)

    async def find_number(self, number: int) -> KnownSensor | None:
        """Return the sensor with this internal number; None if there is none."""
        if sensor := self._by_number.get(number):
            return sensor
        return await self._look_up(self._store.sensors.find_number, number)

    async def find_key(self, key_hash: bytes) -> KnownSensor | None:
        """Return the sensor whose API key has this hash; None if there is none."""
        if sensor := self._by_key_hash.get(key_hash):
            return sensor
        if key_hash in self._unknown:
            return None
        return await self._look_up(self._store.sensors.find_key, key_hash)

    async def network(self, identifier: str) -> Network | None:
        """Return the network with this UUID; None if there is none."""
        return await self._store.networks.find(identifier) if is_uuid(identifier) else None

    async def find_account(self, account: str) -> Account | None:
        """Return an account, and know its roles from now on; None: there is none."""
        while (known := self._accounts.get(account)) is None:
            generation = self.generation
            found = await self._accounts.read(account)
            if generation != self.generation:
                continue  # the answer may be older than what is known by now
            if found is None:
                return None
            self._accounts.add(found)
        return known.account

    def hold_session(self, session: bytes, account: str) -> None:
        """Know from now on whether the session of this token's hash lives."""
        self._accounts.hold(session, account)

    async def provision(self, device_id: str) -> KnownSensor | None:
        """Register a device on first sight; None unless AUTO_PROVISION is on."""
        if not self._auto_provision or not may_name_a_device(device_id):
            return None
        await self._register(device_id, None, AUTO_PROVISION)
        return await self.find(device_id)

    async def own_device(self, principal: Principal) -> KnownSensor | None:
        """Return the device that a shared key is of its own, registered at first use.

        None: the key is of no use in the device's network.
        """
        if principal.key_hash is None:
            return None
        key_hash = shared_key_hash(principal.key_hash)
        own = await self.find_key(key_hash)
        # Where it would be, if it is not there yet.
        place = own or UnknownSensor(0, self.default_network)
        if not may(principal, Action.ACT_AS, place, self.grants):
            return None
        if own is None:
            name = RESERVED_PREFIX + secrets.token_hex(OWN_NAME_BYTES)
            await self._register(name, key_hash, actor_of(principal, None))
            own = await self.find_key(key_hash)
        return own

    async def _register(self, device_id: str, key_hash: bytes | None, actor: Actor) -> None:
        try:
            await self._store.sensors.create(
                identifier=str(uuid.uuid4()),
                network_identifier=None,
                device_id=device_id,
                key_hash=key_hash,
                created_at=now(),
                actor=actor,
            )
        except AlreadyExistsError:
            pass  # another message of the same device came first
        else:
            log.info("device registered on first sight", device_id=device_id)
        await self.changed()

    async def changed(self) -> None:
        """Take over what this server has changed in the store, and what has changed besides."""
        try:
            await self._catch_up()
        finally:
            self.changed_here()

    async def _catch_up(self) -> None:
        """Take over what has changed in the store since the last look."""
        begun = self._looks
        # One after the other: an older answer must not come in after a newer one, and who finds
        # nothing new has to find it in memory.
        async with self._changing:
            if self._looked > begun:
                return  # by one that has begun since
            self._looks += 1
            await self._follow()
            self._looked = self._looks

    async def erased(self, number: int) -> None:
        """Have nobody find a sensor any more whose record this server has erased."""
        # Not while a look is under way that may have read it before.
        async with self._changing:
            self.generation += 1
            self._end(number)
            self.changes()

    async def _follow(self) -> None:
        change, known = await self._store.sensors.newest_change(), self._change
        if known is None or (change != known and change.version <= known.version):
            await self._start_anew(change)
            return
        if not self._is_loaded:
            await self._preload()
        if change == known:
            return
        renewal = Renewal()
        # At once: each is a way to the database.
        is_known, changed, erased, sharing, open_networks, _ = await asyncio.gather(
            self._store.sensors.has_had(known),
            self._store.sensors.changed_since(known.version),
            self._store.sensors.erased_since(known.version),
            self._store.networks.sharing(),
            self._read_open_networks(),
            self._accounts.ask(renewal),
        )
        if not is_known:
            await self._start_anew(change)
            return
        await self._accounts.ask(renewal)  # of those who became known meanwhile
        # Without an await before roles and sensors change, so that a look-up under way
        # notices, and nobody concludes anything new from what was.
        self.generation += 1
        self._unknown.clear()
        if left := {number for number in erased if self._has_sent(number)}:
            self.erased_elsewhere(left)
        for number in erased:
            self._end(number)
        self._accounts.assume(renewal)
        self.grants.sharing = sharing
        self.grants.open_networks = open_networks
        await self._remember(changed)
        # Only now: what failed halfway is repeated whole.
        self._assume(change)
        self.changes()

    async def _start_anew(self, change: RegistryChange) -> None:
        """Forget all that was read before the database was put back to another state."""
        if self._change is not None:
            log.warning(
                "database restored from a backup: connections closed, caches reloaded",
                known_version=self._change.version,
                version=change.version,
            )
        # Without an await up to the load: nobody uses half of it.
        self._is_loaded = False
        self._reading.is_over = True
        self._reading = RegistryPeriod()
        self._assume(change)
        self.generation += 1
        for known in (self._by_name, self._by_number, self._by_key_hash):
            known.clear()
        self._unknown.clear()
        self._accounts.forget()
        self.touched.clear()
        self._sessions_used.clear()
        self._sessions_touched.clear()
        self.connected.forget()
        self.rollbacks()
        await self._store.renew()
        await self._preload()
        self.changes()

    def renew(self) -> None:
        """Have all who keep what they concluded ask again: something else has changed."""
        self.generation += 1
        self.changes()

    def look(self) -> None:
        """Compare the registry with the database now."""
        self._look.set()

    async def watch(self, interval: float = 1.0) -> None:
        """Follow the changes of other processes, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._look.wait()
            self._look.clear()
            try:
                if await self._store.written_elsewhere():
                    self.written_elsewhere()
                await self._catch_up()
            except StoreUnavailableError:
                # What is missed meanwhile comes with the next version that can be read.
                log.debug("registry not compared with the database")
            if self._look.is_set():
                # Other servers may say so as often as they like.
                await asyncio.sleep(SOONEST_LOOK_SECONDS)

    def unwritten(self) -> Unwritten:
        """Return changes that are not stored yet: connections, and when sensors were last seen."""
        connected, gone = self.connected.standing()
        noted = [
            (sensor.number, sensor.seen_at, sensor.measured_at)
            for sensor in self.touched | self._flushing
        ]
        return Unwritten(connected, gone, noted, alone=self.connected.alone, moment=now())

    async def flush(self) -> None:
        """Write when the touched sensors were last seen; keeps them for later on failure."""
        touched, self.touched = self.touched, set()
        self._flushing = touched
        rows = [
            (sensor.number, sensor.seen_at, sensor.measured_at)
            for sensor in touched
            if not sensor.reading.is_over
        ]
        used, self._sessions_touched = self._sessions_touched, {}
        try:
            with self._store.lineage.pinned():
                await self._store.accounts.touch_sessions(used)
                # In small pieces, between which the writer goes on with what devices send.
                for at in range(0, len(rows), TOUCHED_AT_ONCE):
                    await self._store.sensors.touch(rows[at : at + TOUCHED_AT_ONCE])
        except StoreUnavailableError:
            self.touched |= touched
            self._sessions_touched = used | self._sessions_touched
            raise
        finally:
            self._flushing = set()

    def note_seen(self, sensor: KnownSensor, moment: int, *, measured: bool) -> None:
        """Note when the sensor was last heard of, and whether it has measured something then."""
        sensor.seen_at = moment
        if measured:
            sensor.measured_at = moment
        self.touched.add(sensor)

    def note_session(self, session: bytes, moment: int) -> None:
        """Note that the session of this token's hash is used, to some minutes."""
        if moment - self._sessions_used.get(session, 0) < SESSION_USED_TO:
            return
        if len(self._sessions_used) >= MAXIMUM_SESSIONS:
            self._sessions_used.clear()
        self._sessions_used[session] = self._sessions_touched[session] = moment

    def session_used(self, session: bytes) -> int | None:
        """Return when the session was last used here; None: that is not known."""
        return self._sessions_used.get(session)

    def forget_beyond(self, moment: int) -> None:
        """Forget what memory has of times beyond this one: the clock was ahead, and is accepted."""
        for known in self._by_number.values():
            known.newest_assigned = min(known.newest_assigned, moment)
            known.seen_at = min(known.seen_at, moment)
            if known.measured_at is not None:
                known.measured_at = min(known.measured_at, moment)
        self._sessions_used.clear()
        self._sessions_touched.clear()
        self.connected.forget_beyond(moment)

    async def _look_up(
        self, query: Callable[[Any], Awaitable[Sensor | None]], name: str | bytes | int
    ) -> KnownSensor | None:
        while True:
            generation, reading = self.generation, self._reading
            sensor = await query(name)
            if generation != self.generation:
                continue  # the answer may be older than what is known by now
            if sensor is None:
                if len(self._unknown) >= MAXIMUM_UNKNOWN:
                    self._unknown.clear()
                self._unknown.add(name)
                return None
            await self._remember([sensor])
            if not reading.is_over:
                return self._by_number[sensor.number]

    async def _remember(self, sensors: Iterable[Sensor]) -> None:
        fresh: list[KnownSensor] = []
        for sensor in sensors:
            known = self._by_number.get(sensor.number)
            if known is None:
                known = KnownSensor(sensor, self._reading)
                fresh.append(known)
            else:
                self._forget_names(known)
                known.assume(sensor)
                # To the end of those to evict: who asks after a change has to find it here.
                del self._by_number[known.number]
            self._by_number[known.number] = known
            for name in known.names:
                self._by_name[name] = known
            if known.key_hash is not None:
                self._by_key_hash[known.key_hash] = known
        if fresh:
            attributes = await self._store.sensors.attributes([known.number for known in fresh])
            for known in fresh:
                known.attributes |= {sys.intern(n) for n in attributes.get(known.number, ())}
        self._evict()

    def _end(self, number: int) -> None:
        """Have nobody find a sensor any more; by its number it is known as one without a key.

        So whoever is connected as that sensor is told from one whose sensor has not changed.
        """
        nobody = Sensor(number, "", "", is_active=False)
        known = self._by_number.pop(number, None)
        if known is None:
            known = KnownSensor(nobody, self._reading)
        else:
            self._forget_names(known)
            known.assume(nobody)
            known.seen_at = 0
        self._by_number[number] = known

    def _has_sent(self, number: int) -> bool:
        known = self._by_number.get(number)
        return known is not None and known.seen_at > 0

    def _forget_names(self, known: KnownSensor) -> None:
        for name in known.names:
            self._by_name.pop(name, None)
        if known.key_hash is not None:
            self._by_key_hash.pop(known.key_hash, None)

    def _evict(self) -> None:
        while len(self._by_number) > MAXIMUM_CACHED:
            known = self._by_number.pop(next(iter(self._by_number)))
            self._forget_names(known)
            self.generation += 1

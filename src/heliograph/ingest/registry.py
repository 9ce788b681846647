"""The sensors as the hot path knows them: a cache in front of the store."""

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from heliograph.errors import AlreadyExistsError, StoreUnavailableError
from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.sensor import Sensor
from heliograph.model.time import now
from heliograph.store import Store

log = structlog.get_logger()

PRELOADED = 100_000
PAGE = 5_000
TOUCHED_AT_ONCE = 500
MAXIMUM_CACHED = 200_000
MAXIMUM_UNKNOWN = 10_000
MAXIMUM_ATTRIBUTES = 1_000


class KnownSensor:
    """A sensor in use: its identity, and what the hot path keeps in memory of it.

    `newest_assigned` is the newest timestamp given to a record that carried none.
    """

    __slots__ = (
        "attributes",
        "device_id",
        "identifier",
        "is_active",
        "key_hash",
        "measured_at",
        "network_identifier",
        "newest_assigned",
        "number",
        "seen_at",
        "status",
    )

    def __init__(self, sensor: Sensor) -> None:
        self.number = sensor.number
        self.attributes: set[str] = set()
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

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it goes by in topics and routes."""
        return (self.identifier, self.device_id) if self.device_id else (self.identifier,)


class Registry:
    """Finds sensors by any of their names, from memory where it can.

    `generation` changes with every change of the registry, so that whoever keeps what it
    concluded from a sensor (may this one publish here?) knows when to ask again.
    """

    def __init__(self, store: Store, *, auto_provision: bool = False) -> None:
        self.generation = 0
        self.default_network = ""
        self._store = store
        self._auto_provision = auto_provision
        self._by_name: dict[str, KnownSensor] = {}
        self._by_number: dict[int, KnownSensor] = {}
        self._by_key_hash: dict[bytes, KnownSensor] = {}
        self._unknown: set[str | bytes | int] = set()
        self._version = 0
        self._changing = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        # Sensors whose `seen_at` has moved since the last flush.
        self.touched: set[KnownSensor] = set()

    async def load(self) -> None:
        """Fill the cache with the sensors there are, as far as it holds them."""
        self._version = await self._store.sensors.version()
        self.default_network = (await self._store.networks.default()).identifier
        after, loaded = 0, 0
        while loaded < PRELOADED:
            page = await self._store.sensors.load(after, PAGE)
            if not page:
                break
            await self._remember(page)
            after, loaded = page[-1].number, loaded + len(page)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call the listener after every change of the registry."""
        self._listeners.append(listener)

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

    async def provision(self, device_id: str) -> KnownSensor | None:
        """Register a device on first sight; None unless AUTO_PROVISION is on."""
        if not self._auto_provision or not is_device_id(device_id):
            return None
        try:
            await self._store.sensors.create(
                identifier=str(uuid.uuid4()),
                network_identifier=None,
                device_id=device_id,
                key_hash=None,
                created_at=now(),
            )
        except AlreadyExistsError:
            pass  # another message of the same device came first
        else:
            log.info("device registered on first sight", device_id=device_id)
        await self.changed()
        return await self.find(device_id)

    async def changed(self) -> None:
        """Take over what has changed in the store since the last look."""
        # One after the other: an older answer must not come in after a newer one, and who finds
        # nothing new has to find it in memory.
        async with self._changing:
            version = await self._store.sensors.version()
            if version == self._version:
                return
            changed = await self._store.sensors.changed_since(self._version)
            # Without an await before the sensors change, so that a look-up under way notices.
            self.generation += 1
            self._unknown.clear()
            await self._remember(changed)
            # Only now: what failed halfway is repeated whole.
            self._version = version
            for listener in self._listeners:
                listener()

    async def watch(self, interval: float = 1.0) -> None:
        """Follow the changes of other processes, for ever."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self.changed()
            except StoreUnavailableError:
                # What is missed meanwhile comes with the next version that can be read.
                log.debug("the registry could not be compared with the database")

    async def flush(self) -> None:
        """Write when the touched sensors were last seen; keeps them for later on failure."""
        touched, self.touched = self.touched, set()
        rows = [(sensor.number, sensor.seen_at, sensor.measured_at) for sensor in touched]
        try:
            # In small pieces, between which the writer goes on with what devices send.
            for at in range(0, len(rows), TOUCHED_AT_ONCE):
                await self._store.sensors.touch(rows[at : at + TOUCHED_AT_ONCE])
        except StoreUnavailableError:
            self.touched |= touched
            raise

    async def _look_up(
        self, query: Callable[[Any], Awaitable[Sensor | None]], name: str | bytes | int
    ) -> KnownSensor | None:
        while True:
            generation = self.generation
            sensor = await query(name)
            if generation == self.generation:
                break  # else the answer may be older than what is known by now
        if sensor is None:
            if len(self._unknown) >= MAXIMUM_UNKNOWN:
                self._unknown.clear()
            self._unknown.add(name)
            return None
        await self._remember([sensor])
        return self._by_number[sensor.number]

    async def _remember(self, sensors: Iterable[Sensor]) -> None:
        fresh: list[KnownSensor] = []
        for sensor in sensors:
            known = self._by_number.get(sensor.number)
            if known is None:
                known = KnownSensor(sensor)
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

"""Stores which sensors are connected to the listener, many at a time, and notifies viewers."""

import asyncio
import contextlib

import msgspec
import structlog

from heliograph.access.connected import Connected
from heliograph.errors import RolledBackError, StoreUnavailableError
from heliograph.ingest.instance import Instance
from heliograph.live.hub import Hub
from heliograph.model.event import Committed
from heliograph.model.listeners import Listeners
from heliograph.model.presence import presence
from heliograph.model.records import ConnectionRow, Kind
from heliograph.model.sensor import Sensor
from heliograph.model.time import now, to_epoch_seconds
from heliograph.store import Store

log = structlog.get_logger()

# Devices that come back all at once are stored together; and in small pieces, between which the
# writer goes on with what devices send.
GATHER_SECONDS = 0.1
STORED_AT_ONCE = 500
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0
# Another server that takes this one for gone (it stood still, say), or one of two connections of a
# device that ends there, takes no sensor for gone that is connected here for longer than this.
CONFIRM_SECONDS = 60.0
# A server that does not live for so long is gone, and with it its connections: one that has lost
# the database, or stands still, may be back before.
GONE_SECONDS = 30.0
LOOK_SECONDS = 10.0
CLOSE_SECONDS = 5.0

_encode = msgspec.json.Encoder().encode


class PresenceWriter:
    """Owns the writing of `Connected`: a transaction for many changes, in their order."""

    def __init__(
        self, store: Store, connected: Connected, hub: Hub, instance: Instance | None = None
    ) -> None:
        self._connections = store.connections
        self._lineage = store.lineage
        self._connected = connected
        self._hub = hub
        self._instance = instance
        # A file has one server, which needs no name.
        self._server = instance.token if instance is not None else ""
        self._writing = asyncio.Lock()
        # The tokens of other servers, and when each was last known to live.
        self._lived: dict[str, float] = {}
        # Told the numbers of sensors after what has become of their connections is stored.
        self.noted: Listeners[[list[int]]] = Listeners()

    async def begin(self, moment: int) -> None:
        """Note that nobody is connected yet: what was, when a server ended, is not any more.

        Who is connected to another server that lives stays so.

        Raises:
            StoreUnavailableError: not now.
        """
        others = self._instance.others if self._instance else []
        await self._end(moment, [other.token for other in others])

    async def run(self) -> None:
        """Store what changes, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store_for_ever(), name="presence store")
            if self._instance is not None:
                looking = self._look_for_ever(self._instance)
                group.create_task(looking, name="presence of gone servers")

    async def _store_for_ever(self) -> None:
        changed = self._connected.changed
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._connected.alone else CONFIRM_SECONDS):
                    await changed.wait()
            if not changed.is_set():
                await self._confirm()
                continue
            await asyncio.sleep(GATHER_SECONDS)
            changed.clear()
            await self._store()

    async def _look_for_ever(self, instance: Instance) -> None:
        """Note that nobody is connected any more to servers that are gone."""
        while True:
            moment = asyncio.get_running_loop().time()
            for other in instance.others:
                self._lived[other.token] = moment
            gone = {token for token, at in self._lived.items() if moment - at > GONE_SECONDS}
            if gone and instance.held:
                living = [token for token in self._lived if token not in gone]
                with contextlib.suppress(StoreUnavailableError):
                    await self._end(now(), [self._server, *living])
                    for token in gone:
                        self._lived.pop(token, None)
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, moment: int, living: list[str]) -> None:
        """Note that nobody is connected but to the living servers, and tell of whom that is new."""
        sensors = await self._connections.end(moment, living)
        if sensors:
            self._tell([(sensor.number, False, moment) for sensor in sensors], sensors)

    async def close(self, moment: int) -> None:
        """Note that nobody is connected any more, and store it if that can be done soon."""
        self._connected.leave_all(moment)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._store()
        except TimeoutError:
            # The next start notes it.
            log.warning("end of connections not stored")

    async def _store(self) -> None:
        async with self._writing:
            while rows := self._connected.take(STORED_AT_ONCE):
                sensors = await self._write(rows)
                self._connected.settled(rows)
                self._tell(rows, sensors)

    def _tell(self, rows: list[ConnectionRow], sensors: list[Sensor]) -> None:
        self.noted([number for number, _, _ in rows])
        if self._hub.wanted_anywhere:
            self._hub.publish_changes(_events(rows, sensors))

    async def _write(self, rows: list[ConnectionRow]) -> list[Sensor]:
        delay = FIRST_RETRY_SECONDS
        with self._lineage.pinned():
            while True:
                try:
                    return await self._connections.note(rows, self._server)
                except RolledBackError:
                    return []  # the connections end, and with them what is to be noted
                except StoreUnavailableError:
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, LONGEST_RETRY_SECONDS)

    async def _confirm(self) -> None:
        async with self._writing:
            rows = self._connected.all()
            try:
                for at in range(0, len(rows), STORED_AT_ONCE):
                    await self._connections.confirm(rows[at : at + STORED_AT_ONCE], self._server)
            except StoreUnavailableError:
                log.debug("presence not confirmed")


def _events(rows: list[ConnectionRow], sensors: list[Sensor]) -> list[Committed]:
    """Return what has become of the sensors, unless something else says that they are connected."""
    noted = {number: live for number, live, _ in rows}
    events: list[Committed] = []
    for sensor in sensors:
        connected, since = presence(sensor)
        if connected is not noted[sensor.number]:
            continue
        payload = {"connected": connected, "timestamp": to_epoch_seconds(since or 0)}
        events.append(
            Committed(
                Kind.PRESENCE,
                sensor.number,
                sensor.identifier,
                sensor.device_id,
                sensor.network_identifier,
                [(since, connected)],
                _encode(payload),
                None,
            )
        )
    return events

"""Events of what is no telemetry, and has to be looked up before it can be told."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.http.configurations import ConfigurationEntry
from heliograph.http.representation import as_of_now
from heliograph.http.services import Services
from heliograph.live.frames import Frame, notice
from heliograph.model.event import Committed
from heliograph.model.presence import presence
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor
from heliograph.model.time import to_epoch_seconds

log = structlog.get_logger()

MAXIMUM_DUE = 10_000
# Of a sensor whose presence, not a revision, is to be told.
PRESENCE = -1


class Notices:
    """Tells of new configurations, and of what `status/<sensor>` makes of a sensor's presence.

    At most so many wait; what comes beyond that while the database is slow is not told.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._streams = services.streams
        self._due: dict[tuple[int, int], None] = {}
        self._arrived = asyncio.Event()

    def revised(self, revisions: Sequence[tuple[int, int]]) -> None:
        """Tell of revisions, each given with its sensor's number before it."""
        if self._streams.watched():
            for each in revisions[: MAXIMUM_DUE - len(self._due)]:
                self._due[each] = None
            self._arrived.set()

    def forget(self) -> None:
        """Tell nothing of what is due: the database was put back."""
        self._due.clear()

    def publish(self, events: Sequence[Committed]) -> None:
        """Tell what has become of the sensors that a status was said of. A sink of the hub."""
        said = [(event.number, PRESENCE) for event in events if event.kind is Kind.STATUS]
        if said:
            self.revised(said)

    async def run(self) -> None:
        """Tell what is due, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._due:
                number, revision = next(iter(self._due))
                del self._due[number, revision]
                try:
                    frame = await self._frame(number, revision)
                except StoreUnavailableError:
                    log.debug("an event could not be told", sensor=number)
                    continue
                if frame is not None:
                    self._streams.show([frame])

    async def _frame(self, number: int, revision: int) -> Frame | None:
        sensor = await self._services.store.sensors.find_number(number)
        if sensor is None or sensor.deleted_at is not None:
            return None
        if revision == PRESENCE:
            return _presence(as_of_now(sensor, self._services.registry))
        found = await self._services.store.configurations.page(
            number, revision=revision - 1, direction="next", limit=1
        )
        if not found or found[0].revision != revision:
            return None
        shown = msgspec.structs.asdict(ConfigurationEntry.of(found[0]))
        return notice("configuration", _names(sensor), shown)


def _presence(sensor: Sensor) -> Frame:
    connected, since = presence(sensor)
    timestamp = None if since is None else to_epoch_seconds(since)
    members = {"connected": connected, "timestamp": timestamp}
    return notice(Kind.PRESENCE.value, _names(sensor), members)


def _names(sensor: Sensor) -> tuple[int, str, str | None, str]:
    return sensor.number, sensor.identifier, sensor.device_id, sensor.network_identifier

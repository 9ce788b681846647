"""Configurations: the revisions of a sensor's desired state."""

import msgspec

from heliograph.errors import RowError
from heliograph.model.sensor import Configuration
from heliograph.model.time import now
from heliograph.store.engine import Engine


class Configurations:
    """Revisions count from 0 for each sensor, without gaps."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, sensor: int, configuration: str) -> int:
        """Store JSON text as the sensor's next revision and return its number.

        Raises:
            RowError: there is no such sensor.
        """
        async with self._engine.transaction() as transaction:
            # Whoever holds the sensor's row is the only one to count its revisions.
            if not await transaction.fetch("sensor_locked", number=sensor):
                raise RowError(f"no sensor has the number {sensor}")
            rows = await transaction.fetch(
                "configuration_add", sensor=sensor, configuration=configuration, created_at=now()
            )
        revision: int = rows[0][0]
        return revision

    async def current(self, sensor: int) -> Configuration | None:
        """Return the newest revision."""
        rows = await self._engine.fetch("configuration_current", sensor=sensor)
        if not rows:
            return None
        revision, configuration, created_at = rows[0]
        return Configuration(revision, msgspec.Raw(configuration), created_at)

    async def current_of_all(self, after: int, limit: int) -> list[tuple[int, Configuration]]:
        """Return (sensor, newest revision) of sensors with numbers above `after`, by number."""
        rows = await self._engine.fetch("configurations_current_of_all", after=after, limit=limit)
        return [
            (sensor, Configuration(revision, msgspec.Raw(configuration), created_at))
            for sensor, revision, configuration, created_at in rows
        ]

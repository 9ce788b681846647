"""How much a network's sensors have measured lately."""

from typing import NamedTuple

from heliograph.store.engine import Engine


class SensorActivity(NamedTuple):
    """How many measurements a sensor has in each interval; those without any are left out."""

    identifier: str
    sensor_name: str | None
    buckets: list[int]
    counts: list[int]


class Activities:
    """Counts of measurements by sensor and interval."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def of_network(
        self, network: str, *, since: int, until: int, width: int, limit: int
    ) -> list[SensorActivity]:
        """Return the activity of a network's first `limit` sensors; times in microseconds.

        A bucket is named by its beginning, a multiple of `width`; `since` has to be one too.
        """
        sensors = await self._engine.fetch("activity_sensors", network=network, limit=limit)
        if not sensors:
            return []
        found = {
            number: SensorActivity(identifier, name, [], []) for number, identifier, name in sensors
        }
        rows = await self._engine.fetch(
            "activity_counts",
            network=network,
            first=sensors[0][0],
            last=sensors[-1][0],
            since=since,
            until=until,
            width=width,
        )
        for sensor, bucket, count in rows:
            activity = found.get(sensor)
            if activity is not None:
                activity.buckets.append(bucket * width)
                activity.counts.append(count)
        return list(found.values())

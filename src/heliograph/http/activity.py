"""The snapshot that a network's stream begins with: how much was measured, and when."""

import asyncio

from heliograph.access.registry import Registry
from heliograph.live.frames import encode
from heliograph.model.time import DAY, HOUR, SECOND, now, to_epoch_seconds
from heliograph.store import Store
from heliograph.store.measurements import SensorActivity

WIDTH = 4 * HOUR
LENGTH = 28 * DAY
# A network of more sensors is shown by its first ones.
MAXIMUM_SENSORS = 1_000
# A client that comes again within it gets what was counted before.
KEPT = 60 * SECOND
MAXIMUM_KEPT = 100


class Activity:
    """Counts a network's measurements, once for all who ask at about the same time."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._measurements = store.measurements
        self._registry = registry
        # By network: when it was counted, and the JSON of each sensor, by its UUID.
        self._kept: dict[str, tuple[int, asyncio.Task[list[tuple[str, bytes]]]]] = {}

    async def snapshot(self, network: str) -> bytes:
        """Return JSON: of each sensor the intervals with measurements, and their counts.

        Raises:
            StoreUnavailableError: not now.
        """
        moment = now()
        counted_at, task = self._kept.get(network, (0, None))
        failed = task is not None and task.done() and (task.cancelled() or task.exception())
        if task is None or failed or not moment - KEPT < counted_at <= moment:
            self._kept.pop(network, None)
            while len(self._kept) >= MAXIMUM_KEPT:
                del self._kept[next(iter(self._kept))]
            task = asyncio.create_task(self._count(network, moment), name=f"activity {network}")
            self._kept[network] = moment, task
        # One who leaves must not end it for the others.
        counted = await asyncio.shield(task)
        return b"[%b]" % b",".join(text for name, text in counted if self._is_in(network, name))

    def _is_in(self, network: str, identifier: str) -> bool:
        """Return whether a sensor that was in a network is still there."""
        # A change brings its sensor into memory.
        known = self._registry.cached(identifier)
        return known is None or known.network_identifier == network

    async def _count(self, network: str, moment: int) -> list[tuple[str, bytes]]:
        end = moment // WIDTH * WIDTH + WIDTH
        found = await self._measurements.activity(
            network, since=end - LENGTH, until=end, width=WIDTH, limit=MAXIMUM_SENSORS
        )
        return [(sensor.identifier, encode(_representation(sensor))) for sensor in found]


def _representation(sensor: SensorActivity) -> dict[str, object]:
    return {
        "sensor_identifier": sensor.identifier,
        "sensor_name": sensor.sensor_name,
        "bucket_timestamps": [to_epoch_seconds(bucket) for bucket in sensor.buckets],
        "measurement_counts": sensor.counts,
    }

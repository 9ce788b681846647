"""What the next run removes, counted before it happens."""

from typing import NamedTuple

from heliograph.model.retention import Cutoffs, Retention, cutoffs
from heliograph.store import Store
from heliograph.store.pages import LEAST
from heliograph.store.removal import Counted, Kind, Partition, Span
from heliograph.store.retention import KeptSensor

SENSORS_AT_ONCE = 500
# Of all sensors of a page together; beyond it what is due is estimated.
MAXIMUM_COUNTED = 500_000
FEWEST_COUNTED = 100


class Due(NamedTuple):
    """What is removed of a kind. Bytes are estimates always, rows unless `is_exact`."""

    rows: int = 0
    bytes: int = 0
    is_exact: bool = True

    def plus(self, other: "Due") -> "Due":
        """Return both together."""
        return Due(
            self.rows + other.rows, self.bytes + other.bytes, self.is_exact and other.is_exact
        )


class Planned(NamedTuple):
    """What is removed of some sensors: by kind."""

    sensors: int
    due: dict[Kind, Due]


class Plan:
    """Counts what is due at a moment, as things stand; `default` counts where nothing is said."""

    def __init__(self, store: Store, default: Retention, moment: int) -> None:
        self._store = store
        self._default = default
        self._moment = moment

    async def of_networks(self) -> dict[str, Planned]:
        """Return what is removed by the network's UUID, of those with sensors."""
        return await self._count(None)

    async def totals(self) -> dict[Kind, Due]:
        """Return what is removed of all networks together."""
        total = _nothing()
        for planned in (await self.of_networks()).values():
            for kind, due in planned.due.items():
                total[kind] = total[kind].plus(due)
        return total

    async def of_network(self, network: str) -> Planned:
        """Return what is removed of one network."""
        found = await self._count(network)
        return found.get(network, Planned(0, _nothing()))

    async def of_sensor(self, number: int, retention: Retention) -> dict[Kind, Due]:
        """Return what is removed of a sensor for which this retention counts."""
        sizes = await self._store.removal.row_sizes()
        due = {number: cutoffs(retention, self._moment)}
        counted = await self._counted(due)
        return {kind: _due(rows[number], sizes[kind]) for kind, rows in counted.items()}

    async def partitions(self) -> list[Partition]:
        """Return the partitions that are dropped as a whole."""
        removal = self._store.removal
        found: list[Partition] = []
        for kind, days in (
            (Kind.MEASUREMENTS, self._default.raw_days),
            (Kind.LOGS, self._default.log_days),
        ):
            found += [
                partition
                for partition in await removal.partitions(kind, self._moment)
                if await removal.is_partition_due(
                    kind,
                    partition,
                    moment=self._moment,
                    default_days=days or 0,
                    by_floors=False,
                )
            ]
        return found

    async def _count(self, network: str | None) -> dict[str, Planned]:
        sizes = await self._store.removal.row_sizes()
        planned: dict[str, Planned] = {}
        after = LEAST
        while page := await self._store.retentions.sensors(
            after, default=self._default, limit=SENSORS_AT_ONCE, network=network
        ):
            after = page[-1].number
            due = {each.number: cutoffs(each.retention, self._moment) for each in page}
            counted = await self._counted(due)
            for each in page:
                _add(planned, each, counted, sizes)
        return planned

    async def _counted(self, due: dict[int, Cutoffs]) -> dict[Kind, dict[int, Counted]]:
        removal = self._store.removal
        counted: dict[Kind, dict[int, Counted]] = {
            kind: dict.fromkeys(due, Counted(0, is_exact=True)) for kind in Kind
        }
        if not any(map(any, due.values())):
            return counted
        raw = await removal.raw_cutoffs(due)
        ends = {
            Kind.MEASUREMENTS: raw,
            Kind.ROLLUPS: {number: each.rollups for number, each in due.items()},
            Kind.LOGS: {number: each.logs for number, each in due.items()},
            Kind.HEARTBEATS: {number: each.logs for number, each in due.items()},
        }
        limit = max(MAXIMUM_COUNTED // len(due), FEWEST_COUNTED)
        for kind, cutoff in ends.items():
            if spans := [Span(number, LEAST, end) for number, end in cutoff.items() if end]:
                counted[kind] |= await removal.count(kind, spans, limit)
        return counted


def _add(
    planned: dict[str, Planned],
    sensor: KeptSensor,
    counted: dict[Kind, dict[int, Counted]],
    sizes: dict[Kind, int],
) -> None:
    sensors, due = planned.get(sensor.network_identifier, Planned(0, _nothing()))
    for kind, rows in counted.items():
        due[kind] = due[kind].plus(_due(rows[sensor.number], sizes[kind]))
    planned[sensor.network_identifier] = Planned(sensors + 1, due)


def _nothing() -> dict[Kind, Due]:
    return {kind: Due() for kind in Kind}


def _due(counted: Counted, size: int) -> Due:
    return Due(counted.rows, counted.rows * size, counted.is_exact)

"""What the next run removes, counted before it happens."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Self

from heliograph.model.retention import Cutoffs, Retention, cutoffs, effective
from heliograph.store import Store
from heliograph.store.pages import GREATEST, LEAST
from heliograph.store.removal import (
    SAMPLE_OF,
    KeptKind,
    Partition,
    RowBytes,
    Sampled,
    Span,
    given_back,
    row_bytes,
    rows_a_page,
)
from heliograph.store.retention import KeptSensor

SENSORS_AT_ONCE = 500
# Of the rows of so many sensors, whose content is looked at; and of these, at how many places it is
# looked what else lies in their pages.
SAMPLED, PLACES = 10_000, 64


class Due(NamedTuple):
    """What is removed of a kind: rows as they are counted, and the bytes that this gives back."""

    rows: int = 0
    bytes: int = 0
    is_exact: bool = True

    def plus(self, other: "Due") -> "Due":
        """Return both together."""
        return Due(
            self.rows + other.rows, self.bytes + other.bytes, self.is_exact and other.is_exact
        )


class Planned(NamedTuple):
    """What is removed, by kind, of how many sensors."""

    sensors: int
    due: dict[KeptKind, Due]

    @classmethod
    def nothing(cls) -> Self:
        """Return what is removed where nothing is."""
        return cls(0, _nothing())


class DueCounter:
    """Counts what is due at a moment, as things stand; `default` counts where nothing is said."""

    def __init__(self, store: Store, default: Retention, moment: int) -> None:
        self._store = store
        self._default = default
        self._moment = moment
        self._ends: dict[int | None, Cutoffs] | None = None
        # What is tried of a network, in place of what it says.
        self._tried: tuple[str, Retention] | None = None
        # Rows that are due by what was counted so far, but stay until they are rolled up.
        self.not_rolled_up = 0

    async def of_networks(self) -> dict[str, Planned]:
        """Return what is removed by the network's UUID, of those of which anything is."""
        return await self._count(None)

    async def totals(self) -> dict[KeptKind, Due]:
        """Return what is removed of all networks together, and of unknown devices."""
        total = _nothing()
        for planned in (await self.of_networks()).values():
            for kind, due in planned.due.items():
                total[kind] = total[kind].plus(due)
        total[KeptKind.PACKETS] = total[KeptKind.PACKETS].plus(await self.unknown_packets())
        return total

    async def unknown_packets(self) -> Due:
        """Return what is removed of the packets of devices that are not known."""
        end = cutoffs(self._default, self._moment).logs
        if not end:
            return Due()
        count, contents = await self._store.removal.unknown_packets(end)
        sizes = [row_bytes(self._store.engine.name, KeptKind.PACKETS, each) for each in contents]
        mean = _mean(sizes)
        return Due(count, round(count * (mean.table + mean.indexes)))

    async def of_network(self, network: str, said: Retention | None = None) -> Planned:
        """Return what is removed of one network, as if it said `said`, if that is given."""
        self._tried = None if said is None else (network, effective(said, self._default))
        self._ends = None
        found = await self._count(network)
        return found.get(network, Planned.nothing())

    async def of_sensor(
        self, number: int, network: str, retention: Retention
    ) -> dict[KeptKind, Due]:
        """Return what is removed of a sensor for which this retention counts."""
        planned = await self._planned([KeptSensor(number, "", network, retention)])
        return _nothing() | planned.get(number, {})

    async def partitions(self) -> list[Partition]:
        """Return the partitions that are dropped as a whole."""
        removal = self._store.removal
        found: list[Partition] = []
        for kind, days in (
            (KeptKind.MEASUREMENTS, self._default.raw_days),
            (KeptKind.LOGS, self._default.log_days),
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
        planned: dict[str, Planned] = {}
        async for page in self._pages(network):
            networks = {each.number: each.network_identifier for each in page}
            for number, due in (await self._planned(page)).items():
                sensors, known = planned.get(networks[number], Planned.nothing())
                for kind, more in due.items():
                    known[kind] = known[kind].plus(more)
                goes = any(more.rows for more in due.values())
                planned[networks[number]] = Planned(sensors + goes, known)
        return planned

    async def _pages(self, network: str | None) -> AsyncIterator[list[KeptSensor]]:
        after = LEAST
        tried = self._tried[1] if self._tried and self._tried[0] == network else None
        while page := await self._store.retentions.sensors(
            after,
            default=tried or self._default,
            limit=SENSORS_AT_ONCE,
            network=network,
            by_network=tried is None,
        ):
            after = page[-1].number
            yield page

    async def _planned(self, page: Sequence[KeptSensor]) -> dict[int, dict[KeptKind, Due]]:
        """Return what is removed of each of the sensors, where anything is."""
        removal = self._store.removal
        planned: dict[int, dict[KeptKind, Due]] = {}
        due = {each.number: cutoffs(each.retention, self._moment) for each in page}
        if not any(map(any, due.values())):
            return planned
        raw = await removal.raw_cutoffs(due)
        for number, waiting in (await self._waiting(raw, due)).items():
            self.not_rolled_up += waiting
            # How many of them are rolled up by then is not known.
            planned[number] = {KeptKind.MEASUREMENTS: Due(is_exact=False)}
        ends = {
            KeptKind.MEASUREMENTS: raw,
            KeptKind.ROLLUPS: {number: each.rollups for number, each in due.items()},
            KeptKind.LOGS: {number: each.logs for number, each in due.items()},
            KeptKind.HEARTBEATS: {number: each.logs for number, each in due.items()},
            KeptKind.PACKETS: {number: each.logs for number, each in due.items()},
        }
        networks = {each.number: each.network_identifier for each in page}
        for kind, cutoff in ends.items():
            spans = [Span(number, LEAST, end) for number, end in cutoff.items() if end]
            counted = await removal.count(kind, spans, GREATEST) if spans else {}
            rows = {number: found.rows for number, found in counted.items() if found.rows}
            if kind is KeptKind.MEASUREMENTS and spans:
                packed = await self._store.packed_removal.count(spans)
                for number, chunks in packed.items():
                    known = planned.setdefault(number, {})
                    known[kind] = known.get(kind, Due()).plus(Due(*chunks))
            if not rows:
                continue
            sizes = await self._sizes(kind, [span for span in spans if span.sensor in rows], rows)
            parts = await self._given_back(kind, sizes, networks)
            for number, count in rows.items():
                size = sizes.of(number)
                back = size.table * parts.get(networks[number], 1.0) + size.indexes
                known = planned.setdefault(number, {})
                known[kind] = known.get(kind, Due()).plus(Due(count, round(count * back)))
        return planned

    async def _waiting(self, raw: dict[int, int], due: dict[int, Cutoffs]) -> Counter[int]:
        """Return how many rows of whom are due, but are not rolled up yet."""
        spans = [Span(n, end, due[n].raw) for n, end in raw.items() if end < due[n].raw]
        if not spans:
            return Counter()
        counted = await self._store.removal.count(KeptKind.MEASUREMENTS, spans, GREATEST)
        packed = await self._store.packed_removal.count(spans)
        waiting = Counter({number: found.rows for number, found in counted.items()})
        waiting.update({number: found.rows for number, found in packed.items()})
        return +waiting

    async def _sizes(self, kind: KeptKind, spans: list[Span], rows: dict[int, int]) -> "_Sizes":
        """Return what the rows take, by some of them."""
        share = -(-SAMPLE_OF * SAMPLED // sum(rows.values()))
        sampled = await self._store.removal.sample(kind, spans, min(share, SAMPLE_OF))
        if not sampled:
            # Their times have hit no part of which samples are taken.
            sampled = await self._store.removal.sample(kind, spans, SAMPLE_OF)
        return _Sizes(self._store.engine.name, kind, sampled)

    async def _given_back(
        self, kind: KeptKind, sizes: "_Sizes", networks: dict[int, str]
    ) -> dict[str, float]:
        """Return which part of its table's bytes each network's removal gives back.

        On SQLite rows lie in the order of their receipt, and a page that holds rows of others
        stays. On PostgreSQL room in a page is used again, whoever has it.
        """
        if self._store.engine.name != "sqlite" or kind is KeptKind.ROLLUPS:
            return {}
        by_network: dict[str, list[Sampled]] = {}
        for row in sizes.sampled:
            by_network.setdefault(networks[row.sensor], []).append(row)
        ends = await self._all_ends()
        at = 2 if kind is not KeptKind.MEASUREMENTS else 0
        parts: dict[str, float] = {}
        for network, rows in by_network.items():
            some = rows[:: -(-len(rows) // PLACES)]
            half = max(rows_a_page(sizes.all.table) // 2, 1)
            keys = [row.key for row in some]
            near = await self._store.removal.neighbours(kind, keys, half)
            found = [
                given_back(sum(time >= ends[sensor][at] for sensor, time in page) / len(page))
                for page in near.values()
            ]
            parts[network] = sum(found) / len(found) if found else 1.0
        return parts

    async def _all_ends(self) -> dict[int | None, Cutoffs]:
        """Return the cutoffs of all sensors: whose rows lie beside which, nobody knows."""
        if self._ends is None:
            self._ends = defaultdict(lambda: Cutoffs(0, 0, 0))
            self._ends[None] = cutoffs(self._default, self._moment)
            tried = self._tried[0] if self._tried else None
            async for page in self._pages(None):
                for each in page:
                    if each.network_identifier != tried:
                        self._ends[each.number] = cutoffs(each.retention, self._moment)
            if tried is not None:
                async for page in self._pages(tried):
                    for each in page:
                        self._ends[each.number] = cutoffs(each.retention, self._moment)
        return self._ends


class _Sizes:
    """What rows take, by a sample of them: each sensor's, or all where it has none in it."""

    def __init__(self, engine: str, kind: KeptKind, sampled: Sequence[Sampled]) -> None:
        self.sampled = sampled
        by_sensor: dict[int, list[RowBytes]] = {}
        for row in sampled:
            found = by_sensor.setdefault(row.sensor, [])
            found.append(row_bytes(engine, kind, row.content))
        self._by_sensor = {number: _mean(found) for number, found in by_sensor.items()}
        self.all = _mean([size for found in by_sensor.values() for size in found])

    def of(self, sensor: int) -> RowBytes:
        """Return what a row of the sensor takes."""
        return self._by_sensor.get(sensor, self.all)


def _mean(sizes: Sequence[RowBytes]) -> RowBytes:
    count = max(len(sizes), 1)
    return RowBytes(
        sum(size.table for size in sizes) / count, sum(size.indexes for size in sizes) / count
    )


def _nothing() -> dict[KeptKind, Due]:
    return dict.fromkeys(KeptKind, Due())

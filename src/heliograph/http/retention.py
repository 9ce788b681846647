"""How long data is kept, and what the next run removes."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec
from pydantic import Field

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall, found
from heliograph.http.schemas import OfNetwork
from heliograph.model.retention import LONGEST_DAYS, WAIT, Cutoffs, Retention, cutoffs, effective
from heliograph.model.sensor import Network
from heliograph.model.time import HOUR, SECOND, to_rfc3339
from heliograph.retention.plan import Due, DueCounter, Planned
from heliograph.store.removal import KeptKind

router = Resource("retention")

NETWORKS_AT_ONCE = 1_000
Days = Annotated[int, Field(ge=0, le=LONGEST_DAYS, strict=True)]
_RAW, _ROLLUPS = "measurements", "rollups (for aggregates)"
_LOGS = "logs, heartbeats and packets"
_OWN = "Days for which it is said here that"
_NOT_ROLLED_UP = (
    "Number of measurements that are due beside what `removes` counts, and stay until rollups were"
    " made of them"
)
_NULL = "null: nothing is said, 0: for ever"


class RetentionChange(Body):
    """Days; null: what is said further up counts, 0: for ever. Absent members stay as they are."""

    is_change = True

    raw_days: Days | None = Field(None, description=f"Days for which {_RAW} are kept")
    rollup_days: Days | None = Field(None, description=f"Days for which {_ROLLUPS} are kept")
    log_days: Days | None = Field(None, description=f"Days for which {_LOGS} are kept")


class EffectiveRetention(Representation):
    """What counts, after the network's and the server's: days, 0 for ever."""

    raw_days: Annotated[int, f"Days for which {_RAW} are kept"]
    rollup_days: Annotated[int, f"Days for which {_ROLLUPS} are kept"]
    log_days: Annotated[int, f"Days for which {_LOGS} are kept"]

    @classmethod
    def of(cls, retention: Retention) -> Self:
        """Return the days for which each kind is kept."""
        return cls(retention.raw_days or 0, retention.rollup_days or 0, retention.log_days or 0)


class CutoffsRepresentation(Representation):
    """What is older goes with the next run; null: nothing does."""

    raw: Annotated[str | None, f"The oldest time (RFC 3339) of which {_RAW} stay"]
    rollups: Annotated[str | None, f"The oldest time (RFC 3339) of which {_ROLLUPS} stay"]
    logs: Annotated[str | None, f"The oldest time (RFC 3339) of which {_LOGS} stay"]

    @classmethod
    def of(cls, cutoffs: Cutoffs) -> Self:
        """Return the times as they are shown."""
        return cls(*(_time(cutoff or None) for cutoff in cutoffs))


class DueRepresentation(Representation):
    """What the next run removes."""

    rows: Annotated[int, "Number of rows, as they are counted"]
    bytes: Annotated[
        int,
        "Bytes that this gives back, estimated: on SQLite pages of the file that become free,"
        " on PostgreSQL what the rows and their index entries take",
    ]
    exact: Annotated[
        bool,
        "Whether `rows` is exact: false while measurements are due that wait for their rollups,"
        " and may go as well",
    ]


class RemovesRepresentation(Representation):
    """What the next run removes, by kind."""

    measurements: Annotated[DueRepresentation, "Of measurements"]
    logs: Annotated[DueRepresentation, "Of log messages"]
    heartbeats: Annotated[DueRepresentation, "Of heartbeats"]
    packets: Annotated[DueRepresentation, "Of packets"]
    rollups: Annotated[DueRepresentation, "Of rollups, which aggregates are counted from"]

    @classmethod
    def of(cls, due: Mapping[KeptKind, Due]) -> Self:
        """Return how much is due, by kind."""
        return cls(**{kind.value: DueRepresentation(*each) for kind, each in due.items()})


class RetentionRepresentation(Representation):
    """What is said of a network or a sensor itself, and what comes of it."""

    raw_days: Annotated[int | None, f"{_OWN} {_RAW} are kept; {_NULL}"]
    rollup_days: Annotated[int | None, f"{_OWN} {_ROLLUPS} are kept; {_NULL}"]
    log_days: Annotated[int | None, f"{_OWN} {_LOGS} are kept; {_NULL}"]
    effective: Annotated[EffectiveRetention, "What counts in the end"]
    cutoffs: Annotated[CutoffsRepresentation, "What is older than when goes"]
    removes: Annotated[RemovesRepresentation, "How much the next run removes"]
    not_rolled_up: Annotated[int, _NOT_ROLLED_UP]
    next_run_at: Annotated[str | None, "When the next run is (RFC 3339, UTC)"]


class NetworkRetention(RetentionRepresentation):
    """Of a network; `removes` counts all its sensors, also those with a retention of their own."""

    network_identifier: Annotated[str, "The network's UUID"]


class SensorRetention(RetentionRepresentation):
    """Of a sensor."""

    sensor_identifier: Annotated[str, "The sensor's UUID"]


class PlannedNetwork(Representation):
    """What the next run removes of a network's sensors."""

    network_identifier: Annotated[str, "The network's UUID"]
    network_name: Annotated[str, "Its name"]
    sensors: Annotated[int, "Number of sensors that something is removed of"]
    effective: Annotated[EffectiveRetention, "How long its data is kept"]
    removes: Annotated[RemovesRepresentation, "How much goes"]


class PlannedPartition(Representation):
    """A month that is dropped as a whole; its rows are counted with the networks'."""

    name: Annotated[str, "The partition's table"]
    rows: Annotated[int, "Number of its rows"]
    bytes: Annotated[int, "Bytes that it takes"]


class DiskRepresentation(Representation):
    """What the database takes, and what it may take."""

    used: Annotated[int, "Bytes that it takes"]
    budget: Annotated[int | None, "Bytes that it may take; null: there is no budget"]


class WaitingRepresentation(Representation):
    """What would go by a clock that has leapt since the last run."""

    clock: Annotated[str, "What the clock says (RFC 3339, UTC)"]
    leap_seconds: Annotated[float, "Seconds by which it has leapt"]
    uptime_hours: Annotated[
        float, "Hours that it still waits for, unless `heliograph retention accept` is run"
    ]
    removes: Annotated[RemovesRepresentation, "How much would go"]


class RetentionPlan(Representation):
    """What the next run removes."""

    running: Annotated[bool, "Whether a run is under way"]
    last_run_at: Annotated[str | None, "When the last run was (RFC 3339, UTC)"]
    next_run_at: Annotated[str | None, "When the next run is (RFC 3339, UTC)"]
    moment: Annotated[str, "The time that the next run goes by (RFC 3339, UTC)"]
    not_rolled_up: Annotated[int, _NOT_ROLLED_UP]
    waiting: Annotated[
        WaitingRepresentation | None, "What waits because the clock has leapt; null: it has not"
    ]
    networks: Annotated[list[PlannedNetwork], "What goes, by network"]
    unknown_packets: Annotated[
        DueRepresentation | None,
        "What goes of packets of devices that are not known; null but for administrators",
    ]
    partitions: Annotated[
        list[PlannedPartition] | None,
        "Months that are dropped as a whole; null but for administrators",
    ]
    disk: Annotated[
        DiskRepresentation | None, "What the database takes; null but for administrators"
    ]


class NetworkRetentionChange(RetentionChange):
    """Days; null: the server's count, 0: for ever. Absent members stay as they are."""

    representation = NetworkRetention
    fixed = frozenset(("network_identifier", "effective"))


class SensorRetentionChange(RetentionChange):
    """Days; null: the network's count, 0: for ever. Absent members stay as they are."""

    representation = SensorRetention
    fixed = frozenset(("sensor_identifier", "effective"))


@router.route("/retention", "GET")
async def read_plan(call: TheCall, network_identifier: OfNetwork = None) -> RetentionPlan:
    """Read what the next run removes, by network: of those that the caller may see, or of all."""
    visible = await call.visible(network_identifier)
    runs, plan = call.services.retention, _plan(call)
    networks = await _networks(call, visible)
    if visible is None:
        planned = await plan.of_networks()
    else:
        planned = {each.identifier: await plan.of_network(each.identifier) for each in networks}
    waiting = await _waiting(call, visible)
    said, default = await call.store.retentions.of_networks(), runs.default
    shown = [
        PlannedNetwork(
            each.identifier,
            each.name,
            counted.sensors,
            EffectiveRetention.of(effective(said.get(each.identifier, Retention()), default)),
            RemovesRepresentation.of(counted.due),
        )
        for each in networks
        for counted in (planned.get(each.identifier) or Planned.nothing(),)
    ]
    partitions = disk = unknown = None
    if call.may(Action.ADMINISTER):
        unknown = DueRepresentation(*await plan.unknown_packets())
        partitions = [
            PlannedPartition(each.name, each.rows, each.bytes) for each in await plan.partitions()
        ]
        disk = DiskRepresentation(call.services.disk.used, call.services.disk.budget or None)
    return RetentionPlan(
        running=runs.state.running,
        last_run_at=_time(runs.state.last_run_at),
        next_run_at=_time(runs.state.next_run_at),
        moment=to_rfc3339(runs.next_moment),
        not_rolled_up=plan.not_rolled_up,
        waiting=waiting,
        networks=shown,
        unknown_packets=unknown,
        partitions=partitions,
        disk=disk,
    )


@router.route("/networks/{network_identifier}/retention", "GET")
async def read_network_retention(network_identifier: str, call: TheCall) -> NetworkRetention:
    """Read how long a network's data is kept, and what the next run removes of it."""
    network = await call.network(network_identifier)
    own = await call.store.retentions.of_network(network.identifier)
    return await _shown_network(call, network, own)


@router.route("/networks/{network_identifier}/retention", "PUT")
async def set_network_retention(
    network_identifier: str, change: NetworkRetentionChange, call: TheCall
) -> NetworkRetention:
    """Change how long a network's data is kept; the next run goes by it."""
    network = await call.network(network_identifier, Action.MANAGE)
    retentions = call.store.retentions
    if change.has_read_only:
        before = await retentions.of_network(network.identifier)
        change.check_read_only(await _shown_network(call, network, before))
    own = await retentions.set_network(
        network.identifier, actor=call.actor, **change.model_dump(exclude_unset=True)
    )
    return await _shown_network(call, network, found(own, ErrorCode.NETWORK_NOT_FOUND))


@router.route("/networks/{network_identifier}/retention-preview", "POST", status=200)
async def preview_network_retention(
    network_identifier: str, change: NetworkRetentionChange, call: TheCall
) -> NetworkRetention:
    """Read what setting a network's retention would come to; nothing is changed."""
    network = await call.network(network_identifier, Action.MANAGE)
    before = await call.store.retentions.of_network(network.identifier)
    if change.has_read_only:
        change.check_read_only(await _shown_network(call, network, before))
    own = msgspec.structs.replace(before, **change.model_dump(exclude_unset=True))
    return await _shown_network(call, network, own)


@router.route("/sensors/{identifier}/retention", "GET")
async def read_sensor_retention(identifier: str, call: TheCall) -> SensorRetention:
    """Read how long a sensor's data is kept, and what the next run removes of it."""
    known = await call.readable(identifier)
    own = await call.store.retentions.of_sensor(known.number)
    return await _shown_sensor(call, known.number, own)


@router.route("/sensors/{identifier}/retention", "PUT")
async def set_sensor_retention(
    identifier: str, change: SensorRetentionChange, call: TheCall
) -> SensorRetention:
    """Change how long a sensor's data is kept; the next run goes by it."""
    known = await call.changeable(identifier, Action.REMOVE)
    retentions = call.store.retentions
    if change.has_read_only:
        before = await retentions.of_sensor(known.number)
        change.check_read_only(await _shown_sensor(call, known.number, before))
    own = await retentions.set_sensor(
        known.number, actor=call.actor, **change.model_dump(exclude_unset=True)
    )
    return await _shown_sensor(call, known.number, found(own, ErrorCode.SENSOR_NOT_FOUND))


async def _networks(call: KnownCall, visible: list[str] | None) -> list[Network]:
    store = call.store.networks
    if visible is not None:
        named = [await store.find(identifier) for identifier in visible]
        return [network for network in named if network is not None]
    networks: list[Network] = []
    while True:
        page, total = await store.list(networks=None, offset=len(networks), limit=NETWORKS_AT_ONCE)
        networks += page
        if not page or len(networks) >= total:
            return networks


def _plan(call: KnownCall, moment: int | None = None) -> DueCounter:
    runs = call.services.retention
    return DueCounter(call.store, runs.default, runs.next_moment if moment is None else moment)


async def _waiting(call: KnownCall, visible: list[str] | None) -> WaitingRepresentation | None:
    horizon = call.services.retention.state.horizon
    if horizon is None or not horizon.waits:
        return None
    plan = _plan(call, horizon.clock)
    if visible is None:
        removes = await plan.totals()
    else:
        removes = {kind: Due() for kind in KeptKind}
        for network in visible:
            for kind, due in (await plan.of_network(network)).due.items():
                removes[kind] = removes[kind].plus(due)
    return WaitingRepresentation(
        clock=to_rfc3339(horizon.clock),
        leap_seconds=(horizon.clock - horizon.moment) / SECOND,
        uptime_hours=max(WAIT - horizon.waited, 0) / HOUR,
        removes=RemovesRepresentation.of(removes),
    )


async def _shown_network(call: KnownCall, network: Network, own: Retention) -> NetworkRetention:
    counts = effective(own, call.services.retention.default)
    plan = _plan(call)
    planned = await plan.of_network(network.identifier, own)
    return NetworkRetention(
        **_members(call, own, counts, planned.due, plan), network_identifier=network.identifier
    )


async def _shown_sensor(call: KnownCall, number: int, own: Retention) -> SensorRetention:
    sensor = found(await call.store.sensors.find_number(number), ErrorCode.SENSOR_NOT_FOUND)
    of_network = await call.store.retentions.of_network(sensor.network_identifier)
    counts = effective(own, of_network, call.services.retention.default)
    plan = _plan(call)
    due = await plan.of_sensor(number, sensor.network_identifier, counts)
    return SensorRetention(
        **_members(call, own, counts, due, plan), sensor_identifier=sensor.identifier
    )


def _members(
    call: KnownCall,
    own: Retention,
    counts: Retention,
    due: Mapping[KeptKind, Due],
    plan: DueCounter,
) -> dict[str, Any]:
    """Return the members that both kinds of retention have."""
    runs = call.services.retention
    return {
        **msgspec.structs.asdict(own),
        "effective": EffectiveRetention.of(counts),
        "cutoffs": CutoffsRepresentation.of(cutoffs(counts, runs.next_moment)),
        "removes": RemovesRepresentation.of(due),
        "not_rolled_up": plan.not_rolled_up,
        "next_run_at": _time(runs.state.next_run_at),
    }


def _time(moment: int | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)

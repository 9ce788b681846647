"""How long data is kept, and what the next run removes."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from heliograph.access.policy import Action, may
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.retention import LONGEST_DAYS, WAIT, Retention, cutoffs, effective
from heliograph.model.sensor import Network
from heliograph.model.time import HOUR, SECOND, to_rfc3339
from heliograph.retention.plan import Due, DueCounter, Planned
from heliograph.store.removal import KeptKind
from heliograph.web.access import NOT_FOUND
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices
from heliograph.web.errors import Answer, encode
from heliograph.web.members import Body
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.schemas import OfNetwork
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=PREFIX, tags=["retention"], route_class=StrictRoute)

NETWORKS_AT_ONCE = 1_000
Days = Annotated[int, Field(ge=0, le=LONGEST_DAYS, strict=True)]
_RAW, _ROLLUPS, _LOGS = "measurements", "rollups (for aggregates)", "logs and heartbeats"
_OWN = "Days for which it is said here that"
_NULL = "null: nothing is said, 0: for ever"


class RetentionChange(Body):
    """Days; null: what is said further up counts, 0: for ever. Absent members stay as they are."""

    raw_days: Days | None = Field(None, description=f"Days for which {_RAW} are kept")
    rollup_days: Days | None = Field(None, description=f"Days for which {_ROLLUPS} are kept")
    log_days: Days | None = Field(None, description=f"Days for which {_LOGS} are kept")


class EffectiveRetention(BaseModel):
    """What counts, after the network's and the server's: days, 0 for ever."""

    raw_days: int = Field(description=f"Days for which {_RAW} are kept")
    rollup_days: int = Field(description=f"Days for which {_ROLLUPS} are kept")
    log_days: int = Field(description=f"Days for which {_LOGS} are kept")


class CutoffsRepresentation(BaseModel):
    """What is older goes with the next run; null: nothing does."""

    raw: str | None = Field(description=f"The oldest time (RFC 3339) of which {_RAW} stay")
    rollups: str | None = Field(description=f"The oldest time (RFC 3339) of which {_ROLLUPS} stay")
    logs: str | None = Field(description=f"The oldest time (RFC 3339) of which {_LOGS} stay")


class DueRepresentation(BaseModel):
    """What the next run removes."""

    rows: int = Field(description="Number of rows, as they are counted")
    bytes: int = Field(
        description=(
            "Bytes that this gives back, estimated: on SQLite pages of the file that become free,"
            " on PostgreSQL what the rows and their index entries take"
        )
    )
    exact: bool = Field(description="Whether `rows` is exact: always true")


class RemovesRepresentation(BaseModel):
    """What the next run removes, by kind."""

    measurements: DueRepresentation = Field(description="Of measurements")
    logs: DueRepresentation = Field(description="Of log messages")
    heartbeats: DueRepresentation = Field(description="Of heartbeats")
    rollups: DueRepresentation = Field(description="Of rollups, which aggregates are counted from")


class RetentionRepresentation(BaseModel):
    """What is said of a network or a sensor itself, and what comes of it."""

    raw_days: int | None = Field(description=f"{_OWN} {_RAW} are kept; {_NULL}")
    rollup_days: int | None = Field(description=f"{_OWN} {_ROLLUPS} are kept; {_NULL}")
    log_days: int | None = Field(description=f"{_OWN} {_LOGS} are kept; {_NULL}")
    effective: EffectiveRetention = Field(description="What counts in the end")
    cutoffs: CutoffsRepresentation = Field(description="What is older than when goes")
    removes: RemovesRepresentation = Field(description="How much the next run removes")
    next_run_at: str | None = Field(description="When the next run is (RFC 3339, UTC)")


class NetworkRetention(RetentionRepresentation):
    """Of a network; `removes` counts all its sensors, also those with a retention of their own."""

    network_identifier: str = Field(description="The network's UUID")


class SensorRetention(RetentionRepresentation):
    """Of a sensor."""

    sensor_identifier: str = Field(description="The sensor's UUID")


class PlannedNetwork(BaseModel):
    """What the next run removes of a network's sensors."""

    network_identifier: str = Field(description="The network's UUID")
    network_name: str = Field(description="Its name")
    sensors: int = Field(description="Number of sensors that something is removed of")
    effective: EffectiveRetention = Field(description="How long its data is kept")
    removes: RemovesRepresentation = Field(description="How much goes")


class PlannedPartition(BaseModel):
    """A month that is dropped as a whole; its rows are counted with the networks'."""

    name: str = Field(description="The partition's table")
    rows: int = Field(description="Number of its rows")
    bytes: int = Field(description="Bytes that it takes")


class DiskRepresentation(BaseModel):
    """What the database takes, and what it may take."""

    used: int = Field(description="Bytes that it takes")
    budget: int | None = Field(description="Bytes that it may take; null: there is no budget")


class WaitingRepresentation(BaseModel):
    """What would go by a clock that has leapt since the last run."""

    clock: str = Field(description="What the clock says (RFC 3339, UTC)")
    leap_seconds: float = Field(description="Seconds by which it has leapt")
    uptime_hours: float = Field(
        description="Hours that it still waits for, unless `heliograph retention accept` is run"
    )
    removes: RemovesRepresentation = Field(description="How much would go")


class RetentionPlan(BaseModel):
    """What the next run removes."""

    running: bool = Field(description="Whether a run is under way")
    last_run_at: str | None = Field(description="When the last run was (RFC 3339, UTC)")
    next_run_at: str | None = Field(description="When the next run is (RFC 3339, UTC)")
    moment: str = Field(description="The time that the next run goes by (RFC 3339, UTC)")
    not_rolled_up: int = Field(
        description=(
            "Number of measurements that are due beside those of `networks`, and stay until"
            " rollups were made of them"
        )
    )
    waiting: WaitingRepresentation | None = Field(
        description="What waits because the clock has leapt; null: it has not"
    )
    networks: list[PlannedNetwork] = Field(description="What goes, by network")
    partitions: list[PlannedPartition] | None = Field(
        description="Months that are dropped as a whole; null but for administrators"
    )
    disk: DiskRepresentation | None = Field(
        description="What the database takes; null but for administrators"
    )


class NetworkRetentionChange(RetentionChange):
    """Days; null: the server's count, 0: for ever. Absent members stay as they are."""

    representation = NetworkRetention
    fixed = frozenset(("network_identifier", "effective"))


class SensorRetentionChange(RetentionChange):
    """Days; null: the network's count, 0: for ever. Absent members stay as they are."""

    representation = SensorRetention
    fixed = frozenset(("sensor_identifier", "effective"))


@router.get("/retention", response_model=RetentionPlan, responses=errors(401, 403, 422))
async def read_plan(
    caller: Caller,
    access: TheAccess,
    services: TheServices,
    network_identifier: OfNetwork = None,
) -> Response:
    """Read what the next run removes, by network: of those that the caller may see, or of all."""
    visible = await access.visible(caller, network_identifier)
    state, plan = services.retention.state, _plan(services)
    networks = await _networks(services, visible)
    if visible is None:
        planned = await plan.of_networks()
    else:
        planned = {each.identifier: await plan.of_network(each.identifier) for each in networks}
    body: dict[str, Any] = {
        "running": state.running,
        "last_run_at": _time(state.last_run_at),
        "next_run_at": _time(state.next_run_at),
        "moment": to_rfc3339(services.retention.next_moment),
        "not_rolled_up": plan.not_rolled_up,
        "waiting": await _waiting(services, visible),
        "networks": [
            await _planned(services, each, planned.get(each.identifier)) for each in networks
        ],
        "partitions": None,
        "disk": None,
    }
    if may(caller, Action.ADMINISTER, None, services.registry.grants):
        partitions = await plan.partitions()
        body["partitions"] = [
            {"name": each.name, "rows": each.rows, "bytes": each.bytes} for each in partitions
        ]
        body["disk"] = {"used": services.disk.used, "budget": services.disk.budget or None}
    return Answer(200, encode(body)).response()


@router.get(
    "/networks/{network_identifier}/retention",
    response_model=NetworkRetention,
    responses=errors(401, 403, 404),
)
async def read_network_retention(
    network_identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read how long a network's data is kept, and what the next run removes of it."""
    network = await access.network(caller, network_identifier, Action.VIEW)
    own = await services.store.retentions.of_network(network.identifier)
    return Answer(200, encode(await _shown_network(services, network, own))).response()


@router.put(
    "/networks/{network_identifier}/retention",
    response_model=NetworkRetention,
    responses=errors(400, 401, 403, 404, 413, 415, 422),
)
async def set_network_retention(
    network_identifier: str,
    change: NetworkRetentionChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change how long a network's data is kept; the next run goes by it."""
    network = await access.network(caller, network_identifier, Action.MANAGE)
    if change.has_read_only:
        before = await services.store.retentions.of_network(network.identifier)
        change.check_read_only(await _shown_network(services, network, before))
    own = await services.store.retentions.set_network(
        network.identifier, actor=actor, **change.model_dump(exclude_unset=True)
    )
    if own is None:
        raise _not_found(ErrorCode.NETWORK_NOT_FOUND)
    return Answer(200, encode(await _shown_network(services, network, own))).response()


@router.get(
    "/sensors/{identifier}/retention",
    response_model=SensorRetention,
    responses=errors(401, 403, 404),
)
async def read_sensor_retention(
    identifier: str, caller: Caller, access: TheAccess, services: TheServices
) -> Response:
    """Read how long a sensor's data is kept, and what the next run removes of it."""
    known = await access.readable(caller, identifier)
    own = await services.store.retentions.of_sensor(known.number)
    return Answer(200, encode(await _shown_sensor(services, known.number, own))).response()


@router.put(
    "/sensors/{identifier}/retention",
    response_model=SensorRetention,
    responses=errors(400, 401, 403, 404, 413, 415, 422),
)
async def set_sensor_retention(
    identifier: str,
    change: SensorRetentionChange,
    caller: Caller,
    actor: TheActor,
    access: TheAccess,
    services: TheServices,
) -> Response:
    """Change how long a sensor's data is kept; the next run goes by it."""
    known = await access.changeable(caller, identifier, Action.REMOVE)
    if change.has_read_only:
        before = await services.store.retentions.of_sensor(known.number)
        change.check_read_only(await _shown_sensor(services, known.number, before))
    own = await services.store.retentions.set_sensor(
        known.number, actor=actor, **change.model_dump(exclude_unset=True)
    )
    if own is None:
        raise _not_found(ErrorCode.SENSOR_NOT_FOUND)
    return Answer(200, encode(await _shown_sensor(services, known.number, own))).response()


async def _networks(services: Services, visible: list[str] | None) -> list[Network]:
    store = services.store.networks
    if visible is not None:
        found = [await store.find(identifier) for identifier in visible]
        return [network for network in found if network is not None]
    networks: list[Network] = []
    while True:
        page, total = await store.list(networks=None, offset=len(networks), limit=NETWORKS_AT_ONCE)
        networks += page
        if not page or len(networks) >= total:
            return networks


def _plan(services: Services) -> DueCounter:
    return DueCounter(services.store, services.retention.default, services.retention.next_moment)


async def _waiting(services: Services, visible: list[str] | None) -> dict[str, Any] | None:
    horizon = services.retention.state.horizon
    if horizon is None or not horizon.waits:
        return None
    plan = DueCounter(services.store, services.retention.default, horizon.clock)
    if visible is None:
        removes = await plan.totals()
    else:
        removes = {kind: Due() for kind in KeptKind}
        for network in visible:
            for kind, due in (await plan.of_network(network)).due.items():
                removes[kind] = removes[kind].plus(due)
    return {
        "clock": to_rfc3339(horizon.clock),
        "leap_seconds": (horizon.clock - horizon.moment) / SECOND,
        "uptime_hours": max(WAIT - horizon.waited, 0) / HOUR,
        "removes": _removes(removes),
    }


async def _planned(services: Services, network: Network, planned: Planned | None) -> dict[str, Any]:
    own = await services.store.retentions.of_network(network.identifier)
    due = planned.due if planned else {kind: Due() for kind in KeptKind}
    return {
        "network_identifier": network.identifier,
        "network_name": network.name,
        "sensors": planned.sensors if planned else 0,
        "effective": effective(own, services.retention.default),
        "removes": _removes(due),
    }


async def _shown_network(services: Services, network: Network, own: Retention) -> dict[str, Any]:
    counts = effective(own, services.retention.default)
    planned = await _plan(services).of_network(network.identifier)
    shown = _representation(services, own, counts, planned.due)
    return {"network_identifier": network.identifier, **shown}


async def _shown_sensor(services: Services, number: int, own: Retention) -> dict[str, Any]:
    sensor = await services.store.sensors.find_number(number)
    if sensor is None:
        raise _not_found(ErrorCode.SENSOR_NOT_FOUND)
    of_network = await services.store.retentions.of_network(sensor.network_identifier)
    counts = effective(own, of_network, services.retention.default)
    due = await _plan(services).of_sensor(number, sensor.network_identifier, counts)
    shown = _representation(services, own, counts, due)
    return {"sensor_identifier": sensor.identifier, **shown}


def _representation(
    services: Services, own: Retention, counts: Retention, due: Mapping[KeptKind, Due]
) -> dict[str, Any]:
    next_run = services.retention.state.next_run_at
    limits = cutoffs(counts, services.retention.next_moment)
    return {
        **msgspec.structs.asdict(own),
        "effective": msgspec.structs.asdict(counts),
        "cutoffs": {name: _time(at or None) for name, at in limits._asdict().items()},
        "removes": _removes(due),
        "next_run_at": _time(next_run),
    }


def _removes(due: Mapping[KeptKind, Due]) -> dict[str, Any]:
    return {
        kind.value: {"rows": each.rows, "bytes": each.bytes, "exact": each.is_exact}
        for kind, each in due.items()
    }


def _time(moment: int | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


def _not_found(code: ErrorCode) -> HeliographError:
    return HeliographError(code, NOT_FOUND[code])

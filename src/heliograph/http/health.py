"""Whether the server lives, and whether it can do its work."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from heliograph.errors import StoreUnavailableError, UnusableStoreError
from heliograph.http.answers import Answer, encode
from heliograph.http.parameters import OPEN_QUERY
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation, ok
from heliograph.http.resources import TheServices, probe
from heliograph.http.services import Services
from heliograph.model.counting import counted
from heliograph.model.time import DAY, SECOND, now, to_epoch_seconds, to_rfc3339
from heliograph.retention.disk_budget import DiskState
from heliograph.store import MigrationState
from heliograph.version import BUILT_FROM, VERSION

router = APIRouter(prefix=PREFIX, tags=["health"], dependencies=[probe])

DATABASE_SECONDS = 3.0
# Rules that are further behind what is stored are told of.
LONGEST_LAG = 30 * SECOND
WILDCARDS = frozenset(("0.0.0.0", "::"))


class Health(Representation):
    """The process lives."""

    status: Annotated[str, "`OK`"]


class Ping(Representation):
    """The server answers."""

    status: Annotated[str, "`OK`"]
    timestamp: Annotated[str, "The server's time (RFC 3339, UTC)"]


class Status(Representation):
    """What runs here, and where devices reach it."""

    environment: Annotated[str, "APP_ENV: `development`, `test` or `production`"]
    commit_sha: Annotated[str | None, "The commit that it was built from, if known"]
    branch_name: Annotated[str | None, "The branch that it was built from, if known"]
    start_timestamp: Annotated[float, "When it was started (epoch seconds)"]
    version: Annotated[str, "The version of Heliograph"]
    mqtt_hostname: Annotated[str | None, "Where devices connect; null: nowhere"]
    mqtt_port: Annotated[int | None, "The TCP port that they connect to"]


class Readiness(Representation):
    """Whether data is taken now, and why not."""

    ready: Annotated[bool, "Whether data is taken"]
    reasons: Annotated[list[str], "Why it is not, in sentences"]
    warnings: Annotated[list[str], "What does not keep data from being taken"]
    database: Annotated[str, "`available` or `unavailable`"]
    migrations: Annotated[
        dict[str, str | None],
        "The database's revision (`current`), and the one that it needs (`head`)",
    ]
    mqtt: Annotated[
        dict[str, Any],
        "Whether the listener is `listening`, and its number of `connections`; with another"
        " broker how the link to it does (`broker`)",
    ]
    queue_depth: Annotated[int, "Number of messages that wait for their commit"]
    bytes_in_flight: Annotated[int, "Bytes of what waits for its commit"]
    disk: Annotated[
        dict[str, int | None],
        "Bytes that the database takes (`used`), and may take (`budget`; null: any)",
    ]
    instance: Annotated[
        dict[str, Any],
        "This server's `number`, those of `others` on the same database, and which `duties` of all"
        " are this server's",
    ]
    last_message_age_seconds: Annotated[
        float | None, "Seconds since the last message was taken; null: none was since the start"
    ]


@router.get("/health", responses=ok(Health), openapi_extra=OPEN_QUERY)
async def health() -> Response:
    """Answer that the process is alive."""
    return Answer(200, encode(Health("OK")))


@router.get("/ping", responses=ok(Ping), openapi_extra=OPEN_QUERY)
async def ping() -> Response:
    """Answer with the server's time."""
    return Answer(200, encode(Ping("OK", to_rfc3339(now()))))


@router.get("/status", responses=ok(Status), openapi_extra=OPEN_QUERY)
async def status(request: Request, services: TheServices) -> Response:
    """Return what runs here, since when, and where devices reach it over MQTT."""
    settings = services.settings
    addresses = services.listener.addresses if services.listener else []
    if not addresses and services.link:
        addresses = [services.link.address]
    host, port = addresses[0][:2] if addresses else (None, None)
    shown = Status(
        environment=settings.app_env,
        commit_sha=settings.commit_sha or BUILT_FROM.get("commit_sha"),
        branch_name=settings.branch_name or BUILT_FROM.get("branch_name"),
        start_timestamp=to_epoch_seconds(services.started_at),
        version=VERSION,
        # Whoever listens everywhere is reached by the name that this request has used.
        mqtt_hostname=request.url.hostname if host in WILDCARDS else host,
        mqtt_port=port,
    )
    return Answer(200, encode(shown))


@router.get(
    "/readyz",
    responses=ok(Readiness) | ok(Readiness, 503, "Not ready"),
    openapi_extra=OPEN_QUERY,
)
async def readyz(services: TheServices) -> Response:
    """Return whether the server accepts data now: 503 with the reasons if not."""
    shown = await readiness(services)
    return Answer(200 if shown.ready else 503, encode(shown))


async def readiness(services: Services) -> Readiness:
    """Return whether the server accepts data now, and why not."""
    state = services.http_ingest.state
    reasons: list[str] = []
    database, migration, fault = await _database(services)
    current, head = migration or (None, None)
    if database != "available" or not state.database_available:
        database = "unavailable"
        reasons.append(fault or "The database is not available")
    elif migration and migration.fault:
        reasons.append(migration.fault[0].upper() + migration.fault[1:])
    if services.disk.is_full:
        reasons.append(_of_budget(services.disk) + ": new data is refused")
    if state.clock_behind:
        reasons.append(
            "The server's clock is behind what it has stored: set it, or, if it is right, run"
            " `heliograph clock accept`"
        )
    listening = bool(services.listener and services.listener.addresses)
    if _wants_listener(services) and not listening:
        reasons.append("The MQTT listener does not accept connections")
    warnings: list[str] = []
    if services.disk.is_low and not services.disk.is_full:
        warnings.append(_of_budget(services.disk))
    warnings += _of_time(services)
    warnings += await _of_rules(services, database)
    instance = services.instance
    others = [other.number for other in instance.others] if instance else []
    warnings += _of_servers(services, others)
    mqtt: dict[str, Any] = {
        "listening": listening,
        "connections": services.listener.connections if services.listener else 0,
    }
    if (link := services.link) is not None:
        if link.problem:
            reasons.append(f"No connection to the MQTT broker: {link.problem}")
        if link.dropped.count:
            warnings.append(f"The MQTT broker has dropped {counted(link.dropped.count, 'message')}")
        mqtt["broker"] = {
            "connected": link.connected,
            "connects": link.connects,
            "dropped_messages": link.dropped.count,
            "waiting_messages": link.waiting,
        }
    if services.informing is not None and services.informing.problem is not None:
        warnings.append(f"Mosquitto's files are not up to date: {services.informing.problem}")
    last = state.last_message_at or state.last_commit_at
    return Readiness(
        ready=not reasons,
        reasons=reasons,
        warnings=warnings,
        database=database,
        migrations={"current": current, "head": head},
        mqtt=mqtt,
        queue_depth=state.depth,
        bytes_in_flight=state.bytes_in_flight,
        disk={"used": services.disk.used, "budget": services.disk.budget or None},
        instance={
            "number": instance.number if instance else 0,
            "others": others,
            "duties": services.duties.held,
        },
        last_message_age_seconds=max(0, now() - last) / SECOND if last else None,
    )


def _of_servers(services: Services, others: list[int]) -> list[str]:
    """Return what keeps this server from working together with others."""
    warnings: list[str] = []
    if others and services.elsewhere is not None and not services.elsewhere.is_connected:
        warnings.append(
            f"What comes to other servers (instances {', '.join(map(str, others))}) is shown late:"
            " the connection by which they tell of it is lost"
        )
    counts = services.shared_counts
    if counts is not None and counts.problem is not None:
        warnings.append(f"RATE_LIMIT_STORAGE is away, each server counts alone: {counts.problem}")
    return warnings


async def _of_rules(services: Services, database: str) -> list[str]:
    """Return whether rules are behind: by what they have not looked at, even if they are stuck."""
    if database != "available":
        return []
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            oldest = await services.store.rule_states.oldest()
    except (StoreUnavailableError, TimeoutError):
        return []
    lag = 0 if oldest is None else now() - oldest
    if lag <= LONGEST_LAG:
        return []
    return [f"Rules are {lag // SECOND} seconds behind what is stored"]


async def _database(services: Services) -> tuple[str, MigrationState | None, str | None]:
    """Return whether it answers, its migrations, and what has to be mended."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            await services.store.ping()
            return "available", await services.store.migration_state(), None
    except UnusableStoreError as error:
        return "unavailable", None, f"The database can't be used: {error.public}"
    except (StoreUnavailableError, TimeoutError):
        return "unavailable", None, None


def _of_budget(disk: DiskState) -> str:
    return f"{disk.percent} % of the disk budget are used ({disk.used} of {disk.budget} bytes)"


def _of_time(services: Services) -> list[str]:
    """Return what is worth knowing of steps of the clock."""
    warnings: list[str] = []
    if ahead := services.http_ingest.clock.ahead:
        warnings.append(
            f"The server's clock has stepped ahead by {round(ahead / SECOND)} seconds: the"
            " monotonic clock counts until it has stayed there for a minute"
        )
    horizon = services.retention.state.horizon
    if horizon is not None and horizon.waits:
        days = (horizon.clock - horizon.moment) / DAY
        warnings.append(
            f"Retention waits: the clock has leapt by {days:.1f} days since the last run; if it is"
            " right, run `heliograph retention accept`"
        )
    return warnings


def _wants_listener(services: Services) -> bool:
    return bool(services.settings.mqtt_listen or services.settings.mqtt_tls_listen)

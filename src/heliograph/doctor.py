"""What an installation is like: each thing that is looked at, and what to do where it is wrong.

All of it is looked at from outside of the server that runs, but for what that says of itself.
"""

import asyncio
import contextlib
import ctypes
import enum
import errno
import os
import platform
import re
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.broker_url import parse_broker_url
from heliograph.database_url import no_database, parse_database_url
from heliograph.errors import (
    DatabaseAwayError,
    StartError,
    StoreUnavailableError,
    UnusableStoreError,
)
from heliograph.ingest.clock import RELEASED
from heliograph.model.time import MINUTE, now, to_rfc3339
from heliograph.mqtt.link import LinkError, LinkOptions, reach
from heliograph.processing.alerting import expiring
from heliograph.secrets import KEY_FILE
from heliograph.settings import Settings, mistyped_variables
from heliograph.store import Store
from heliograph.store.instances import Living
from heliograph.tls import ServerTls, link_tls
from heliograph.version import VERSION

GIBIBYTE = 1 << 30
LEAST_FREE_SHARE = 0.1
LEAST_FREE_BYTES = 1 * GIBIBYTE
# A server may fill so much within the hour.
NO_ROOM_BYTES = 100 << 20
FLUSHES = 10
FLUSHED_BYTES = 4_096
SLOW_FLUSH_SECONDS = 0.05
# What takes no longer has not been on a disk.
NO_FLUSH_SECONDS = 5e-6
DATABASE_SECONDS = 40.0
# What the server needs beside connections over MQTT.
OTHER_FILES = 1_500
# By adjtimex(2): nobody keeps the clock right.
_UNSYNCHRONIZED = 5
_TIMEX_BYTES = 512


class Grade(enum.StrEnum):
    """How it is with what was looked at."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Finding(NamedTuple):
    """What was found where something was looked at, and what to do about it (None: nothing)."""

    check: str
    state: Grade
    found: str
    advice: str | None = None


def worst(findings: Iterable[Finding]) -> Literal[Grade.OK, Grade.WARNING, Grade.FAILURE]:
    """Return how it is with all of them together."""
    states = {finding.state for finding in findings}
    if Grade.FAILURE in states:
        return Grade.FAILURE
    return Grade.WARNING if Grade.WARNING in states else Grade.OK


async def examine(settings: Settings, store: Store) -> list[Finding]:
    """Look at the machine, the files and the database; takes seconds.

    It writes 4 KiB a few times into the data folder, and takes it away again.
    """
    of_machine = await asyncio.to_thread(lambda: list(examine_machine(settings)))
    return [*await examine_database(settings, store), *of_machine]


def of_readiness(reasons: Iterable[str], warnings: Iterable[str]) -> list[Finding]:
    """Return what a running server says of itself, its broker and rules: see GET /readyz."""
    advice = "see the server's log, and docs/guide/operations.md#troubleshooting"
    found = [Finding("server", Grade.FAILURE, reason, advice) for reason in reasons]
    found += [Finding("server", Grade.WARNING, warning, advice) for warning in warnings]
    return found or [Finding("server", Grade.OK, "takes data")]


def of_start(error: StartError) -> Finding:
    """Return that the database can't be used at all, and why."""
    if isinstance(error, DatabaseAwayError):
        advice = "see that it runs and can be reached from here, and that DATABASE_URL is right"
    else:
        advice = "see DATABASE_URL: docs/guide/settings.md; if it is damaged, docs/guide/restore.md"
    return Finding("database", Grade.FAILURE, str(error), advice)


async def examine_broker(settings: Settings) -> Finding | None:
    """Look whether the broker of MQTT_URL can be reached; None: there is none to reach.

    Nobody logs in: the broker would end the session of a server with this client id.
    """
    if not settings.mqtt_url:
        return None
    broker = parse_broker_url(settings.mqtt_url)
    try:
        tls = link_tls(settings) if broker.tls else None
        options = LinkOptions(tls=tls, server_name=settings.mqtt_url_tls_server_name)
        await reach(broker, options, _HangsUp)
    except (LinkError, StartError) as error:
        advice = "see that it runs, and that MQTT_URL is right: docs/guide/broker.md"
        return Finding("broker", Grade.FAILURE, str(error), advice)
    return Finding("broker", Grade.OK, f"{broker} can be reached")


class _HangsUp(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def examine_database(settings: Settings, store: Store) -> list[Finding]:
    """Look at the database; what it does not answer in time counts as a failure or is skipped."""
    url = parse_database_url(settings.database_url)
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            # First: without our tables, nothing else is answered.
            migrations = await store.migration_state()
            if migrations.current is None:
                return [of_start(no_database(url))]
            await store.ping()
            version = await store.integrity.version()
    except (StoreUnavailableError, TimeoutError) as error:
        said = str(error) or "no answer in time"
        advice = "see that it runs and can be reached; docs/guide/restore.md if it is damaged"
        return [Finding("database", Grade.FAILURE, f"{url.place}: {said}", advice)]
    found = [Finding("database", Grade.OK, f"{url.place}, {version}")]
    if migrations.fault is not None:
        return [*found, Finding("migrations", Grade.FAILURE, migrations.fault, _MIGRATE)]
    found.append(Finding("migrations", Grade.OK, f"revision {migrations.current}"))
    of_engine = () if url.is_sqlite else (_backup, _servers)
    for check in (_integrity, _durability, _clock, _budget, *of_engine):
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                found.append(await check(settings, store))
        except UnusableStoreError as error:
            name = check.__name__.strip("_")
            found.append(Finding(name, Grade.FAILURE, error.public, _RESTORE))
        except (StoreUnavailableError, TimeoutError) as error:
            name = check.__name__.strip("_")
            said = f"not looked at to the end: {str(error) or 'it takes too long'}"
            found.append(Finding(name, Grade.SKIPPED, said))
    return found


_MIGRATE = "run heliograph migrate, or start the server with AUTO_MIGRATE=true"
_RESTORE = "stop the server, and restore a backup: docs/guide/restore.md"


async def _integrity(_: Settings, store: Store) -> Finding:
    faults = await store.integrity.faults()
    faults += await store.chunks.faults(DATABASE_SECONDS / 8)
    if faults:
        return Finding("integrity", Grade.FAILURE, "; ".join(faults), _RESTORE)
    return Finding("integrity", Grade.OK, "no damage found")


async def _durability(_: Settings, store: Store) -> Finding:
    lax = await store.integrity.lax_settings()
    if lax:
        return Finding(
            "durability",
            Grade.FAILURE,
            f"PostgreSQL runs with {', '.join(lax)}: a power cut loses what was acknowledged",
            "set them to on in postgresql.conf, and reload PostgreSQL",
        )
    return Finding("durability", Grade.OK, "what is committed is on the disk")


async def _clock(_: Settings, store: Store) -> Finding:
    moment = now()
    shown = to_rfc3339(moment)
    if moment < RELEASED:
        found = f"it shows {shown}, before this version was released"
        return Finding("clock", Grade.FAILURE, found, "set the clock: timedatectl")
    newest = (await store.newest())[1]
    if newest > moment + MINUTE:
        return Finding(
            "clock",
            Grade.FAILURE,
            f"it shows {shown}, and rows were stored until {to_rfc3339(newest)}",
            "set the clock; if it is right: heliograph clock accept",
        )
    if _is_synchronized() is False:
        found = f"it shows {shown}, and nothing keeps it synchronized"
        return Finding("clock", Grade.WARNING, found, "run a time server's client, as chrony")
    return Finding("clock", Grade.OK, f"it shows {shown}")


async def _servers(_: Settings, store: Store) -> Finding:
    living = await store.instances.living()
    if standing := await store.instances.standing():
        found = f"instances {_named(standing)} stand still: they have not renewed their leases"
        advice = "see what their processes wait for, or end them: others have taken over"
        return Finding("servers", Grade.WARNING, found, advice)
    if not living:
        return Finding("servers", Grade.OK, "none uses the database")
    numbers = {each.number for each in living}
    duties = [
        f"{each.duty} by {each.number if each.number in numbers else 'nobody yet'}"
        for each in await store.instances.duties()
    ]
    return Finding("servers", Grade.OK, f"instances {_named(living)}; {', '.join(duties)}")


def _named(servers: list[Living]) -> str:
    """Return the numbers of servers, each with its process and since when that is connected."""
    return ", ".join(
        f"{each.number} ({each.process} since {to_rfc3339(each.since)[:19]}Z)"
        if each.process and each.since
        else str(each.number)
        for each in servers
    )


def _is_synchronized() -> bool | None:
    """Return whether the kernel takes the clock for synchronized; None: it does not say."""
    with contextlib.suppress(OSError, AttributeError):
        state = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(_TIMEX_BYTES)
        )
        return None if state < 0 else state != _UNSYNCHRONIZED
    return None


async def _budget(settings: Settings, store: Store) -> Finding:
    used = await store.engine.used()
    if not settings.disk_budget:
        return Finding("budget", Grade.OK, f"{_size(used)} used; no DISK_BUDGET")
    found = f"{_size(used)} of {_size(settings.disk_budget)} used (DISK_BUDGET)"
    if used >= settings.disk_budget:
        return Finding("budget", Grade.FAILURE, found, _BUDGET)
    is_low = used >= (1 - LEAST_FREE_SHARE) * settings.disk_budget
    return Finding("budget", *((Grade.WARNING, found, _BUDGET) if is_low else (Grade.OK, found)))


_BUDGET = "raise DISK_BUDGET, or keep less: docs/guide/retention.md"


async def _backup(_: Settings, store: Store) -> Finding:
    """Look whether `heliograph backup` can dump the database from this machine."""
    # Its driver, for those alone who have PostgreSQL.
    from heliograph.store.postgresql_backup import (  # noqa: PLC0415 - see above
        ProgramMissingError,
        pg_dump_for,
    )

    version = await store.integrity.version()
    server = int(re.findall(r"\d+", version)[0])
    try:
        program = await asyncio.to_thread(pg_dump_for, server)
    except ProgramMissingError as error:
        return Finding("backup", Grade.SKIPPED, f"{error}; heliograph backup needs it")
    except StartError as error:
        advice = "until then, heliograph backup fails: docs/guide/backup.md"
        return Finding("backup", Grade.WARNING, str(error), advice)
    return Finding("backup", Grade.OK, f"{program} is not older than the server")


def examine_machine(settings: Settings) -> Iterator[Finding]:
    """Look at disk, files, limits and versions; blocks."""
    yield Finding("versions", Grade.OK, f"Heliograph {VERSION}, Python {platform.python_version()}")
    for each in mistyped_variables():
        found = f"{each.name}, in {each.source}, is no setting"
        yield Finding("settings", Grade.WARNING, found, f"did you mean {each.meant}?")
    folder = _data_folder(settings)
    try:
        yield _room(folder)
        yield _flushing(folder)
    except OSError as error:
        yield _no_disk(settings, folder, error)
    yield from _permissions(settings, folder)
    yield from _certificates(settings)
    yield _limits(settings)


def _data_folder(settings: Settings) -> Path:
    """Return where what is acknowledged goes, as far as that is on this machine."""
    url = parse_database_url(settings.database_url)
    return url.path.parent if url.is_sqlite else settings.data_directory.absolute()


def _room(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    found = f"{folder}: {_size(usage.free)} of {_size(usage.total)} free"
    if usage.free < NO_ROOM_BYTES:
        return Finding("disk", Grade.FAILURE, found, _MAKE_ROOM)
    if usage.free < min(LEAST_FREE_BYTES, LEAST_FREE_SHARE * usage.total):
        return Finding("disk", Grade.WARNING, found, _MAKE_ROOM)
    return Finding("disk", Grade.OK, found)


def _no_disk(settings: Settings, folder: Path, error: OSError) -> Finding:
    found = f"{folder}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Finding("disk", Grade.FAILURE, found, _MAKE_ROOM)
    if isinstance(error, FileNotFoundError):
        # What is on PostgreSQL, and given all its keys, needs no folder.
        is_needed = parse_database_url(settings.database_url).is_sqlite
        state = Grade.FAILURE if is_needed else Grade.SKIPPED
        return Finding("disk", state, found, "make it, or correct DATA_DIRECTORY")
    return Finding("disk", Grade.FAILURE, found, "let the server's user write there")


_MAKE_ROOM = "make room, or keep less: docs/guide/retention.md"


def _flushing(folder: Path, clock: Callable[[], float] = time.perf_counter) -> Finding:
    """Measure how long the disk takes to have a block: each commit waits for it."""
    took = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(bytes(FLUSHED_BYTES))
            began = clock()
            os.fsync(file.fileno())
            took.append(clock() - began)
    seconds = statistics.median(took)
    found = f"{folder}: {seconds * 1_000:.2g} ms to flush a block"
    if seconds > SLOW_FLUSH_SECONDS:
        advice = "each commit waits for it: use a faster disk, an SSD say"
        return Finding("flushing", Grade.WARNING, found, advice)
    if seconds < NO_FLUSH_SECONDS:
        advice = "this is no disk, or it does not flush: a power cut loses what was acknowledged"
        return Finding("flushing", Grade.WARNING, found, advice)
    return Finding("flushing", Grade.OK, found)


def _permissions(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Look at who may read and write what is secret or the server's own."""
    url = parse_database_url(settings.database_url)
    names = [settings.data_directory / name for name in (KEY_FILE, SECRET_KEY_FILE)]
    names += [path for name in type(settings).model_fields if (path := _key_file(settings, name))]
    names.append(Path(".env"))
    if url.is_sqlite:
        names += [Path(f"{url.path}{suffix}") for suffix in ("", "-wal", "-shm", "-generation")]
    faults = 0
    for path in names:
        try:
            status = path.stat()
        except OSError:
            continue  # what has to be there is missed by who needs it
        if status.st_mode & 0o007:
            faults += 1
            found = f"{path} may be read or written by everybody on this machine"
            yield Finding("permissions", Grade.WARNING, found, f"chmod o= {path}")
        is_of_database = url.is_sqlite and path.name.startswith(url.path.name)
        if is_of_database and status.st_uid != folder.stat().st_uid:
            faults += 1
            found = f"{path} belongs to another user than its folder"
            yield Finding("permissions", Grade.WARNING, found, f"chown --reference={folder} {path}")
    if not faults:
        yield Finding("permissions", Grade.OK, "keys and data are not everybody's to read")


def _key_file(settings: Settings, name: str) -> Path | None:
    path = getattr(settings, name)
    return path if name.endswith("_key") and isinstance(path, Path) else None


def _certificates(settings: Settings) -> Iterator[Finding]:
    for name in type(settings).model_fields:
        path = getattr(settings, name)
        if not name.endswith("_certificate") or not isinstance(path, Path):
            continue
        advice = f"renew it: {name.upper()}"
        if not os.access(path, os.R_OK):
            found = f"{path} can't be read by this user"
            yield Finding("certificates", Grade.FAILURE, found, name.upper())
        elif (sign := expiring([path], now())).holds:
            state = Grade.FAILURE if "has expired" in sign.summary else Grade.WARNING
            yield Finding("certificates", state, sign.summary, advice)
        elif fault := _tls_fault(settings, name.removesuffix("_certificate")):
            advice = "the server does not start with it: give the key that belongs to it, as PEM"
            yield Finding("certificates", Grade.FAILURE, fault, advice)
        else:
            yield Finding("certificates", Grade.OK, f"{path.name} does not expire soon")


def _tls_fault(settings: Settings, name: str) -> str | None:
    """Return why a certificate can't be used with its key; None: it can."""
    try:
        if name == "mqtt_url_tls":
            link_tls(settings)
        else:
            files = (getattr(settings, f"{name}_{kind}", None) for kind in ("certificate", "key"))
            ServerTls(name.upper(), *files)
    except StartError as error:
        return str(error)
    return None


def _limits(settings: Settings) -> Finding:
    """Look at how many files this process may have open; a server raises the soft limit."""
    wanted = settings.mqtt_max_connections + OTHER_FILES
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("limits", Grade.OK, f"{wanted} files may be open")
    return Finding(
        "limits",
        Grade.WARNING,
        f"{hard} files may be open, and MQTT_MAX_CONNECTIONS takes up to {wanted}",
        "raise LimitNOFILE of the unit, or ulimit -Hn; or lower MQTT_MAX_CONNECTIONS",
    )


def _size(count: int) -> str:
    return f"{count / GIBIBYTE:.1f} GiB" if count >= GIBIBYTE else f"{count / (1 << 20):.1f} MiB"

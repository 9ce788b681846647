"""What goes on beside the flow of data: tidying up, of memory and of the store."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
from collections.abc import Awaitable, Callable

import structlog

from heliograph.access.registry import Registry
from heliograph.errors import HeliographError, StoreUnavailableError
from heliograph.ingest.rejections import RejectionBudget
from heliograph.model.time import DAY
from heliograph.mqtt.link import Link
from heliograph.settings import Settings
from heliograph.store import Store

log = structlog.get_logger()

# Rows are tuples of numbers and texts, in which the garbage collector has nothing to find; left
# to count allocations by itself it takes a quarter of the ingest path's time.
COLLECT_SECONDS = 5.0
# When sensors were last seen is answered from memory; a crash may cost so many seconds of it.
FLUSH_SECONDS = 30.0
MAINTENANCE_SECONDS = 3_600.0
FILES_SECONDS = 1.0
# The broker says it every few seconds.
NOTE_SECONDS = 1.0


async def collect() -> None:
    """Collect garbage by the clock, not by the number of allocations, for ever."""
    gc.collect()
    # What has been made by now stays: modules, routes, settings.
    gc.freeze()
    gc.disable()
    try:
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


async def flush(registry: Registry) -> None:
    """Write when sensors were last seen, for ever."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        with contextlib.suppress(StoreUnavailableError):
            await registry.flush()


async def watch_files() -> None:
    """Tell once when no file can be opened any more, and once when one can again, for ever.

    uvloop refuses connections then by closing them, without a word.
    """
    used_up = False
    while True:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if not used_up and error.errno in (errno.EMFILE, errno.ENFILE):
                used_up = True
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                log.error(  # noqa: TRY400 - a state, told once, needs no traceback
                    "file descriptors used up: new connections are closed", limit=limit
                )
        else:
            if used_up:
                log.info("file descriptors are free again")
            used_up = False
        await asyncio.sleep(FILES_SECONDS)


async def note_drops(store: Store, link: Link) -> None:
    """Note what the broker says that it has dropped, for ever."""
    while True:
        await link.dropped.changed.wait()
        link.dropped.changed.clear()
        said = link.dropped.said()
        if said is None:
            continue
        try:
            await store.broker_drops.note(str(link.broker), said)
        except StoreUnavailableError:
            link.dropped.changed.set()
        await asyncio.sleep(NOTE_SECONDS)


async def maintain(
    store: Store,
    settings: Settings,
    rejections: RejectionBudget,
    horizon: Callable[[], Awaitable[int]],
) -> None:
    """Delete what is kept for a time only, beside telemetry, for ever.

    It goes by the time that retention goes by, since a clock may be ahead.
    """
    while True:
        try:
            moment = await horizon()
            await store.deliveries.prune(moment)
            await store.accounts.prune_sessions(moment)
            await store.rejected.prune(moment - settings.rejected_retention_days * DAY)
            _, rejections.kept_bytes = await store.rejected.totals()
            await store.audit.prune(moment - settings.audit_days * DAY)
        except StoreUnavailableError:
            log.debug("maintenance waits for the database")
        except HeliographError as error:
            log.debug("maintenance waits", reason=str(error))
        await asyncio.sleep(MAINTENANCE_SECONDS)

"""A command's way to the database, without a running server, and who the audit log says it was."""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from heliograph.database_url import DatabaseUrl, no_database, parse_database_url
from heliograph.errors import StartError
from heliograph.model.audit import Actor, ActorKind
from heliograph.settings import Settings, load_settings
from heliograph.store import Store, open_store
from heliograph.store.claim import Claim, InUseError
from heliograph.store.sqlite_generation import look

Result = TypeVar("Result")


def with_store(
    work: Callable[[Store], Awaitable[Result]],
    settings: Settings | None = None,
    *,
    claimed: str | None = None,
) -> Result:
    """Return what the work returns, done on the open database that the settings name.

    What writes more than fits well into one write-ahead log has it claimed, as a server has;
    `claimed` then says what to do while one has it.

    Raises:
        StartError: there is no database, it cannot be used, or is not at this version's revision.
    """
    settings = settings or load_settings()
    url = parse_database_url(settings.database_url)
    require_file(url, accept_empty=settings.accept_empty_database)
    if claimed is None:
        return asyncio.run(_with_store(settings, url, work, None))
    try:
        claim = Claim(settings.database_url, accept_empty=settings.accept_empty_database)
    except InUseError:
        raise StartError(f"a server uses {url.path}, and SQLite takes one: {claimed}") from None
    try:
        return asyncio.run(_with_store(settings, url, work, claim))
    finally:
        claim.release()


async def _with_store(
    settings: Settings,
    url: DatabaseUrl,
    work: Callable[[Store], Awaitable[Result]],
    claim: Claim | None,
) -> Result:
    _silence_errors_once_interrupted()
    store = await open_store(
        settings.database_url, claim, accept_empty=settings.accept_empty_database
    )
    try:
        state = await store.migration_state()
        if state.current is None:
            raise no_database(url)
        state.require_head()
        return await work(store)
    finally:
        await store.close()


async def collect(
    read: Callable[[list[Result], int], Awaitable[Sequence[Result]]],
    limit: int | None = None,
    *,
    at_once: int = 1_000,
) -> list[Result]:
    """Return records up to the limit; `read` returns at most so many behind those found so far."""
    found: list[Result] = []
    while limit is None or len(found) < limit:
        page = await read(found, at_once if limit is None else min(at_once, limit - len(found)))
        found += page
        if not page:
            break
    return found


def command_line() -> Actor:
    """Return the user of the operating system, as the audit log names whoever types a command."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # In a container the number often has no name.
        name = str(os.getuid())
    return Actor(ActorKind.COMMAND_LINE, name)


def require_file(url: DatabaseUrl, *, accept_empty: bool = False) -> None:
    """See that a SQLite file is there: to open it would make one, which no server knows.

    Raises:
        StartError: it is not there, or empty.
    """
    if not url.is_sqlite:
        return
    try:
        if url.path.stat().st_size:
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise StartError(f"DATABASE_URL: can't open {url.path}: {error.strerror}") from error
    else:
        # Says so of one that was not empty before.
        look(url.path, accept_empty=accept_empty)
    raise no_database(url)


def _silence_errors_once_interrupted() -> None:
    """Report no error of what breaks off with this task: whoever interrupts it knows of it.

    A connection that asyncpg was just making leaves a future behind whose error nobody asks for.
    """
    task = asyncio.current_task()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # At its end asyncio takes back that it was asked to cancel.
        if task is None or not (task.cancelling() or task.cancelled()):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(report)

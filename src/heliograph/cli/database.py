"""A command's way to the database, without a running server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from heliograph.errors import StartError
from heliograph.settings import Settings
from heliograph.store import Store, migrate, open_store
from heliograph.store.claim import Claim

Result = TypeVar("Result")


def with_store(
    settings: Settings, work: Callable[[Store], Awaitable[Result]], claim: Claim | None = None
) -> Result:
    """Return what the work returns, done on the open database.

    What writes more than fits well into one write-ahead log has a claim, as a server has.

    Raises:
        StartError: the database cannot be used or is not at this version's revision.
    """
    return asyncio.run(_with_store(settings, work, claim))


async def _with_store(
    settings: Settings, work: Callable[[Store], Awaitable[Result]], claim: Claim | None
) -> Result:
    store = await open_store(
        settings.database_url, claim, accept_empty=settings.accept_empty_database
    )
    try:
        current, head = await store.migration_state()
        if current is None and settings.auto_migrate:
            # The first command on a new machine may come before the first start.
            await migrate(settings.database_url)
        elif current != head:
            raise StartError(
                f"DATABASE_URL: the database is at revision {current or 'none'}, this version"
                f" needs {head}: run heliograph migrate"
            )
        return await work(store)
    finally:
        await store.close()

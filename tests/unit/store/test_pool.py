"""The pool of connections for reading."""

import asyncio

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.store.pool import Pool


async def test_nobody_who_waits_for_a_pool_that_closes_opens_it_again():
    opened = []

    async def connect():
        opened.append(object())
        return opened[-1]

    async def disconnect(connection):
        opened.remove(connection)

    pool = Pool(1, connect, disconnect, seconds=10)
    connection = await pool.take()
    waiting = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    pool.give(connection)
    await closing
    with pytest.raises(StoreUnavailableError, match="closed"):
        await waiting
    assert opened == []

"""The connection for signals, when the network is slower than the server."""

import asyncio

import asyncpg
import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.store.postgresql_signals import PostgresqlSignals
from heliograph.store.queries import load_queries


class Connection:
    """A connection that answers nothing, and tells of its end when the test wants it."""

    def __init__(self):
        self.ended = None

    def add_termination_listener(self, listener):
        self.ended = listener

    async def add_listener(self, channel, heard):
        pass

    async def execute(self, *_):
        raise TimeoutError

    def is_closed(self):
        return False


class OneAtATime(Connection):
    """A connection that takes one statement at a time, as the driver's do."""

    def __init__(self):
        super().__init__()
        self.is_busy = False
        self.sent = []

    async def execute(self, _sql, _channel, texts):
        if self.is_busy:
            raise asyncpg.InterfaceError("another operation is in progress")
        self.is_busy = True
        await asyncio.sleep(0)
        self.sent += texts
        self.is_busy = False


async def test_what_is_sent_at_once_goes_one_after_the_other():
    """The greeting on a new connection, and what has come meanwhile."""
    connection = OneAtATime()

    async def connect():
        return connection

    async def disconnect(_):
        raise AssertionError("given up")

    signals = PostgresqlSignals(connect, disconnect, load_queries("postgresql")["signals_send"])
    await signals.open(lambda sender, text: None)
    await asyncio.gather(signals.send(["1.hello"]), signals.send(["2.ids"]))
    assert connection.sent == ["1.hello", "2.ids"]


async def test_a_statement_that_ends_with_its_connection_is_one_of_a_lost_connection():
    class Closed(Connection):
        async def execute(self, *_):
            raise asyncpg.InternalClientError("got result for unknown protocol state 3")

    async def connect():
        return Closed()

    async def disconnect(_):
        pass

    signals = PostgresqlSignals(connect, disconnect, load_queries("postgresql")["signals_send"])
    await signals.open(lambda sender, text: None)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await signals.send(["1.text"])
    await asyncio.wait_for(signals.lost(), 1)


async def test_the_late_end_of_a_connection_that_was_given_up_ends_no_other():
    made = []

    async def connect():
        made.append(Connection())
        return made[-1]

    async def disconnect(connection):
        pass

    signals = PostgresqlSignals(connect, disconnect, load_queries("postgresql")["signals_send"])
    await signals.open(lambda sender, text: None)
    with pytest.raises(StoreUnavailableError):
        await signals.send(["1.text"])
    await asyncio.wait_for(signals.lost(), 1)
    await signals.open(lambda sender, text: None)
    made[0].ended(made[0])
    waiting = asyncio.create_task(signals.lost())
    await asyncio.sleep(0)
    assert not waiting.done()
    made[1].ended(made[1])
    await asyncio.wait_for(waiting, 1)

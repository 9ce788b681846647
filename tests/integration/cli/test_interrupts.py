"""What a command on the database says when it is interrupted: nothing but its own line."""

import asyncio
import gc
import shutil
import signal

import pytest

from database_copies import migrated_database
from heliograph.cli.database import with_store
from heliograph.settings import Settings


@pytest.fixture
def settings(tmp_path):
    shutil.copy(migrated_database(), tmp_path / "x.db")
    return Settings(database_url=f"sqlite:///{tmp_path}/x.db")


@pytest.mark.parametrize("late", [False, True])
def test_what_breaks_off_with_an_interrupt_is_not_told_of(settings, caplog, late):
    """A connection that was just being made leaves an error behind that nobody asks for."""

    kept = []

    async def work(_store):
        left = asyncio.get_running_loop().create_future()
        if late:
            kept.append(left)
        left.set_exception(ConnectionError("unexpected connection_lost() call"))
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            del left
            gc.collect()

    with pytest.raises(KeyboardInterrupt):
        with_store(work, settings)
    kept.clear()
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_any_other_error_that_nobody_asked_for_is_told(settings, caplog):

    async def work(_store):
        asyncio.get_running_loop().create_future().set_exception(ConnectionError("so there"))
        gc.collect()

    with_store(work, settings)
    assert "never retrieved" in caplog.text

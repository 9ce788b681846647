"""When notices are gathered: at once, but not in the middle of many."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from heliograph.errors import DeliveryError
from heliograph.model.grouping import Pace
from heliograph.model.time import SECOND, now
from heliograph.processing.dispatcher import ActionFailedError
from heliograph.processing.notifications import HELD_SECONDS, Notifications
from heliograph.store.channels import Notification


class Channels:
    """Channels that have something due since a moment, until it is gathered."""

    def __init__(self, due_at: int) -> None:
        self._due_at: int | None = due_at
        self.asked = asyncio.Event()
        self.gathered = asyncio.Event()

    async def due_at(self, _now: int) -> int | None:
        self.asked.set()
        return self._due_at

    async def gather(self, _now: int, _pace: Pace) -> int:
        self._due_at = None
        self.gathered.set()
        return 1


async def test_what_is_due_waits_while_rules_raise_more_but_not_for_long() -> None:
    for since, more, waits in ((0.0, True, True), (0.0, False, False), (HELD_SECONDS, True, False)):
        channels: Any = Channels(now() - int(since * SECOND))
        nothing: Any = None
        notifications = Notifications(channels, nothing, nothing, Pace(1, 1), interval=60)

        async def more_comes(more: bool = more) -> bool:
            return more

        notifications.more_comes = more_comes
        task = asyncio.create_task(notifications.run())
        await channels.asked.wait()
        await asyncio.sleep(0)
        assert channels.gathered.is_set() is not waits
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_channel_that_is_not_in_use_is_told_nothing() -> None:
    class Unused:
        async def find(self, _identifier: str) -> Any:
            return SimpleNamespace(enabled=False)

        async def called(self, _network: str, _name: str) -> Any:
            return SimpleNamespace(enabled=False)

    unused: Any = Unused()
    nothing: Any = None
    notifications = Notifications(unused, nothing, nothing, Pace(1, 1), interval=60)
    notification = Notification("channel", "cellar", "hot", "", "warning", 1)
    due: Any = SimpleNamespace(body=msgspec.json.encode(notification))
    with pytest.raises(ActionFailedError, match="not in use any more") as failed:
        await notifications.send(due)
    assert failed.value.is_final
    with pytest.raises(DeliveryError, match="no channel 'pager' in use"):
        await notifications.webhook("cellar", "pager")

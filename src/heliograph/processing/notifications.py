"""Notifications: what goes to channels is gathered, entered in the outbox, and sent from there."""

import asyncio
import contextlib
import secrets as randomness
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from heliograph.errors import DeliveryError, StartError, StoreUnavailableError
from heliograph.model.grouping import Digest, Pace
from heliograph.model.listeners import Listeners
from heliograph.model.time import SECOND, now
from heliograph.processing.channels import Channel, Courier, WebhookTarget, restored
from heliograph.processing.dispatcher import LONGEST_SECONDS, ActionFailedError
from heliograph.secrets import Secrets, UndecipherableError
from heliograph.store.actions import DueAction
from heliograph.store.channels import Channels, Notification, StoredChannel

log = structlog.get_logger()

# What waits for another server, which is about the same channels, is looked at again so soon.
AGAIN_SECONDS = 0.05
# While rules go on raising alerts, what is due waits for them, but no longer than this.
HELD_SECONDS = 25.0
MOST_NAMED = 10


class Notifications:
    """Gathers what is for each channel, and sends it."""

    def __init__(
        self,
        channels: Channels,
        courier: Courier,
        secrets: Callable[[], Secrets],
        pace: Pace,
        *,
        interval: float,
    ) -> None:
        """Look for notices every `interval` seconds without being woken.

        `secrets` raises StartError where there is no key.
        """
        self._channels = channels
        self.courier = courier
        self._secrets = secrets
        self.pace = pace
        self.interval = interval
        # Returns whether more is about to be told of.
        self.more_comes: Callable[[], Awaitable[bool]] = _nothing
        # Called when something is to be sent.
        self.entered: Listeners[[]] = Listeners()
        self._work = asyncio.Event()
        self._has_another_pace = False

    def keep_pace(self, pace: Pace) -> None:
        """Keep another pace from now on, with what is gathered too."""
        self.pace = pace
        self._has_another_pace = True
        self.wake()

    def wake(self) -> None:
        """Look for notices now: some were committed."""
        self._work.set()

    async def run(self) -> None:
        """Gather, for ever."""
        while True:
            seconds = self.interval
            try:
                seconds = await self._round()
            except StoreUnavailableError as error:
                log.debug("notices waiting for the database", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._work.wait()
            self._work.clear()

    async def _round(self) -> float:
        """Gather what is due, and return for how many seconds there is nothing to do."""
        if self._has_another_pace:
            await self._channels.hasten(now())
            self._has_another_pace = False
        due_at = await self._channels.due_at(now())
        if due_at is None:
            return self.interval
        left = (due_at - now()) / SECOND
        if left > 0:
            return min(left, self.interval)
        if left > -HELD_SECONDS and await self.more_comes():
            return AGAIN_SECONDS
        if await self._channels.gather(now(), self.pace):
            self.entered()
        return AGAIN_SECONDS

    async def send(self, due: DueAction) -> str | None:
        """Send what an action says to its channel; return what is to be noted of it.

        Raises:
            ActionFailedError: it was not sent.
        """
        notification = msgspec.json.decode(due.body, type=Notification)
        stored = await self._channels.find(notification.channel)
        if stored is None:
            raise ActionFailedError("the channel was deleted", is_final=True)
        if not stored.enabled:
            raise ActionFailedError("the channel is not in use any more", is_final=True)
        _, network, *digest = msgspec.structs.astuple(notification)
        try:
            return await self.courier.notify(
                self._restored(stored),
                Digest(*digest),
                network=network,
                key=f"{due.id}-{due.created_at}",
            )
        except DeliveryError as error:
            raise ActionFailedError(str(error), is_final=error.is_final) from error

    async def webhook(self, network: str | None, name: str) -> WebhookTarget:
        """Return where the webhook channel of this name leads, for a rule that posts there itself.

        Raises:
            DeliveryError: there is none in use, or its secrets can't be read.
        """
        stored = await self._channels.called(network, name)
        if stored is None or not stored.enabled:
            raise DeliveryError(f"there is no channel {name!r} in use", is_final=True)
        target = self._restored(stored).target
        if not isinstance(target, WebhookTarget):
            raise DeliveryError(f"the channel {name!r} is no webhook", is_final=True)
        return target

    async def test(self, stored: StoredChannel, network: str) -> str | None:
        """Send a test to a channel, be it in use or not; return what is to be noted of it.

        Raises:
            DeliveryError: it was not sent.
        """
        text = f"This is a test of the channel {stored.name!r}: alerts will be sent here.\n"
        digest = Digest(f"[test] {stored.name}", text, "info", 0)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                return await self.courier.notify(
                    self._restored(stored),
                    digest,
                    network=network,
                    key=f"test-{randomness.token_hex(8)}",
                )
        except TimeoutError:
            raise DeliveryError(f"not done within {LONGEST_SECONDS:.0f} s") from None

    async def check(self) -> None:
        """Log which channels can't be used because their secrets can't be read.

        That stops no start: what sensors send is stored all the same.
        """
        unreadable, reason = [], ""
        for stored in await self._channels.with_secrets():
            try:
                self._restored(stored)
            except DeliveryError as error:
                unreadable.append(stored.name)
                reason = str(error)
        if unreadable:
            log.error(
                "channels unusable",
                channels=unreadable[:MOST_NAMED],
                count=len(unreadable),
                reason=reason,
            )

    def _restored(self, stored: StoredChannel) -> Channel:
        try:
            return restored(stored, self._secrets)
        except UndecipherableError:
            raise DeliveryError(
                "the channel's secrets were encrypted with a key that SECRETS_KEY does not have:"
                " give it that key too, or the channel its secrets anew",
                is_final=True,
            ) from None
        except StartError as error:
            raise DeliveryError(str(error), is_final=True) from None


async def _nothing() -> bool:
    return False

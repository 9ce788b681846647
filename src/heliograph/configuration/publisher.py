"""Publishes what is in the outbox of configurations, and says what has been published.

    commit ─▶ outbox ─▶ claim ─▶ look up what is newest ─┬─▶ listener: to those connected ─┐
                 ▲                                       └─▶ broker: retained, QoS 1 ──────┤
                 └───── changed meanwhile, or refused ◀──────────────────── finish ◀───────┘

A name is claimed by one process at a time, and what goes under it is looked up after that: so
nothing older is published after something newer. After a crash claims lapse.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import structlog

from heliograph.errors import HeliographError, StoreUnavailableError
from heliograph.model.time import SECOND, now
from heliograph.mqtt.link import Link
from heliograph.mqtt.listener import Listener
from heliograph.mqtt.publications import PublicationRefusedError, PublicationUnsettledError
from heliograph.store.duties import Duty, DutyName
from heliograph.store.publications import (
    CLAIM_SECONDS,
    Claimed,
    Content,
    Outbox,
    Postponed,
    Published,
)

log = structlog.get_logger()

POLL_SECONDS = 1.0
RENEW_SECONDS = CLAIM_SECONDS / 3
RETRY_STORE_SECONDS = 0.5
CLOSE_SECONDS = 2.0
# What is on its way to the broker at once, and claimed or read in one piece.
MAXIMUM_UNDER_WAY = 6_000
MAXIMUM_BYTES_UNDER_WAY = 8 << 20
CLAIMED_AT_ONCE = 2_000
FINISHED_AT_ONCE = 2_000
# After a refusal, doubled each time.
FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 300.0
# For a broker that takes nothing, while the listener's clients are served.
AWAY_SECONDS = 5


class Topic(NamedTuple):
    """What is to be retained under a name; without content, nothing."""

    name: str
    version: int
    attempts: int
    content: Content | None
    payload: bytes


class Publisher:
    """Brings the topics of configurations up to date, for as long as it runs."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        broker: Link | None,
        subscribers: Listener | None,
        alone: bool,
        duty: Duty | None = None,
    ) -> None:
        """Publish to either, to both or to nobody; `alone`: no other process does.

        It publishes while the `duty` is this server's; without one it always is.
        """
        self._duty = duty or Duty(DutyName.CONFIGURATIONS)
        self._outbox = outbox
        self._broker = broker
        self._subscribers = subscribers
        self._alone = alone
        self._claim = secrets.randbits(62)
        self._work = asyncio.Event()
        self._settle = asyncio.Event()
        self._room = asyncio.Event()
        self._published: list[Published] = []
        self._postponed: list[Postponed] = []
        # Names on their way, with the bytes that they hold.
        self._under_way: dict[str, int] = {}
        self._bytes = 0
        # Names whose version has been shown to the subscribers, while the broker lacks it.
        self._shown: dict[str, int] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._connects = 0
        # Whether anything was refused on this connection; how many were ended by that.
        self._refused = False
        self._cuts = 0
        self._resumes_at = 0.0
        # Told which revisions were published under which names, for other servers' clients.
        self.shown: Callable[[dict[str, int]], None] | None = None

    async def show(self, revisions: Mapping[str, int]) -> None:
        """Send the listener's clients what another server has published, by names.

        Of what is newer by now that server tells too.

        Raises:
            StoreUnavailableError: not now.
        """
        if self._subscribers is None:
            return
        contents = await self._outbox.contents(list(revisions))
        by_name = {
            name: content
            for content in contents
            for name in _names(content)
            if revisions.get(name) == content.revision
        }
        for piece in _pieces([Claimed(name, 0, 0) for name in by_name], by_name):
            await self._show(self._subscribers, await self._topics(piece, by_name), anew=True)

    def wake(self) -> None:
        """Look for work now: something was committed."""
        self._work.set()

    def forget(self) -> None:
        """Forget what was published: the database was restored, and its outbox has it again."""
        self._shown.clear()
        self._published.clear()
        self._postponed.clear()
        self._work.set()

    async def run(self) -> None:
        """Publish what is in the outbox, for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._settle_for_ever(), name="configurations settle")
                group.create_task(self._renew_for_ever(), name="configurations renew")
                await self._publish_for_ever()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def close(self) -> None:
        """Note what has been published, and leave the rest to whoever comes next."""
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._settle_once()
                await self._outbox.release(self._claim)

    async def _publish_for_ever(self) -> None:
        if self._alone:
            await self._keep_trying(self._outbox.forget_claims)
        while True:
            try:
                await self._round()
            except StoreUnavailableError as error:
                log.debug("configurations waiting for the database", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._work.wait()
            self._work.clear()

    async def _round(self) -> None:
        self._watch_connections()
        # Each change of the registry is a call. Mostly nothing follows from it, and nobody need
        # wait for the writer meanwhile.
        if not self._duty.held or not await self._outbox.due(now()):
            return
        while (limit := self._claimable()) > 0:
            with self._duty.fenced():
                claimed = await self._outbox.claim(self._claim, now(), limit)
            # What this process has claimed before and lost for a while is still on its way.
            fresh = [each for each in claimed if each.name not in self._under_way]
            if fresh:
                await self._begin(fresh)
            if len(claimed) < limit:
                return

    @property
    def _is_taken(self) -> bool:
        """Whether what is published now may be taken: always if there is no broker."""
        broker = self._broker
        if broker is None:
            return True
        return broker.connected and asyncio.get_running_loop().time() >= self._resumes_at

    def _watch_connections(self) -> None:
        """Leave a broker in peace for some time that ends the connection after a refusal.

        To try what it refuses at each connection would keep what devices send from arriving.
        """
        broker = self._broker
        if broker is None or not broker.connected or broker.connects == self._connects:
            return
        self._connects = broker.connects
        if self._refused:
            self._refused = False
            delay = _backoff(self._cuts)
            self._cuts += 1
            self._resumes_at = asyncio.get_running_loop().time() + delay
            log.warning("broker connection ended by a refusal", again_in_seconds=delay)

    def _claimable(self) -> int:
        """Return how many names to claim now."""
        if self._broker is None:
            return CLAIMED_AT_ONCE
        if not self._is_taken:
            return CLAIMED_AT_ONCE if self._subscribers is not None else 0
        if self._cuts:
            return 1 - min(len(self._under_way), 1)
        # A claim costs a commit: rather none than a small one beside much that is under way.
        room = MAXIMUM_UNDER_WAY - len(self._under_way)
        return min(CLAIMED_AT_ONCE, room) if room >= CLAIMED_AT_ONCE // 2 else 0

    async def _begin(self, claimed: list[Claimed]) -> None:
        self._under_way.update((each.name, 0) for each in claimed)
        unsent = {each.name: each for each in claimed}
        try:
            await self._send_each(claimed, unsent)
        finally:
            # Only if that failed is anything left.
            for each in unsent.values():
                self._put_off(each, 0, each.attempts)

    async def _send_each(self, claimed: list[Claimed], unsent: dict[str, Claimed]) -> None:
        contents = await self._outbox.contents([each.name for each in claimed])
        by_name = {name: content for content in contents for name in _names(content)}
        for piece in _pieces(claimed, by_name):
            await self._wait_for_room()
            topics = await self._topics(piece, by_name)
            for each in piece:
                del unsent[each.name]
            await self._send(topics)

    async def _topics(self, piece: list[Claimed], by_name: dict[str, Content]) -> list[Topic]:
        """Return what is to be retained under each name, with the texts that were too long."""
        long = (by_name.get(each.name) for each in piece)
        wanted = {_key(content) for content in long if content and content.text is None}
        texts = await self._outbox.texts(sorted(wanted)) if wanted else {}
        topics = []
        for each in piece:
            content = by_name.get(each.name)
            text = None if content is None else content.text or texts.get(_key(content))
            payload = b"" if content is None or text is None else _payload(content, text)
            found = content if text is not None else None
            # As of what is published: it may have changed since it was claimed.
            version = content and content.version(each.name)
            topics.append(Topic(each.name, version or each.version, each.attempts, found, payload))
        return topics

    async def _wait_for_room(self) -> None:
        while self._broker is not None and self._is_taken and self._bytes > MAXIMUM_BYTES_UNDER_WAY:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._room.wait()

    async def _send(self, topics: list[Topic]) -> None:
        """Publish topics to those who are connected, unless another server does by now."""
        if not self._duty.held:
            for topic in topics:
                self._put_off(topic, 0, topic.attempts)
            return
        if self._subscribers is not None:
            await self._show(self._subscribers, topics)
        if self.shown is not None:
            self.shown({each.name: each.content.revision for each in topics if each.content})
        broker = self._broker
        moment = now()
        for topic in topics:
            if broker is None:
                self._is_published(topic)
            elif not self._is_taken:
                # For the broker alone nothing is claimed before it takes something again.
                delay = AWAY_SECONDS * SECOND if self._subscribers is not None else 0
                self._put_off(topic, moment + delay, topic.attempts)
            else:
                size = len(topic.payload) + 1
                self._under_way[topic.name] = size
                self._bytes += size
                task = asyncio.create_task(
                    self._publish(broker, topic), name=f"configuration {topic.name}"
                )
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def _show(
        self, subscribers: Listener, topics: list[Topic], *, anew: bool = False
    ) -> None:
        """Send to the listener's clients what they have not been sent yet, or all of it `anew`."""
        fresh: dict[int, list[Topic]] = {}
        for topic in topics:
            known = None if anew else self._shown.get(topic.name)
            if topic.content is not None and known != topic.version:
                fresh.setdefault(topic.content.number, []).append(topic)
        for number, of_sensor in fresh.items():
            content = of_sensor[0].content
            if content is None:
                continue
            # The preferred name first.
            names = sorted((topic.name for topic in of_sensor), key=content.identifier.__eq__)
            payload = of_sensor[0].payload
            await subscribers.configure(number, content.network_identifier, names, payload)
            if self._broker is not None and not anew:
                self._shown.update((topic.name, topic.version) for topic in of_sensor)

    async def _publish(self, broker: Link, topic: Topic) -> None:
        try:
            await broker.publish(f"configurations/{topic.name}", topic.payload, retain=True)
        except PublicationUnsettledError:
            self._refused = True
            self._put_off(topic, 0, topic.attempts)
        except (PublicationRefusedError, HeliographError) as error:
            self._refuse(topic, str(error))
        except Exception:
            log.exception("configuration not published", name=topic.name)
            self._refuse(topic, "the server failed")
        else:
            self._refused, self._cuts = False, 0
            self._is_published(topic)

    def _refuse(self, topic: Topic, reason: str) -> None:
        delay = _backoff(topic.attempts)
        # One line stands for all that are refused together.
        write = log.debug if self._refused else log.warning
        write("configuration refused", name=topic.name, reason=reason, again_in_seconds=delay)
        self._refused = True
        self._put_off(topic, now() + round(delay * SECOND), topic.attempts + 1)

    def _is_published(self, topic: Topic) -> None:
        content = topic.content
        number, revision = (content.number, content.revision) if content else (None, None)
        self._published.append(Published(topic.name, topic.version, number, revision, now()))
        self._shown.pop(topic.name, None)
        self._settle.set()

    def _put_off(self, topic: Topic | Claimed, due_at: int, attempts: int) -> None:
        self._postponed.append(Postponed(topic.name, topic.version, due_at, attempts))
        self._settle.set()

    async def _settle_for_ever(self) -> None:
        while True:
            await self._settle.wait()
            self._settle.clear()
            await self._keep_trying(self._settle_once)

    async def _settle_once(self) -> None:
        """Write down what was published or put off."""
        while self._published or self._postponed:
            published = self._published[:FINISHED_AT_ONCE]
            if published:
                await self._outbox.finish(self._claim, published)
                del self._published[: len(published)]
                self._forget(each.name for each in published)
            postponed = self._postponed[:FINISHED_AT_ONCE]
            if postponed:
                await self._outbox.postpone(self._claim, postponed)
                del self._postponed[: len(postponed)]
                self._forget(each.name for each in postponed)
            # What changed meanwhile is due again, and there is room.
            self._work.set()

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._bytes -= self._under_way.pop(name, 0)
        self._room.set()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if self._under_way:
                await self._keep_trying(self._renew)

    async def _renew(self) -> None:
        await self._outbox.renew(self._claim, list(self._under_way), now())

    @staticmethod
    async def _keep_trying(work: "Callable[[], Awaitable[None]]") -> None:
        while True:
            try:
                await work()
            except StoreUnavailableError:
                await asyncio.sleep(RETRY_STORE_SECONDS)
            else:
                return


def _backoff(attempts: int) -> float:
    return min(FIRST_RETRY_SECONDS * (1 << min(attempts, 16)), LONGEST_RETRY_SECONDS)


def _names(content: Content) -> tuple[str, ...]:
    if content.device_id is None:
        return (content.identifier,)
    return (content.device_id, content.identifier)


def _key(content: Content) -> tuple[int, int]:
    return content.number, content.revision


def _payload(content: Content, text: str) -> bytes:
    return b'{"revision":%d,"configuration":%b}' % (content.revision, text.encode())


def _pieces(claimed: list[Claimed], by_name: dict[str, Content]) -> Iterator[list[Claimed]]:
    """Yield names in pieces whose configurations are read at once, a sensor's names together."""
    piece: list[Claimed] = []
    size = 0
    for each in sorted(claimed, key=lambda one: _order(by_name.get(one.name))):
        content = by_name.get(each.name)
        if piece and size > MAXIMUM_BYTES_UNDER_WAY // 2:
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += content.size if content is not None else 0
    if piece:
        yield piece


def _order(content: Content | None) -> int:
    return content.number if content is not None else 0

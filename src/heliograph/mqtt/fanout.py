"""From what has been committed to those who subscribe to it.

    committed ─▶ whose networks or sensor is it? ─▶ which of their filters select it? ─▶ sessions
                        (audiences)                       (a tree for each)

Who may see comes first: the filters of those who may not are not looked at. What all of it may
take of the event loop is bounded; what is over that waits for its audience's next turn.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import field
from typing import Generic, TypeVar

import structlog

from heliograph.access.policy import EVERYBODY, Action, may
from heliograph.model.event import Committed
from heliograph.model.records import Kind
from heliograph.mqtt.codec.packets import MAXIMUM_SUBSCRIPTIONS, Subscription
from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.host import NO_SENSOR, Host, Outgoing, TopicMessage
from heliograph.mqtt.session import Backlog, Entry, Owner, Session, TotalBacklog, owner_of
from heliograph.mqtt.topics import is_shown

log = structlog.get_logger()

Subscriber = TypeVar("Subscriber", bound=Hashable)

MAXIMUM_FILTER_BYTES = 64 << 10
MAXIMUM_SUBSCRIPTIONS_OF_PRINCIPAL = 10_000
# Of messages that are due to a principal's subscribers, or to all, and had no turn yet.
MAXIMUM_BEHIND_BYTES = 8 << 20
MAXIMUM_BEHIND_BYTES_IN_ALL = 64 << 20
# A kind of which something is retained.
STATUS = Kind.STATUS
# How much of the time fanning out may take, and for how long at most in one piece.
SHARE = 1 / 3
TURN_SECONDS = 0.01
# Reading the clock of the thread's own time is a system call: only after so many deliveries.
DELIVERIES_BETWEEN_LOOKS = 64
# What a message that waits takes in memory beside its contents.
WAITING_BYTES = 400


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class _Level(Generic[Subscriber]):
    """A level of the wildcard filters: those that end here, and the levels that may follow."""

    following: "dict[str, _Level[Subscriber]]" = field(default_factory=dict)
    subscribers: dict[Subscriber, None] = field(default_factory=dict)


class SubscriptionTree(Generic[Subscriber]):
    """Finds the subscribers of a topic, in time that does not grow with their number.

    Filters without wildcards are one dictionary. While there are no others, `matches` is one
    look-up. Of a shared subscription, hand in the filter without its `$share/<group>/`.
    """

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, dict[Subscriber, None]] = {}
        # Devices have no wildcards, and there are many of them: only where there is one.
        self._root: _Level[Subscriber] | None = None

    def __bool__(self) -> bool:
        """Whether anyone is subscribed to anything."""
        return bool(self._exact) or self._root is not None

    @property
    def has_wildcards(self) -> bool:
        """Whether any filter has a wildcard."""
        return self._root is not None

    def has_exactly(self, topic_filter: str) -> bool:
        """Return whether anyone is subscribed to a filter without wildcards."""
        return topic_filter in self._exact

    def add(self, topic_filter: str, subscriber: Subscriber) -> bool:
        """Subscribe to a valid filter; return whether that is new: else nothing changes."""
        if not _has_wildcard(topic_filter):
            subscribers = self._exact.setdefault(topic_filter, {})
        else:
            if self._root is None:
                self._root = _Level()
            level = self._root
            for name in topic_filter.split("/"):
                following = level.following.get(name)
                if following is None:
                    following = level.following[name] = _Level()
                level = following
            subscribers = level.subscribers
        known = subscriber in subscribers
        subscribers[subscriber] = None
        return not known

    def remove(self, topic_filter: str, subscriber: Subscriber) -> bool:
        """Undo `add`; return whether there was one: without, nothing changes."""
        if not _has_wildcard(topic_filter):
            subscribers = self._exact.get(topic_filter)
            if subscribers is None or subscriber not in subscribers:
                return False
            del subscribers[subscriber]
            if not subscribers:
                del self._exact[topic_filter]
            return True
        path: list[tuple[_Level[Subscriber], str]] = []
        level = self._root
        for name in topic_filter.split("/"):
            if level is None:
                return False
            path.append((level, name))
            level = level.following.get(name)
        if level is None or subscriber not in level.subscribers:
            return False
        del level.subscribers[subscriber]
        for parent, name in reversed(path):
            child = parent.following[name]
            if child.subscribers or child.following:
                break
            del parent.following[name]
        if self._root is not None and not self._root.following:
            self._root = None
        return True

    def matches(self, topic: str) -> Collection[Subscriber]:
        """Return the topic's subscribers, each once for every filter of theirs that selects it."""
        exact = self._exact.get(topic)
        if self._root is None:
            return tuple(exact) if exact else ()
        found = list(exact) if exact else []
        # Iterative: a client chooses how deep its filters are.
        reached = [self._root]
        # No filter that begins with a wildcard selects such a topic [MQTT-4.7.2-1].
        hidden = topic.startswith("$")
        for name in topic.split("/"):
            after: list[_Level[Subscriber]] = []
            for level in reached:
                following = level.following
                if (one := following.get(name)) is not None:
                    after.append(one)
                if hidden:
                    continue
                if (any_one := following.get("+")) is not None:
                    after.append(any_one)
                if (rest := following.get("#")) is not None:
                    found += rest.subscribers
            hidden = False
            reached = after
            if not reached:
                return found
        for level in reached:
            found += level.subscribers
            if (rest := level.following.get("#")) is not None:
                found += rest.subscribers
        return found


def _has_wildcard(topic_filter: str) -> bool:
    return "+" in topic_filter or "#" in topic_filter


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Audience(Backlog):
    """The sessions of one principal that have ever subscribed, and what they subscribe to.

    `waiting` are messages that one of them may get, for which there was no time yet.
    """

    tree: SubscriptionTree[Entry] = field(default_factory=SubscriptionTree)
    filters: int = 0
    waiting: deque[TopicMessage] | None = None
    waiting_bytes: int = 0
    lags: bool = False

    @property
    def device(self) -> int | str | None:
        """The device that all that they see is of: its number, or a name; None: whole networks."""
        if self.principal.kind == "shared":
            return self.principal.device
        return self.principal.sensor


class Fanout:
    """Knows who subscribes to what, and sends it to them, each session once a message."""

    def __init__(self, host: Host, counts: Counts, tasks: "set[asyncio.Task[None]]") -> None:
        self._host = host
        self._counts = counts
        self._tasks = tasks
        self._audiences: dict[Owner, Audience] = {}
        self._total_backlog = TotalBacklog(self._audiences)
        self._of_device: dict[int | str, list[Audience]] = {}
        # Of devices where everybody sees some network: who subscribes to a topic as it is.
        self._of_topic: dict[str, dict[Audience, None]] = {}
        # Who may see whole networks, and the networks that everybody sees.
        self._viewers: dict[Audience, None] = {}
        self._open: set[str] = set()
        # Those who see the whole of a network, as of these rights.
        self._of_network: dict[str, list[Audience]] = {}
        self._rights = self._generation = -1
        # Subscriptions by which something may be sent now.
        self._entries = 0
        # The time that may still be taken, in seconds, as of a moment.
        self._credit = TURN_SECONDS
        self._credited_at = 0.0
        # Audiences for which something waits, in the order of their turns.
        self._behind: dict[Audience, None] = {}
        self._behind_bytes = 0
        self._catching_up: asyncio.Task[None] | None = None
        # Told of what is in no table; None: nobody asks.
        self.recent: Callable[[TopicMessage], None] | None = None

    def watched(self) -> bool:
        """Return whether there is any subscription by which something may be sent now."""
        return self._entries > 0

    # Subscriptions

    def is_full(self, session: Session, topic_filter: str) -> bool:
        """Return whether a session, or its principal, has as many subscriptions as it may have."""
        if topic_filter in session.subscriptions:
            return False
        size = session.filter_bytes + len(topic_filter.encode())
        if len(session.subscriptions) >= MAXIMUM_SUBSCRIPTIONS or size > MAXIMUM_FILTER_BYTES:
            return True
        audience = self._audiences.get(session.owner)
        return (
            audience is not None
            and audience.filters >= MAXIMUM_SUBSCRIPTIONS_OF_PRINCIPAL
            and not session.principal.is_admin
        )

    def add(
        self,
        session: Session,
        subscription: Subscription,
        qos: int,
        identifier: int | None = None,
    ) -> bool:
        """Add a subscription, or replace the one with the same filter [MQTT-3.8.4-3].

        Returns whether it is a new one.
        """
        known = self.discard(session, subscription.filter)
        audience = self._join(session)
        entry = Entry(session, subscription.filter, qos, subscription.no_local, identifier)
        session.subscriptions[entry.filter] = entry
        session.filter_bytes += len(entry.filter.encode())
        audience.filters += 1
        if qos or session.connection is not None:
            self._enter(audience, entry)
        return not known

    def discard(self, session: Session, topic_filter: str) -> bool:
        """Remove a subscription; return whether there was one."""
        entry = session.subscriptions.pop(topic_filter, None)
        audience = self._audiences.get(session.owner)
        if entry is None or audience is None:
            return False
        session.filter_bytes -= len(topic_filter.encode())
        audience.filters -= 1
        self._leave(audience, entry)
        return True

    def remove(self, session: Session) -> None:
        """Remove all subscriptions of a session, which has ended."""
        for topic_filter in list(session.subscriptions):
            self.discard(session, topic_filter)
        audience = self._audiences.get(session.owner)
        if audience is None or session not in audience.sessions:
            return
        session.backlog = None
        self._total_backlog.waited.discard(session)
        audience.sessions.discard(session)
        audience.count(-session.queued_bytes - session.unacknowledged_bytes)
        if not audience.sessions:
            self._forget(audience)

    def attach(self, session: Session) -> None:
        """Take a session's subscriptions at QoS 0 in again: it has a connection."""
        for entry in session.subscriptions.values():
            if not entry.qos:
                self._enter(self._audiences[session.owner], entry)

    def detach(self, session: Session) -> None:
        """Leave a session's subscriptions at QoS 0 out: without a connection it gets nothing."""
        for entry in session.subscriptions.values():
            if not entry.qos:
                self._leave(self._audiences[session.owner], entry)

    @contextlib.contextmanager
    def taken_in_anew(self) -> Iterator[None]:
        """Leave all subscriptions out for as long as it takes to change the host's topic."""
        entered = [
            (audience, entry)
            for audience in self._audiences.values()
            for session in audience.sessions
            for entry in session.subscriptions.values()
            if entry.qos or session.connection is not None
        ]
        for audience, entry in entered:
            self._leave(audience, entry)
        try:
            yield
        finally:
            for audience, entry in entered:
                self._enter(audience, entry)

    def _enter(self, audience: Audience, entry: Entry) -> None:
        if not (is_shown(entry.filter) or match(entry.filter, self._host.publish_topic)):
            return
        # By the server's own topic alone nothing of what is committed is shown.
        if not audience.tree.add(entry.filter, entry) or entry.filter == self._host.publish_topic:
            return
        self._entries += 1
        self._host.watch()
        if audience.device is None or not self._host.grants.everybody:
            return
        # Where everybody sees a network, a device may be shown others' messages.
        if not audience.tree.has_wildcards:
            self._of_topic.setdefault(entry.filter, {})[audience] = None
        elif audience not in self._viewers:
            self._viewers[audience] = None
            self._forget_networks()

    def _leave(self, audience: Audience, entry: Entry) -> None:
        if (
            not audience.tree.remove(entry.filter, entry)
            or entry.filter == self._host.publish_topic
        ):
            return
        self._entries -= 1
        subscribed = self._of_topic.get(entry.filter)
        if subscribed is not None and not audience.tree.has_exactly(entry.filter):
            subscribed.pop(audience, None)
            if not subscribed:
                del self._of_topic[entry.filter]

    def _join(self, session: Session) -> Audience:
        audience = self._audiences.get(session.owner)
        if audience is None:
            audience = self._audiences[session.owner] = Audience(
                session.principal, self._total_backlog
            )
            if audience.device is not None:
                self._of_device.setdefault(audience.device, []).append(audience)
            else:
                self._viewers[audience] = None
                self._forget_networks()
        audience.sessions.add(session)
        session.backlog = audience
        return audience

    def _forget(self, audience: Audience) -> None:
        del self._audiences[owner_of(audience.principal)]
        if audience.device is not None:
            others = self._of_device[audience.device]
            others.remove(audience)
            if not others:
                del self._of_device[audience.device]
        if audience in self._viewers:
            del self._viewers[audience]
            self._forget_networks()
        self._behind.pop(audience, None)
        self._behind_bytes -= audience.waiting_bytes
        audience.waiting, audience.waiting_bytes = None, 0

    @property
    def is_behind(self) -> bool:
        """Whether there are messages that had no turn yet."""
        return bool(self._behind)

    def behind(self) -> set[object]:
        """Return who has to take something before there is room for as much again."""
        return {*self._total_backlog.behind(), *self._behind}

    def settle(self, session: Session) -> None:
        """Send at once what waits for the turn of a session and those beside it."""
        audience = self._audiences.get(session.owner)
        while audience is not None and audience.waiting:
            self._deliver_first(audience)

    def deliver_to(self, sessions: Sequence[Session], messages: Sequence[TopicMessage]) -> None:
        """Send messages of before to these sessions alone, where they may see them."""
        if not messages:
            return
        apart: dict[Owner, Audience] = {}
        for session in sessions:
            audience = apart.get(session.owner)
            if audience is None:
                audience = apart[session.owner] = Audience(session.principal, TotalBacklog({}))
            for entry in session.subscriptions.values():
                audience.tree.add(entry.filter, entry)
        for message in messages:
            place = message.sensor, message.network_identifier
            for audience in apart.values():
                if self._host.may_see(audience.principal, *place):
                    self._deliver(audience, message)

    # Messages

    def show(self, events: Sequence[Committed]) -> None:
        """Send each event to each session that subscribes to one of its topics, in its turn."""
        began = self._begin()
        until, deliveries = began + self._credit, 0
        is_over = self._credit <= 0
        message_of, of_network, of_device = self._host.message_of, self._of_network, self._of_device
        for event in events:
            audiences = of_network.get(event.network_identifier)
            if audiences is None:
                audiences = self._learn(event.network_identifier)
            if of_device:
                if event.network_identifier in self._open:
                    audiences = audiences + self._subscribed(message_of(event))
                elif (
                    event.number in of_device
                    or event.device_id in of_device
                    or event.identifier in of_device
                ):
                    names = (event.device_id, event.identifier)
                    own = self._own(event.number, event.network_identifier, names)
                    audiences = own + audiences
            message = message_of(event) if audiences else None
            if message is None:
                continue
            if event.kind is STATUS:
                for audience in audiences:
                    self._supersede(audience, message)
            for audience in audiences:
                if deliveries >= DELIVERIES_BETWEEN_LOOKS:
                    is_over, deliveries = is_over or time.thread_time() > until, 0
                if is_over or audience.waiting:
                    self._put_off(audience, message)
                else:
                    deliveries += self._deliver(audience, message)
        self._credit -= time.thread_time() - began

    async def configure(self, configuration: TopicMessage) -> None:
        """Send what is retained from now on to those who subscribe to it, and nothing older.

        At once, since whoever subscribes later is sent what is retained then: nobody may get
        the older one of two after the newer one.
        """
        began = self._begin()
        if self.recent is not None:
            self.recent(configuration)
        names = [topic.partition("/")[2] for topic in configuration.topics]
        sensor, network = configuration.sensor, configuration.network_identifier
        audiences = self._of_network.get(network)
        if audiences is None:
            audiences = self._learn(network)
        is_open = network in self._open
        own = self._subscribed(configuration) if is_open else self._own(sensor, network, names)
        for audience in own + audiences:
            # It was read some time ago, and the sensor may have gone to another network.
            if self._host.may_see(audience.principal, sensor, network):
                self._supersede(audience, configuration)
                self._deliver(audience, configuration)
        self._credit -= time.thread_time() - began
        await self._wait_for_credit(0)

    def announce(self, message: TopicMessage) -> None:
        """Send what the server publishes to those who subscribe to it and may have it."""
        began = self._begin()
        if self.recent is not None:
            self.recent(message)
        for audience in list(self._audiences.values()):
            if not audience.tree.matches(message.topics[0]):
                continue
            if not self._host.may_see(audience.principal, NO_SENSOR, message.network_identifier):
                continue
            if audience.waiting or time.thread_time() - began > self._credit:
                self._put_off(audience, message)
            else:
                self._deliver(audience, message)
        self._credit -= time.thread_time() - began

    def _supersede(self, audience: Audience, message: TopicMessage) -> None:
        """Let nobody be sent any more what was retained until now."""
        for topic in message.topics:
            for session, *_ in audience.tree.matches(topic):
                connection = session.connection
                if connection is not None and connection.retained is not None:
                    connection.retained.supersede(message.topics)

    def _learn(self, network_identifier: str) -> list[Audience]:
        """Return who sees the whole of this network, and know it from now on."""
        grants = self._host.grants
        audiences = [
            audience
            for audience in self._viewers
            if may(audience.principal, Action.VIEW, network_identifier, grants)
        ]
        if may(EVERYBODY, Action.VIEW, network_identifier, grants):
            self._open.add(network_identifier)
        self._of_network[network_identifier] = audiences
        return audiences

    def _forget_networks(self) -> None:
        self._of_network.clear()
        self._open.clear()

    def _own(
        self, sensor: int, network_identifier: str, names: Sequence[str | None]
    ) -> list[Audience]:
        """Return the sensor's own sessions, and those that speak for it."""
        may_see, viewers = self._host.may_see, self._viewers
        found = self._of_network[network_identifier]
        return [
            audience
            for device in (sensor, *names)
            if device is not None
            for audience in self._of_device.get(device, ())
            if may_see(audience.principal, sensor, network_identifier)
            and not (audience in viewers and audience in found)
        ]

    def _subscribed(self, message: TopicMessage | None) -> list[Audience]:
        """Return the devices that subscribe to what everybody may see, by the topic itself."""
        topics = () if message is None else message.topics
        found = dict.fromkeys(
            audience for topic in topics for audience in self._of_topic.get(topic, ())
        )
        return [audience for audience in found if audience not in self._viewers]

    def _deliver(self, audience: Audience, message: TopicMessage) -> int:
        """Send a message to the sessions that subscribe to it; return how many looks it took."""
        matches, event = audience.tree.matches, message.event
        chosen: dict[Session, tuple[int, str]] = {}
        # By filter: one may select a message under each of its topics.
        identified: dict[Session, dict[str, int]] = {}
        count = 1
        for topic in message.topics:
            for session, topic_filter, qos, no_local, identifier in matches(topic):
                count += 1
                if (
                    no_local
                    and event is not None
                    and getattr(event.origin, "session", None) is session
                ):
                    continue  # [MQTT-3.8.3-3]
                known = chosen.get(session)
                if known is None or known[0] < qos:
                    chosen[session] = (qos, known[1] if known else topic)
                if identifier is not None:
                    identified.setdefault(session, {})[topic_filter] = identifier
        if not chosen:
            return count
        payload = message.payload
        if payload is None:
            # Others get the same.
            payload = message.payload = b"" if event is None else self._host.payload_of(event)
        outgoing: Outgoing | None = None
        published = 1 if event is None else event.qos
        for session, (granted, topic) in chosen.items():
            qos = min(published, granted)  # [MQTT-3.8.4-8]
            identifiers = tuple(identified[session].values()) if session in identified else ()
            if (
                outgoing is None
                or outgoing.qos != qos
                or outgoing.topic != topic
                or outgoing.identifiers != identifiers
            ):
                outgoing = Outgoing(
                    topic, payload, qos, message.sensor, message.network_identifier, identifiers
                )
            connection = session.connection
            if connection is not None and connection.checked != self._generation:
                connection.recheck()
            session.deliver(outgoing)
        return count

    # Turns

    def _begin(self) -> float:
        """Add up the time that may be taken; return the thread's own time now, in seconds."""
        rights = self._host.rights
        if self._rights != rights:
            self._rights, self._generation = rights, self._host.generation
            self._forget_networks()
        moment = time.perf_counter()
        earned = (moment - self._credited_at) * SHARE
        self._credit, self._credited_at = min(self._credit + earned, TURN_SECONDS), moment
        # That of the thread: while another process has the processor, nobody here is kept waiting.
        return time.thread_time()

    def _put_off(self, audience: Audience, message: TopicMessage) -> None:
        """Keep a message for the audience's next turn; for lack of room drop its oldest."""
        if audience.waiting is None:
            audience.waiting = deque()
        self._behind[audience] = None
        audience.waiting.append(message)
        self._count_waiting(audience, _size(message))
        while audience.waiting and (
            audience.waiting_bytes > MAXIMUM_BEHIND_BYTES
            or self._behind_bytes > MAXIMUM_BEHIND_BYTES_IN_ALL
        ):
            oldest = audience.waiting.popleft()
            self._count_waiting(audience, -_size(oldest))
            self._counts.dropped += 1
            if not audience.lags:
                audience.lags = True
                log.warning(
                    "subscribers overloaded: messages not delivered",
                    name=audience.principal.name,
                    sessions=len(audience.sessions),
                )
        if self._catching_up is None:
            self._catching_up = task = asyncio.create_task(self._catch_up(), name="mqtt fan-out")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _count_waiting(self, audience: Audience, size: int) -> None:
        audience.waiting_bytes += size
        self._behind_bytes += size

    async def _catch_up(self) -> None:
        """Send what waits: of each audience one message in turn, as far as the time reaches."""
        try:
            while self._behind:
                await self._wait_for_credit(TURN_SECONDS / 2)
                began = self._begin()
                until, deliveries = began + self._credit, 0
                while self._behind:
                    deliveries += self._deliver_next()
                    if deliveries >= DELIVERIES_BETWEEN_LOOKS:
                        if time.thread_time() >= until:
                            break
                        deliveries = 0
                self._credit -= time.thread_time() - began
        finally:
            self._catching_up = None

    async def _wait_for_credit(self, wanted: float) -> None:
        """Let others go on until so many seconds may be taken."""
        self._begin()
        while self._credit < wanted:
            await asyncio.sleep((wanted - self._credit) / SHARE)
            self._begin()

    def _deliver_next(self) -> int:
        """Send the first of what waits for the audience whose turn it is."""
        audience = next(iter(self._behind))
        del self._behind[audience]
        return self._deliver_first(audience)

    def _deliver_first(self, audience: Audience) -> int:
        """Send the first of what waits for an audience."""
        waiting = audience.waiting
        if not waiting:
            return 1
        message = waiting.popleft()
        self._count_waiting(audience, -_size(message))
        if waiting:
            self._behind[audience] = None
        else:
            audience.waiting, audience.lags = None, False
        # The right to see it may have ended meanwhile.
        if self._host.may_see(audience.principal, message.sensor, message.network_identifier):
            return self._deliver(audience, message)
        self._counts.withheld += 1
        return 1


def _size(message: TopicMessage) -> int:
    """Return about what a message that waits holds in memory, in bytes: always the same."""
    event = message.event
    if event is None or event.payload is not None:
        return WAITING_BYTES + len(message.payload or b"")
    texts = (column for row in event.rows for column in row if column.__class__ is str)
    return WAITING_BYTES + sum(map(len, texts))

"""From what has been committed to those who subscribe to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from heliograph.mqtt import packets
from heliograph.mqtt.limits import MAXIMUM_SUBSCRIPTIONS
from heliograph.mqtt.session import Outgoing, Session
from heliograph.mqtt.subscriptions import SubscriptionTree

if TYPE_CHECKING:
    from heliograph.mqtt.host import Host


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A message to show: under each of its topics, the preferred one first."""

    topics: tuple[str, ...]
    payload: bytes
    sensor: int
    network_identifier: str
    origin: object | None


class Entry(NamedTuple):
    """A subscription of a session."""

    session: Session
    filter: str
    qos: int
    no_local: bool


class Fanout:
    """Knows who subscribes to what, and sends it to them, each once a message."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._tree: SubscriptionTree[Entry] = SubscriptionTree()

    @property
    def has_subscribers(self) -> bool:
        """Whether there is any subscription."""
        return bool(self._tree)

    def is_full(self, session: Session, topic_filter: str) -> bool:
        """Tell whether a session has as many subscriptions as it may have."""
        return (
            len(session.subscriptions) >= MAXIMUM_SUBSCRIPTIONS
            and topic_filter not in session.subscriptions
        )

    def add(self, session: Session, subscription: packets.Subscription, qos: int) -> bool:
        """Add a subscription, or replace the one with the same filter [MQTT-3.8.4-3].

        Returns whether it is a new one.
        """
        known = self.discard(session, subscription.filter)
        entry = Entry(session, subscription.filter, qos, subscription.no_local)
        session.subscriptions[entry.filter] = entry
        self._tree.add(entry.filter, entry)
        return not known

    def discard(self, session: Session, topic_filter: str) -> bool:
        """Remove a subscription; tell whether there was one."""
        entry = session.subscriptions.pop(topic_filter, None)
        if entry is not None:
            self._tree.remove(topic_filter, entry)
        return entry is not None

    def remove(self, session: Session) -> None:
        """Remove all subscriptions of a session."""
        for topic_filter in list(session.subscriptions):
            self.discard(session, topic_filter)

    def supersede(self, topics: Sequence[str]) -> None:
        """Let nobody be sent any more what was retained under these topics until now."""
        for topic in topics:
            for session, *_ in self._tree.matches(topic):
                connection = session.connection
                if connection is not None and connection.retained is not None:
                    connection.retained.supersede(topics)

    def show(self, events: Sequence[Seen]) -> None:
        """Send each event to each session that subscribes to one of its topics."""
        may_see = self._host.may_see
        for event in events:
            sent: dict[Session, tuple[int, str]] = {}
            for topic in event.topics:
                for session, _, qos, no_local in self._tree.matches(topic):
                    if no_local and getattr(event.origin, "session", None) is session:
                        continue  # [MQTT-3.8.3-3]
                    known = sent.get(session)
                    if known is None or known[0] < qos:
                        sent[session] = (qos, known[1] if known else topic)
            for session, (qos, topic) in sent.items():
                if may_see(session.principal, event.sensor, event.network_identifier):
                    session.deliver(Outgoing(topic, event.payload, qos))

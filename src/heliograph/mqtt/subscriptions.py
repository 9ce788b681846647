"""Who is subscribed to what, for fanning a message out."""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

Subscriber = TypeVar("Subscriber", bound=Hashable)


class _Level(Generic[Subscriber]):
    """A level of the wildcard filters: those that end here, and the levels that may follow."""

    __slots__ = ("following", "subscribers")

    def __init__(self) -> None:
        self.following: dict[str, _Level[Subscriber]] = {}
        self.subscribers: dict[Subscriber, None] = {}


class SubscriptionTree(Generic[Subscriber]):
    """Finds the subscribers of a topic, in time that does not grow with their number.

    Filters without wildcards are one dictionary. While there are no others, `matches` is one
    look-up. Of a shared subscription, hand in the filter without its `$share/<group>/`.
    """

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, dict[Subscriber, None]] = {}
        self._root: _Level[Subscriber] = _Level()

    def __bool__(self) -> bool:
        """Whether anyone is subscribed to anything."""
        return bool(self._exact or self._root.following)

    def add(self, topic_filter: str, subscriber: Subscriber) -> None:
        """Subscribe to a valid filter; a second time changes nothing."""
        if not _has_wildcard(topic_filter):
            self._exact.setdefault(topic_filter, {})[subscriber] = None
            return
        level = self._root
        for name in topic_filter.split("/"):
            level = level.following.setdefault(name, _Level())
        level.subscribers[subscriber] = None

    def remove(self, topic_filter: str, subscriber: Subscriber) -> None:
        """Undo `add`; without one, change nothing."""
        if not _has_wildcard(topic_filter):
            subscribers = self._exact.get(topic_filter, {})
            subscribers.pop(subscriber, None)
            if not subscribers:
                self._exact.pop(topic_filter, None)
            return
        path: list[tuple[_Level[Subscriber], str]] = []
        level: _Level[Subscriber] | None = self._root
        for name in topic_filter.split("/"):
            if level is None:
                return
            path.append((level, name))
            level = level.following.get(name)
        if level is None:
            return
        level.subscribers.pop(subscriber, None)
        for parent, name in reversed(path):
            child = parent.following[name]
            if child.subscribers or child.following:
                break
            del parent.following[name]

    def matches(self, topic: str) -> Collection[Subscriber]:
        """Return the topic's subscribers, each once for every filter of his that selects it."""
        exact = self._exact.get(topic)
        if not self._root.following:
            return tuple(exact) if exact else ()
        found = list(exact) if exact else []
        # Iterative: a client chooses how deep its filters are.
        reached = [self._root]
        # No filter that begins with a wildcard selects such a topic [MQTT-4.7.2-1].
        hidden = topic.startswith("$")
        for name in topic.split("/"):
            choices = (name,) if hidden else (name, "+")
            after: list[_Level[Subscriber]] = []
            for level in reached:
                if not hidden:
                    _collect_rest(level, found)
                after.extend(
                    level.following[choice] for choice in choices if choice in level.following
                )
            hidden = False
            reached = after
            if not reached:
                break
        for level in reached:
            found.extend(level.subscribers)
            _collect_rest(level, found)
        return found


def _collect_rest(level: _Level[Subscriber], found: list[Subscriber]) -> None:
    rest = level.following.get("#")
    if rest is not None:
        found.extend(rest.subscribers)


def _has_wildcard(topic_filter: str) -> bool:
    return "+" in topic_filter or "#" in topic_filter

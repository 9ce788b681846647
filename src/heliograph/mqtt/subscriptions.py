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
        """Tell whether anyone is subscribed to a filter without wildcards."""
        return topic_filter in self._exact

    def add(self, topic_filter: str, subscriber: Subscriber) -> bool:
        """Subscribe to a valid filter; tell whether that is new: a second time changes nothing."""
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
        """Undo `add`; tell whether there was one: without, nothing changes."""
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
        """Return the topic's subscribers, each once for every filter of his that selects it."""
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

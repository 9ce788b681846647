"""Tells everybody who watches what has just been committed."""

from collections.abc import Callable, Sequence

from heliograph.model.event import Committed


class Hub:
    """Hands committed events to its sinks, in the order of the commits.

    A sink must not block and must not raise: it queues, in a bound of its own.
    """

    def __init__(self) -> None:
        self._sinks: list[tuple[Callable[[], bool], Callable[[Sequence[Committed]], None]]] = []
        # What tells other servers, and whether there are any.
        self._elsewhere: list[Callable[[Sequence[Committed]], None]] = []
        self._are_others: Callable[[], bool] = lambda: False

    def add(self, wanted: Callable[[], bool], sink: Callable[[Sequence[Committed]], None]) -> None:
        """Add a sink; while `wanted` answers False no event is made for it."""
        self._sinks.append((wanted, sink))

    @property
    def wanted(self) -> bool:
        """Whether anybody watches now; without, the ingest path makes no events."""
        return any(wanted() for wanted, _ in self._sinks)

    def publish(self, events: Sequence[Committed]) -> None:
        """Tell the sinks that watch."""
        for wanted, sink in self._sinks:
            if wanted():
                sink(events)

    def tell_elsewhere(
        self, are_any: Callable[[], bool], tell: Callable[[Sequence[Committed]], None]
    ) -> None:
        """Have other servers told of changes, while there are any."""
        self._are_others = are_any
        self._elsewhere.append(tell)

    @property
    def wanted_anywhere(self) -> bool:
        """Whether anybody watches here, or might elsewhere."""
        return self.wanted or self._are_others()

    def publish_changes(self, events: Sequence[Committed]) -> None:
        """Tell those who watch here, and other servers, of what they can't read from the tables."""
        self.publish(events)
        if self._are_others():
            for tell in self._elsewhere:
                tell(events)

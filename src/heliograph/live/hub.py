"""Tells everybody who watches what has just been committed."""

from collections.abc import Callable, Sequence

from heliograph.model.event import Committed


class Hub:
    """Hands committed events to its sinks, in the order of the commits.

    A sink must not block and must not raise: it queues, in a bound of its own.
    """

    def __init__(self) -> None:
        self._sinks: list[tuple[Callable[[], bool], Callable[[Sequence[Committed]], None]]] = []

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

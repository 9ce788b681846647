"""How many rejected messages are kept, so that a mad device can't fill the disk."""

from heliograph.model.time import HOUR

MAXIMUM_SOURCES = 10_000


class RejectionBudget:
    """Admits rejected messages for storage: so many an hour of each source, so many bytes in all.

    What is not admitted is still counted and acknowledged; only its bytes are not kept.
    """

    def __init__(self, *, per_source_per_hour: int, maximum_bytes: int) -> None:
        self.kept_bytes = 0
        self._per_source = per_source_per_hour
        self._maximum_bytes = maximum_bytes
        self._sources: dict[str, int] = {}
        self._hour = 0

    def admit(self, source: str, size: int, now: int) -> bool:
        """Tell whether a message of `size` bytes may be kept, and count it if so."""
        hour = now // HOUR
        if hour != self._hour:
            self._hour = hour
            self._sources.clear()
        count = self._sources.get(source, 0)
        if count >= self._per_source or self.kept_bytes + size > self._maximum_bytes:
            return False
        if not count and len(self._sources) >= MAXIMUM_SOURCES:
            return False
        self._sources[source] = count + 1
        self.kept_bytes += size
        return True

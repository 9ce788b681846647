"""How many lines the log gets of what may happen thousands of times a second."""

from time import monotonic
from typing import Final

AT_ONCE: Final = 50
PER_SECOND: Final = 5


class LineRate:
    """Bounds the lines of one kind: AT_ONCE, then PER_SECOND; the next one tells of those left out.

    Those that matter have a rate of their own, so that others do not take their room.
    """

    def __init__(self) -> None:
        self._room = float(AT_ONCE)
        self._at = monotonic()
        self._left_out = 0

    def due(self) -> dict[str, int] | None:
        """Return what a line has to say of others before it; None: it is left out itself."""
        moment = monotonic()
        self._room = min(AT_ONCE, self._room + (moment - self._at) * PER_SECOND)
        self._at = moment
        if self._room < 1:
            self._left_out += 1
            return None
        self._room -= 1
        left_out, self._left_out = self._left_out, 0
        return {"not_logged_before": left_out} if left_out else {}

"""Lines that a log has of each of many: once an hour, and no more than it bears.

Strangers and devices decide how many there are, so that neither lines nor memory grow with them.
"""

from heliograph.model.time import HOUR

# An hour: of all, and of one, so that room is left for others.
LINES = 100
LINES_OF_ONE = 30


class Lines:
    """How many lines an hour there are, of all and of one."""

    def __init__(self) -> None:
        self._hour = 0
        self._of: dict[str, int] = {}
        self._left = LINES

    def begin(self, now: int) -> bool:
        """Go on to the hour of this moment (microseconds); return whether it is another one."""
        hour = now // HOUR
        if hour == self._hour:
            return False
        self._hour, self._left = hour, LINES
        self._of.clear()
        return True

    def take(self, one: str) -> bool:
        """Take a line about one of them; False: there is none left in this hour."""
        taken = self._of.get(one, 0)
        if not self._left or taken >= LINES_OF_ONE:
            return False
        self._left -= 1
        self._of[one] = taken + 1
        return True


class Hourly:
    """Limits log lines to one an hour for each thing, and remembers those logged for two hours."""

    def __init__(self) -> None:
        self._lines = Lines()
        # How often each has come since its line, in this hour and in the one before.
        self._repeats: dict[tuple[str, str], int] = {}
        self._earlier: dict[tuple[str, str], int] = {}
        self._left_out = False
        self._reported = False

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._repeats) + len(self._earlier)

    def due(self, thing: tuple[str, str], one: str, now: int) -> int | None:
        """Return how often it has come since its last line; None if it is not to be logged now.

        `one` is whose lines are counted, `now` in microseconds.
        """
        if self._lines.begin(now):
            self._earlier, self._repeats = self._repeats, {}
            self._left_out = self._reported = False
        if thing in self._repeats:
            self._repeats[thing] += 1
            return None
        if not self._lines.take(one):
            self._left_out = True
            return None
        self._repeats[thing] = 0
        return self._earlier.get(thing, 0)

    def has_left_out(self) -> bool:
        """Return, true once an hour, whether there was something that no line was left for."""
        if not self._left_out or self._reported:
            return False
        self._reported = True
        return True

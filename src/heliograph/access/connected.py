"""Which sensors are connected to the listener now, and what of that is yet to be stored."""

import asyncio

from heliograph.model.records import ConnectionRow


class Connected:
    """Counts each sensor's own connections. Pure memory: nothing here waits.

    A sensor is connected from its first connection to the end of its last. One that is gone and
    back again before that is stored was never gone; an end is always stored, however short the
    connection, since it ends what was said on it. A moment is microseconds.
    """

    def __init__(self, *, alone: bool = True) -> None:
        """Begin with none; `alone`: no other process has connections of the same sensors."""
        self.alone = alone
        # Set whenever there is something to store.
        self.changed = asyncio.Event()
        self._counts: dict[int, int] = {}
        # Since when sensors are connected: those that are, or were at the last write to the store.
        self._since: dict[int, int] = {}
        # Of those that are no more, until that is stored.
        self._ended: dict[int, int] = {}
        # Those that are stored as connected, or are just about to be.
        self._stored: set[int] = set()
        # Sensors whose change is to be stored.
        self._due: dict[int, None] = {}

    def enter(self, number: int, moment: int) -> None:
        """Count a connection of the sensor."""
        count = self._counts.get(number, 0)
        self._counts[number] = count + 1
        if not count:
            self._since.setdefault(number, moment)
            self._ended.pop(number, None)
            if number in self._stored:
                self._due.pop(number, None)
            else:
                self._note(number)

    def leave(self, number: int, moment: int) -> None:
        """Count a connection of the sensor less."""
        count = self._counts.get(number, 0) - 1
        if count > 0:
            self._counts[number] = count
        elif self._counts.pop(number, None) is not None:
            self._ended[number] = moment
            self._note(number)

    def hand_over(self, number: int) -> None:
        """Count a connection less that goes on at another server: that one notes it."""
        count = self._counts.get(number, 0) - 1
        if count > 0:
            self._counts[number] = count
        elif self._counts.pop(number, None) is not None:
            self._since.pop(number, None)
            self._due.pop(number, None)
            self._stored.discard(number)

    def forget(self) -> None:
        """Know of nobody, and have nothing to store."""
        for known in (self._counts, self._since, self._ended, self._due):
            known.clear()
        self._stored.clear()

    def leave_all(self, moment: int) -> None:
        """Count no connection any more."""
        for number in list(self._counts):
            self._counts[number] = 1
            self.leave(number, moment)

    def find(self, number: int) -> tuple[bool, int | None] | None:
        """Return whether the sensor is connected and since when; None: the store knows.

        Without a time the store knows only that.
        """
        if number in self._counts:
            return True, self._since[number]
        if number in self._ended:
            return False, self._ended[number]
        return (False, None) if self.alone else None

    def standing(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Return who is connected, and who is no more since when: what the store may not know."""
        return list(self._counts), list(self._ended.items())

    @property
    def is_due(self) -> bool:
        """Whether there is something to store."""
        return bool(self._due)

    def take(self, limit: int) -> list[ConnectionRow]:
        """Return what is to be stored next; it counts as stored, so that it has to be."""
        rows: list[ConnectionRow] = []
        for number in list(self._due)[:limit]:
            del self._due[number]
            if number in self._counts:
                rows.append((number, True, self._since[number]))
                self._stored.add(number)
            else:
                rows.append((number, False, self._ended[number]))
                self._stored.discard(number)
                del self._since[number]
        return rows

    def settled(self, rows: list[ConnectionRow]) -> None:
        """Forget what the store knows by now."""
        for number, live, moment in rows:
            if not live and self._ended.get(number) == moment:
                del self._ended[number]

    def forget_beyond(self, moment: int) -> None:
        """Have nothing begun or ended after this moment."""
        for times in (self._since, self._ended):
            for number, at in times.items():
                times[number] = min(at, moment)

    def all(self) -> list[ConnectionRow]:
        """Return every sensor that is connected."""
        return [
            (number, True, since) for number, since in self._since.items() if number in self._counts
        ]

    def _note(self, number: int) -> None:
        self._due[number] = None
        self.changed.set()

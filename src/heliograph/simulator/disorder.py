"""Messages that come late and messages that come twice, as over bad links.

It knows nothing of the fleet, and is tested without one: so it is a file of its own.
"""

import heapq
import random
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

# By up to so many turns of all sensors a message is late.
MOST_TURNS = 20


class Sending(NamedTuple, Generic[T]):
    """A message whose turn it is, and whether it is late, or was sent before."""

    message: T
    is_late: bool = False
    is_repeat: bool = False


class Disorder(Generic[T]):
    """Holds some messages back for one to twenty turns, and gives some out again after as long."""

    def __init__(self, *, late: float, repeated: float, turn: int, seed: int) -> None:
        """Take the shares of messages, and how many messages make a turn."""
        self._late = late
        self._repeated = repeated
        self._turn = turn
        self._random = random.Random(f"{seed}/disorder")  # noqa: S311 - not for keys
        self._count = self._number = 0
        # By when they are due; the number keeps those of one moment in order.
        self._held: list[tuple[int, int, Sending[T]]] = []

    def take(self, message: T) -> Iterator[Sending[T]]:
        """Yield what is to be sent now that this message has been made."""
        self._count += 1
        if self._random.random() < self._late:
            self._hold(Sending(message, is_late=True))
        else:
            yield Sending(message)
        if self._random.random() < self._repeated:
            # A repeat of a late one comes after it: whichever is first is the message.
            self._hold(Sending(message, is_repeat=True), after=MOST_TURNS)
        while self._held and self._held[0][0] <= self._count:
            yield heapq.heappop(self._held)[2]

    def rest(self) -> Iterator[Sending[T]]:
        """Yield what is still held."""
        while self._held:
            yield heapq.heappop(self._held)[2]

    def _hold(self, sending: Sending[T], after: int = 0) -> None:
        turns = after + self._random.randint(1, MOST_TURNS)
        self._number += 1
        heapq.heappush(self._held, (self._count + turns * self._turn, self._number, sending))

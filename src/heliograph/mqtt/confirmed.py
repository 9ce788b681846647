"""Which of our acknowledgments a broker certainly has."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.mqtt.host import Taken

Delivery = tuple[bytes, int]
MOST_WAITING = 100_000


class Confirmed:
    """Tells when a delivery can't come again: its PUBACK went out before a ping that was answered.

    Until then the ledger has to know it. Longer it must not: packet ids are used again, and a
    new message in the words of an old one would be taken for that.
    """

    def __init__(self) -> None:
        self._acknowledged: list[Delivery] = []
        self._asked: deque[list[Delivery]] = deque()

    @property
    def is_due(self) -> bool:
        """Whether a ping would tell something."""
        return bool(self._acknowledged)

    def acknowledge(self, message: "Taken") -> None:
        """Note that a message is acknowledged, if the ledger has it."""
        if message.delivery is None:
            return
        if len(self._acknowledged) >= MOST_WAITING:
            self._acknowledged.clear()  # they expire by themselves, only later
        if message.dropped is None:
            self._acknowledged.append((message.delivery, message.first_id))
        elif message.duplicates:
            first = next(iter(message.duplicates.values()))
            self._acknowledged.append((message.delivery, first))

    def pinged(self) -> None:
        """Note that the broker is asked for an answer after all that was acknowledged."""
        self._asked.append(self._acknowledged)
        self._acknowledged = []

    def answered(self) -> list[Delivery]:
        """Return the deliveries that are over with this answer."""
        return self._asked.popleft() if self._asked else []

"""One message on its way from its source to the commit."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from heliograph.access.registry import KnownSensor
from heliograph.ingest.outcome import Fault
from heliograph.model.records import AttributeRow, Kind, RejectedRow, StatusRow


class Origin(Protocol):
    """Where messages come from, and who is told when they are safe."""

    def settled(self, messages: "list[Message]") -> None:
        """Take the messages back after their commit, in the order in which they came.

        Called on the event loop; must neither block nor raise.
        """
        ...


class Message:
    """A decoded message in the pipeline: what is stored of it, and who waits for that.

    At 100,000 a second nothing is cheap. What most messages do not have is a default of the
    class; and plain messages of one origin that follow one another become one (`merged`), of
    which `tokens`, the origin's own, tells them apart.
    """

    future: asyncio.Future[None] | None = None
    payload: bytes | None = None
    faults: tuple[Fault, ...] | list[Fault] = ()
    # Of rows that were dropped as repeats: their ids, and those of the rows stored before.
    duplicates: dict[int, int] | None = None
    # The ids of heartbeats that name a revision which does not exist.
    flagged: Collection[int] = ()
    rejected: RejectedRow | None = None
    status: StatusRow | None = None
    attributes: list[AttributeRow] | None = None
    # Per row, its sensor, where one message speaks of several.
    parts: list[KnownSensor] | None = None
    # Position in rows and ledger key of elements that carry an id of their own.
    identities: list[tuple[int, bytes]] | None = None
    # The message's key in the ledger of deliveries. With `redelivered` it is looked up first;
    # a message that is found there is dropped, and `dropped` is the answer that was kept.
    delivery: bytes | None = None
    delivery_expiry: int | None = None
    redelivered = False
    dropped: str | None = None
    # What the ledger keeps to answer a repeat with, by the rows that were repeats themselves.
    answer: Callable[[Mapping[int, int]], str] | None = None
    # There is more to store than rows.
    extras = False
    # Some rows have the time of receipt for their own.
    untimed = False
    merged = False

    def __init__(
        self,
        origin: Origin,
        tokens: list[int],
        kind: Kind,
        sensor: KnownSensor | None,
        rows: list[tuple[Any, ...]],
        size: int,
    ) -> None:
        self.origin = origin
        self.tokens = tokens
        self.kind = kind
        self.sensor = sensor
        self.rows = rows
        self.size = size

    @property
    def is_over(self) -> bool:
        """Whether its sensor was found before the database was put back to another state."""
        if self.sensor is not None:
            return self.sensor.reading.is_over
        return self.parts is not None and any(part.reading.is_over for part in self.parts)

    @property
    def first_id(self) -> int:
        """The id that the ledger keeps for this message."""
        if self.rows:
            return int(self.rows[0][0])
        return self.rejected[0] if self.rejected is not None else 0

"""One message on its way from its source to the commit."""

from typing import Any, Protocol

from heliograph.ingest.outcome import Fault
from heliograph.ingest.registry import KnownSensor
from heliograph.model.records import AttributeRow, Kind, RejectedRow


class Origin(Protocol):
    """Where messages come from, and who is told when they are safe."""

    def settled(self, messages: "list[Message]") -> None:
        """Take the messages back after their commit, in the order in which they came.

        Called on the event loop; must neither block nor raise.
        """
        ...


class Message:
    """A decoded message in the pipeline: what is stored of it, and who waits for that.

    A plain class with slots: at 100,000 a second nothing else is cheap enough. `token` is the
    origin's own. `delivery` is the message's key in the ledger of deliveries; with `redelivered`
    that is looked up first, and a message found there is dropped. `identities` are (position
    in rows, ledger key) of elements that carry an id of their own. `extras` tells that there is
    more to store than rows: most messages have nothing else, and are spared the look.
    `parts` gives, per row, its sensor where one message speaks of several.
    """

    __slots__ = (
        "answer",
        "attributes",
        "delivery",
        "delivery_expiry",
        "dropped",
        "duplicates",
        "extras",
        "faults",
        "identities",
        "kind",
        "origin",
        "parts",
        "payload",
        "redelivered",
        "rejected",
        "rows",
        "sensor",
        "size",
        "status",
        "token",
    )

    def __init__(
        self,
        origin: Origin,
        token: Any,
        kind: Kind,
        sensor: KnownSensor | None,
        rows: list[tuple[Any, ...]],
        size: int,
    ) -> None:
        self.origin = origin
        self.token = token
        self.kind = kind
        self.sensor = sensor
        self.rows = rows
        self.size = size
        self.payload: bytes | None = None
        self.faults: list[Fault] = NO_FAULTS
        self.duplicates: dict[int, int] | None = None
        self.rejected: RejectedRow | None = None
        self.status: str | None = None
        self.delivery: bytes | None = None
        self.delivery_expiry: int | None = None
        self.redelivered = False
        self.dropped: str | None = None
        self.answer: str | None = None
        self.identities: list[tuple[int, bytes]] | None = None
        self.attributes: list[AttributeRow] | None = None
        self.extras = False
        self.parts: list[KnownSensor] | None = None

    @property
    def first_id(self) -> int:
        """The id that the ledger keeps for this message."""
        if self.rows:
            return int(self.rows[0][0])
        return self.rejected[0] if self.rejected is not None else 0


NO_FAULTS: list[Fault] = []

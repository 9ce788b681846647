"""What was sent and what became of it, to be held against the database."""

import dataclasses
from typing import Any

KINDS = ("measurement", "log", "heartbeat", "status")


@dataclasses.dataclass(slots=True)
class Count:
    """Messages, and the measurements (or log lines, or heartbeats) in them."""

    messages: int = 0
    rows: int = 0

    def add(self, rows: int) -> None:
        """Count a message with so many rows."""
        self.messages += 1
        self.rows += rows


def _per_kind() -> dict[str, Count]:
    return {kind: Count() for kind in KINDS}


@dataclasses.dataclass(slots=True)
class Tally:
    """The counts of a run.

    `acknowledged` are those accepted: at QoS 0, where nothing is acknowledged, those written
    to the socket. `refused` were acknowledged with a reason why they are not stored as what
    they are; only MQTT 5 at QoS 1 tells. `lost` were given to a connection that broke before
    it wrote them, which can be at QoS 0 only. `late` and `repeated` are those of the sent that
    were held back, and those sent once more.
    """

    sent: dict[str, Count] = dataclasses.field(default_factory=_per_kind)
    acknowledged: dict[str, Count] = dataclasses.field(default_factory=_per_kind)
    refused: dict[str, Count] = dataclasses.field(default_factory=_per_kind)
    lost: dict[str, Count] = dataclasses.field(default_factory=_per_kind)
    late: Count = dataclasses.field(default_factory=Count)
    repeated: Count = dataclasses.field(default_factory=Count)
    disconnections: int = 0
    errors: int = 0
    last_error: str = ""

    def note_error(self, text: str) -> None:
        """Count an error and keep what it says."""
        self.errors += 1
        self.last_error = text

    @property
    def in_flight(self) -> int:
        """Messages of which nothing has been heard yet."""
        settled = sum(total(count) for count in (self.acknowledged, self.refused, self.lost))
        return total(self.sent) - settled

    @property
    def is_complete(self) -> bool:
        """Whether everything that was sent was accepted."""
        return total(self.sent) == total(self.acknowledged)

    def summary(self, *, qos: int, seconds: float) -> dict[str, Any]:
        """Return the final count as JSON has it; only accepted things count at the top."""
        measured = self.acknowledged["measurement"]
        return {
            "qos": qos,
            "counted": "acknowledged" if qos else "sent",
            "messages": measured.messages,
            "measurements": measured.rows,
            "seconds": round(seconds, 3),
            "messages_per_second": round(measured.messages / seconds, 1) if seconds else 0.0,
            "kinds": {
                kind: {
                    "sent": dataclasses.asdict(self.sent[kind]),
                    "acknowledged": dataclasses.asdict(self.acknowledged[kind]),
                    "refused": dataclasses.asdict(self.refused[kind]),
                }
                for kind in KINDS
            },
            "late": dataclasses.asdict(self.late),
            "repeated": dataclasses.asdict(self.repeated),
            "unacknowledged": self.in_flight + total(self.lost),
            "refused": total(self.refused),
            "disconnections": self.disconnections,
            "errors": self.errors,
            "last_error": self.last_error or None,
        }


def total(counts: dict[str, Count]) -> int:
    """Return the messages of all kinds."""
    return sum(count.messages for count in counts.values())

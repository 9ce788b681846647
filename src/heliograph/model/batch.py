"""What is written in one transaction, and what became of it."""

import dataclasses
from collections.abc import Callable
from operator import itemgetter

from heliograph.model.records import (
    AttributeRow,
    DeliveryRow,
    HeartbeatRow,
    LogRow,
    MeasurementRow,
    RejectedRow,
    StatusRow,
)

_key = itemgetter(1, 2, 3)


@dataclasses.dataclass(slots=True)
class Batch:
    """Rows of one transaction: all of them are committed, or none is.

    `claims` are keys of the ledger that the batch must have to itself; `deliveries` are entered
    there too, but take the place of older ones. `answers` returns the entries whose answers have
    to change, once it is known which rows repeat which. A batch that is a `trial` is rolled back:
    it only shows whether its rows can be stored.
    """

    measurements: list[MeasurementRow] = dataclasses.field(default_factory=list)
    logs: list[LogRow] = dataclasses.field(default_factory=list)
    heartbeats: list[HeartbeatRow] = dataclasses.field(default_factory=list)
    rejected: list[RejectedRow] = dataclasses.field(default_factory=list)
    statuses: list[StatusRow] = dataclasses.field(default_factory=list)
    deliveries: list[DeliveryRow] = dataclasses.field(default_factory=list)
    claims: list[DeliveryRow] = dataclasses.field(default_factory=list)
    answers: Callable[[dict[int, int]], list[DeliveryRow]] | None = None
    trial: bool = False
    # The change of the registry that the rows' sensors were found by; None: the newest known.
    change: tuple[int, str] | None = None
    attributes: list[AttributeRow] = dataclasses.field(default_factory=list)

    def sort(self) -> None:
        """Put telemetry rows in the order of their keys.

        So each page of the unique index is sought once a batch: with 10,000 sensors that saves
        two fifths of SQLite's time and most of its cache. And two instances that store the same
        rows do not wait for one another crosswise.
        """
        for rows in (self.measurements, self.logs, self.heartbeats):
            rows.sort(key=_key)

    def __len__(self) -> int:
        """Return the number of telemetry rows and rejected messages."""
        return (
            len(self.measurements)
            + len(self.logs)
            + len(self.heartbeats)
            + len(self.rejected)
            + len(self.statuses)
        )


@dataclasses.dataclass(slots=True)
class Written:
    """What a committed batch came to.

    `duplicates` maps the id of each row that was dropped as a repeat to the id of the row
    that was stored before it. Rows that are not in it were inserted. `flagged` are the ids of
    heartbeats that name a revision which does not exist.
    """

    duplicates: dict[int, int] = dataclasses.field(default_factory=dict)
    flagged: set[int] = dataclasses.field(default_factory=set)

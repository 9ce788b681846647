"""What both engines do with a batch: what they write of it, mark for it and learn from it."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from heliograph.model.records import (
    ID,
    REVISION,
    SENSOR,
    DeliveryRow,
    HeartbeatRow,
    StatusRow,
)
from heliograph.model.time import SECOND, now
from heliograph.store.actions import CLAIM_SECONDS
from heliograph.store.engine import Batch, Row

_FRAME: Final = (
    "id",
    "sensor",
    "timestamp",
    "fingerprint",
    "receipt_timestamp",
    "revision",
    "device_timestamp",
)
# The columns of the rows of each table; where an element has an id of its own, also `element_id`.
TELEMETRY: Final = {
    "measurement": (*_FRAME, "value"),
    "log": (*_FRAME, "severity", "subject", "details"),
    "heartbeat": (*_FRAME, "success", "details"),
}

# sensor, revision
RevisionKey: TypeAlias = tuple[int, int]
# sensor, revision, the device's time, the time of receipt, success
Acknowledgment: TypeAlias = tuple[int, int, int, int, bool]
# id, sensor, timestamp, fingerprint of a heartbeat
Flagged: TypeAlias = tuple[int, int, int, int]


def with_element_ids(rows: Iterable[Sequence[Any]], columns: int) -> list[tuple[Any, ...]]:
    """Return rows of so many columns, some of which have the element's id too, all with one."""
    return [(*row, None) if len(row) == columns else tuple(row) for row in rows]


def newest_statuses(rows: Iterable[StatusRow]) -> list[StatusRow]:
    """Return each sensor's newest status; of those at one time, the last."""
    newest: dict[int, StatusRow] = {}
    for row in rows:
        earlier = newest.get(row[0])
        if earlier is None or earlier[1] <= row[1]:
            newest[row[0]] = row
    return list(newest.values())


def claimed_until(batch: Batch) -> int | None:
    """Return until when the claim holds that the batch's actions are entered with; None: none."""
    return now() + CLAIM_SECONDS * SECOND if batch.runs else None


def ledger_entries(batch: Batch) -> list[DeliveryRow]:
    """Return what the batch enters in the ledger, a row a key: the last one counts.

    In the order of the keys, so that two servers wait for one another in one order.
    """
    rows = {row[0]: row for row in batch.deliveries}
    rows.update((row[0], row) for row in batch.claims)
    return sorted(rows.values())


def lost_keys(entries: Sequence[DeliveryRow], stored: Iterable[Row]) -> frozenset[bytes]:
    """Return the keys that are stored for another message; `stored` has key and id."""
    ids = {key: row_id for key, row_id, *_ in entries}
    return frozenset(key for key, row_id, *_ in stored if row_id != ids[key] or row_id == 0)


class Acknowledged(NamedTuple):
    """What a batch's heartbeats come to."""

    acknowledgments: list[Acknowledgment]
    flagged: list[Flagged]

    @property
    def flagged_ids(self) -> set[int]:
        """The ids of the heartbeats that name a revision which does not exist."""
        return {row_id for row_id, *_ in self.flagged}


def naming_a_revision(rows: Iterable[HeartbeatRow]) -> list[HeartbeatRow]:
    """Return the heartbeats that name a revision, in the order in which they came."""
    return sorted((row for row in rows if row[REVISION] is not None), key=itemgetter(ID))


def revision_keys(rows: Iterable[HeartbeatRow]) -> list[RevisionKey]:
    """Return the revisions that the heartbeats name, each once."""
    named = ((row[SENSOR], row[REVISION]) for row in rows)
    return list({(sensor, number): None for sensor, number in named if number is not None})


def acknowledged(rows: Sequence[HeartbeatRow], stored: Iterable[Row]) -> Acknowledged:
    """Return what is new of the heartbeats; `stored` is (sensor, revision, success) of those known.

    The first answer to a revision counts, unless a later one turns failure into success. So a
    repeat changes nothing, and each revision's answers are its own.
    """
    known = {(sensor, revision): success for sensor, revision, success in stored}
    answers: dict[RevisionKey, Acknowledgment] = {}
    flagged: list[Flagged] = []
    for row_id, sensor, timestamp, fingerprint, receipt, revision, _, success, *_ in rows:
        if revision is None:
            continue
        key = (sensor, revision)
        if key not in known:
            flagged.append((row_id, sensor, timestamp, fingerprint))
        elif success is not None:
            before = answers[key][4] if key in answers else known[key]
            if before is None or (not before and success):
                answers[key] = (sensor, revision, timestamp, receipt, success)
    return Acknowledged(list(answers.values()), flagged)

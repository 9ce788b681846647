"""What heartbeats say of configurations, stored in the heartbeats' own transaction."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from heliograph.model.records import HeartbeatRow
from heliograph.store.engine import Row

# sensor, revision
RevisionKey: TypeAlias = tuple[int, int]
# sensor, revision, the device's time, the time of receipt, success
Acknowledgment: TypeAlias = tuple[int, int, int, int, bool]
# id, sensor, timestamp, fingerprint of a heartbeat
Flagged: TypeAlias = tuple[int, int, int, int]


class Said(NamedTuple):
    """What a batch's heartbeats come to."""

    acknowledgments: list[Acknowledgment]
    flagged: list[Flagged]

    @property
    def flagged_ids(self) -> set[int]:
        """The ids of the heartbeats that name a revision which does not exist."""
        return {row_id for row_id, *_ in self.flagged}


def naming_a_revision(rows: Iterable[HeartbeatRow]) -> list[HeartbeatRow]:
    """Return the heartbeats that name a revision, in the order in which they came."""
    return sorted((row for row in rows if row[5] is not None), key=itemgetter(0))


def revision_keys(rows: Iterable[HeartbeatRow]) -> list[RevisionKey]:
    """Return the revisions that the heartbeats name, each once."""
    return list({(row[1], row[5]): None for row in rows if row[5] is not None})


def what_is_said(rows: Sequence[HeartbeatRow], stored: Iterable[Row]) -> Said:
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
    return Said(list(answers.values()), flagged)

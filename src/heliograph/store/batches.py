"""What both engines do to a batch before they write it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from heliograph.model.batch import Batch
from heliograph.model.records import DeliveryRow, StatusRow
from heliograph.store.engine import Row

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


def ledger_entries(batch: Batch) -> list[DeliveryRow]:
    """Return what the batch enters in the ledger, a row a key: the last one counts.

    In the order of the keys, so that two servers wait for one another in one order.
    """
    rows = {row[0]: row for row in batch.deliveries}
    rows.update((row[0], row) for row in batch.claims)
    return sorted(rows.values())


def lost_keys(entries: Sequence[DeliveryRow], stored: Iterable[Row]) -> frozenset[bytes]:
    """Return the keys that are stored for another message; `stored` has key and id."""
    ids = {row[0]: row[1] for row in entries}
    return frozenset(row[0] for row in stored if row[1] != ids[row[0]] or row[1] == 0)

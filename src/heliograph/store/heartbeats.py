"""Heartbeats."""

from collections.abc import Sequence

from heliograph.model.records import Heartbeat
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import Pages, text_size


def _heartbeats(rows: Sequence[Row]) -> list[Heartbeat]:
    # SQLite knows no booleans.
    return [
        Heartbeat(
            row_id,
            timestamp,
            fingerprint,
            receipt,
            revision,
            None if success is None else bool(success),
            details,
            bool(unknown),
        )
        for row_id, timestamp, fingerprint, receipt, revision, success, details, unknown, _ in rows
    ]


def _sizes(rows: Sequence[Row]) -> list[int]:
    return [text_size(row[6]) for row in rows]


class Heartbeats(Pages[Heartbeat]):
    """Signs of life, and which configurations were applied."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "heartbeats", _heartbeats, _sizes)

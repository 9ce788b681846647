"""From stored rows back to the payloads that devices send."""

from typing import Any

import msgspec

from heliograph.model.event import Committed
from heliograph.model.records import Kind
from heliograph.model.time import to_element_time

_encode = msgspec.json.Encoder().encode


def payload_of(event: Committed) -> bytes:
    """Return the rows of an event as the payload of their topic, timestamps included."""
    if event.kind is Kind.MEASUREMENT:
        return _encode(
            {
                "measurements": [
                    {**_frame(row, 8), "value": msgspec.Raw(row[7].encode())} for row in event.rows
                ]
            }
        )
    if event.kind is Kind.LOG:
        return _encode(
            {
                "log_messages": [
                    {
                        "severity": row[7],
                        **_frame(row, 10),
                        "subject": row[8],
                        "details": row[9],
                    }
                    for row in event.rows
                ]
            }
        )
    return _encode(
        {
            "heartbeats": [
                {
                    **_frame(row, 9),
                    "success": row[7],
                    **(msgspec.json.decode(row[8]) if row[8] else {}),
                }
                for row in event.rows
            ]
        }
    )


def _frame(row: tuple[Any, ...], columns: int) -> dict[str, Any]:
    frame: dict[str, Any] = {"revision": row[5], "timestamp": to_element_time(row[2])}
    # Behind a heartbeat's columns it also says whether it is flagged.
    if len(row) > columns and row[columns].__class__ is str:
        frame["id"] = row[columns]
    return frame

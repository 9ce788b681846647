"""From stored rows back to the payloads that devices send."""

import msgspec

from heliograph.model.event import Committed
from heliograph.model.records import Kind
from heliograph.model.time import to_epoch_seconds

_encode = msgspec.json.Encoder().encode


def payload_of(event: Committed) -> bytes:
    """Return the rows of an event as the payload of their topic, timestamps included."""
    if event.kind is Kind.MEASUREMENT:
        return _encode(
            {
                "measurements": [
                    {
                        "revision": row[5],
                        "timestamp": to_epoch_seconds(row[2]),
                        "value": msgspec.Raw(row[7].encode()),
                    }
                    for row in event.rows
                ]
            }
        )
    if event.kind is Kind.LOG:
        return _encode(
            {
                "log_messages": [
                    {
                        "severity": row[7],
                        "revision": row[5],
                        "timestamp": to_epoch_seconds(row[2]),
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
                    "revision": row[5],
                    "timestamp": to_epoch_seconds(row[2]),
                    "success": row[7],
                    **(msgspec.json.decode(row[8]) if row[8] else {}),
                }
                for row in event.rows
            ]
        }
    )

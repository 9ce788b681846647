"""Rows as the pipeline makes them."""

import itertools

from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import fingerprint as fingerprint_of
from heliograph.model.fingerprints import measurement_fingerprint
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.records import Kind

# 2026-01-15T12:00:00Z
NOON = 1_768_478_400_000_000

_ids = itertools.count(NOON // 1_000 << 21, INGEST_ID_STEP)


def measurement(sensor, timestamp=NOON, value=1, *, fingerprint=None, receipt=NOON):
    text = canonical(value)
    if fingerprint is None:
        fingerprint = measurement_fingerprint(None, text)
    return (next(_ids), sensor, timestamp, fingerprint, receipt, None, None, text.decode())


def log(sensor, timestamp=NOON, subject="started", *, fingerprint=1, details=None):
    return (
        next(_ids),
        sensor,
        timestamp,
        fingerprint,
        NOON,
        None,
        None,
        "info",
        subject,
        details,
    )


def heartbeat(sensor, timestamp=NOON, *, fingerprint=1, revision=None, success=None):
    return (
        next(_ids),
        sensor,
        timestamp,
        fingerprint,
        NOON,
        revision,
        None,
        success,
        None,
    )


def packet(sensor, timestamp=NOON, device_id="device-1", **members):
    content = {"device_id": device_id, "measurements": {"t": 1}, **members}
    text = canonical(content)
    return (
        next(_ids),
        sensor,
        timestamp,
        fingerprint_of(Kind.PACKET, content),
        NOON,
        device_id,
        None,
        "admin",
        "POST /api/v1/packets",
        text.decode(),
    )


def rejected(payload=b"{", *, receipt=NOON, sensor=None, indexes=None):
    return (
        next(_ids),
        receipt,
        sensor,
        "device:x",
        "measurements/x",
        payload,
        len(payload),
        "MALFORMED_JSON",
        "unexpected end",
        indexes,
    )


def again(row):
    """Return the row as a repeat brings it: with an id of its own."""
    return (next(_ids), *row[1:])

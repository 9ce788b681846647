"""Readings, as devices post them to `/ingest`: flat, or with their metrics in an object."""

from typing import Any

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.attributes import MAXIMUM_ATTRIBUTES, Attributes, attributes_of
from heliograph.ingest.elements import Frame, check_element, read_frame
from heliograph.ingest.json_checks import (
    MAXIMUM_PAYLOAD,
    Rejected,
    elements_of,
    read_exactly,
    read_shallow,
)
from heliograph.ingest.outcome import Fault
from heliograph.model.canonical import canonical, measurement_fingerprint
from heliograph.model.records import MeasurementRow

MAXIMUM_BATCH = 8 * 1024 * 1024

_WRAPPED_MEMBERS = frozenset({"device_id", "metrics", "timestamp", "revision", "id"})
_FLAT_MEMBERS = frozenset({"device_id", "timestamp", "revision"})


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a device measured: `text` is the canonical JSON text of the metrics' object.

    `device_id` is None where the body names no device. `timestamp` (microseconds) is None
    without a device time; `device_timestamp` is what a device without a clock gave instead.
    """

    device_id: str | None
    text: str
    names: Attributes
    timestamp: int | None
    device_timestamp: float | None
    revision: int | None
    identity: str | None


def decode_reading(payload: bytes, now: int) -> Reading:
    """Return the reading in the body of a request.

    Raises:
        Rejected: it is none.
    """
    message = read_shallow(payload) if len(payload) <= MAXIMUM_PAYLOAD else None
    if message is not None:
        return _read(message, now, sound=True)
    return _read(read_exactly(payload), now, sound=False)


def decode_readings(payload: bytes, now: int) -> tuple[list[tuple[int, Reading]], list[Fault]]:
    """Return the good readings of an array or of `{"readings": […]}`, with their indexes.

    Raises:
        Rejected: the body as a whole is not readable, or has too many readings.
    """
    message = read_shallow(payload) if len(payload) <= MAXIMUM_BATCH else None
    sound = message is not None
    if not sound:
        message = read_exactly(payload, MAXIMUM_BATCH)
    if isinstance(message, dict) and "readings" not in message:
        raise Rejected(
            RejectionReason.MISSING_MEMBER, "neither an array nor an object with readings"
        )
    elements = elements_of(message, "readings")
    readings = []
    faults = []
    for index, element in enumerate(elements):
        try:
            readings.append((index, _read(element, now, sound=sound)))
        except Rejected as error:
            faults.append(Fault(index, error.fault.reason, error.fault.detail))
    return readings, faults


def measurement_row(
    reading: Reading, sensor: int, row_id: int, receipt: int, untimed: int
) -> MeasurementRow:
    """Return the reading as a row; `untimed` is its timestamp if the device gave no time."""
    return (
        row_id,
        sensor,
        untimed if reading.timestamp is None else reading.timestamp,
        measurement_fingerprint(reading.revision, reading.text.encode()),
        receipt,
        reading.revision,
        reading.device_timestamp,
        reading.text,
    )


def _read(element: Any, now: int, *, sound: bool) -> Reading:
    # The metrics' own object is the first level of what is stored; flat, that is the element.
    if isinstance(element, dict) and "metrics" in element:
        check_element(element, _WRAPPED_MEMBERS, levels=-1, sound=sound)
        frame = read_frame(element, now)
        metrics = element["metrics"]
        if not isinstance(metrics, dict):
            raise Rejected(RejectionReason.WRONG_TYPE, "metrics is not an object")
    else:
        check_element(element, None, levels=0, sound=sound)
        # Whatever a flat reading calls `id` is a metric of that name.
        frame = read_frame({name: element.get(name) for name in _FLAT_MEMBERS}, now)
        metrics = {name: member for name, member in element.items() if name not in _FLAT_MEMBERS}
    device_id = element.get("device_id")
    if device_id is not None and not isinstance(device_id, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "device_id is not a text")
    return _reading(device_id, metrics, frame)


def _reading(device_id: str | None, metrics: dict[str, Any], frame: Frame) -> Reading:
    if not metrics:
        raise Rejected(RejectionReason.MISSING_MEMBER, "there is no metric in the reading")
    names = attributes_of(metrics)
    if len(names) > MAXIMUM_ATTRIBUTES:
        raise Rejected(
            RejectionReason.TOO_MANY_ATTRIBUTES,
            f"{len(names)} metrics are more than {MAXIMUM_ATTRIBUTES}",
        )
    return Reading(
        device_id,
        canonical(metrics).decode(),
        names,
        frame.timestamp,
        frame.device_timestamp,
        frame.revision,
        frame.identity,
    )

"""Readings, as devices post them to `/ingest`: flat, or with their metrics in an object."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.attributes import MAXIMUM_ATTRIBUTES, Attributes, attributes_of
from heliograph.ingest.elements import (
    Frame,
    check_element,
    read_frame,
    read_revision,
    read_timestamp,
)
from heliograph.ingest.json_checks import (
    MAXIMUM_PAYLOAD,
    Rejected,
    count_colons,
    elements_of,
    nested,
    read_exactly,
    read_shallow,
)
from heliograph.ingest.outcome import Fault
from heliograph.ingest.sound import BACKSLASH, DOUBTFUL, DoubtfulError, Framed, account_for
from heliograph.model.canonical import canonical, measurement_fingerprint
from heliograph.model.records import MeasurementRow
from heliograph.model.time import DAY

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


class _Wrapped(Framed, forbid_unknown_fields=True, gc=False):
    metrics: dict[str, nested(2)] | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]  # built at run time
    device_id: str | msgspec.UnsetType | None = msgspec.UNSET


class _WrappedBatch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    readings: list[_Wrapped]


_Flat: TypeAlias = dict[str, nested(3)]  # type: ignore[misc, valid-type]  # built at run time


class _FlatBatch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    readings: list[_Flat]


# One of each pair takes a body of many readings, unless some are flat and some are wrapped.
_DECODE_MANY: list[Callable[[bytes], Any]] = [
    msgspec.json.Decoder(_WrappedBatch | list[_Wrapped]).decode,
    msgspec.json.Decoder(_FlatBatch | list[_Flat]).decode,
]
_DECODE_ONE: list[Callable[[bytes], Any]] = [
    msgspec.json.Decoder(_Wrapped).decode,
    msgspec.json.Decoder(_Flat).decode,
]


def decode_reading(payload: bytes, now: int) -> Reading:
    """Return the reading in the body of a request.

    Raises:
        Rejected: it is none.
    """
    if len(payload) <= MAXIMUM_PAYLOAD and (quick := _read_quickly(payload, _DECODE_ONE, now)):
        return quick[0]
    message = read_shallow(payload) if len(payload) <= MAXIMUM_PAYLOAD else None
    if message is not None:
        return _read(message, now, sound=True)
    return _read(read_exactly(payload), now, sound=False)


def decode_readings(payload: bytes, now: int) -> tuple[list[tuple[int, Reading]], list[Fault]]:
    """Return the good readings of an array or of `{"readings": […]}`, with their indexes.

    Raises:
        Rejected: the body as a whole is not readable, or has too many readings.
    """
    if len(payload) <= MAXIMUM_BATCH and (quick := _read_quickly(payload, _DECODE_MANY, now)):
        return list(enumerate(quick)), []
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


def _read_quickly(
    payload: bytes, decoders: list[Callable[[bytes], Any]], now: int
) -> list[Reading] | None:
    """Return the readings of a message that is wholly good; None if that is not certain."""
    for decode in decoders:
        try:
            message = decode(payload)
        except msgspec.ValidationError:
            continue  # of the other shape?
        except DOUBTFUL:
            return None
        try:
            return _read_sound(payload, message, now)
        except DOUBTFUL:
            return None
    return None


def _read_sound(  # noqa: C901, PLR0912, PLR0915 - one loop, unrolled for speed
    payload: bytes, message: Any, now: int
) -> list[Reading]:
    """Return the readings of a parsed message, or raise one of `DOUBTFUL`."""
    has_escapes = BACKSLASH in payload
    enveloped = getattr(message, "readings", msgspec.UNSET)
    elements, colons, braces = account_for(payload, message, enveloped, has_escapes=has_escapes)
    latest = (now + DAY) / 1e6
    readings: list[Reading] = []
    for element in elements:
        device_timestamp = identity = None
        if element.__class__ is dict:
            # Whatever a flat reading calls `id` is a metric of that name.
            metrics = element
            colons -= len(element)
            device_id = element.pop("device_id", None)
            timestamp = element.pop("timestamp", None)
            revision = read_revision(element.pop("revision", None))
            if "metrics" in element or (device_id is not None and device_id.__class__ is not str):
                raise DoubtfulError
        else:
            metrics = element.metrics
            if metrics is msgspec.UNSET:
                raise DoubtfulError
            colons -= 1 + len(metrics)
            braces -= 1
            device_id, timestamp, revision = element.device_id, element.timestamp, element.revision
            if device_id is msgspec.UNSET:
                device_id = None
            else:
                colons -= 1
            if timestamp is msgspec.UNSET:
                timestamp = None
            else:
                colons -= 1
            if revision is msgspec.UNSET:
                revision = None
            else:
                colons -= 1
            if element.id is not msgspec.UNSET:
                identity = element.id
                colons -= 1
        if timestamp.__class__ is float and 1e9 <= timestamp <= latest:
            moment: int | None = round(timestamp * 1e6)
        else:
            colons -= count_colons(timestamp)
            moment, device_timestamp = read_timestamp(timestamp, now)
        names: Attributes = metrics.keys()
        if not 0 < len(names) <= MAXIMUM_ATTRIBUTES:
            raise DoubtfulError
        if has_escapes or "." in "".join(metrics):
            names = attributes_of(metrics)
        text = canonical(metrics).decode()
        readings.append(
            Reading(device_id, text, names, moment, device_timestamp, revision, identity)
        )
    if colons or braces:
        raise DoubtfulError
    return readings


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

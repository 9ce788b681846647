"""Readings: what an element says that was measured, in whichever of its shapes it comes.

`{"value": …}` and `{"metrics": {…}}` may have beside it what all elements may (`timestamp`,
`revision`, `id`) and a `device_id`. Any other object is flat: its other members are the metrics.
`read_measurement` is the rule, for every way in; the quick ways only take what it would take.
"""

import difflib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.attributes import (
    VALUE_ONLY,
    Attributes,
    attributes_of,
)
from heliograph.ingest.elements import (
    ElementFrame,
    check_element,
    read_frame,
    read_identity,
    read_revision,
    read_timestamp,
)
from heliograph.ingest.json_checks import (
    Rejected,
    count_colons,
    elements_of,
    nested,
    quoted,
    read_exactly,
    read_shallow,
)
from heliograph.ingest.outcome import Fault
from heliograph.ingest.sound import BACKSLASH, DOUBTFUL, DoubtfulError, Framed, account_for
from heliograph.model.canonical import canonical, measurement_fingerprint, telling_text
from heliograph.model.identifiers import as_ingest_id
from heliograph.model.records import (
    MAXIMUM_ATTRIBUTES_OF_MEASUREMENT,
    MAXIMUM_PAYLOAD_BYTES,
    MeasurementRow,
)
from heliograph.model.time import DAY

MAXIMUM_BATCH = 8 * 1024 * 1024

_FRAME: Final = frozenset({"timestamp", "revision", "id", "device_id"})
# What may hold what was measured, the first one first.
_HOLDERS: Final = ("value", "metrics")
_MEMBERS: Final = {name: _FRAME | {name} for name in _HOLDERS}
# What no metric of a flat reading can be called.
_RESERVED: Final = frozenset({*_HOLDERS, "measurements"})
_SCALARS: Final = frozenset({int, float, bool, str})
# An entry of GET /sensors/{id}/measurements has both, and so has a live event: no new reading.
_ANSWERED: Final = frozenset({"creation_timestamp", "measurement"})


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a device measured: `text` is the canonical JSON text of its value.

    `device_id` is None where the element names no device. `timestamp` (microseconds) is None
    without a device time; `device_timestamp` is what a device without a clock gave instead.
    """

    device_id: str | None
    text: str
    fingerprint: int
    names: Attributes
    timestamp: int | None
    device_timestamp: float | None
    revision: int | None
    identity: str | None


class _Wrapped(Framed, forbid_unknown_fields=True, gc=False):
    value: nested(3) | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]  # built at run time
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
    if len(payload) <= MAXIMUM_PAYLOAD_BYTES and (
        quick := _read_quickly(payload, _DECODE_ONE, now)
    ):
        return quick[0]
    message = read_shallow(payload) if len(payload) <= MAXIMUM_PAYLOAD_BYTES else None
    if message is not None:
        return read_measurement(message, now, sound=True)
    return read_measurement(read_exactly(payload), now, sound=False)


def decode_readings(payload: bytes, now: int) -> tuple[list[tuple[int, Reading]], list[Fault]]:
    """Return the good readings of an array or of `{"readings": […]}`, with their indexes.

    Raises:
        Rejected: the body as a whole is not readable, or has too many readings.
    """
    if len(payload) <= MAXIMUM_BATCH and (quick := _read_quickly(payload, _DECODE_MANY, now)):
        return _of_a_message_each(payload, list(enumerate(quick)), [])
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
            readings.append((index, read_measurement(element, now, sound=sound)))
        except Rejected as error:
            faults.append(Fault(index, error.fault.reason, error.fault.detail))
    return _of_a_message_each(payload, readings, faults)


def _of_a_message_each(
    payload: bytes, readings: list[tuple[int, Reading]], faults: list[Fault]
) -> tuple[list[tuple[int, Reading]], list[Fault]]:
    """Return both, with a fault in place of what no message by itself could hold.

    Reading it again, nothing else counts on values that large.
    """
    if len(payload) <= MAXIMUM_PAYLOAD_BYTES:
        return readings, faults
    large = {
        index: size
        for index, reading in readings
        if (size := len(reading.text.encode())) > MAXIMUM_PAYLOAD_BYTES
    }
    if not large:
        return readings, faults
    faults += [
        Fault(
            index,
            RejectionReason.TOO_LARGE,
            f"{size} bytes of value are more than {MAXIMUM_PAYLOAD_BYTES} bytes",
        )
        for index, size in large.items()
    ]
    kept = [each for each in readings if each[0] not in large]
    return kept, sorted(faults, key=lambda fault: fault.index or 0)


def measurement_row(
    reading: Reading, sensor: int, row_id: int, receipt: int, untimed: int
) -> MeasurementRow:
    """Return the reading as a row; `untimed` is its timestamp if the device gave no time."""
    row = (
        row_id,
        sensor,
        untimed if reading.timestamp is None else reading.timestamp,
        reading.fingerprint,
        receipt,
        reading.revision,
        reading.device_timestamp,
        reading.text,
    )
    return row if reading.identity is None else (*row, reading.identity)


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
            value = element
            colons -= len(element)
            device_id = element.pop("device_id", None)
            timestamp = element.pop("timestamp", None)
            revision = read_revision(element.pop("revision", None))
            if "id" in element:
                identity = _flat_identity(element)
                if identity is not None or element["id"] is None:
                    del element["id"]
            if (
                "creation_timestamp" in element
                or not _RESERVED.isdisjoint(element)
                or (device_id is not None and device_id.__class__ is not str)
            ):
                raise DoubtfulError
            for member in element.values():
                if member.__class__ in _SCALARS:
                    break
            else:
                raise DoubtfulError
        else:
            value = element.metrics
            if value is msgspec.UNSET:
                value = element.value
            elif element.value is not msgspec.UNSET or not value:
                raise DoubtfulError
            if value is msgspec.UNSET:
                raise DoubtfulError
            colons -= 1
            if value.__class__ is dict:
                colons -= len(value)
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
        if value.__class__ is dict:
            names: Attributes = value.keys()
            if len(names) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
                raise DoubtfulError
            if has_escapes or "." in "".join(value):
                names = attributes_of(value)
        else:
            names = VALUE_ONLY
        text = canonical(value)
        number = measurement_fingerprint(revision, telling_text(value, text), identity)
        readings.append(
            Reading(
                device_id,
                text.decode(),
                number,
                names,
                moment,
                device_timestamp,
                revision,
                identity,
            )
        )
    if colons or braces:
        raise DoubtfulError
    return readings


def read_measurement(element: Any, now: int, *, sound: bool) -> Reading:
    """Return what an element says that was measured.

    `sound` says that its text is known to be flawless.

    Raises:
        Rejected: it is neither of the shapes, or can't be stored.
    """
    members = element if isinstance(element, dict) else {}
    holder = next((name for name in _HOLDERS if name in members), None)
    if holder is None and members:
        check_element(element, None, levels=0, sound=sound)
        value, frame = _read_flat(element, now)
    else:
        # What is held is the first level of what is stored; flat, that is the element.
        check_element(element, _MEMBERS[holder or "value"], levels=-1, sound=sound)
        frame = read_frame(element, now)
        value = _held(element, holder, frame)
    device_id = element.get("device_id")
    if device_id is not None and not isinstance(device_id, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "device_id is not a text")
    names = attributes_of(value)
    if len(names) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
        raise Rejected(
            RejectionReason.TOO_MANY_ATTRIBUTES,
            f"{len(names)} attributes are more than {MAXIMUM_ATTRIBUTES_OF_MEASUREMENT}",
        )
    text = canonical(value)
    return Reading(
        device_id,
        text.decode(),
        measurement_fingerprint(frame.revision, telling_text(value, text), frame.identity),
        names,
        frame.timestamp,
        frame.device_timestamp,
        frame.revision,
        frame.identity,
    )


def _held(element: dict[str, Any], holder: str | None, frame: ElementFrame) -> Any:
    if holder is None:
        raise _nothing_measured()
    value = element[holder]
    if holder == "value":
        return value
    if not isinstance(value, dict):
        raise Rejected(RejectionReason.WRONG_TYPE, "metrics is not an object")
    # A value without attributes has none in history either: posted back, its id names it.
    if not value and (frame.identity is None or as_ingest_id(frame.identity) is None):
        raise _nothing_measured()
    return value


def _read_flat(element: dict[str, Any], now: int) -> tuple[dict[str, Any], ElementFrame]:
    identity = _flat_identity(element)
    # What is no text is a metric that happens to be called so.
    is_named = identity is not None or element.get("id") is None
    frame_members = _FRAME if is_named else _FRAME - {"id"}
    metrics = {name: member for name, member in element.items() if name not in frame_members}
    if not metrics:
        raise _nothing_measured()
    if metrics.keys() >= _ANSWERED:
        raise Rejected(
            RejectionReason.UNKNOWN_MEMBER,
            "`creation_timestamp` and `measurement` are of an answer; what can be sent back is that"
            " of GET /devices/{device_id}/history",
        )
    if "measurements" in metrics or not any(
        member.__class__ in _SCALARS for member in metrics.values()
    ):
        raise _not_flat(metrics)
    return metrics, read_frame({name: element.get(name) for name in frame_members}, now)


def _flat_identity(element: dict[str, Any]) -> str | None:
    identity = element.get("id")
    return read_identity(identity) if identity.__class__ is str else None


def _nothing_measured() -> Rejected:
    return Rejected(RejectionReason.MISSING_MEMBER, "there is neither a value nor a metric in it")


def _not_flat(metrics: dict[str, Any]) -> Rejected:
    if "measurements" in metrics:
        return Rejected(
            RejectionReason.UNKNOWN_MEMBER, "'measurements' holds elements, and is not in one"
        )
    for name in metrics:
        if meant := difflib.get_close_matches(name, _RESERVED, n=1, cutoff=0.7):
            return Rejected(
                RejectionReason.UNKNOWN_MEMBER,
                f"unknown member {quoted(name)}: did you mean `{meant[0]}`?",
            )
    return Rejected(
        RejectionReason.UNKNOWN_MEMBER,
        f"unknown member {quoted(next(iter(metrics)))}: without a number, a boolean or a text"
        " beside it, it goes into `value`",
    )

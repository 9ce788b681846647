"""Decoding of what devices send, as pure functions: bytes in, rows and faults out.

There are two ways. A message of measurements in which nothing at all is wrong is read by types
(`_decode_typed`), the hottest code of all: under two microseconds each. Any other message is read
element by element, each of which is a row or a fault. `read_measurement` is the rule for every way
in, over MQTT and HTTP; what is read by types is what it would take.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.strict_json import (
    BACKSLASH,
    MAXIMUM_ELEMENTS,
    Fault,
    Integer,
    Rejected,
    Scalar,
    UnknownMemberError,
    elements_of,
    find_flaw,
    has_suspicious_escape,
    nested,
    quoted,
    read_exactly,
    read_vouched,
    too_many_elements,
)
from heliograph.model.attributes import VALUE_ONLY, WHOLE, Attributes, attributes_of
from heliograph.model.canonical import canonical
from heliograph.model.event import Committed
from heliograph.model.fingerprints import fingerprint, measurement_fingerprint, telling_text
from heliograph.model.identifiers import INGEST_ID_STEP, as_ingest_id
from heliograph.model.records import (
    MAXIMUM_ATTRIBUTES_OF_MEASUREMENT,
    MAXIMUM_PAYLOAD_BYTES,
    Kind,
    Severity,
)
from heliograph.model.time import (
    DAY,
    EARLIEST,
    LATEST,
    OLDEST,
    SECOND,
    counts_from_boot,
    from_epoch_seconds,
    from_rfc3339,
    to_element_time,
)

MAXIMUM_BATCH = 8 * 1024 * 1024
MAXIMUM_REVISION = (1 << 31) - 1
MAXIMUM_IDENTITY = 64
# With so many of an array's faults it is told what was meant: that takes longer than to read it.
_EXPLAINED: Final = 100

_EARLIEST_SECONDS = EARLIEST // SECOND
_END_SECONDS = (LATEST + 1) // SECOND
_FRAME: Final = frozenset({"timestamp", "revision", "id", "device_id"})
# What may hold what was measured, the first one first.
_HOLDERS: Final = ("value", "metrics")
_MEMBERS: Final = {name: _FRAME | {name} for name in _HOLDERS}
# What no metric of a flat reading can be called.
_RESERVED: Final = frozenset({*_HOLDERS, "measurements"})
_SCALARS: Final = frozenset({int, float, bool, str})
# An entry of GET /sensors/{id}/measurements has both, and so has a live event: no new reading.
_ANSWERED_MEASUREMENT: Final = frozenset({"creation_timestamp", "measurement"})
_ANSWERED_HEARTBEAT: Final = frozenset({"creation_timestamp", "flagged"})
_LOG_MEMBERS: Final = frozenset({"severity", "revision", "timestamp", "subject", "details", "id"})
_LOG_MEMBERS_WITH_MESSAGE: Final = _LOG_MEMBERS - {"subject"} | {"message"}
_SEVERITIES: Final = frozenset(Severity)
_HEARTBEAT_MEMBERS: Final = frozenset({"revision", "timestamp", "success", "id"})
_STATUSES: Final = frozenset({"online", "offline"})

_NO_NAMES: Final[Attributes] = frozenset()
_new = tuple.__new__  # of a named tuple, without the call of its own constructor
_encode = msgspec.json.Encoder().encode


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an element says, whatever its kind; `columns` are those of its kind in a row.

    `timestamp` (microseconds) is None without a device time; `device_timestamp` is what a device
    without a clock gave in its place, in seconds. Measurements have the names of their attributes,
    and `device_id` where they name a device.
    """

    timestamp: int | None
    fingerprint: int
    revision: int | None
    device_timestamp: float | None
    columns: tuple[Any, ...]
    identity: str | None
    names: Attributes = _NO_NAMES
    device_id: str | None = None

    def row(self, row_id: int, sensor: int, receipt: int, untimed: int) -> tuple[Any, ...]:
        """Return the row of a sensor; `untimed` is its timestamp if the device gave none."""
        timestamp = untimed if self.timestamp is None else self.timestamp
        common = row_id, sensor, timestamp, self.fingerprint, receipt
        return *common, self.revision, self.device_timestamp, *self.columns


class Decoded(NamedTuple):
    """A decoded message: rows ready to store, and what was wrong with the rest.

    `indexes` gives, per row, the index of its element. `untimed` says that at least one row
    has the receipt time for its timestamp. `identities` are (position in rows, element id)
    pairs of the elements that carried an `id`. `attributes` holds, for measurements, the sets of
    attribute names; elements alike that follow one another share one.
    """

    rows: list[tuple[Any, ...]]
    faults: list[Fault]
    untimed: bool
    identities: list[tuple[int, str]]
    indexes: list[int] | None
    attributes: list[Attributes]


class _Frame(NamedTuple):
    timestamp: int | None
    device_timestamp: float | None
    revision: int | None
    identity: str | None


def _read_frame(element: dict[str, Any], now: int) -> _Frame:
    """Return what `timestamp`, `revision` and `id` of an element say.

    Raises:
        Rejected: one of them is not what it has to be.
    """
    timestamp, device_timestamp = read_timestamp(element.get("timestamp"), now)
    revision, identity = read_revision(element.get("revision")), read_identity(element.get("id"))
    return _Frame(timestamp, device_timestamp, revision, identity)


def read_timestamp(timestamp: Any, now: int) -> tuple[int | None, float | None]:
    """Return microseconds, or None and the seconds given if a clock has counted them from boot.

    Those are a number before 2001-09-09, and a text in 1970. Any other text says a date.

    Raises:
        Rejected: not a time, before 1650, or more than a day ahead of `now`.
    """
    if timestamp is None:
        return None, None
    kind = timestamp.__class__
    if kind is int or kind is float:
        if timestamp < _EARLIEST_SECONDS:
            return None, float(timestamp)
        moment = from_epoch_seconds(timestamp) if timestamp < _END_SECONDS else LATEST
    elif kind is str:
        try:
            moment = from_rfc3339(timestamp)
        except ValueError as error:
            raise Rejected(
                RejectionReason.INVALID_TIMESTAMP,
                f"timestamp {quoted(timestamp)} is neither epoch seconds nor RFC 3339",
            ) from error
        if moment < EARLIEST:
            if counts_from_boot(timestamp, moment):
                return None, moment / 1e6
            if moment < OLDEST:
                raise Rejected(
                    RejectionReason.INVALID_TIMESTAMP,
                    f"timestamp {quoted(timestamp)} is before 1650: was the clock ever set?",
                )
    else:
        raise Rejected(
            RejectionReason.WRONG_TYPE,
            "timestamp is neither a number of epoch seconds nor an RFC 3339 text",
        )
    if moment > now + DAY:
        raise Rejected(
            RejectionReason.TIMESTAMP_IN_FUTURE,
            f"timestamp {quoted(str(timestamp))} is more than a day ahead (is it in seconds?)",
        )
    return moment, None


def read_revision(revision: Any) -> int | None:
    """Return the revision of the configuration that the device had.

    Raises:
        Rejected: neither a non-negative 32-bit integer nor null.
    """
    if revision is None:
        return None
    if revision.__class__ is not int:
        raise Rejected(RejectionReason.WRONG_TYPE, "revision is not an integer")
    if not 0 <= revision <= MAXIMUM_REVISION:
        raise Rejected(
            RejectionReason.NUMBER_OUT_OF_RANGE,
            f"revision {revision} is not between 0 and {MAXIMUM_REVISION}",
        )
    return int(revision)


def read_identity(identity: Any) -> str | None:
    """Return the element's own id.

    Raises:
        Rejected: neither a text of 1 to 64 characters nor null.
    """
    if identity is None:
        return None
    if identity.__class__ is not str or not 0 < len(identity) <= MAXIMUM_IDENTITY:
        raise Rejected(
            RejectionReason.WRONG_TYPE, f"id is not a text of 1 to {MAXIMUM_IDENTITY} characters"
        )
    return str(identity)


def check_element(
    element: Any, allowed: frozenset[str] | None, *, levels: int, sound: bool
) -> None:
    """Check that an element is an object of allowed members that can be stored.

    `allowed` is None where any member is; `levels` are those of arrays and objects around
    the element that count as nesting (-1: the element itself is none); `sound` says that
    the text is known to be flawless.

    Raises:
        Rejected: it is not.
    """
    if not sound and (flaw := find_flaw(element, "", levels)):
        raise flaw
    if not isinstance(element, dict):
        raise Rejected(RejectionReason.WRONG_TYPE, "the element is not an object")
    if allowed is None or element.keys() <= allowed:
        return
    raise UnknownMemberError((name for name in element if name not in allowed), allowed)


class Addressee(Protocol):
    """The sensor that a topic or a path names."""

    @property
    def identifier(self) -> str:
        """Its UUID, in small letters."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it goes by."""
        ...


Read: TypeAlias = Callable[[Any, int, bool], Reading]


def decode_measurements(
    payload: bytes,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    addressee: Addressee | None = None,
) -> Decoded:
    """Return the rows of a measurement message, and what is wrong with the rest.

    Row ids count from `first_id`; rows without a device time get `untimed_from`,
    `untimed_from` + 1 and so on as their timestamps. An element that names a device has to name
    the `addressee`.
    """
    if len(payload) <= MAXIMUM_PAYLOAD_BYTES:
        decoded = _decode_typed(
            payload, "measurements", sensor, first_id, now, untimed_from, addressee
        )
        if decoded is not None:
            return decoded
    read = functools.partial(_read_addressed, addressee)
    return _decode("measurements", read, payload, sensor, first_id, now, untimed_from)


def decode_logs(payload: bytes, *arguments: Any) -> Decoded:
    """Return the rows of a log message, and what is wrong with the rest.

    The arguments are those of `decode_measurements`.
    """
    return _decode("log_messages", _read_log, payload, *arguments)


def decode_heartbeats(payload: bytes, *arguments: Any) -> Decoded:
    """Return the rows of a heartbeat message, and what is wrong with the rest.

    The arguments are those of `decode_measurements`. No member is required, and so an empty
    payload is a sign of life like `{}`. Members that no column has become the details.
    """
    return _decode("heartbeats", _read_heartbeat, payload or b"{}", *arguments)


def flaw_in(kind: Kind, element: bytes, moment: int) -> str | None:
    """Return why an element would be rejected at that moment, as far as it shows itself."""
    decode = _DECODERS[kind]
    faults = decode(element, 0, 0, moment, moment).faults
    return f"{faults[0].reason}: {faults[0].detail}" if faults else None


_DECODERS: Final[dict[Kind, Callable[..., Decoded]]] = {
    Kind.MEASUREMENT: decode_measurements,
    Kind.LOG: decode_logs,
    Kind.HEARTBEAT: decode_heartbeats,
}


def decode_status(payload: bytes) -> str:
    """Return `online` or `offline`, whatever their case and the white space around them.

    Raises:
        Rejected: neither of them.
    """
    status = payload[:100].strip().lower().decode("ascii", "replace")
    if status not in _STATUSES or len(payload) > 100:
        raise Rejected(
            RejectionReason.INVALID_STATUS, f"status {quoted(status)} is not online or offline"
        )
    return status


def decode_reading(payload: bytes, now: int) -> Reading:
    """Return the reading in the body of a request.

    Raises:
        Rejected: it is none.
    """
    typed: list[Reading] = []
    if len(payload) <= MAXIMUM_PAYLOAD_BYTES and _decode_typed(
        payload, None, 0, 0, now, 0, readings=typed
    ):
        return typed[0]
    return read_measurement(*_parse(payload, now))


class BatchPart(NamedTuple):
    """What a batch says of one kind, as an array of that name; indexes count within it."""

    name: str
    kind: Kind
    readings: list[tuple[int, Reading]]
    faults: list[Fault]


def decode_batch(payload: bytes, now: int) -> list[BatchPart]:
    """Return what an array of readings says, or an object with an array of each kind.

    Raises:
        Rejected: the body as a whole is not readable, or has too many elements.
    """
    typed: list[Reading] = []
    if len(payload) <= MAXIMUM_BATCH and _decode_typed(
        payload, READINGS, 0, 0, now, 0, readings=typed
    ):
        parts = [BatchPart(READINGS, Kind.MEASUREMENT, list(enumerate(typed)), [])]
    else:
        message, _, sound = _parse(payload, now, MAXIMUM_BATCH)
        parts = []
        for name, elements in _arrays_of(message).items():
            kind, read = _BATCH[name]
            faults: list[Fault] = []
            readings = _read_each(elements, read, now, sound, faults)
            parts.append(BatchPart(name, kind, readings, faults))
    return parts if len(payload) <= MAXIMUM_PAYLOAD_BYTES else [*map(_without_large, parts)]


def _arrays_of(message: Any) -> dict[str, list[Any]]:
    """Return the arrays of a batch by their names.

    Raises:
        Rejected: it is neither of the shapes, or has too many elements.
    """
    if not isinstance(message, dict):
        return {READINGS: elements_of(message, READINGS)}
    given = [name for name in _BATCH if name in message]
    if not given:
        raise Rejected(
            RejectionReason.MISSING_MEMBER,
            "neither an array nor an object with readings, log_messages or heartbeats",
        )
    unknown = {name: message[name] for name in message if name not in _BATCH}
    arrays = {name: elements_of({name: message[name], **unknown}, name) for name in given}
    if (count := sum(map(len, arrays.values()))) > MAXIMUM_ELEMENTS:
        raise too_many_elements(count)
    return arrays


def _without_large(part: BatchPart) -> BatchPart:
    """Reject what no message by itself could hold: nothing that reads it expects rows so large."""
    kept, faults = [], part.faults
    for index, reading in part.readings:
        size = sum(len(text.encode()) for text in reading.columns if text.__class__ is str)
        if size <= MAXIMUM_PAYLOAD_BYTES:
            kept.append((index, reading))
            continue
        detail = f"{size} bytes of content are more than {MAXIMUM_PAYLOAD_BYTES} bytes"
        faults.append(Fault(index, RejectionReason.TOO_LARGE, detail))
    return part._replace(readings=kept, faults=sorted(faults, key=lambda fault: fault.index or 0))


def decode_elements(kind: Kind, payload: bytes, now: int, addressee: Addressee) -> BatchPart:
    """Return what a message of this kind says element by element, and what is wrong with it."""
    member, read = _MESSAGES[kind]
    if kind is Kind.MEASUREMENT:
        read = functools.partial(_read_addressed, addressee)
    elif kind is Kind.HEARTBEAT:
        payload = payload or b"{}"
    return BatchPart(member, kind, *_read_message(member, read, payload, now))


def _read_message(
    member: str, read: Read, payload: bytes, now: int
) -> tuple[list[tuple[int, Reading]], list[Fault]]:
    faults: list[Fault] = []
    try:
        message, _, sound = _parse(payload, now)
        return _read_each(elements_of(message, member), read, now, sound, faults), faults
    except Rejected as rejected:
        return [], [*faults, rejected.fault]


def _decode(
    member: str,
    read: Read,
    payload: bytes,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    _addressee: Addressee | None = None,
) -> Decoded:
    good, faults = _read_message(member, read, payload, now)
    rows: list[tuple[Any, ...]] = []
    untimed = untimed_from
    for position, (_, reading) in enumerate(good):
        rows.append(reading.row(first_id + position * INGEST_ID_STEP, sensor, now, untimed))
        untimed += reading.timestamp is None
    identities = [(at, each.identity) for at, (_, each) in enumerate(good) if each.identity]
    indexes = [index for index, _ in good] if faults else None
    attributes = [each.names for _, each in good if each.names is not _NO_NAMES]
    return Decoded(rows, faults, untimed != untimed_from, identities, indexes, attributes)


def _parse(payload: bytes, now: int, maximum: int = MAXIMUM_PAYLOAD_BYTES) -> tuple[Any, int, bool]:
    """Return a message for `Read`: parsed, the time, and whether its text is known to be flawless.

    Raises:
        Rejected: it is too large or not JSON.
    """
    message = read_vouched(payload, _decode_any) if len(payload) <= maximum else None
    if message is not None:
        return message, now, True
    return read_exactly(payload, maximum), now, False


def _read_each(
    elements: list[Any], read: Read, now: int, sound: bool, faults: list[Fault]
) -> list[tuple[int, Reading]]:
    """Return what each good element says, with its index; add a fault for each bad one."""
    good = []
    for index, element in enumerate(elements):
        try:
            good.append((index, read(element, now, sound)))
        except Rejected as rejected:
            fault = rejected.fault if len(faults) < _EXPLAINED else rejected.plain
            faults.append(Fault(index, fault.reason, fault.detail))
    return good


_Identity: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAXIMUM_IDENTITY)]
_Revision: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAXIMUM_REVISION)]


# `_decode_typed` tells by its colons that there is an object in an object: an empty one has none.
_Metrics: TypeAlias = Annotated[dict[str, nested(2, least=1)], msgspec.Meta(min_length=1)]  # type: ignore[misc, valid-type]  # built at run time
_Value: TypeAlias = Scalar | list[nested(2, least=1)] | _Metrics  # type: ignore[misc, valid-type]  # built at run time


class _Element(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An element that says what holds its content; any other is flat."""

    value: _Value | msgspec.UnsetType = msgspec.UNSET
    timestamp: Integer | float | str | msgspec.UnsetType | None = msgspec.UNSET
    revision: _Revision | msgspec.UnsetType | None = msgspec.UNSET
    id: _Identity | msgspec.UnsetType | None = msgspec.UNSET
    metrics: _Metrics | msgspec.UnsetType = msgspec.UNSET
    device_id: str | msgspec.UnsetType | None = msgspec.UNSET


class _Measurements(_Element, forbid_unknown_fields=True, gc=False):
    """An envelope or a lone element."""

    measurements: list[_Element] | msgspec.UnsetType = msgspec.UNSET


class _Readings(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    readings: list[_Element]


def _decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode


_decode_flat = _decoder(dict[str, nested(4, least=1)] | list[_Metrics])  # type: ignore[misc]  # built at run time
# By the member that an envelope has. The second of each takes what is flat.
_TYPED: Final = {
    "measurements": (_decoder(_Measurements | list[_Element]), _decode_flat),
    "readings": (_decoder(_Readings | list[_Element]), _decode_flat),
    None: (_decoder(_Element), _decoder(_Metrics)),
}
# An envelope, its array, an element, and three levels of value: deeper ones are read exactly.
_decode_any = _decoder(nested(6))


def _decode_typed(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one loop, unrolled for speed
    payload: bytes,
    member: str | None,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    addressee: Addressee | None = None,
    readings: list[Reading] | None = None,
) -> Decoded | None:
    """Return the rows of a message that is wholly good; None if that is not certain.

    Types don't see repeated keys, but each colon of the payload has to be that of a member that was
    read, or stand in a text: one that is left over is a repeated key's. With `readings`, what is
    read is added there, and no rows are made.
    """
    for decode in _TYPED[member]:
        try:
            message = decode(payload)
            break
        except msgspec.ValidationError:
            continue  # of the other shape?
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
    else:
        return None
    if BACKSLASH in payload and has_suspicious_escape(payload):
        return None
    colons = payload.count(b":")
    elements = message
    if message.__class__ is not list:
        if message.__class__ is dict:
            elements = message[member] if message.keys() == {member} else None
            if elements.__class__ is list and {*map(type, elements)} - {dict}:
                return None
        else:
            elements = getattr(message, member, None) if member else None
        if elements.__class__ is list:
            colons -= 1
        elif member == "readings":
            return None
        else:
            elements = [message]
    if len(elements) > MAXIMUM_ELEMENTS:
        return None
    latest = (now + DAY) / 1e6
    untimed, row_id = untimed_from, first_id
    rows: list[tuple[Any, ...]] = []
    identities: list[tuple[int, str]] = []
    attributes: list[Attributes] = []
    shape: tuple[str, ...] | None = None
    is_wrapped = False
    names = last = _NO_NAMES
    value: Any
    try:
        for element in elements:
            moment = device_timestamp = identity = device_id = None
            if element.__class__ is dict:
                value = element
                colons -= len(value)
                timestamp = value.pop("timestamp", None)
                revision = read_revision(value.pop("revision", None))
                device_id = value.pop("device_id", None)
                if "id" in value and (value["id"] is None or value["id"].__class__ is str):
                    identity = read_identity(value.pop("id"))
                if "creation_timestamp" in value or not _RESERVED.isdisjoint(value):
                    return None
                for each in value.values():
                    if each.__class__ in _SCALARS:
                        break
                else:
                    return None
                if device_id is not None and device_id.__class__ is not str:
                    return None
            else:
                value, timestamp, revision = element.value, element.timestamp, element.revision
                colons -= 1
                if value is msgspec.UNSET:
                    value = element.metrics
                    if value is msgspec.UNSET:
                        return None
                if value.__class__ is dict:
                    colons -= len(value)
                if revision is msgspec.UNSET:
                    revision = None
                else:
                    colons -= 1
                if timestamp is not msgspec.UNSET:
                    colons -= 1
                if element.id is not msgspec.UNSET:
                    identity = element.id
                    colons -= 1
                if element.device_id is not msgspec.UNSET:
                    device_id = element.device_id
                    colons -= 1
            if device_id is not None and not _is_meant(device_id, addressee):
                return None
            if timestamp.__class__ is float and 1e9 <= timestamp <= latest:
                moment = round(timestamp * 1e6)
            elif timestamp is not msgspec.UNSET and timestamp is not None:
                if timestamp.__class__ is str:
                    colons -= timestamp.count(":")
                moment, device_timestamp = read_timestamp(timestamp, now)
            text = telling = canonical(value)
            if value.__class__ is dict:
                keys = tuple(value)
                inside = text.count(b":") - len(keys)
                if keys != shape or inside:
                    colons -= inside
                    shape = keys
                    names = attributes_of(value)
                    if len(names) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
                        return None
                    is_wrapped = keys == WHOLE
                if is_wrapped:
                    telling = telling_text(value, text)
            else:
                shape, names = None, VALUE_ONLY
                if value.__class__ is not float:
                    colons -= text.count(b":")
            number = measurement_fingerprint(revision, telling, identity)
            if readings is not None:
                columns = (text.decode(),) if identity is None else (text.decode(), identity)
                readings.append(
                    Reading(
                        moment, number, revision, device_timestamp, columns, identity, names,
                        device_id,
                    )
                )  # fmt: skip
                continue
            if moment is None:
                moment = untimed
                untimed += 1
            if names is not last:
                attributes.append(names)
                last = names
            if identity is None:
                rows.append(
                    (row_id, sensor, moment, number, now, revision, device_timestamp, text.decode())
                )
            else:
                identities.append((len(rows), identity))
                rows.append(
                    (row_id, sensor, moment, number, now, revision, device_timestamp, text.decode(),
                     identity)
                )  # fmt: skip
            row_id += INGEST_ID_STEP
    except Rejected:
        return None
    if colons:
        return None
    return _new(Decoded, (rows, [], untimed != untimed_from, identities, None, attributes))


def _is_meant(device_id: str, addressee: Addressee | None) -> bool:
    # A UUID may be in capitals; to a device_id they make a difference.
    return (
        addressee is None
        or device_id in addressee.names
        or device_id.lower() == addressee.identifier
    )


def _read_addressed(addressee: Addressee | None, element: Any, now: int, sound: bool) -> Reading:
    reading = read_measurement(element, now, sound)
    if reading.device_id is not None and not _is_meant(reading.device_id, addressee):
        raise Rejected(
            RejectionReason.UNKNOWN_SENSOR,
            f"device_id {quoted(reading.device_id)} names another sensor than the one it was sent"
            " to",
        )
    return reading


def read_measurement(element: Any, now: int, sound: bool) -> Reading:
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
        frame = _read_frame(element, now)
        value = _held(element, holder, frame.identity)
    device_id = element.get("device_id")
    if device_id is not None and not isinstance(device_id, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "device_id is not a text")
    names = attributes_of(value)
    if len(names) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
        raise Rejected(
            RejectionReason.TOO_MANY_ATTRIBUTES,
            f"{len(names)} attributes are more than {MAXIMUM_ATTRIBUTES_OF_MEASUREMENT}",
        )
    timestamp, device_timestamp, revision, identity = frame
    text = canonical(value)
    telling = telling_text(value, text)
    return Reading(
        timestamp,
        measurement_fingerprint(revision, telling, identity),
        revision,
        device_timestamp,
        _columns(identity, text.decode()),
        identity,
        names,
        device_id,
    )


def _columns(identity: str | None, *columns: Any) -> tuple[Any, ...]:
    return columns if identity is None else (*columns, identity)


def _held(element: dict[str, Any], holder: str | None, identity: str | None) -> Any:
    if holder is None:
        raise _nothing_measured()
    value = element[holder]
    if holder == "value":
        return value
    if not isinstance(value, dict):
        raise Rejected(RejectionReason.WRONG_TYPE, "metrics is not an object")
    # A value without attributes has none in history either: posted back, its id names it.
    if not value and (identity is None or as_ingest_id(identity) is None):
        raise _nothing_measured()
    return value


def _read_flat(element: dict[str, Any], now: int) -> tuple[dict[str, Any], _Frame]:
    identity = element.get("id")
    if identity.__class__ is str:
        read_identity(identity)
    # What is no text is a metric that happens to be called so.
    is_named = identity is None or identity.__class__ is str
    frame_members = _FRAME if is_named else _FRAME - {"id"}
    metrics = {name: member for name, member in element.items() if name not in frame_members}
    if not metrics:
        raise _nothing_measured()
    if metrics.keys() >= _ANSWERED_MEASUREMENT:
        raise Rejected(
            RejectionReason.UNKNOWN_MEMBER,
            "`creation_timestamp` and `measurement` are of an answer; what can be sent back is that"
            " of GET /devices/{device_id}/history",
        )
    if "measurements" in metrics or not any(
        member.__class__ in _SCALARS for member in metrics.values()
    ):
        raise _not_flat(metrics)
    return metrics, _read_frame({name: element.get(name) for name in frame_members}, now)


def _nothing_measured() -> Rejected:
    return Rejected(RejectionReason.MISSING_MEMBER, "there is neither a value nor a metric in it")


def _not_flat(metrics: dict[str, Any]) -> Rejected:
    if "measurements" in metrics:
        return Rejected(
            RejectionReason.UNKNOWN_MEMBER, "'measurements' holds elements, and is not in one"
        )
    otherwise = ": without a number, a boolean or a text beside it, it goes into `value`"
    return UnknownMemberError(metrics, _RESERVED, otherwise)


def _read_log(element: Any, now: int, sound: bool) -> Reading:
    # `message` stands for `subject`, not beside it.
    aliased = isinstance(element, dict) and "message" in element and "subject" not in element
    allowed = _LOG_MEMBERS_WITH_MESSAGE if aliased else _LOG_MEMBERS
    check_element(element, allowed, levels=-1, sound=sound)
    timestamp, device_timestamp, revision, identity = _read_frame(element, now)
    severity = _read_text(element, "severity")
    if severity not in _SEVERITIES:
        raise Rejected(
            RejectionReason.WRONG_TYPE,
            f"severity {quoted(severity)} is none of {', '.join(Severity)}",
        )
    subject = _read_text(element, "message" if aliased else "subject")
    details = element.get("details")
    if details is not None and not isinstance(details, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "details is neither a text nor null")
    content = severity, subject, details
    number = fingerprint(Kind.LOG, revision, *content, element_id=identity)
    columns = _columns(identity, *content)
    return Reading(timestamp, number, revision, device_timestamp, columns, identity)


def _read_text(element: dict[str, Any], name: str) -> str:
    text = element.get(name)
    if isinstance(text, str):
        return text
    if name in element:
        raise Rejected(RejectionReason.WRONG_TYPE, f"{name} is not a text")
    raise Rejected(RejectionReason.MISSING_MEMBER, f"{name} is missing")


def _read_heartbeat(element: Any, now: int, sound: bool) -> Reading:
    # The details are an object made of the element's members: their first level is its own.
    check_element(element, None, levels=0, sound=sound)
    if element.keys() >= _ANSWERED_HEARTBEAT:
        raise Rejected(
            RejectionReason.UNKNOWN_MEMBER,
            "`creation_timestamp` and `flagged` are of an answer, which is no heartbeat",
        )
    timestamp, device_timestamp, revision, identity = _read_frame(element, now)
    success = element.get("success")
    if success is not None and not isinstance(success, bool):
        raise Rejected(RejectionReason.WRONG_TYPE, "success is neither true, false nor null")
    others = {name: member for name, member in element.items() if name not in _HEARTBEAT_MEMBERS}
    details = canonical(others).decode() if others else None
    number = fingerprint(Kind.HEARTBEAT, revision, success, details, element_id=identity)
    columns = _columns(identity, success, details)
    return Reading(timestamp, number, revision, device_timestamp, columns, identity)


def _read_named(read: Read, element: Any, now: int, sound: bool) -> Reading:
    """Return what an element says that names its sensor by a member `device_id`."""
    if not isinstance(element, dict) or "device_id" not in element:
        return read(element, now, sound)
    named = element.pop("device_id")
    if not sound and (flaw := find_flaw(named, "device_id", 0)):
        raise flaw
    if named is not None and not isinstance(named, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "device_id is not a text")
    return msgspec.structs.replace(read(element, now, sound), device_id=named)


# The member that an envelope of each kind has, and how its elements are read.
_MESSAGES: Final[dict[Kind, tuple[str, Read]]] = {
    Kind.MEASUREMENT: ("measurements", read_measurement),
    Kind.LOG: ("log_messages", _read_log),
    Kind.HEARTBEAT: ("heartbeats", _read_heartbeat),
}
READINGS: Final = "readings"
# What a batch may hold, by the names of its arrays.
_BATCH: Final[dict[str, tuple[Kind, Read]]] = {
    READINGS: (Kind.MEASUREMENT, read_measurement),
    "log_messages": (Kind.LOG, functools.partial(_read_named, _read_log)),
    "heartbeats": (Kind.HEARTBEAT, functools.partial(_read_named, _read_heartbeat)),
}


def payload_of(event: Committed) -> bytes:
    """Return the rows of an event as the payload of their topic, timestamps included."""
    member, element_of = _ELEMENTS[event.kind]
    return _encode({member: [element_of(row) for row in event.rows]})


def _frame(row: tuple[Any, ...], columns: int) -> dict[str, Any]:
    frame: dict[str, Any] = {"revision": row[5], "timestamp": to_element_time(row[2])}
    # Behind a heartbeat's columns it also says whether it is flagged.
    if len(row) > columns and row[columns].__class__ is str:
        frame["id"] = row[columns]
    return frame


def _heartbeat(row: tuple[Any, ...]) -> dict[str, Any]:
    details = msgspec.json.decode(row[8]) if row[8] else {}
    return {**_frame(row, 9), "success": row[7], **details}


# By kind: the member that an envelope has, and a row as an element of it.
_ELEMENTS: Final[dict[Kind, tuple[str, Callable[[tuple[Any, ...]], dict[str, Any]]]]] = {
    Kind.MEASUREMENT: (
        "measurements",
        lambda row: {**_frame(row, 8), "value": msgspec.Raw(row[7].encode())},
    ),
    Kind.LOG: (
        "log_messages",
        lambda row: {
            "severity": row[7],
            **_frame(row, 10),
            "subject": row[8],
            "details": row[9],
        },
    ),
    Kind.HEARTBEAT: ("heartbeats", _heartbeat),
}

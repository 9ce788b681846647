"""Measurement messages, the hottest code of all: about two microseconds each."""

from typing import Annotated, Any, TypeAlias

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.attributes import MAXIMUM_ATTRIBUTES, VALUE_ONLY, Attributes, attributes_of
from heliograph.ingest.elements import (
    MAXIMUM_IDENTITY,
    MAXIMUM_REVISION,
    Collector,
    check_element,
    read_frame,
    read_timestamp,
)
from heliograph.ingest.json_checks import (
    MAXIMUM_ELEMENTS,
    MAXIMUM_PAYLOAD,
    Integer,
    Rejected,
    count_colons,
    has_suspicious_escape,
    nested,
)
from heliograph.ingest.outcome import Decoded
from heliograph.model.canonical import canonical, measurement_fingerprint
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.time import DAY

_MEMBERS = frozenset({"revision", "timestamp", "value", "id"})
_BACKSLASH = 0x5C
_new = tuple.__new__  # of a named tuple, without the call of its own constructor

_Identity: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAXIMUM_IDENTITY)]


class _DoubtfulError(Exception):
    """The quick way can't vouch for the message."""


class _Element(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    value: nested(3) | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]  # built at run time
    timestamp: Integer | float | str | msgspec.UnsetType | None = msgspec.UNSET
    revision: Annotated[int, msgspec.Meta(ge=0, le=MAXIMUM_REVISION)] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    id: _Identity | msgspec.UnsetType | None = msgspec.UNSET


class _Message(_Element, forbid_unknown_fields=True, gc=False):
    """An envelope or a lone element; one that is both has a colon too many."""

    measurements: list[_Element] | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Message | list[_Element]).decode


def decode_measurements(
    payload: bytes, sensor: int, first_id: int, now: int, untimed_from: int
) -> Decoded:
    """Return the rows of a measurement message, and what is wrong with the rest.

    Row ids count from `first_id`; rows without a device time get `untimed_from`,
    `untimed_from` + 1 and so on as their timestamps.
    """
    if len(payload) <= MAXIMUM_PAYLOAD:
        try:
            return _decode_sound(payload, sensor, first_id, now, untimed_from)
        except (
            msgspec.MsgspecError,
            UnicodeError,
            RecursionError,
            Rejected,
            _DoubtfulError,
        ):
            pass
    return _decode_singly(payload, sensor, first_id, now, untimed_from)


def _decode_sound(  # noqa: C901, PLR0912 - one loop, unrolled for speed
    payload: bytes, sensor: int, first_id: int, now: int, untimed_from: int
) -> Decoded:
    """Return the rows of a message that is wholly good, or raise one of many errors.

    Colons and braces in the payload are accounted for, one by one: a colon that remains is
    that of a repeated key or stands in a text, a brace one of a nested object or in a text.
    """
    has_escapes = _BACKSLASH in payload
    elements, colons, braces = _open(payload, has_escapes=has_escapes)
    latest = (now + DAY) / 1e6
    untimed = untimed_from
    row_id = first_id
    rows: list[tuple[Any, ...]] = []
    identities: list[tuple[int, str]] = []
    attributes: list[Attributes] = []
    for element in elements:
        value = element.value
        timestamp = element.timestamp
        revision = element.revision
        identity = element.id
        moment = device_timestamp = None
        names: Attributes = VALUE_ONLY
        if value.__class__ is dict:
            names = value.keys()
            if len(names) > MAXIMUM_ATTRIBUTES:
                raise _DoubtfulError
            colons -= len(names)
            braces -= 1
            if has_escapes or "." in "".join(value):
                names = attributes_of(value)
        elif value is msgspec.UNSET:
            raise _DoubtfulError
        if timestamp.__class__ is float and 1e9 <= timestamp <= latest:
            colons -= 1
            moment = round(timestamp * 1e6)
        elif timestamp is not msgspec.UNSET:
            colons -= 1 + count_colons(timestamp)
            moment, device_timestamp = read_timestamp(timestamp, now)
        if moment is None:
            moment = untimed
            untimed += 1
        if revision is msgspec.UNSET:
            revision = None
        else:
            colons -= 1
        if identity is not msgspec.UNSET:
            colons -= 1 + count_colons(identity)
            if identity is not None:
                identities.append((len(rows), identity))
        text = canonical(value)
        number = measurement_fingerprint(revision, text)
        rows.append(
            (row_id, sensor, moment, number, now, revision, device_timestamp, text.decode())
        )
        attributes.append(names)
        row_id += INGEST_ID_STEP
    if colons or braces:
        _look_closer(colons, elements, attributes)
    return _new(Decoded, (rows, [], untimed != untimed_from, identities, None, attributes))


def _open(payload: bytes, *, has_escapes: bool) -> tuple[Any, int, int]:
    """Return the elements, and the colons and braces that are left for the values' members."""
    message = _decode(payload)
    if has_escapes and has_suspicious_escape(payload):
        raise _DoubtfulError
    colons = payload.count(b":")
    braces = payload.count(b"{")
    if message.__class__ is list:
        elements = message
    elif message.measurements is msgspec.UNSET:
        elements = [message]
    else:
        elements = message.measurements
        colons -= 1
        braces -= 1
    if len(elements) > MAXIMUM_ELEMENTS:
        raise _DoubtfulError
    return elements, colons - len(elements), braces - len(elements)


def _look_closer(colons: int, elements: list[_Element], attributes: list[Attributes]) -> None:
    """Account for colons in nested objects and in texts, and name nested objects' members."""
    for position, element in enumerate(elements):
        value = element.value
        colons -= count_colons(value)
        if isinstance(value, dict):
            colons += len(value)
            attributes[position] = names = attributes_of(value)
            if len(names) > MAXIMUM_ATTRIBUTES:
                raise _DoubtfulError
    if colons:
        raise _DoubtfulError


def _decode_singly(
    payload: bytes, sensor: int, first_id: int, now: int, untimed_from: int
) -> Decoded:
    """Return the rows of the good elements of any message, and a fault for each bad one."""
    collector = Collector(sensor, first_id, now, untimed_from)
    return collector.collect(payload, "measurements", _collect)


def _collect(collector: Collector, index: int, element: Any, *, sound: bool) -> None:
    # The value's own array or object is the first level, so the element is none.
    check_element(element, _MEMBERS, levels=-1, sound=sound)
    if "value" not in element:
        raise Rejected(RejectionReason.MISSING_MEMBER, "value is missing")
    frame = read_frame(element, collector.now)
    value = element["value"]
    names = attributes_of(value)
    if len(names) > MAXIMUM_ATTRIBUTES:
        raise Rejected(
            RejectionReason.TOO_MANY_ATTRIBUTES,
            f"value has {len(names)} attributes, more than {MAXIMUM_ATTRIBUTES}",
        )
    text = canonical(value)
    collector.add(index, frame, measurement_fingerprint(frame.revision, text), (text.decode(),))
    collector.attributes.append(names)

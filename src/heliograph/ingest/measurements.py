"""Measurement messages, the hottest code of all: about two microseconds each."""

from typing import Any

import msgspec

from heliograph.errors import RejectionReason
from heliograph.ingest.attributes import VALUE_ONLY, Attributes, attributes_of
from heliograph.ingest.elements import Addressee, Collector, ElementFrame, read_timestamp
from heliograph.ingest.json_checks import (
    Rejected,
    count_colons,
    nested,
    quoted,
)
from heliograph.ingest.outcome import Decoded
from heliograph.ingest.readings import read_measurement
from heliograph.ingest.sound import BACKSLASH, DOUBTFUL, DoubtfulError, Framed, account_for
from heliograph.model.canonical import canonical, measurement_fingerprint, telling_text
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_MEASUREMENT, MAXIMUM_PAYLOAD_BYTES
from heliograph.model.time import DAY

_WRAPPED = ("value",)
_new = tuple.__new__  # of a named tuple, without the call of its own constructor


class _Element(Framed, forbid_unknown_fields=True, gc=False):
    value: nested(3) | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]  # built at run time


class _Message(_Element, forbid_unknown_fields=True, gc=False):
    """An envelope or a lone element; one that is both has a colon too many."""

    measurements: list[_Element] | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Message | list[_Element]).decode


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
        try:
            return _decode_sound(payload, sensor, first_id, now, untimed_from)
        except DOUBTFUL:
            pass
    return _decode_singly(payload, sensor, first_id, now, untimed_from, addressee)


def _decode_sound(  # noqa: PLR0912, PLR0915 - one loop, unrolled for speed
    payload: bytes, sensor: int, first_id: int, now: int, untimed_from: int
) -> Decoded:
    """Return the rows of a message that is wholly good, or raise one of `DOUBTFUL`."""
    message = _decode(payload)
    enveloped = msgspec.UNSET if message.__class__ is list else message.measurements
    has_escapes = BACKSLASH in payload
    elements, colons, braces = account_for(payload, message, enveloped, has_escapes=has_escapes)
    colons -= len(elements)
    latest = (now + DAY) / 1e6
    untimed, row_id = untimed_from, first_id
    rows: list[tuple[Any, ...]] = []
    identities: list[tuple[int, str]] = []
    attributes: list[Attributes] = []
    shape: tuple[str, ...] | None = None
    is_wrapped = False
    for element in elements:
        value = element.value
        timestamp = element.timestamp
        revision = element.revision
        identity = element.id
        moment = device_timestamp = None
        if value.__class__ is dict:
            names = tuple(value)
            colons -= len(names)
            braces -= 1
            if names != shape:
                shape = names
                is_wrapped = names == _WRAPPED
                attributes.append(_named(value, has_escapes=has_escapes))
        elif value is msgspec.UNSET:
            raise DoubtfulError
        else:
            attributes.append(VALUE_ONLY)
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
        if identity is msgspec.UNSET:
            identity = None
        else:
            colons -= 1 + count_colons(identity)
        text = canonical(value)
        told = telling_text(value, text) if is_wrapped else text
        if identity is None:
            number = measurement_fingerprint(revision, told)
            rows.append(
                (row_id, sensor, moment, number, now, revision, device_timestamp, text.decode())
            )
        else:
            number = measurement_fingerprint(revision, told, identity)
            identities.append((len(rows), identity))
            rows.append(
                (row_id, sensor, moment, number, now, revision, device_timestamp, text.decode(),
                 identity)
            )  # fmt: skip
        row_id += INGEST_ID_STEP
    if colons or braces:
        attributes = _look_closer(colons, elements)
    return _new(Decoded, (rows, [], untimed != untimed_from, identities, None, attributes))


def _named(value: dict[str, Any], *, has_escapes: bool) -> Attributes:
    if len(value) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
        raise DoubtfulError
    return attributes_of(value) if has_escapes or "." in "".join(value) else value.keys()


def _look_closer(colons: int, elements: list[_Element]) -> list[Attributes]:
    """Account for colons in nested objects and in texts, and name nested objects' members."""
    attributes: list[Attributes] = []
    for element in elements:
        value = element.value
        colons -= count_colons(value)
        if isinstance(value, dict):
            colons += len(value)
        names = attributes_of(value)
        if len(names) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
            raise DoubtfulError
        attributes.append(names)
    if colons:
        raise DoubtfulError
    return attributes


def _decode_singly(
    payload: bytes,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    addressee: Addressee | None = None,
) -> Decoded:
    """Return the rows of the good elements of any message, and a fault for each bad one."""
    collector = Collector(sensor, first_id, now, untimed_from, addressee)
    return collector.collect(payload, "measurements", _collect)


def _collect(collector: Collector, index: int, element: Any, *, sound: bool) -> None:
    reading = read_measurement(element, collector.now, sound=sound)
    if reading.device_id is not None:
        _check_addressee(reading.device_id, collector.addressee)
    frame = ElementFrame(
        reading.timestamp, reading.device_timestamp, reading.revision, reading.identity
    )
    collector.add(index, frame, reading.fingerprint, (reading.text,))
    collector.attributes.append(reading.names)


def _check_addressee(device_id: str, addressee: Addressee | None) -> None:
    # A UUID may be in capitals; to a device_id they make a difference.
    if addressee is not None and not (
        device_id in addressee.names or device_id.lower() == addressee.identifier
    ):
        raise Rejected(
            RejectionReason.UNKNOWN_SENSOR,
            f"device_id {quoted(device_id)} names another sensor than the one it was sent to",
        )

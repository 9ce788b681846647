"""What is read from a file: elements as devices send them, each with its place and its sensor."""

from typing import Any, NamedTuple

import msgspec

from heliograph.model.records import Kind
from heliograph.model.time import (
    EARLIEST,
    SECOND,
    counts_from_boot,
    from_rfc3339,
    to_epoch_seconds,
)

# Members of every line of an export that no element has.
_STORED_ONLY = frozenset(("kind", "sensor_identifier", "device_id", "receipt_timestamp"))
_ENVELOPES = {"metrics": "value", "measurement": "value"}

_Raw = msgspec.Raw
_NULL = _Raw(b"null")
# 2106: until then every microsecond has epoch seconds of its own, on whatever way they are read.
LATEST_EXACT = SECOND << 32
# As JSON, Python and spreadsheets write them.
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), _Raw(b"true")),
    **dict.fromkeys(("false", "False", "FALSE"), _Raw(b"false")),
}
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_any = msgspec.json.Decoder().decode

FROM_BOOT = "is that of a clock that counts from its boot, and no time"


class BadLineError(ValueError):
    """A line says nothing that can be stored; the message says why."""


class NoValueError(BadLineError):
    """A row of a table has a time and nothing else: nothing to store, and nothing wrong."""


class Element(NamedTuple):
    """An element to send: its JSON text, and the names of its sensor, the first one preferred."""

    kind: Kind
    sensors: tuple[str, ...]
    text: bytes


def from_json_line(line: bytes, kind: Kind = Kind.MEASUREMENT) -> Element:
    """Return what a line of JSON says: one of an export, or an element of MQTT's payloads.

    `kind` is that of a line which does not say its own.

    Raises:
        BadLineError: it can't be used.
    """
    try:
        members = _members(line)
        # Skipping over a value does not check all of it.
        _any(line)
        said = _text(members["kind"]) if "kind" in members else kind.value
        names = tuple(
            name
            for member in ("sensor_identifier", "device_id")
            if member in members and (name := _text(members[member]))
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLineError(f"not a JSON object as it is exported: {_flaw(error)}") from error
    if said not in (Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT):
        raise BadLineError("kind is none of measurement, log, heartbeat")
    kind = Kind(said)
    element = {name: text for name, text in members.items() if name not in _STORED_ONLY}
    if bytes(element.get("device_timestamp", b"null")) == b"null":
        element.pop("device_timestamp", None)
    # As in the other forms of a file: there `id` may be anything, a number of the row say.
    element_id = element.pop("element_id", msgspec.Raw(b"null"))
    if bytes(element_id) != b"null":
        element["id"] = element_id
    if kind is Kind.MEASUREMENT:
        for name, stands_for in _ENVELOPES.items():
            if name in element and stands_for not in element:
                element[stands_for] = element.pop(name)
    return make_element(kind, names, element)


def make_element(kind: Kind, names: tuple[str, ...], element: dict[str, msgspec.Raw]) -> Element:
    """Return the element; a heartbeat's details become members of their own again.

    Raises:
        BadLineError: it has no time, so that sent again it would be stored again.
    """
    element["timestamp"] = _checked_time(element.get("timestamp", _NULL))
    # What a device without a clock gave is not asked for again: the time is the stored one.
    element.pop("device_timestamp", None)
    if kind is Kind.HEARTBEAT and "details" in element:
        details = bytes(element.pop("details"))
        if details != b"null":
            try:
                element |= _members(details)
            except msgspec.DecodeError as error:
                raise BadLineError(f"details is not an object: {_flaw(error)}") from error
    return Element(kind, names, _encode(element))


def _checked_time(given: msgspec.Raw) -> msgspec.Raw:
    """Return the time as it is sent: as epoch seconds, which a server reads faster than texts.

    It is not one that is taken for none, that of a clock without a date: those are numbers before
    2001-09-09, so that earlier texts stay texts, and 1970. Whether it is a time at all is checked
    where it is sent.

    Raises:
        BadLineError: there is none.
    """
    moment = _any(given)
    if moment is None:
        raise BadLineError("timestamp is missing")
    if isinstance(moment, str):
        try:
            microseconds = from_rfc3339(moment)
        except ValueError:
            return given
        if EARLIEST <= microseconds < LATEST_EXACT:
            return json_text(to_epoch_seconds(microseconds))
        is_none = counts_from_boot(moment, microseconds)
    else:
        is_none = isinstance(moment, int | float) and moment < EARLIEST // SECOND
    if is_none:
        raise BadLineError(f"timestamp {bytes(given).decode()[:40]} {FROM_BOOT}")
    return given


def json_text(value: Any) -> msgspec.Raw:
    """Return a value as JSON text."""
    return _Raw(_encode(value))


def checked_json(text: str, column: str) -> msgspec.Raw:
    """Return a cell's JSON text as it stands.

    Raises:
        BadLineError: it is not JSON.
    """
    raw = text.encode()
    try:
        _any(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadLineError(f"{column} is not JSON: {_flaw(error)}") from error
    return _Raw(raw)


def _flaw(error: Exception) -> str:
    """Return what is wrong with a text, in the words of who has it, not of who wrote a reader."""
    match error:
        case RecursionError():
            return "nested too deep"
        case UnicodeDecodeError():
            return "not UTF-8"
        case msgspec.ValidationError():
            return "something in it is of another type"
    return str(error).removeprefix("JSON is malformed: ").replace("Input data was", "it is")


def number_or_text(text: str) -> msgspec.Raw:
    """Return a cell as what it looks like: a JSON number, true, false, or a text."""
    bare = text.strip()
    if bare in _BOOLEANS:
        return _BOOLEANS[bare]
    # A time begins like a number too, and there is one in every row.
    if bare[:1] in "-0123456789" and ":" not in bare:
        try:
            if isinstance(_any(bare), int | float):
                return _Raw(bare.encode())
        except msgspec.DecodeError:
            pass  # a text that begins like a number
    return json_text(text)

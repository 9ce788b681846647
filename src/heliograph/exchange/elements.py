"""What is read from a file: elements as devices send them, each with its place and its sensor."""

import enum
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from heliograph.model.records import Kind
from heliograph.model.time import (
    EARLIEST,
    SECOND,
    counts_from_boot,
    from_rfc3339,
    to_epoch_seconds,
)

_Raw = msgspec.Raw
_NULL = _Raw(b"null")
# 2106: until then every microsecond has epoch seconds of its own, on whatever way they are read.
LATEST_EXACT = SECOND << 32
# As JSON, Python and spreadsheets write them.
BOOLEANS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), _Raw(b"true")),
    **dict.fromkeys(("false", "False", "FALSE"), _Raw(b"false")),
}
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode

_ZEROS: Final = str.maketrans("123456789", "000000000")
# The shape of a moment that `datetime` reads as RFC 3339 does.
_MOMENT: Final = re.compile(r"0000-00-00[T ]00:00:00(?:\.0{1,6})?(?:Z|[+-]00(?::?00)?)")

FROM_BOOT = "is that of a clock that counts from its boot, and no time"


class ColumnKind(enum.StrEnum):
    """What all cells of a column are."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    JSON = "json"
    EMPTY = "empty"


class BadLineError(ValueError):
    """A line says nothing that can be stored; the message says why."""


class NoValueError(BadLineError):
    """A row of a table has a time and nothing else: nothing to store, and nothing wrong."""


class Element(NamedTuple):
    """An element to send: its JSON text, and the names of its sensor, the first one preferred."""

    kind: Kind
    sensors: tuple[str, ...]
    text: bytes


RowT = TypeVar("RowT")
SaidT = TypeVar("SaidT")


def in_parts(
    rows: Sequence[RowT], read: Callable[[Sequence[RowT]], list[SaidT]]
) -> list[SaidT | BadLineError]:
    """Return what rows say, read many at once; of one that can't be used, why.

    `read` raises BadLineError, which of one row tells what is wrong with it, or UnicodeEncodeError.
    """
    try:
        return [*read(rows)]
    except (BadLineError, UnicodeEncodeError) as error:
        if len(rows) == 1:
            return [error if isinstance(error, BadLineError) else BadLineError("not UTF-8")]
    half = len(rows) // 2
    return in_parts(rows[:half], read) + in_parts(rows[half:], read)


def elements_of(
    kind: Kind, names: Sequence[tuple[str, ...]], parts: Sequence[Sequence[str]]
) -> list[Element]:
    """Return the elements of which these are the sensors, and by columns the members' JSON texts.

    A row has no such member where its text is empty.

    Raises:
        UnicodeEncodeError: a text is not UTF-8.
    """
    parts = [part for part in parts if any(part)]
    rows = zip(*parts, strict=True)
    if any("" in part for part in parts):
        joined = [",".join(filter(None, row)) for row in rows]
    else:
        joined = [*map(",".join, rows)]
    texts = [f"{{{row}}}".encode() for row in joined]
    new = partial(tuple.__new__, Element)
    return list(map(new, zip([kind] * len(texts), names, texts, strict=True)))


def epoch_seconds(texts: Sequence[str]) -> list[str] | None:
    """Return RFC 3339 times as JSON numbers; None: they are to be looked at one by one.

    Those are quick to read if all are written alike, and mean the same for a server.
    """
    shape = texts[0].translate(_ZEROS)
    if not _MOMENT.fullmatch(shape) or "".join(texts).translate(_ZEROS) != shape * len(texts):
        return None
    try:
        seconds = [*map(datetime.timestamp, map(datetime.fromisoformat, texts))]
    except ValueError:
        return None
    return number_texts(seconds)


def number_texts(seconds: list[float]) -> list[str] | None:
    """Return epoch seconds as JSON has them; None: one would be taken for none, or be inexact."""
    if min(seconds) < EARLIEST // SECOND or max(seconds) >= LATEST_EXACT // SECOND:
        return None
    return _encode(seconds)[1:-1].decode().split(",")


def make_element(kind: Kind, names: tuple[str, ...], element: dict[str, msgspec.Raw]) -> Element:
    """Return the element; a heartbeat's details become members of their own again.

    Raises:
        BadLineError: it has no time, so that sent again it would be stored again.
    """
    element["timestamp"] = checked_time(element.get("timestamp", _NULL))
    # What a device without a clock gave is not asked for again: the time is the stored one.
    element.pop("device_timestamp", None)
    if kind is Kind.HEARTBEAT:
        element = unfolded(element)
    return Element(kind, names, _encode(element))


def unfolded(heartbeat: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return a heartbeat with the members that its details have, which are sent beside the others.

    Raises:
        BadLineError: the details are no object.
    """
    details = bytes(heartbeat.pop("details", _NULL))
    if details == b"null":
        return heartbeat
    try:
        return heartbeat | _members(details)
    except msgspec.DecodeError as error:
        raise BadLineError(f"details is not an object: {flaw_of(error)}") from error


def checked_time(given: msgspec.Raw) -> msgspec.Raw:
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


def check_json(cells: Sequence[str], column: str) -> None:
    """See that cells are JSON texts.

    Raises:
        BadLineError: one is not.
    """
    try:
        for cell in cells:
            _any(cell)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadLineError(f"{column} is not JSON: {flaw_of(error)}") from error


def checked_json(text: str, column: str) -> msgspec.Raw:
    """Return a cell's JSON text as it stands.

    Raises:
        BadLineError: it is not JSON.
    """
    check_json((text,), column)
    return _Raw(text.encode())


def flaw_of(error: Exception) -> str:
    """Return what is wrong with a text, in terms of its sender, not of the parser."""
    match error:
        case RecursionError():
            return "nested too deep"
        case UnicodeError():
            return "not UTF-8"
        case msgspec.ValidationError():
            return "something in it is of another type"
    return str(error).removeprefix("JSON is malformed: ").replace("Input data was", "it is")


def number_or_text(text: str) -> msgspec.Raw:
    """Return a cell as what it looks like: a JSON number, true, false, or a text."""
    bare = text.strip()
    if bare in BOOLEANS:
        return BOOLEANS[bare]
    # A time begins like a number too, and there is one in every row.
    if bare[:1] in "-0123456789" and ":" not in bare:
        try:
            if isinstance(_any(bare), int | float):
                return _Raw(bare.encode())
        except msgspec.DecodeError:
            pass  # a text that begins like a number
    return json_text(text)

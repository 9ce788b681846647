"""InfluxDB's line protocol: `measurement,tag=text field=1,other="text" 1465839830100400200`."""

import math
import re
from typing import Any, Final, NamedTuple

import msgspec

from heliograph.exchange.elements import (
    FROM_BOOT,
    LATEST_EXACT,
    BadLineError,
    Element,
)
from heliograph.model.records import Kind
from heliograph.model.time import (
    EARLIEST,
    LATEST,
    OLDEST,
    counts_from_boot,
    to_epoch_seconds,
    to_rfc3339,
)

_encode = msgspec.json.Encoder().encode
# Microseconds are multiplied by the first and divided by the second.
PRECISIONS: Final = {"ns": (1, 1_000), "us": (1, 1), "ms": (1_000, 1), "s": (1_000_000, 1)}

# A backslash keeps what follows; within quotes only quotes and backslashes need one.
_KEY = r"(?:[^\s,=\\]|\\.)+"
_NAME = re.compile(r"(?:[^\s,\\]|\\.)+")
_TAG = re.compile(rf",({_KEY})=({_KEY})")
_FIELD = re.compile(rf'({_KEY})=("(?:[^"\\]|\\.)*"|[^\s,"]+)')
_TIME = re.compile(r"-?\d{1,19}", re.ASCII)
_ESCAPE = re.compile(r"\\([,= \\])")
_TEXT_ESCAPE = re.compile(r'\\(["\\])')
_INTEGER = re.compile(r"(-?\d{1,20})[iu]", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}


class Mapping(NamedTuple):
    """How lines become measurements.

    The sensor is the value of the tag `sensor_tag`; without it that of the import, or else the
    line's measurement. All fields are attributes of one value, and so are the other tags, as
    texts; with `prefix` they are members of an object under the measurement's name.
    """

    sensor_tag: str = "device_id"
    precision: str = "ns"
    prefix: bool = False


def from_line(line: str, mapping: Mapping, sensor: str | None = None) -> Element | None:
    """Return what a line says; None for an empty one or a comment.

    Raises:
        BadLineError: it can't be used.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    name, tags, fields, time = _parse(line)
    named = tags.pop(mapping.sensor_tag, None) or sensor or name
    value: dict[str, Any] = {**tags, **fields}
    element = {
        "timestamp": _timestamp(time, mapping.precision),
        "value": {name: value} if mapping.prefix else value,
    }
    return Element(Kind.MEASUREMENT, (named,), _encode(element))


def _parse(line: str) -> tuple[str, dict[str, str], dict[str, Any], str]:
    match = _NAME.match(line)
    if match is None:
        raise BadLineError("there is no measurement")
    name, at = _unescaped(match[0]), match.end()
    tags: dict[str, str] = {}
    while match := _TAG.match(line, at):
        tags[_unescaped(match[1])] = _unescaped(match[2])
        at = match.end()
    fields: dict[str, Any] = {}
    if line[at : at + 1] != " ":
        raise BadLineError(f"neither a tag nor a field at character {at + 1}")
    at += len(line[at:]) - len(line[at:].lstrip(" "))
    while match := _FIELD.match(line, at):
        fields[_unescaped(match[1])] = _field(match[2])
        at = match.end()
        if line[at : at + 1] != ",":
            break
        at += 1
    if not fields or line[at : at + 1] not in ("", " "):
        raise BadLineError(f"no field at character {at + 1}")
    return name, tags, fields, line[at:].strip()


def _field(text: str) -> Any:
    if text[0] == '"':
        return _TEXT_ESCAPE.sub(r"\1", text[1:-1])
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if match := _INTEGER.fullmatch(text):
        return int(match[1])
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    raise BadLineError(f"not a value of a field: {text[:40]!r}")


def _timestamp(text: str, precision: str) -> float | str:
    if not text:
        raise BadLineError("timestamp is missing")
    if not _TIME.fullmatch(text):
        raise BadLineError(f"not a timestamp: {text[:40]!r}")
    factor, divisor = PRECISIONS[precision]
    microseconds = int(text) * factor // divisor
    if not OLDEST <= microseconds <= LATEST:
        raise BadLineError(f"timestamp {text} is out of range: is the precision {precision}?")
    moment = to_rfc3339(microseconds)
    # Counted in a larger unit than is said, any time since 1970 comes to the January of that year.
    if counts_from_boot(moment, microseconds):
        raise BadLineError(f"timestamp {text} {FROM_BOOT}: is the precision {precision}?")
    return to_epoch_seconds(microseconds) if EARLIEST <= microseconds < LATEST_EXACT else moment


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text)

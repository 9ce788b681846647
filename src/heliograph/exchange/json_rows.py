"""JSON Lines: those of an export, elements as devices send them, and logs of other programs."""

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec

from heliograph.exchange.elements import (
    BadLineError,
    Element,
    check_json,
    elements_of,
    epoch_seconds,
    flaw_of,
    in_parts,
    json_text,
    make_element,
)
from heliograph.exchange.table_layouts import is_time_name, plain_name
from heliograph.exchange.tables import log_columns, severity_of
from heliograph.model.records import Kind
from heliograph.model.time import EARLIEST, LATEST, SECOND, from_rfc3339

# Members of every line of an export that no element has.
_STORED_ONLY: Final = frozenset(("kind", "sensor_identifier", "device_id", "receipt_timestamp"))
_ENVELOPES: Final = {"metrics": "value", "measurement": "value"}
# A line that has nothing else is a log message as it is.
_OF_LOG: Final = frozenset(
    ("timestamp", "severity", "subject", "message", "details", "revision", "id")
)
# Names of members that are told of: a file may have any number.
_MOST_LEFT_OUT: Final = 100
# What numbers count that may be times: a second has so many of it.
_UNITS: Final = (1, 1_000, 1_000_000, 1_000_000_000)
# A name that jq takes as it is.
_SIMPLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str | None).decode
_any = msgspec.json.Decoder().decode


def from_json_line(
    line: bytes, kind: Kind = Kind.MEASUREMENT, left_out: set[str] | None = None
) -> Element:
    """Return what a line of JSON says: one of an export, or an element of MQTT's payloads.

    `kind` is that of a line which does not say its own. The names of what a log message has nothing
    for are added to `left_out`.

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
        is_whole = line.strip() in (b"[", b"{") or line.lstrip()[:2] in (b"[{", b"[[")
        hint = ": write an object a line, as `jq -c '.[]'` does" if is_whole else ""
        problem = f"not a JSON object as it is exported: {flaw_of(error)}{hint}"
        raise BadLineError(problem) from error
    if said not in (Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT):
        raise BadLineError("kind is none of measurement, log, heartbeat")
    is_foreign = kind is Kind.LOG and "kind" not in members
    kind = Kind(said)
    element = {name: text for name, text in members.items() if name not in _STORED_ONLY}
    if bytes(element.get("device_timestamp", b"null")) == b"null":
        element.pop("device_timestamp", None)
    # As in the other forms of a file: there `id` may be anything, a number of the row say.
    element_id = element.pop("element_id", msgspec.Raw(b"null"))
    if bytes(element_id) != b"null":
        element["id"] = element_id
    if is_foreign and not element.keys() <= _OF_LOG:
        element = _log_message(element, set() if left_out is None else left_out)
    if kind is Kind.MEASUREMENT:
        for name, stands_for in _ENVELOPES.items():
            if name in element and stands_for not in element:
                element[stands_for] = element.pop(name)
    if bytes(element.get("timestamp", b"null")) == b"null":
        raise BadLineError(f"timestamp is missing{_meant_as_time(element)}")
    return make_element(kind, names, element)


def _meant_as_time(line: dict[str, msgspec.Raw]) -> str:
    """Return what ends the message about a line without a time: which member looks like one."""
    for name in sorted(line, key=is_time_name, reverse=True):
        moment = _any(line[name])
        program = "." + name
        if isinstance(moment, str):
            try:
                from_rfc3339(moment)
            except ValueError:
                continue
        elif isinstance(moment, int | float) and is_time_name(name):
            counted = moment * SECOND
            unit = next((each for each in _UNITS if EARLIEST <= counted // each <= LATEST), None)
            if unit is None:
                continue
            program += f" / {unit}" if unit > 1 else ""
        else:
            continue
        hint = f": `{name}` looks like one"
        if _SIMPLE.fullmatch(name):
            hint += f", which `jq -c '.timestamp = {program} | del(.{name})'` makes it"
        return hint
    return ""


def _log_message(line: dict[str, msgspec.Raw], left_out: set[str]) -> dict[str, msgspec.Raw]:
    """Return what a log message has of a line that another program has written.

    Raises:
        BadLineError: what it needs is not there.
    """
    held = log_columns([*line], "member")
    message = {member: line[name] for member, name in held.items()}
    if (time := _time_of(line)) is not None:
        message["timestamp"] = line[time]
    if "id" in line and isinstance(_any(line["id"]), str):
        message["id"] = line["id"]
    message["severity"] = json_text(severity_of(_plain(line[held["severity"]])))
    for name in ("subject", "details"):
        if name in message and bytes(message[name]) != b"null":
            message[name] = json_text(_plain(message[name]))
    used = {*held.values(), time, *(("id",) if "id" in message else ())}
    if len(left_out) < _MOST_LEFT_OUT:
        left_out.update(line.keys() - used)
    return message


def _time_of(line: Collection[str]) -> str | None:
    """Return the member that has the time: `timestamp` if there is one, as of tables."""
    names = {plain_name(name): name for name in line if is_time_name(name)}
    known = [names[name] for name in ("timestamp", "time") if name in names]
    return next(iter([*known, *names.values()]), None)


def _plain(text: msgspec.Raw) -> str:
    """Return a text as it is, and all else as JSON."""
    found = _any(text)
    return found if isinstance(found, str) else bytes(text).decode()


class _Exported(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line of an export of measurements."""

    sensor_identifier: str
    timestamp: str
    value: msgspec.Raw
    device_id: str | None = None
    revision: int | None = None
    element_id: str | None = None
    kind: Literal["measurement"] = "measurement"
    receipt_timestamp: str | None = None
    device_timestamp: float | None = None


_exported = msgspec.json.Decoder(_Exported).decode


def from_json_lines(
    lines: Sequence[bytes], kind: Kind = Kind.MEASUREMENT, left_out: set[str] | None = None
) -> list[Element | BadLineError | None]:
    """Return what lines of JSON say, as `from_json_line` does of each; None of an empty one."""

    def read(part: Sequence[bytes]) -> list[Element | None]:
        if len(part) > 1:
            return [*_of_export(part)]
        return [from_json_line(part[0], kind, left_out) if part[0].strip() else None]

    if kind is not Kind.MEASUREMENT:
        return [found for line in lines for found in in_parts((line,), read)]
    return in_parts(lines, read)


def _of_export(lines: Sequence[bytes]) -> list[Element]:
    """Return what lines of an export say.

    Raises:
        BadLineError: one is not as those are.
    """
    try:
        found = [_exported(line) for line in lines]
        values = [bytes(each.value).decode() for each in found]
        check_json(values, "value")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadLineError("not a line of an export") from error
    times = epoch_seconds([each.timestamp for each in found])
    if times is None:
        raise BadLineError("not a time of an export")
    names = [
        (each.sensor_identifier, each.device_id) if each.device_id else (each.sensor_identifier,)
        for each in found
    ]
    parts = [
        [f'"timestamp":{time}' for time in times],
        ["" if each.revision is None else f'"revision":{each.revision}' for each in found],
        [
            "" if each.element_id is None else f'"id":{_encode(each.element_id).decode()}'
            for each in found
        ],
        [f'"value":{value}' for value in values],
    ]
    return elements_of(Kind.MEASUREMENT, names, parts)

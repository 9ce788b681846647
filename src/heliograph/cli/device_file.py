"""A file of devices to register, checked line by line."""

import csv
import io
import math
from pathlib import Path
from typing import Any, TypeAlias

from heliograph.errors import StartError
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.sensor import LONGEST_INTERVAL, LONGEST_TEXT, SHORTEST_INTERVAL, tags_fault
from heliograph.model.time import SECOND

COLUMNS = (
    "device_id",
    "name",
    "network_identifier",
    "sensor_name",
    "serial_number",
    "manufacturer",
    "model",
    "modality",
    "expected_interval",
    "tags",
    "latitude",
    "longitude",
    "place",
)
# Degrees, from minus so many on.
DEGREES = {"latitude": 90, "longitude": 180}

# A line's number, and the members that it gives a device.
DeviceLine: TypeAlias = tuple[int, dict[str, Any]]


def read_devices(path: Path) -> list[DeviceLine]:
    """Return the lines of a CSV file of devices; empty cells are left out.

    Raises:
        StartError: it can't be read, or a line, which is named, can't be a device.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise StartError(f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise StartError(f"line {line}: not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return _lines(reader)
    except csv.Error as error:
        raise StartError(f"line {reader.line_num}: {error}") from None


def read_keys(path: Path) -> dict[str, str]:
    """Return the keys of a CSV file with columns id and api_key, by the devices' UUIDs.

    Raises:
        StartError: it can't be read, or is no such file; the line holds no key.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig")), strict=True))
    except OSError as error:
        raise StartError(f"can't read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise StartError(f"{path} is not CSV in UTF-8") from None
    try:
        return {row["id"].strip().lower(): row["api_key"].strip() for row in rows}
    except (KeyError, AttributeError):
        raise StartError(f"{path}: every line needs id and api_key, with a heading") from None


def _lines(reader: Any) -> list[DeviceLine]:
    heading = [cell.strip() for cell in next(reader, [])]
    _check_heading(heading)
    lines: list[DeviceLine] = []
    seen: dict[str, int] = {}
    while True:
        # A quoted cell may hold line ends: the line is the one on which the record begins.
        number = reader.line_num + 1
        cells = next(reader, None)
        if cells is None:
            return lines
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(heading):
            raise StartError(f"line {number}: more cells than the heading has")
        members = _members(number, dict(zip(heading, cells, strict=False)))
        first = seen.setdefault(members["device_id"], number)
        if first != number:
            raise StartError(
                f"line {number}: device_id {members['device_id']!r} is on line {first} too"
            )
        lines.append((number, members))


def _check_heading(heading: list[str]) -> None:
    for name in heading:
        if name not in COLUMNS or heading.count(name) > 1:
            raise StartError(f"line 1: no column {name!r}: once each of {', '.join(COLUMNS)}")
    if "device_id" not in heading:
        raise StartError("line 1: no column is called device_id")


def _members(number: int, cells: dict[str, str]) -> dict[str, Any]:
    members: dict[str, Any] = {name: cell.strip() for name, cell in cells.items() if cell.strip()}
    for name, cell in members.items():
        if "\0" in cell or (len(cell) > LONGEST_TEXT and name != "tags"):
            raise StartError(f"line {number}: {name} has a NUL or over {LONGEST_TEXT} characters")
    if not may_name_a_device(members.get("device_id", "")):
        raise StartError(f"line {number}: device_id has to be {DEVICE_ID_RULE}")
    if (interval := members.get("expected_interval")) is not None:
        members["expected_interval"] = _microseconds(number, interval)
    if (tags := members.get("tags")) is not None:
        members["tags"] = tuple(tag for part in tags.split(";") if (tag := part.strip()))
        if fault := tags_fault(members["tags"]):
            raise StartError(f"line {number}: tags {fault}")
    for name, most in DEGREES.items():
        if name in members:
            members[name] = _degrees(number, name, members[name], most)
    return members


def _degrees(number: int, name: str, text: str, most: int) -> float:
    try:
        degrees = float(text)
    except ValueError:
        degrees = math.nan
    if not -most <= degrees <= most:
        raise StartError(f"line {number}: {name} has to be -{most} to {most} degrees")
    return degrees


def _microseconds(number: int, seconds: str) -> int:
    try:
        interval = float(seconds)
    except ValueError:
        interval = 0.0
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise StartError(
            f"line {number}: expected_interval has to be {SHORTEST_INTERVAL} to"
            f" {LONGEST_INTERVAL} seconds"
        )
    return round(interval * SECOND)

"""Rows of the views for SQL, as psql's `copy` and `sqlite3 -csv` write them.

`v_attribute` has a row for each attribute: those of one measurement, which stand one after the
other, become one measurement again. What is imported where it came from changes nothing.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from heliograph.exchange.elements import (
    BadLineError,
    Element,
    NoValueError,
    json_text,
    make_element,
)
from heliograph.exchange.wide import insert
from heliograph.model.attributes import keys_of
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_MEASUREMENT, Kind
from heliograph.model.time import to_rfc3339

_INTEGERS: Final = range(-(1 << 63), 1 << 63)
_NAMES: Final = ("sensor_identifier", "device_id")
_FRAME: Final = frozenset(
    (*_NAMES, "sensor_name", "network_identifier", "time", "timestamp_us", "revision")
)
_ROW: Final = _FRAME | {"id", "sensor", "fingerprint", "element_id"}
# By these rows of one measurement are known.
_IDENTITY: Final = ("id", *_NAMES, "timestamp_us", "fingerprint")

PlaceT = TypeVar("PlaceT")


class View(NamedTuple):
    """A view, by the columns that tell it, and all that it has."""

    name: str
    kind: Kind
    telling: frozenset[str]
    columns: frozenset[str]


_READINGS: Final = ("temperature", "humidity", "voltage")
ATTRIBUTES: Final = View(
    "v_attribute",
    Kind.MEASUREMENT,
    frozenset(("timestamp_us", "attribute", "number")),
    _ROW | {"attribute", "number", "text"},
)
VIEWS: Final = (
    View(
        "v_measurement",
        Kind.MEASUREMENT,
        frozenset(("timestamp_us", "value")),
        _ROW | {"receipt_time", "value"},
    ),
    ATTRIBUTES,
    View(
        "v_log",
        Kind.LOG,
        frozenset(("timestamp_us", "severity", "subject")),
        _ROW | {"receipt_time", "severity", "subject", "details"},
    ),
    View(
        "readings",
        Kind.MEASUREMENT,
        frozenset(("timestamp_us", "device_id")),
        frozenset(("id", "device_id", "timestamp", "timestamp_us", *_READINGS)),
    ),
)


def view_of(columns: Sequence[str]) -> View | None:
    """Return the view that a heading is of, whole or in part; None: of none."""
    found = set(columns)
    if not found & set(_NAMES) or len(found) != len(columns):
        return None
    return next((view for view in VIEWS if view.telling <= found <= view.columns), None)


class ViewRows:
    """Reads the rows under the heading of a view."""

    def __init__(self, view: View, heading: Sequence[str]) -> None:
        self._view = view
        self._columns = tuple(heading)
        self._identity = [at for at, name in enumerate(heading) if name in _IDENTITY]
        self._attribute_at = self._columns.index("attribute") if view is ATTRIBUTES else None

    def elements(
        self, rows: Iterable[tuple[int, list[str] | BadLineError, PlaceT]]
    ) -> Iterator[tuple[int, Element | BadLineError, PlaceT]]:
        """Yield what rows say, each with its line and the place where it ends.

        Of rows that are of one measurement: the first one's line, and the end of the last.
        """
        for _, group in itertools.groupby(rows, self._key):
            parts: list[tuple[int, list[str] | BadLineError, PlaceT]] = []
            names: set[str] = set()
            for row in group:
                name = self._attribute(row[1])
                # Without what tells measurements of one time apart, an attribute begins another.
                if parts and (name in names or len(parts) == MAXIMUM_ATTRIBUTES_OF_MEASUREMENT):
                    yield self._joined(parts)
                    parts, names = [], set()
                parts.append(row)
                names.add(name)
            yield self._joined(parts)

    def _key(self, row: tuple[int, list[str] | BadLineError, Any]) -> object:
        line, cells, _ = row
        is_whole = self._view is not ATTRIBUTES
        if is_whole or isinstance(cells, BadLineError) or len(cells) != len(self._columns):
            return line
        return [cells[at] for at in self._identity]

    def _attribute(self, cells: list[str] | BadLineError) -> str:
        if self._attribute_at is None or isinstance(cells, BadLineError):
            return ""
        return cells[self._attribute_at] if len(cells) == len(self._columns) else ""

    def _joined(
        self, rows: Sequence[tuple[int, list[str] | BadLineError, PlaceT]]
    ) -> tuple[int, Element | BadLineError, PlaceT]:
        said: Element | BadLineError
        try:
            said = self._said([self._row(cells) for _, cells, _ in rows])
        except BadLineError as error:
            said = error
        return rows[0][0], said, rows[-1][2]

    def _row(self, cells: list[str] | BadLineError) -> dict[str, str]:
        if isinstance(cells, BadLineError):
            raise cells
        if len(cells) != len(self._columns):
            raise BadLineError(f"{len(cells)} cells under {len(self._columns)} columns")
        return dict(zip(self._columns, cells, strict=True))

    def _said(self, rows: Sequence[dict[str, str]]) -> Element:
        row = rows[0]
        element = {"timestamp": json_text(_time(row["timestamp_us"]))}
        if revision := row.get("revision"):
            element["revision"] = json_text(_whole(revision, "revision"))
        if element_id := row.get("element_id"):
            element["id"] = json_text(element_id)
        if self._view.kind is Kind.LOG:
            element["severity"] = json_text(row["severity"])
            element["subject"] = json_text(row["subject"])
            if details := row.get("details"):
                element["details"] = json_text(details)
        else:
            element["value"] = _VALUES[self._view.name](rows)
        names = tuple(name for column in _NAMES if (name := row.get(column, "").strip()))
        return make_element(self._view.kind, names, element)


def _document(rows: Sequence[dict[str, str]]) -> msgspec.Raw:
    return json_text(_json(rows[0]["value"], "value"))


def _attributes(rows: Sequence[dict[str, str]]) -> msgspec.Raw:
    value: dict[str, Any] = {}
    for row in rows:
        member = _attribute(row["number"], row.get("text"))
        if not insert(value, keys_of(row["attribute"]), member):
            raise BadLineError(f"the attribute {row['attribute'][:80]!r} is there already")
    return json_text(value)


def _attribute(number: str, text: str | None) -> Any:
    """Return what an attribute is by its two columns: a number, a boolean, an array, a text."""
    if number:
        if text in ("true", "false"):
            return text == "true"
        return _number(text or number)
    if text and text[0] == "[":
        try:
            return _json(text, "text")
        except BadLineError:
            return text  # one that begins like an array
    return text or None


def _readings(rows: Sequence[dict[str, str]]) -> msgspec.Raw:
    value = {name: _number(cell) for name in _READINGS if (cell := rows[0].get(name))}
    if not value:
        raise NoValueError("there is no value")
    return json_text(value)


_VALUES: Final[dict[str, Callable[[Sequence[dict[str, str]]], msgspec.Raw]]] = {
    "v_measurement": _document,
    "v_attribute": _attributes,
    "readings": _readings,
}


def _number(text: str) -> int | float:
    found = _json(text, "number")
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadLineError(f"{text[:40]!r} is no number")
    return found


def _json(text: str, column: str) -> Any:
    """Return the value; PostgreSQL writes large floats with all their zeros, as whole numbers."""
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"{column} is not JSON: {text[:40]!r}") from error


def _integer(text: str) -> int | float:
    number = int(text)
    return number if number in _INTEGERS else _float(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("beyond a float")
    return number


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _whole(text: str, column: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise BadLineError(f"{column} is no whole number: {text[:40]!r}") from error


def _time(text: str) -> str:
    try:
        return to_rfc3339(_whole(text, "timestamp_us"))
    except OverflowError as error:
        raise BadLineError(f"timestamp_us is no time: {text[:40]!r}") from error

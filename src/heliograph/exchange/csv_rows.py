"""Rows of CSV: those of an export, and tables with a column an attribute."""

from collections.abc import Sequence

import msgspec

from heliograph.exchange.elements import (
    BadLineError,
    Element,
    checked_json,
    json_text,
    make_element,
    number_or_text,
)
from heliograph.exchange.formats import COLUMNS, QUOTE, QUOTED, exported_kind
from heliograph.model.records import Kind

NAMES = ("sensor_identifier", "device_id")
TIMES = ("timestamp", "time")
# Columns that are no attributes.
_NO_ATTRIBUTES = frozenset((*COLUMNS[Kind.MEASUREMENT], *TIMES))
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
# What tables of other makes have where there is no number.
_NONE = frozenset(("nan", "NaN"))


class CsvRows:
    """Reads the rows under a heading."""

    def __init__(self, heading: Sequence[str], kind: Kind | None = None) -> None:
        """Take the columns from the heading; without `kind` an export's heading tells it.

        A column without a name is passed over: programs put the numbers of rows there.

        Raises:
            BadLineError: there are two columns of one name, or none with a time.
        """
        self._columns = tuple(name.strip() for name in heading)
        named = [name for name in self._columns if name]
        if len(set(named)) != len(named):
            raise BadLineError("two columns have the same name")
        if not set(TIMES) & set(named):
            raise BadLineError(_without_time(heading))
        exported = exported_kind(self._columns)
        self._kind = kind or exported or Kind.MEASUREMENT
        # In a table of another make it is a column like any other.
        self._is_for_spreadsheets = exported is not None and QUOTED in self._columns

    def element(self, cells: Sequence[str]) -> Element:
        """Return what a row says.

        Raises:
            BadLineError: it can't be used.
        """
        row = self._row(cells)
        names = tuple(text for name in NAMES if (text := row.get(name, "").strip()))
        element = _frame(row)
        if self._kind is Kind.MEASUREMENT:
            element["value"] = self._value(row)
        elif self._kind is Kind.LOG:
            # An empty text is one; without a column there is none.
            for name in ("severity", "subject"):
                if name in self._columns:
                    element[name] = json_text(row.get(name, ""))
            if "details" in row:
                element["details"] = checked_json(row["details"], "details")
        else:
            if (success := row.get("success")) is not None:
                said = success.strip().lower()
                if said not in _BOOLEANS:
                    raise BadLineError("success is neither true nor false")
                element["success"] = json_text(_BOOLEANS[said])
            if "details" in row:
                element["details"] = checked_json(row["details"], "details")
        return make_element(self._kind, names, element)

    def _row(self, cells: Sequence[str]) -> dict[str, str]:
        if len(cells) != len(self._columns):
            raise BadLineError(f"{len(cells)} cells under {len(self._columns)} columns")
        row = {n: cell for n, cell in zip(self._columns, cells, strict=True) if n and cell}
        if self._is_for_spreadsheets:
            for name in row.pop(QUOTED, "").split():
                if name in row:
                    row[name] = row[name].removeprefix(QUOTE)
        return row

    def _value(self, row: dict[str, str]) -> msgspec.Raw:
        if "value" in self._columns:
            if "value" not in row:
                raise BadLineError("value is missing")
            others = [name for name in row if name not in _NO_ATTRIBUTES]
            if not others:
                return checked_json(row["value"], "value")
        attributes = {
            name: number_or_text(cell)
            for name, cell in row.items()
            if (name == "value" or name not in _NO_ATTRIBUTES) and cell not in _NONE
        }
        if not attributes:
            raise BadLineError("there is no value")
        return json_text(attributes)


def _frame(row: dict[str, str]) -> dict[str, msgspec.Raw]:
    frame: dict[str, msgspec.Raw] = {}
    if time := (row.get("timestamp") or row.get("time", "")).strip():
        frame["timestamp"] = number_or_text(time)
    if revision := row.get("revision"):
        # Where some are missing, tables of other makes hold floats.
        frame["revision"] = number_or_text(revision.strip().removesuffix(".0"))
    if element_id := row.get("element_id"):
        frame["id"] = json_text(element_id)
    return frame


def _without_time(heading: Sequence[str]) -> str:
    if not heading:
        return "the file is empty"
    found = ", ".join(heading)
    message = f"there is no column timestamp (nor time), but {found[:100]}"
    for separator, name in _SEPARATORS.items():
        if len(heading) == 1 and separator in found:
            message += f": columns are separated by commas, not by {name}"
    return message

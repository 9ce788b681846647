"""Rows of CSV as they are exported; `tables` reads those of other makes."""

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
from heliograph.exchange.formats import (
    COLUMNS,
    QUOTE,
    QUOTED,
    exported_kind,
    is_wide,
    wide_attributes,
)
from heliograph.exchange.wide import JSON, put_together, read_csv_cell
from heliograph.model.records import Kind

NAMES = ("sensor_identifier", "device_id")
TIMES = ("timestamp", "time")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
# Without these a heading is that of another make, in which our names mean what they like.
_NEEDED = {
    Kind.MEASUREMENT: frozenset(("sensor_identifier", "timestamp", "value")),
    Kind.LOG: frozenset(("sensor_identifier", "timestamp", "severity", "subject")),
    Kind.HEARTBEAT: frozenset(("sensor_identifier", "timestamp", "success")),
}


def kind_of_export(columns: Sequence[str]) -> Kind | None:
    """Return the kind of which an export has this heading; None: it is of another make.

    Other programs may have left columns out, changed their order, or put one without a name there.
    """
    named = tuple(name.strip() for name in columns if name.strip())
    if is_wide(named):
        return Kind.MEASUREMENT
    for kind, own in COLUMNS.items():
        if _NEEDED[kind] <= set(named) <= {*own, QUOTED}:
            return kind
    return exported_kind(named)


class CsvRows:
    """Reads the rows under the heading of an export."""

    def __init__(self, heading: Sequence[str], kind: Kind | None = None) -> None:
        """Take the columns from the heading; without `kind` the heading tells it.

        Raises:
            BadLineError: there are two columns of one name.
        """
        columns = tuple(name.strip() for name in heading)
        # Of a wide export, whose attributes are called as they are.
        self._attributes = wide_attributes(heading) if is_wide(columns) else None
        self._columns = columns if self._attributes is None else tuple(heading)
        named = [name for name in self._columns if name]
        if len(set(named)) != len(named):
            raise BadLineError("two columns have the same name")
        self._kind = kind or kind_of_export(self._columns) or Kind.MEASUREMENT

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
        else:
            element |= members_of(self._kind, row, self._columns)
        return make_element(self._kind, names, element)

    def _value(self, row: dict[str, str]) -> msgspec.Raw:
        name = "value" if self._attributes is None else JSON
        if name in row:
            return checked_json(row[name], name)
        if self._attributes is None:
            raise BadLineError("value is missing")
        return put_together(
            [(name, read_csv_cell(row[name])) for name in self._attributes if name in row]
        )

    def _row(self, cells: Sequence[str]) -> dict[str, str]:
        if len(cells) != len(self._columns):
            raise BadLineError(f"{len(cells)} cells under {len(self._columns)} columns")
        row = {n: cell for n, cell in zip(self._columns, cells, strict=True) if n and cell}
        for name in row.pop(QUOTED, "").split():
            if name in row:
                row[name] = row[name].removeprefix(QUOTE)
        return row


def members_of(kind: Kind, row: dict[str, str], columns: Sequence[str]) -> dict[str, msgspec.Raw]:
    """Return what a row of a log or a heartbeat says beside its time, its sensor and its id.

    Raises:
        BadLineError: it can't be used.
    """
    members: dict[str, msgspec.Raw] = {}
    if kind is Kind.LOG:
        # An empty text is one; without a column there is none.
        for name in ("severity", "subject"):
            if name in columns:
                members[name] = json_text(row.get(name, ""))
    elif (success := row.get("success")) is not None:
        said = success.strip().lower()
        if said not in _BOOLEANS:
            raise BadLineError("success is neither true nor false")
        members["success"] = json_text(_BOOLEANS[said])
    if "details" in row:
        members["details"] = checked_json(row["details"], "details")
    return members


def _frame(row: dict[str, str]) -> dict[str, msgspec.Raw]:
    frame: dict[str, msgspec.Raw] = {}
    if time := row.get("timestamp", "").strip():
        frame["timestamp"] = number_or_text(_with_whole_zone(time))
    if revision := row.get("revision"):
        # Where some are missing, other programs write floats.
        frame["revision"] = number_or_text(revision.strip().removesuffix(".0"))
    if element_id := row.get("element_id"):
        frame["id"] = json_text(element_id)
    return frame


def _with_whole_zone(time: str) -> str:
    """Return a time as RFC 3339 has it that DuckDB (`+00`) or polars (`+0000`) has written."""
    if ":" in time:
        if time[-3:-2] in ("+", "-"):
            return f"{time}:00"
        if time[-5:-4] in ("+", "-"):
            return f"{time[:-2]}:{time[-2:]}"
    return time

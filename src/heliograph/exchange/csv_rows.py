"""Rows of CSV as they are exported; `tables` reads those of other makes."""

from collections.abc import Sequence

import msgspec

from heliograph.exchange.elements import (
    BadLineError,
    Element,
    check_json,
    checked_json,
    checked_time,
    elements_of,
    epoch_seconds,
    in_parts,
    json_text,
    number_or_text,
    unfolded,
)
from heliograph.exchange.formats import (
    COLUMNS,
    QUOTE,
    QUOTED,
    is_wide,
    wide_attributes,
)
from heliograph.exchange.wide import JSON, put_together, read_csv_cell
from heliograph.model.records import Kind

NAMES = ("sensor_identifier", "device_id")
TIMES = ("timestamp", "time")
_encode = msgspec.json.Encoder().encode
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
    Exports from before elements' ids were kept have no column for them.
    """
    named = tuple(name.strip() for name in columns if name.strip())
    if is_wide(named):
        return Kind.MEASUREMENT
    for kind, own in COLUMNS.items():
        if _NEEDED[kind] <= set(named) <= {*own, QUOTED}:
            return kind
    return None


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

    def elements(self, rows: Sequence[Sequence[str]]) -> list[Element | BadLineError]:
        """Return what rows say; of one that can't be used, why."""
        return in_parts(rows, self._read)

    def _read(self, rows: Sequence[Sequence[str]]) -> list[Element]:
        width = len(self._columns)
        if set(map(len, rows)) != {width}:
            raise BadLineError(f"{len(rows[0])} cells under {width} columns")
        if QUOTED in self._columns:
            rows = [self._unquoted(row) for row in rows]
        columns = dict(zip(self._columns, zip(*rows, strict=True), strict=True))
        empty = [""] * len(rows)
        names = sensor_names([columns[name] for name in NAMES if name in columns], len(rows))
        parts = [
            [f'"timestamp":{time}' for time in _times(columns["timestamp"])],
            _revisions(columns.get("revision", empty)),
            [cell and f'"id":{_json(cell)}' for cell in columns.get("element_id", empty)],
        ]
        if self._kind is not Kind.MEASUREMENT:
            return elements_of(self._kind, names, [*parts, self._members(rows)])
        values: Sequence[str] = columns.get("value", empty)
        if self._attributes is not None:
            values = [self._put_together(row) for row in rows]
        elif "" in values:
            raise BadLineError("value is missing")
        else:
            check_json(values, "value")
        return elements_of(self._kind, names, [*parts, [f'"value":{value}' for value in values]])

    def _row(self, cells: Sequence[str]) -> dict[str, str]:
        return {n: cell for n, cell in zip(self._columns, cells, strict=True) if n and cell}

    def _unquoted(self, cells: Sequence[str]) -> Sequence[str]:
        quoted = cells[self._columns.index(QUOTED)].split()
        return [
            cell.removeprefix(QUOTE) if name in quoted else cell
            for name, cell in zip(self._columns, cells, strict=True)
        ]

    def _put_together(self, cells: Sequence[str]) -> str:
        row = self._row(cells)
        if JSON in row:
            return bytes(checked_json(row[JSON], JSON)).decode()
        found = [(name, row[name]) for name in self._attributes or () if name in row]
        return bytes(put_together([(n, read_csv_cell(cell)) for n, cell in found])).decode()

    def _members(self, rows: Sequence[Sequence[str]]) -> list[str]:
        found = [members_of(self._kind, self._row(cells), self._columns) for cells in rows]
        return [_encode(members).decode()[1:-1] for members in found]


def sensor_names(columns: Sequence[Sequence[str]], rows: int) -> list[tuple[str, ...]]:
    """Return the names of each row's sensor, of the columns that hold one."""
    columns = [column for column in columns if any(column)]
    if not columns:
        return [()] * rows
    named = zip(*columns, strict=True)
    joined = "".join(map("".join, columns))
    if any("" in column for column in columns) or joined.split() != [joined]:
        return [tuple(filter(None, map(str.strip, row))) for row in named]
    return [*named]


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
    return unfolded(members) if kind is Kind.HEARTBEAT else members


def _revisions(cells: Sequence[str]) -> list[str]:
    # Where some are missing, other programs write floats.
    texts = {
        cell: cell
        and f'"revision":{bytes(number_or_text(cell.strip().removesuffix(".0"))).decode()}'
        for cell in {*cells}
    }
    return [texts[cell] for cell in cells]


def _json(text: str) -> str:
    return _encode(text).decode()


def _times(cells: Sequence[str]) -> list[str]:
    return epoch_seconds(cells) or [_time(cell.strip()) for cell in cells]


def _time(text: str) -> str:
    if not text:
        raise BadLineError("timestamp is missing")
    return bytes(checked_time(number_or_text(_with_whole_zone(text)))).decode()


def _with_whole_zone(time: str) -> str:
    """Return a time as RFC 3339 has it that DuckDB (`+00`) or polars (`+0000`) has written."""
    if ":" in time:
        if time[-3:-2] in ("+", "-"):
            return f"{time}:00"
        if time[-5:-4] in ("+", "-"):
            return f"{time[:-2]}:{time[-2:]}"
    return time

"""Stored rows as files have them, a page at a time: JSON Lines and CSV, as pure functions.

All forms keep everything that tells a row from a repeat (time to the microsecond, revision, the
canonical text of the value, the id of its element), so that what is exported and imported again
changes nothing.
"""

import enum
import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from heliograph.errors import StartError
from heliograph.exchange.wide import JSON, ColumnType, Wide, chosen, csv_cell
from heliograph.model.records import Kind
from heliograph.model.time import MINUTE, SECOND, minute_text

Row: TypeAlias = Sequence[Any]
# Makes a line of a row of a sensor, its time and when it was received.
_CsvLine: TypeAlias = "Callable[[Names, Row, str, str], str]"

_encode = msgspec.json.Encoder().encode
_Raw = msgspec.Raw


class FormatUnavailableError(StartError):
    """A package is missing that the format needs; the message names it."""


def parquet() -> ModuleType:
    """Return the module that writes and reads Parquet; loading it takes a fifth of a second.

    Raises:
        FormatUnavailableError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("heliograph.exchange.parquet")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise FormatUnavailableError(
            "parquet needs the package pyarrow: pip install 'heliograph[parquet]'"
        ) from error


class Format(enum.StrEnum):
    """What rows are written as."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def has_one_kind(self) -> bool:
        """Whether a file has rows of one kind only."""
        return self is not Format.JSONL


class TableLayout(enum.StrEnum):
    """What the columns of a table are."""

    RECORDS = "records"
    WIDE = "wide"


class Names(NamedTuple):
    """What a sensor is called: its UUID and, where it has one, its `device_id`."""

    identifier: str
    device_id: str | None


MEDIA_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSONL: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}

_FRAME = (
    "sensor_identifier",
    "device_id",
    "timestamp",
    "receipt_timestamp",
    "revision",
    "device_timestamp",
)
COLUMNS: Final = {
    Kind.MEASUREMENT: (*_FRAME, "value", "element_id"),
    Kind.LOG: (*_FRAME, "severity", "subject", "details", "element_id"),
    Kind.HEARTBEAT: (*_FRAME, "success", "details", "element_id"),
}
EXPORTED_KINDS: Final = tuple(COLUMNS)
# Of wide tables those behind the attributes, which stand where `value` does elsewhere.
_BEHIND: Final = ("element_id", JSON)
# In a file for spreadsheets the last column: the names of the row's cells that begin with a quote
# which is none of theirs.
QUOTED: Final = "quoted"
QUOTE: Final = "'"
# Texts that somebody else has chosen, and where a row has them; `device_id` is not in the row.
# All others begin as JSON, a time or a word of ours does.
_TEXTS: Final = {
    Kind.MEASUREMENT: {"element_id": 6},
    Kind.LOG: {"subject": 6, "element_id": 8},
    Kind.HEARTBEAT: {"element_id": 7},
}
# What spreadsheets take for the beginning of a formula, in full width too. A number is none.
FORMULA: Final = re.compile(
    r"(?![+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
)


class _Line(msgspec.Struct, gc=False):
    kind: str
    sensor_identifier: str
    device_id: str | None
    timestamp: str
    receipt_timestamp: str
    revision: int | None
    device_timestamp: float | None


class _Measurement(_Line, gc=False):
    value: msgspec.Raw
    # Most have none, and a line is not made longer for it.
    element_id: str | msgspec.UnsetType = msgspec.UNSET


class _Log(_Line, gc=False):
    severity: str
    subject: str
    details: str | None
    element_id: str | msgspec.UnsetType = msgspec.UNSET


class _Heartbeat(_Line, gc=False):
    success: bool | None
    details: msgspec.Raw | None
    element_id: str | msgspec.UnsetType = msgspec.UNSET


def is_wide(columns: Collection[str]) -> bool:
    """Return whether these are the columns of a wide export, in whichever order."""
    return {*_FRAME, *_BEHIND} <= {*columns}


def without_wide(form: Format, kinds: Collection[Kind]) -> str | None:
    """Return why there is no wide table of this; None: there is one."""
    if form is Format.JSONL:
        return "wide is of csv and parquet: a line of jsonl has its own members"
    if {*kinds} != {Kind.MEASUREMENT}:
        return "wide is of measurements: logs and heartbeats have columns of their own"
    return None


def wide_attributes(columns: Sequence[str]) -> list[str]:
    """Return those columns of a wide export that are attributes; one without a name is none."""
    others = {*_FRAME, *_BEHIND, QUOTED}
    return [name for name in columns if name and name not in others]


def wide_table(types: Mapping[str, ColumnType], *, spreadsheet: bool = False) -> Wide:
    """Return the columns of a wide export for attributes of these types."""
    taken = (*_FRAME, *_BEHIND, QUOTED)
    return chosen(types, taken, lambda name: spreadsheet and bool(FORMULA.match(name)))


def heading(
    form: Format, kind: Kind, *, spreadsheet: bool = False, wide: Wide | None = None
) -> bytes:
    """Return what stands before the first row; of Parquet, before the first page to be packed.

    `spreadsheet` and `wide` are as for `encode_rows`.

    Raises:
        FormatUnavailableError: a package is missing.
    """
    if form is Format.PARQUET:
        beginning: bytes = parquet().heading(kind, wide)
        return beginning
    if form is Format.JSONL:
        return b""
    columns = COLUMNS[kind] if wide is None else (*_FRAME, *wide.headings, *_BEHIND)
    if spreadsheet:
        columns = (*columns, QUOTED)
    return (",".join(map(_cell, columns)) + _END).encode()


def encode_rows(
    form: Format,
    kind: Kind,
    names: Names,
    rows: Sequence[Row],
    *,
    spreadsheet: bool = False,
    wide: Wide | None = None,
) -> bytes:
    """Return rows of one sensor, as `Exports.page` has them: lines, or a page for `Packing`.

    With `wide`, measurements have a column for each of its attributes in place of `value`.

    With `spreadsheet` a cell of CSV that a spreadsheet would take for a formula begins with a
    quote, and the column `quoted` names it, so that the quote can be told from a sensor's own.

    Raises:
        FormatUnavailableError: a package is missing.
    """
    if form is Format.PARQUET:
        page: bytes = parquet().encode_rows(kind, names, rows, wide)
        return page
    timed = zip(
        rows,
        moment_texts([row[0] for row in rows]),
        moment_texts([row[2] for row in rows]),
        strict=True,
    )
    if form is Format.CSV:
        own_cells = _CSV[kind] if wide is None else partial(_csv_wide, wide, spreadsheet)
        line = partial(_csv_line, own_cells)
        if spreadsheet:
            return "".join([_quoted(kind, line, names, *each) for each in timed]).encode()
        return "".join([line(names, *each) for each in timed]).encode()
    struct, own = _JSON[kind]
    lines = [
        struct(kind.value, *names, time, receipt, row[3], row[4], *own(row))
        for row, time, receipt in timed
    ]
    return b"".join([_encode(line) + b"\n" for line in lines])


def moment_texts(microseconds: Sequence[int]) -> list[str]:
    """Return what `time.to_rfc3339` does of each, without a call for each."""
    minutes = {each: minute_text(each) for each in {each // MINUTE for each in microseconds}}
    return [
        f"{minutes[each // MINUTE]}:{each // SECOND % 60:02}.{each % SECOND:06}Z"
        for each in microseconds
    ]


def _given(element_id: str | None) -> str | msgspec.UnsetType:
    return msgspec.UNSET if element_id is None else element_id


# What makes a line of JSON, and a row's members beside those of `_Line`.
_JSON: Final[dict[Kind, tuple[Callable[..., _Line], Callable[[Row], tuple[Any, ...]]]]] = {
    Kind.MEASUREMENT: (_Measurement, lambda row: (_Raw(row[5].encode()), _given(row[6]))),
    Kind.LOG: (_Log, lambda row: (*row[5:8], _given(row[8]))),
    Kind.HEARTBEAT: (
        _Heartbeat,
        lambda row: (
            # SQLite knows no booleans.
            None if row[5] is None else bool(row[5]),
            None if row[6] is None else _Raw(row[6].encode()),
            _given(row[7]),
        ),
    ),
}
_END: Final = "\r\n"


def _cell(text: str) -> str:
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _quoted(kind: Kind, line: _CsvLine, names: Names, row: Row, time: str, receipt: str) -> str:
    cells, quoted = list(row), []
    if FORMULA.match(names.device_id or ""):
        names = names._replace(device_id=f"{QUOTE}{names.device_id}")
        quoted.append("device_id")
    for name, at in _TEXTS[kind].items():
        if FORMULA.match(cells[at] or ""):
            cells[at] = f"{QUOTE}{cells[at]}"
            quoted.append(name)
    text = line(names, cells, time, receipt)
    return f"{text.removesuffix(_END)},{' '.join(quoted)}{_END}"


def _csv_line(
    own_cells: Callable[[Row], str], names: Names, row: Row, time: str, receipt: str
) -> str:
    revision = "" if row[3] is None else str(row[3])
    device_timestamp = "" if row[4] is None else repr(row[4])
    return (
        f"{names.identifier},{names.device_id or ''},{time},{receipt},"
        f"{revision},{device_timestamp},{own_cells(row)}{_END}"
    )


def _csv_wide(wide: Wide, spreadsheet: bool, row: Row) -> str:
    cells, json = wide.cells(row[5], csv_cell, "")
    if spreadsheet:
        for place, cell in enumerate(cells):
            if FORMULA.match(cell):
                cells[place], json = f"{QUOTE}{cell}", row[5]
    cells += (row[6] or "", json or "")
    own = ",".join(cells)
    if own.count(",") >= len(cells) or '"' in own or "\n" in own or "\r" in own:
        own = ",".join(map(_cell, cells))
    return own


def _csv_log(row: Row) -> str:
    # As JSON, so that an empty text is not taken for none.
    details = "" if row[7] is None else _encode(row[7]).decode()
    return f"{row[5]},{_cell(row[6])},{_cell(details)},{_cell(row[8] or '')}"


def _csv_heartbeat(row: Row) -> str:
    success = "" if row[5] is None else ("true" if row[5] else "false")
    return f"{success},{_cell(row[6] or '')},{_cell(row[7] or '')}"


_CSV: Final[dict[Kind, Callable[[Row], str]]] = {
    Kind.MEASUREMENT: lambda row: f"{_cell(row[5])},{_cell(row[6] or '')}",
    Kind.LOG: _csv_log,
    Kind.HEARTBEAT: _csv_heartbeat,
}

"""Stored rows as files have them, a page at a time: JSON Lines and CSV, as pure functions.

All forms keep everything that tells a row from a repeat (time to the microsecond, revision, the
canonical text of the value, the id of its element), so that what is exported and imported again
changes nothing.
"""

import enum
import importlib
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from heliograph.errors import StartError
from heliograph.exchange.wide import JSON, ColumnType, Wide, chosen, csv_cells
from heliograph.model.records import Kind
from heliograph.model.time import minute_text

Row: TypeAlias = Sequence[Any]
# What rows have of a column each.
_Columns: TypeAlias = Sequence[Sequence[Any]]

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


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
# Texts that somebody else has chosen, and which of a kind's own columns they are; `device_id` is
# no column of a row. All others begin as JSON, a time or a word of ours does.
_TEXTS: Final = {
    Kind.MEASUREMENT: {"element_id": 1},
    Kind.LOG: {"subject": 1, "element_id": 3},
    Kind.HEARTBEAT: {"element_id": 2},
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


def contradiction(
    form: Format,
    kinds: Collection[Kind],
    layout: TableLayout,
    columns: Collection[str] | None,
    *,
    spreadsheet: bool,
) -> tuple[str, str] | None:
    """Return which parameter goes without others, and why; None: all go together."""
    if spreadsheet and form is not Format.CSV:
        return "spreadsheet", "csv only"
    if layout is TableLayout.WIDE:
        if form is Format.JSONL:
            return "layout", "wide is of csv and parquet: a line of jsonl has its own members"
        if {*kinds} != {Kind.MEASUREMENT}:
            return (
                "layout",
                "wide is of measurements: logs and heartbeats have columns of their own",
            )
    if columns and (form is not Format.CSV or layout is not TableLayout.WIDE):
        return "column", "columns are chosen of a wide table as csv"
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
    timestamps, _, receipts, revisions, device_timestamps, *own = zip(*rows, strict=True)
    times = moment_texts(timestamps), moment_texts(receipts)
    if form is Format.CSV:
        numbers = _number_cells(revisions), _number_cells(device_timestamps)
        return _csv_lines(kind, names, (*times, *numbers), own, spreadsheet, wide)
    line, members = _JSON[kind]
    lines = map(
        line,
        *map(itertools.repeat, (kind.value, *names)),
        *times,
        revisions,
        device_timestamps,
        *members(own),
    )
    # Of lines that an iterator makes, msgspec 0.22 never lets the members go.
    return _encode_lines([*lines])


def moment_texts(microseconds: Sequence[int]) -> list[str]:
    """Return what `time.to_rfc3339` does of each, without a call for each."""
    milliseconds = [each // 1_000 for each in microseconds]
    seconds = [each // 1_000 for each in milliseconds]
    hours = [each // 3_600 for each in seconds]
    beginnings = {each: minute_text(each * 60)[:-2] for each in {*hours}}
    return [
        f"{beginnings[hour]}{_IN_HOUR[second % 3_600]}.{_THREE[millisecond % 1_000]}"
        f"{_THREE[microsecond % 1_000]}Z"
        for hour, second, millisecond, microsecond in zip(
            hours, seconds, milliseconds, microseconds, strict=True
        )
    ]


# Looked up, a number takes a third of the time that it takes to be formatted.
_IN_HOUR: Final = [f"{each // 60:02}:{each % 60:02}" for each in range(3_600)]
_THREE: Final = [f"{each:03}" for each in range(1_000)]


def _given(ids: Sequence[str | None]) -> list[str | msgspec.UnsetType]:
    return [msgspec.UNSET if each is None else each for each in ids]


def _raw(texts: Sequence[str | None]) -> list[msgspec.Raw | None]:
    return [None if each is None else msgspec.Raw(each.encode()) for each in texts]


# What makes a line of JSON, and its members beside those of `_Line` of a kind's own columns.
_JSON: Final[dict[Kind, tuple[Callable[..., _Line], Callable[[_Columns], _Columns]]]] = {
    Kind.MEASUREMENT: (_Measurement, lambda own: (_raw(own[0]), _given(own[1]))),
    Kind.LOG: (_Log, lambda own: (*own[:3], _given(own[3]))),
    Kind.HEARTBEAT: (
        _Heartbeat,
        lambda own: (
            # SQLite knows no booleans.
            [None if each is None else bool(each) for each in own[0]],
            _raw(own[1]),
            _given(own[2]),
        ),
    ),
}
_END: Final = "\r\n"


def _cell(text: str) -> str:
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def cells_of(texts: Sequence[str | None]) -> Sequence[str]:
    """Return texts as cells of CSV, quoted where they have to be."""
    present = [text or "" for text in texts]
    together = "".join(present)
    return present if _cell(together) is together else [*map(_cell, present)]


def _number_cells(numbers: Sequence[float | None]) -> list[str]:
    return ["" if each is None else repr(each) for each in numbers]


def _csv_lines(
    kind: Kind,
    names: Names,
    frame: _Columns,
    own: _Columns,
    spreadsheet: bool,
    wide: Wide | None,
) -> bytes:
    device_id = names.device_id or ""
    quoted: _Columns = ()
    if spreadsheet:
        device_id, own, quoted = _quoted(kind, device_id, own)
    cells = _CSV[kind](own) if wide is None else _csv_wide(wide, spreadsheet, own)
    lines = zip(itertools.repeat(f"{names.identifier},{device_id}"), *frame, *cells, *quoted)
    return (_END.join(map(",".join, lines)) + _END).encode()


def _quoted(
    kind: Kind, device_id: str, own: _Columns
) -> tuple[str, _Columns, Sequence[Sequence[str]]]:
    """Return all with quotes before what begins as a formula, and the column of their names."""
    columns = [*map(list, own)]
    always = []
    if FORMULA.match(device_id):
        device_id = f"{QUOTE}{device_id}"
        always.append("device_id")
    quoted = [[*always] for _ in columns[0]]
    for name, at in _TEXTS[kind].items():
        for row, text in enumerate(columns[at]):
            if FORMULA.match(text or ""):
                columns[at][row] = f"{QUOTE}{text}"
                quoted[row].append(name)
    return device_id, columns, [[*map(" ".join, quoted)]]


def _csv_wide(wide: Wide, spreadsheet: bool, own: _Columns) -> _Columns:
    columns, json = wide.cells(own[0], csv_cells, "")
    if spreadsheet:
        for column in columns:
            for row, cell in enumerate(column):
                if FORMULA.match(cell):
                    column[row], json[row] = f"{QUOTE}{cell}", own[0][row]
    return [*map(cells_of, (*columns, own[1], json))]


def _csv_log(own: _Columns) -> _Columns:
    severities, subjects, details, ids, *_ = own
    # As JSON, so that an empty text is not taken for none.
    texts = [None if each is None else _encode(each).decode() for each in details]
    return severities, cells_of(subjects), cells_of(texts), cells_of(ids)


def _csv_heartbeat(own: _Columns) -> _Columns:
    successes = ["" if each is None else "true" if each else "false" for each in own[0]]
    return successes, cells_of(own[1]), cells_of(own[2])


_CSV: Final[dict[Kind, Callable[[_Columns], _Columns]]] = {
    Kind.MEASUREMENT: lambda own: (cells_of(own[0]), cells_of(own[1])),
    Kind.LOG: _csv_log,
    Kind.HEARTBEAT: _csv_heartbeat,
}

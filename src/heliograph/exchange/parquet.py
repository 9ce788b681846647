"""Stored rows as Parquet, a page at a time, and tables of Parquet as elements.

pyarrow is an extra and takes 90 MiB: nothing imports this before a Parquet file is asked for;
`availability` does.
"""

import decimal
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from heliograph.exchange.csv_rows import NAMES, TIMES
from heliograph.exchange.elements import (
    BadLineError,
    Element,
    NoValueError,
    checked_json,
    json_text,
    make_element,
)
from heliograph.exchange.formats import COLUMNS, Names, Row, is_wide, wide_attributes
from heliograph.exchange.table_layouts import QUERIED, UNKNOWN, is_time_name, without_times
from heliograph.exchange.table_times import Question, TimeForm, TimeSurvey
from heliograph.exchange.tables import (
    HEARTBEAT_NAMES,
    TableOptions,
    ask_if_long,
    bad_time,
    log_columns,
    sent_time,
    severity_of,
    unknown_column,
)
from heliograph.exchange.wide import JSON, Wide, put_together, read_number, typed_cells
from heliograph.model.records import Kind
from heliograph.model.time import now, to_rfc3339

# A row group is complete with so many rows, or bytes before they are packed.
GROUP_ROWS = 65_536
GROUP_BYTES = 4 << 20
# Rows of a file that are read at once.
READ_ROWS = 1_000

# Arrow's own pools keep what they once had: 20 MiB more for an export.
pa.set_memory_pool(pa.system_memory_pool())

_BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError)
_NOTHING_SAID: Final = TableOptions()
_NO_MOMENT: Final = "\0"
_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
_FRAME: Final = [
    pa.field("sensor_identifier", pa.string(), nullable=False),
    pa.field("device_id", pa.string()),
    pa.field("timestamp", _MICROSECONDS, nullable=False),
    pa.field("receipt_timestamp", _MICROSECONDS, nullable=False),
    pa.field("revision", pa.int64()),
    pa.field("device_timestamp", pa.float64()),
]
# Values are JSON texts: columns for attributes would lose types, nesting and null.
_OWN: Final = {
    Kind.MEASUREMENT: [pa.field("value", pa.string(), nullable=False)],
    Kind.LOG: [
        pa.field("severity", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("details", pa.string()),
    ],
    Kind.HEARTBEAT: [pa.field("success", pa.bool_()), pa.field("details", pa.string())],
}
_ELEMENT_ID: Final = pa.field("element_id", pa.string())
SCHEMAS: Final = {kind: pa.schema([*_FRAME, *fields, _ELEMENT_ID]) for kind, fields in _OWN.items()}


_ATTRIBUTES: Final = {"number": pa.float64(), "boolean": pa.bool_(), "text": pa.string()}


def schema(kind: Kind, wide: Wide | None = None) -> pa.Schema:
    """Return the columns of a file of one kind; with `wide` of measurements, one an attribute."""
    if wide is None:
        return SCHEMAS[kind]
    attributes = [pa.field(each.heading, _ATTRIBUTES[each.type]) for each in wide.columns]
    return pa.schema([*_FRAME, *attributes, _ELEMENT_ID, pa.field(JSON, pa.string())])


def heading(kind: Kind, wide: Wide | None = None) -> bytes:
    """Return what stands before the first page in a stream of Arrow."""
    beginning: bytes = schema(kind, wide).serialize().to_pybytes()
    return beginning


def encode_rows(kind: Kind, names: Names, rows: Sequence[Row], wide: Wide | None = None) -> bytes:
    """Return rows of one sensor, as `Exports.page` has them, as a batch in Arrow's stream."""
    timestamps, _, receipts, revisions, device_timestamps, *own = map(list, zip(*rows, strict=True))
    if kind is Kind.HEARTBEAT:
        # SQLite knows no booleans.
        own[0] = [None if success is None else bool(success) for success in own[0]]
    if wide is not None:
        cells, texts = wide.cells(own[0], typed_cells, None)
        own = [*cells, own[1], [*texts]]
    fields = schema(kind, wide)
    constant = [pa.repeat(pa.scalar(name, pa.string()), len(rows)) for name in names]
    # What a row has beyond the fields is for whoever reads it.
    varying = [
        pa.array(column, field.type)
        for column, field in zip(
            (timestamps, receipts, revisions, device_timestamps, *own),
            [*fields][len(constant) :],
            strict=False,
        )
    ]
    arrays = [*constant, *varying]
    page: bytes = pa.RecordBatch.from_arrays(arrays, schema=fields).serialize().to_pybytes()
    return page


class Packing:
    """Makes Parquet of pages, a row group at a time: what is complete is handed out."""

    def __init__(self, kind: Kind, wide: Wide | None = None) -> None:
        self._schema = schema(kind, wide)
        self._out = _Outlet()
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._out, mode="w"), self._schema, compression="zstd"
        )
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, page: bytes) -> bytes:
        """Take a page; return what can be written now."""
        batch = pa.ipc.read_record_batch(pa.py_buffer(page), self._schema)
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += len(page)
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()
        return self._out.take()

    def end(self) -> bytes:
        """Return the end of the file."""
        self._write_group()
        self._writer.close()
        return self._out.take()

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=1 << 30)
            self._waiting, self._rows, self._bytes = [], 0, 0


class _Outlet(io.RawIOBase):
    """Where the writer writes to; what was taken from it is gone."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def pack(kind: Kind, source: Path, target: BinaryIO, wide: Wide | None = None) -> None:
    """Write the pages of a file, behind their heading, as Parquet."""
    packing = Packing(kind, wide)
    with source.open("rb") as file, pa.ipc.open_stream(file) as pages:
        target.writelines(packing.add(batch.serialize().to_pybytes()) for batch in pages)
    target.write(packing.end())


class ParquetTable:
    """A file that is read: an export, a copy of one, or a table of any make.

    Programs that copy an export keep its columns: perhaps in another order, with `value` as a
    structure, and with `kind` where they had read JSON Lines. What a query to InfluxDB has found is
    read as its CSV is. Of all other tables each column is an attribute, unless it is a time, a
    sensor or an element's id.
    """

    def __init__(
        self,
        file: BinaryIO,
        kind: Kind | None = None,
        options: TableOptions = _NOTHING_SAID,
        *,
        has_sensor: bool = False,
    ) -> None:
        """Take the columns of the file; without `kind` those of an export tell it.

        `has_sensor`: rows that name none have one.

        Of the options those of times, of sensors and of a value a row have a meaning. Moments that
        have no zone are in the one of the options, otherwise in UTC; of times that are texts, days
        or counts all are seen first.

        Raises:
            BadLineError: it is not Parquet, has no column with a time, or leaves open what it says.
        """
        try:
            self._file = pq.ParquetFile(file, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise BadLineError(f"not a Parquet file: {error}") from error
        schema = self._file.schema_arrow
        columns = tuple(schema.names)
        if len(set(columns)) != len(columns):
            raise BadLineError("two columns have the same name")
        self._is_wide = is_wide(columns)
        self._is_export = self._is_wide or _is_export(columns)
        self._kind = kind
        self._usual = kind or next(
            (each for each in _OWN if _members(each) <= {*columns}), Kind.MEASUREMENT
        )
        self._layout = next((each for each in QUERIED if each.columns <= {*columns}), UNKNOWN)
        given = next(iter(options.time_columns), self._layout.time)
        self._time = _time_column(schema, given)
        self._zone = options.zone
        self._sensors = [*filter(None, (options.sensor_column,)), *NAMES]
        # Of a long table: the column with the attribute of a row, and that with its value.
        self._attribute = options.attribute_column or next(iter(self._layout.attribute), None)
        self._value_column = options.value_column or self._layout.value or "value"
        # What names the sensor of a row that names none.
        self._fallback = None if has_sensor else self._layout.sensor
        said = (options.sensor_column, self._attribute, options.value_column, *options.texts)
        if unknown := next((name for name in said if name and name not in columns), None):
            raise BadLineError(unknown_column(unknown, columns))
        if self._attribute is not None and self._value_column not in columns:
            raise BadLineError(f"there is no column {self._value_column}: give --value-column")
        self._attributes = (
            wide_attributes(columns)
            if self._is_wide
            else [
                field.name
                for field in schema
                if field.name not in {*self._sensors, self._time, self._attribute, "element_id"}
                and field.name not in self._layout.left_out
                and not _INDEX.fullmatch(field.name)
            ]
        )
        self._log = log_columns([*self._attributes]) if self._usual is Kind.LOG else {}
        if not self._is_export and self._attribute is None and self._usual is Kind.MEASUREMENT:
            texts = [name for name in self._attributes if _is_text(schema.field(name).type)]
            for question in ask_if_long(texts, self._attributes, options):
                raise BadLineError(str(question))
        # Texts that are JSON by the column's own type.
        self._json = {
            field.name
            for field in schema
            if getattr(field.type, "extension_name", "") == "arrow.json"
        }
        # None: the column has moments, or texts as they are exported.
        self._read_time: Callable[[str], int] | None = None
        if not self._is_export and not pa.types.is_timestamp(schema.field(self._time).type):
            self._read_time = self._time_form(options).reader()

    @property
    def rests_on(self) -> list[tuple[str, str]]:
        """What the columns are taken for, by subject."""
        table = self._layout.name or "a table"
        found = [("heading", f"of an export of {self._usual}s" if self._is_export else table)]
        if self._is_export:
            return found
        named = [*self._sensors, *filter(None, (self._fallback,))]
        sensors = [name for name in named if name in self._file.schema_arrow.names]
        found += [
            ("time", f"column {self._time}"),
            ("sensor", f"column {', '.join(sensors)}" if sensors else "--sensor"),
        ]
        if self._attribute is not None:
            found.append(("attribute", f"column {self._attribute}"))
            found.append(("value", f"column {self._value_column}"))
        if self._usual is Kind.LOG:
            found += [(member, f"column {name}") for member, name in self._log.items()]
            others = [name for name in self._attributes if name not in self._log.values()]
            if others:
                found.append(("left out", f"{', '.join(others)}: a log message has nothing for it"))
        return found

    def _time_form(self, options: TableOptions) -> TimeForm:
        survey = TimeSurvey(now(), options.time_format, options.precision)
        first = 1
        try:
            for batch in self._file.iter_batches(READ_ROWS, columns=[self._time]):
                cells = enumerate(map(_time_text, batch.column(0).to_pylist()), first)
                if present := [(text, row) for row, text in cells if text]:
                    survey.add(*zip(*present, strict=True))
                first += batch.num_rows
        except _BROKEN as error:
            raise BadLineError(f"the file is broken: {error}") from error
        questions: list[Question] = []
        form, _ = survey.decide(
            self._time, options.zone, lambda *asked: questions.append(Question(*asked))
        )
        if questions and (survey.usable or survey.unusable):
            raise BadLineError("; ".join(map(str, questions)))
        return form

    def rows(self, skip: int) -> Iterator[Element | BadLineError]:
        """Yield what each row says, behind so many.

        Raises:
            BadLineError: the file is broken there.
        """
        groups: list[int] = []
        for number in range(self._file.num_row_groups):
            size = self._file.metadata.row_group(number).num_rows
            if groups or skip < size:
                groups.append(number)
            else:
                skip -= size
        try:
            for batch in self._file.iter_batches(READ_ROWS, row_groups=groups):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                for row in self._with_texts(batch.slice(skip)).to_pylist():
                    yield self._said(row)
                skip = 0
        except _BROKEN as error:
            raise BadLineError(f"the file is broken: {error}") from error

    def _with_texts(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with its moments as texts, to the microsecond."""
        arrays = [
            pa.array(
                [
                    self._moment(name, microseconds, is_bare=array.type.tz is None)
                    for microseconds in array.cast(_MICROSECONDS, safe=False)
                    .cast(pa.int64())
                    .to_pylist()
                ]
            )
            if pa.types.is_timestamp(array.type)
            else array
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def _moment(self, name: str, microseconds: int | None, *, is_bare: bool) -> str | None:
        if microseconds is None or name != self._time or self._zone is None or not is_bare:
            return _moment(microseconds)
        try:
            return _moment(self._zone.moment(microseconds))
        except ValueError as error:
            # It stands in the time's place until the row is read.
            return f"{_NO_MOMENT}{error}"

    def _said(self, row: dict[str, Any]) -> Element | BadLineError:
        try:
            return self._element({name: cell for name, cell in row.items() if _is_there(cell)})
        except BadLineError as error:
            return error

    def _element(self, row: dict[str, Any]) -> Element:
        names = tuple(str(row[name]) for name in self._sensors if name in row)
        if not names and (fallback := row.get(self._fallback or "")) is not None:
            names = (str(fallback),)
        kind = self._kind_of(row)
        element: dict[str, msgspec.Raw] = {}
        if self._time in row:
            if str(row[self._time]).startswith(_NO_MOMENT):
                raise BadLineError(f"timestamp: {row[self._time].removeprefix(_NO_MOMENT)}")
            element["timestamp"] = self._timestamp(row[self._time])
        if "revision" in row and (self._is_export or kind is not Kind.MEASUREMENT):
            revision = row["revision"]
            # Where some are missing, other programs hold floats.
            is_whole = isinstance(revision, float) and revision.is_integer()
            element["revision"] = json_text(int(revision) if is_whole else revision)
        if "element_id" in row:
            element["id"] = json_text(str(row["element_id"]))
        if kind is Kind.MEASUREMENT:
            element["value"] = self._exported(row) if self._is_export else self._value(row)
            return make_element(kind, names, element)
        return make_element(kind, names, element | self._members_of(kind, row))

    def _members_of(self, kind: Kind, row: dict[str, Any]) -> dict[str, msgspec.Raw]:
        """Return what a row of a log or a heartbeat says beside its time, its sensor and its id."""
        members: dict[str, msgspec.Raw] = {}
        if kind is Kind.HEARTBEAT and not self._is_export:
            for name in self._attributes:
                if name in row and name not in HEARTBEAT_NAMES:
                    members[name] = json_text(_plain(row[name], name))
        if kind is Kind.LOG and not self._is_export:
            row = {member: row[name] for member, name in self._log.items() if name in row}
            row["severity"] = severity_of(str(row.get("severity", "")))
        for name in ("severity", "subject", "success"):
            if name in row:
                members[name] = json_text(_plain(row[name], name))
        if "details" in row:
            details = row["details"]
            is_json = kind is Kind.HEARTBEAT and isinstance(details, str)
            members["details"] = (
                checked_json(details, "details")
                if is_json
                else json_text(_plain(details, "details"))
            )
        return members

    def _timestamp(self, cell: Any) -> msgspec.Raw:
        if self._read_time is None:
            return json_text(_plain(cell, self._time))
        text = _time_text(cell)
        try:
            moment = self._read_time(text)
        except ValueError as error:
            raise BadLineError(bad_time(text, error)) from error
        return msgspec.Raw(sent_time(text, moment).encode())

    def _kind_of(self, row: dict[str, Any]) -> Kind:
        if self._kind is not None or not self._is_export or "kind" not in row:
            return self._usual
        if row["kind"] not in COLUMNS:
            raise BadLineError("kind is none of measurement, log, heartbeat")
        return Kind(row["kind"])

    def _exported(self, row: dict[str, Any]) -> msgspec.Raw:
        """Return the value of an export's row, which is never without one."""
        if self._is_wide:
            if JSON in row:
                return checked_json(str(row[JSON]), JSON)
            return put_together(
                [
                    (name, json_text(_plain(row[name], name, read_number)))
                    for name in self._attributes
                    if name in row
                ]
            )
        value = row.get("value")
        if isinstance(value, str):
            return checked_json(value, "value")
        return json_text(_plain(value, "value", read_number))

    def _value(self, row: dict[str, Any]) -> msgspec.Raw:
        attributes = {name: row[name] for name in self._attributes if name in row}
        if not attributes:
            raise NoValueError("there is no value")
        if attributes.keys() == {"value"} and self._attribute is None:
            value = attributes["value"]
            # A text alone is JSON, as in an export.
            is_json = isinstance(value, str)
            return checked_json(value, "value") if is_json else json_text(_plain(value, "value"))
        members = {
            name: checked_json(cell, name) if name in self._json else _plain(cell, name)
            for name, cell in attributes.items()
        }
        if self._attribute is not None:
            if self._value_column not in members:
                raise NoValueError("there is no value")
            value = members.pop(self._value_column)
            name = str(row.get(self._attribute, ""))
            if not name:
                raise BadLineError("the attribute has no name")
            if name in members:
                raise BadLineError(f"the attribute has the name of column {name}")
            members[name] = value
        return json_text(members)


# What pandas calls an index without a name: the numbers of rows, unless it says when they were.
_INDEX: Final = re.compile(r"__index_level_\d+__", re.ASCII)
_EXPORTED: Final = frozenset(("kind", *(name for own in COLUMNS.values() for name in own)))


def _is_text(column: pa.DataType) -> bool:
    if pa.types.is_dictionary(column):
        column = column.value_type
    return bool(pa.types.is_string(column) or pa.types.is_large_string(column))


def _members(kind: Kind) -> frozenset[str]:
    return frozenset(field.name for field in _OWN[kind])


def _is_export(columns: Sequence[str]) -> bool:
    """Return whether these are the columns of an export, or of a copy of one."""
    names = frozenset(columns)
    is_of_a_kind = any(_members(kind) <= names for kind in _OWN)
    return is_of_a_kind and {field.name for field in _FRAME} <= names <= _EXPORTED


def _time_column(schema: pa.Schema, given: str | None) -> str:
    """Return the column with the time: of our names, an index of pandas, or the only moments.

    Raises:
        BadLineError: there is none, or it is open which one it is.
    """
    names = schema.names
    if given is not None:
        if given not in names:
            raise BadLineError(unknown_column(given, names))
        return given
    moments = [name for name in names if pa.types.is_timestamp(schema.field(name).type)]
    moments = moments or [name for name in names if pa.types.is_date(schema.field(name).type)]
    ours = [name for name in TIMES if name in names]
    indices = [name for name in moments if _INDEX.fullmatch(name)]
    found = ours[:1] or indices[:1] or list(filter(is_time_name, moments)) or moments
    if not found:
        raise BadLineError(without_times(names))
    if len(found) > 1:
        options = " or ".join(f"--time-column '{name}'" for name in found)
        raise BadLineError(f"columns {', '.join(found)} hold times: give {options}")
    return str(found[0])


def _time_text(cell: Any) -> str:
    """Return the cell of a time as a table of text has it."""
    if not _is_there(cell):
        return ""
    if isinstance(cell, float | decimal.Decimal):
        return f"{cell:f}"
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _moment(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    try:
        return to_rfc3339(microseconds)
    except OverflowError:
        # Beyond the year 9999: refused where it is sent.
        return str(microseconds)


def _is_there(cell: Any) -> bool:
    return cell is not None and not (isinstance(cell, float) and math.isnan(cell))


_CONVERTERS: Final[dict[type, Callable[[Any], Any]]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    decimal.Decimal: float,
}


def _plain(value: Any, column: str, number: Callable[[float], Any] = float) -> Any:
    """Return a cell as JSON has it.

    A structure's members that are null, or no number, are left out as columns are: in a table
    every row has each of them. `number` says what a float is.

    Raises:
        BadLineError: JSON has nothing like it.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        if math.isinf(value):
            raise BadLineError(f"{column} is infinite, which no JSON number is")
        return None if math.isnan(value) else number(value)
    if kind is list and not (value and type(value[0]) is tuple):
        return [_plain(item, column, number) for item in value]
    if kind in (list, dict):
        # A list of pairs is a map.
        members = value.items() if kind is dict else value
        return {
            str(name): _plain(item, f"{column}.{name}", number)
            for name, item in members
            if _is_there(item)
        }
    if kind in _CONVERTERS:
        return _CONVERTERS[kind](value)
    raise BadLineError(f"{column} is of a type that JSON does not have: {kind.__name__}")

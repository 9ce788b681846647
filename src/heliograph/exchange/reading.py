"""Reading a file record by record, from any record on: each with its line and where it ends."""

import csv
import gzip
import itertools
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from heliograph.errors import StartError
from heliograph.exchange.csv_rows import CsvRows, kind_of_export
from heliograph.exchange.elements import (
    BadLineError,
    Element,
    NoValueError,
)
from heliograph.exchange.formats import parquet
from heliograph.exchange.json_rows import from_json_line, from_json_lines
from heliograph.exchange.line_protocol import Mapping, from_line
from heliograph.exchange.table_layouts import SEPARATORS, find_heading
from heliograph.exchange.tables import Plan, TableOptions, TableRows, TableSurvey
from heliograph.exchange.view_rows import View, ViewRows, view_of
from heliograph.model.records import Kind
from heliograph.model.time import now

# Longer ones could not be sent: a message has 1 MiB.
LONGEST_LINE: Final = 2 << 20
# Of a cell, which may hold line ends, so that a quote that is never closed ends somewhere.
LONGEST_CELL: Final = 2 << 20
# By its first lines a table is known; all others are then seen in blocks.
SAMPLE_LINES: Final = 100
SAMPLE_BYTES: Final = 1 << 18
BLOCK_ROWS: Final = 1_000
BLOCK_BYTES: Final = 1 << 18
_BOM = b"\xef\xbb\xbf"
# What begins a file that is no text, and what to do with it.
_NO_TEXT: Final = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet: unpack it, or save the spreadsheet as CSV",
    b"PAR1": "Parquet: give --format parquet",
    b"\x1f\x8b": "packed by gzip: its name has to end in .gz, or unpack it with gunzip",
}


class Place(NamedTuple):
    """The end of a record: bytes into the (expanded) file, and lines (or rows) up to there."""

    offset: int
    line: int


class Record(NamedTuple):
    """What a record says, or why it can't be used; `line` is its first."""

    line: int
    said: Element | BadLineError
    end: Place


def open_file(path: Path) -> tuple[BinaryIO, BinaryIO]:
    """Return the file's text as bytes, expanded where its name ends in .gz, and the file itself.

    `-` is standard input. What comes through a pipe is copied first: it can't be read twice.

    Raises:
        StartError: it can't be read.
    """
    try:
        raw = cast("BinaryIO", sys.stdin.buffer) if str(path) == "-" else path.open("rb")
        if not raw.seekable():
            raw = _copied(raw)
    except OSError as error:
        raise StartError(f"can't read {path}: {error.strerror}") from error
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw)), raw
    return raw, raw


def _copied(pipe: BinaryIO) -> BinaryIO:
    copy = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 - whoever asks closes it
    try:
        with pipe:
            shutil.copyfileobj(pipe, copy)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


class _Lines:
    """The lines of a file, none longer than the bound, and how far they reach."""

    def __init__(self, file: BinaryIO, start: Place) -> None:
        self._file = file
        self._offset, self.line = start
        self._too_long = False
        file.seek(start.offset)

    @property
    def place(self) -> Place:
        """Where what was read ends."""
        return Place(self._offset, self.line)

    def next(self) -> bytes:
        """Return the next line with its end, empty behind the last one.

        Raises:
            StartError: the archive is broken.
        """
        try:
            line = self._file.readline(LONGEST_LINE)
            size = len(line)
            rest = line
            while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                # What can't be sent is passed over piece by piece.
                self._too_long = True
                rest = self._file.readline(LONGEST_LINE)
                size += len(rest)
        except (OSError, EOFError, zlib.error) as error:
            raise StartError(f"line {self.line + 1}: {error}") from error
        if size:
            self.line += 1
            self._offset += size
            if self._offset == size:
                return line.removeprefix(_BOM)
        return line

    def excess(self) -> BadLineError | None:
        """Return what is wrong where a line since the last call was too long."""
        if not self._too_long:
            return None
        self._too_long = False
        return BadLineError(f"the line is longer than {LONGEST_LINE >> 20} MiB")

    def texts(self) -> Iterator[str]:
        """Yield the lines as text; what is no UTF-8 stands as lone surrogates."""
        while line := self.next():
            yield line.decode("utf-8", "surrogateescape")


def read_lines(
    file: BinaryIO, start: Place, read: Callable[[bytes], Element | None]
) -> Iterator[Record]:
    """Yield what each line says; `read` returns None for one that says nothing."""
    lines = _Lines(file, start)
    while line := lines.next():
        said: Element | BadLineError | None
        try:
            said = lines.excess() or (read(line) if line.strip() else None)
        except BadLineError as error:
            said = error
        if said is not None:
            yield Record(lines.line, said, lines.place)


def json_lines(
    file: BinaryIO, start: Place, kind: Kind | None, left_out: set[str]
) -> Iterator[Record]:
    """Yield what each line of JSON says; names of what has no place are added to `left_out`."""
    own = kind or Kind.MEASUREMENT
    place = start
    for lines, ends in _whole_lines(file, start):
        if not start.offset and place is start:
            lines[0] = lines[0].removeprefix(_BOM)
        said = from_json_lines(lines, own, left_out)
        numbers = range(place.line + 1, ends[-1].line + 1)
        records = map(partial(tuple.__new__, Record), zip(numbers, said, ends, strict=True))
        yield from (records if None not in said else (r for r in records if r.said is not None))
        place = ends[-1]
    yield from read_lines(file, place, lambda line: from_json_line(line, own, left_out))


def line_protocol(
    file: BinaryIO, start: Place, mapping: Mapping, sensor: str | None
) -> Iterator[Record]:
    """Yield what each line of InfluxDB's line protocol says."""

    def read(line: bytes) -> Element | None:
        try:
            return from_line(line.decode(), mapping, sensor)
        except UnicodeDecodeError as error:
            raise BadLineError("not UTF-8") from error

    return read_lines(file, start, read)


class CsvFile(NamedTuple):
    """A file of CSV that was looked at: what its rows are, and where they begin.

    `plan` is of a table of another make; without one it is of a `view` for SQL, or an export.
    """

    rows_from: Place
    separator: str
    heading: tuple[str, ...]
    kind: Kind
    plan: Plan | None = None
    options: TableOptions = TableOptions()
    view: View | None = None


def look_at_csv(
    file: BinaryIO,
    kind: Kind | None,
    options: TableOptions,
    show: Callable[[], object] = lambda: None,
    *,
    left_out: int = 0,
) -> CsvFile:
    """Return what a file of CSV is; one that is no export of ours is read to its end for that.

    `show` is called from time to time meanwhile. Of a piece of a longer file so many lines are
    left out behind the heading: they count in the numbers of those that follow.

    Raises:
        StartError: its heading can't be used.
    """
    csv.field_size_limit(LONGEST_CELL)
    at = Place(0, 1)
    try:
        lines = _first_lines(file)
        if (own := _export(file, lines, kind, options)) is not None:
            offset, line = own.rows_from
            return own._replace(rows_from=Place(offset, line + left_out))
        heading = find_heading(lines, options.separator, options.time_columns)
        at = _behind(file, heading.separator, heading.record + 1)
        offset, line = _behind(file, heading.separator, heading.record + 1 + heading.behind)
        rows_from = Place(offset, line + left_out)
        sample = _sample(file, rows_from, heading.separator)
        survey = TableSurvey(heading, sample, options, kind or Kind.MEASUREMENT, now())
        for block in _blocks(file, rows_from, heading.separator):
            if block.is_utf8 and block.rows:
                survey.add(block.rows, block.lines)
            show()
        plan = survey.decide()
    except (BadLineError, csv.Error) as error:
        raise StartError(f"line {max(1, at.line)}: {_reason(error)}") from error
    return CsvFile(rows_from, heading.separator, heading.columns, plan.kind, plan, options)


def findings(look: CsvFile) -> Iterator[tuple[str, str]]:
    """Yield what a table of CSV is taken for, and why, by subject."""
    if look.view is not None:
        yield "heading", f"of the view {look.view.name}"
        return
    if look.plan is None:
        yield "heading", f"of an export of {look.kind}s"
        return
    heading = look.plan.heading
    name = heading.layout.name or "a table"
    yield "heading", f"{name}: {heading.rests_on}"
    yield "cells", f"separated by {SEPARATORS.get(look.separator, repr(look.separator))}"
    yield from look.plan.rests_on


def _export(
    file: BinaryIO, lines: list[str], kind: Kind | None, options: TableOptions
) -> CsvFile | None:
    """Return what an export or a view of ours is, also saved by a spreadsheet; None: it is none.

    Raises:
        BadLineError: something is said of it that has no meaning.
    """
    for separator in [options.separator] if options.separator else SEPARATORS:
        columns = next((row for row in csv.reader(lines, delimiter=separator) if row), [])
        view = view_of(columns)
        own = view.kind if view is not None else kind_of_export(columns)
        if own is None:
            continue
        if options._replace(separator=None) != TableOptions():
            what = f"of the view {view.name}" if view is not None else "an export"
            raise BadLineError(
                f"this is {what}, in which nothing is open: leave out what is said of tables"
                " (--decimal, --time-…, --precision, --missing, --text, …)"
            )
        if view is not None and kind not in (None, own):
            raise BadLineError(f"the view {view.name} has {own}s, no {kind}s")
        behind = _behind(file, separator, 1)
        return CsvFile(behind, separator, tuple(columns), kind or own, view=view)
    return None


def csv_rows(
    file: BinaryIO, start: Place, look: CsvFile, sensor_tag: str, *, has_sensor: bool
) -> Iterator[Record]:
    """Yield what each row under the heading says, from the start on."""
    begin = max(start, look.rows_from)
    if look.view is not None:
        rows = ViewRows(look.view, look.heading)
        yield from itertools.starmap(Record, rows.elements(_cells(file, begin, look.separator)))
        return
    read: Callable[[Sequence[list[str]]], Sequence[Element | BadLineError | None]]
    if look.plan is None:
        read = CsvRows(look.heading, look.kind).elements
    else:
        read = TableRows(look.plan, look.options, sensor_tag, has_sensor=has_sensor).elements
        if look.plan.sees_all:
            # Which heading holds at the start stands somewhere before it.
            begin = look.rows_from
    new = partial(tuple.__new__, Record)
    for block in _blocks(file, begin, look.separator):
        fault = block.fault
        if look.plan is None and not block.is_utf8:
            fault = BadLineError("not UTF-8")
        said = [fault] if fault is not None else read(block.rows)
        records = map(new, zip(block.lines, said, block.ends, strict=True))
        if block.ends[-1] <= start:
            continue
        if block.ends[0] > start and {*map(type, said)} == {Element}:
            yield from records
        else:
            yield from _remarkable(records, start, block)


def _remarkable(records: Iterable[Record], start: Place, block: "_Block") -> Iterator[Record]:
    """Yield the records behind the start that say something, or are bad."""
    for record in records:
        said = record.said
        if said is None or record.end <= start:
            continue
        names = said.sensors if isinstance(said, Element) else None
        if not block.is_utf8 and (names is None or not _is_utf8(names)):
            said = BadLineError("not UTF-8")
        is_bad = isinstance(said, BadLineError) and not isinstance(said, NoValueError)
        if is_bad and record.end.line > record.line:
            # A quote that is not closed takes what follows with it.
            said = BadLineError(f"{said} (up to line {record.end.line})")
        yield Record(record.line, said, record.end)


def _cells(
    file: BinaryIO, start: Place, separator: str
) -> Iterator[tuple[int, list[str] | BadLineError, Place]]:
    """Yield the cells of each row that is not empty: its first line, and where it ends."""
    lines = _Lines(file, start)
    rows = csv.reader(lines.texts(), delimiter=separator, strict=True)
    while True:
        first = lines.line + 1
        cells: list[str] | BadLineError
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            cells = BadLineError(_reason(error))
        if cells:
            yield first, lines.excess() or cells, lines.place


def _behind(file: BinaryIO, separator: str, records: int) -> Place:
    """Return the place behind so many records.

    Raises:
        BadLineError: one of them is no UTF-8.
    """
    lines = _Lines(file, Place(0, 0))
    rows = filter(None, csv.reader(lines.texts(), delimiter=separator, strict=True))
    if not all(map(_is_utf8, itertools.islice(rows, records))):
        raise BadLineError("not UTF-8")
    return lines.place


def _first_lines(file: BinaryIO) -> list[str]:
    """Return the lines that tell what kind of table it is.

    Raises:
        BadLineError: they are no UTF-8.
    """
    lines = _Lines(file, Place(0, 0))
    found: list[str] = []
    size = 0
    while len(found) < SAMPLE_LINES and size < SAMPLE_BYTES and (line := lines.next()):
        for beginning, what in _NO_TEXT.items():
            if not found and line.startswith(beginning):
                raise BadLineError(f"no table of text but {what}")
        if not found and (line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in line):
            raise BadLineError(
                "not UTF-8 but UTF-16: convert it, as in: iconv -f UTF-16 -t UTF-8 FILE |"
                " heliograph import - --format csv"
            )
        try:
            found.append(line.decode())
        except UnicodeDecodeError as error:
            if len(found) > 0 and lines.excess() is None:
                # Behind the heading a row is bad by itself.
                found.append(line.decode("utf-8", "surrogateescape"))
                continue
            raise BadLineError(
                "not UTF-8: convert it, as in: iconv -f WINDOWS-1252 -t UTF-8 FILE |"
                " heliograph import - --format csv"
            ) from error
        size += len(line)
    return found


def _sample(file: BinaryIO, start: Place, separator: str) -> list[list[str]]:
    rows = itertools.islice(_cells(file, start, separator), SAMPLE_LINES)
    return [cells for _, cells, _ in rows if not isinstance(cells, BadLineError)]


class _Block(NamedTuple):
    """Rows that stand one behind the other, many at once: the first line of each, and its end.

    A row that can't be read is a block with the fault, and so is one that is not UTF-8.
    """

    rows: Sequence[list[str]]
    lines: Sequence[int]
    ends: Sequence[Place]
    fault: BadLineError | None = None
    is_utf8: bool = True


def _blocks(file: BinaryIO, start: Place, separator: str) -> Iterator[_Block]:
    """Yield all rows, many at once but never more than is held easily.

    As long as each row is a line, which is seen from its quotes, many lines are read in one go.
    """
    place = start
    for lines, ends in _whole_lines(file, start):
        rows = _a_line_each(lines, separator)
        if rows is None:
            break
        numbers = range(place.line + 1, ends[-1].line + 1)
        place = ends[-1]
        if [] not in rows:
            yield _Block(rows, numbers, ends)
        elif any(rows):
            yield _Block(
                [*filter(None, rows)],
                [*itertools.compress(numbers, rows)],
                [*itertools.compress(ends, rows)],
            )
    yield from _slow_blocks(file, place, separator)


def _whole_lines(file: BinaryIO, start: Place) -> Iterator[tuple[list[bytes], list[Place]]]:
    """Yield lines without their ends, many at once, and where each ends.

    Up to the file's last line, or one that is too long, or where an archive is broken.
    """
    place, rest = start, b""
    file.seek(start.offset)
    while True:
        try:
            read = file.read(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error):
            return  # told with its line where lines are read one by one
        data, mark, rest = (rest + read).rpartition(b"\n")
        if not mark:
            return
        lines = data.split(b"\n")
        offsets = itertools.accumulate([len(line) + 1 for line in lines], initial=place.offset)
        next(offsets)
        numbers = range(place.line + 1, place.line + len(lines) + 1)
        ends = [*map(partial(tuple.__new__, Place), zip(offsets, numbers, strict=True))]
        place = ends[-1]
        yield lines, ends


def _a_line_each(lines: Sequence[bytes], separator: str) -> list[list[str]] | None:
    """Return the cells of each line, none of an empty one; None: a row may be more than a line."""
    try:
        texts = b"\n".join(lines).decode().split("\n")
        rows = [*csv.reader(texts, delimiter=separator, strict=True)]
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows if len(rows) == len(lines) else None


def _slow_blocks(file: BinaryIO, start: Place, separator: str) -> Iterator[_Block]:
    rows: list[list[str]] = []
    lines: list[int] = []
    ends: list[Place] = []
    for first, cells, end in _cells(file, start, separator):
        is_good = isinstance(cells, list) and _is_utf8(cells)
        if isinstance(cells, list) and is_good:
            rows.append(cells)
            lines.append(first)
            ends.append(end)
        is_full = len(rows) >= BLOCK_ROWS or end.offset - start.offset >= BLOCK_BYTES
        if rows and (is_full or not is_good):
            yield _Block(rows, lines, ends)
            rows, lines, ends, start = [], [], [], end
        if isinstance(cells, BadLineError):
            yield _Block((), (first,), (end,), cells)
        elif not is_good:
            yield _Block((cells,), (first,), (end,), is_utf8=False)
    if rows:
        yield _Block(rows, lines, ends)


def _reason(error: Exception) -> str:
    """Return what is wrong, in terms of the file, not of the parser."""
    message = str(error)
    if message.startswith("new-line character"):
        return "a carriage return without a line feed: that ends no line"
    return "a quote is not closed" if message == "unexpected end of data" else message


def _is_utf8(cells: Sequence[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def parquet_rows(
    file: BinaryIO, start: Place, kind: Kind | None, options: TableOptions, *, has_sensor: bool
) -> tuple[Sequence[tuple[str, str]], Iterator[Record]]:
    """Return what the reading rests on, and what each row says; a place counts rows, not bytes.

    Raises:
        StartError: it is no such file, or says no time; while its rows are read: it is broken.
    """
    try:
        table = parquet().ParquetTable(file, kind, options, has_sensor=has_sensor)
    except BadLineError as error:
        raise StartError(str(error)) from error

    def records() -> Iterator[Record]:
        line = start.line
        try:
            for said in table.rows(start.line):
                line += 1
                yield Record(line, said, Place(0, line))
        except BadLineError as error:
            raise StartError(f"row {line + 1}: {error}") from error

    return table.rests_on, records()

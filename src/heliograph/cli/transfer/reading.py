"""Reading a file record by record, from any record on: each with its line and where it ends."""

import csv
import gzip
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from heliograph.cli.transfer.parquet import load_parquet
from heliograph.errors import StartError
from heliograph.exchange.csv_rows import CsvRows
from heliograph.exchange.elements import BadLineError, Element, from_json_line
from heliograph.exchange.line_protocol import Mapping, from_line
from heliograph.model.records import Kind

# Longer ones could not be sent: a message has 1 MiB.
LONGEST_LINE: Final = 2 << 20
# Of a cell, which may hold line ends, so that a quote that is never closed ends somewhere.
LONGEST_CELL: Final = 2 << 20
_BOM = b"\xef\xbb\xbf"


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
        self.place = start
        self._too_long = False
        file.seek(start.offset)

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
            raise StartError(f"line {self.place.line + 1}: {error}") from error
        offset = self.place.offset + size
        self.place = Place(offset, self.place.line + (size > 0))
        return line.removeprefix(_BOM) if offset == size else line

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
            yield Record(lines.place.line, said, lines.place)


def json_lines(file: BinaryIO, start: Place, kind: Kind | None) -> Iterator[Record]:
    """Yield what each line of JSON says."""
    return read_lines(file, start, lambda line: from_json_line(line, kind or Kind.MEASUREMENT))


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


def csv_rows(file: BinaryIO, start: Place, kind: Kind | None) -> Iterator[Record]:
    """Yield what each row under the heading says.

    Raises:
        StartError: the heading can't be used.
    """
    csv.field_size_limit(LONGEST_CELL)
    top = _Lines(file, Place(0, 0))
    try:
        headings = filter(None, csv.reader(top.texts(), strict=True))
        table = CsvRows(_utf8(next(headings, [])), kind)
    except (BadLineError, csv.Error) as error:
        raise StartError(f"line {max(1, top.place.line)}: {_told(error)}") from error
    lines = _Lines(file, max(start, top.place))
    rows = csv.reader(lines.texts(), strict=True)
    while True:
        first = lines.place.line + 1
        said: Element | BadLineError
        try:
            cells = next(rows)
            if not cells:
                continue
            said = table.element(_utf8(cells))
        except StopIteration:
            return
        except (BadLineError, csv.Error) as error:
            said = BadLineError(_told(error))
        said = lines.excess() or said
        if isinstance(said, BadLineError) and lines.place.line > first:
            # A quote that is not closed takes what follows with it.
            said = BadLineError(f"{said} (up to line {lines.place.line})")
        yield Record(first, said, lines.place)


def _told(error: Exception) -> str:
    """Return what is wrong, in the words of who has the file and not of who wrote a reader."""
    message = str(error)
    if message.startswith("new-line character"):
        return "a carriage return without a line feed: that ends no line"
    return "a quote is not closed" if message == "unexpected end of data" else message


def _utf8(cells: list[str]) -> list[str]:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:
        raise BadLineError("not UTF-8") from error
    return cells


def parquet_rows(file: BinaryIO, start: Place, kind: Kind | None) -> Iterator[Record]:
    """Yield what each row says; a place counts rows, not bytes.

    Raises:
        StartError: it is no such file, or broken.
    """
    line = start.line
    try:
        for said in load_parquet().ParquetTable(file, kind).rows(start.line):
            line += 1
            yield Record(line, said, Place(0, line))
    except BadLineError as error:
        raise StartError(f"row {line + 1}: {error}") from error

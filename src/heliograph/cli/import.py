"""`heliograph import`: sends a file to a running server, which stores it as all else."""  # noqa: N999 - as the command is called

import asyncio
import dataclasses
import enum
import gc
import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import httpx
import msgspec
import typer
from typer import Argument, Option

from heliograph.cli.local_server import (
    Key,
    Token,
    client_options,
    default_url,
    url_key,
)
from heliograph.cli.output import echo
from heliograph.cli.transfer.dry_run import show_dry_run
from heliograph.cli.transfer.progress import Bar, write_whole
from heliograph.cli.transfer.sending import TIME_OUT_SECONDS, Bad, Sender, Sent, sum_of
from heliograph.errors import StartError
from heliograph.exchange.elements import BadLineError, Element, NoValueError
from heliograph.exchange.formats import EXPORTED_KINDS, parquet
from heliograph.exchange.line_protocol import Mapping
from heliograph.exchange.reading import (
    CsvFile,
    Place,
    Record,
    csv_rows,
    findings,
    json_lines,
    line_protocol,
    look_at_csv,
    open_file,
    parquet_rows,
)
from heliograph.exchange.table_layouts import zone_of
from heliograph.exchange.table_times import Zone, check_time_format
from heliograph.exchange.tables import TableOptions
from heliograph.model.counting import counted
from heliograph.model.records import Kind
from heliograph.printable import printable

# What is read before it is sent.
WINDOW_LINES = 10_000
WINDOW_BYTES = 4 << 20
# On their way while the next one is read: with fewer, the server would wait for that.
WINDOWS_AT_ONCE = 2
# Objects made and not freed before the collector looks for garbage: those of some windows.
GARBAGE_OBJECTS = 250_000
# Read before answers that have come are looked at.
LINES_AT_ONCE = 200
# Of what is left out of lines.
MOST_NAMED = 20


class Form(enum.StrEnum):
    """What a file is."""

    CSV = "csv"
    JSONL = "jsonl"
    LINE_PROTOCOL = "line-protocol"
    PARQUET = "parquet"


SUFFIXES = {
    ".csv": Form.CSV,
    # What loggers and weather services call theirs.
    ".tsv": Form.CSV,
    ".txt": Form.CSV,
    ".dat": Form.CSV,
    ".jsonl": Form.JSONL,
    ".ndjson": Form.JSONL,
    ".lp": Form.LINE_PROTOCOL,
    ".line": Form.LINE_PROTOCOL,
    ".parquet": Form.PARQUET,
}

table_option = partial(Option, rich_help_panel="Tables that other programs wrote")

app = typer.Typer(add_completion=False)


class _State(msgspec.Struct):
    """How far a file is imported, and what became of it; `file` tells it from another one."""

    file: tuple[int, int]
    options: tuple[str | None, ...]
    place: Place
    accepted: int = 0
    duplicates: int = 0
    bad: int = 0
    # Rows of a table that have a time and nothing else.
    empty: int = 0

    @property
    def rows(self) -> int:
        """How many were stored, there already or bad."""
        return self.accepted + self.duplicates + self.bad


@app.command("import")
def import_file(
    file: Annotated[
        Path,
        Argument(
            metavar="FILE",
            help="*.csv (.tsv, .txt, .dat), *.jsonl, *.lp, each also *.gz, or *.parquet; - is a"
            " pipe.",
        ),
    ],
    *,
    form: Annotated[
        Form | None, Option("--format", help="What FILE is; otherwise its name tells.")
    ] = None,
    kind: Annotated[
        str | None,
        Option(help="measurement, log or heartbeat, where FILE does not say so itself."),
    ] = None,
    sensor: Annotated[
        str | None, Option(help="UUID or device_id, for lines that name no sensor.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        Option(
            metavar="OLD=NEW",
            help="Send what names the sensor OLD (UUID or device_id) to NEW; may be repeated.",
        ),
    ] = None,
    sensor_tag: Annotated[
        str, Option(help="Line protocol: the tag that names the sensor.")
    ] = "device_id",
    precision: Annotated[
        Literal["ns", "us", "ms", "s"] | None,
        Option(help="What times count that are numbers; of line protocol ns, of CSV they tell."),
    ] = None,
    prefix: Annotated[
        bool, Option("--prefix", help="Line protocol: put fields under the measurement's name.")
    ] = False,
    delimiter: Annotated[
        str | None,
        table_option(help="CSV: what separates cells, tab for tabs; otherwise the heading tells."),
    ] = None,
    decimal: Annotated[
        Literal[".", ","] | None,
        table_option(help="CSV: what stands before decimals; otherwise all numbers tell."),
    ] = None,
    time_column: Annotated[
        list[str] | None,
        table_option(
            help="CSV, Parquet: the column with the time; of CSV also two, as for day and clock."
        ),
    ] = None,
    time_format: Annotated[
        str | None,
        table_option(help="CSV: as '%d.%m.%y %H:%M', or day-first, or month-first."),
    ] = None,
    time_zone: Annotated[
        str | None,
        table_option(help="CSV, Parquet: of times that say none: UTC, Europe/Berlin, +01:00."),
    ] = None,
    missing: Annotated[
        list[str] | None,
        table_option(help="CSV: a text that stands for none, as -999; may be repeated."),
    ] = None,
    text: Annotated[
        list[str] | None,
        table_option(help="CSV, Parquet: a column whose cells stay texts; may be repeated."),
    ] = None,
    sensor_column: Annotated[
        str | None,
        table_option(help="CSV, Parquet: the column that names the sensor, beside device_id."),
    ] = None,
    attribute_column: Annotated[
        str | None,
        table_option(help="With a value a row: the column that names its attribute."),
    ] = None,
    value_column: Annotated[
        str | None,
        table_option(help="With a value a row: the column that holds it."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be stored and why, and send nothing.")
    ] = False,
    url: Annotated[
        str | None, Option(help="The server; otherwise the one on this machine.")
    ] = None,
    api_key: Key = None,
    token: Token = None,
    restart: Annotated[bool, Option("--restart", help="Begin anew instead of going on.")] = False,
) -> None:
    """Send a file to the server: CSV, JSON Lines, Parquet, InfluxDB's line protocol.

    What is stored already is dropped and counted. Lines that can't be stored are left out, and
    each is reported with its number; the exit code is 1 then. Interrupted, the same command goes
    on where it was.
    """
    chosen = form or SUFFIXES.get((file.with_suffix("") if file.suffix == ".gz" else file).suffix)
    if chosen is None:
        raise typer.BadParameter("needed: the name of FILE does not tell", param_hint="--format")
    if kind is not None and kind not in [known.value for known in EXPORTED_KINDS]:
        raise typer.BadParameter("measurement, log or heartbeat", param_hint="--kind")
    table = TableOptions(
        _separator(delimiter),
        decimal,
        tuple(time_column or ()),
        _time_format(time_format),
        _zone(time_zone),
        precision,
        tuple(missing or ()),
        frozenset(text or ()),
        sensor_column,
        attribute_column,
        value_column,
    )
    _check_form(chosen, file, table)
    renamed = _renamed(rename or [])
    address = (url or default_url("localhost")).rstrip("/")
    is_keyed = not dry_run and token is None
    key = url_key(api_key, address) if is_keyed else None
    data, raw = open_file(file)
    mapping = Mapping(sensor_tag, precision or "ns", prefix)
    known = None if kind is None else Kind(kind)
    left_out: set[str] = set()

    def records(
        data: BinaryIO, start: Place, look: CsvFile | None
    ) -> tuple[Sequence[tuple[str, str]], Iterator[Record]]:
        if look is not None:
            rows = csv_rows(data, start, look, sensor_tag, has_sensor=sensor is not None)
            return [*findings(look)], rows
        if chosen is Form.JSONL:
            return (), json_lines(data, start, known, left_out)
        if chosen is Form.PARQUET:
            return parquet_rows(data, start, known, table, has_sensor=sensor is not None)
        return (), line_protocol(data, start, mapping, sensor)

    if dry_run:
        with raw, data:
            look = look_at_csv(data, known, table) if chosen is Form.CSV else None
            questions = look.plan.questions if look is not None and look.plan is not None else ()
            rests_on, rows = records(data, Place(0, 0), look)
            is_good = show_dry_run(rows, rests_on, questions, sensor, _unit(chosen))
        _tell_members_left_out(left_out)
        raise typer.Exit(0 if is_good else 1)
    options = (
        chosen.value, kind, sensor, *(rename or ()), sensor_tag, mapping.precision, str(prefix),
        address, *_told(table, time_zone),
    )  # fmt: skip
    progress = _Progress(file, os.fstat(raw.fileno()), options, restart=restart)
    with (
        progress.telling_how_far(),
        _rare_collections(),
        raw,
        data,
        Bar(progress.state.file[0]) as bar,
    ):
        look = None
        if chosen is Form.CSV:
            look = look_at_csv(data, known, table, lambda: bar.show(raw.tell(), 0))
        _check_answered(look)
        rests_on, found = records(data, progress.state.place, look)
        if known is Kind.LOG:
            _tell_left_out(rests_on)
        client = httpx.AsyncClient(**client_options(address, key, token), timeout=TIME_OUT_SECONDS)
        asyncio.run(_import(found, progress, bar, raw, client, sensor, renamed))
    progress.end()
    _tell_members_left_out(left_out)
    if progress.problem:
        echo(f"interrupted, it would have begun anew: {progress.problem}", err=True)
    state = progress.state
    echo(
        f"{counted(state.accepted, 'row')} stored, {state.duplicates:,} there already,"
        f" {state.bad:,} bad{f', {state.empty:,} without a value' if state.empty else ''}"
    )
    if state.bad:
        raise typer.Exit(1)


def _renamed(given: list[str]) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for pair in given:
        old, _, new = pair.partition("=")
        if not old or not new:
            raise typer.BadParameter(f"{pair!r} is not OLD=NEW", param_hint="--rename")
        renamed[old] = new
    return renamed


def _check_form(form: Form, file: Path, table: TableOptions) -> None:
    """Check that it can be read, and that nothing is said of it that has no meaning."""
    if form is Form.PARQUET:
        if file.suffix == ".gz":
            raise typer.BadParameter("parquet is compressed in itself", param_hint="FILE")
        if len(table.time_columns) > 1:
            raise typer.BadParameter("one column, of parquet", param_hint="--time-column")
        parquet()
    if form is Form.CSV:
        return
    names = [
        "--delimiter", "--decimal", "--time-column", "--time-format", "--time-zone", "--precision",
        "--missing", "--text", "--sensor-column", "--attribute-column", "--value-column",
    ]  # fmt: skip
    meant = {
        Form.LINE_PROTOCOL: ("--precision",),
        Form.PARQUET: (
            "--time-column", "--time-format", "--time-zone", "--precision", "--text",
            "--sensor-column", "--attribute-column", "--value-column",
        ),
    }.get(form, ())  # fmt: skip
    for name, said in zip(names, table, strict=True):
        if said and name not in meant:
            raise typer.BadParameter(f"has no meaning for {form}", param_hint=name)


def _check_answered(look: CsvFile | None) -> None:
    if look is not None and look.plan is not None and look.plan.questions:
        raise StartError(f"{'; '.join(map(str, look.plan.questions))} (--dry-run shows more)")


def _tell_left_out(rests_on: Sequence[tuple[str, str]]) -> None:
    """Report the columns for which log messages have no room."""
    for subject, said in rests_on:
        if subject == "left out":
            echo(f"left out: {said}", err=True)


def _tell_members_left_out(names: Collection[str]) -> None:
    """Report the members of lines for which log messages have no room."""
    if names:
        told = ", ".join(sorted(names)[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
        echo(f"left out: {told}: a log message has nothing for it", err=True)


def _unit(form: str) -> str:
    """Return what the records of a file are, by which a bad one is numbered."""
    return "row" if form == Form.PARQUET else "line"


def _separator(text: str | None) -> str | None:
    if text is None:
        return None
    separator = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(separator) != 1 or separator in '"\r\n':
        raise typer.BadParameter("one character, or tab", param_hint="--delimiter")
    return separator


def _time_format(text: str | None) -> str | None:
    try:
        return None if text is None else check_time_format(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--time-format") from error


def _zone(text: str | None) -> Zone | None:
    try:
        return None if text is None else zone_of(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} {error}, or +01:00", param_hint="--time-zone"
        ) from error


def _told(table: TableOptions, zone: str | None) -> Iterator[str | None]:
    """Yield what is said about a table, if anything is: what was imported otherwise is not it."""
    if table != TableOptions():
        said = table._replace(zone=None, texts=frozenset())
        yield from (repr(said), zone, *sorted(table.texts))


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Have the garbage collector look seldom at rows that are no garbage.

    Else it looks through ten thousands of them again and again, for a sixth of the CPU time.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


@dataclasses.dataclass(slots=True)
class _Window:
    """Records that follow one another: what they say, their lines, and where the last one ends."""

    end: Place
    lines: list[int] = dataclasses.field(default_factory=list)
    said: list[Element | BadLineError] = dataclasses.field(default_factory=list)

    def elements(self) -> tuple[list[Element], list[int]]:
        """Return what can be sent, and its lines."""
        elements = [said for said in self.said if isinstance(said, Element)]
        if len(elements) == len(self.said):
            return elements, self.lines
        pairs = zip(self.lines, self.said, strict=True)
        return elements, [line for line, said in pairs if isinstance(said, Element)]

    def unread(self) -> tuple[tuple[Bad, ...], int]:
        """Return the lines that could not be read, and the number of those without a value."""
        pairs = zip(self.lines, self.said, strict=True)
        wrong = [(line, said) for line, said in pairs if not isinstance(said, Element)]
        bad = [Bad(line, str(said)) for line, said in wrong if not isinstance(said, NoValueError)]
        return tuple(bad), len(wrong) - len(bad)


async def _import(
    records: Iterator[Record],
    progress: "_Progress",
    bar: Bar,
    raw: BinaryIO,
    client: httpx.AsyncClient,
    sensor: str | None,
    renamed: dict[str, str],
) -> None:
    on_their_way: deque[tuple[_Window, asyncio.Task[Sent]]] = deque()
    async with client:
        sender = Sender(client, sensor, renamed, bar.say)
        try:
            is_through = False
            while not is_through:
                # What is sent counts, whatever comes behind it.
                problem: StartError | None = None
                window = _Window(progress.state.place)
                try:
                    window = await _window(records, window.end)
                except StartError as error:
                    problem = error
                if window.said:
                    sending = sender.send(*window.elements())
                    on_their_way.append(
                        (window, asyncio.create_task(sending, name="import-window"))
                    )
                is_through = not window.said
                while on_their_way and (is_through or len(on_their_way) > WINDOWS_AT_ONCE):
                    window, sent = on_their_way[0]
                    _note(progress, bar, window, await sent)
                    on_their_way.popleft()
                    # A slow disk delays nothing that is on its way.
                    await asyncio.to_thread(progress.keep)
                    bar.show(raw.tell(), progress.state.rows)
                if problem is not None:
                    raise problem
        finally:
            tasks = [sent for _, sent in on_their_way]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _note(progress: "_Progress", bar: Bar, window: _Window, sent: Sent) -> None:
    """Report what was bad in a window, and note that it is done."""
    unit = _unit(progress.state.options[0] or "")
    unread, empty = window.unread()
    sent = sum_of([sent, Sent(bad=unread)])
    for bad in sorted(sent.bad):
        bar.say(f"{unit} {bad.number}: {printable(bad.reason)}")
    progress.state.empty += empty
    progress.advance(window.end, sent)


async def _window(records: Iterator[Record], start: Place) -> _Window:
    """Return the next records, as many as are read at once; none are left when it is empty."""
    window = _Window(start)
    size = 0
    for line, said, end in records:
        window.lines.append(line)
        window.said.append(said)
        window.end = end
        if isinstance(said, Element):
            size += len(said.text)
        count = len(window.lines)
        if count >= WINDOW_LINES or size >= WINDOW_BYTES:
            break
        if not count % LINES_AT_ONCE:
            await asyncio.sleep(0)
    return window


class _Progress:
    """How far a file is imported, kept beside it in `<file>.import.json` until it is through.

    What came through a pipe can't be gone on with, and has nothing beside it.
    """

    def __init__(
        self,
        file: Path,
        status: os.stat_result,
        options: tuple[str | None, ...],
        *,
        restart: bool,
    ) -> None:
        self._path = file.with_name(f"{file.name}.import.json")
        self._is_kept = file.is_file() and str(file) != "-"
        identity = (status.st_size, status.st_mtime_ns)
        self.state = _State(identity, options, Place(0, 0))
        # Why it can't be kept.
        self.problem: str | None = None
        if not self._is_kept:
            return
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return
        # Of another file, or meant otherwise: everything once more does no harm.
        if not restart and (found.file, found.options) == (identity, options):
            self.state = found

    def advance(self, place: Place, sent: Sent) -> None:
        """Note that everything up to a place is stored, or known to be bad."""
        state = self.state
        state.place = place
        state.accepted += sent.accepted
        state.duplicates += sent.duplicates
        state.bad += len(sent.bad)

    def keep(self) -> None:
        """Write down how far it is."""
        if self._is_kept and self.problem is None:
            text = msgspec.json.encode(self.state)
            try:
                write_whole(self._path, lambda file: file.write(text))
            except OSError as error:
                # Where nothing may be written, what is interrupted begins anew.
                self.problem = f"can't write {self._path}: {error.strerror}"

    @contextmanager
    def telling_how_far(self) -> Iterator[None]:
        """Report on an interrupt how far it is, and where the next run continues."""
        try:
            yield
        except KeyboardInterrupt:
            goes_on = self._is_kept and self.problem is None
            then = "goes on from there" if goes_on else "begins anew"
            echo(
                f"interrupted behind {counted(self.state.rows, 'row')}: the same command {then}",
                err=True,
            )
            raise

    def end(self) -> None:
        """Forget it: the file is through."""
        if self._is_kept and self.problem is None:
            self._path.unlink(missing_ok=True)

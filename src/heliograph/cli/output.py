"""What commands print: lines and tables for people, JSON for programs."""

import enum
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from heliograph.model.time import parse, to_rfc3339
from heliograph.printable import printable, printable_json, printable_lines

WIDEST = 100_000

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Switch(enum.StrEnum):
    """Whether something is so."""

    ON = "on"
    OFF = "off"


RecordT = TypeVar("RecordT")


def echo(text: str, *, err: bool = False) -> None:
    """Print text, every line of it as it is: no control characters; `err`: on standard error."""
    typer.echo(printable_lines(text), err=err)


def print_json(value: Any) -> None:
    """Print a value as JSON, indented; what is not printable stands there as escapes."""
    print(printable_json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings, every text as it is: neither markup nor control characters."""
    # Only tables need rich, which takes a quarter of the time of `heliograph settings`.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    # Into a pipe or a file a row is a line, however long.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDEST)
    console.print(table)


def print_records(
    records: Sequence[RecordT],
    members: Callable[[RecordT], Any],
    columns: Sequence[str],
    row: Callable[[RecordT], Sequence[str]],
    *,
    as_json: bool,
) -> None:
    """Print records: as a JSON array of their members, or a row of a table for each."""
    if as_json:
        print_json([members(record) for record in records])
    else:
        print_table(columns, map(row, records))


def parse_time(text: str) -> int:
    """Return the microseconds of a time that is given as an option.

    Raises:
        BadParameter: it is neither epoch seconds nor RFC 3339.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def time_text(microseconds: int | None) -> str:
    """Return a time for people: UTC, to the second; a dash for none."""
    return "-" if microseconds is None else to_rfc3339(microseconds)[:19].replace("T", " ") + "Z"


def time_json(microseconds: int | None) -> str | None:
    """Return a time for programs."""
    return None if microseconds is None else to_rfc3339(microseconds)

"""Answers as CSV, on request: `format=csv`, or an `Accept` that prefers text/csv."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Depends, Query, Request

from heliograph.exchange.formats import FORMULA, QUOTE, QUOTED
from heliograph.http.answers import CSV_HEADERS, Answer, decode
from heliograph.http.errors import validation_error
from heliograph.model.attributes import keys_of, value_at
from heliograph.model.records import Measurement
from heliograph.model.time import to_rfc3339

MEDIA_TYPE = "text/csv"
# What OpenAPI says of it beside the JSON.
CSV = {MEDIA_TYPE: {"schema": {"type": "string"}}}

Form = Annotated[
    Literal["json", "csv"] | None,
    Query(
        alias="format",
        description="What the answer is; otherwise `Accept` decides, `text/csv` or JSON",
    ),
]
Spreadsheet = Annotated[
    bool,
    Query(
        description="CSV: what a spreadsheet would take for a formula begins with `'`, and a last"
        " column `quoted` names it"
    ),
]
Heading: TypeAlias = Sequence[str]
Rows: TypeAlias = Iterable[Sequence[Any]]


class AskedForm:
    """Whether a table is to be answered as CSV, or that for spreadsheets; FastAPI collects it."""

    def __init__(
        self, request: Request, form: Form = None, spreadsheet: Spreadsheet = False
    ) -> None:
        preferred = form is None and prefers(MEDIA_TYPE, request.headers.get("accept", ""))
        self.is_csv = form == "csv" or preferred
        self.spreadsheet = spreadsheet
        if spreadsheet and not self.is_csv:
            raise validation_error(("query", "spreadsheet"), "value_error", "csv only")


class AskedChartForm:
    """Whether what `points` chooses is to be answered as CSV; pages are JSON."""

    def __init__(
        self, request: Request, form: Form = None, spreadsheet: Spreadsheet = False
    ) -> None:
        self.is_csv = self.spreadsheet = False
        if "points" in request.query_params:
            asked = AskedForm(request, form, spreadsheet)
            self.is_csv, self.spreadsheet = asked.is_csv, asked.spreadsheet
        elif form == "csv" or spreadsheet:
            name = "format" if form == "csv" else "spreadsheet"
            message = "csv goes with points; GET /sensors/{id}/export answers everything as CSV"
            raise validation_error(("query", name), "value_error", message)


TheForm = Annotated[AskedForm, Depends()]
TheChartForm = Annotated[AskedChartForm, Depends()]


def prefers(media_type: str, accept: str) -> bool:
    """Return whether an `Accept` header puts a media type before JSON.

    Whoever names both takes what is usual; whoever takes anything too names the type for a reason.
    """
    if media_type not in accept.lower():
        return False
    given = weights(accept)
    wanted = given.get(media_type, 0.0)
    anything = max(given.get("*/*", 0.0), given.get("application/*", 0.0))
    return wanted > given.get("application/json", 0.0) and wanted >= anything


def weights(header: str) -> dict[str, float]:
    """Return what a header like `Accept` names, in small letters, with the weight of each."""
    return dict(map(_weighed, header.split(",")))


def csv_answer(body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Return an answer with a body of CSV."""
    return Answer(200, body, headers, CSV_HEADERS)


def table(heading: Heading, rows: Rows, *, spreadsheet: bool) -> bytes:
    """Return rows as CSV (RFC 4180); what JSON has as null is an empty cell.

    With `spreadsheet` a text that would be taken for a formula begins with a quote, and a last
    column `quoted` names it, as in exports.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    cells = ([_cell(value) for value in row] for row in rows)
    if spreadsheet:
        writer.writerow([*map(_quoted, heading), QUOTED])
        writer.writerows(_with_quoted(heading, row) for row in cells)
    else:
        writer.writerow(heading)
        writer.writerows(cells)
    return out.getvalue().encode()


def _with_quoted(heading: Heading, row: list[Any]) -> list[Any]:
    quoted = [*map(_quoted, row)]
    names = [name for name, cell, now in zip(heading, row, quoted, strict=True) if cell is not now]
    return [*quoted, " ".join(names)]


def _quoted(cell: Any) -> Any:
    return f"{QUOTE}{cell}" if type(cell) is str and FORMULA.match(cell) else cell


def chart_table(attribute: str, rows: Sequence[Measurement], *, spreadsheet: bool) -> bytes:
    """Return the times of measurements, and the number that each has of the attribute."""
    keys = keys_of(attribute)
    return table(
        ("timestamp", attribute),
        ((to_rfc3339(row.timestamp), value_at(decode(row.value), keys)) for row in rows),
        spreadsheet=spreadsheet,
    )


def _cell(value: Any) -> Any:
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and not math.isfinite(value):
        return None
    return value


def _weighed(part: str) -> tuple[str, float]:
    name, *parameters = [each.strip().lower() for each in part.split(";")]
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0

"""Answers as CSV, for whoever asks for that: `format=csv`, or an `Accept` that prefers text/csv."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Depends, Query, Request

from heliograph.model.attributes import keys_of, value_at
from heliograph.model.records import Measurement
from heliograph.model.time import to_rfc3339
from heliograph.web.errors import CSV_HEADERS, Answer, decode, validation_error

MEDIA_TYPE = "text/csv"
# What OpenAPI tells of it beside the JSON.
CSV = {MEDIA_TYPE: {"schema": {"type": "string"}}}

Form = Annotated[
    Literal["json", "csv"] | None,
    Query(
        alias="format",
        description="What the answer is; otherwise `Accept` decides, `text/csv` or JSON",
    ),
]
Heading: TypeAlias = Iterable[str]
Rows: TypeAlias = Iterable[Sequence[Any]]


class AskedForm:
    """Whether a table is to be answered as CSV, as FastAPI collects it."""

    def __init__(self, request: Request, form: Form = None) -> None:
        preferred = form is None and prefers_csv(request.headers.get("accept", ""))
        self.is_csv = form == "csv" or preferred


class AskedChartForm:
    """Whether what `points` chooses is to be answered as CSV; pages are JSON."""

    def __init__(self, request: Request, form: Form = None) -> None:
        has_points = "points" in request.query_params
        if form == "csv" and not has_points:
            message = "csv goes with points; GET /sensors/{id}/export answers everything as CSV"
            raise validation_error(("query", "format"), "value_error", message)
        self.is_csv = has_points and AskedForm(request, form).is_csv


TheForm = Annotated[AskedForm, Depends()]
TheChartForm = Annotated[AskedChartForm, Depends()]


def prefers_csv(accept: str) -> bool:
    """Tell whether an `Accept` header puts text/csv before JSON.

    Whoever names both takes what is usual; whoever takes anything too names CSV for a reason.
    """
    weights = dict(map(_weighed, accept.split(",")))
    wanted = weights.get(MEDIA_TYPE, 0.0)
    anything = max(weights.get("*/*", 0.0), weights.get("application/*", 0.0))
    return wanted > weights.get("application/json", 0.0) and wanted >= anything


def csv_answer(body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Return an answer with a body of CSV."""
    return Answer(200, body, headers, CSV_HEADERS)


def table(heading: Heading, rows: Rows) -> bytes:
    """Return rows as CSV (RFC 4180); what JSON has as null is an empty cell."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(heading)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode()


def chart_table(attribute: str, rows: Sequence[Measurement]) -> bytes:
    """Return the times of measurements, and the number that each has of the attribute."""
    keys = keys_of(attribute)
    return table(
        ("timestamp", attribute),
        ((to_rfc3339(row.timestamp), value_at(decode(row.value), keys)) for row in rows),
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

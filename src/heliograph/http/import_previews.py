"""What an import would store of a table, so that a page can show it before it sends it.

What reads tables is imported with the first of them: a start in fifty.
"""

import asyncio
import io
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import msgspec
from pydantic import AfterValidator, Field

from heliograph.access.policy import Action
from heliograph.errors import StartError
from heliograph.exchange.elements import BadLineError, ColumnKind, Element, NoValueError
from heliograph.http.errors import validation_error
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall
from heliograph.http.schemas import Storable
from heliograph.ingest.decode import flaw_in
from heliograph.model.time import now

if TYPE_CHECKING:
    from heliograph.exchange.reading import CsvFile
    from heliograph.exchange.tables import Plan, TableOptions

router = Resource("networks", "/networks/{network_identifier}/import-preview")

LONGEST_TABLE = 1_000_000
SHOWN_BAD = 100
MAXIMUM_SENSORS = 1_000
MAXIMUM_NAMED = 64
MAXIMUM_LINES = 1_000_000_000
SENSOR_TAG = "device_id"


def _zone(text: str) -> str:
    from heliograph.exchange.table_layouts import zone_of  # noqa: PLC0415 - where one is given

    zone_of(text)
    return text


def _time_format(text: str) -> str:
    from heliograph.exchange.table_times import check_time_format  # noqa: PLC0415 - likewise

    return check_time_format(text)


Name = Annotated[str, Field(min_length=1, max_length=255), Storable]


class GivenTable(Body):
    """A table of CSV, and what is said about it in place of what it would be taken for."""

    table: str = Field(min_length=1, max_length=LONGEST_TABLE, description="The text of the file")
    sensor: Name | None = Field(
        default=None, description="UUID or `device_id`, for rows that name no sensor"
    )
    delimiter: Literal[",", ";", "\t", "|"] | None = Field(
        default=None, description="What separates cells"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="What stands before decimals"
    )
    time_column: Name | None = Field(default=None, description="The column with the time")
    time_format: Annotated[Name, AfterValidator(_time_format)] | None = Field(
        default=None, description="As `%d.%m.%y %H:%M`, or `day-first`, or `month-first`"
    )
    time_zone: Annotated[Name, AfterValidator(_zone)] | None = Field(
        default=None, description="Of times that say none: `UTC`, `Europe/Berlin`, `+01:00`"
    )
    precision: Literal["ns", "us", "ms", "s"] | None = Field(
        default=None, description="What times count that are numbers"
    )
    missing: list[Name] = Field(
        default=[], max_length=MAXIMUM_NAMED, description="Texts that stand for none, as `-999`"
    )
    text: list[Name] = Field(
        default=[], max_length=MAXIMUM_NAMED, description="Columns whose cells stay texts"
    )
    sensor_column: Name | None = Field(
        default=None, description="The column that names the sensor, beside `device_id`"
    )
    attribute_column: Name | None = Field(
        default=None, description="With a value a row: the column that names its attribute"
    )
    value_column: Name | None = Field(
        default=None, description="With a value a row: the column that holds it"
    )
    lines_left_out: int = Field(
        default=0,
        ge=0,
        le=MAXIMUM_LINES,
        description="Of a piece of a longer file: how many lines are left out behind its heading."
        " Lines are told by their numbers in the file",
    )

    @property
    def options(self) -> "TableOptions":
        """What is said of the table, as imports take it."""
        from heliograph.exchange.table_layouts import zone_of  # noqa: PLC0415 - see above
        from heliograph.exchange.tables import TableOptions  # noqa: PLC0415

        return TableOptions(
            separator=self.delimiter,
            decimal=self.decimal,
            time_columns=(self.time_column,) if self.time_column else (),
            time_format=self.time_format,
            zone=zone_of(self.time_zone) if self.time_zone else None,
            precision=self.precision,
            missing=tuple(self.missing),
            texts=frozenset(self.text),
            sensor_column=self.sensor_column,
            attribute_column=self.attribute_column,
            value_column=self.value_column,
        )


class FindingOfTable(Representation):
    """What something of a table is taken for."""

    subject: Annotated[str, "What: `heading`, `cells`, `times`, `numbers`, …"]
    found: Annotated[str, "What it is taken for, and what that rests on"]


class OpenQuestion(Representation):
    """What can be read in more than one way, so that nothing is stored before it is said."""

    what: Annotated[str, "What is open"]
    options: Annotated[
        str, "What decides it, as `heliograph import` calls it: `--time-zone` is `time_zone` here"
    ]


class TakenFor(Representation):
    """What the values and times of a table are taken for, by which later pieces of it are read."""

    decimal: Annotated[Literal[".", ","] | None, "What stands before decimals; null: no numbers"]
    time_format: Annotated[
        Literal["day-first", "month-first"] | None,
        "What dates begin with; null: with the year, or as `time_format` says",
    ]
    precision: Annotated[str | None, "What times count that are numbers"]
    kinds: Annotated[
        dict[str, ColumnKind], "What the cells of each column are: `number`, `text`, …"
    ]
    value_kinds: Annotated[
        dict[str, ColumnKind], "With a value a row: what the values of each attribute are"
    ]

    @classmethod
    def of(cls, plan: "Plan") -> Self:
        """Return what a plan has found out, as far as options can say it."""
        kinds = {*plan.kinds.values(), *plan.value_kinds.values()}
        orders = {*(plan.time.marks or {}).values()}
        is_day_first = orders.pop() if len(orders) == 1 and plan.time.format is None else None
        return cls(
            decimal=("," if plan.decimal == "," else ".") if ColumnKind.NUMBER in kinds else None,
            time_format=None if is_day_first is None else _ORDERS[is_day_first],
            precision=plan.time.precision,
            kinds=dict(plan.kinds),
            value_kinds=dict(plan.value_kinds),
        )


class BadRow(Representation):
    """A row that can't be stored."""

    line: Annotated[int, "Number of its line in the file, from 1"]
    reason: Annotated[str, "Why it can't"]


class ImportPreview(Representation):
    """What an import would store of a table. Nothing was stored."""

    array: Annotated[
        str, "What `POST /ingest/batch` calls the rows: `readings`, `log_messages`, `heartbeats`"
    ]
    findings: Annotated[list[FindingOfTable], "What the table is taken for"]
    questions: Annotated[list[OpenQuestion], "What has to be said before it can be read"]
    taken_for: Annotated[
        TakenFor | None, "What its values and times are taken for; null: it says so itself"
    ]
    rows: Annotated[
        list[dict[str, Any]],
        "The rows, as `POST /ingest/batch` takes them, each with its sensor as `device_id`",
    ]
    lines: Annotated[list[int], "The number of the line of each of them in the file, from 1"]
    bad: Annotated[list[BadRow], "The first 100 that can't be stored"]
    bad_count: Annotated[int, "Number of rows that can't be stored"]
    empty_count: Annotated[int, "Number of rows with a time and nothing else"]


_ORDERS: dict[bool, Literal["day-first", "month-first"]] = {True: "day-first", False: "month-first"}
_ARRAYS = {"measurement": "readings", "log": "log_messages", "heartbeat": "heartbeats"}


class _Row(NamedTuple):
    line: int
    said: Element | BadLineError


@router.route("", "POST", status=200)
async def preview_import(
    network_identifier: str, table: GivenTable, call: TheCall
) -> ImportPreview:
    """Read a table of CSV as `heliograph import --dry-run` does, and store nothing.

    Send its `rows` to `POST /ingest/batch`, in parts, to have them stored. What is longer than a
    body may be is for `heliograph import`. One table is read at a time.
    """
    network = await call.network(network_identifier, Action.EDIT)
    async with call.services.previewing:
        try:
            look, rows, found = await asyncio.to_thread(_read, table)
        except StartError as error:
            raise validation_error(("body", "table"), "value_error", str(error)) from error
    questions = look.plan.questions if look.plan is not None else ()
    good, bad, empty = await _sorted(call, network.identifier, rows, table.sensor)
    return ImportPreview(
        array=_ARRAYS[look.kind.value],
        findings=[FindingOfTable(*each) for each in found],
        questions=[OpenQuestion(*question) for question in questions],
        taken_for=TakenFor.of(look.plan) if look.plan is not None else None,
        rows=[row for _, row in good],
        lines=[line for line, _ in good],
        bad=bad[:SHOWN_BAD],
        bad_count=len(bad),
        empty_count=empty,
    )


def _read(table: GivenTable) -> tuple["CsvFile", list[_Row], list[tuple[str, str]]]:
    """Return what the table is, its rows, none while something is open, and what was found.

    Raises:
        StartError: its heading can't be used.
    """
    from heliograph.exchange.reading import (  # noqa: PLC0415 - here, in a thread
        Place,
        csv_rows,
        findings,
        look_at_csv,
    )

    file = io.BytesIO(table.table.encode())
    look = look_at_csv(file, None, table.options, left_out=table.lines_left_out)
    if look.plan is not None and look.plan.questions:
        return look, [], list(findings(look))
    found: list[_Row] = []
    today = now()
    has_sensor = table.sensor is not None
    for record in csv_rows(file, Place(0, 0), look, SENSOR_TAG, has_sensor=has_sensor):
        said = record.said
        if isinstance(said, Element) and (flaw := flaw_in(said.kind, said.text, today)):
            said = BadLineError(flaw)
        if said is not None:
            found.append(_Row(record.line, said))
    return look, found, list(findings(look))


async def _sorted(
    call: KnownCall, network: str, rows: list[_Row], default: str | None
) -> tuple[list[tuple[int, dict[str, Any]]], list[BadRow], int]:
    """Return the rows that can be stored with their lines, those that can't, and the empty ones."""
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[BadRow] = []
    empty = 0
    sensors: dict[tuple[str, ...], str | None] = {}
    for line, said in rows:
        if isinstance(said, NoValueError):
            empty += 1
        elif isinstance(said, BadLineError):
            bad.append(BadRow(line, str(said)))
        else:
            names = said.sensors or ((default,) if default else ())
            if names not in sensors:
                if len(sensors) >= MAXIMUM_SENSORS:
                    problem = f"names more than {MAXIMUM_SENSORS:,} sensors: use heliograph import"
                    raise validation_error(("body", "table"), "value_error", problem)
                sensors[names] = await _sensor(call, network, names)
            sensor = sensors[names]
            if sensor is None:
                reason = f"the network has no sensor {names[0]}" if names else "names no sensor"
                bad.append(BadRow(line, reason))
            else:
                members = msgspec.json.decode(said.text, type=dict[str, msgspec.Raw])
                good.append((line, {"device_id": sensor, **members}))
    return good, bad, empty


async def _sensor(call: KnownCall, network: str, names: tuple[str, ...]) -> str | None:
    """Return the UUID of the first sensor of the network that has one of the names."""
    for name in names:
        sensor = await call.registry.find(name)
        if sensor is not None and sensor.is_active and sensor.network_identifier == network:
            return sensor.identifier
    return None

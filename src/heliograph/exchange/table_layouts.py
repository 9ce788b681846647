"""Where a table of another make begins: its separator, its heading, and whose layout it is."""

import contextlib
import csv
import itertools
import re
from collections.abc import Sequence
from datetime import UTC, timedelta, timezone
from typing import Final, NamedTuple

from heliograph.exchange.elements import BadLineError
from heliograph.exchange.table_numbers import Sort, sort_of
from heliograph.exchange.table_times import TimeSurvey, Zone
from heliograph.model.buckets import parse_zone

SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ZONE_IN_NAME = re.compile(
    r"[\s,(\[_]*(?<![A-Za-z])(?:UTC|GMT)(?![A-Za-z])\s*([+-]\d{1,2}(?::?\d\d)?)?[)\]]?",
    re.IGNORECASE,
)
_TIME_NAMES: Final = frozenset((
    "timestamp", "time", "datetime", "dateandtime", "date", "ts", "tstamp", "dt", "utc", "gmt",
    "createdat", "created", "updatedat", "updated", "measuredat", "recordedat", "observedat",
    "receivedat", "sampledat", "loggedat", "lastchanged", "lastupdated", "eventtime",
    "sampletime", "obstime",
    "observationtime", "measurementtime", "valid", "validtime", "localtime", "isotime",
    "unix", "unixtime", "unixtimestamp", "epoch", "epochtime", "epochms", "timems", "timestampms",
    "messdatum", "zeitstempel", "zeitpunkt", "zeit", "datum", "uhrzeit", "datumzeit",
    "datumuhrzeit", "messzeit", "horodatage", "dateheure", "heure", "fecha", "fechahora", "hora",
    "dataora", "datahora", "tijd", "datumtijd", "tijdstip", "dato", "tid", "datotid", "tidpunkt",
    "tidspunkt",
))  # fmt: skip
# The first of several that are named so is the one; of all others more than one is a question.
FIRST_NAMES: Final = ("timestamp", "time")
_DATE_NAMES: Final = frozenset(("date", "datum", "dato", "fecha", "data", "messdatum"))
_CLOCK_NAMES: Final = frozenset((
    "time", "clock", "hour", "hours", "hr", "hh", "hhmm", "hrmn", "zeit", "uhrzeit", "stunde",
    "std", "heure", "hora", "tijd", "uur", "tid", "tempo", "godzina",
))  # fmt: skip
_SEARCHED_RECORDS: Final = 60


class Layout(NamedTuple):
    """What is known of the tables that one program or service writes.

    `missing` are texts that stand for none; `missing_in` has those of columns that have their own.
    Columns that are `left_out` say nothing of a measurement. In a long table a row has one value:
    `attribute` has its name (the first of these columns that is there) and `value` itself.
    `sensor` names the sensor where nothing else does.
    """

    name: str
    columns: frozenset[str]
    missing: tuple[str, ...] = ()
    missing_in: tuple[tuple[str, str], ...] = ()
    left_out: frozenset[str] = frozenset()
    time: str | None = None
    attribute: tuple[str, ...] = ()
    value: str | None = None
    sensor: str | None = None
    tags: str | None = None


# What is around the rows of a query: its bounds, and the number of each row's table.
_OF_A_QUERY: Final = frozenset(("result", "table", "_start", "_stop", "_measurement"))
# Results of queries, whose columns are called alike in files of every form.
QUERIED: Final = (
    Layout(
        "InfluxDB, annotated",
        frozenset(("_time", "_value", "_field")),
        left_out=_OF_A_QUERY,
        time="_time",
        attribute=("_field",),
        value="_value",
        sensor="_measurement",
    ),
    *(
        Layout(
            "InfluxDB, annotated, pivoted",
            frozenset(("_time", *told)),
            left_out=_OF_A_QUERY,
            time="_time",
            sensor="_measurement",
        )
        for told in (("result", "table"), ("_start", "_stop"))
    ),
)
LAYOUTS: Final = (
    *QUERIED,
    Layout(
        "InfluxDB 1",
        frozenset(("name", "tags", "time")),
        left_out=frozenset(("name",)),
        time="time",
        sensor="name",
        tags="tags",
    ),
    Layout(
        "Home Assistant",
        frozenset(("entity_id", "state", "last_changed")),
        missing=("unavailable", "unknown"),
        time="last_changed",
        attribute=("entity_id",),
        value="state",
    ),
    Layout(
        "openSenseMap",
        frozenset(("sensorId", "createdAt", "value")),
        time="createdAt",
        attribute=("phenomenon", "sensorId"),
        value="value",
    ),
    Layout(
        "Deutscher Wetterdienst",
        frozenset(("STATIONS_ID", "MESS_DATUM")),
        missing=("-999",),
        left_out=frozenset(("eor",)),
        time="MESS_DATUM",
    ),
    Layout(
        "NOAA, Global Summary of the Day",
        frozenset(("STATION", "DATE", "TEMP", "TEMP_ATTRIBUTES")),
        missing=("9999.9",),
        missing_in=(
            *((name, "999.9") for name in ("VISIB", "WDSP", "MXSPD", "GUST", "SNDP")),
            ("PRCP", "99.99"),
        ),
        time="DATE",
    ),
)
UNKNOWN: Final = Layout("", frozenset())


# With what a spreadsheet is told what separates cells.
_SEPARATOR_LINE = re.compile("sep=(.)", re.IGNORECASE)


class Heading(NamedTuple):
    """Where the names of columns stand, and what is known from what stands before them.

    `record` counts from 0 the records before it that are not empty; `behind` so many follow that
    are no rows. `before` are the records before it.
    """

    separator: str
    columns: tuple[str, ...]
    record: int
    layout: Layout
    rests_on: str
    zone: Zone | None = None
    behind: int = 0
    before: tuple[tuple[str, ...], ...] = ()


def plain_name(name: str) -> str:
    """Return a column's name for comparing: lower case, letters and digits, without a zone."""
    return re.sub(r"[\W_]", "", _ZONE_IN_NAME.sub("", name).lower())


def is_time_name(name: str) -> bool:
    """Return whether a column called so holds times, as a rule."""
    return plain_name(name) in _TIME_NAMES


def is_date_name(name: str) -> bool:
    """Return whether a column called so may hold days alone."""
    return plain_name(name) in _DATE_NAMES


def is_clock_name(name: str) -> bool:
    """Return whether a column called so may hold the time of a day: `12:30`, 1230, 12."""
    return plain_name(name) in _CLOCK_NAMES


def zone_in(name: str) -> Zone | None:
    """Return the zone that a column's name says: `Time (UTC)`, `Date Time, GMT+02:00`."""
    match = _ZONE_IN_NAME.search(name)
    if match is None:
        return UTC_ZONE if plain_name(name) in ("utc", "gmt") else None
    try:
        return fixed_zone(match[1]) if match[1] else UTC_ZONE
    except ValueError:
        return None  # no zone is so far from UTC


def fixed_zone(text: str) -> Zone:
    """Return the zone of an offset like `+01:00`, `-5` or `+0530`.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([+-])(\d{1,2})(?::?([0-5]\d))?", text, re.ASCII)
    if match is None or int(match[2]) > 15:
        raise ValueError("must be an offset like +01:00")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    name = f"{match[1]}{int(match[2]):02}:{match[3] or '00'}"
    return Zone(timezone(-offset if match[1] == "-" else offset), name)


def zone_of(text: str) -> Zone:
    """Return the zone of a name like `Europe/Berlin`, or of an offset.

    Raises:
        ValueError: there is none.
    """
    return fixed_zone(text) if text[:1] in "+-" else Zone(parse_zone(text), text)


UTC_ZONE: Final = Zone(UTC, "UTC")


def find_heading(
    lines: Sequence[str], separator: str | None, time_columns: Sequence[str]
) -> Heading:
    """Return the heading of the table that begins with these lines.

    Raises:
        BadLineError: there is none, or it is open what separates cells.
    """
    if separator is None and lines and (match := _SEPARATOR_LINE.fullmatch(lines[0].strip())):
        separator = match[1]
    separators = [separator] if separator else [*SEPARATORS]
    found = [*filter(None, [_heading(lines, each, time_columns) for each in separators])]
    # A column may hold times without being called so.
    found = found or [*filter(None, [_first_names(lines, each) for each in separators])]
    if not found:
        raise BadLineError(_without_heading(lines, separator))
    best = max(_fit(lines, heading) for heading in found)
    found = [heading for heading in found if _fit(lines, heading) == best]
    if len(found) > 1:
        marks = " or ".join(SEPARATORS.get(each.separator, each.separator) for each in found)
        options = " or ".join(f"--delimiter '{each.separator}'" for each in found)
        raise BadLineError(f"cells may be separated by {marks}: give {options}")
    return found[0]


def _heading(lines: Sequence[str], separator: str, time_columns: Sequence[str]) -> Heading | None:
    """Return the first record that names a column of times; None: there is none."""
    records = _records(lines, separator)
    if records and records[0][0] == "TOA5" and len(records) > 1:
        layout = Layout("Campbell Scientific, TOA5", frozenset())
        rests_on = f"the first line is of a logger's TOA5: {', '.join(records[0][1:3])}"
        return Heading(separator, records[1], 1, layout, rests_on, None, 2, tuple(records[:1]))
    for number, record in enumerate(records[:_SEARCHED_RECORDS]):
        columns = _names(record)
        if len(columns) < 2 or not _names_times(columns, time_columns):
            continue
        layout = _layout(columns)
        before = tuple(records[:number])
        rests_on = "it names a column of times"
        if layout.name:
            rests_on = f"columns {', '.join(sorted(layout.columns))}"
        zone, why = _zone_before(before)
        return Heading(separator, columns, number, layout, f"{rests_on}{why}", zone, before=before)
    return None


def _names(record: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a heading; some programs make a remark of it: `# time,t`."""
    first = record[0].strip()
    first = first[1:].strip() if _is_remark(record) and first[1:2].isspace() else first
    return (first, *(cell.strip() for cell in record[1:]))


def _is_remark(record: Sequence[str]) -> bool:
    # A column may be called `#`, of the rows' numbers.
    return record[0].lstrip().startswith("#") and (len(record[0].strip()) > 1 or len(record) == 1)


def _first_names(lines: Sequence[str], separator: str) -> Heading | None:
    """Return the first record as the heading, if it is one of names; None: it is not.

    Before a row it is the last remark, if that has as many cells: `# STN,YYYYMMDD`.
    """
    records = _records(lines, separator)
    begin = 1 if lines and _SEPARATOR_LINE.fullmatch(lines[0].strip()) else 0
    number = next(
        (at for at, record in enumerate(records) if at >= begin and not _is_remark(record)), None
    )
    if number is None:
        return None
    if any(map(_is_value, first := records[number])):
        above = [at for at in range(begin, number) if len(records[at]) == len(first)]
        number = max(above, default=number)
    columns = _names(records[number])
    if len(columns) < 2 or any(map(_is_value, columns)):
        return None
    before = tuple(records[:number])
    return Heading(separator, columns, number, UNKNOWN, "the first line", before=before)


def _names_times(columns: Sequence[str], time_columns: Sequence[str]) -> bool:
    if time_columns:
        return set(time_columns) <= set(columns)
    return (
        any(is_time_name(name) for name in columns if name)
        or {"year", "month", "day"} <= {name.lower() for name in columns}
        or _layout(columns) is not UNKNOWN
    )


def _layout(columns: Sequence[str]) -> Layout:
    return next((layout for layout in LAYOUTS if layout.columns <= set(columns)), UNKNOWN)


def _zone_before(before: Sequence[Sequence[str]]) -> tuple[Zone | None, str]:
    """Return the zone that Open-Meteo writes before its table, and what that rests on."""
    for names, cells in itertools.pairwise(before):
        row = dict(zip(names, cells, strict=False))
        seconds = row.get("utc_offset_seconds", "")
        if re.fullmatch(r"[+-]?\d{1,5}", seconds, re.ASCII):
            zone = Zone(timezone(timedelta(seconds=int(seconds))), f"UTC{int(seconds) / 3600:+g}h")
            return zone, f"; utc_offset_seconds before it is {seconds}"
    return None, ""


def _records(lines: Sequence[str], separator: str) -> list[tuple[str, ...]]:
    """Return the records of the lines that are not empty, without the marks of a spreadsheet."""
    records: list[tuple[str, ...]] = []
    # What can be read before an error tells enough.
    with contextlib.suppress(csv.Error):
        records.extend(tuple(row) for row in csv.reader(lines, delimiter=separator) if row)
    return records


def _fit(lines: Sequence[str], heading: Heading) -> float:
    """Return which part of the records behind a heading has as many cells."""
    records = _records(lines, heading.separator)[heading.record + 1 + heading.behind :]
    fitting = [len(record) == len(heading.columns) for record in records]
    return sum(fitting) / len(fitting) if fitting else 1.0


def _without_heading(lines: Sequence[str], separator: str | None) -> str:
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        return "the file is empty"
    text = next((text for text in texts if not text.startswith("#")), texts[0])
    separator = separator or max(SEPARATORS, key=text.count)
    cells = next(iter(_records([text], separator)), (text,))
    if any(_is_value(cell) for cell in cells):
        return (
            f"the first line names no columns, it is a row already: {text[:80]}: put a line of"
            f" names before it, as in: (echo 'time{separator}temperature'; cat FILE) |"
            " heliograph import - --format csv"
        )
    if len(cells) == 1:
        one = "; where several stand together: tr -s ' ' < FILE | heliograph import - --format csv"
        return (
            f"there is one column only, {text[:100]!r}: give --delimiter with what separates cells,"
            f" ' ' for spaces{one if '  ' in text else ''}"
        )
    return without_times(cells)


def without_times(names: Sequence[str]) -> str:
    """Return that none of the columns holds times, and what can be done about it."""
    return (
        f"there is no column timestamp (nor time), but {', '.join(names)[:100]}: give"
        " --time-column with the name of the one that holds times"
    )


def _is_value(cell: str) -> bool:
    if sort_of(cell) not in (Sort.TEXT, Sort.MISSING, Sort.BOOLEAN):
        return True
    survey = TimeSurvey(0)
    survey.add([cell], [1])
    return survey.usable == 1

"""Tables of other programs: a survey of all their rows, and reading them by its result.

A survey takes the rows once, then decides; reading takes them again. What a table leaves open is
asked, together, and named with the option that decides it.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from heliograph.exchange.csv_rows import NAMES, members_of, sensor_names
from heliograph.exchange.elements import (
    FROM_BOOT,
    LATEST_EXACT,
    BadLineError,
    ColumnKind,
    Element,
    NoValueError,
    checked_json,
    elements_of,
    in_parts,
    json_text,
    number_or_text,
    number_texts,
)
from heliograph.exchange.table_layouts import (
    FIRST_NAMES,
    Heading,
    Layout,
    is_clock_name,
    is_date_name,
    is_time_name,
    plain_name,
    without_times,
    zone_in,
)
from heliograph.exchange.table_numbers import (
    ColumnSurvey,
    Decimal,
    Missing,
    Sort,
    decide_decimal,
    json_number,
    json_numbers,
)
from heliograph.exchange.table_times import DATE_PARTS, Ask, Question, TimeForm, TimeSurvey, Zone
from heliograph.model.counting import counted
from heliograph.model.records import Kind, Severity
from heliograph.model.time import DAY, EARLIEST, OLDEST, counts_from_boot, to_rfc3339

# Of a long table: each has a survey of its own.
_MOST_ATTRIBUTES: Final = 10_000
_TYPES: Final = {
    "double": ColumnKind.NUMBER,
    "long": ColumnKind.NUMBER,
    "unsignedLong": ColumnKind.NUMBER,
    "boolean": ColumnKind.BOOLEAN,
    "string": ColumnKind.TEXT,
}
_BOOLEANS: Final = {"true": "true", "false": "false"}
# What is called so is not taken for the sensor's name, but may be meant to be.
_SENSOR_NAMES: Final = frozenset(
    f"{of}{part}"
    for of in ("sensor", "sensors", "device", "station", "stations", "node")
    for part in ("", "id", "name")
)
# What a log message has, and what other programs call it; the first column that is there counts.
_LOG_NAMES: Final = {
    "severity": ("severity", "level", "loglevel"),
    "subject": ("subject", "message", "msg"),
    "details": ("details",),
    "revision": ("revision",),
}
_SEVERITIES: Final = {
    "trace": "debug", "information": "info", "notice": "info", "warn": "warning", "err": "error",
    "crit": "error", "critical": "error", "alert": "error", "emerg": "error", "emergency": "error",
    "fatal": "error", "panic": "error",
}  # fmt: skip
_KNOWN_SEVERITIES: Final = frozenset(Severity)
# Members of a heartbeat that are no details; there can be none that are called like the last two.
HEARTBEAT_NAMES: Final = frozenset(("revision", "success", "details", "timestamp", "id"))
# Where a row has one value, these columns name what it is of, and those hold it.
_ATTRIBUTE_NAMES: Final = frozenset((
    "parameter", "parametername", "param", "variable", "variablename", "attribute",
    "attributename", "metric", "metricname", "measure", "measurand", "measurement", "phenomenon",
    "quantity", "property", "observedproperty", "field", "key", "channel", "messgröße",
))  # fmt: skip
_VALUE_NAMES: Final = frozenset(("value", "val", "reading", "result", "number", "wert"))
_JSON_BEGINS: Final = ("{", "[", '"')
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?", re.ASCII)
_SUBJECTS: Final = {
    ColumnKind.NUMBER: "numbers",
    ColumnKind.BOOLEAN: "true, false",
    ColumnKind.TEXT: "texts",
    ColumnKind.JSON: "JSON",
    ColumnKind.EMPTY: "empty",
}
_NO_TEXTS: Final = (ColumnKind.NUMBER, ColumnKind.BOOLEAN, ColumnKind.EMPTY)
_encode = msgspec.json.Encoder().encode


class TableOptions(NamedTuple):
    """What somebody has said about a table, in place of what it would be taken for."""

    separator: str | None = None
    decimal: str | None = None
    time_columns: tuple[str, ...] = ()
    time_format: str | None = None
    zone: Zone | None = None
    precision: str | None = None
    missing: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    sensor_column: str | None = None
    attribute_column: str | None = None
    value_column: str | None = None


class Columns(NamedTuple):
    """What each column of a heading is, by its place.

    `value` is that of a long table, `alone` one that is the whole value of a measurement;
    `declared` are what columns hold where the table says so itself.
    """

    names: tuple[str, ...]
    times: tuple[int, ...]
    sensors: tuple[int, ...]
    element_id: int | None
    attribute: int | None
    value: int | None
    alone: int | None
    tags: int | None
    fallback: int | None
    attributes: tuple[tuple[int, str], ...]
    declared: Mapping[str, ColumnKind] = MappingProxyType({})

    @property
    def value_kind(self) -> ColumnKind | None:
        """What a long table says that the values are."""
        return None if self.value is None else self.declared.get(self.names[self.value])

    def time(self, cells: Sequence[str]) -> str:
        """Return the text of a row's time: of several columns one after the other."""
        if len(self.times) == 1:
            return cells[self.times[0]]
        return joined_time([self.names[at] for at in self.times], [cells[at] for at in self.times])


class Plan(NamedTuple):
    """How the rows of a table are read, and what each part of that rests on."""

    heading: Heading
    columns: Columns
    kind: Kind
    time: TimeForm
    decimal: str
    missing: "MissingTexts"
    kinds: Mapping[str, ColumnKind]
    # Those of the value column of a long table, by attribute.
    value_kinds: Mapping[str, ColumnKind]
    sees_all: bool
    rests_on: tuple[tuple[str, str], ...]
    questions: tuple[Question, ...]


def joined_time(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return one text of a time that several columns hold: year, month, day; day and clock."""
    parts = [cell.strip() for cell in cells]
    lowered = [name.lower() for name in names]
    if lowered[:3] == ["year", "month", "day"]:
        year, *others = [part.zfill(2) for part in parts]
        day, clock = "-".join((year, *others[:2])), others[2:]
        if len(clock) == 1:
            clock.append("00")
        return f"{day} {':'.join(clock)}" if clock else day
    if len(parts) == 2 and len(parts[1]) <= 2 and parts[1].isdigit():
        return f"{parts[0]} {parts[1].zfill(2)}:00"
    return " ".join(parts)


def _at(names: Sequence[str], name: str | None) -> int | None:
    return names.index(name) if name is not None and name in names else None


def columns_of(
    names: tuple[str, ...],
    time_names: Sequence[str],
    layout: Layout,
    options: TableOptions,
    kind: Kind,
    declared: Mapping[str, ColumnKind] = MappingProxyType({}),
) -> Columns:
    """Return what the columns of a heading are.

    Raises:
        BadLineError: two have one name, or one is not there that is needed.
    """
    present = [name for name in names if name]
    if twice := next((name for name in present if present.count(name) > 1), None):
        raise BadLineError(f"two columns have the same name: {twice}: rename one of them")
    asked_for = (options.sensor_column, options.attribute_column, options.value_column)
    for name in (*time_names, *filter(None, asked_for)):
        if name not in names:
            raise BadLineError(unknown_column(name, names))
    times = tuple(names.index(name) for name in time_names)
    sensors = tuple(
        at for name in (options.sensor_column, *NAMES) if (at := _at(names, name)) is not None
    )
    attribute = next(
        (name for name in (options.attribute_column, *layout.attribute) if name in names), None
    )
    value = options.value_column or layout.value or ("value" if attribute else None)
    if attribute is not None and value not in names:
        raise BadLineError(f"there is no column {value}: give --value-column")
    if attribute is None:
        value = None
    element_id = _at(names, "element_id")
    taken = {*times, *sensors, element_id, _at(names, attribute), _at(names, value)}
    taken |= {_at(names, layout.tags), *(at for at, name in enumerate(names) if not name)}
    taken |= {at for at, name in enumerate(names) if name in layout.left_out}
    if kind is Kind.HEARTBEAT:
        taken |= {at for at, name in enumerate(names) if name in HEARTBEAT_NAMES}
    if kind is Kind.LOG:
        taken |= {names.index(name) for name in log_columns(names).values()}
    attributes = tuple((at, name) for at, name in enumerate(names) if at not in taken)
    is_alone = kind is Kind.MEASUREMENT and [name for _, name in attributes] == ["value"]
    alone = attributes[0][0] if is_alone else None
    return Columns(
        names,
        times,
        sensors,
        element_id,
        _at(names, attribute),
        _at(names, value),
        alone,
        _at(names, layout.tags),
        _at(names, layout.sensor),
        attributes if alone is None else (),
        declared,
    )


def log_columns(names: Sequence[str], noun: str = "column") -> dict[str, str]:
    """Return the columns that hold what a log message has, by its members.

    Raises:
        BadLineError: one that it needs is not there.
    """
    plain = {plain_name(name): name for name in reversed(names)}
    found: dict[str, str] = {}
    for member, known in _LOG_NAMES.items():
        if column := next((plain[name] for name in known if name in plain), None):
            found[member] = column
        elif member in ("severity", "subject"):
            raise BadLineError(
                f"there is no {noun} {member} (nor {', '.join(known[1:])}), which log messages"
                f" need, but {', '.join(names)[:100]}"
            )
    return found


def severity_of(text: str) -> str:
    """Return the severity that another program calls so; of other words, the word."""
    word = text.strip().lower()
    word = _SEVERITIES.get(word, word)
    return word if word in _KNOWN_SEVERITIES else text


def ask_if_long(
    texts: Sequence[str], attributes: Sequence[str], options: TableOptions
) -> list[Question]:
    """Return the question, if it is one, whether a column of texts names what values are of."""
    named = [
        name for name in texts if plain_name(name) in _ATTRIBUTE_NAMES and name not in options.texts
    ]
    values = [name for name in attributes if plain_name(name) in _VALUE_NAMES]
    if not named or not values:
        return []
    option = f"--attribute-column '{named[0]}'"
    if values[0] != "value":
        option += f" --value-column '{values[0]}'"
    return [
        Question(
            f"column {named[0]} may name what column {values[0]} has in each row",
            f"give {option} if it does, --text '{named[0]}' if both are attributes",
        )
    ]


def unknown_column(name: str, names: Sequence[str]) -> str:
    """Return that there is no such column, and which one may be meant."""
    near = difflib.get_close_matches(name, [each for each in names if each], 1, 0.6)
    hint = f", did you mean {near[0]}?" if near else f", but {', '.join(names)[:100]}"
    return f"there is no column {name}{hint}"


class MissingTexts:
    """The texts that stand for none, by column."""

    def __init__(self, layout: Layout, options: TableOptions) -> None:
        self._given = options.missing
        self._layout = layout
        self._own = {name: Missing((text, *self._given)) for name, text in layout.missing_in}
        self._others = Missing((*layout.missing, *self._given))

    def of(self, name: str) -> Missing:
        """Return those of a column, or of an attribute."""
        return self._own.get(name, self._others)

    def __str__(self) -> str:
        known = (*self._layout.missing, *dict.fromkeys(text for _, text in self._layout.missing_in))
        shown = [f"{', '.join(map(repr, self._given))} (--missing)"] if self._given else []
        shown += [f"{', '.join(map(repr, known))} ({self._layout.name})"] if known else []
        return ", ".join(shown)


class TableSurvey:
    """Takes all rows of a table once, and decides how they are read."""

    def __init__(
        self,
        heading: Heading,
        sample: Sequence[Sequence[str]],
        options: TableOptions,
        kind: Kind,
        now: int,
    ) -> None:
        """Take the first rows to find the columns with the time.

        Raises:
            BadLineError: the heading can't be used.
        """
        self._heading = heading
        self._options = options
        self._kind = kind
        self._questions: list[Question] = []
        rows = [row for row in sample if len(row) == len(heading.columns)]
        self._time_names, self._time_rests_on = _time_columns(
            heading, rows, options, now, self._ask
        )
        self._missing = MissingTexts(heading.layout, options)
        self._now = now
        self._times = TimeSurvey(now, options.time_format, options.precision)
        self._surveys: dict[str, ColumnSurvey] = {}
        self._long: dict[str, ColumnSurvey] = {}
        # Of columns, and of attributes of a long table, that say it themselves.
        self._declared_columns: dict[str, ColumnKind] = {}
        self._declared_values: dict[str, ColumnKind] = {}
        self._is_json = False
        self._rows = 0
        self._headings = Headings(heading, self._time_names, options, kind)
        self._first = self._headings.columns

    def _ask(self, what: str, options: str) -> None:
        self._questions.append(Question(what, options))

    def add(self, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
        """Take rows, and the line in which each begins."""
        begin = 0
        for at, row in enumerate(rows):
            if self._headings.may_be(row) and not self._has_time(row):
                self._take(rows[begin:at], lines[begin:at])
                self._headings.use(row)
                begin = at + 1
        self._take(rows[begin:], lines[begin:])

    def _has_time(self, row: Sequence[str]) -> bool:
        columns = self._headings.columns
        if len(row) != len(columns.names):
            return False
        alone = TimeSurvey(self._now, self._options.time_format, self._options.precision)
        alone.add([columns.time(row)], [0])
        return alone.usable == 1

    def _take(self, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
        columns = self._headings.columns
        width = len(columns.names)
        if any(len(row) != width for row in rows):
            kept = [at for at, row in enumerate(rows) if len(row) == width]
            rows, lines = [rows[at] for at in kept], [lines[at] for at in kept]
        if not rows:
            return
        self._rows += len(rows)
        if len(columns.times) == 1:
            at = columns.times[0]
            texts = [row[at] for row in rows]
        else:
            texts = [columns.time(row) for row in rows]
        found = self._times.add(texts, lines)
        if found is not None:
            rows = [row for row, is_time in zip(rows, found, strict=True) if is_time]
            lines = [line for line, is_time in zip(lines, found, strict=True) if is_time]
        if not rows or self._kind is Kind.LOG:
            return
        cells = list(zip(*rows, strict=True))
        for at, name in columns.attributes:
            if name in columns.declared:
                self._declared_columns[name] = columns.declared[name]
                continue
            self._survey(self._surveys, name).add(cells[at], lines, self._missing.of(name))
        if columns.alone is not None:
            alone = cells[columns.alone]
            self._is_json |= any(cell.strip()[:1] in _JSON_BEGINS for cell in alone if cell.strip())
            self._survey(self._surveys, "value").add(alone, lines, self._missing.of("value"))
        if columns.attribute is not None and columns.value_kind is not None:
            self._declared_values |= dict.fromkeys(cells[columns.attribute], columns.value_kind)
        elif columns.attribute is not None and columns.value is not None:
            self._take_long(cells[columns.attribute], cells[columns.value], lines)

    def _take_long(self, names: Sequence[str], values: Sequence[str], lines: Sequence[int]) -> None:
        groups: dict[str, tuple[list[str], list[int]]] = {}
        for name, value, line in zip(names, values, lines, strict=True):
            cells, of = groups.setdefault(name, ([], []))
            cells.append(value)
            of.append(line)
        for name, (cells, of) in groups.items():
            self._survey(self._long, name).add(cells, of, self._missing.of(name))

    @staticmethod
    def _survey(surveys: dict[str, ColumnSurvey], name: str) -> ColumnSurvey:
        if name not in surveys:
            if len(surveys) >= _MOST_ATTRIBUTES:
                raise BadLineError(f"there are more than {_MOST_ATTRIBUTES:,} attributes")
            surveys[name] = ColumnSurvey()
        return surveys[name]

    def decide(self) -> Plan:
        """Return how the rows are read; `questions` of the plan are what is still open.

        Raises:
            BadLineError: there is no column that somebody has said is one of texts.
        """
        label = " + ".join(name or "without a name" for name in self._time_names)
        zone = self._zone()
        form, time_rests_on = TimeForm(zone), ["no rows"]
        if self._rows:
            form, time_rests_on = self._times.decide(label, zone, self._ask)
        surveys = [*self._surveys.items(), *self._long.items()]
        self._check_texts([name for name, _ in surveys])
        heading, options = self._heading, self._options
        decimal = decide_decimal(surveys, heading.separator, options.decimal, self._ask)
        kinds = self._declared_columns | self._kinds(self._surveys, decimal, ())
        value_name = "" if self._first.value is None else self._first.names[self._first.value]
        value_kinds = self._declared_values | self._kinds(self._long, decimal, (value_name,))
        if self._first.attribute is None and self._kind is Kind.MEASUREMENT:
            texts = [name for name, each in kinds.items() if each is ColumnKind.TEXT]
            self._questions += ask_if_long(texts, list(kinds), self._options)
        time = f"{label}{self._time_rests_on}: {'; '.join(time_rests_on) or 'unknown'}"
        return Plan(
            heading,
            self._first,
            self._kind,
            form,
            decimal.mark,
            self._missing,
            kinds,
            value_kinds,
            self._headings.count > 1,
            (
                ("time", time),
                ("sensor", self._describe_sensor()),
                *self._describe(decimal, kinds, value_kinds),
            ),
            tuple(self._questions),
        )

    def _check_texts(self, attributes: Sequence[str]) -> None:
        for name in self._options.texts:
            if name not in attributes and name not in self._first.names and self._rows:
                raise BadLineError(unknown_column(name, [*self._first.names, *attributes]))

    def _zone(self) -> Zone | None:
        in_name = next(filter(None, map(zone_in, self._time_names)), None)
        return self._options.zone or self._heading.zone or in_name

    def _kinds(
        self, surveys: Mapping[str, ColumnSurvey], decimal: Decimal, also: Sequence[str]
    ) -> dict[str, ColumnKind]:
        kinds: dict[str, ColumnKind] = {}
        for name, survey in surveys.items():
            if not self._options.texts.isdisjoint((name, *also)):
                kinds[name] = ColumnKind.TEXT
            elif name == "value" and self._is_json:
                kinds[name] = ColumnKind.JSON
            else:
                kinds[name] = survey.kind(decimal.mark, name, self._ask)
        return kinds

    def _describe_sensor(self) -> str:
        names = self._first.names
        if self._first.sensors:
            return f"column {', '.join(names[at] for at in self._first.sensors)}"
        if self._first.tags is not None:
            return "the tag device_id, or --sensor"
        likely = [name for name in names if plain_name(name) in _SENSOR_NAMES]
        hint = f", or --sensor-column '{likely[0]}'" if likely else ""
        return f"--sensor{hint}"

    def _describe(
        self,
        decimal: Decimal,
        kinds: Mapping[str, ColumnKind],
        value_kinds: Mapping[str, ColumnKind],
    ) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        every = [*kinds.items(), *value_kinds.items()]
        for kind, subject in _SUBJECTS.items():
            if names := [name for name, each in every if each is kind]:
                found.append((subject, ", ".join(names)))
        if any(kind is ColumnKind.NUMBER for _, kind in every):
            mark = "comma" if decimal.mark == "," else "point"
            found.append(("decimals", f"{mark}: {decimal.rests_on}"))
        surveyed = [(name, survey, kinds[name]) for name, survey in self._surveys.items()]
        surveyed += [(name, survey, value_kinds[name]) for name, survey in self._long.items()]
        if missing := self._describe_missing(surveyed):
            found.append(("missing", missing))
        perhaps: dict[str, list[str]] = {}
        for name, survey, kind in surveyed:
            if survey.perhaps_none is not None and kind is ColumnKind.NUMBER:
                perhaps.setdefault(survey.perhaps_none, []).append(name)
        if perhaps:
            hints = [
                f"{text} in {', '.join(names)} stands for none: then give --missing {text}"
                for text, names in perhaps.items()
            ]
            found.append(("perhaps", "; ".join(hints)))
        if left := [name for name in self._first.names if name in self._heading.layout.left_out]:
            found.append(("left out", f"{', '.join(left)}, as of {self._heading.layout.name}"))
        if self._kind is Kind.LOG:
            found += [
                (member, f"column {name}")
                for member, name in log_columns(self._first.names).items()
                if member != name
            ]
            if others := [name for _, name in self._first.attributes]:
                found.append(("left out", f"{', '.join(others)}: a log message has nothing for it"))
        return found

    def _describe_missing(self, surveyed: Sequence[tuple[str, ColumnSurvey, ColumnKind]]) -> str:
        marked = sum(survey.marked_missing for _, survey, _ in surveyed)
        blank = sum(each.counts[Sort.MISSING] for _, each, kind in surveyed if kind in _NO_TEXTS)
        found = [f"{counted(marked, 'cell')} of {self._missing}"] if marked else []
        found += [f"{counted(blank, 'cell')} empty, NaN or the like"] if blank else []
        return ", ".join(found)


class Headings:
    """The heading that holds for a row: some programs write another one before each table."""

    def __init__(
        self, heading: Heading, time_names: Sequence[str], options: TableOptions, kind: Kind
    ) -> None:
        """Begin with the first one, and with what stands before it.

        Raises:
            BadLineError: it can't be used.
        """
        self._layout = heading.layout
        self._time_names = time_names
        self._options = options
        self._kind = kind
        self._types: Sequence[str] = ()
        self.count = 0
        for row in heading.before:
            self._note(row)
        self.columns = columns_of(heading.columns, time_names, self._layout, options, kind)
        self.use(heading.columns)

    def may_be(self, row: Sequence[str]) -> bool:
        """Return whether a row without a time is a heading, or a remark.

        Only programs that are known for it have others than the first one amid a file.
        """
        if self._time_names[0] not in row:
            return row[0][:1] == "#"
        names = {cell.strip() for cell in row}
        return names == set(self.columns.names) or (
            self._layout.sensor is not None and self._layout.columns <= names
        )

    def use(self, row: Sequence[str]) -> None:
        """Take a row that is a heading or a remark."""
        names = tuple(cell.strip() for cell in row)
        if not set(self._time_names) <= set(names):
            self._note(row)
            return
        declared = {
            name: _TYPES[each]
            for name, each in zip(names, self._types, strict=False)
            if each in _TYPES
        }
        if self.count and names == self.columns.names and declared == self.columns.declared:
            return
        self.count += 1
        self.columns = columns_of(
            names, self._time_names, self._layout, self._options, self._kind, declared
        )

    def _note(self, row: Sequence[str]) -> None:
        if row[0].strip() == "#datatype":
            self._types = row


def _time_columns(
    heading: Heading,
    rows: Sequence[Sequence[str]],
    options: TableOptions,
    now: int,
    ask: Ask,
) -> tuple[tuple[str, ...], str]:
    """Return the columns that hold the time of a row, and what that rests on.

    Raises:
        BadLineError: there is none.
    """
    names = heading.columns
    if options.time_columns:
        return options.time_columns, " (--time-column)"
    if heading.layout.time in names:
        return (str(heading.layout.time),), f", as of {heading.layout.name}"
    holds = [_holds([row[at] for row in rows], now) for at in range(len(names))]
    if several := _several_columns(names, holds):
        return several, " together"
    times = _called_so(names, holds)
    why = ""
    if not times:
        # What only counts may be anything, where it is not called so.
        times = [
            at
            for at, each in enumerate(holds)
            if each in ("times", "days") and not _are_numbers([row[at] for row in rows])
        ]
        why = ", the only column that holds times"
    if not times:
        # Its survey tells what is wrong with the cells.
        times = [at for at, name in enumerate(names) if is_time_name(name)][:1]
        why = ""
    if not times:
        raise BadLineError(without_times(names))
    if len(times) > 1:
        options_ = " or ".join(f"--time-column '{names[at]}'" for at in times)
        shown = ", ".join(names[at] for at in times)
        ask(f"columns {shown} hold times", f"give {options_}")
        why = ""
    elif holds[times[0]] == "days" and (clock := _clock_beside(names, holds, times[0])):
        day = f"--time-column '{names[times[0]]}'"
        ask(
            f"column {names[times[0]]} holds days alone, and {clock} may hold times of a day",
            f"give {day} --time-column '{clock}' for both, {day} if it has none",
        )
    return (names[times[0]],), why


def _called_so(names: Sequence[str], holds: Sequence[str]) -> list[int]:
    """Return the columns of times that are called so; one if it is called as ours are."""
    for first in FIRST_NAMES:
        for at, name in enumerate(names):
            if name.lower() == first and holds[at] == "times":
                return [at]
    named = [at for at, name in enumerate(names) if is_time_name(name)]
    times = [at for at in named if holds[at] == "times"]
    return times or [at for at in named if holds[at] == "days"]


def _several_columns(names: Sequence[str], holds: Sequence[str]) -> tuple[str, ...] | None:
    """Return columns that hold a time together, if no other one holds it alone."""
    if any(each == "times" and is_time_name(names[at]) for at, each in enumerate(holds)):
        return None
    days = [at for at, each in enumerate(holds) if each == "days" and is_date_name(names[at])]
    clocks = [at for at, each in enumerate(holds) if each == "clocks" and is_time_name(names[at])]
    clocks = clocks or [at for at, name in enumerate(names) if name.lower() == "hour"]
    if len(days) == 1 and len(clocks) == 1:
        return names[days[0]], names[clocks[0]]
    parts = tuple(name for part in DATE_PARTS for name in names if name.lower() == part)
    return parts if [name.lower() for name in parts[:3]] == ["year", "month", "day"] else None


def _clock_beside(names: Sequence[str], holds: Sequence[str], day: int) -> str | None:
    """Return the column that may hold the time of a day, beside one of days alone."""
    others = [at for at in range(len(names)) if at != day]
    clocks = [at for at in others if holds[at] == "clocks"]
    clocks += [at for at in others if not holds[at] and is_clock_name(names[at])]
    return names[clocks[0]] if clocks else None


def _holds(cells: Sequence[str], now: int) -> str:
    """Return what the first cells of a column hold: times, days, clocks or nothing of these."""
    cells = [cell for cell in cells if cell.strip()]
    if not cells:
        return ""
    if all(_CLOCK.fullmatch(cell.strip()) for cell in cells):
        return "clocks"
    survey = TimeSurvey(now)
    survey.add(cells, [0] * len(cells))
    if 2 * survey.usable < len(cells):
        return ""
    return "times" if any(_CLOCK.search(cell) or _are_numbers([cell]) for cell in cells) else "days"


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell.strip()) for cell in cells)


class TableRows:
    """Reads the rows of a table by its plan."""

    def __init__(
        self, plan: Plan, options: TableOptions, sensor_tag: str, *, has_sensor: bool
    ) -> None:
        """Begin behind the first heading; `has_sensor`: rows that name none have one."""
        self._plan = plan
        self._headings = Headings(
            plan.heading,
            [plan.columns.names[at] for at in plan.columns.times],
            options,
            plan.kind,
        )
        self._sensor_tag = sensor_tag
        self._has_sensor = has_sensor
        self._moments = plan.time.moments
        self._use()

    def _use(self) -> None:
        self._columns = columns = self._headings.columns
        self._kinds = {**self._plan.kinds, **columns.declared}

    def elements(self, rows: Sequence[Sequence[str]]) -> list[Element | BadLineError | None]:
        """Return what rows say; None of another heading, or a remark.

        NoValueError is of a row that has a time alone, any other BadLineError of one that can't be
        used.
        """
        return in_parts(rows, self._read)

    def _read(self, rows: Sequence[Sequence[str]]) -> list[Element | BadLineError | None]:
        columns = self._columns
        width = len(columns.names)
        if any(len(row) != width for row in rows):
            if self._is_passed_over(rows):
                return [None]
            raise BadLineError(f"{len(rows[0])} cells under {width} columns")
        cells = [*zip(*rows, strict=True)]
        texts = [*map(columns.time, rows)] if len(columns.times) > 1 else cells[columns.times[0]]
        try:
            moments = self._moments(texts)
        except ValueError as error:
            if self._is_passed_over(rows):
                return [None]
            raise BadLineError(bad_time(texts[0], error)) from error
        times = sent_times(texts, moments)
        parts: list[Sequence[str]] = [
            self._parts(name, self._kinds.get(name), cells[at]) for at, name in columns.attributes
        ]
        if self._plan.kind is not Kind.MEASUREMENT:
            # The times stand for rows of which nothing else is a column.
            details = [",".join(filter(None, row[1:])) for row in zip(times, *parts, strict=True)]
            return [*map(self._other_kind, rows, times, details)]
        names = sensor_names([cells[at] for at in columns.sensors], len(rows))
        if columns.tags is not None:
            names, tags = self._tags(cells[columns.tags], names)
            parts.append(tags)
        long: Sequence[str] | None = None
        if columns.attribute is not None and columns.value is not None:
            long = self._long_parts(cells[columns.attribute], cells[columns.value])
            parts.append(long)
        if columns.fallback is not None and not self._has_sensor:
            named = zip(names, cells[columns.fallback], strict=True)
            names = [own or (fallback,) for own, fallback in named]
        values: Sequence[str]
        if columns.alone is not None:
            values = self._texts("value", self._kinds.get("value"), cells[columns.alone])
        else:
            # The times stand for rows of which nothing else is a column.
            joined = [",".join(filter(None, row[1:])) for row in zip(times, *parts, strict=True)]
            values = [value and f"{{{value}}}" for value in joined]
        if long is not None and "" in long:
            values = [value if part else "" for value, part in zip(values, long, strict=True)]
        found = elements_of(
            Kind.MEASUREMENT,
            names,
            [
                [f'"timestamp":{time}' for time in times],
                [f'"value":{value}' for value in values],
                *self._ids(cells),
            ],
        )
        if "" not in values:
            return [*found]
        empty = NoValueError("there is no value")
        return [each if value else empty for each, value in zip(found, values, strict=True)]

    def _ids(self, cells: Sequence[Sequence[str]]) -> list[list[str]]:
        at = self._columns.element_id
        return [] if at is None else [[cell and f'"id":{_text(cell)}' for cell in cells[at]]]

    def _parts(self, name: str, kind: ColumnKind | None, cells: Sequence[str]) -> list[str]:
        """Return the members that a column's cells are, empty where a cell says nothing."""
        key = f"{_encode(name).decode()}:"
        return [text and key + text for text in self._texts(name, kind, cells)]

    def _texts(self, name: str, kind: ColumnKind | None, cells: Sequence[str]) -> Sequence[str]:
        """Return a column's cells as JSON, empty where they stand for none.

        Raises:
            BadLineError: one can't be used.
        """
        missing = self._plan.missing.of(name)
        if kind is ColumnKind.NUMBER and not missing:
            present = [cell for cell in cells if cell] if "" in cells else cells
            numbers = json_numbers(present, self._plan.decimal)
            if numbers is not None and len(present) == len(cells):
                return numbers
            if numbers is not None:
                following = iter(numbers)
                return [cell and next(following) for cell in cells]
        convert = _CONVERTERS.get(kind or ColumnKind.TEXT, _text)
        if kind is ColumnKind.NUMBER:
            convert = partial(json_number, decimal=self._plan.decimal)
        # Of texts there are often few.
        texts = {"": ""}
        for cell in {*cells}:
            try:
                if cell and cell not in missing:
                    texts[cell] = convert(cell) or ""
            except (BadLineError, UnicodeEncodeError):
                raise
            except ValueError as error:
                raise BadLineError(f"{name} {error}") from error
        return [texts.get(cell, "") for cell in cells]

    def _long_parts(self, names: Sequence[str], cells: Sequence[str]) -> Sequence[str]:
        """Return the member that each row of a long table has."""
        if "" in names:
            raise BadLineError("the attribute has no name")
        places: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            places.setdefault(name, []).append(at)
        parts = [""] * len(names)
        for name, of in places.items():
            kind = self._columns.value_kind or self._plan.value_kinds.get(name)
            for at, part in zip(of, self._parts(name, kind, [cells[at] for at in of]), strict=True):
                parts[at] = part
        return parts

    def _is_passed_over(self, rows: Sequence[Sequence[str]]) -> bool:
        if len(rows) > 1 or not self._headings.may_be(rows[0]):
            return False
        self._headings.use(rows[0])
        self._use()
        return True

    def _tags(
        self, cells: Sequence[str], names: Sequence[tuple[str, ...]]
    ) -> tuple[list[tuple[str, ...]], list[str]]:
        """Return the sensors that tags name, and the others as members."""
        found: list[tuple[str, ...]] = []
        parts: list[str] = []
        for cell, own in zip(cells, names, strict=True):
            tags = dict(tag.partition("=")[::2] for tag in cell.split(",") if tag)
            named = tags.pop(self._sensor_tag, None)
            found.append(own if named is None else (named,))
            parts.append(_encode({k: v for k, v in tags.items() if v}).decode()[1:-1])
        return found, parts

    def _other_kind(self, cells: Sequence[str], time: str, details: str) -> Element:
        columns = self._columns
        missing = self._plan.missing.of("")
        row = {
            name: cell
            for name, cell in zip(columns.names, cells, strict=True)
            if name and cell and cell not in missing
        }
        names = tuple(name for at in columns.sensors if (name := cells[at].strip()))
        known: Sequence[str] = columns.names
        if self._plan.kind is Kind.LOG:
            held = log_columns(columns.names)
            row = {member: row[name] for member, name in held.items() if name in row}
            row["severity"] = severity_of(row.get("severity", ""))
            known = [*held]
        members = members_of(self._plan.kind, row, known)
        if "revision" in row:
            members["revision"] = number_or_text(row["revision"].strip().removesuffix(".0"))
        if columns.element_id is not None and cells[columns.element_id]:
            members["id"] = json_text(cells[columns.element_id])
        members["timestamp"] = msgspec.Raw(time.encode())
        text = _encode(members)
        if details and self._plan.kind is Kind.HEARTBEAT:
            text = b"%b,%b}" % (text[:-1], details.encode())
        return Element(self._plan.kind, names, text)


def _boolean(cell: str) -> str | None:
    return _BOOLEANS.get(cell.strip().lower())


def _text(cell: str) -> str | None:
    return None if cell.isspace() else _encode(cell).decode()


def _json(cell: str) -> str | None:
    return None if cell.isspace() else bytes(checked_json(cell, "value")).decode()


def _none(_: str) -> None:
    return None


_CONVERTERS: Final[dict[ColumnKind, Callable[[str], str | None]]] = {
    ColumnKind.EMPTY: _none,
    ColumnKind.BOOLEAN: _boolean,
    ColumnKind.JSON: _json,
}


def sent_time(text: str, moment: int) -> str:
    """Return the JSON text of a cell's time.

    Raises:
        BadLineError: it is none: before 1650, or of a clock that counts from its boot.
    """
    # As a number, which is the quickest to read, if that means no other time.
    if EARLIEST <= moment < LATEST_EXACT:
        return repr(moment / 1e6)
    if moment < OLDEST:
        raise BadLineError(f"timestamp {text[:40]} is before {to_rfc3339(OLDEST)[:4]}")
    # A clock's first day is in 1969 by UTC where its zone is ahead.
    is_first_day = moment in range(-DAY, 0) and "1970" in text
    if is_first_day or counts_from_boot(text, moment):
        raise BadLineError(f"timestamp {text[:40]} {FROM_BOOT}")
    return f'"{to_rfc3339(moment)}"'


def sent_times(texts: Sequence[str], moments: Sequence[int]) -> Sequence[str]:
    """Return the JSON texts of a column of times.

    Raises:
        BadLineError: one is none, as of `sent_time`.
    """
    quick = number_texts([moment / 1e6 for moment in moments])
    return quick or [*map(sent_time, texts, moments)]


def bad_time(text: str, error: ValueError) -> str:
    """Return what is wrong with the cell of a time, in terms of the file."""
    text = text.strip()
    if not text:
        return "timestamp is missing"
    why = str(error)
    if why == FROM_BOOT:
        return f"timestamp {text[:40]} {why}"
    return f"timestamp {text[:40]!r} is {why}" if why == "no time" else f"timestamp: {why}"

"""Times as tables of other makes write them: what a column of them can mean, and reading it.

A survey sees all cells of the column before one is read, because only together do they tell
whether the day or the month stands first, or what a number counts. What they leave open is asked,
never guessed.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple, TypeAlias

from heliograph.exchange.elements import FROM_BOOT
from heliograph.exchange.line_protocol import PRECISIONS
from heliograph.model.time import (
    DAY,
    EARLIEST,
    HOUR,
    LATEST,
    SECOND,
    from_rfc3339,
    to_rfc3339,
)

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock's time, in whichever zone
_FIRST: Final = -62_135_596_800 * SECOND
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ZONE = r"(?P<zone>Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?(?: UTC)?"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
_YEAR_FIRST = re.compile(
    # Without marks the month and the day have two digits, and a clock stands behind them.
    r"(?P<year>\d{4})(?:(?P<mark>[-/.])|(?=\d{4}[Tt ]))"
    r"(?P<month>\d{1,2})(?(mark)(?P=mark))(?P<day>\d{1,2})"
    rf"(?:[Tt ]\s*{_CLOCK}\s*{_ZONE})?",
    re.ASCII,
)
_YEAR_LAST = re.compile(
    rf"(?P<first>\d{{1,2}})(?P<mark>[-/.])(?P<other>\d{{1,2}})(?P=mark)(?P<year>\d{{4}})"
    rf"(?:,?[Tt ]\s*{_CLOCK}\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*{_ZONE})?",
    re.ASCII,
)
_NAMED_UTC = re.compile(r"\b(?:UTC|GMT|Z)\b")
_CLOCK_ALONE = re.compile(_CLOCK, re.ASCII)
_SHORTENED = re.compile(r"\d[.,]\d+[eE]\+?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,20})?", re.ASCII)
_COMPACT: Final = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# ISO 8601 writes the end of a day so, and weather services have it instead of the next day's 00:00.
_END_OF_DAY: Final = (24, 0, 0, 0)
DATE_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")
UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# Said in place of a format, these are for whatever form the dates have otherwise.
DAY_FIRST: Final = "day-first"
MONTH_FIRST: Final = "month-first"
# What a spreadsheet counts: days since 1899-12-30, here of 1954 to 2119.
_SERIAL = range(20_000, 80_000)


class Question(NamedTuple):
    """What can be read in more than one way, and the option that decides it."""

    what: str
    options: str

    def __str__(self) -> str:
        return f"{self.what}: {self.options}"


# Takes what is open, and the option that decides it, as in a `Question`.
Ask: TypeAlias = Callable[[str, str], object]


class Example(NamedTuple):
    """A cell that shows something, and its line."""

    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.text!r} in line {self.line}"


class Zone:
    """What a zone's wall clock shows, as moments."""

    def __init__(self, zone: tzinfo, name: str) -> None:
        self._zone = zone
        self.name = name
        # None: within the hour the clock is put forward or back.
        self._offsets: dict[int, int | None] = {}

    def moment(self, wall: int) -> int:
        """Return microseconds since 1970 for those that the wall clock shows.

        Raises:
            ValueError: the clock shows this twice, or never.
        """
        hour = wall // HOUR
        if hour not in self._offsets:
            if len(self._offsets) >= 100_000:
                self._offsets.clear()
            self._offsets[hour] = self._of_hour(hour * HOUR)
        offset = self._offsets[hour]
        return wall - (self._exact(wall) if offset is None else offset)

    def _of_hour(self, wall: int) -> int | None:
        ends = (wall, wall + HOUR - 1)
        found = {self._offset(end, fold) for end in ends for fold in (0, 1)}
        return found.pop() if len(found) == 1 else None

    def _exact(self, wall: int) -> int:
        first, second = self._offset(wall, 0), self._offset(wall, 1)
        if first != second:
            often = "twice" if first > second else "never"
            shown = to_rfc3339(wall).removesuffix("Z").replace("T", " ")[:19]
            raise ValueError(f"clocks in {self.name} show {shown} {often}: write its offset to it")
        return first

    def _offset(self, wall: int, fold: int) -> int:
        shown = (_EPOCH + wall * _MICROSECOND).replace(tzinfo=self._zone, fold=fold)
        return (shown.utcoffset() or timedelta()) // _MICROSECOND


class TimeForm(NamedTuple):
    """How the cells of a time column are read.

    `format` is one of `strptime` that all cells have. Without it a cell tells its form: `marks`
    are those between the parts of dates that begin with the day (True) or the month (False),
    `precision` is what numbers count, `least` microseconds, and `compact` the lengths of dates
    without marks.
    """

    zone: Zone | None = None
    format: str | None = None
    marks: dict[str, bool] | None = None
    precision: str | None = None
    compact: frozenset[int] = frozenset()
    # Smaller counts are of a clock that has no time, unless somebody has said what is counted.
    least: int = EARLIEST

    def moments(self, texts: Sequence[str]) -> list[int]:
        """Return microseconds since 1970 of a column's cells.

        Raises:
            ValueError: one is no time of this form, or of none of the years 1 to 9999.
        """
        return [*map(self.reader(), texts)]

    def reader(self) -> Callable[[str], int]:
        """Return what makes microseconds since 1970 of a cell.

        It raises ValueError for what is no time of this form, or none of the years 1 to 9999.
        """
        slow, of = self._slow, self._moment
        if self.format is not None:
            return slow
        read = datetime.fromisoformat
        factor, divisor = PRECISIONS[self.precision or "s"]
        counts = self.precision is not None and not self.compact
        marks = self.marks or {}

        def moment(text: str) -> int:
            if text[4:5] == "-":
                try:
                    shown = read(text)
                except ValueError:
                    return slow(text)
                return of(shown)
            mark = text[2:3]
            if mark in marks and text[5:6] == mark:
                first, other = text[:2], text[3:5]
                month, day = (other, first) if marks[mark] else (first, other)
                try:
                    shown = read(f"{text[6:10]}-{month}-{day}{text[10:]}")
                except ValueError:
                    return slow(text)
                return of(shown)
            if counts and len(text) < 20 and text.isdigit() and text.isascii():
                counted = int(text) * factor // divisor
                if self.least <= counted <= LATEST:
                    return counted
            return slow(text)

        return moment

    def _slow(self, text: str) -> int:
        text = text.strip()
        if self.format is not None:
            return self._moment(_formatted(text, self.format))
        if _NUMBER.fullmatch(text):
            if len(text) in self.compact and (self.precision is None or not _unit(text)):
                return self._moment(_of_digits(text))
            if self.precision is None:
                raise ValueError(FROM_BOOT if float(text) < EARLIEST // SECOND else "no time")
            counted = _counted(text, self.precision)
            if counted < self.least:
                raise ValueError(FROM_BOOT)
            return counted
        if match := _YEAR_FIRST.fullmatch(text):
            if match["second"] == "60":
                return from_rfc3339(text.replace(" ", "T", 1))
            return self._moment(_built(match, int(match["month"]), int(match["day"])))
        match = _YEAR_LAST.fullmatch(text)
        if match is None or not self.marks or match["mark"] not in self.marks:
            raise ValueError("no time")
        first, other = int(match["first"]), int(match["other"])
        day, month = (first, other) if self.marks[match["mark"]] else (other, first)
        return self._moment(_built(match, month, day))

    def _moment(self, shown: datetime) -> int:
        if shown.tzinfo is not None:
            return (shown - _EPOCH_UTC) // _MICROSECOND
        wall = (shown - _EPOCH) // _MICROSECOND
        if self.zone is None:
            raise ValueError("there is no zone: give --time-zone")
        return self.zone.moment(wall)


def _formatted(text: str, form: str) -> datetime:
    shown = datetime.strptime(text, form)  # noqa: DTZ007 - it may have a zone
    # strptime takes the names of zones, and forgets them.
    is_utc = "%Z" in form and shown.tzinfo is None and _NAMED_UTC.search(text)
    return shown.replace(tzinfo=UTC) if is_utc else shown


def _built(match: re.Match[str], month: int, day: int) -> datetime:
    parts = match.groupdict()
    hour = int(parts["hour"] or 0)
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            raise ValueError("no time")
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    fraction = ((parts["fraction"] or "") + "000000")[:6]
    clock = (hour, int(parts["minute"] or 0), int(parts["second"] or 0), int(fraction))
    is_end = clock == _END_OF_DAY and not half
    at = time() if is_end else time(*clock)
    day_shown = date(int(parts["year"]), month, day)
    shown = datetime.combine(day_shown, at, _written_zone(parts["zone"]))
    return _next_day(shown) if is_end else shown


def _of_digits(text: str) -> datetime:
    """Return what a time without marks shows, whose length is one of `_COMPACT`."""
    is_end = text[8:10] == "24" and not text[10:].strip("0")
    digits = text[:8] if is_end else text
    shown = datetime.strptime(digits, _COMPACT[len(digits)])  # noqa: DTZ007 - its column tells the zone
    return _next_day(shown) if is_end else shown


def _next_day(midnight: datetime) -> datetime:
    try:
        return midnight + timedelta(days=1)
    except OverflowError as error:
        raise ValueError("not in the years 1 to 9999") from error


def _written_zone(text: str | None) -> tzinfo | None:
    if not text:
        return None
    if text[0] not in "+-":
        return UTC
    return datetime.fromisoformat(f"2000-01-01T00:00{text}").tzinfo


def _counted(text: str, precision: str) -> int:
    factor, divisor = PRECISIONS[precision]
    whole, _, fraction = text.partition(".")
    moment = int(whole) * factor // divisor
    if fraction.strip("0"):
        moment += round(float(f"{'-' if text[0] == '-' else ''}0.{fraction}") * factor / divisor)
    if not _FIRST <= moment <= LATEST:
        raise ValueError(f"{text} {UNITS[precision]} are not in the years 1 to 9999")
    return moment


def _unit(text: str, latest: int = LATEST) -> str | None:
    """Return what a number counts if it is a time from 2001-09-09 to the latest one."""
    for precision in PRECISIONS:
        try:
            moment = _counted(text, precision)
        except ValueError:
            continue
        if EARLIEST <= moment <= latest:
            return precision
    return None


class TimeSurvey:
    """What all cells of a time column together tell."""

    def __init__(self, now: int, form: str | None = None, precision: str | None = None) -> None:
        """Take cells up to a day after `now` (microseconds) for times.

        `form` (of `strptime`, `day-first` or `month-first`) and `precision` are what somebody has
        said about them.
        """
        self._latest = now + DAY
        self._is_day_first = {DAY_FIRST: True, MONTH_FIRST: False}.get(form or "")
        self._format = form if self._is_day_first is None else None
        self._precision = precision
        self.usable = 0
        self.unusable = 0
        self._zoned = 0
        self._without_zone: Example | None = None
        self._year_first: Example | None = None
        self._first_bad: Example | None = None
        self._units: dict[str, Example] = {}
        self._compact: dict[int, Example] = {}
        # By mark: an example, one that only the day can be first in, one that only the month.
        self._year_last: dict[str, Example] = {}
        self._day_first: dict[str, Example] = {}
        self._month_first: dict[str, Example] = {}

    def add(self, texts: Sequence[str], lines: Sequence[int]) -> list[bool] | None:
        """Take cells and their lines; return which of them are times, None: all."""
        quick = (self._all_year_first, self._all_year_last, self._all_counted)
        if self._format is None and any(each(texts, lines) for each in quick):
            self.usable += len(texts)
            return None
        found = [self._is_time(Example(*pair)) for pair in zip(texts, lines, strict=True)]
        good = found.count(True)
        self.usable += good
        self.unusable += len(found) - good
        if self._first_bad is None and good < len(found):
            at = found.index(False)
            self._first_bad = Example(texts[at], lines[at])
        return found

    def _all_year_first(self, texts: Sequence[str], lines: Sequence[int]) -> bool:
        if not all(text[4:5] == "-" for text in texts):
            return False
        if not self._all_iso(texts, texts, lines):
            return False
        self._year_first = self._year_first or Example(texts[0], lines[0])
        return True

    def _all_year_last(self, texts: Sequence[str], lines: Sequence[int]) -> bool:
        """Note what the days tell, of which there are few, if all have their digits."""
        mark = texts[0][2:3]
        if not all(text[2:3] == mark == text[5:6] for text in texts):
            return False
        days: dict[str, int] = {}
        for at, text in enumerate(texts):
            days.setdefault(text[:10], at)
        found = [(_YEAR_LAST.fullmatch(day), at) for day, at in days.items()]
        if not all(match and any(self._orders(match)) for match, _ in found):
            return False
        if not self._all_iso([f"2000-01-01{text[10:]}" for text in texts], texts, lines):
            return False
        for match, at in found:
            if match is not None:
                self._is_year_last(match, Example(texts[at], lines[at]), notes_zone=False)
        return True

    def _all_iso(self, forms: Sequence[str], texts: Sequence[str], lines: Sequence[int]) -> bool:
        try:
            shown = list(map(datetime.fromisoformat, forms))
        except ValueError:
            return False
        bare = [moment.tzinfo is None for moment in shown]
        if self._without_zone is None and True in bare:
            at = bare.index(True)
            self._without_zone = Example(texts[at], lines[at])
        self._zoned += bare.count(False)
        return True

    def _all_counted(self, texts: Sequence[str], lines: Sequence[int]) -> bool:
        joined = "".join(texts)
        if not (joined.isascii() and joined.isdigit()):
            return False
        if "" in texts:
            return False
        numbers = list(map(int, texts))
        units = {self._plausible(texts[numbers.index(end)]) for end in (min(numbers), max(numbers))}
        unit = units.pop()
        if units or unit is None:
            return False
        self._units.setdefault(unit, Example(texts[0], lines[0]))
        return True

    def _plausible(self, text: str) -> str | None:
        if self._precision is None:
            return _unit(text, self._latest)
        try:
            _counted(text, self._precision)
        except ValueError:
            return None
        return self._precision

    def _is_time(self, cell: Example) -> bool:
        text = cell.text.strip()
        if self._format is not None:
            return self._has_format(cell, text)
        if _NUMBER.fullmatch(text):
            return self._is_number(cell, text)
        if match := _YEAR_FIRST.fullmatch(text):
            if not _is_valid(match, int(match["month"]), int(match["day"])):
                return False
            self._note_zone(cell, is_zoned=bool(match["zone"]))
            self._year_first = self._year_first or cell
            return True
        if match := _YEAR_LAST.fullmatch(text):
            return self._is_year_last(match, cell)
        return False

    def _has_format(self, cell: Example, text: str) -> bool:
        try:
            shown = _formatted(text, self._format or "")
        except ValueError:
            return False
        self._note_zone(cell, is_zoned=shown.tzinfo is not None)
        return True

    def _is_number(self, cell: Example, text: str) -> bool:
        unit = self._plausible(text)
        is_compact = self._precision is None and _is_compact(text)
        if is_compact:
            self._compact.setdefault(len(text), cell)
            self._note_zone(cell, is_zoned=False)
        if unit is not None:
            self._units.setdefault(unit, cell)
        return unit is not None or is_compact

    def _is_year_last(
        self, match: re.Match[str], cell: Example, *, notes_zone: bool = True
    ) -> bool:
        mark = match["mark"]
        by_day, by_month = self._orders(match)
        if not by_day and not by_month:
            return False
        if notes_zone:
            self._note_zone(cell, is_zoned=bool(match["zone"]))
        self._year_last.setdefault(mark, cell)
        if not by_month:
            self._day_first.setdefault(mark, cell)
        elif not by_day:
            self._month_first.setdefault(mark, cell)
        return True

    def _orders(self, match: re.Match[str]) -> tuple[bool, bool]:
        """Return whether the day may be first, and whether the month may."""
        first, other = int(match["first"]), int(match["other"])
        by_day = self._is_day_first is not False and _is_valid(match, other, first)
        return by_day, not self._is_day_first and _is_valid(match, first, other)

    def _note_zone(self, cell: Example, *, is_zoned: bool) -> None:
        if is_zoned:
            self._zoned += 1
        elif self._without_zone is None:
            self._without_zone = cell

    def decide(self, column: str, zone: Zone | None, ask: Ask) -> tuple[TimeForm, list[str]]:
        """Return how the cells are read, and what that rests on; ask what they leave open."""
        if not self.usable:
            ask(*self._unknown(column))
            return TimeForm(zone=zone), []
        rests_on: list[str] = []
        if self._format is not None:
            rests_on.append(f"--time-format {self._format!r}")
        if self._year_first:
            rests_on.append(f"the year stands first: {self._year_first}")
        marks = self._order(column, ask, rests_on)
        precision = self._count(column, ask, rests_on)
        compact = frozenset(self._compact)
        rests_on += [
            f"{', '.join(DATE_PARTS[: n // 2 - 1])}: {self._compact[n]}" for n in sorted(compact)
        ]
        rests_on.append(self._zone(column, zone, ask))
        least = EARLIEST if self._precision is None else _FIRST
        return TimeForm(zone, self._format, marks, precision, compact, least), rests_on

    def _unknown(self, column: str) -> tuple[str, str]:
        example = self._first_bad
        if example is None:
            return f"column {column} holds no times", "give --time-column"
        what, options = _misunderstood(example.text.strip().replace(",", "."))
        return f"column {column} {what} ({example})", options

    def _order(self, column: str, ask: Ask, rests_on: list[str]) -> dict[str, bool]:
        def ask_order(shown: object) -> None:
            ask(
                f"column {column} may have the day or the month first ({shown})",
                f"give --time-format {DAY_FIRST} or --time-format {MONTH_FIRST}",
            )

        marks: dict[str, bool] = {}
        for mark, example in self._year_last.items():
            day, month = self._day_first.get(mark), self._month_first.get(mark)
            if day and month:
                ask_order(f"{day}, but {month}")
            elif day or month:
                marks[mark] = day is not None
                said = "" if self._is_day_first is None else " (--time-format)"
                first = "day" if day else "month"
                rests_on.append(f"the {first} stands first{said}: {day or month}")
            elif mark == ".":
                marks[mark] = True
                rests_on.append(f"with dots the day stands first: {example}")
            else:
                ask_order(example)
        return marks

    def _count(self, column: str, ask: Ask, rests_on: list[str]) -> str | None:
        if len(self._units) > 1:
            found = ", ".join(f"{UNITS[unit]} ({cell})" for unit, cell in self._units.items())
            ask(f"column {column} counts {found}", "give --precision s, ms, us or ns")
            return None
        for unit, cell in self._units.items():
            if (size := len(cell.text.strip())) in self._compact:
                ask(
                    f"column {column} may count {UNITS[unit]} or be a date ({cell})",
                    f"give --precision {unit} or --time-format '{_COMPACT[size]}'",
                )
            said = " (--precision)" if self._precision else ""
            moment = to_rfc3339(_counted(cell.text.strip(), unit))
            rests_on.append(f"{UNITS[unit]} since 1970{said}: {cell} is {moment}")
            return unit
        return None

    def _zone(self, column: str, zone: Zone | None, ask: Ask) -> str:
        if self._without_zone is None:
            return "a zone in each cell" if self._zoned else "UTC, as all counts since 1970"
        if zone is None:
            ask(
                f"column {column} says no zone ({self._without_zone})",
                "give --time-zone UTC, --time-zone Europe/Berlin (the sensor's) or"
                " --time-zone +01:00",
            )
            return "zone unknown"
        return f"zone {zone.name}" + (" where the cell has none" if self._zoned else "")


def _misunderstood(text: str) -> tuple[str, str]:
    """Return what a cell that is no time seems to be, and what can be done about it."""
    if _NUMBER.fullmatch(text):
        if int(float(text)) in _SERIAL:
            return (
                "looks like a spreadsheet's count of days",
                "let the spreadsheet write it as a date with time, year first",
            )
        return (
            "holds numbers that are no times since 2001",
            "give --precision s, ms, us or ns, or --time-column for another one",
        )
    if _SHORTENED.fullmatch(text):
        return (
            "holds counts that a spreadsheet has shortened",
            "let it write all digits, or take the file that it was made of",
        )
    if _CLOCK_ALONE.fullmatch(text):
        return (
            "holds times of a day, and not which day",
            "give --time-column twice, for the day and for this one",
        )
    return (
        "holds no times that are understood",
        "give --time-format, as '%d.%m.%y %H:%M', or --time-column for another one",
    )


def _is_valid(match: re.Match[str], month: int, day: int) -> bool:
    if match["second"] == "60":
        return True
    try:
        _built(match, month, day)
    except ValueError:
        return False
    return True


def _is_compact(text: str) -> bool:
    if len(text) not in _COMPACT or not text.isdigit():
        return False
    try:
        shown = _of_digits(text)
    except ValueError:
        return False
    return 1850 <= shown.year <= 2100


def check_time_format(text: str) -> str:
    """Return a format of times if each day of a year has a text of its own in it.

    Raises:
        ValueError: it has not.
    """
    if text in (DAY_FIRST, MONTH_FIRST):
        return text
    moment = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)
    try:
        is_whole = datetime.strptime(moment.strftime(text), text).date() == moment.date()  # noqa: DTZ007 - only its day
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"{text!r} tells no day of a year; as '%d.%m.%Y %H:%M', {DAY_FIRST} or {MONTH_FIRST}"
        )
    return text

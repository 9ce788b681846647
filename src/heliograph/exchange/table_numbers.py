"""Numbers as tables of other makes write them: what the cells of columns are, all together.

Whether a comma stands before decimals or between thousands is one answer for the whole file, and
whether a column holds numbers one for the whole column.
"""

import enum
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from heliograph.exchange.elements import ColumnKind
from heliograph.exchange.table_times import Ask, Example
from heliograph.model.counting import counted

# In a column of numbers they stand for none, in whatever case.
MISSING: Final = frozenset(
    (
        *("nan", "na", "n/a", "<na>", "null", "none", "\\n", "-", "--", "---"),
        *("#n/a", "#nv", "#na", "#value!", "#wert!", "#div/0!", "#ref!", "#null!", "#num!"),
    )
)
_INFINITE: Final = frozenset(
    sign + word for sign in ("", "+", "-") for word in ("inf", "infinity", "1.#inf")
)
_BOOLEANS: Final = frozenset(("true", "false"))
_GROUP = "[ \u00a0\u202f'\u2019]"
_GROUPS = re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:{_GROUP}\d{{3}})+(?:[.,]\d*)?", re.ASCII)
_PLAIN = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_POINT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_COMMA = re.compile(r"[+-]?(?:\d+,\d*|,\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_BY_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3})+,\d*|(?:\.\d{3}){2,})", re.ASCII)
_BY_COMMAS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:,\d{3})+\.\d*|(?:,\d{3}){2,})", re.ASCII)
_WITH_UNIT = re.compile(r"[+-]?\d[\d.,]*\s*([^\d\s.,:;/+-]\S{0,7})", re.ASCII)
_GROUPING = re.compile(_GROUP)
# What `float` takes and JSON does not, or what is a code rather than a number: 007.
_SUSPICIOUS = re.compile(r"_|(?:^|\n)\s*[+-]?0\d")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_numbers = msgspec.json.Decoder(list[float]).decode
# Numbers that often stand for none; which ones do only somebody who knows the file can say.
_PERHAPS_NONE: Final = frozenset(
    (-99.9, -999.0, -999.9, -9999.0, -9999.9, -99999.0, 9999.9, 99999.0)
)
# Cells that are no numbers are kept as examples, and their suffixes as units.
_KEPT = 12


class Sort(enum.Enum):
    """What a cell by itself may be."""

    MISSING = enum.auto()
    WHOLE = enum.auto()
    POINT = enum.auto()
    COMMA = enum.auto()
    # A mark before three digits: decimals, or thousands.
    POINT_OR_THOUSANDS = enum.auto()
    COMMA_OR_THOUSANDS = enum.auto()
    # 1.234,5 and 1.234.567; 1,234.5 and 1,234,567.
    THOUSANDS_BY_POINTS = enum.auto()
    THOUSANDS_BY_COMMAS = enum.auto()
    INFINITE = enum.auto()
    BOOLEAN = enum.auto()
    TEXT = enum.auto()


_POINTS: Final = frozenset(
    (Sort.WHOLE, Sort.POINT, Sort.POINT_OR_THOUSANDS, Sort.COMMA_OR_THOUSANDS,
     Sort.THOUSANDS_BY_COMMAS, Sort.INFINITE)
)  # fmt: skip
_COMMAS: Final = frozenset(
    (Sort.WHOLE, Sort.COMMA, Sort.POINT_OR_THOUSANDS, Sort.COMMA_OR_THOUSANDS,
     Sort.THOUSANDS_BY_POINTS, Sort.INFINITE)
)  # fmt: skip
_SHOW_POINT: Final = (Sort.POINT, Sort.THOUSANDS_BY_COMMAS)
_SHOW_COMMA: Final = (Sort.COMMA, Sort.THOUSANDS_BY_POINTS)


def sort_of(cell: str) -> Sort:
    """Return what a cell by itself may be; an empty one is missing."""
    text = cell.strip().replace("\u2212", "-")
    lowered = text.lower()
    if not text or lowered in MISSING:
        return Sort.MISSING
    if lowered in _BOOLEANS:
        return Sort.BOOLEAN
    if lowered in _INFINITE:
        return Sort.INFINITE
    if _GROUPS.fullmatch(text):
        text = _GROUPING.sub("", text)
    return _sort_of_number(text)


def _sort_of_number(text: str) -> Sort:
    if _PLAIN.fullmatch(text):
        return Sort.WHOLE if math.isfinite(float(text)) else Sort.TEXT
    if _BY_POINTS.fullmatch(text):
        return Sort.THOUSANDS_BY_POINTS
    if _BY_COMMAS.fullmatch(text):
        return Sort.THOUSANDS_BY_COMMAS
    is_thousands = _THOUSANDS.fullmatch(text) is not None
    if _POINT.fullmatch(text):
        return Sort.POINT_OR_THOUSANDS if is_thousands else Sort.POINT
    if _COMMA.fullmatch(text):
        return Sort.COMMA_OR_THOUSANDS if is_thousands else Sort.COMMA
    return Sort.TEXT


def json_numbers(cells: Sequence[str], decimal: str) -> Sequence[str] | None:
    """Return cells of a column of numbers as JSON; None: they are to be looked at one by one."""
    joined = ",".join(cells)
    if decimal == ",":
        joined = "\n".join(cells)
        if "." in joined:
            return None
        cells = joined.replace(",", ".").split("\n")
        joined = ",".join(cells)
    try:
        return cells if len(_numbers(f"[{joined}]")) == len(cells) else None
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def json_number(cell: str, decimal: str) -> str | None:
    """Return a cell of a column of numbers as JSON; None: it stands for none.

    Raises:
        ValueError: it is infinite, or no number.
    """
    sort = sort_of(cell)
    if sort is Sort.MISSING:
        return None
    if sort is Sort.INFINITE:
        raise ValueError("is infinite, which no number in JSON is")
    if sort not in (_POINTS if decimal == "." else _COMMAS):
        raise ValueError(f"is no number: {cell[:40]!r}")
    text = _GROUPING.sub("", cell.strip().replace("\u2212", "-"))
    text = text.replace("," if decimal == "." else ".", "").replace(",", ".")
    return text if _JSON_NUMBER.fullmatch(text) else _completed(text)


def _completed(text: str) -> str:
    """Return `.5`, `+5`, `1.` and `05.3` as JSON has them."""
    sign, text = ("-", text[1:]) if text[0] == "-" else ("", text.removeprefix("+"))
    number, mark, exponent = text.replace("E", "e").partition("e")
    whole, _, fraction = number.partition(".")
    number = whole.lstrip("0") or "0"
    if "." in text:
        number += f".{fraction or '0'}"
    return f"{sign}{number}{mark}{exponent}"


class ColumnSurvey:
    """Counts what the cells of a column are, with an example of each sort."""

    def __init__(self) -> None:
        self.counts: Counter[Sort] = Counter()
        self.examples: dict[Sort, Example] = {}
        # What was asked to be taken for missing.
        self.marked_missing = 0
        # A number that may be meant to.
        self.perhaps_none: str | None = None
        self.odd: dict[str, tuple[int, int]] = {}
        self.units: set[str] = set()
        self.with_unit = 0
        self._sorts: dict[str, Sort] = {}

    def add(self, cells: Sequence[str], lines: Sequence[int], missing: "Missing") -> None:
        """Take cells and their lines; those of `missing` stand for nothing."""
        present = [cell for cell in cells if cell] if "" in cells else cells
        may_be_missing = bool(missing) and not missing.is_absent(present)
        if not may_be_missing and self._all_plain(present):
            self.counts[Sort.MISSING] += len(cells) - len(present)
            return
        for cell, count in Counter(cells).items():
            if may_be_missing and cell in missing:
                self.marked_missing += count
                continue
            sort = self._sort(cell)
            self.counts[sort] += count
            if sort not in self.examples:
                self.examples[sort] = Example(cell.strip(), lines[cells.index(cell)])
            if sort in (Sort.WHOLE, Sort.POINT, Sort.COMMA) and self.perhaps_none is None:
                number = _number(cell.strip())
                self.perhaps_none = cell.strip() if number in _PERHAPS_NONE else None
            if sort in (Sort.TEXT, Sort.BOOLEAN):
                self._note_odd(cell.strip(), count, lines[cells.index(cell)])

    def _sort(self, cell: str) -> Sort:
        sort = self._sorts.get(cell)
        if sort is None:
            if len(self._sorts) >= 10_000:
                self._sorts.clear()
            sort = self._sorts[cell] = sort_of(cell)
        return sort

    def _all_plain(self, cells: Sequence[str]) -> bool:
        """Count whole numbers and those with a point, where there is nothing else."""
        try:
            numbers = list(map(float, cells))
        except ValueError:
            return False
        is_finite = math.isfinite(sum(numbers))
        joined = "\n".join(cells)
        if not is_finite or not joined.isascii() or _SUSPICIOUS.search(joined):
            return False
        sort = Sort.POINT if "." in joined else Sort.WHOLE
        if sort is Sort.POINT and not self.counts[sort]:
            # Until one is seen that can't be thousands.
            return False
        self.counts[sort] += len(cells)
        if self.perhaps_none is None and not _PERHAPS_NONE.isdisjoint(numbers):
            at = next(at for at, number in enumerate(numbers) if number in _PERHAPS_NONE)
            self.perhaps_none = cells[at].strip()
        return True

    def _note_odd(self, text: str, count: int, line: int) -> None:
        if text in self.odd or len(self.odd) < _KEPT:
            before, first = self.odd.get(text, (0, line))
            self.odd[text] = (before + count, first)
        if match := _WITH_UNIT.fullmatch(text):
            self.with_unit += count
            if len(self.units) < _KEPT:
                self.units.add(match[1])

    def of(self, sorts: Iterable[Sort]) -> int:
        """Return how many cells are of these sorts."""
        return sum(self.counts[sort] for sort in sorts)

    @property
    def total(self) -> int:
        """How many cells hold anything."""
        return self.counts.total() - self.counts[Sort.MISSING]

    @property
    def is_mostly_numbers(self) -> bool:
        """Whether at least half of the cells may be numbers."""
        return self.total > 0 and 2 * self.of(_POINTS | _COMMAS) >= self.total

    def kind(self, decimal: str, column: str, ask: Ask) -> ColumnKind:
        """Return what the column holds; ask where some cells are numbers and some are not."""
        numbers = self.of(_POINTS if decimal == "." else _COMMAS)
        others = self.total - numbers
        if not self.total:
            return ColumnKind.EMPTY
        if not others:
            return ColumnKind.NUMBER
        if self.counts[Sort.BOOLEAN] == self.total:
            return ColumnKind.BOOLEAN
        if numbers >= others:
            self._ask_of_others(column, numbers, others, decimal, ask)
        elif self.with_unit == self.total and len(self.units) == 1:
            ask(
                f"column {column} holds numbers with a unit ({self.examples[Sort.TEXT]})",
                f"have it written without, or give --text '{column}'",
            )
        return ColumnKind.TEXT

    def _ask_of_others(
        self, column: str, numbers: int, others: int, decimal: str, ask: Ask
    ) -> None:
        odd = [f"{text!r} in line {line}" for text, (_, line) in self.odd.items()]
        wrong = _POINTS if decimal == "," else _COMMAS
        odd += [
            str(example)
            for sort, example in self.examples.items()
            if sort in wrong and sort not in (_COMMAS if decimal == "," else _POINTS)
        ]
        shown = ", ".join(odd[:3]) + (", …" if len(odd) > 3 else "")
        tokens = " ".join(f"--missing '{text}'" for text in list(self.odd)[:3])
        options = f"give {tokens} if they stand for none, or " if self.odd and others else "give "
        ask(
            f"column {column} holds {counted(numbers, 'number')} beside"
            f" {counted(others, 'other cell')} ({shown})",
            f"{options}--text '{column}' to keep all as texts",
        )


class Missing:
    """Texts that stand for nothing wherever they are: as they are written, or the same number."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts = frozenset(text.strip() for text in texts)
        self._numbers = frozenset(filter(None, map(_number, self._texts)))

    def __bool__(self) -> bool:
        return bool(self._texts)

    def __contains__(self, cell: object) -> bool:
        text = str(cell).strip()
        return text in self._texts or (bool(self._numbers) and _number(text) in self._numbers)

    def is_absent(self, cells: Sequence[str]) -> bool:
        """Return whether it is seen at once that none of the cells is one."""
        try:
            return self._numbers.isdisjoint(map(float, cells))
        except ValueError:
            return False


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


class Decimal(NamedTuple):
    """What stands before decimals, and what that rests on."""

    mark: str
    rests_on: str


def decide_decimal(
    columns: Iterable[tuple[str, ColumnSurvey]],
    separator: str,
    given: str | None,
    ask: Ask,
) -> Decimal:
    """Return the one mark before decimals of all columns of numbers; ask where it is open."""
    if given is not None:
        return Decimal(given, "--decimal")
    numeric = [(name, survey) for name, survey in columns if survey.is_mostly_numbers]
    point = _example(numeric, _SHOW_POINT)
    comma = _example(numeric, _SHOW_COMMA)
    if point and comma:
        ask(
            f"decimals stand behind a point ({point}) and behind a comma ({comma})",
            "give --decimal . or --decimal ,",
        )
        return Decimal(".", "open")
    if point:
        return Decimal(".", point)
    if comma:
        return Decimal(",", comma)
    return _without_evidence(numeric, separator, ask)


def _without_evidence(
    numeric: Sequence[tuple[str, ColumnSurvey]], separator: str, ask: Ask
) -> Decimal:
    point = _example(numeric, (Sort.POINT_OR_THOUSANDS,))
    comma = _example(numeric, (Sort.COMMA_OR_THOUSANDS,))
    if comma or (point and separator != ","):
        ask(f"thousands or decimals: {comma or point}", "give --decimal . or --decimal ,")
        return Decimal(".", "open")
    return Decimal(".", f"where commas separate cells: {point}" if point else "no decimals")


def _example(columns: Sequence[tuple[str, ColumnSurvey]], sorts: Sequence[Sort]) -> str | None:
    for name, survey in columns:
        for sort in sorts:
            if sort in survey.examples:
                return f"{survey.examples[sort]}, column {name}"
    return None

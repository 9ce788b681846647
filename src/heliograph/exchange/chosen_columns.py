"""CSV of chosen columns: times, what sensors are called, and attributes, for whoever reads them.

It leaves out what tells a row from a repeat, and so needs a fraction of the time of the other
tables: packed history is read column by column, and only those that are asked for.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from heliograph.exchange.formats import (
    FORMULA,
    QUOTE,
    Names,
    cells_of,
    moment_texts,
)
from heliograph.exchange.wide import Wide, csv_cells
from heliograph.model.canonical import canonical
from heliograph.nearest import hint
from heliograph.store.columns import MeasuredColumns

TIMESTAMP: Final = "timestamp"
FRAME: Final = ("sensor_identifier", "device_id", TIMESTAMP)
# What stands for no value.
_NULL: Final = "null"
_END: Final = "\r\n"


class UnknownColumnError(ValueError):
    """A column that there is not; the message says which."""


class ChosenColumns(NamedTuple):
    """Columns of a table, in their order, by their headings; and which of them are attributes."""

    headings: tuple[str, ...]
    attributes: dict[str, str]
    spreadsheet: bool

    @property
    def names(self) -> list[str]:
        """The attributes' names."""
        return [*self.attributes.values()]

    def heading(self) -> bytes:
        """Return what stands before the first row."""
        return (",".join(cells_of(self.headings)) + _END).encode()

    def lines(self, names: Names, found: MeasuredColumns) -> bytes:
        """Return rows of a sensor."""
        frame = dict(zip(FRAME, (names.identifier, names.device_id or ""), strict=False))
        values = dict(zip(self.attributes, found.values, strict=True))
        cells: list[Sequence[str]] = []
        for heading in self.headings:
            if heading == TIMESTAMP:
                cells.append(moment_texts(found.times))
            elif heading in frame:
                cells.append([*cells_of(self._quoted([frame[heading]]))] * len(found.times))
            else:
                cells.append(self._cells(values[heading]))
        return (_END.join(map(",".join, zip(*cells, strict=True))) + _END).encode()

    def _cells(self, values: list[Any]) -> Sequence[str]:
        kinds = set(map(type, values))
        if kinds <= {int, float, type(None)}:
            # All at once takes a third of the time, and a number's text has no comma.
            found = canonical(values).decode()[1:-1].split(",")
            return found if type(None) not in kinds else [_number(each) for each in found]
        texts, _ = csv_cells(values, "text")
        return cells_of(self._quoted(texts))

    def _quoted(self, texts: Sequence[str]) -> Sequence[str]:
        if not self.spreadsheet:
            return texts
        return [f"{QUOTE}{text}" if FORMULA.match(text) else text for text in texts]


def _number(text: str) -> str:
    return "" if text == _NULL else text


def choose(wide: Wide, headings: Sequence[str], *, spreadsheet: bool = False) -> ChosenColumns:
    """Return the columns with these headings, of a wide table and of what sensors are called.

    Raises:
        UnknownColumnError: there is no such column, or it is named twice.
    """
    known = {column.heading: column.attribute for column in wide.columns}
    for place, heading in enumerate(headings):
        if heading not in FRAME and heading not in known:
            near = hint(heading, (*FRAME, *known))
            raise UnknownColumnError(f"there is no column `{heading}`{near}")
        if heading in headings[:place]:
            raise UnknownColumnError(f"the column `{heading}` is named twice")
    attributes = {heading: known[heading] for heading in headings if heading not in FRAME}
    return ChosenColumns(tuple(headings), attributes, spreadsheet)

"""Wide tables: a column an attribute, for whoever reads them by columns.

A cell has what people and programs look for there, and can't always tell what was sent: a text
`21` from a number, null from nothing. Where the cells of a row would be read back as another
value than the row's, its column `json` has the value too, which goes before them.
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from heliograph.exchange.elements import BOOLEANS, BadLineError, json_text
from heliograph.model.attributes import WHOLE, escape, keys_of

JSON: Final = "json"
# Of a network's sensors together; values with further attributes are in `json`.
MOST_COLUMNS: Final = 1_000
# The largest whole number up to which a float has every one.
_EXACT: Final = 1 << 53

# What Parquet has in a column; CSV has texts.
ColumnType: TypeAlias = Literal["number", "boolean", "text"]
_TYPES: Final[dict[type, ColumnType]] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "text",
}

# Returns what a column has of an attribute's values, and the places of those that it doesn't tell.
Cells: TypeAlias = Callable[[list[Any], ColumnType], tuple[list[Any], Collection[int]]]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# As spreadsheets save a number where people write it so.
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_decode = msgspec.json.decode
_text = msgspec.json.Encoder(order="sorted").encode


class Column(NamedTuple):
    """An attribute as a column."""

    heading: str
    attribute: str
    type: ColumnType


class Wide:
    """The attributes that are columns of a table."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.headings = tuple(column.heading for column in columns)
        self._places = {column.attribute: place for place, column in enumerate(columns)}
        self._types = [column.type for column in columns]

    def cells(
        self, texts: Sequence[str], cells: Cells, empty: Any
    ) -> tuple[list[list[Any]], list[str | None]]:
        """Return each column's cells of values, and the JSON text of each that they don't tell.

        Values with the same members are taken together, member by member: most rows of a sensor
        have the same, and a call for each cell takes five times as long.
        """
        values = _decode(f"[{','.join(texts)}]")
        alike: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
        untold: set[int] = set()
        for row, text in enumerate(texts):
            # Only an object without objects has its first brace from the right at its beginning.
            if is_flat := not text.rfind("{"):
                value = values[row]
            else:
                # An object with `value` alone is read back as that.
                if _is_wrapped(values[row]):
                    untold.add(row)
                value = values[row] = dict(_attributes(values[row]))
            alike.setdefault((is_flat, tuple(value)), []).append(row)
        columns = [[empty] * len(texts) for _ in self.columns]
        for (is_flat, keys), rows in alike.items():
            if is_flat and keys in ((), WHOLE):
                untold.update(rows)
            for key in keys:
                place = self._places.get(escape(key) if is_flat else key)
                if place is None:
                    untold.update(rows)
                    continue
                members = [values[row][key] for row in rows]
                found, others = cells(members, self._types[place])
                untold.update(rows[each] for each in others)
                if len(rows) == len(texts):
                    columns[place] = found
                else:
                    column = columns[place]
                    for row, cell in zip(rows, found, strict=True):
                        column[row] = cell
        return columns, [text if row in untold else None for row, text in enumerate(texts)]


def chosen(
    types: Mapping[str, ColumnType], taken: Iterable[str], must_be_escaped: Callable[[str], bool]
) -> Wide:
    r"""Return the columns for attributes, in the order of their names.

    What is called like another column (`taken`), or must be escaped for another reason, has a
    backslash before it, which changes nothing for whoever takes the name of an attribute.
    """
    others = frozenset(taken)
    columns = [
        Column(f"\\{name}" if name in others or must_be_escaped(name) else name, name, types[name])
        for name in sorted(types)
        if name
    ]
    return Wide(columns)


def type_of(value: Any) -> ColumnType | None:
    """Return the type of column that a value is for; None: it says nothing of that."""
    return _TYPES.get(type(value))


def csv_cells(values: list[Any], _: ColumnType) -> tuple[list[str], Collection[int]]:
    """Return cells of CSV."""
    kinds = {*map(type, values)}
    if kinds == {int}:
        return [*map(repr, values)], ()
    if kinds == {float}:
        return [*map(repr, values)], _whole_ones(values)
    return _one_by_one(_csv_cell, values)


def _csv_cell(value: Any) -> tuple[str, bool]:
    kind = type(value)
    if kind is int:
        return repr(value), True
    if kind is float:
        return repr(value), not _is_whole(value)
    if kind is str:
        return value, not _is_doubtful(value)
    if kind is bool:
        return "true" if value else "false", True
    return _other_text(value) or "", False


def _is_doubtful(text: str) -> bool:
    """Return whether a text is not read back as one."""
    return (
        text == ""
        or text in BOOLEANS
        or _NUMBER.fullmatch(text) is not None
        or _COMMA.fullmatch(text) is not None
    )


def read_csv_cell(cell: str) -> msgspec.Raw:
    """Return what a cell of CSV says that is not empty.

    Raises:
        BadLineError: it may have been a number, with a decimal comma.
    """
    if _COMMA.fullmatch(cell):
        raise BadLineError(
            f"{cell[:40]} has a decimal comma, with which no export writes a number: was the file"
            " saved by a spreadsheet?"
        )
    if match := _NUMBER.fullmatch(cell):
        has_decimals = match[2] is not None or match[3] is not None
        if has_decimals and _is_whole(number := float(cell)):
            return json_text(int(number))
        return msgspec.Raw(cell.encode())
    return BOOLEANS.get(cell) or json_text(cell)


def typed_cells(values: list[Any], column: ColumnType) -> tuple[list[Any], Collection[int]]:
    """Return cells of a column with a type."""
    if column == "number" and {*map(type, values)} == {float}:
        return values, _whole_ones(values)
    return _one_by_one(functools.partial(_typed_cell, column), values)


def _typed_cell(column: ColumnType, value: Any) -> tuple[Any, bool]:
    kind = type(value)
    if column == "number":
        if kind is int:
            return float(value), -_EXACT < value < _EXACT
        if kind is float:
            return value, not _is_whole(value)
        return None, False
    if column == "boolean":
        return (value, True) if kind is bool else (None, False)
    return (value, True) if kind is str else (_other_text(value), False)


def _one_by_one(
    cell: Callable[[Any], tuple[Any, bool]], values: list[Any]
) -> tuple[list[Any], Collection[int]]:
    cells, told = zip(*map(cell, values), strict=True)
    return [*cells], [place for place, each in enumerate(told) if not each]


def _whole_ones(numbers: Sequence[float]) -> Collection[int]:
    """Return the places of those that would be read back as integers."""
    if True not in map(float.is_integer, numbers):
        return ()
    return [place for place, each in enumerate(numbers) if _is_whole(each)]


def read_number(number: float) -> float | int:
    """Return what a number among floats says: a whole one is an integer.

    Every program that reads a table makes floats of all numbers of a column.
    """
    return int(number) if _is_whole(number) else number


def put_together(found: Sequence[tuple[str, msgspec.Raw]]) -> msgspec.Raw:
    """Return the value of which these are the attributes, by their columns' headings.

    Raises:
        BadLineError: there are none, or one is a part of another.
    """
    if not found:
        raise BadLineError("there is no value")
    members = [(keys_of(heading), value) for heading, value in found]
    if len(members) == 1 and members[0][0] == WHOLE:
        return members[0][1]
    whole: dict[str, Any] = {}
    for keys, value in members:
        if not insert(whole, keys, value):
            raise BadLineError(f"{'.'.join(keys)} is there twice, or is a part of another column")
    return json_text(whole)


def insert(whole: dict[str, Any], keys: Sequence[str], value: Any) -> bool:
    """Put a value into objects within objects; return whether its place was free."""
    node: Any = whole
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if type(node) is not dict:
            return False
    if not keys or keys[-1] in node:
        return False
    node[keys[-1]] = value
    return True


def _is_wrapped(value: Any) -> bool:
    return (
        type(value) is dict
        and len(value) == 1
        and WHOLE[0] in value
        and type(value[WHOLE[0]]) is not dict
    )


def _attributes(value: Any) -> Iterable[tuple[str, Any]]:
    """Return each attribute's name and value; that of an object without members is the object."""
    if type(value) is not dict:
        return ((WHOLE[0], value),)
    joined = "".join(value)
    if "." in joined or "\\" in joined or dict in map(type, value.values()):
        return _nested(value, "")
    return value.items()


def _nested(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, member in value.items():
        name = prefix + escape(key)
        if type(member) is dict and member:
            yield from _nested(member, name + ".")
        else:
            yield name, member


def _other_text(value: Any) -> str | None:
    """Return what a column of texts has of what is none: nothing of null."""
    return None if value is None else _text(value).decode()


def _is_whole(number: float) -> bool:
    return number.is_integer() and -_EXACT < number < _EXACT

"""Reading a JSON object member by member, with errors that name the member."""

import json
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

from heliograph.model.time import SECOND
from heliograph.nearest import hint

# Of a duration in a rule, in seconds.
LONGEST_DURATION = 366 * 86_400
# Of what a person writes into a rule, in bytes: names are shorter.
LONGEST_WRITTEN_TEXT = 4_096
_SHOWN = 40
_UNSET: Final[Any] = object()
_T = TypeVar("_T")
_D = TypeVar("_D")


class InvalidMemberError(ValueError):
    """A member is missing, unknown or not what it has to be.

    `place` is its dotted path ("condition.all[1].above"; empty: the whole document), `problem`
    says what is wrong.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place
        self.problem = problem


class Members:
    """The members of an object that are still to be read; `end` refuses what nobody asked for."""

    def __init__(self, document: Any, place: str = "") -> None:
        """Read a decoded JSON value.

        Raises:
            InvalidMemberError: it is no object.
        """
        if not isinstance(document, dict):
            raise InvalidMemberError(place, f"{shown(document)} is not an object")
        self._document: dict[str, Any] = document
        self._place = place
        self._asked: set[str] = set()

    def place(self, name: str) -> str:
        """Return the path to a member."""
        return f"{self._place}.{name}" if self._place else name

    def error(self, name: str, problem: str) -> InvalidMemberError:
        """Return an error about a member; about the object itself, if the name is empty."""
        return InvalidMemberError(self.place(name) if name else self._place, problem)

    def has(self, name: str) -> bool:
        """Return whether the member is there and not null."""
        self._asked.add(name)
        return self._document.get(name) is not None

    def take(self, name: str, read: Callable[[Any, str], _T], default: _D = _UNSET) -> _T | _D:
        """Return the member as `read(value, place)` gives it; null counts as absent.

        Raises:
            InvalidMemberError: it is absent and has no default, or `read` refuses it.
        """
        if self.has(name):
            return read(self._document[name], self.place(name))
        if default is _UNSET:
            raise self.error(name, "is missing")
        return default

    def raw(self, name: str) -> Any:
        """Return the member as it is, even null.

        Raises:
            InvalidMemberError: it is absent.
        """
        self._asked.add(name)
        if name not in self._document:
            raise self.error(name, "is missing")
        return self._document[name]

    def end(self, known: Collection[str] = ()) -> None:
        """Refuse the members that nobody asked for.

        `known` are names that may be meant besides those that were asked for.

        Raises:
            InvalidMemberError: there is one.
        """
        for name in self._document:
            if name not in self._asked:
                likely = hint(str(name), self._asked | set(known))
                raise self.error(str(name)[:_SHOWN], f"is not known{likely}")


def shown(value: Any) -> str:
    """Return the beginning of a value as an error message quotes it."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def boolean(value: Any, place: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise InvalidMemberError(place, f"{shown(value)} is neither true nor false")
    return value


def number(value: Any, place: str) -> float:
    """Return a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMemberError(place, f"{shown(value)} is not a number")
    if not -(1 << 63) <= value < 1 << 64 and isinstance(value, int):
        raise InvalidMemberError(place, f"{shown(value)} is beyond 64 bits")
    if not math.isfinite(value):
        raise InvalidMemberError(place, f"{value} is not finite")
    return value


def positive_number(value: Any, place: str) -> float:
    """Return a number above 0."""
    if number(value, place) <= 0:
        raise InvalidMemberError(place, f"{shown(value)} is not above 0")
    return float(value) if isinstance(value, float) else int(value)


def seconds(value: Any, place: str) -> float:
    """Return a duration in seconds."""
    if not 0 <= number(value, place) <= LONGEST_DURATION:
        raise InvalidMemberError(
            place, f"{shown(value)} is not a duration of 0 to {LONGEST_DURATION} seconds"
        )
    return float(value) if isinstance(value, float) else int(value)


def positive_seconds(value: Any, place: str) -> float:
    """Return a duration above 0, in seconds."""
    positive_number(value, place)
    return seconds(value, place)


def microseconds(duration: float) -> int:
    """Return the microseconds of a duration in seconds."""
    return round(duration * SECOND)


def text(value: Any, place: str) -> str:
    """Return a text of 1 to 4,096 bytes that both databases store."""
    if not isinstance(value, str):
        raise InvalidMemberError(place, f"{shown(value)} is not a text")
    if not value:
        raise InvalidMemberError(place, "is empty")
    if "\0" in value:
        raise InvalidMemberError(place, "has a NUL character")
    try:
        length = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidMemberError(place, "has half of a surrogate pair") from error
    if length > LONGEST_WRITTEN_TEXT:
        raise InvalidMemberError(place, f"is longer than {LONGEST_WRITTEN_TEXT} bytes")
    return value


def one_of(names: Collection[str]) -> Callable[[Any, str], str]:
    """Return what reads one of the names."""

    def read(value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in names:
            likely = hint(str(value), names)
            raise InvalidMemberError(place, f"{shown(value)} is not known{likely}")
        return value

    return read


def each(
    read: Callable[[Any, str], _T], *, least: int = 0, most: int
) -> Callable[[Any, str], tuple[_T, ...]]:
    """Return what reads an array of so many items."""

    def read_all(value: Any, place: str) -> tuple[_T, ...]:
        return tuple(read(item, at) for item, at in _items(value, place, least, most))

    return read_all


def _items(value: Any, place: str, least: int, most: int) -> Iterator[tuple[Any, str]]:
    if not isinstance(value, list | tuple):
        raise InvalidMemberError(place, f"{shown(value)} is not an array")
    if not least <= len(value) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InvalidMemberError(place, f"has {len(value)} items, not {wanted}")
    for index, item in enumerate(value):
        yield item, f"{place}[{index}]"

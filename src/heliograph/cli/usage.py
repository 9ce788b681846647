"""What is wrong with a command line, in our words: those of the libraries are for programmers."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from heliograph.nearest import did_you_mean

# typer does not export it, and has moved it.
UsageError: Any = typer.BadParameter.__base__

_CHOICE = re.compile(r"'(?P<given>.*)' is not one of (?P<choices>'.*')\.?", re.DOTALL)
_QUOTED = re.compile(r"'([^']*)'")

_WHOLE = "{given!r} is not a whole number"
_WORDS = {
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": "{given!r} is not a number",
    "uuid_parsing": "{given!r} is not a UUID",
    "greater_than_equal": "{given} is less than {ge}",
    "less_than_equal": "{given} is more than {le}",
}


@contextlib.contextmanager
def reworded() -> Iterator[None]:
    """Have a usage error that comes from within say what is wrong, and what may be meant."""
    try:
        yield
    except UsageError as error:
        _reword(error)
        raise


def _reword(error: Any) -> None:
    """Change the error's message; one that was changed stays as it is."""
    if options := getattr(error, "possibilities", None):
        error.message = f"{error.message}: did you mean {' or '.join(sorted(options))}?"
        error.possibilities = None
    problems = getattr(error.__cause__, "errors", None)
    if problems is not None:
        error.message = "; ".join(map(_words, problems()))
        error.__cause__ = None
    if choice := _CHOICE.fullmatch(error.message):
        choices = _QUOTED.findall(choice["choices"])
        meant = did_you_mean(choice["given"], choices)
        error.message = f"{choice['given']!r} is not one of {', '.join(choices)}{meant}"


def _words(problem: Mapping[str, Any]) -> str:
    """Return one of pydantic's problems with a value."""
    limits = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(limits["error"])
    words = _WORDS.get(problem["type"])
    if words is None:
        return str(problem["msg"]).removeprefix("Input ")
    return words.format(given=problem["input"], **limits)

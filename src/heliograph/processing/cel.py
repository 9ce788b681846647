"""Conditions in the Common Expression Language, the advanced form: `value.t > 30 && value.n != 3`.

An expression sees `value`, what the message measured, and `time`, when. It is true or false by
CEL's own type alone: its evaluation returns errors, whose texts Python would take for true. The
package is the extra `cel`, and is imported when the first expression is.

The package bounds nesting (32 levels) and iterations (10,000), but not what one of them costs:
within both bounds an expression took 26 seconds and 3 GiB, in the one thread that serves all. So
values are bounded here, expressions that iterate or match patterns have narrower bounds, and one
that was slow once is not evaluated again (docs/decisions/0038).
"""

import functools
import re
import time
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, Final

from heliograph.model.canonical import canonical

# Of an expression's text and of a value's JSON text, in bytes …
LONGEST_TEXT = 4_096
LONGEST_VALUE = 4_096
# … and of both where it iterates or matches patterns.
LONGEST_COSTLY_TEXT = 512
LONGEST_COSTLY_VALUE = 1_024
# Additions may be of lists, each as long as all before it.
MOST_ADDITIONS = 32
# CPU seconds after which an expression is not evaluated again; it takes microseconds.
SLOWEST = 0.05

_ITERATES: Final = re.compile(r"\b(?:all|exists|exists_one|existsOne|map|filter)\b", re.ASCII)
_MATCHES: Final = re.compile(r"\bmatches\b", re.ASCII)
# What an iteration may not do each time: list after list, and pattern after pattern.
_ITERATED: Final = re.compile(r"\+|\bmatches\b", re.ASCII)
_TIMES: Final = re.compile(r"\btime\b", re.ASCII)
_PLACE: Final = re.compile(r"^[A-Z_]+: |ERROR: <input>:-?\d+:(-?\d+): | \[[A-Z_]+\]$")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_PROBLEM = 200


class CelError(ValueError):
    """An expression is refused, or can't be evaluated on a value."""


class CelExpression:
    """An expression that gives true or false."""

    __slots__ = ("_evaluate", "_longest", "_of_time", "_took")

    def __init__(self, text: str) -> None:
        """Compile an expression.

        Raises:
            CelError: it is too long, wrong, or not of type BOOL; or the extra is not installed.
        """
        iterations = len(_ITERATES.findall(text))
        is_costly = iterations > 0 or _MATCHES.search(text) is not None
        longest = LONGEST_COSTLY_TEXT if is_costly else LONGEST_TEXT
        if len(text.encode()) > longest:
            raise CelError(f"is longer than {longest} bytes")
        if text.count("+") > MOST_ADDITIONS:
            raise CelError(f"adds more than {MOST_ADDITIONS} times")
        if iterations > 1:
            raise CelError("iterates more than once: join two expressions by `all` or `any`")
        if iterations and (found := _ITERATED.search(text)):
            raise CelError(f"iterates, and so may not use `{found[0]}`")
        cel, environment = _environment()
        try:
            compiled = environment.compile(text)
        except RuntimeError as error:
            raise CelError(_problem(str(error))) from error
        if (given := compiled.return_type()) != cel.Type.BOOL:
            is_open = given == cel.Type.DYN
            more = ": compare it, as in `value.open == true`" if is_open else ""
            raise CelError(f"is of type {given.name()}, not BOOL{more}")
        self._evaluate = compiled.eval
        self._of_time = _TIMES.search(text) is not None
        self._longest = LONGEST_COSTLY_VALUE if is_costly else LONGEST_VALUE
        self._took = 0.0

    def evaluate(self, value: Any, at: int) -> bool | None:
        """Return what the expression says of a decoded value, measured at `at` (microseconds).

        None: the value has no such member.

        Raises:
            CelError: it could not be evaluated, or the value is too long.
        """
        if len(canonical(value)) > self._longest:
            raise CelError(f"the value is longer than {self._longest} bytes")
        if self._took > SLOWEST:
            raise CelError(f"took {self._took:.2f} seconds once, and is not evaluated any more")
        variables = {"value": value}
        if self._of_time:
            variables["time"] = _EPOCH + timedelta(microseconds=at)
        before = time.thread_time()
        try:
            result = self._evaluate(data=variables)
        except (RuntimeError, MemoryError, TypeError, ValueError) as error:
            raise CelError(_problem(str(error))) from error
        finally:
            self._took = time.thread_time() - before
        said = result.value()
        if said is True or said is False:
            return bool(said)
        problem = repr(result)
        if problem.startswith("NOT_FOUND: "):
            return None
        raise CelError(_problem(problem))


@functools.cache
def _environment() -> tuple[ModuleType, Any]:
    """Return the package's module, and what expressions are compiled in."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - 16 MB that most servers do not need
    except ImportError as error:
        raise CelError("expressions need the extra `cel`: pip install 'heliograph[cel]'") from error
    return cel, cel.NewEnv(variables={"value": cel.Type.DYN, "time": cel.Type.TIMESTAMP})


def _problem(text: str) -> str:
    """Return the first line of what the package says, without the names of its codes."""
    line = _PLACE.sub("", _PLACE.sub("", text.partition("\n")[0]).partition(" (in container")[0])
    return line[:_LONGEST_PROBLEM] or "cannot be evaluated"

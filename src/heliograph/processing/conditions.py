"""Conditions: what a rule asks of one message, as plain data that is evaluated natively.

A condition is an object with one operator, most of them about an attribute:

    {"attribute": "air.temperature", "above": 30, "clear_below": 28}

`above`, `below`, `outside` and `inside` compare a number. Between the bound and the one that clears
(`clear_below`, `clear_above`, `clear_inside`, `clear_outside`) what was decided before stays.
`equals`, `not_equals` and `one_of` compare a text, a number, true, false or null with its type.
`change` is how far a number is at least from the previous one, `rate` the same per second.
`severity_at_least` and `subject` ask a log message. `all` and `any` join conditions on one message;
in `any`, what a message lacks says nothing. `cel` is the advanced form, see `cel.py`. `no_data` and
`offline` are driven by the clock, and stand alone; what `offline` is asked about is whether the
sensor is connected.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from heliograph.model.attributes import MISSING, keys_of, value_at
from heliograph.model.records import Kind, Severity
from heliograph.model.time import SECOND
from heliograph.processing import cel
from heliograph.processing.members import (
    InvalidMemberError,
    Members,
    each,
    number,
    one_of,
    positive_number,
    positive_seconds,
    shown,
    text,
)

MAXIMUM_CONDITIONS = 32
MAXIMUM_DEPTH = 8
MAXIMUM_CHOICES = 64


class Verdict(enum.StrEnum):
    """What a message says about a condition.

    BETWEEN: the value is in the band of the hysteresis, where what was decided before stays.
    ABSENT: the message has no such value. FAILED: an expression could not be evaluated.
    """

    HOLDS = "holds"
    CLEARS = "clears"
    BETWEEN = "between"
    ABSENT = "absent"
    FAILED = "failed"


class Condition(msgspec.Struct, frozen=True):
    """One operator with its operand; of `all` and `any` that is a tuple of conditions."""

    operator: str
    operand: Any
    attribute: str | None = None
    clear: Any = None


# The newest number of an attribute before the message, and the message's time then.
Previous: TypeAlias = Mapping[str, tuple[int, float]]
# From a decoded value, its timestamp and the previous numbers to the verdict.
Evaluate: TypeAlias = Callable[[Any, int, Previous], Verdict]

# Their verdict needs the previous number of their attribute.
OF_CHANGES: Final = frozenset({"change", "rate"})
# They are not about what a message says, but about whether one comes.
OF_THE_CLOCK: Final = frozenset({"no_data", "offline"})
OF_LOGS: Final = frozenset({"severity_at_least", "subject"})

_JOINING: Final = frozenset({"all", "any"})
_SEVERITIES: Final = tuple(Severity)


def value_of(kind: Kind, row: Sequence[Any]) -> Any:
    """Return what conditions and templates see of a stored row: JSON, decoded.

    Of a log message that is an object of severity, subject and details, of a heartbeat what it
    carried besides its time and revision, of a packet all of it, of presence whether the sensor is
    connected.
    """
    if kind is Kind.MEASUREMENT:
        return msgspec.json.decode(row[7])
    if kind is Kind.LOG:
        return {"severity": row[7], "subject": row[8], "details": row[9]}
    if kind is Kind.HEARTBEAT:
        details = msgspec.json.decode(row[8]) if row[8] else {}
        return {**details, "success": row[7]}
    if kind is Kind.PACKET:
        return msgspec.json.decode(row[9])
    return row[1]


def parse(document: Any, place: str = "condition") -> Condition:
    """Return the condition that a decoded JSON object describes.

    Raises:
        InvalidMemberError: it describes none, or too many are joined.
    """
    condition = _parse(document, place, MAXIMUM_DEPTH)
    if (count := len(leaves(condition))) > MAXIMUM_CONDITIONS:
        raise InvalidMemberError(place, f"joins {count} conditions, more than {MAXIMUM_CONDITIONS}")
    return condition


def document_of(condition: Condition) -> dict[str, Any]:
    """Return what `parse` makes the same condition of."""
    operand = condition.operand
    if condition.operator in _JOINING:
        operand = [document_of(part) for part in operand]
    elif isinstance(operand, tuple):
        operand = list(operand)
    document = {condition.operator: operand}
    if condition.attribute is not None:
        document["attribute"] = condition.attribute
    if condition.clear is not None:
        clear = condition.clear
        clear_name = _OPERATORS[condition.operator].clear
        document[clear_name] = list(clear) if isinstance(clear, tuple) else clear
    return document


def leaves(condition: Condition) -> list[Condition]:
    """Return the conditions that it joins, or itself."""
    if condition.operator in _JOINING:
        return [leaf for part in condition.operand for leaf in leaves(part)]
    return [condition]


def compile_condition(condition: Condition) -> Evaluate:
    """Return the function that evaluates the condition on a message.

    Raises:
        CelError: its expression is refused.
    """
    return _OPERATORS[condition.operator].compile(condition)


def finite_number(value: Any) -> bool:
    """Return whether the value compares as a number: true, false and texts do not."""
    kind = type(value)
    return kind is int or (kind is float and value - value == 0.0)


def _parse(document: Any, place: str, depth: int) -> Condition:
    members = Members(document, place)
    if depth == 0:
        raise InvalidMemberError(place, f"is nested more than {MAXIMUM_DEPTH} levels deep")
    found = [name for name in _OPERATORS if name in document]
    if len(found) > 1:
        raise InvalidMemberError(
            place, f"has both `{found[0]}` and `{found[1]}`: join two conditions by `all` or `any`"
        )
    if not found:
        members.has("attribute")
        members.end(_OPERATORS)
        raise InvalidMemberError(place, f"has no operator; there are {', '.join(_OPERATORS)}")
    name = found[0]
    operator = _OPERATORS[name]
    # A mistyped member is told of before the one that is missing by that.
    members.raw(name)
    if operator.attribute is not None:
        members.has("attribute")
    if operator.clear:
        members.has(operator.clear)
    members.end(known=_OPERATORS)
    attribute = None
    if operator.attribute or (operator.attribute is False and members.has("attribute")):
        attribute = members.take("attribute", text)
    read = _parts(depth) if name in _JOINING else operator.read
    operand = read(members.raw(name), members.place(name))
    clear = None
    if operator.clear and members.has(operator.clear):
        clear = members.take(operator.clear, operator.read)
        _check_clear(name, operand, clear, members.place(operator.clear))
    return Condition(name, operand, attribute, clear)


def _parts(depth: int) -> Callable[[Any, str], tuple[Condition, ...]]:
    def read(value: Any, place: str) -> Condition:
        part = _parse(value, place, depth - 1)
        if part.operator in OF_THE_CLOCK:
            raise InvalidMemberError(
                place, f"`{part.operator}` cannot be joined: give it a rule of its own"
            )
        return part

    return each(read, least=1, most=MAXIMUM_CONDITIONS)


def _check_clear(operator: str, bound: Any, clear: Any, place: str) -> None:
    """Refuse a bound that clears where the condition holds."""
    fits = {
        "above": lambda: clear <= bound,
        "below": lambda: clear >= bound,
        "outside": lambda: bound[0] <= clear[0] and clear[1] <= bound[1],
        "inside": lambda: clear[0] <= bound[0] and bound[1] <= clear[1],
    }
    if not fits[operator]():
        raise InvalidMemberError(place, f"{shown(clear)} lies where `{operator}` holds")


def _range(value: Any, place: str) -> tuple[float, float]:
    low, high = each(number, least=2, most=2)(value, place)
    if low > high:
        raise InvalidMemberError(place, f"begins with the larger number: [{low}, {high}]")
    return low, high


def _scalar(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, place) if value else value
    if isinstance(value, int | float):
        return number(value, place)
    raise InvalidMemberError(place, f"{shown(value)} is not a text, a number, true, false or null")


def _expression(value: Any, place: str) -> str:
    expression = text(value, place)
    try:
        cel.CelExpression(expression)
    except cel.CelError as error:
        raise InvalidMemberError(place, str(error)) from error
    return expression


# How each operator is evaluated: as closures, since they run for every message with a rule.


_TESTS: Final[dict[str, Callable[[Any], Callable[[float], bool]]]] = {
    "above": lambda bound: lambda found: found > bound,
    "below": lambda bound: lambda found: found < bound,
    "outside": lambda bounds: lambda found: not bounds[0] <= found <= bounds[1],
    "inside": lambda bounds: lambda found: bounds[0] <= found <= bounds[1],
}


def _bounded(condition: Condition) -> Evaluate:
    keys = keys_of(condition.attribute or "")
    holds = _TESTS[condition.operator](condition.operand)
    # `clear_below` is tested as `below`.
    opposite = _OPERATORS[condition.operator].clear.removeprefix("clear_")
    clears = None if condition.clear is None else _TESTS[opposite](condition.clear)

    def evaluate(value: Any, _at: int, _previous: Previous) -> Verdict:
        found = value_at(value, keys)
        if not finite_number(found):
            return Verdict.ABSENT
        if holds(found):
            return Verdict.HOLDS
        return Verdict.CLEARS if clears is None or clears(found) else Verdict.BETWEEN

    return evaluate


def _typed(value: Any) -> Any:
    """Return what equals that of another value only if that is of the same type in JSON."""
    return (value,) if isinstance(value, bool) else value


def _among(condition: Condition) -> Evaluate:
    keys = keys_of(condition.attribute or "")
    choices = condition.operand if condition.operator == "one_of" else (condition.operand,)
    wanted = frozenset(map(_typed, choices))
    found_says, other_says = Verdict.HOLDS, Verdict.CLEARS
    if condition.operator == "not_equals":
        found_says, other_says = other_says, found_says

    def evaluate(value: Any, _at: int, _previous: Previous) -> Verdict:
        found = value_at(value, keys)
        if found is MISSING:
            return Verdict.ABSENT
        if isinstance(found, list):
            return other_says
        return found_says if _typed(found) in wanted else other_says

    return evaluate


def _change(condition: Condition) -> Evaluate:
    attribute, least = condition.attribute or "", condition.operand
    keys, by_time = keys_of(attribute), condition.operator == "rate"

    def evaluate(value: Any, at: int, previous: Previous) -> Verdict:
        found = value_at(value, keys)
        before = previous.get(attribute)
        if before is None or not finite_number(found):
            return Verdict.ABSENT
        change = abs(found - before[1])
        if not by_time:
            return Verdict.HOLDS if change >= least else Verdict.CLEARS
        passed = (at - before[0]) / SECOND
        if passed <= 0:
            return Verdict.ABSENT
        return Verdict.HOLDS if change >= least * passed else Verdict.CLEARS

    return evaluate


def _severity_at_least(condition: Condition) -> Evaluate:
    severe = frozenset(_SEVERITIES[_SEVERITIES.index(Severity(condition.operand)) :])
    known = frozenset(_SEVERITIES)

    def evaluate(value: Any, _at: int, _previous: Previous) -> Verdict:
        severity = value_at(value, ("severity",))
        if not isinstance(severity, str) or severity not in known:
            return Verdict.ABSENT
        return Verdict.HOLDS if severity in severe else Verdict.CLEARS

    return evaluate


def _subject(condition: Condition) -> Evaluate:
    return _among(Condition("equals", condition.operand, "subject"))


def _all(condition: Condition) -> Evaluate:
    return _joined(condition, (Verdict.CLEARS, Verdict.FAILED, Verdict.ABSENT, Verdict.BETWEEN))


def _any(condition: Condition) -> Evaluate:
    return _joined(condition, (Verdict.HOLDS, Verdict.FAILED, Verdict.BETWEEN, Verdict.CLEARS))


def _joined(condition: Condition, decisive: tuple[Verdict, ...]) -> Evaluate:
    """Return the first of the decisive verdicts that a part gives, else what is left to give."""
    parts = [compile_condition(part) for part in condition.operand]
    first = decisive[0]
    otherwise = Verdict.HOLDS if first is Verdict.CLEARS else Verdict.ABSENT

    def evaluate(value: Any, at: int, previous: Previous) -> Verdict:
        given = set()
        for part in parts:
            verdict = part(value, at, previous)
            if verdict is first:
                return first
            given.add(verdict)
        return next((verdict for verdict in decisive if verdict in given), otherwise)

    return evaluate


def _cel(condition: Condition) -> Evaluate:
    expression = cel.CelExpression(condition.operand)
    said = {True: Verdict.HOLDS, False: Verdict.CLEARS, None: Verdict.ABSENT}

    def evaluate(value: Any, at: int, _previous: Previous) -> Verdict:
        try:
            return said[expression.evaluate(value, at)]
        except cel.CelError:
            return Verdict.FAILED

    return evaluate


def _arrival(condition: Condition) -> Evaluate:
    keys = keys_of(condition.attribute) if condition.attribute else None

    def evaluate(value: Any, _at: int, _previous: Previous) -> Verdict:
        comes = keys is None or value_at(value, keys) is not MISSING
        return Verdict.CLEARS if comes else Verdict.ABSENT

    return evaluate


def _presence(_condition: Condition) -> Evaluate:
    def evaluate(is_connected: Any, _at: int, _previous: Previous) -> Verdict:
        return Verdict.CLEARS if is_connected else Verdict.HOLDS

    return evaluate


class _Operator(NamedTuple):
    """How an operator is read and evaluated.

    `attribute`: whether it needs one; None: it has none. `clear` names the bound that clears.
    """

    read: Callable[[Any, str], Any]
    compile: Callable[[Condition], Evaluate]
    attribute: bool | None = True
    clear: str = ""


_OPERATORS: Final[dict[str, _Operator]] = {
    "above": _Operator(number, _bounded, clear="clear_below"),
    "below": _Operator(number, _bounded, clear="clear_above"),
    "outside": _Operator(_range, _bounded, clear="clear_inside"),
    "inside": _Operator(_range, _bounded, clear="clear_outside"),
    "equals": _Operator(_scalar, _among),
    "not_equals": _Operator(_scalar, _among),
    "one_of": _Operator(each(_scalar, least=1, most=MAXIMUM_CHOICES), _among),
    "change": _Operator(positive_number, _change),
    "rate": _Operator(positive_number, _change),
    "no_data": _Operator(positive_seconds, _arrival, attribute=False),
    "offline": _Operator(positive_seconds, _presence, attribute=None),
    "all": _Operator(_parts(MAXIMUM_DEPTH), _all, attribute=None),
    "any": _Operator(_parts(MAXIMUM_DEPTH), _any, attribute=None),
    "cel": _Operator(_expression, _cel, attribute=None),
    "severity_at_least": _Operator(one_of(_SEVERITIES), _severity_at_least, attribute=None),
    "subject": _Operator(text, _subject, attribute=None),
}

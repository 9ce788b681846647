"""Expressions: what is refused when a rule is saved, and what counts as true when it runs."""

import sys
from typing import Any

import pytest

from heliograph.model.time import SECOND
from heliograph.processing import cel
from heliograph.processing.cel import CelError, CelExpression
from heliograph.processing.conditions import Verdict, compile_condition, parse
from heliograph.processing.members import InvalidMemberError

EVENING = 1_700_000_000 * SECOND  # 22:13:20 UTC

SAID: list[tuple[str, Any, bool | None]] = [
    ("value.t > 30 && value.n != 3", {"t": 30.5, "n": 4}, True),
    ("value.t > 30", {"t": 30}, False),
    ("value > 3", 5, True),
    ("value['a.b'] > 3", {"a.b": 4}, True),
    ("value.open == true", {"open": True}, True),
    ("value.open == true", {"open": "true"}, False),
    ("value.t > 3", {"u": 5}, None),
    ("has(value.t) && value.t > 3", {"u": 5}, False),
    ("value.all(x, x > 0)", [1, 2, 3], True),
    ("value.s.matches('^a+$')", {"s": "aaa"}, True),
    ("time.getHours() >= 22 && value > 3", 5, True),
    ("time < timestamp('2020-01-01T00:00:00Z')", 5, False),
]

FAILED: list[tuple[str, Any, str]] = [
    ("value.t > 3", {"t": "4"}, "No matching overloads"),
    ("value.t > 3", {"t": None}, "No matching overloads"),
    ("1 / value > 2", 0, "divide by zero"),
    ("bool(value)", "yes", "Type conversion error"),
    ("value > 3", 1 << 70, "out of range"),
    ("value.s == ''", {"s": "x" * cel.LONGEST_VALUE}, "the value is longer than 4096 bytes"),
    ("value.all(x, x > 0)", [1] * 600, "the value is longer than 1024 bytes"),
]

REFUSED: list[tuple[str, str]] = [
    ("value.t >", "Syntax error"),
    ("valu > 3", "undeclared reference to 'valu'"),
    ("value.open", "is of type DYN, not BOOL: compare it, as in `value.open == true`"),
    ("size(value.s)", "is of type INT, not BOOL"),
    ("'true'", "is of type STRING, not BOOL"),
    ("true" + " && true" * 1_000, "is longer than 4096 bytes"),
    ("(" * 200 + "true" + ")" * 200, "recursion limit exceeded"),
    ("value" + ".a" * 200 + " == 1", "recursion depth"),
    ("(value + value).size() > 1 && " * 33 + "true", "adds more than 32 times"),
    ("value.all(x, value.all(y, true))", "iterates more than once"),
    ("value.exists(x, value.exists (y, x == y))", "iterates more than once"),
    ("value.l.map(x, value.l + value.l).size() > 1", "may not use `+`"),
    ("value.l.all(x, !value.s.matches(value.p))", "may not use `matches`"),
    ("[" + "0," * 300 + "0].all(x, x > 0)", "is longer than 512 bytes"),
    ("value.matches('" + "[ab]*a[ab]{200}c|" * 40 + "z')", "is longer than 512 bytes"),
]


def test_only_true_of_the_language_itself_is_true() -> None:
    for text, value, said in SAID:
        assert (text, CelExpression(text).evaluate(value, EVENING)) == (text, said)


def test_an_evaluation_that_fails_is_an_error_and_not_true() -> None:
    for text, value, problem in FAILED:
        with pytest.raises(CelError, match=problem):
            CelExpression(text).evaluate(value, EVENING)
        assert compile_condition(parse({"cel": text}))(value, EVENING, {}) is Verdict.FAILED


def test_expressions_that_are_wrong_or_could_take_long_are_refused() -> None:
    for text, problem in REFUSED:
        with pytest.raises(InvalidMemberError) as refused:
            parse({"cel": text})
        assert (text, refused.value.place) == (text, "condition.cel")
        assert problem in refused.value.problem, (text, refused.value.problem)


def test_an_expression_that_took_long_once_is_not_evaluated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expression = CelExpression("value > 3")
    other = CelExpression("value > 3")
    monkeypatch.setattr(cel, "SLOWEST", 0)
    assert expression.evaluate(5, 0) is True
    with pytest.raises(CelError, match="is not evaluated any more"):
        expression.evaluate(5, 0)
    monkeypatch.undo()
    assert other.evaluate(5, 0) is True


def test_without_the_extra_a_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    cel._environment.cache_clear()
    with pytest.raises(InvalidMemberError, match="pip install 'heliograph\\[cel\\]'"):
        parse({"cel": "value > 3"})
    monkeypatch.undo()
    assert parse({"cel": "value > 3"})

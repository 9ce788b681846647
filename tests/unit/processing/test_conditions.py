"""Conditions: which documents describe one, and what messages say about it."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.records import Kind
from heliograph.model.time import SECOND
from heliograph.processing import conditions
from heliograph.processing.conditions import (
    Verdict,
    compile_condition,
    document_of,
    parse,
    value_of,
)
from heliograph.processing.members import InvalidMemberError

HOLDS, CLEARS, BETWEEN, ABSENT = Verdict.HOLDS, Verdict.CLEARS, Verdict.BETWEEN, Verdict.ABSENT

ABOVE = {"attribute": "t", "above": 30, "clear_below": 28}
BELOW = {"attribute": "t", "below": 5, "clear_above": 6.5}
OUTSIDE = {"attribute": "t", "outside": [0, 10], "clear_inside": [2, 8]}
INSIDE = {"attribute": "t", "inside": [2, 8], "clear_outside": [0, 10]}
IS_OPEN = {"attribute": "open", "equals": True}

VERDICTS: list[tuple[dict[str, Any], Any, Verdict]] = [
    (ABOVE, {"t": 30.5}, HOLDS),
    (ABOVE, {"t": 30}, BETWEEN),
    (ABOVE, {"t": 28}, BETWEEN),
    (ABOVE, {"t": 27.9}, CLEARS),
    (ABOVE, {"t": 1 << 62}, HOLDS),
    (ABOVE, {"u": 31}, ABSENT),
    (ABOVE, {"t": "31"}, ABSENT),
    (ABOVE, {"t": True}, ABSENT),
    (ABOVE, {"t": None}, ABSENT),
    (ABOVE, {"t": [31]}, ABSENT),
    (ABOVE, {"t": {"t": 31}}, ABSENT),
    (ABOVE, {"t": math.nan}, ABSENT),
    (ABOVE, {"t": math.inf}, ABSENT),
    (ABOVE, 31, ABSENT),
    ({"attribute": "t", "above": 30}, {"t": 30}, CLEARS),
    ({"attribute": "value", "above": 30}, 31, HOLDS),
    ({"attribute": "a.b", "above": 30}, {"a": {"b": 31}}, HOLDS),
    ({"attribute": "a\\.b", "above": 30}, {"a.b": 31}, HOLDS),
    (BELOW, {"t": 4.9}, HOLDS),
    (BELOW, {"t": 5}, BETWEEN),
    (BELOW, {"t": 6.5}, BETWEEN),
    (BELOW, {"t": 7}, CLEARS),
    ({"attribute": "t", "below": 5}, {"t": 5}, CLEARS),
    (OUTSIDE, {"t": -1}, HOLDS),
    (OUTSIDE, {"t": 11}, HOLDS),
    (OUTSIDE, {"t": 10}, BETWEEN),
    (OUTSIDE, {"t": 2}, CLEARS),
    ({"attribute": "t", "outside": [0, 10]}, {"t": 10}, CLEARS),
    (INSIDE, {"t": 2}, HOLDS),
    (INSIDE, {"t": 9}, BETWEEN),
    (INSIDE, {"t": 10.5}, CLEARS),
    ({"attribute": "t", "inside": [2, 8]}, {"t": 9}, CLEARS),
    (IS_OPEN, {"open": True}, HOLDS),
    (IS_OPEN, {"open": 1}, CLEARS),
    (IS_OPEN, {"open": None}, CLEARS),
    (IS_OPEN, {"open": [True]}, CLEARS),
    (IS_OPEN, {}, ABSENT),
    ({"attribute": "n", "equals": 1}, {"n": 1.0}, HOLDS),
    ({"attribute": "n", "equals": 1}, {"n": True}, CLEARS),
    ({"attribute": "n", "equals": None}, {"n": None}, HOLDS),
    ({"attribute": "s", "not_equals": "ok"}, {"s": "ok"}, CLEARS),
    ({"attribute": "s", "not_equals": "ok"}, {"s": ["ok"]}, HOLDS),
    ({"attribute": "s", "not_equals": "ok"}, {}, ABSENT),
    ({"attribute": "s", "one_of": ["a", False, 3]}, {"s": 3}, HOLDS),
    ({"attribute": "s", "one_of": ["a", False, 3]}, {"s": 0}, CLEARS),
    ({"severity_at_least": "warning"}, {"severity": "error"}, HOLDS),
    ({"severity_at_least": "warning"}, {"severity": "info"}, CLEARS),
    ({"severity_at_least": "warning"}, {"severity": 3}, ABSENT),
    ({"severity_at_least": "warning"}, {"t": 3}, ABSENT),
    ({"subject": "boot"}, {"severity": "info", "subject": "boot"}, HOLDS),
    ({"subject": "boot"}, {"severity": "info", "subject": "reboot"}, CLEARS),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 31, "open": True}, HOLDS),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 29, "open": True}, BETWEEN),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 29, "open": False}, CLEARS),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 31}, ABSENT),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 29}, ABSENT),
    ({"all": [ABOVE, IS_OPEN]}, {"t": 20}, CLEARS),
    ({"any": [ABOVE, IS_OPEN]}, {"t": 31}, HOLDS),
    ({"any": [ABOVE, IS_OPEN]}, {"t": 29, "open": False}, BETWEEN),
    ({"any": [ABOVE, IS_OPEN]}, {"t": 20}, CLEARS),
    ({"any": [ABOVE, IS_OPEN]}, {"u": 20}, ABSENT),
    ({"any": [{"all": [ABOVE, IS_OPEN]}, BELOW]}, {"t": 31, "open": True}, HOLDS),
    ({"no_data": 60}, {"t": 1}, CLEARS),
    ({"no_data": 60, "attribute": "t"}, {"t": None}, CLEARS),
    ({"no_data": 60, "attribute": "t"}, {"u": 1}, ABSENT),
    ({"offline": 60}, True, CLEARS),
    ({"offline": 60}, False, HOLDS),
]


def test_messages_say_what_the_table_has() -> None:
    for document, value, verdict in VERDICTS:
        evaluate = compile_condition(parse(document))
        assert (document, value, evaluate(value, 0, {})) == (document, value, verdict)


def test_each_kind_of_row_is_seen_as_json() -> None:
    frame = (1, 2, 3, 4, 5, None, None)
    rows: list[tuple[Kind, tuple[Any, ...], Any]] = [
        (Kind.MEASUREMENT, (*frame, '{"t":31}'), {"t": 31}),
        (Kind.MEASUREMENT, (*frame, "31", "an id"), 31),
        (
            Kind.LOG,
            (*frame, "error", "boot", None),
            {"severity": "error", "subject": "boot", "details": None},
        ),
        (Kind.HEARTBEAT, (*frame, True, '{"voltage":3.1}'), {"success": True, "voltage": 3.1}),
        (Kind.HEARTBEAT, (*frame, None, None), {"success": None}),
        (Kind.PRESENCE, (1_000_000, False), False),
    ]
    for kind, row, value in rows:
        assert (kind, value_of(kind, row)) == (kind, value)


CHANGE = {"attribute": "t", "change": 5}
RATE = {"attribute": "t", "rate": 0.5}
FROM_PREVIOUS: list[tuple[dict[str, Any], Any, dict[str, tuple[int, float]], Verdict]] = [
    (CHANGE, {"t": 20}, {}, ABSENT),
    (CHANGE, {"t": 20}, {"t": (0, 15)}, HOLDS),
    (CHANGE, {"t": 10.1}, {"t": (0, 15)}, CLEARS),
    (CHANGE, {"t": 10}, {"t": (0, 15)}, HOLDS),
    (CHANGE, {"t": "20"}, {"t": (0, 15)}, ABSENT),
    (RATE, {"t": 20}, {"t": (0, 15)}, HOLDS),
    (RATE, {"t": 10}, {"t": (0, 15)}, HOLDS),
    (RATE, {"t": 16}, {"t": (0, 15)}, CLEARS),
    (RATE, {"t": 20}, {"t": (10 * SECOND, 15)}, ABSENT),
]


def test_changes_are_from_the_previous_number() -> None:
    for document, value, previous, verdict in FROM_PREVIOUS:
        evaluate = compile_condition(parse(document))
        assert (document, value, evaluate(value, 10 * SECOND, previous)) == (
            document,
            value,
            verdict,
        )


REFUSED: list[tuple[Any, str, str]] = [
    (3, "condition", "3 is not an object"),
    ({}, "condition", "has no operator; there are above, below"),
    ({"attribute": "t"}, "condition", "has no operator"),
    ({"attribute": "t", "abvoe": 3}, "condition.abvoe", "is not known: did you mean `above`?"),
    ({"above": 3}, "condition.attribute", "is missing"),
    ({"attribute": "t", "above": 3, "below": 1}, "condition", "has both `above` and `below`"),
    ({"attribute": "t", "above": "3"}, "condition.above", '"3" is not a number'),
    ({"attribute": "t", "above": True}, "condition.above", "true is not a number"),
    ({"attribute": "t", "above": None}, "condition.above", "null is not a number"),
    ({"attribute": "t", "above": math.nan}, "condition.above", "nan is not finite"),
    ({"attribute": "t", "above": 1 << 70}, "condition.above", "is beyond 64 bits"),
    ({"attribute": "t", "above": 3, "clear_below": 4}, "condition.clear_below", "`above` holds"),
    ({"attribute": "t", "below": 3, "clear_above": 2}, "condition.clear_above", "`below` holds"),
    (
        {"attribute": "t", "above": 3, "clear_above": 4},
        "condition.clear_above",
        "did you mean `clear_below`?",
    ),
    ({"attribute": "t", "outside": [1]}, "condition.outside", "has 1 items, not 2"),
    ({"attribute": "t", "outside": [3, 1]}, "condition.outside", "begins with the larger"),
    (
        {"attribute": "t", "outside": [1, 3], "clear_inside": [0, 3]},
        "condition.clear_inside",
        "`outside` holds",
    ),
    (
        {"attribute": "t", "inside": [1, 3], "clear_outside": [2, 3]},
        "condition.clear_outside",
        "`inside` holds",
    ),
    ({"attribute": "t", "equals": {}}, "condition.equals", "{} is not a text"),
    ({"attribute": "t", "one_of": []}, "condition.one_of", "has 0 items, not 1 to 64"),
    ({"attribute": "t", "one_of": [[1]]}, "condition.one_of[0]", "[1] is not a text"),
    ({"attribute": "t", "change": 0}, "condition.change", "0 is not above 0"),
    ({"attribute": "t", "rate": -1}, "condition.rate", "-1 is not above 0"),
    ({"attribute": "a\0", "above": 0}, "condition.attribute", "has a NUL character"),
    ({"attribute": "\ud800", "above": 0}, "condition.attribute", "half of a surrogate pair"),
    ({"attribute": "a" * 4_097, "above": 0}, "condition.attribute", "longer than 4096 bytes"),
    ({"attribute": "", "above": 0}, "condition.attribute", "is empty"),
    ({"no_data": 0}, "condition.no_data", "0 is not above 0"),
    ({"no_data": 1e9}, "condition.no_data", "is not a duration"),
    ({"offline": 60, "attribute": "t"}, "condition.attribute", "is not known"),
    ({"severity_at_least": "eror"}, "condition.severity_at_least", "did you mean `error`?"),
    ({"all": []}, "condition.all", "has 0 items, not 1 to 32"),
    ({"all": [ABOVE, {"no_data": 3}]}, "condition.all[1]", "`no_data` cannot be joined"),
    ({"any": [{"all": [{"t": 3}]}]}, "condition.any[0].all[0].t", "is not known"),
    ({"all": [{"any": [ABOVE] * 17}] * 2}, "condition", "joins 34 conditions, more than 32"),
]


def test_what_is_wrong_is_refused_by_its_name() -> None:
    for document, place, problem in REFUSED:
        with pytest.raises(InvalidMemberError) as refused:
            parse(document)
        assert (document, refused.value.place) == (document, place)
        assert problem in refused.value.problem, document
    nested: dict[str, Any] = ABOVE
    for _ in range(conditions.MAXIMUM_DEPTH):
        nested = {"all": [nested]}
    with pytest.raises(InvalidMemberError, match="nested more than 8 levels deep"):
        parse(nested)


numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5).filter(lambda t: "\0" not in t)
names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=5)


@st.composite
def plain(draw: st.DrawFn) -> dict[str, Any]:
    low, clear_low, clear_high, high = sorted(draw(st.tuples(*[numbers] * 4)))
    operators = st.sampled_from(
        [
            {"above": high, "clear_below": low},
            {"below": low, "clear_above": high},
            {"outside": [low, high], "clear_inside": [clear_low, clear_high]},
            {"inside": [clear_low, clear_high], "clear_outside": [low, high]},
            {"above": low},
            {"inside": [low, high]},
            {"equals": draw(scalars)},
            {"not_equals": draw(scalars)},
            {"one_of": draw(st.lists(scalars, min_size=1, max_size=3))},
        ]
    )
    return {"attribute": draw(names), **draw(operators)}


documents = st.recursive(
    plain(),
    lambda parts: st.builds(
        lambda operator, some: {operator: some},
        st.sampled_from(["all", "any"]),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@given(documents)
def test_a_condition_is_written_as_it_was_read(document: dict[str, Any]) -> None:
    condition = parse(document)
    assert document_of(condition) == document
    assert parse(msgspec.json.decode(msgspec.json.encode(document_of(condition)))) == condition


@given(documents, st.recursive(scalars, lambda v: st.dictionaries(names, v, max_size=3)))
def test_any_value_gets_a_verdict(document: dict[str, Any], value: Any) -> None:
    assert compile_condition(parse(document))(value, 0, {}) in Verdict


@given(st.tuples(numbers, numbers), numbers)
def test_hysteresis_never_holds_and_clears_at_once(
    bounds: tuple[float, float], value: float
) -> None:
    low, high = sorted(bounds)
    above = compile_condition(parse({"attribute": "t", "above": high, "clear_below": low}))
    below = compile_condition(parse({"attribute": "t", "below": low, "clear_above": high}))
    opposite = {HOLDS: CLEARS, CLEARS: HOLDS, BETWEEN: BETWEEN}
    assert above({"t": value}, 0, {}) == opposite[below({"t": value}, 0, {})]

"""Templates: what is refused when a rule is saved, and what comes of strangers' values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.canonical import canonical
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.templates import (
    LONGEST_RENDERED,
    TemplateError,
    check,
    check_text,
    render_json,
    render_text,
    render_topic,
)

VARIABLES: dict[str, Any] = {
    "sensor": {"device_id": "boiler", "name": None},
    "value": {
        "air": {"t": 30.5},
        "a.b": 1,
        "on": True,
        "list": [1, {"x": "y"}],
        "s": "{{rule.name}}",
    },
    "timestamp": "2026-01-01T00:00:00Z",
    "rule": {"name": "too hot"},
}

TEXTS = [
    ("", ""),
    ("plain {} { {", "plain {} { {"),
    ("{{ sensor.device_id }} is at {{value.air.t}}", "boiler is at 30.5"),
    ("{{value.a\\.b}}{{value.on}}{{sensor.name}}", "1truenull"),
    ("<{{value.nothing}}{{value.air.t.more}}{{alert.severity}}>", "<>"),
    ("{{value.air}} {{value.list}}", '{"t":30.5} [1,{"x":"y"}]'),
    ("{{value.s}}", "{{rule.name}}"),
    ("{{timestamp}}", "2026-01-01T00:00:00Z"),
]


def test_texts_are_filled_in() -> None:
    for template, text in TEXTS:
        assert check(template, "text") == template
        assert (template, render_text(template, VARIABLES)) == (template, text)
    assert render_text("{{value.value}} {{value}}", {"value": 3}) == "3 3"


def test_json_takes_values_with_their_types() -> None:
    template = {
        "t": "{{value.air.t}}",
        "text": "t={{value.air.t}}",
        "all": ["{{value.list}}", "{{value.on}}", "{{value.nothing}}", 7, None],
        "{{sensor.device_id}}": {"on": "{{value.s}}"},
    }
    assert check(template, "payload") is template
    assert render_json(template, VARIABLES) == {
        "t": 30.5,
        "text": "t=30.5",
        "all": [[1, {"x": "y"}], True, None, 7, None],
        "boiler": {"on": "{{rule.name}}"},
    }


REFUSED: list[tuple[Any, str, str]] = [
    ("{{sensr.name}}", "text", "`sensr` is not known: did you mean `sensor`?"),
    ("{{}}", "text", "`` is not known"),
    ("{{value.t", "text", "does not close it"),
    ("{{value.t}} {{", "text", "does not close it"),
    ("{{7*7}}", "text", "`7*7` is not known"),
    ("{{rule.__class__}} {{self}}", "text", "`self` is not known"),
    ({"a": [1, "{{x}}"]}, "text.a[1]", "`x` is not known"),
    ({"{{x}}": 1}, "text", "`x` is not known"),
    ("a\0", "text", "has a NUL character"),
    (["x" * 2_100] * 2, "text", "is longer than 4096 bytes"),
]


def test_what_is_wrong_is_refused_by_its_name() -> None:
    for template, place, problem in REFUSED:
        with pytest.raises(InvalidMemberError) as refused:
            check(template, "text")
        assert (template, refused.value.place) == (template, place)
        assert problem in refused.value.problem
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    with pytest.raises(InvalidMemberError, match="nested more than 16 levels deep"):
        check(deep, "text")
    with pytest.raises(InvalidMemberError, match="is not a text"):
        check_text({"a": 1}, "text")


def test_a_template_does_not_multiply_without_a_bound() -> None:
    large = {"value": "x" * 40_000}
    for template in ("{{value}}" * 400, ["{{value}}"] * 200, {"a": "{{value}}", "b": "-{{value}}"}):
        with pytest.raises(TemplateError, match="is too long"):
            render_json(template, large)
    assert len(render_text("{{value}}", {"value": "x" * LONGEST_RENDERED})) == LONGEST_RENDERED


def test_a_placeholder_fills_no_more_than_a_level_of_a_topic() -> None:
    def topic(template: str, value: Any, allowed: str = "fans/") -> str:
        return render_topic(template, {"value": value}, lambda name: name.startswith(allowed))

    assert topic("fans/{{value}}/set", "a b") == "fans/a b/set"
    assert topic("fans/{{value}}", 3.5) == "fans/3.5"
    for stranger in ("a/b", "+", "#", "a\0b", ["a/b"], "../x"):
        with pytest.raises(TemplateError, match="more than a level of a topic"):
            topic("fans/{{value}}", stranger)
    for template in ("", "fans/+", "fans/#", "fans/\0"):
        with pytest.raises(TemplateError, match="is no topic to publish on"):
            topic(template, "x")
    with pytest.raises(TemplateError, match="may not publish on 'doors/x'"):
        topic("doors/{{value}}", "x")
    with pytest.raises(TemplateError, match="is too long"):
        topic("fans/{{value}}", "x" * 1_024)


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(texts, texts, texts)
def test_what_a_placeholder_brings_is_not_read_again(before: str, value: str, after: str) -> None:
    before, after = before.replace("{", ""), after.replace("{", "").replace("}", "")
    template = f"{before}{{{{value}}}}{after}"
    variables = {"value": value, "rule": {"name": "secret"}}
    assert render_text(template, variables) == before + value + after
    assert render_json([template], variables) == [before + value + after]


@given(st.recursive(st.none() | st.integers() | texts, lambda v: st.lists(v, max_size=3)))
def test_a_whole_placeholder_is_the_value_itself(value: Any) -> None:
    rendered = render_json({"v": "{{ value }}"}, {"value": value})
    assert canonical(rendered["v"]) == canonical(value)

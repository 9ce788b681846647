"""Text of strangers as people read it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.printable import printable, printable_json, printable_lines

# Lone surrogates too, which come from bytes that are no UTF-8.
texts = st.text(st.characters(codec=None))


@given(texts)
def test_nothing_that_a_terminal_obeys_is_printed(text):
    assert printable(text).isprintable()
    lines = printable_lines(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == text.count("\n") + 1


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_what_is_printable_stays(text):
    assert printable(text) == printable_lines(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü €", "plain ü €"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\rc", "a\\nb\\rc"),
        ("\x07\x7f\x9b", "\\x07\\x7f\\x9b"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_are_written_as_escapes(text, shown):
    assert printable(text) == shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(json_values, st.sampled_from([None, 2]))
def test_json_says_the_same(value, indent):
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    shown = printable_json(text)
    assert json.loads(shown) == value
    assert all(line.isprintable() for line in shown.split("\n"))

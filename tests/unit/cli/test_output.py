"""What commands print."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.cli.output import print_json, print_table, printable, time_json, time_text


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text):
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü €", "plain ü €"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb", "a\\nb"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_written_as_escapes(text, shown):
    assert printable(text) == shown


def test_a_row_is_a_line_without_markup(capsys):
    print_table(("one", "two"), [("[bold]x[/bold]", "y" * 300), ("\x1b]0;title\x07", "z\n")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "[bold]x[/bold]" in lines[1]
    assert "y" * 300 in lines[1]
    assert "\\x1b]0;title\\x07" in lines[2]


def test_json_is_json(capsys):
    print_json({"a": "ü\x1b"})
    assert json.loads(capsys.readouterr().out) == {"a": "ü\x1b"}


def test_times():
    assert time_text(None) == "-"
    assert time_json(None) is None
    assert time_text(1_700_000_000_500_000) == "2023-11-14 22:13:20Z"
    assert time_json(1_700_000_000_500_000) == "2023-11-14T22:13:20.500000Z"

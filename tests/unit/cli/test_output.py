"""What commands print."""

import ast
import json
from pathlib import Path

import heliograph.cli
from heliograph.cli.output import echo, print_json, print_table, time_json, time_text


def test_a_row_is_a_line_without_markup(capsys):
    print_table(("one", "two"), [("[bold]x[/bold]", "y" * 300), ("\x1b]0;title\x07", "z\n")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "[bold]x[/bold]" in lines[1]
    assert "y" * 300 in lines[1]
    assert "\\x1b]0;title\\x07" in lines[2]


HOSTILE = "ü\x1b[2J\x07\x7f\x9b31m\u2028\u202e\ud800 🌞"


def test_json_is_json(capsys):
    print_json({"a": HOSTILE})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": HOSTILE}
    assert all(line.isprintable() for line in text.split("\n"))
    assert "ü" in text
    assert "🌞" in text


def test_lines_are_lines_and_nothing_else(capsys):
    echo(f"{HOSTILE}\n{HOSTILE}", err=True)
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


PRINTING = ("print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write")


def test_commands_print_by_what_makes_text_printable():
    """Whatever has no place in a terminal is kept from it in one place, not in each command."""
    allowed = {"output", "main", "serve", "tail"}
    found = []
    for path in Path(heliograph.cli.__file__).parent.rglob("*.py"):
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        if calls & {*PRINTING}:
            found.append(path.stem)
    assert set(found) == allowed


def test_times():
    assert time_text(None) == "-"
    assert time_json(None) is None
    assert time_text(1_700_000_000_500_000) == "2023-11-14 22:13:20Z"
    assert time_json(1_700_000_000_500_000) == "2023-11-14T22:13:20.500000Z"

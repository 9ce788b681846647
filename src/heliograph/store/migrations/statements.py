"""The SQL of a migration: a script an engine, run one statement a call."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from alembic import op

# Whatever may hold a semicolon that ends nothing, then the semicolon that may.
_TOKEN = re.compile(
    r"""
    '(?:[^']|'')*'                          # a string
    | "(?:[^"]|"")*"                        # a quoted name
    | --[^\n]*                              # a comment to the line's end
    | /\*.*?\*/                             # a comment
    | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag)   # a dollar-quoted string
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENTS = re.compile(r"\s*(?:--[^\n]*\n\s*)*")


def split(script: str, *, sqlite: bool) -> Iterator[str]:
    """Yield the script's statements, without the comments that stand before them.

    On SQLite a trigger's body holds whole statements; SQLite itself says where it ends.

    Raises:
        ValueError: the script's last statement has no end.
    """
    start = 0
    for token in _TOKEN.finditer(script):
        if token["end"] is None:
            continue
        statement = script[start : token.end()]
        if sqlite and not sqlite3.complete_statement(statement):
            continue
        start = token.end()
        yield _COMMENTS.sub("", statement, count=1)
    if rest := _COMMENTS.sub("", script[start:] + "\n", count=1).strip():
        raise ValueError(f"no end to: {rest[:60]}")


def run_script(migration: str, direction: Literal["upgrade", "downgrade"]) -> None:
    """Run the script beside a migration's file for the engine that it runs on."""
    connection = op.get_bind()
    engine = connection.dialect.name
    script = Path(migration).with_suffix(f".{engine}.{direction}.sql").read_text("utf-8")
    for statement in split(script, sqlite=engine == "sqlite"):
        connection.exec_driver_sql(statement)

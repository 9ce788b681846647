"""Statements of many rows, for the connection that writes to SQLite."""

from collections.abc import Iterator, Sequence
from typing import Any

# Rows a statement. The driver gives the interpreter lock away once a statement: row by row, the
# writer would wait for a busy event loop after each. A statement of many rows needs preparing
# only once; a few sizes serve any number of rows. SQLite allows 32,766 parameters.
CHUNKS = (2_048, 256, 32, 4, 1)


def chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the rows in as many as one statement takes."""
    at, count = 0, len(rows)
    for size in CHUNKS:
        while count - at >= size:
            yield rows[at : at + size] if size < count else rows
            at += size


def rows_of(columns: int, size: int) -> str:
    """Return placeholders for so many rows."""
    return ",".join([f"({','.join('?' * columns)})"] * size)

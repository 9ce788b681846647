"""Marks of late rows and the storing of rollups, on the connection that writes to PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.store.queries import Query
from heliograph.store.rollup_change import RollupChange

_encode = msgspec.json.Encoder().encode


async def mark(
    connection: Any, queries: dict[str, Query], hours: Sequence[tuple[int, int]]
) -> None:
    """Mark sensors' hours in the open transaction."""
    columns = [list(column) for column in zip(*hours, strict=True)]
    await connection.execute(queries["touched_add"].sql, *columns)


async def store_rollups(connection: Any, queries: dict[str, Query], change: RollupChange) -> bool:
    """Store a change in the open transaction; False: it is out of date."""
    advance = queries["rollup_advance"]
    wanted = {"generation": change.generation, "frontier": change.frontier}
    arguments = [wanted[name] for name in advance.parameters]
    if not await connection.fetch(advance.sql, *arguments):
        return False
    for query, rows in (
        ("rollups_store", [row for row in change.rollups if row[3] is not None]),
        ("rollups_drop", [row[:3] for row in change.rollups if row[3] is None]),
    ):
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(queries[query].sql, *columns)
    if change.marks:
        await connection.execute(queries["touched_done"].sql, change.marks)
    if change.backlog:
        rows_text = _encode(change.backlog).decode()
        await connection.execute(queries["rollup_backlog_shorten"].sql, rows_text)
        await connection.execute(queries["rollup_backlog_forget"].sql)
    return True

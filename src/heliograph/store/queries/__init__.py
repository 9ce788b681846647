"""The named queries: `.sql` files here for both engines, and an engine's own in its folder."""

import inspect
from pathlib import Path
from typing import NamedTuple

import aiosql

# aiosql's adapters write the placeholders as each driver wants them.
_ADAPTERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}


class Query(NamedTuple):
    """A query's text, and the names of its parameters in the order of their placeholders."""

    sql: str
    parameters: tuple[str, ...]


def load_queries(engine: str) -> dict[str, Query]:
    """Return the engine's queries by name."""
    folder = Path(__file__).parent
    files = sorted(folder.glob("*.sql")) + sorted((folder / engine).glob("*.sql"))
    script = "\n".join(file.read_text("utf-8") for file in files)
    loaded = aiosql.from_str(script, _ADAPTERS[engine])
    queries: dict[str, Query] = {}
    for name in loaded.available_queries:
        function = getattr(loaded, name)
        parameters = list(inspect.signature(function).parameters)
        names = tuple(parameter for parameter in parameters if parameter != "self")
        queries[name] = Query(function.sql.rstrip(";"), names)
    return queries

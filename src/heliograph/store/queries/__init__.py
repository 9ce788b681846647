"""The named queries: `.sql` files for both engines, and an engine's own in its folder.

They stand here, those of rollups in `rollups/queries`.
"""

import functools
import inspect
import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import aiosql

# aiosql's adapters write the placeholders as each driver wants them.
_ADAPTERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}

_FOLDERS = (Path(__file__).parent, Path(__file__).parents[2] / "rollups" / "queries")

# What several queries share stands where it belongs, up to the next empty line; they have {name}
# for it. Columns are in the order of the records' members.
_SHARED = re.compile(r"^-- shared: (\w+)\n((?:.+\n)+)", re.MULTILINE)
_TOKEN = re.compile(r"\{(?!table\}|kept\})(\w+)\}")
_START = re.compile(r"^(?=-- name: )", re.MULTILINE)
# A query that is the same for several tables stands once, and has the name of these for them.
_TABLES = {
    "{table}": ("measurement", "log", "heartbeat"),
    "{kept}": ("measurement", "log", "heartbeat", "packet"),
}

# Queues: empty now, and full in a moment.
_VARYING = re.compile(r"\b(?:FROM|JOIN) (?:action|observation|rule_state|alert|publication)\b")


class Query(NamedTuple):
    """A query's text, and the names of its parameters in the order of their placeholders."""

    sql: str
    parameters: tuple[str, ...]

    @property
    def is_planned_anew(self) -> bool:
        """Whether the best plan depends on the parameters, or on how much there is just now."""
        sql = " ".join(self.sql.split())
        return "IS NULL OR" in sql or _VARYING.search(sql) is not None


def load_queries(engine: str) -> dict[str, Query]:
    """Return the engine's queries by name."""
    return dict(_loaded(engine))


@functools.cache
def _loaded(engine: str) -> dict[str, Query]:
    files = [
        file
        for folder in _FOLDERS
        for place in (folder, folder / engine)
        for file in sorted(place.glob("*.sql"))
    ]
    script = "\n".join(file.read_text("utf-8") for file in files)
    loaded = aiosql.from_str(expanded(script), _ADAPTERS[engine])
    queries: dict[str, Query] = {}
    for name in loaded.available_queries:
        function = getattr(loaded, name)
        parameters = list(inspect.signature(function).parameters)
        names = tuple(parameter for parameter in parameters if parameter != "self")
        queries[name] = Query(function.sql.rstrip(";"), names)
    return queries


def expanded(script: str) -> str:
    """Put in what queries share, and repeat those that several tables do."""
    shared = dict(_SHARED.findall(script))

    def expand(text: str) -> str:
        return _TOKEN.sub(lambda token: expand(shared[token[1]]).rstrip("\n"), text)

    queries = _START.split(expand(_SHARED.sub("", script)))
    return "".join(chain.from_iterable(map(_repeated, queries)))


def _repeated(query: str) -> list[str]:
    for name, tables in _TABLES.items():
        if name in query:
            return [query.replace(name, table) for table in tables]
    return [query]

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
_NAME = re.compile(r"-- name: (\w+)")
# A query that is the same for several tables stands once, and has the name of these for them.
_TABLES = {
    "{table}": ("measurement", "log", "heartbeat"),
    "{kept}": ("measurement", "log", "heartbeat", "packet"),
}

# Queues: empty now, and full in a moment.
_VARYING = re.compile(r"\b(?:FROM|JOIN) (?:action|observation|rule_state|alert|publication)\b")


class Query(NamedTuple):
    """A query's text, and the names of its parameters in the order of their placeholders.

    `is_planned_anew`: the best plan depends on the parameters, or on how much there is just now.
    """

    sql: str
    parameters: tuple[str, ...]
    is_planned_anew: bool = False


class Queries(dict[str, Query]):
    """An engine's queries by name, each read when it is first asked for: a start needs few."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine

    def __missing__(self, name: str) -> Query:
        query = self[name] = _read(self._engine, name)
        return query


def load_queries(engine: str) -> Queries:
    """Return the engine's queries by name."""
    return Queries(engine)


@functools.cache
def texts(engine: str) -> dict[str, str]:
    """Return what stands in the files, by the queries' names."""
    files = [
        file
        for folder in _FOLDERS
        for place in (folder, folder / engine)
        for file in sorted(place.glob("*.sql"))
    ]
    script = expanded("\n".join(file.read_text("utf-8") for file in files))
    return {name[1]: text for text in _START.split(script) if (name := _NAME.match(text))}


@functools.cache
def _read(engine: str, name: str) -> Query:
    loaded = aiosql.from_str(texts(engine)[name], _ADAPTERS[engine])
    function = getattr(loaded, name)
    parameters = list(inspect.signature(function).parameters)
    names = tuple(parameter for parameter in parameters if parameter != "self")
    sql = function.sql.rstrip(";")
    words = " ".join(sql.split())
    return Query(sql, names, "IS NULL OR" in words or _VARYING.search(words) is not None)


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

"""The named queries: `.sql` files here for both engines, and an engine's own in its folder."""

import functools
import inspect
from pathlib import Path
from typing import NamedTuple

import aiosql

# aiosql's adapters write the placeholders as each driver wants them.
_ADAPTERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}

# What several queries share stands for them by these tokens; columns are in the order of the
# records' members.
_SHARED = {
    "{sensor_columns}": """
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, last_seen_at, last_measurement_at,
    status, status_at, node_identifier, expected_interval, deleted_at, status_since,
    status_by_broker, connection_open, connection_at""",
    "{node_columns}": """
    number, identifier, network_identifier, serial_number, firmware_version, name, created_at""",
    "{audit_page}": """
    SELECT
        id, timestamp, actor_kind, actor_name, address, action, resource_identifier,
        resource_name, network_identifier, changes
    FROM audit
    WHERE timestamp >= :start AND (timestamp, id) < (:before, :before_id)
    AND (CAST(:actor_kind AS text) IS NULL OR actor_kind = :actor_kind)
    AND (CAST(:actor_name AS text) IS NULL OR actor_name = :actor_name)
    AND (CAST(:action AS text) IS NULL OR action = :action)""",
}


class Query(NamedTuple):
    """A query's text, and the names of its parameters in the order of their placeholders."""

    sql: str
    parameters: tuple[str, ...]


def load_queries(engine: str) -> dict[str, Query]:
    """Return the engine's queries by name."""
    return dict(_loaded(engine))


@functools.cache
def _loaded(engine: str) -> dict[str, Query]:
    folder = Path(__file__).parent
    files = sorted(folder.glob("*.sql")) + sorted((folder / engine).glob("*.sql"))
    script = "\n".join(file.read_text("utf-8") for file in files)
    for token, text in _SHARED.items():
        script = script.replace(token, text)
    loaded = aiosql.from_str(script, _ADAPTERS[engine])
    queries: dict[str, Query] = {}
    for name in loaded.available_queries:
        function = getattr(loaded, name)
        parameters = list(inspect.signature(function).parameters)
        names = tuple(parameter for parameter in parameters if parameter != "self")
        queries[name] = Query(function.sql.rstrip(";"), names)
    return queries

"""Rules that are in the store before a server starts."""

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg

from bench.databases import Database
from bench.packets import identifier
from heliograph.processing import rules

COLUMNS = "identifier, network_identifier, name, enabled, definition, created_at, changed_at"


class Rules:
    """Rules to be stored, of the network `default` unless another is given."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._network = database.text("SELECT identifier FROM network WHERE name = 'default'")
        self._rows: list[tuple[Any, ...]] = []

    def network(self, name: str) -> str:
        """Store another network; return its identifier."""
        identifier = str(uuid.uuid4())
        self._execute(
            "INSERT INTO network (identifier, name, created_at) VALUES (?, ?, ?)",
            [(identifier, name, 0)],
        )
        return identifier

    def add(
        self,
        name: str,
        condition: dict[str, Any],
        *,
        sensors: Sequence[int] = (),
        actions: Sequence[dict[str, Any]] = (),
        network: str = "",
    ) -> None:
        """Add a rule on sensors by their numbers, on all unless given."""
        document = {
            "name": name,
            "condition": condition,
            "match": {"sensors": [identifier(number) for number in sensors]},
            "actions": list(actions),
        }
        # As the server itself writes it.
        text = json.dumps(rules.document_of(rules.parse(document)))
        now = time.time_ns() // 1_000
        row = str(uuid.uuid4()), network or self._network, name, True, text, now, now
        self._rows.append(row)

    def store(self) -> None:
        """Insert them."""
        self._execute(f"INSERT INTO rule ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", self._rows)

    def _execute(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if self._database.engine == "sqlite":
            address = self._database.address
            with closing(sqlite3.connect(address, timeout=30)) as connection, connection:
                connection.executemany(statement, rows)
            return
        with psycopg.connect(self._database.address) as server, server.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s").encode(), rows)

"""Migrated databases, made once a run, and copies of PostgreSQL's that are handed out again."""

import contextlib
from pathlib import Path

import psycopg
from psycopg import sql

import shared
from heliograph.store import run_migrations
from postgresql import Cluster

# All that a test could change besides rows, as one text.
SHAPE = """
WITH found AS (
    SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace
), line AS (
    SELECT concat_ws(' ', 'class', oid, relname, relkind, relowner, relacl, reloptions) AS line
    FROM pg_class WHERE oid IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull, atthasdef)
    FROM pg_attribute WHERE attrelid IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'index', indexrelid, indisvalid, indisunique)
    FROM pg_index WHERE indrelid IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'constraint', oid, conname, convalidated)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'part', inhrelid, inhparent, inhdetachpending) FROM pg_inherits
    UNION ALL
    SELECT concat_ws(' ', 'rule', oid, ev_enabled, md5(ev_action::text))
    FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL
    SELECT concat_ws(' ', 'function', oid, proname, md5(prosrc))
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'schema', oid, nspname, nspacl)
    FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT concat_ws(' ', 'statistics', starelid, staattnum)
    FROM pg_statistic WHERE starelid IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'setting', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT string_agg(line, chr(10) ORDER BY line) FROM line
"""
TABLES = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
# With whoever is connected, the locks go that they hold.
ALONE = """
SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_get_activity(NULL)
WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND pid <> pg_backend_pid()
"""
# Who has no page holds no row: those need not be read.
HOLDING = f"{TABLES} AND pg_relation_size(oid) > 0"
NUMBERS_AFRESH = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"


def migrated_database() -> Path:
    """Return the file of a migrated database, to be copied: migrating takes a second."""

    def make() -> str:
        path = shared.folder() / "migrated.db"
        run_migrations(f"sqlite:///{path}")
        return str(path)

    return Path(shared.once("sqlite-migrated", make))


def migrated_postgresql(cluster: Cluster) -> str:
    """Return the name of a migrated database of this server, to be copied."""

    def make() -> str:
        name = cluster.create_database()
        run_migrations(cluster.dsn(name))
        return name

    return str(shared.once(f"postgresql-migrated-{cluster.port}", make))


class Copies:
    """Makes copies of a database, and what is given back is a fresh copy to the next who asks.

    Making and dropping one costs hundreds of files; taking out the rows that a test has left
    and the partitions that it has made costs a tenth of that. A copy that then differs from the
    template in anything is dropped. Each has a connection that stays: a new one would read the
    catalogs first, which takes longer than all that it is for.
    """

    def __init__(self, cluster: Cluster, template: str) -> None:
        self._cluster = cluster
        self._template = template
        self._free: list[str] = []
        self._connections: dict[str, psycopg.Connection] = {}
        with psycopg.connect(cluster.dsn(template)) as connection:
            self._shape = _shape(connection)
            self._rows = {table: _rows(connection, table) for table in _tables(connection)}
            self._holding = {table for table, rows in self._rows.items() if rows}

    def take(self) -> str:
        """Return the name of a fresh copy."""
        return self._free.pop() if self._free else self._cluster.create_database(self._template)

    def give_back(self, name: str) -> None:
        """Make the copy a fresh one, or drop it."""
        if self._freshened(name):
            self._free.append(name)
        else:
            self._connections.pop(name).close()
            self._cluster.drop_database(name)

    def close(self) -> None:
        """End the connections; the copies stay."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _alone(self, name: str) -> psycopg.Connection:
        """Return a connection to the copy after all others have been ended."""
        if (kept := self._connections.get(name)) is not None:
            # The test may have ended it, as it may end all that are connected.
            with contextlib.suppress(psycopg.OperationalError):
                kept.execute(ALONE, prepare=True)
                return kept
        made = psycopg.connect(self._cluster.dsn(name), autocommit=True)
        self._connections[name] = made
        made.execute(ALONE, prepare=True)
        return made

    def _freshened(self, name: str) -> bool:
        connection = self._alone(name)
        tables = _tables(connection)
        if not tables >= self._rows.keys():
            return False
        with connection.transaction():
            for table in sorted(tables - self._rows.keys()):
                connection.execute(_filled("DROP TABLE {}", table))
            looked_at = self._rows.keys() & (self._holding | _tables(connection, HOLDING))
            changed = [table for table in looked_at if self._restored(connection, table)]
            connection.execute(NUMBERS_AFRESH, prepare=True)
        if changed:
            connection.execute(_filled("VACUUM {}", *changed))
        return _shape(connection) == self._shape

    def _restored(self, connection: psycopg.Connection, table: str) -> bool:
        """Give a table the template's rows; tell whether it had others."""
        if _rows(connection, table) == self._rows[table]:
            return False
        # Neither do triggers note it nor does it matter what refers to what.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(_filled("DELETE FROM {}", table))
        with connection.cursor().copy(_filled("COPY {} FROM STDIN", table)) as copying:
            copying.write(self._rows[table])
        return True


def _filled(statement: str, *tables: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.SQL(", ").join(map(sql.Identifier, tables)))


def _tables(connection: psycopg.Connection, wanted: str = TABLES) -> set[str]:
    return {name for (name,) in connection.execute(wanted, prepare=True)}


def _shape(connection: psycopg.Connection) -> str:
    (shape,) = connection.execute(SHAPE, prepare=True).fetchone()
    return shape


def _rows(connection: psycopg.Connection, table: str) -> bytes:
    with connection.cursor().copy(_filled("COPY {} TO STDOUT", table)) as copying:
        return b"".join(copying)

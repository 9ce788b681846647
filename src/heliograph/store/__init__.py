"""The only place with SQL: everything that is kept, on SQLite or PostgreSQL."""

from heliograph.store.migrations.running import MigrationState, run_migrations
from heliograph.store.store import Store, migrate, open_store

__all__ = ["MigrationState", "Store", "migrate", "open_store", "run_migrations"]

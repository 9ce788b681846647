"""The store: every subject over one engine."""

import asyncio
from pathlib import Path

from heliograph.database_url import parse_database_url
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import MINUTE, now
from heliograph.store.accounts import Accounts
from heliograph.store.actions import Actions
from heliograph.store.alerts import Alerts, Silences
from heliograph.store.annotations import Annotations
from heliograph.store.audit import Audit
from heliograph.store.boards import Boards
from heliograph.store.brokers import BrokerAccess, BrokerCounts, BrokerMembers
from heliograph.store.channels import Channels
from heliograph.store.chunks import Chunks
from heliograph.store.claim import Claim
from heliograph.store.clock import ClockStates
from heliograph.store.columns import ColumnPages
from heliograph.store.configurations import Configurations
from heliograph.store.engine import Engine
from heliograph.store.instances import Instances
from heliograph.store.integrity import Integrity
from heliograph.store.measurements import Measurements, RawReads
from heliograph.store.messages import Messages
from heliograph.store.migrations.running import MigrationState, head, run_migrations
from heliograph.store.mqtt_sessions import MqttSessions
from heliograph.store.networks import Networks
from heliograph.store.nodes import Nodes
from heliograph.store.packed_removal import PackedRemoval
from heliograph.store.points import Points
from heliograph.store.publications import Outbox
from heliograph.store.removal import Removal
from heliograph.store.retention import Retentions
from heliograph.store.rule_states import RuleStates
from heliograph.store.rules import Rules
from heliograph.store.sensors import Connections, Sensors
from heliograph.store.sqlite import CACHE_BYTES, open_sqlite
from heliograph.store.sqlite_generation import look
from heliograph.store.telemetry import (
    Deliveries,
    Exports,
    Heartbeats,
    Logs,
    Packets,
    RejectedMessages,
    ReplayRows,
)


class Store:
    """Everything that is kept. Errors are those of `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lineage = engine.lineage
        self.batch_rows = engine.batch_rows
        self.signals = engine.signals
        self.write = engine.write
        self.ping = engine.ping
        self.renew = engine.renew
        self.written_elsewhere = engine.written_elsewhere
        self.close = engine.close
        self.accounts = Accounts(engine)
        self.actions = Actions(engine)
        self.alerts = Alerts(engine)
        self.silences = Silences(engine)
        self.audit = Audit(engine)
        self.annotations = Annotations(engine)
        self.boards = Boards(engine)
        self.channels = Channels(engine)
        self.integrity = Integrity(engine)
        self.clock = ClockStates(engine)
        self.sensors = Sensors(engine)
        self.connections = Connections(engine)
        self.networks = Networks(engine)
        self.nodes = Nodes(engine)
        self.chunks = Chunks(engine)
        self.messages = Messages(engine, self.chunks)
        self.measurements = Measurements(engine, self.chunks)
        self.raw_reads = RawReads(engine)
        self.points = Points(engine, self.raw_reads, self.measurements, self.chunks)
        self.logs = Logs(engine)
        self.heartbeats = Heartbeats(engine)
        self.packets = Packets(engine)
        self.instances = Instances(engine)
        self.mqtt_sessions = MqttSessions(engine)
        self.rejected = RejectedMessages(engine)
        self.replay = ReplayRows(engine)
        self.deliveries = Deliveries(engine, self.chunks)
        self.configurations = Configurations(engine)
        self.publications = Outbox(engine)
        self.broker_access = BrokerAccess(engine)
        self.broker_drops = BrokerCounts(engine)
        self.broker_members = BrokerMembers(engine)
        self.exports = Exports(engine, self.chunks)
        self.columns = ColumnPages(engine, self.chunks)
        self.retentions = Retentions(engine)
        self.rules = Rules(engine)
        self.rule_states = RuleStates(engine)
        self.removal = Removal(engine)
        self.packed_removal = PackedRemoval(engine, self.chunks)

    async def newest(self) -> tuple[int, int]:
        """Return the newest ingest id and the newest receipt time; 0 where nothing is stored.

        What was received beyond a time as which the clock was accepted since counts as received
        then.
        """
        acceptance = (await self.clock.read()).acceptance
        # PostgreSQL knows only in which blocks which ids stand, and reads all that has come since:
        # at most twice as far back as the newest lies.
        window, since = MINUTE, 1
        while since:
            since = first_ingest_id(now() - window)
            window *= 2
            rows = await self.engine.fetch("newest_ids", since=since)
            if rows:
                newest_id = max(row_id for row_id, _ in rows)
                return newest_id, max(acceptance.receipt(*row) for row in rows)
        return 0, 0

    async def migration_state(self) -> MigrationState:
        """Return the database's revision, and the one that this version needs."""
        if not await self.engine.fetch("table_exists", name="alembic_version"):
            return MigrationState(None, head())
        rows = await self.engine.fetch("migration_revision")
        return MigrationState(rows[0][0] if rows else None, head())


async def open_store(
    database_url: str,
    claim: Claim | None = None,
    *,
    accept_empty: bool = False,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open the database that DATABASE_URL names; it isn't migrated by that.

    A server has a claim on it. `accept_empty`: an SQLite file may be empty that was not.
    `cache_bytes` are for the pages of one that its writer keeps in memory.

    Raises:
        StartError: it can't be used; one line says why.
    """
    url = parse_database_url(database_url)
    if url.is_sqlite:
        if claim is None:
            await asyncio.to_thread(look, url.path, accept_empty=accept_empty)
        return Store(await open_sqlite(url.path, claim, cache_bytes))
    from heliograph.store.postgresql import (  # noqa: PLC0415 - its driver, for those who need it
        open_postgresql,
    )

    return Store(await open_postgresql(url))


async def migrate(database_url: str, *, backups: int = 0) -> Path | None:
    """Bring the database to the newest revision, where it isn't there yet.

    Return the backup that was taken of a SQLite file first, see `run_migrations`.

    Raises:
        StartError: it could not be done; one line says why.
    """
    store = await open_store(database_url)
    try:
        current, newest = await store.migration_state()
    finally:
        await store.close()
    if current == newest:
        return None
    return await asyncio.to_thread(run_migrations, database_url, backups=backups)

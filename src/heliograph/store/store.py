"""The store: every subject over one engine."""

import asyncio

from heliograph.model.batch import Batch, Written
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import DAY, HOUR, now
from heliograph.store.accounts import Accounts
from heliograph.store.activity import Activities
from heliograph.store.audit import Audit
from heliograph.store.broker_access import BrokerAccess
from heliograph.store.broker_drops import BrokerCounts
from heliograph.store.claim import Claim
from heliograph.store.clock import ClockStates
from heliograph.store.configurations import Configurations
from heliograph.store.connections import Connections
from heliograph.store.deliveries import Deliveries
from heliograph.store.engine import Engine, Lineage
from heliograph.store.exports import Exports
from heliograph.store.heartbeats import Heartbeats
from heliograph.store.instances import Instances
from heliograph.store.logs import Logs
from heliograph.store.measurements import Measurements
from heliograph.store.migrations.running import MigrationState, head, run_migrations
from heliograph.store.networks import Networks
from heliograph.store.nodes import Nodes
from heliograph.store.points import Points
from heliograph.store.postgresql import open_postgresql
from heliograph.store.publications import Outbox
from heliograph.store.raw_reads import RawReads
from heliograph.store.rejected import RejectedMessages
from heliograph.store.removal import Removal
from heliograph.store.replay import ReplayRows
from heliograph.store.retention import Retentions
from heliograph.store.sensors import Sensors
from heliograph.store.sqlite import open_sqlite
from heliograph.store.sqlite_generation import look
from heliograph.store.url import parse_database_url


class Store:
    """Everything that is kept. Errors are those of `Engine`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.accounts = Accounts(engine)
        self.activities = Activities(engine)
        self.audit = Audit(engine)
        self.clock = ClockStates(engine)
        self.sensors = Sensors(engine)
        self.connections = Connections(engine)
        self.networks = Networks(engine)
        self.nodes = Nodes(engine)
        self.measurements = Measurements(engine)
        self.raw_reads = RawReads(engine)
        self.points = Points(engine, self.raw_reads, self.measurements)
        self.logs = Logs(engine)
        self.heartbeats = Heartbeats(engine)
        self.instances = Instances(engine)
        self.rejected = RejectedMessages(engine)
        self.replay = ReplayRows(engine)
        self.deliveries = Deliveries(engine)
        self.configurations = Configurations(engine)
        self.publications = Outbox(engine)
        self.broker_access = BrokerAccess(engine)
        self.broker_drops = BrokerCounts(engine)
        self.exports = Exports(engine)
        self.retentions = Retentions(engine)
        self.removal = Removal(engine)

    @property
    def lineage(self) -> Lineage:
        """The change of the registry that all writing has to be based on."""
        return self.engine.lineage

    async def written_elsewhere(self) -> bool:
        """Return whether another process has written to the file that this one has for itself."""
        return await self.engine.written_elsewhere()

    async def renew(self) -> None:
        """Forget what the connections know, for it is of another state of the database."""
        await self.engine.renew()

    @property
    def batch_rows(self) -> int:
        """The rows a commit beyond which more do not make a row cheaper."""
        return self.engine.batch_rows

    async def write(self, batch: Batch) -> Written:
        """Commit a batch whole, or nothing of it, and tell which rows were repeats.

        Unless `Batch.sort` has put its rows in order it takes longer, and may have to be repeated.

        Raises:
            RowError: it holds a row that the database refuses for what it says.
            ClaimLostError: it holds keys that are another message's in the ledger by now.
            StoreUnavailableError: the same batch may be written again as it is.
        """
        return await self.engine.write(batch)

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            StoreUnavailableError: it didn't, within a short time.
        """
        await self.engine.ping()

    async def newest(self) -> tuple[int, int]:
        """Return the newest ingest id and the newest receipt time; 0 where nothing is stored.

        What was received beyond a time as which the clock was accepted since counts as received
        then.
        """
        acceptance = (await self.clock.read()).acceptance
        # PostgreSQL knows only in which blocks which ids stand: it looks at the newest first.
        for window in (HOUR, DAY, 30 * DAY, None):
            since = 0 if window is None else first_ingest_id(max(now() - window, 0))
            rows = await self.engine.fetch("newest_ids", since=since)
            if rows:
                return max(row[0] for row in rows), max(acceptance.receipt(*row) for row in rows)
        return 0, 0

    async def migration_state(self) -> MigrationState:
        """Return the database's revision, and the one that this version needs."""
        if not await self.engine.fetch("table_exists", name="alembic_version"):
            return MigrationState(None, head())
        rows = await self.engine.fetch("migration_revision")
        return MigrationState(rows[0][0] if rows else None, head())

    async def close(self) -> None:
        """Let the running calls end, then close every connection."""
        await self.engine.close()


async def open_store(
    database_url: str, claim: Claim | None = None, *, accept_empty: bool = False
) -> Store:
    """Open the database that DATABASE_URL names; it isn't migrated by that.

    A server has a claim on it. `accept_empty`: an SQLite file may be empty that was not.

    Raises:
        StartError: it can't be used; one line says why.
    """
    url = parse_database_url(database_url)
    if url.is_sqlite:
        if claim is None:
            await asyncio.to_thread(look, url.path, accept_empty=accept_empty)
        return Store(await open_sqlite(url.path, claim))
    return Store(await open_postgresql(url))


async def migrate(database_url: str) -> None:
    """Bring the database to the newest revision, where it isn't there yet.

    Raises:
        StartError: it could not be done; one line says why.
    """
    store = await open_store(database_url)
    try:
        current, newest = await store.migration_state()
    finally:
        await store.close()
    if current != newest:
        await asyncio.to_thread(run_migrations, database_url)

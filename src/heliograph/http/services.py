"""What the routes work with, handed to them by the application's wiring."""

import asyncio
import dataclasses

from heliograph.access.authenticator import Authenticator
from heliograph.access.limiter import Limiter
from heliograph.access.passwords import Passwords
from heliograph.access.registry import Registry
from heliograph.access.shared_counts import SharedCounts
from heliograph.access.windows import share_of
from heliograph.brokers.clients import BrokerClients
from heliograph.brokers.mosquitto import MosquittoFiles
from heliograph.http.access import Access, Limits
from heliograph.http.newest_pages import NewestPages
from heliograph.http.traffic import Traffic
from heliograph.ingest.elsewhere import Elsewhere
from heliograph.ingest.http_ingest import HttpIngest
from heliograph.ingest.instance import Instance
from heliograph.ingest.latest_values import LatestValues
from heliograph.ingest.routes import Router
from heliograph.live.streams import Streams
from heliograph.mqtt.link import Link
from heliograph.mqtt.listener import Listener
from heliograph.packer import Packer
from heliograph.processing.alerting import Alerting
from heliograph.processing.dispatcher import Dispatcher
from heliograph.processing.notifications import Notifications
from heliograph.processing.processor import Processor
from heliograph.retention.disk_budget import DiskState
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.aggregates import Aggregates
from heliograph.rollups.task import RollupState
from heliograph.running_settings import RunningSettings
from heliograph.settings import Settings
from heliograph.siblings import Siblings
from heliograph.store import Store
from heliograph.store.duties import Duties
from heliograph.worker import Worker


@dataclasses.dataclass(slots=True)
class Services:
    """Everything that a route may use. `started_at` is in microseconds."""

    running_settings: RunningSettings
    siblings: Siblings
    store: Store
    registry: Registry
    router: Router
    authenticator: Authenticator
    passwords: Passwords
    limiter: Limiter
    shared_counts: SharedCounts | None
    latest: LatestValues
    http_ingest: HttpIngest
    publishing: Dispatcher
    calling: Dispatcher
    scripting: Dispatcher
    notifying: Dispatcher
    processor: Processor
    notifications: Notifications
    alerting: Alerting
    broker_clients: BrokerClients
    streams: Streams
    retention: RetentionRuns
    packer: Packer
    disk: DiskState
    rollups: RollupState
    aggregates: Aggregates
    instance: Instance | None
    elsewhere: Elsewhere | None
    duties: Duties
    worker: Worker
    listener: Listener | None
    link: Link | None
    informing: MosquittoFiles | None
    traffic: Traffic
    started_at: int
    access: Access = dataclasses.field(init=False)
    newest_pages: NewestPages = dataclasses.field(init=False)
    # Whoever examines the installation has it: it reads and flushes much.
    examining: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock, init=False)
    # Whoever reads a table has it: that takes half a second of CPU time.
    previewing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock, init=False)

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return self.running_settings.current

    @property
    def servers(self) -> int:
        """How many processes serve with the same database, this one among them."""
        others = self.instance.others if self.instance else []
        return max(self.worker.processes, 1 + len(others))

    @property
    def dispatchers(self) -> tuple[Dispatcher, ...]:
        """Who runs actions, each those of other types."""
        return self.publishing, self.calling, self.scripting, self.notifying

    def __post_init__(self) -> None:
        # Until it is known how many servers there are.
        limits = Limits(read=0, write=0, ingest=0)
        self.access = Access(self.authenticator, self.registry, limits, self.limiter)
        self.newest_pages = NewestPages(self.store, self.registry, self.latest)
        self.limit(self.settings)

    def limit(self, settings: Settings) -> None:
        """Have the limits of these settings count from now on.

        Servers that do not count together have their share each.
        """
        shared, servers = self.shared_counts, self.servers
        self.limiter.windows.servers = servers
        self.limiter.allow(settings.rate_limit_failed_logins)
        if shared is not None and shared.problem is None:
            servers = 1
        self.access.limits.allow(
            read=settings.rate_limit_read,
            write=settings.rate_limit_write,
            ingest=settings.rate_limit_ingest,
            servers=servers,
        )
        if self.listener is not None:
            self.listener.shares.allow(share_of(settings.rate_limit_mqtt, servers))

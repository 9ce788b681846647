"""What the routes work with, handed to them by the application's wiring."""

import dataclasses
from typing import Protocol

from heliograph.access.authenticator import Authenticator
from heliograph.access.limiter import Limiter
from heliograph.access.registry import Registry
from heliograph.brokers.clients import BrokerClients
from heliograph.ingest.instance import Instance
from heliograph.ingest.latest_values import LatestValues
from heliograph.ingest.posts import Posts
from heliograph.ingest.routes import Router
from heliograph.live.streams import Streams
from heliograph.mqtt.counts import Counts
from heliograph.passwords import Passwords
from heliograph.retention.disk_budget import DiskState
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.aggregates import Aggregates
from heliograph.rollups.task import RollupState
from heliograph.settings import Settings
from heliograph.store import Store


class Listening(Protocol):
    """The MQTT listener, as far as its readiness and its counts are concerned."""

    counts: Counts

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that accept connections now; empty when there is none."""
        ...

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        ...


class Linked(Protocol):
    """The link to an external broker, as far as its readiness is concerned."""

    @property
    def connected(self) -> bool:
        """Whether messages arrive."""
        ...

    @property
    def problem(self) -> str | None:
        """Why not; None while they do."""
        ...

    @property
    def connects(self) -> int:
        """How often it has been connected."""
        ...

    @property
    def dropped_count(self) -> int:
        """How many messages the broker has dropped meanwhile."""
        ...

    @property
    def waiting(self) -> int:
        """How many messages the broker has not taken from us yet."""
        ...

    @property
    def address(self) -> tuple[str, int]:
        """Where the broker is."""
        ...


class Informing(Protocol):
    """What keeps a broker informed of who may do what."""

    @property
    def problem(self) -> str | None:
        """Why it may not know the newest; None: it does."""
        ...


@dataclasses.dataclass(slots=True)
class Services:
    """Everything that a route may use. `started_at` is in microseconds."""

    settings: Settings
    store: Store
    registry: Registry
    router: Router
    authenticator: Authenticator
    passwords: Passwords
    limiter: Limiter
    latest: LatestValues
    posts: Posts
    broker_clients: BrokerClients
    streams: Streams
    retention: RetentionRuns
    disk: DiskState
    rollups: RollupState
    aggregates: Aggregates
    instance: Instance | None
    listener: Listening | None
    link: Linked | None
    informing: Informing | None
    started_at: int

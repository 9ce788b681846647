"""What the routes work with, handed to them by the application's wiring."""

import dataclasses
from typing import Protocol

from heliograph.ingest.authentication import Authenticator
from heliograph.ingest.posts import Posts
from heliograph.ingest.registry import Registry
from heliograph.ingest.routes import Router
from heliograph.settings import Settings
from heliograph.store import Store


class Listening(Protocol):
    """The MQTT listener, as far as its readiness is concerned."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that accept connections now; empty when there is none."""
        ...

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        ...


@dataclasses.dataclass(slots=True)
class Services:
    """Everything that a route may use. `started_at` is in microseconds."""

    settings: Settings
    store: Store
    registry: Registry
    router: Router
    authenticator: Authenticator
    posts: Posts
    listener: Listening | None
    started_at: int

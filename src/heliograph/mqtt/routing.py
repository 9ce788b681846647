"""Where topics lead, asked once a topic and principal."""

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from heliograph.errors import StoreUnavailableError
from heliograph.mqtt import packets
from heliograph.mqtt.limits import (
    LONGEST_KEPT_TOPIC,
    MAXIMUM_REFUSED_ROUTES,
    MAXIMUM_ROUTES,
)

if TYPE_CHECKING:
    from heliograph.model.principal import Principal
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.host import Host

RETRY_SECONDS = 1.0


class Routes(dict[Any, Any]):
    """Topics and where they lead, as of a generation of the registry.

    Those that lead nowhere, which a client may invent without end, are counted apart: they
    never cost the others their place.
    """

    __slots__ = ("__weakref__", "_refused", "generation")

    def __init__(self) -> None:
        super().__init__()
        self.generation = -1
        self._refused: list[Any] = []

    def renew(self, generation: int) -> None:
        """Forget what is of another generation."""
        if self.generation != generation:
            self._forget()
            self.generation = generation

    def keep(self, topic: bytes | str, route: Any, *, accepted: bool) -> None:
        """Keep a route; `accepted` tells whether it leads to a sensor."""
        if len(self) >= MAXIMUM_ROUTES:
            self._forget()
        if not accepted:
            if len(self._refused) >= MAXIMUM_REFUSED_ROUTES or len(topic) > LONGEST_KEPT_TOPIC:
                for refused in self._refused:
                    self.pop(refused, None)
                self._refused.clear()
            self._refused.append(topic)
        self[topic] = route

    def _forget(self) -> None:
        self.clear()
        self._refused.clear()


NO_ROUTES = Routes()


class RoutesOfAll:
    """Each principal's routes for as long as he has a connection, shared by all that he has.

    Ten gateways with one key and 10,000 topics each would otherwise hold 33 MiB.
    """

    def __init__(self) -> None:
        self._routes: WeakValueDictionary[Principal, Routes] = WeakValueDictionary()

    def of(self, principal: "Principal", generation: int) -> Routes:
        """Return the principal's routes, without those of another generation."""
        routes = self._routes.get(principal)
        if routes is None:
            routes = self._routes[principal] = Routes()
        routes.renew(generation)
        return routes


async def ask(host: "Host", principal: "Principal", topic: str) -> Any:
    """Return where a topic leads, once the database answers."""
    while True:
        generation = host.generation
        try:
            route = await host.route(principal, topic)
            if generation == host.generation:
                return route  # else the answer may be older than what is known by now
        except StoreUnavailableError:
            # What has been read waits, like what is in the pipeline.
            await asyncio.sleep(RETRY_SECONDS)


def known_route(connection: "Connection", topic: bytes) -> Any:
    """Return and keep the route of a topic that is new here; None: the database has to be asked.

    A task would cost a turn of the event loop, and a gateway has thousands of topics.
    """
    assert connection.principal is not None  # noqa: S101 - set with the session
    host = connection.listener.host
    route = host.known_route(connection.principal, packets.decode_topic(topic))
    if route is not None:
        _keep(connection, topic, route)
    return route


async def find_route(connection: "Connection", topic: bytes) -> None:
    """Ask for the route of a topic, until the database answers, and keep it."""
    assert connection.principal is not None  # noqa: S101 - set with the session
    name = packets.decode_topic(topic)
    _keep(connection, topic, await ask(connection.listener.host, connection.principal, name))


def _keep(connection: "Connection", topic: bytes, route: Any) -> None:
    host = connection.listener.host
    assert connection.principal is not None  # noqa: S101 - set with the session
    routes = connection.listener.routes.of(connection.principal, host.generation)
    routes.keep(topic, route, accepted=host.accepts(route))
    connection.routes = routes

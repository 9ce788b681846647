"""Networks: groups of sensors."""

from heliograph.model.sensor import Network
from heliograph.store.engine import Engine

DEFAULT_NETWORK = "default"


class Networks:
    """The networks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def default(self) -> Network:
        """Return the network of everything that names none; the first migration makes it."""
        rows = await self._engine.fetch("network_by_name", name=DEFAULT_NETWORK)
        return Network(*rows[0])

    async def find(self, identifier: str) -> Network | None:
        """Return the network with this UUID (in any case)."""
        rows = await self._engine.fetch("network_by_identifier", identifier=identifier.lower())
        return Network(*rows[0]) if rows else None

"""Which sensors are connected to the listener: what the presence of a sensor keeps."""

from collections.abc import Sequence

import msgspec

from heliograph.model.records import ConnectionRow
from heliograph.model.sensor import Sensor
from heliograph.store.engine import Engine
from heliograph.store.sensors import sensor_of

_encode = msgspec.json.Encoder().encode


class Connections:
    """The sensors' connections to the listener of this server, and on PostgreSQL to others'.

    `server` is the token of the one that notes it; a file has one server, which needs none.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def note(self, rows: list[ConnectionRow], server: str = "") -> list[Sensor]:
        """Note which sensors are connected to the server's listener, or no more.

        Those are returned of which that is so: not who is connected to another server by now.
        """
        async with self._engine.transaction() as transaction:
            stored = await transaction.fetch(
                "connections_store", rows=_encode(rows).decode(), server=server
            )
        return [sensor_of(row) for row in stored]

    async def confirm(self, rows: list[ConnectionRow], server: str = "") -> None:
        """Note again which sensors are connected, where something else was noted since."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch(
                "connections_confirm", rows=_encode(rows).decode(), server=server
            )

    async def end(self, moment: int, living: Sequence[str] = ()) -> None:
        """Note that no sensor is connected, nor by what was said, but on the living servers."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch("connections_end", moment=moment, living=list(living))

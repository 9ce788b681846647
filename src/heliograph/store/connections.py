"""Which sensors are connected to the listener: what the presence of a sensor keeps."""

import msgspec

from heliograph.model.records import ConnectionRow
from heliograph.model.sensor import Sensor
from heliograph.store.engine import Engine
from heliograph.store.sensors import sensor_of

_encode = msgspec.json.Encoder().encode


class Connections:
    """The sensors' connections to the listener."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def note(self, rows: list[ConnectionRow]) -> list[Sensor]:
        """Note which sensors are connected to the listener, or no more; return those there are."""
        async with self._engine.transaction() as transaction:
            stored = await transaction.fetch("connections_store", rows=_encode(rows).decode())
        return [sensor_of(row) for row in stored]

    async def confirm(self, rows: list[ConnectionRow]) -> None:
        """Note again which sensors are connected, where something else was noted since."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch("connections_confirm", rows=_encode(rows).decode())

    async def end(self, moment: int) -> None:
        """Note that no sensor is connected to the listener, nor by what was said there."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch("connections_end", moment=moment)

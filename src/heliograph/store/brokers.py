"""What brokers that are not ours may know of the devices, and how many messages they dropped."""

from collections.abc import AsyncIterator

import msgspec

from heliograph.model.records import BrokerDrops
from heliograph.store.engine import Engine

PAGE = 5_000


class DeviceAccess(msgspec.Struct, frozen=True):
    """A device with a key; `password` is the key as Mosquitto has it, None where none was made."""

    number: int
    identifier: str
    device_id: str | None
    is_active: bool
    key_hash: bytes
    password: str | None


class BrokerAccess:
    """The devices with a key of their own, as brokers have to know them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def devices(self) -> AsyncIterator[DeviceAccess]:
        """Yield every device with a key, in the order of their creation."""
        after = 0
        while True:
            rows = await self._engine.fetch("broker_access_load", after=after, limit=PAGE)
            for number, identifier, device_id, is_active, key_hash, password in rows:
                yield DeviceAccess(
                    number, identifier, device_id, bool(is_active), key_hash, password
                )
            if len(rows) < PAGE:
                return
            after = rows[-1][0]


class BrokerCounts:
    """What brokers said last, by their addresses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, broker: str) -> BrokerDrops | None:
        """Return what was noted last; None: nothing was."""
        rows = await self._engine.fetch("broker_drops_find", broker=broker)
        return BrokerDrops(*rows[0]) if rows else None

    async def note(self, broker: str, drops: BrokerDrops) -> None:
        """Note it in place of what was noted before."""
        async with self._engine.transaction() as transaction:
            await transaction.fetch(
                "broker_drops_note",
                broker=broker,
                total=drops.total,
                uptime=drops.uptime,
                noted_at=drops.noted_at,
            )

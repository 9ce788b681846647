"""What brokers that are not ours may know of the devices, and how many messages they dropped."""

from collections.abc import AsyncIterator

import msgspec

from heliograph.model.records import BrokerDrops
from heliograph.store.engine import Subject

PAGE = 5_000


class DeviceAccess(msgspec.Struct, frozen=True):
    """A device with a key; `password` is the key as Mosquitto has it, None where none was made."""

    number: int
    identifier: str
    device_id: str | None
    is_active: bool
    key_hash: bytes
    password: str | None


class BrokerAccess(Subject):
    """The devices with a key of their own, as brokers have to know them."""

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


class BrokerCounts(Subject):
    """What brokers said last, by their addresses."""

    async def find(self, broker: str) -> BrokerDrops | None:
        """Return what was noted last; None: nothing was."""
        return await self._one(BrokerDrops, "broker_drops_find", broker=broker)

    async def note(self, broker: str, drops: BrokerDrops) -> None:
        """Note it in place of what was noted before."""
        await self._write("broker_drops_note", broker=broker, **msgspec.structs.asdict(drops))

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


class BrokerMembers(Subject):
    """Servers that share a broker's messages, each by a client id. For PostgreSQL.

    `token` is a server's among the instances.
    """

    async def enter(self, broker: str, client_id: str, token: str) -> None:
        """Note that a server has this client id from now on, whoever had it."""
        await self._write("broker_member_enter", broker=broker, client_id=client_id, token=token)

    async def orphaned(self, broker: str) -> list[tuple[str, str]]:
        """Return client ids, each with its holder's token, whose holder does not live."""
        rows = await self._engine.fetch("broker_members_orphaned", broker=broker)
        return [(client_id, holder) for client_id, holder in rows]

    async def take(self, broker: str, client_id: str, holder: str, token: str) -> bool:
        """Take a client id from its holder; return whether nobody else has."""
        which = {"broker": broker, "client_id": client_id, "holder": holder}
        return bool(await self._write("broker_member_take", **which, token=token))

    async def held(self, broker: str, client_id: str, token: str) -> bool:
        """Return whether a client id is still this server's."""
        which = {"broker": broker, "client_id": client_id, "token": token}
        return bool(await self._engine.fetch("broker_member_held", **which))

    async def forget(self, broker: str, client_id: str, token: str) -> None:
        """Forget a client id, if it is still this server's: its session has ended."""
        await self._write("broker_member_forget", broker=broker, client_id=client_id, token=token)


class BrokerCounts(Subject):
    """What brokers said last, by their addresses."""

    async def find(self, broker: str) -> BrokerDrops | None:
        """Return what was noted last; None: nothing was."""
        return await self._one(BrokerDrops, "broker_drops_find", broker=broker)

    async def note(self, broker: str, drops: BrokerDrops) -> None:
        """Note it in place of what was noted before."""
        await self._write("broker_drops_note", broker=broker, **msgspec.structs.asdict(drops))

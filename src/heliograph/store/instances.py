"""The numbers by which servers on one PostgreSQL make ids that are unique."""

from typing import NamedTuple

from heliograph.errors import AlreadyExistsError, StoreUnavailableError
from heliograph.model.identifiers import MAXIMUM_INSTANCE
from heliograph.store.engine import Subject, Transaction

# The key of the lock that orders starts: any number that nothing else locks.
_LOCK = 0x6865_6C69_6F67_7261


class Living(NamedTuple):
    """A server that uses the database.

    Its `process` is named as `<number>@<host>`, if its connection may be looked at; `since` is when
    that connection began, in microseconds.
    """

    number: int
    token: str
    mqtt_client_id: str | None
    process: str | None = None
    since: int | None = None


class Leased(NamedTuple):
    """The number that is leased (None: another server has had it), and the other servers."""

    number: int | None
    others: list[Living]


class Held(NamedTuple):
    """Who has a duty: the holder's token, its fence, and its number; None: it has none now."""

    duty: str
    holder: str
    fence: int
    number: int | None


class Instances(Subject):
    """The leases of instance numbers, by the database's clock. For PostgreSQL.

    `lease` is in microseconds. After its end a number rests twice as long before it is free.
    """

    async def take(self, token: str, lease: int, *, mqtt_client_id: str | None = None) -> Leased:
        """Lease the least number that is free.

        Raises:
            AlreadyExistsError: another server lives under the client id.
            StoreUnavailableError: no number is free, or the database is away.
        """

        async def work(transaction: Transaction) -> Leased:
            await transaction.fetch("instances_lock", key=_LOCK)
            others = await _living(transaction, token)
            if mqtt_client_id is not None:
                for other in others:
                    if other.mqtt_client_id == mqtt_client_id:
                        raise AlreadyExistsError("mqtt_client_id")
            taken = await transaction.fetch(
                "instance_take",
                token=token,
                mqtt_client_id=mqtt_client_id,
                lease=lease,
                maximum=MAXIMUM_INSTANCE,
            )
            if not taken:
                raise StoreUnavailableError(f"all {MAXIMUM_INSTANCE + 1} instances are taken")
            return Leased(taken[0][0], others)

        return await self._engine.change(work)

    async def renew(self, token: str, lease: int) -> Leased:
        """Renew the lease; what has run out is renewed too, unless another server has the number.

        Raises:
            StoreUnavailableError: the database is away.
        """

        async def work(transaction: Transaction) -> Leased:
            renewed = await transaction.fetch("instance_renew", token=token, lease=lease)
            others = await _living(transaction, token)
            return Leased(renewed[0][0] if renewed else None, others)

        return await self._engine.change(work)

    async def living(self) -> list[Living]:
        """Return the servers that live."""
        return [Living(*row) for row in await self._engine.fetch("instances_living", token="")]

    async def standing(self) -> list[Living]:
        """Return the servers that are there, and have not renewed their leases."""
        return await self._all(Living, "instances_standing")

    async def duties(self) -> list[Held]:
        """Return who has which duty; whoever has it may be gone."""
        return await self._all(Held, "duties_list")

    async def release(self, token: str, lease: int) -> None:
        """End the lease: the number rests from now on."""
        await self._write("instance_release", token=token, lease=lease)


async def _living(transaction: Transaction, token: str) -> list[Living]:
    return [Living(*row) for row in await transaction.fetch("instances_living", token=token)]

"""What networks and sensors say of how long their data is kept."""

from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.retention import Retention
from heliograph.model.sensor import Network
from heliograph.store.audit import Changes, audited_change, enter
from heliograph.store.engine import Subject, Transaction
from heliograph.store.sensors import lock_sensor

NO_RULES = Retention()


class KeptSensor(NamedTuple):
    """A sensor, and what counts for it of all that is said."""

    number: int
    identifier: str
    network_identifier: str
    retention: Retention


class Retentions(Subject):
    """What is said of each network and each sensor; None in a member: nothing."""

    async def of_network(self, network: str) -> Retention:
        """Return what is said of the network with this UUID."""
        found = await self._one(Retention, "network_retention_read", network=network)
        return found or NO_RULES

    async def of_networks(self) -> dict[str, Retention]:
        """Return what is said of networks by their UUID, of those of which anything is."""
        rows = await self._engine.fetch("network_retentions")
        return {network: Retention(*days) for network, *days in rows}

    async def of_sensor(self, number: int) -> Retention:
        """Return what is said of the sensor itself."""
        return await self._one(Retention, "sensor_retention_read", sensor=number) or NO_RULES

    async def set_network(
        self, network: str, *, actor: Actor = SYSTEM, **members: int | None
    ) -> Retention | None:
        """Change the members given (of `Retention`); None: there is no such network."""

        async def work(transaction: Transaction) -> Retention | None:
            if not await transaction.fetch("network_locked", identifier=network):
                return None
            found = await transaction.fetch("network_by_identifier", identifier=network)
            change = audited_change(AuditAction.NETWORK_CHANGE, Network(*found[0]))
            return await _set(transaction, actor, change, members, network=network)

        return await self._engine.change(work)

    async def set_sensor(
        self, number: int, *, actor: Actor = SYSTEM, **members: int | None
    ) -> Retention | None:
        """Change the members given (of `Retention`); None: there is no such sensor."""

        async def work(transaction: Transaction) -> Retention | None:
            found = await lock_sensor(transaction, number)
            if found is None:
                return None
            change = audited_change(AuditAction.SENSOR_CHANGE, found)
            return await _set(transaction, actor, change, members, sensor=number)

        return await self._engine.change(work)

    async def has_rules(self) -> bool:
        """Return whether any network or sensor has rules of its own."""
        return bool(await self._engine.fetch("retention_rules"))

    async def sensors(
        self,
        after: int,
        *,
        default: Retention,
        limit: int,
        network: str | None = None,
        by_network: bool = True,
    ) -> list[KeptSensor]:
        """Return sensors of which anything expires, with numbers above `after`, by number.

        Deleted ones too. `default` counts where nothing is said; all its members are given.
        Without `by_network` it counts in place of what networks say.
        """
        by_default = any(msgspec.structs.astuple(default))
        if not by_default and not await self.has_rules():
            return []
        return await self._all(
            _kept_sensor,
            "retention_sensors",
            after=after,
            network=network,
            limit=limit,
            by_network=by_network,
            by_default=by_default,
            **msgspec.structs.asdict(default),
        )


def _kept_sensor(number: int, identifier: str, network: str, *days: int) -> KeptSensor:
    return KeptSensor(number, identifier, network, Retention(*days))


async def _set(
    transaction: Transaction,
    actor: Actor,
    change: AuditedChange,
    members: dict[str, int | None],
    **key: Any,
) -> Retention:
    """Change what is said of the row with this key: a `network`, or a `sensor`."""
    table = f"{next(iter(key))}_retention"
    rows = await transaction.fetch(f"{table}_read", **key)
    before = Retention(*rows[0]) if rows else NO_RULES
    after = replace(before, **members)
    if after == NO_RULES:
        await transaction.fetch(f"{table}_clear", **key)
    else:
        await transaction.fetch(f"{table}_set", **key, **msgspec.structs.asdict(after))
    changes: Changes = {
        name: {"old": old, "new": new}
        for name in Retention.__struct_fields__
        if (old := getattr(before, name)) != (new := getattr(after, name))
    }
    if changes:
        await enter(transaction, actor, [replace(change, changes=changes)])
    return after

"""What networks and sensors say of how long their data is kept."""

from typing import Any, NamedTuple

import msgspec

from heliograph.model.audit import SYSTEM, Actor, AuditAction
from heliograph.model.retention import Retention
from heliograph.model.sensor import Network, Sensor
from heliograph.store.audit import Changes, audited_change, enter
from heliograph.store.engine import Engine, Transaction
from heliograph.store.sensors import sensor_of

NOTHING_SAID = Retention()


class KeptSensor(NamedTuple):
    """A sensor, and what counts for it of all that is said."""

    number: int
    identifier: str
    network_identifier: str
    retention: Retention


class Retentions:
    """What is said of each network and each sensor; None in a member: nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def of_network(self, network: str) -> Retention:
        """Return what is said of the network with this UUID."""
        rows = await self._engine.fetch("network_retention_read", network=network)
        return Retention(*rows[0]) if rows else NOTHING_SAID

    async def of_sensor(self, number: int) -> Retention:
        """Return what is said of the sensor itself."""
        rows = await self._engine.fetch("sensor_retention_read", sensor=number)
        return Retention(*rows[0]) if rows else NOTHING_SAID

    async def set_network(
        self, network: str, *, actor: Actor = SYSTEM, **members: int | None
    ) -> Retention | None:
        """Change the members given (of `Retention`); None: there is no such network."""
        async with self._engine.transaction() as transaction:
            if not await transaction.fetch("network_locked", identifier=network):
                return None
            found = await transaction.fetch("network_by_identifier", identifier=network)
            key = {"network": network}
            changed = _Changed(AuditAction.NETWORK_CHANGE, Network(*found[0]), key)
            return await _set(transaction, actor, changed, members)

    async def set_sensor(
        self, number: int, *, actor: Actor = SYSTEM, **members: int | None
    ) -> Retention | None:
        """Change the members given (of `Retention`); None: there is no such sensor."""
        async with self._engine.transaction() as transaction:
            found = await transaction.fetch("sensor_locked", number=number)
            if not found:
                return None
            key = {"sensor": number}
            changed = _Changed(AuditAction.SENSOR_CHANGE, sensor_of(found[0]), key)
            return await _set(transaction, actor, changed, members)

    async def is_anything_said(self) -> bool:
        """Return whether anything is said of any network or sensor."""
        return bool(await self._engine.fetch("retention_said"))

    async def sensors(
        self, after: int, *, default: Retention, limit: int, network: str | None = None
    ) -> list[KeptSensor]:
        """Return sensors with numbers above `after`, by number, also deleted ones.

        `default` counts where nothing is said; all its members are given.
        """
        rows = await self._engine.fetch(
            "retention_sensors",
            after=after,
            network=network,
            limit=limit,
            **msgspec.structs.asdict(default),
        )
        return [
            KeptSensor(number, identifier, network_identifier, Retention(*days))
            for number, identifier, network_identifier, *days in rows
        ]


class _Changed(NamedTuple):
    """What a rule is changed of: the record, and the key of its row."""

    action: AuditAction
    record: Network | Sensor
    key: dict[str, Any]


async def _set(
    transaction: Transaction, actor: Actor, changed: _Changed, members: dict[str, int | None]
) -> Retention:
    table = f"{next(iter(changed.key))}_retention"
    rows = await transaction.fetch(f"{table}_read", **changed.key)
    before = Retention(*rows[0]) if rows else NOTHING_SAID
    after = msgspec.structs.replace(before, **members)
    if after == NOTHING_SAID:
        await transaction.fetch(f"{table}_clear", **changed.key)
    else:
        await transaction.fetch(f"{table}_set", **changed.key, **msgspec.structs.asdict(after))
    changes: Changes = {
        name: {"old": old, "new": new}
        for name in Retention.__struct_fields__
        if (old := getattr(before, name)) != (new := getattr(after, name))
    }
    if changes:
        await enter(transaction, actor, [audited_change(changed.action, changed.record, changes)])
    return after

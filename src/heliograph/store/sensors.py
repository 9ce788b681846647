"""Sensors: the registry's records, and when each was last seen."""

from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.sensor import Sensor
from heliograph.store.engine import Engine, Row

CHANGEABLE = (
    "network_identifier",
    "device_id",
    "key_hash",
    "is_active",
    "name",
    "sensor_name",
    "serial_number",
    "manufacturer",
    "model",
    "modality",
)

_encode = msgspec.json.Encoder().encode


def _sensor(row: Row) -> Sensor:
    members = list(row)
    members[5] = bool(row[5])  # SQLite knows no booleans
    return Sensor(*members)


def _first(rows: Sequence[Row]) -> Sensor | None:
    return _sensor(rows[0]) if rows else None


class Sensors:
    """The sensors of all networks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, identifier: str) -> Sensor | None:
        """Return the sensor with this UUID (in any case) or `device_id`."""
        if is_uuid(identifier):
            rows = await self._engine.fetch("sensor_by_identifier", identifier=identifier.lower())
        elif is_device_id(identifier):
            rows = await self._engine.fetch("sensor_by_device_id", device_id=identifier)
        else:
            return None
        return _first(rows)

    async def find_number(self, number: int) -> Sensor | None:
        """Return the sensor with this internal number."""
        return _first(await self._engine.fetch("sensor_by_number", number=number))

    async def find_key(self, key_hash: bytes) -> Sensor | None:
        """Return the sensor whose API key has this hash."""
        return _first(await self._engine.fetch("sensor_by_key_hash", key_hash=key_hash))

    async def load(self, after: int, limit: int) -> list[Sensor]:
        """Return sensors with numbers above `after`, by number."""
        rows = await self._engine.fetch("sensors_load", after=after, limit=limit)
        return [_sensor(row) for row in rows]

    async def attributes(self, numbers: Sequence[int]) -> dict[int, set[str]]:
        """Return the names of the attributes that each of the sensors has ever measured."""
        attributes: dict[int, set[str]] = {}
        wanted = _encode(numbers).decode()
        for number, name in await self._engine.fetch("sensor_attributes", numbers=wanted):
            attributes.setdefault(number, set()).add(name)
        return attributes

    async def create(
        self,
        *,
        identifier: str,
        created_at: int,
        network_identifier: str | None = None,
        device_id: str | None = None,
        key_hash: bytes | None = None,
        name: str | None = None,
        sensor_name: str | None = None,
        serial_number: str | None = None,
        manufacturer: str | None = None,
        model: str | None = None,
        modality: str | None = None,
    ) -> Sensor:
        """Register a sensor, without a network in the one named `default`.

        Raises:
            AlreadyExistsError: the field's value is taken.
        """
        async with self._engine.transaction() as transaction:
            rows = await transaction.fetch(
                "sensor_create",
                identifier=identifier.lower(),
                network_identifier=network_identifier,
                device_id=device_id,
                key_hash=key_hash,
                name=name,
                sensor_name=sensor_name,
                serial_number=serial_number,
                manufacturer=manufacturer,
                model=model,
                modality=modality,
                created_at=created_at,
            )
        return _sensor(rows[0])

    async def change(self, number: int, **members: Any) -> Sensor | None:
        """Change the members given (of `CHANGEABLE`) and no others; None: no such sensor.

        Raises:
            AlreadyExistsError: the field's value is taken.
            TypeError: a member that can't be changed.
        """
        async with self._engine.transaction() as transaction:
            found = _first(await transaction.fetch("sensor_locked", number=number))
            if found is None or not members:
                return found
            wanted = {name: getattr(found, name) for name in CHANGEABLE}
            if unknown := members.keys() - wanted.keys():
                raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
            wanted.update(members)
            rows = await transaction.fetch("sensor_change", number=number, **wanted)
        return _first(rows)

    async def touch(self, rows: list[tuple[int, int, int | None]]) -> None:
        """Note (number, last seen, last measurement or None) of sensors; no time moves back."""
        if not rows:
            return
        async with self._engine.transaction() as transaction:
            await transaction.fetch("sensors_touch", rows=_encode(rows).decode())

    async def version(self) -> int:
        """Return a number that rises with every change of a sensor or network but `touch`."""
        rows = await self._engine.fetch("registry_version")
        version: int = rows[0][0]
        return version

    async def changed_since(self, version: int) -> list[Sensor]:
        """Return the sensors created or changed after the registry had this version."""
        rows = await self._engine.fetch("sensors_changed_since", version=version)
        return [_sensor(row) for row in rows]

    async def list(
        self,
        *,
        network_identifier: str | None,
        offset: int,
        limit: int,
        only_devices: bool = False,
    ) -> tuple[list[Sensor], int]:
        """Return a page of sensors in the order of their creation, and how many there are."""
        which = {"network_identifier": network_identifier, "only_devices": only_devices}
        rows = await self._engine.fetch("sensors_list", **which, offset=offset, limit=limit)
        counted = await self._engine.fetch("sensors_count", **which)
        return [_sensor(row) for row in rows], counted[0][0]

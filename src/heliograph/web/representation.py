"""A sensor as the interface shows it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.access.registry import Registry
from heliograph.model.number_text import is_number_text
from heliograph.model.presence import is_late, presence
from heliograph.model.sensor import Node, Sensor
from heliograph.model.time import MINUTE, SECOND, now, to_rfc3339
from heliograph.web.services import Services

# By so much another instance's clock may be ahead.
CLOCKS_DIFFER = MINUTE


async def representations(sensors: Sequence[Sensor], services: Services) -> list[dict[str, Any]]:
    """Return the members of each of the sensors."""
    revisions = await services.store.sensors.revisions([sensor.number for sensor in sensors])
    return [representation(s, revisions.get(s.number), services.registry) for s in sensors]


async def full_representation(sensor: Sensor, services: Services) -> dict[str, Any]:
    """Return the members of one sensor: of those, too, that ask its newest values."""
    (shown,) = await representations([sensor], services)
    known = await services.registry.find_number(sensor.number)
    newest = [] if known is None else await services.latest.read(known)
    shown["text_attributes"] = [each.name for each in newest if is_number_text(each.value)]
    return shown


def new_representation(sensor: Sensor, revision: int | None, registry: Registry) -> dict[str, Any]:
    """Return the members of one that was just registered, and has measured nothing."""
    return {**representation(sensor, revision, registry), "text_attributes": []}


def representation(sensor: Sensor, revision: int | None, registry: Registry) -> dict[str, Any]:
    """Return the sensor's members; `revision` is its newest configuration's."""
    moment = now()
    seen, measured = _past(sensor.last_seen_at, moment), _past(sensor.last_measurement_at, moment)
    if known := registry.number(sensor.number):
        # What memory knows is written only now and then.
        seen = max(seen or 0, known.seen_at) or None
        measured = max(measured or 0, known.measured_at or 0) or None
    connected, changed = presence(as_of_now(sensor, registry))
    since = _past(changed, moment)
    interval = sensor.expected_interval
    return {
        "sensor_identifier": sensor.identifier,
        "id": sensor.identifier,
        "revision": revision,
        "sensor_name": sensor.sensor_name,
        "name": sensor.name,
        "network_identifier": sensor.network_identifier,
        "serial_number": sensor.serial_number,
        "manufacturer": sensor.manufacturer,
        "model": sensor.model,
        "modality": sensor.modality,
        "node_id": sensor.node_identifier,
        "device_id": sensor.device_id,
        "is_active": sensor.is_active,
        "created_at": to_rfc3339(sensor.created_at),
        "last_seen_at": to_rfc3339(seen) if seen else None,
        "last_measurement_at": to_rfc3339(measured) if measured else None,
        "connected": connected,
        "connected_changed_at": to_rfc3339(since) if since else None,
        "late": is_late(sensor, seen, moment),
        "expected_interval": None if interval is None else interval / SECOND,
    }


def _past(time: int | None, moment: int) -> int | None:
    """Return the time, unless it is one that only a clock that was ahead can have told."""
    return None if time is not None and time > moment + CLOCKS_DIFFER else time


def as_of_now(sensor: Sensor, registry: Registry) -> Sensor:
    """Return the record with what memory knows of its connections, which is written later."""
    known = registry.connected.find(sensor.number)
    if known is None:
        return sensor
    live, moment = known
    return msgspec.structs.replace(
        sensor, connection_open=live, connection_at=moment or sensor.connection_at
    )


def node_representation(node: Node) -> dict[str, Any]:
    """Return the node's members."""
    return {
        "node_identifier": node.identifier,
        "id": node.identifier,
        "network_identifier": node.network_identifier,
        "serial_number": node.serial_number,
        "firmware_version": node.firmware_version,
        "name": node.name,
        "created_at": to_rfc3339(node.created_at),
    }

"""A sensor as the interface shows it."""

from typing import Any

from heliograph.ingest.registry import Registry
from heliograph.model.sensor import Sensor
from heliograph.model.time import to_rfc3339


def representation(sensor: Sensor, revision: int | None, registry: Registry) -> dict[str, Any]:
    """Return the sensor's members; `revision` is its newest configuration's."""
    seen, measured = sensor.last_seen_at, sensor.last_measurement_at
    if known := registry.number(sensor.number):
        # What memory knows is written only now and then.
        seen = max(seen or 0, known.seen_at) or None
        measured = max(measured or 0, known.measured_at or 0) or None
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
        "node_id": None,
        "device_id": sensor.device_id,
        "is_active": sensor.is_active,
        "created_at": to_rfc3339(sensor.created_at),
        "last_seen_at": to_rfc3339(seen) if seen else None,
        "last_measurement_at": to_rfc3339(measured) if measured else None,
        "connected": {"online": True, "offline": False}.get(sensor.status or ""),
        "late": None,
    }

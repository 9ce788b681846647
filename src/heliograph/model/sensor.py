"""Sensors, and the networks that they belong to."""

import msgspec


class Network(msgspec.Struct, frozen=True):
    """A group of sensors."""

    identifier: str
    name: str
    created_at: int


class Sensor(msgspec.Struct, frozen=True):
    """Anything that sends telemetry; a device is a sensor seen by its credentials.

    `number` is the small integer that telemetry rows carry; outside, a sensor is its
    `identifier` (a UUID) or its `device_id`. Times are microseconds.
    """

    number: int
    identifier: str
    network_identifier: str
    device_id: str | None = None
    key_hash: bytes | None = None
    is_active: bool = True
    name: str | None = None
    sensor_name: str | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    modality: str | None = None
    created_at: int = 0
    last_seen_at: int | None = None
    last_measurement_at: int | None = None
    status: str | None = None
    status_at: int | None = None


class Configuration(msgspec.Struct, frozen=True):
    """A revision of a sensor's desired state; `configuration` is JSON text."""

    revision: int
    configuration: msgspec.Raw
    created_at: int

"""Sensors, the nodes that carry them, and the networks that both belong to."""

from collections.abc import Collection, Mapping

import msgspec

# Of names, serial numbers and the like, in characters.
LONGEST_TEXT = 255
MOST_TAGS = 32
LONGEST_TAG = 64
# Of attributes with labels, and of the texts in a label.
MOST_LABELS = 128
LONGEST_UNIT = 32
LONGEST_DISPLAY_NAME = 128
# Of what is expected of a sensor, in seconds.
SHORTEST_INTERVAL = 0.001
LONGEST_INTERVAL = 100 * 366 * 86_400


def tags_fault(tags: Collection[str]) -> str | None:
    """Return what is wrong with the tags of one sensor; None: nothing."""
    if len(tags) > MOST_TAGS:
        return f"are more than {MOST_TAGS}"
    if any(not 0 < len(tag) <= LONGEST_TAG or tag != tag.strip() or "\0" in tag for tag in tags):
        return f"have 1 to {LONGEST_TAG} characters each, without white space around"
    return None


class Network(msgspec.Struct, frozen=True):
    """A group of sensors; `shared_keys`: whether those of DEVICE_API_KEYS send and read in it.

    `packing`: whether what its sensors have measured may be packed.
    """

    identifier: str
    name: str
    created_at: int
    shared_keys: bool = False
    packing: bool = True


class AttributeLabel(msgspec.Struct, frozen=True):
    """How people read an attribute: in which unit it is, and what they call it."""

    unit: str | None = None
    display_name: str | None = None


class Sensor(msgspec.Struct, frozen=True):
    """Anything that sends telemetry; a device is a sensor seen by its credentials.

    `number` is the small integer that telemetry rows carry; outside, a sensor is its
    `identifier` (a UUID) or its `device_id`. Times are microseconds. A sensor with `deleted_at`
    was deleted while its data was kept.

    `status` is what `status/<sensor>` said last (at `status_at`, the same since `status_since`),
    `connection_open` whether the sensor itself is connected to the listener, `connection_at` since
    when; see `presence`.

    `tags` are sorted, each once. `latitude` and `longitude` are degrees (WGS 84), `place` says
    where that is. `packing`: whether what it has measured may be packed.
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
    node_identifier: str | None = None
    expected_interval: int | None = None
    deleted_at: int | None = None
    status_since: int | None = None
    status_by_broker: bool = False
    connection_open: bool = False
    connection_at: int | None = None
    tags: tuple[str, ...] = ()
    attribute_labels: Mapping[str, AttributeLabel] = msgspec.field(default_factory=dict)
    latitude: float | None = None
    longitude: float | None = None
    place: str | None = None
    packing: bool = True


class NewSensor(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor is registered with; without a network it is the one named `default`.

    `broker_password` is the form of its key that brokers are told (`key_members` has both).
    `configuration` is the JSON text of revision 0, by `author`; None: there is no revision.
    """

    identifier: str
    created_at: int
    network_identifier: str | None = None
    device_id: str | None = None
    key_hash: bytes | None = None
    broker_password: str | None = None
    name: str | None = None
    sensor_name: str | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    modality: str | None = None
    node_identifier: str | None = None
    expected_interval: int | None = None
    tags: tuple[str, ...] = ()
    attribute_labels: Mapping[str, AttributeLabel] = msgspec.field(default_factory=dict)
    latitude: float | None = None
    longitude: float | None = None
    place: str | None = None
    packing: bool = True
    configuration: str | None = None
    author: str | None = None


class Node(msgspec.Struct, frozen=True):
    """A hardware unit that carries sensors of its own network."""

    number: int
    identifier: str
    network_identifier: str
    serial_number: str | None
    firmware_version: str | None
    name: str | None
    created_at: int


class Configuration(msgspec.Struct, frozen=True):
    """A revision of a sensor's desired state; `configuration` is JSON text."""

    revision: int
    configuration: msgspec.Raw
    created_at: int

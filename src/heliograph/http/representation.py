"""Sensors and nodes as the interface shows them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import msgspec

from heliograph.access.registry import Registry
from heliograph.http.records import Representation
from heliograph.http.services import Services
from heliograph.model.configuration import ConfigurationState, NewestRevision
from heliograph.model.number_text import is_number_text
from heliograph.model.presence import is_late, presence
from heliograph.model.sensor import AttributeLabel, Node, Sensor
from heliograph.model.time import MINUTE, SECOND, now, to_rfc3339

# By so much another instance's clock may be ahead.
CLOCKS_DIFFER = MINUTE


class LabelRepresentation(Representation):
    """How people read an attribute."""

    unit: Annotated[str | None, "The unit that it is sent in: °C, say"]
    display_name: Annotated[str | None, "What people call it"]


class SensorRepresentation(Representation):
    """A sensor; a device is the same, seen by its credentials."""

    sensor_identifier: Annotated[str, "Its UUID"]
    id: Annotated[str, "The same as `sensor_identifier`"]
    revision: Annotated[
        int | None, "The number of its newest configuration, from 0; null: it has none"
    ]
    configuration_state: Annotated[
        ConfigurationState | None, "How far this revision has come; null: it has none"
    ]
    sensor_name: Annotated[str | None, "Its name, unique in the network"]
    name: Annotated[str | None, "What people call it, any text"]
    network_identifier: Annotated[str, "The UUID of its network"]
    serial_number: Annotated[str | None, "Its serial number, unique in the network"]
    manufacturer: Annotated[str | None, "Who made it"]
    model: Annotated[str | None, "What the manufacturer calls it"]
    modality: Annotated[str | None, "What it measures: temperature, say"]
    node_id: Annotated[str | None, "The UUID of the node that carries it"]
    device_id: Annotated[str | None, "The name that it logs in with, unique in the whole server"]
    is_active: Annotated[bool, "Whether it may send and receive; a deleted one may not"]
    has_key: Annotated[
        bool, "Whether it has a key of its own, which is refused while it may not send"
    ]
    created_at: Annotated[str, "When it was registered (RFC 3339, UTC)"]
    last_seen_at: Annotated[
        str | None, "When anything came from it last, by the server's clock (RFC 3339, UTC)"
    ]
    last_measurement_at: Annotated[
        str | None, "When a measurement came from it last, by the server's clock (RFC 3339, UTC)"
    ]
    connected: Annotated[
        bool | None,
        "Whether it has a connection over MQTT of its own, or has said so; null: nothing has"
        " told, as of one that sends through a gateway or over HTTP",
    ]
    connected_changed_at: Annotated[str | None, "When `connected` has changed last (RFC 3339, UTC)"]
    late: Annotated[
        bool | None,
        "Whether it has been silent for longer than `expected_interval`; null: nothing is"
        " expected of it",
    ]
    expected_interval: Annotated[
        float | None, "Seconds of silence after which it is late; null: nothing is expected of it"
    ]
    tags: Annotated[list[str], "What it is filtered by, sorted"]
    attributes: Annotated[
        dict[str, LabelRepresentation],
        "The units and names of its attributes, as far as they are said",
    ]
    latitude: Annotated[float | None, "Degrees north (WGS 84)"]
    longitude: Annotated[float | None, "Degrees east (WGS 84)"]
    place: Annotated[str | None, "Where it is, in words"]
    packing: Annotated[bool, "Whether its old measurements may be packed, where its network's may"]


class FullSensor(SensorRepresentation):
    """A sensor with what its newest values tell."""

    text_attributes: Annotated[
        list[str],
        'Attributes whose newest value is a number in quotation marks, such as `"22.5"`: they'
        " have no aggregates",
    ]


class CreatedDevice(FullSensor):
    """A new device with its key, which is shown this once."""

    api_key: Annotated[str, "Its key, for `X-API-Key` or as its MQTT password"]

    @classmethod
    def of(cls, device: FullSensor, key: str) -> Self:
        """Return the device with its key."""
        return cls(**msgspec.structs.asdict(device), api_key=key)


class NodeRepresentation(Representation):
    """A hardware unit that carries sensors of its own network."""

    node_identifier: Annotated[str, "Its UUID"]
    id: Annotated[str, "The same as `node_identifier`"]
    network_identifier: Annotated[str, "The UUID of its network"]
    serial_number: Annotated[str | None, "Its serial number, unique in the network"]
    firmware_version: Annotated[str | None, "What runs on it"]
    name: Annotated[str | None, "What people call it, any text"]
    created_at: Annotated[str, "When it was registered (RFC 3339, UTC)"]

    @classmethod
    def of(cls, node: Node) -> Self:
        """Return the node as it is shown."""
        return cls(
            node.identifier,
            node.identifier,
            node.network_identifier,
            node.serial_number,
            node.firmware_version,
            node.name,
            to_rfc3339(node.created_at),
        )


class FullNode(NodeRepresentation):
    """A node with the sensors that it carries."""

    sensors: Annotated[list[SensorRepresentation], "Its sensors, in the order of their creation"]


async def representations(
    sensors: Sequence[Sensor], services: Services
) -> list[SensorRepresentation]:
    """Return each of the sensors as lists show it."""
    revisions = await services.store.sensors.revisions([sensor.number for sensor in sensors])
    return [representation(s, revisions.get(s.number), services.registry) for s in sensors]


async def full_representation(sensor: Sensor, services: Services) -> FullSensor:
    """Return one sensor with what its newest values show."""
    (shown,) = await representations([sensor], services)
    known = await services.registry.find_number(sensor.number)
    newest = [] if known is None else await services.latest.read(known)
    texts = [each.name for each in newest if is_number_text(each.value)]
    return FullSensor(**msgspec.structs.asdict(shown), text_attributes=texts)


def new_representation(
    sensor: Sensor, registry: Registry, *, is_configured: bool = False
) -> FullSensor:
    """Return a sensor that was just registered, and has measured nothing."""
    newest = NewestRevision(0, ConfigurationState.PENDING) if is_configured else None
    shown = representation(sensor, newest, registry)
    return FullSensor(**msgspec.structs.asdict(shown), text_attributes=[])


def representation(
    sensor: Sensor, newest: NewestRevision | None, registry: Registry
) -> SensorRepresentation:
    """Return the sensor as it is shown; `newest` is its newest configuration's."""
    moment = now()
    seen, measured = _past(sensor.last_seen_at, moment), _past(sensor.last_measurement_at, moment)
    if known := registry.number(sensor.number):
        # What memory knows is written only now and then.
        seen = max(seen or 0, known.seen_at) or None
        measured = max(measured or 0, known.measured_at or 0) or None
    connected, changed = presence(as_of_now(sensor, registry))
    since = _past(changed, moment)
    interval = sensor.expected_interval
    return SensorRepresentation(
        sensor_identifier=sensor.identifier,
        id=sensor.identifier,
        revision=newest and newest.revision,
        configuration_state=newest and newest.state,
        sensor_name=sensor.sensor_name,
        name=sensor.name,
        network_identifier=sensor.network_identifier,
        serial_number=sensor.serial_number,
        manufacturer=sensor.manufacturer,
        model=sensor.model,
        modality=sensor.modality,
        node_id=sensor.node_identifier,
        device_id=sensor.device_id,
        is_active=sensor.is_active,
        has_key=sensor.key_hash is not None,
        created_at=to_rfc3339(sensor.created_at),
        last_seen_at=to_rfc3339(seen) if seen else None,
        last_measurement_at=to_rfc3339(measured) if measured else None,
        connected=connected,
        connected_changed_at=to_rfc3339(since) if since else None,
        late=is_late(sensor, seen, moment),
        expected_interval=None if interval is None else interval / SECOND,
        tags=list(sensor.tags),
        attributes=shown_labels(sensor.attribute_labels),
        latitude=sensor.latitude,
        longitude=sensor.longitude,
        place=sensor.place,
        packing=sensor.packing,
    )


def shown_labels(labels: Mapping[str, AttributeLabel]) -> dict[str, LabelRepresentation]:
    """Return the labels of attributes as they are shown."""
    return {
        name: LabelRepresentation(each.unit, each.display_name) for name, each in labels.items()
    }


def _past(time: int | None, moment: int) -> int | None:
    """Return the time; None if it is ahead of the clock, which was set back since."""
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

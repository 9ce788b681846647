"""The shapes that OpenAPI tells of, and the parameters that several routes take."""

import math
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from heliograph.ingest.json_checks import find_flaw
from heliograph.model.identifiers import DEVICE_ID_RULE, is_device_id, may_name_a_device
from heliograph.model.sensor import LONGEST_INTERVAL, LONGEST_TEXT, SHORTEST_INTERVAL
from heliograph.model.time import SECOND, parse

HIGHEST_OFFSET = 1_000_000_000

_TIME_SCHEMA = {
    "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
    "description": "Epoch seconds, or RFC 3339",
}


def _time(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("not a time")  # noqa: TRY004 - pydantic reports only this as invalid
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{error}; epoch seconds are taken too") from None


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain a lone surrogate")
    return text


def _interval(value: Any) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a number of seconds")  # noqa: TRY004 - as above
    if not SHORTEST_INTERVAL <= value <= LONGEST_INTERVAL:
        raise ValueError(f"must be {SHORTEST_INTERVAL} to {LONGEST_INTERVAL} seconds")
    return round(value * SECOND)


def _json(value: Any) -> Any:
    if flaw := find_flaw(value, "the value", 0):
        raise ValueError(flaw.fault.detail)
    _check_numbers(value)
    return value


def _check_numbers(value: Any) -> None:
    # What Python's reader takes beyond JSON and 64 bits.
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("an integer is beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            _check_numbers(member)


def _device_id(text: str) -> str:
    if not is_device_id(text):
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 _ - and not a UUID")
    return text


def _new_device_id(text: str) -> str:
    if not may_name_a_device(text):
        raise ValueError(f"must be {DEVICE_ID_RULE}")
    return text


Time = Annotated[int, BeforeValidator(_time), WithJsonSchema(_TIME_SCHEMA)]
Storable = AfterValidator(_storable)
Text = Annotated[str, Field(max_length=LONGEST_TEXT), Storable]
DeviceId = Annotated[
    str,
    AfterValidator(_device_id),
    Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"}),
]
NewDeviceId = Annotated[
    str,
    AfterValidator(_new_device_id),
    Field(json_schema_extra={"pattern": "^(?![Kk][Ee][Yy]-)[A-Za-z0-9_-]{1,64}$"}),
]
# Seconds in bodies, microseconds from there on.
Interval = Annotated[
    int,
    BeforeValidator(_interval),
    WithJsonSchema(
        {
            "type": "number",
            "minimum": SHORTEST_INTERVAL,
            "maximum": LONGEST_INTERVAL,
            "description": "Seconds of silence after which the sensor is late",
        }
    ),
]
JsonValue = Annotated[Any, AfterValidator(_json)]
Start = Annotated[
    Time | None, Query(description="From when on, inclusive: epoch seconds or RFC 3339")
]
End = Annotated[Time | None, Query(description="Up to when, exclusive: epoch seconds or RFC 3339")]
OfNetwork = Annotated[Text | None, Query(description="Only of this network, by its UUID")]
Offset = Annotated[int, Query(ge=0, le=HIGHEST_OFFSET, description="How many entries to pass over")]
ListLimit = Annotated[int, Query(ge=1, le=10_000, description="How many entries at most")]
PageLimit = Annotated[int, Query(ge=1, le=1_000, description="How many entries at most")]


class SensorRepresentation(BaseModel):
    """A sensor; a device is the same, seen by its credentials."""

    sensor_identifier: str = Field(description="Its UUID")
    id: str = Field(description="The same as `sensor_identifier`")
    revision: int | None = Field(
        description="The number of its newest configuration, from 0; null: it has none"
    )
    sensor_name: str | None = Field(description="Its name, unique in the network")
    name: str | None = Field(description="What people call it, any text")
    network_identifier: str = Field(description="The UUID of its network")
    serial_number: str | None = Field(description="Its serial number, unique in the network")
    manufacturer: str | None = Field(description="Who made it")
    model: str | None = Field(description="What the manufacturer calls it")
    modality: str | None = Field(description="What it measures: temperature, say")
    node_id: str | None = Field(description="The UUID of the node that carries it")
    device_id: str | None = Field(
        description="The name that it logs in with, unique in the whole server"
    )
    is_active: bool = Field(description="Whether it may send and receive; a deleted one may not")
    created_at: str = Field(description="When it was registered (RFC 3339, UTC)")
    last_seen_at: str | None = Field(
        description="When anything came from it last, by the server's clock (RFC 3339, UTC)"
    )
    last_measurement_at: str | None = Field(
        description="When a measurement came from it last, by the server's clock (RFC 3339, UTC)"
    )
    connected: bool | None = Field(
        description="Whether it is connected over MQTT; null: it never said"
    )
    connected_changed_at: str | None = Field(
        description="When `connected` has changed last (RFC 3339, UTC)"
    )
    late: bool | None = Field(
        description=(
            "Whether it has been silent for longer than `expected_interval`; null: nothing is"
            " expected of it"
        )
    )
    expected_interval: float | None = Field(
        description="Seconds of silence after which it is late; null: nothing is expected of it"
    )


class FullSensor(SensorRepresentation):
    """A sensor with what its newest values tell."""

    text_attributes: list[str] = Field(
        description=(
            'Attributes whose newest value is a number in quotation marks, such as `"22.5"`: they'
            " have no aggregates"
        )
    )


class CreatedDevice(FullSensor):
    """A new device with its key, which is shown this once."""

    api_key: str = Field(description="Its key, for `X-API-Key` or as its MQTT password")


class NodeRepresentation(BaseModel):
    """A hardware unit that carries sensors of its own network."""

    node_identifier: str = Field(description="Its UUID")
    id: str = Field(description="The same as `node_identifier`")
    network_identifier: str = Field(description="The UUID of its network")
    serial_number: str | None = Field(description="Its serial number, unique in the network")
    firmware_version: str | None = Field(description="What runs on it")
    name: str | None = Field(description="What people call it, any text")
    created_at: str = Field(description="When it was registered (RFC 3339, UTC)")


class FullNode(NodeRepresentation):
    """A node with the sensors that it carries."""

    sensors: list[SensorRepresentation] = Field(
        description="Its sensors, in the order of their creation"
    )


class NewKey(BaseModel):
    """A device's new key, which is shown this once; the old one has ended."""

    api_key: str = Field(description="The key, for `X-API-Key` or as its MQTT password")


class LoggedIn(BaseModel):
    """A session's token, shown only here, and whose it is."""

    access_token: str = Field(description="For `Authorization: Bearer …`, until the session ends")
    user_identifier: str = Field(description="The account's UUID")


class UserRepresentation(BaseModel):
    """An account."""

    user_identifier: str = Field(description="Its UUID")
    username: str = Field(description="The name to log in with")
    is_admin: bool = Field(description="Whether it may do everything")
    created_at: str = Field(description="When it was made (RFC 3339, UTC)")


class NewTicket(BaseModel):
    """What an EventSource or a WebSocket carries in its URL."""

    ticket: str = Field(description="For `?ticket=…`, once")
    expires_in: int = Field(description="For how many seconds it can be used")


class NetworkRepresentation(BaseModel):
    """A network, and what the caller may do in it."""

    network_identifier: str = Field(description="Its UUID")
    network_name: str = Field(description="Its name, unique in the whole server")
    created_at: str = Field(description="When it was made (RFC 3339, UTC)")
    role: str | None = Field(description="The caller's own: `viewer`, `editor` or `owner`")
    shared_keys: bool = Field(description="Whether keys of DEVICE_API_KEYS send and read here")


class MemberRepresentation(BaseModel):
    """A member of a network."""

    username: str = Field(description="The name of the member's account")
    user_identifier: str = Field(description="Its UUID")
    role: str = Field(description="`viewer` reads, `editor` also configures, `owner` also manages")


class AuditedMember(BaseModel):
    """What a member was and became; neither where it is a secret."""

    old: Any = Field(None, description="What it was; null: nothing, or not told")
    new: Any = Field(None, description="What it became; null: nothing, or not told")


class AuditRepresentation(BaseModel):
    """Who did what to which resource, when."""

    id: str = Field(description="What the server calls the entry")
    timestamp: str = Field(description="When it was done (RFC 3339, UTC)")
    actor_kind: str = Field(
        description=(
            "What did it: `user`, `admin_key`, `device`, `shared_key`, `anonymous`,"
            " `command_line` or `system`"
        )
    )
    actor: str = Field(description="Who did it: a user name, a `device_id`, `admin`, …")
    address: str | None = Field(description="The IP address it was done from")
    action: str = Field(description="What was done: the kind of resource, a dot, a verb")
    resource_kind: str = Field(description="What it was done to")
    resource_identifier: str | None = Field(description="Its identifier")
    resource_name: str | None = Field(description="Its name at that time")
    network_identifier: str | None = Field(description="The UUID of the network that it is in")
    changes: dict[str, AuditedMember] = Field(description="What has changed, by member")

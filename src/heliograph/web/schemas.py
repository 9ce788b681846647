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
    return parse(value)


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
Offset = Annotated[int, Query(ge=0, le=HIGHEST_OFFSET)]
ListLimit = Annotated[int, Query(ge=1, le=10_000)]
PageLimit = Annotated[int, Query(ge=1, le=1_000)]


class Problem(BaseModel):
    """What is wrong with one part of a request."""

    loc: list[str | int]
    type: str
    msg: str


class ErrorAnswer(BaseModel):
    """Every error: a sentence (for validation a list of problems), and a code."""

    detail: str | list[Problem]
    code: str


class SensorRepresentation(BaseModel):
    """A sensor; a device is the same, seen by its credentials."""

    sensor_identifier: str
    id: str
    revision: int | None
    sensor_name: str | None
    name: str | None
    network_identifier: str
    serial_number: str | None
    manufacturer: str | None
    model: str | None
    modality: str | None
    node_id: str | None
    device_id: str | None
    is_active: bool
    created_at: str
    last_seen_at: str | None
    last_measurement_at: str | None
    connected: bool | None
    connected_changed_at: str | None
    late: bool | None
    expected_interval: float | None


class CreatedDevice(SensorRepresentation):
    """A new device with its key, which is shown this once."""

    api_key: str


class NodeRepresentation(BaseModel):
    """A hardware unit that carries sensors of its own network."""

    node_identifier: str
    id: str
    network_identifier: str
    serial_number: str | None
    firmware_version: str | None
    name: str | None
    created_at: str


class FullNode(NodeRepresentation):
    """A node with the sensors that it carries."""

    sensors: list[SensorRepresentation]


class NewKey(BaseModel):
    """A device's new key, which is shown this once; the old one has ended."""

    api_key: str


class MeasurementEntry(BaseModel):
    """A measurement; times are epoch seconds."""

    revision: int | None
    creation_timestamp: float
    measurement: Any


class LogEntry(BaseModel):
    """A log message; times are epoch seconds."""

    revision: int | None
    creation_timestamp: float
    severity: str
    subject: str
    details: str | None


class HeartbeatEntry(BaseModel):
    """A sign of life, and whether a revision was applied; times are epoch seconds.

    `details` are the members that have no other place. `flagged`: there was no such revision
    when it came, so that it acknowledges nothing.
    """

    revision: int | None
    creation_timestamp: float
    receipt_timestamp: float
    success: bool | None
    details: dict[str, Any] | None
    flagged: bool


class HistoryEntry(BaseModel):
    """A reading; times are RFC 3339 in UTC."""

    id: str
    device_id: str
    timestamp: str
    revision: int | None
    metrics: dict[str, Any]


class LatestValue(BaseModel):
    """The newest value of an attribute, and when it was measured (RFC 3339)."""

    value: Any
    timestamp: str


class Latest(BaseModel):
    """The newest value of each attribute, by name; nested ones as dotted paths."""

    sensor_identifier: str
    device_id: str | None
    attributes: dict[str, LatestValue]


class AggregateBucket(BaseModel):
    """The functions asked for over a bucket; null where there is nothing to say.

    `start` is RFC 3339 with the zone's offset.
    """

    start: str
    avg: float | None = None
    min: float | None = None
    max: float | None = None
    sum: float | None = None
    count: int | None = None
    last: float | None = None


class MetricAggregate(BaseModel):
    """An attribute's numbers over a range; `avg` is null where they add up beyond 64 bits."""

    min: float
    max: float
    avg: float | None
    count: int


class DeviceAggregate(BaseModel):
    """A device's readings over a range, and the numbers of each attribute."""

    device_id: str
    start: str
    end: str
    count: int
    metrics: dict[str, MetricAggregate]


class LogAggregateEntry(BaseModel):
    """How often a sensor logged a subject; times are epoch seconds."""

    sensor_identifier: str
    severity: str
    subject: str
    min_revision: int | None
    max_revision: int | None
    min_creation_timestamp: float
    max_creation_timestamp: float
    count: int


class LoggedIn(BaseModel):
    """A session's token, shown only here, and whose it is."""

    access_token: str
    user_identifier: str


class UserRepresentation(BaseModel):
    """An account."""

    user_identifier: str
    username: str
    is_admin: bool
    created_at: str


class NewTicket(BaseModel):
    """What an EventSource or a WebSocket carries in its URL; it lasts for so many seconds."""

    ticket: str
    expires_in: int


class NetworkRepresentation(BaseModel):
    """A network, and what the caller may do in it."""

    network_identifier: str
    network_name: str
    created_at: str
    role: str | None
    shared_keys: bool


class MemberRepresentation(BaseModel):
    """A member of a network: viewer, editor or owner."""

    username: str
    user_identifier: str
    role: str


class AuditedMember(BaseModel):
    """What a member was and became; neither where it is a secret."""

    old: Any = None
    new: Any = None


class AuditRepresentation(BaseModel):
    """Who did what to which resource, when."""

    id: str
    timestamp: str
    actor_kind: str
    actor: str
    address: str | None
    action: str
    resource_kind: str
    resource_identifier: str | None
    resource_name: str | None
    network_identifier: str | None
    changes: dict[str, AuditedMember]


class StoredReading(BaseModel):
    """A reading that is committed; a repeat has the id of the first."""

    id: str
    device_id: str
    timestamp: str


class RejectedElement(BaseModel):
    """An element that could not be stored, and why."""

    index: int
    code: str
    detail: str


class StoredBatch(BaseModel):
    """What became of a batch: the three add up to its elements."""

    accepted: int
    duplicates: int
    rejected: list[RejectedElement]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's entries for the errors that a route may answer."""
    every = sorted({*statuses, 408, 429, 500, 503})
    return {
        status: {"model": ErrorAnswer, "description": _DESCRIPTIONS[status]} for status in every
    }


_DESCRIPTIONS = {
    400: "Malformed JSON, or a serial number in use",
    401: "A missing or unknown credential",
    403: "A known credential that does not allow this",
    404: "Not found, or not for this caller",
    408: "The body did not arrive in time",
    409: "In use",
    413: "Too large",
    415: "Not JSON",
    422: "Validation failed",
    429: "Too many requests; see Retry-After",
    500: "A defect of the server",
    503: "Not now; see Retry-After",
}

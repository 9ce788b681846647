"""The shapes that OpenAPI tells of, and the parameters that several routes take."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from heliograph.model.identifiers import is_device_id
from heliograph.model.time import parse

LONGEST_TEXT = 255
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


def _device_id(text: str) -> str:
    if not is_device_id(text):
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 _ - and not a UUID")
    return text


Time = Annotated[int, BeforeValidator(_time), WithJsonSchema(_TIME_SCHEMA)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_storable)]
DeviceId = Annotated[
    str,
    AfterValidator(_device_id),
    Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"}),
]
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
    late: bool | None


class CreatedDevice(SensorRepresentation):
    """A new device with its key, which is shown this once."""

    api_key: str


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


class HistoryEntry(BaseModel):
    """A reading; times are RFC 3339 in UTC."""

    id: str
    device_id: str
    timestamp: str
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

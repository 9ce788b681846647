"""The types of parameters and members that several routes take, with their schemas."""

import math
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from heliograph.ingest.strict_json import find_flaw
from heliograph.model.identifiers import DEVICE_ID_RULE, is_device_id, may_name_a_device
from heliograph.model.sensor import (
    LONGEST_INTERVAL,
    LONGEST_TAG,
    LONGEST_TEXT,
    MOST_TAGS,
    SHORTEST_INTERVAL,
)
from heliograph.model.time import SECOND, parse

HIGHEST_OFFSET = 1_000_000_000

_TIME_SCHEMA = {
    "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
    "description": "Epoch seconds, or RFC 3339",
}


def _time(value: Any) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
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


def _tag(text: str) -> str:
    if text != text.strip():
        raise ValueError("must not begin or end with white space")
    return text


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
Tag = Annotated[str, Field(min_length=1, max_length=LONGEST_TAG), Storable, AfterValidator(_tag)]
Tags = Annotated[list[Tag], Field(max_length=MOST_TAGS)]
Latitude = Annotated[float, Field(strict=True, ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180, allow_inf_nan=False)]
DeviceId = Annotated[
    str, AfterValidator(_device_id), Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,64}$"})
]
NewDeviceId = Annotated[
    str,
    AfterValidator(_new_device_id),
    Field(json_schema_extra={"pattern": "^(?![Kk][Ee][Yy]-)[A-Za-z0-9_-]{1,64}$"}),
]
NewIdentifier = Annotated[
    UUID | None, Field(description="The UUID that it is to have; by default a new one")
]
InNetwork = Annotated[
    Text | None,
    Field(description="The UUID of its network; by default that of the network `default`"),
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

"""Records as the interface shows them: one definition each, for the JSON and for OpenAPI.

A member is described beside its type: `name: Annotated[str, "What people call it"]`.
"""

import functools
import inspect
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

REFERENCE = "#/components/schemas/{name}"
BINARY = {"type": "string", "format": "binary"}
# What answers have been described by.
_shown: list[Any] = []
# An object, whose JSON goes out as it is stored.
JsonObject = Annotated[
    msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object", "additionalProperties": True})
]
REVISION = "The revision of its configuration that it named, from 0; null: none"


class Representation(msgspec.Struct):
    """What an answer says of one thing."""


class Problem(Representation):
    """What is wrong with one part of a request."""

    loc: Annotated[
        list[str | int], "Where: `body`, `query`, `path` or `header`, then names and indexes"
    ]
    type: Annotated[str, "What kind of fault, for programs"]
    msg: Annotated[str, "What is wrong, for people"]


class ErrorAnswer(Representation):
    """Every error: a sentence (for validation a list of problems), and a code."""

    detail: Annotated[str | list[Problem], "A sentence; for validation the problems, one by one"]
    code: Annotated[str, "What went wrong, for programs: `SENSOR_NOT_FOUND` and the like"]


@functools.cache
def descriptions(record: type[Representation]) -> dict[str, str]:
    """Return what each member of a record is, in words."""
    hints = get_type_hints(record, include_extras=True)
    return {
        field.encode_name: hints[field.name].__metadata__[-1]
        for field in msgspec.structs.fields(record)
    }


def components() -> dict[str, Any]:
    """Return the JSON Schemas of all records that answers show, by name."""
    records = list(_within(Representation))
    _, schemas = msgspec.json.schema_components(records, ref_template=REFERENCE)
    for record in records:
        for name, description in descriptions(record).items():
            member = schemas[record.__name__]["properties"][name]
            member["description"] = description
            if member.get("default", "") is None:
                del member["default"]  # only absent where it was not asked for
            if "enum" in member:
                member["type"] = "string"
    for schema in schemas.values():
        schema["description"] = inspect.cleandoc(schema["description"])
        if "enum" in schema:
            schema["type"] = "string"
    _, shown = msgspec.json.schema_components(_shown, ref_template=REFERENCE)
    return {name: schema for name, schema in schemas.items() if name in shown}


def _within(record: type[Representation]) -> Iterator[type[Representation]]:
    for each in record.__subclasses__():
        yield each
        yield from _within(each)


def shows(record: Any) -> dict[str, Any]:
    """Return OpenAPI's content of an answer: a record, or a list of them; or bytes as they are."""
    if record is bytes:
        return {"application/octet-stream": {"schema": BINARY}}
    _shown.append(record)
    return {"application/json": {"schema": _reference(record)}}


def _reference(record: Any) -> dict[str, Any]:
    """Return the schema of what answers show, which refers to the records within.

    Nearly all are a record or a list: for those msgspec would look through all of their members,
    which for all routes together is a twentieth of what a start takes.
    """
    if isinstance(record, type) and issubclass(record, Representation):
        return {"$ref": REFERENCE.format(name=record.__name__)}
    if get_origin(record) is list:
        return {"type": "array", "items": _reference(*get_args(record))}
    (schema,), _ = msgspec.json.schema_components((record,), ref_template=REFERENCE)
    return schema


def ok(
    record: Any,
    status: int = 200,
    description: str = "Successful Response",
    media: dict[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's entry for an answer with a record, and in what other media it is given."""
    return {status: {"description": description, "content": shows(record) | (media or {})}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's entries for errors."""
    content = shows(ErrorAnswer)
    return {status: {"description": ERRORS[status], "content": content} for status in statuses}


def parameter(where: str, name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return OpenAPI's entry for a parameter; only those in paths are required."""
    head = {"name": name, "in": where, "required": where == "path"}
    return {**head, "schema": schema, "description": description}


ERRORS = {
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

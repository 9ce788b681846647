"""OpenAPI, with the hot routes that FastAPI does not know."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.routing import compile_path

from heliograph.web import links, security, stream_operations
from heliograph.web.paths import PREFIX
from heliograph.web.schemas import StoredBatch, StoredReading, errors

DESCRIPTION = """
Every route also stands without `/api/v1`. `{identifier}` and `{device_id}` are a sensor's UUID or
its `device_id`. Time parameters are epoch seconds or RFC 3339. Errors are
`{"detail": …, "code": …}`. Bodies are `application/json`; none given and `text/plain` are taken
as that. A 201 of a route that takes data means: committed. With ANONYMOUS_ROLE a caller without
a credential has that role in the network `default`.
"""

_REVISION = {"type": ["integer", "null"]}
_TIMESTAMP = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "format": "date-time"},
        {"type": "null"},
    ]
}
_ELEMENT_ID = {
    "type": "string",
    "maxLength": 64,
    "description": (
        "Tells this element from all others of the sensor: two ids are two, one is stored once,"
        " whatever its time. An entry of history that is sent back names its row by it"
    ),
}
_READING = {
    "type": "object",
    "description": (
        "`value` or `metrics`, and otherwise only `timestamp`, `revision`, `id` and `device_id`;"
        " or flat: all other members are the value, at least one of them a number, boolean or text."
        " A device's own key, or a path that names the sensor, needs no `device_id`"
    ),
    "properties": {
        "device_id": {"type": "string"},
        "timestamp": _TIMESTAMP,
        "revision": _REVISION,
        "id": _ELEMENT_ID,
        "value": {"description": "Any JSON; what is no object is the attribute `value`"},
        "metrics": {"type": "object"},
    },
    "additionalProperties": True,
    "examples": [
        {"temperature": 22.5, "humidity": 65.0},
        {"timestamp": 1_700_000_000, "value": {"temperature": 22.5, "humidity": 65.0}},
    ],
}
_READINGS = {
    "anyOf": [
        {"type": "array", "items": _READING, "maxItems": 10_000},
        {
            "type": "object",
            "required": ["readings"],
            "properties": {"readings": {"type": "array", "items": _READING, "maxItems": 10_000}},
        },
    ]
}
_LOG = {
    "type": "object",
    "required": ["severity", "subject"],
    "additionalProperties": False,
    "properties": {
        "severity": {"enum": ["debug", "info", "warning", "error"]},
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "subject": {"type": "string"},
        "details": {"type": ["string", "null"]},
    },
}
_HEARTBEAT = {
    "type": "object",
    "properties": {
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "success": {"type": ["boolean", "null"]},
    },
}
_IDENTIFIER = {
    "name": "identifier",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "UUID or device_id",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key and body again get the same answer, and nothing is stored twice",
}


def install(app: FastAPI) -> None:
    """Have the application describe all its routes, each once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=DESCRIPTION,
                routes=app.routes,
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for model in (StoredReading, StoredBatch):
                _add(components, model)
            _drop_made_up_errors(schema)
            for path, operation in _operations().items():
                schema["paths"].setdefault(path, {})["post"] = operation
            stream_operations.describe(schema)
            security.describe(schema)
            links.describe(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _drop_made_up_errors(schema: dict[str, Any]) -> None:
    """Drop FastAPI's own 422, which it adds to all that have a parameter, even any text."""
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]


def allowed_methods(app: FastAPI, path: str) -> str:
    """Return the methods that a path's routes take, for an `Allow` header.

    Starlette names only those of the first route, and each of ours takes one.
    """
    methods = {
        method.upper()
        for template, operations in app.openapi()["paths"].items()
        if compile_path(template)[0].match(path)
        for method in operations
    }
    return ", ".join(sorted(methods))


def _add(components: dict[str, Any], model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(schema.pop("$defs", {}))
    components[model.__name__] = schema


def _operations() -> dict[str, dict[str, Any]]:
    operations = {
        f"{PREFIX}/ingest": _operation(
            "ingest_reading", "Send a reading", _READING, "StoredReading"
        ),
        f"{PREFIX}/ingest/batch": _operation(
            "ingest_batch", "Send up to 10,000 readings; gzip is taken", _READINGS, "StoredBatch"
        ),
    }
    for name, member, element in (
        ("measurements", "measurements", _READING),
        ("logs", "log_messages", _LOG),
        ("heartbeats", "heartbeats", _HEARTBEAT),
    ):
        body = {
            "anyOf": [
                {
                    "type": "object",
                    "required": [member],
                    "properties": {member: {"type": "array", "items": element}},
                    "additionalProperties": False,
                },
                {"type": "array", "items": element},
                element,
            ]
        }
        operation = _operation(f"send_{name}", f"Send {name}, as over MQTT", body, "StoredBatch")
        operation["parameters"].insert(0, _IDENTIFIER)
        operations[f"{PREFIX}/sensors/{{identifier}}/{name}"] = operation
    return operations


def _operation(name: str, summary: str, body: dict[str, Any], model: str) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "201": {
            "description": "Committed",
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}},
        }
    }
    for status, entry in errors(400, 401, 403, 404, 413, 415, 422).items():
        responses[str(status)] = {
            "description": entry["description"],
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}
            },
        }
    return {
        "tags": ["ingest"],
        "summary": summary,
        "operationId": name,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses,
    }

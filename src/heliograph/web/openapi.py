"""OpenAPI, in words, with the hot routes that FastAPI does not know."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from heliograph.web import examples, records, security, stream_operations
from heliograph.web.examples import DEVICE, USERNAME
from heliograph.web.paths import PREFIX
from heliograph.web.records import Representation, StoredBatch, StoredReading, errors, shows

DESCRIPTION = """
Every route also stands without `/api/v1`. `{identifier}` and `{device_id}` are a sensor's UUID or
its `device_id`. Time parameters are epoch seconds or RFC 3339. Errors are
`{"detail": …, "code": …}`. Bodies are `application/json`; none given and `text/plain` are taken
as that. A 201 of a route that takes data means: committed. With ANONYMOUS_ROLE a caller without
a credential has that role in the network `default`.

The examples are about the device that the first one of `POST /devices` registers: begin there, with
the admin key under *Authorize*.
"""

# In the order in which they are shown.
TAGS = [
    {"name": "ingest", "description": "Send what was measured, logged and confirmed."},
    {"name": "devices", "description": "Register what sends, give it keys, read its readings."},
    {"name": "sensors", "description": "Sensors, by name or inventory, and all that they said."},
    {"name": "live", "description": "Follow what comes in, as Server-Sent Events."},
    {"name": "configurations", "description": "Tell sensors what to be, and see if they are."},
    {"name": "networks", "description": "Group sensors, and say who may do what with them."},
    {"name": "nodes", "description": "Hardware units that carry several sensors."},
    {"name": "accounts", "description": "Sign up, log in, change a password."},
    {"name": "retention", "description": "How long data is kept, and what goes next."},
    {"name": "audit", "description": "Who did what to which resource, and when."},
    {"name": "health", "description": "Whether the server lives and can do its work."},
    {"name": "brokers", "description": "What EMQX and RabbitMQ ask about their clients."},
]
# What stands in paths means the same on every route.
_PATH_PARAMETERS = {
    "identifier": ("The sensor's UUID or `device_id`", DEVICE),
    "device_id": ("The device's `device_id` or UUID", DEVICE),
    "network_identifier": ("The network's UUID", None),
    "node_id": ("The node's UUID", None),
    "sensor_id": ("The sensor's UUID or `device_id`", DEVICE),
    "username": ("The name of the member's account", USERNAME),
}

# By what makes something: the parameter that names it elsewhere, and the answer's member with it.
_MADE = {
    "/networks": ("network_identifier", "network_identifier"),
    "/sensors": ("identifier", "sensor_identifier"),
    "/sensors/{identifier}/configurations": ("identifier", "sensor_identifier"),
    "/devices": ("device_id", "device_id"),
    "/nodes": ("node_id", "id"),
}

_SENTENCE = re.compile(r"\.(?:\s+|$)")

_REVISION = {
    "type": ["integer", "null"],
    "description": "The revision of its configuration that it goes by, from 0",
}
_TIMESTAMP = {
    "description": (
        "When it was made: epoch seconds or RFC 3339. Without one, and before 2001-09-09, the time"
        " of its arrival counts"
    ),
    "anyOf": [
        {"type": "number"},
        {"type": "string", "format": "date-time"},
        {"type": "null"},
    ],
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
        "device_id": {"type": "string", "description": "The device's `device_id` or UUID"},
        "timestamp": _TIMESTAMP,
        "revision": _REVISION,
        "id": _ELEMENT_ID,
        "value": {"description": "Any JSON; what is no object is the attribute `value`"},
        "metrics": {"type": "object", "description": "Values by name, each any JSON"},
    },
    "additionalProperties": True,
}
_SEVERAL = {"type": "array", "items": _READING, "maxItems": 10_000}
_READINGS = {
    "anyOf": [
        _SEVERAL,
        {
            "type": "object",
            "required": ["readings"],
            "properties": {"readings": {**_SEVERAL, "description": "The readings, up to 10,000"}},
            "additionalProperties": False,
        },
    ]
}
_LOG = {
    "type": "object",
    "required": ["severity", "subject"],
    "additionalProperties": False,
    "properties": {
        "severity": {
            "enum": ["debug", "info", "warning", "error"],
            "description": "How bad it is",
        },
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "subject": {"type": "string", "description": "What it is about, the same each time"},
        "details": {"type": ["string", "null"], "description": "What more there is to say"},
    },
}
_HEARTBEAT = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "success": {
            "type": ["boolean", "null"],
            "description": "Whether the sensor could apply the revision",
        },
    },
}
_IDENTIFIER = {"name": "identifier", "in": "path", "required": True, "schema": {"type": "string"}}
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
                tags=TAGS,
            )
            _tell(schema)
            paths = schema["paths"]
            ingest = _operations()
            schema["paths"] = {
                path: {**paths.pop(path, {}), "post": ingest[path]} for path in ingest
            }
            schema["paths"] |= paths
            for (method, path), operation in stream_operations.operations().items():
                schema["paths"].setdefault(path, {})[method] = operation
            security.describe(schema)
            _tell_of_errors(schema["paths"])
            _tell_of_links(schema["paths"])
            examples.describe(schema)
            _tell_of_paths(schema)
            known = schema["components"]["schemas"]
            for made_up in ("HTTPValidationError", "ValidationError"):
                known.pop(made_up, None)
            schema["components"]["schemas"] = dict(sorted((known | records.components()).items()))
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way


def _tell_of_errors(paths: dict[str, Any]) -> None:
    """Add to each operation the errors that all of its kind may answer."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            statuses = {408, 429, 500, 503}
            if method != "get" or security.schemes_of(method, path):
                statuses |= {401, 403}
            if "{" in path:
                statuses.add(404)
            if any(each["in"] == "query" for each in operation.get("parameters", ())):
                statuses.add(422)
            if method != "get":
                statuses |= {413, 415, 422}
            if "requestBody" in operation:
                statuses.add(400)
            told = operation["responses"]
            # FastAPI says so of all that has a parameter, even one that takes any text.
            if "HTTPValidationError" in str(told.get("422")):
                del told["422"]
            every = {str(status): entry for status, entry in errors(*statuses).items()} | told
            operation["responses"] = dict(sorted(every.items()))


def _tell_of_links(paths: dict[str, Any]) -> None:
    """Add to each answer that tells of something new the operations on it."""
    for path, (parameter, member) in _MADE.items():
        made = paths.get(PREFIX + path, {}).get("post")
        if made is None:
            continue
        links = made["responses"]["201"].setdefault("links", {})
        for other, operations in paths.items():
            if f"{{{parameter}}}" not in other:
                continue
            for operation in operations.values():
                # Who follows links expects an answer that ends, as a stream does not.
                if operation.get("tags") != [stream_operations.LIVE]:
                    links[operation["operationId"]] = {
                        "operationId": operation["operationId"],
                        "parameters": {parameter: f"$response.body#/{member}"},
                    }


def _tell(schema: dict[str, Any]) -> None:
    """Have the first sentence of what FastAPI takes for the description be the summary.

    Its own ones are the names of functions.
    """
    for operations in schema["paths"].values():
        for operation in operations.values():
            summary, *rest = _SENTENCE.split(operation.pop("description"), maxsplit=1)
            operation["summary"] = " ".join(summary.split())
            if any(rest):
                operation["description"] = rest[0]


def _tell_of_paths(schema: dict[str, Any]) -> None:
    """Describe what stands in paths."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    description, example = _PATH_PARAMETERS[parameter["name"]]
                    parameter["description"] = description
                    if example is not None:
                        parameter["example"] = example


def direct_operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations that FastAPI does not know, by method and path."""
    posts = {("post", path): operation for path, operation in _operations().items()}
    return {**posts, **stream_operations.operations()}


def _operations() -> dict[str, dict[str, Any]]:
    operations = {
        f"{PREFIX}/ingest": _operation(
            "ingest_reading", "Send a reading of a device", _READING, StoredReading
        ),
        f"{PREFIX}/ingest/batch": _operation(
            "ingest_batch", "Send up to 10,000 readings; gzip is taken", _READINGS, StoredBatch
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
                    "properties": {
                        member: {
                            "type": "array",
                            "items": element,
                            "description": "The elements, up to 10,000",
                        }
                    },
                    "additionalProperties": False,
                },
                {"type": "array", "items": element},
                element,
            ]
        }
        operation = _operation(
            f"send_{name}", f"Send a sensor's {name}, as over MQTT", body, StoredBatch
        )
        operation["parameters"].insert(0, _IDENTIFIER)
        operations[f"{PREFIX}/sensors/{{identifier}}/{name}"] = operation
    return operations


def _operation(name: str, summary: str, body: Any, record: type[Representation]) -> dict[str, Any]:
    return {
        "tags": ["ingest"],
        "summary": summary,
        "operationId": name,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "201": {"description": "Committed", "content": shows(record)},
            "404": errors(404)[404],
        },
    }

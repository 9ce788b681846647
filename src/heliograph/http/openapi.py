"""OpenAPI, in words, with the direct routes that FastAPI does not know."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from heliograph.http import examples, records, security
from heliograph.http.examples import DEVICE, USERNAME
from heliograph.http.ingest import StoredBatch, StoredReading
from heliograph.http.packets import PostPacket, StoredPacket
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation, errors, shows
from heliograph.http.streams import EVENTS, EVENTS_OF_NETWORK, KINDS
from heliograph.ingest.packets import SCHEMA
from heliograph.version import VERSION

DESCRIPTION = """
Every route also stands without `/api/v1`. `{identifier}` and `{device_id}` are a sensor's UUID or
its `device_id`. Time parameters are epoch seconds or RFC 3339. Errors are
`{"detail": …, "code": …}`. Bodies are `application/json`; none given and `text/plain` are taken
as that. A 201 of a route that takes data means: committed. With ANONYMOUS_ROLE a caller without
a credential has that role in the network `default`.

The examples are about the device that the first one of `POST /devices` registers: begin there, with
the admin key under *Authorize*.
"""

# The tag of what does not end by itself.
LIVE = "live"
# In the order in which they are shown.
TAGS = [
    {"name": "ingest", "description": "Send what was measured, logged and confirmed."},
    {"name": "packets", "description": "Send packets, and have them published at once."},
    {
        "name": "messages",
        "description": "Look for what was received, and submit again what was rejected.",
    },
    {"name": "devices", "description": "Register what sends, give it keys, read its readings."},
    {"name": "sensors", "description": "Sensors, by name or inventory, and all that they said."},
    {"name": LIVE, "description": "Follow what comes in, as Server-Sent Events."},
    {"name": "configurations", "description": "Tell sensors what to be, and see if they are."},
    {"name": "networks", "description": "Group sensors, and say who may do what with them."},
    {"name": "nodes", "description": "Hardware units that carry several sensors."},
    {"name": "rules", "description": "Say what is to happen when messages fulfil a condition."},
    {"name": "actions", "description": "See what rules have begun, and have it done again."},
    {"name": "alerts", "description": "What rules have raised, and who looks after it."},
    {"name": "silences", "description": "Whose alerts nobody is told of for a time."},
    {"name": "accounts", "description": "Sign up, log in, change a password."},
    {"name": "channels", "description": "Say where alerts are told, and try whether it works."},
    {"name": "retention", "description": "How long data is kept, and what goes next."},
    {"name": "audit", "description": "Who did what to which resource, and when."},
    {"name": "health", "description": "Whether the server lives and can do its work."},
    {"name": "brokers", "description": "What EMQX and RabbitMQ ask about their clients."},
]
# What stands in paths means the same on every route.
_PATH_PARAMETERS = {
    "identifier": {"description": "The sensor's UUID or `device_id`", "example": DEVICE},
    "action_id": {"description": "What the server calls the action"},
    "device_id": {"description": "The device's `device_id` or UUID", "example": DEVICE},
    "network_identifier": {"description": "The network's UUID"},
    "node_id": {"description": "The node's UUID"},
    "rule_id": {"description": "The rule's UUID"},
    "channel_id": {"description": "The channel's UUID"},
    "message_id": {"description": "What the server calls the message"},
    "alert_id": {"description": "The alert's id"},
    "silence_id": {"description": "The silence's UUID"},
    "annotation_id": {"description": "The annotation's UUID"},
    "board_id": {"description": "The board's UUID"},
    "session_id": {"description": "What the server calls the session"},
    "sensor_id": {"description": "The sensor's UUID or `device_id`", "example": DEVICE},
    "username": {"description": "The name of the member's account", "example": USERNAME},
}

# By what makes something: the parameter that names it elsewhere, and the answer's member with it.
_MADE = {
    "/networks": ("network_identifier", "network_identifier"),
    "/sensors": ("identifier", "sensor_identifier"),
    "/sensors/{identifier}/configurations": ("identifier", "sensor_identifier"),
    "/devices": ("device_id", "device_id"),
    "/nodes": ("node_id", "id"),
    "/rules": ("rule_id", "id"),
    "/channels": ("channel_id", "id"),
    "/silences": ("silence_id", "id"),
    "/sensors/{identifier}/annotations": ("annotation_id", "id"),
    "/networks/{network_identifier}/boards": ("board_id", "id"),
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
    "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}, {"type": "null"}],
}
_DEVICE_ID = {"type": "string", "description": "The device's `device_id` or UUID"}
_ELEMENT_ID = {
    "type": "string",
    "maxLength": 64,
    "description": (
        "Tells this element from all others of the sensor: two ids are two, one is stored once,"
        " whatever its time. An entry of history that is sent back names its row by it"
    ),
}


def _object(
    properties: dict[str, Any], *, required: Sequence[str] = (), takes_more: bool
) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    described = {"properties": properties, "additionalProperties": takes_more}
    return {"type": "object", **needed, **described}


def _wrapped(member: str, array: dict[str, Any], description: str) -> dict[str, Any]:
    """Return an object with nothing but the array."""
    properties = {member: {**array, "description": description}}
    return _object(properties, required=[member], takes_more=False)


_PACKET = {name: value for name, value in SCHEMA.items() if not name.startswith("$")}
_READING = {
    "description": (
        "`value` or `metrics`, and otherwise only `timestamp`, `revision`, `id` and `device_id`;"
        " or flat: all other members are the value, at least one of them a number, boolean or text."
        " A device's own key, or a path that names the sensor, needs no `device_id`"
    ),
    **_object(
        {
            "device_id": _DEVICE_ID,
            "timestamp": _TIMESTAMP,
            "revision": _REVISION,
            "id": _ELEMENT_ID,
            "value": {"description": "Any JSON; what is no object is the attribute `value`"},
            "metrics": {"type": "object", "description": "Values by name, each any JSON"},
        },
        takes_more=True,
    ),
}
_LOG = _object(
    {
        "severity": {"enum": ["debug", "info", "warning", "error"], "description": "How bad it is"},
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "subject": {"type": "string", "description": "What it is about, the same each time"},
        "details": {"type": ["string", "null"], "description": "What more there is to say"},
    },
    required=["severity", "subject"],
    takes_more=False,
)
_HEARTBEAT = _object(
    {
        "revision": _REVISION,
        "timestamp": _TIMESTAMP,
        "id": _ELEMENT_ID,
        "success": {
            "type": ["boolean", "null"],
            "description": "Whether the sensor could apply the revision",
        },
    },
    takes_more=True,
)


def _elements(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return an array of what may be of several sensors, and so names its own."""
    properties = {"device_id": _DEVICE_ID, **schema["properties"]}
    items = {**schema, "properties": properties}
    return {"type": "array", "items": items, "maxItems": 10_000, "description": description}


_SEVERAL = _elements(_READING, "The readings, up to 10,000 elements with those of other arrays")
_BATCH = {
    "anyOf": [
        _SEVERAL,
        {
            **_object(
                {
                    "readings": _SEVERAL,
                    "log_messages": _elements(_LOG, "Log messages, of one sensor or of many"),
                    "heartbeats": _elements(_HEARTBEAT, "Heartbeats, of one sensor or of many"),
                },
                takes_more=False,
            ),
            "minProperties": 1,
        },
    ]
}
_TEXT = {"type": "string"}
_IDEMPOTENCY_KEY = records.parameter(
    "header",
    "Idempotency-Key",
    {**_TEXT, "maxLength": 255},
    "The same key and body again get the same answer, and nothing is stored twice",
)
_OF_STREAMS = (
    records.parameter(
        "query",
        "sensor",
        {"type": "array", "items": _TEXT, "maxItems": 100},
        "UUIDs or device_ids; default: all",
    ),
    records.parameter(
        "query",
        "kind",
        {"type": "array", "items": {"enum": sorted(KINDS)}},
        "Kinds of events; default: all",
    ),
    records.parameter(
        "query",
        "last_event_id",
        _TEXT,
        "As the header Last-Event-ID, for a client that can't send one",
    ),
    records.parameter(
        "header",
        "Last-Event-ID",
        _TEXT,
        "Go on after this event, or tell by an event `reset` that it can't be done",
    ),
)


def document_of(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the description of FastAPI's routes and of the direct ones, each once."""
    document = get_openapi(
        title="Heliograph", version=VERSION, description=DESCRIPTION, routes=routes, tags=TAGS
    )
    of_fastapi = document["paths"]
    for _, _, operation in _operations(of_fastapi):
        # FastAPI's own summaries are the names of functions.
        summary, *rest = _SENTENCE.split(operation.pop("description"), maxsplit=1)
        operation["summary"] = " ".join(summary.split())
        if any(rest):
            operation["description"] = rest[0]
    paths: dict[str, Any] = {}
    for (method, path), operation in direct_operations().items():
        paths[path] = {**of_fastapi.pop(path, {}), method: operation}
    document["paths"] = paths = paths | of_fastapi
    for method, path, operation in _operations(paths):
        operation["security"] = security.required(method, path)
        _add_errors(method, path, operation)
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                parameter.update(_PATH_PARAMETERS[parameter["name"]])
    _add_links(paths)
    examples.describe(document)
    components = document["components"]
    components["securitySchemes"] = security.SCHEMES
    schemas = components["schemas"] | records.components()
    for made_up in ("HTTPValidationError", "ValidationError"):
        schemas.pop(made_up, None)
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def _operations(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            yield method, path, operation


def _add_errors(method: str, path: str, operation: dict[str, Any]) -> None:
    """Add the errors that all operations of its kind may answer."""
    statuses = {408, 429, 500, 503}
    if method != "get" or security.schemes_of(method, path):
        statuses |= {401, 403}
    asked = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    if "{" in path or "network_identifier" in asked:
        statuses.add(404)
    if asked:
        statuses.add(422)
    if method != "get":
        statuses |= {413, 415, 422}
    if "requestBody" in operation:
        statuses.add(400)
    own = operation["responses"]
    # FastAPI adds it to all that has a parameter, even one that takes any text.
    if "HTTPValidationError" in str(own.get("422")):
        del own["422"]
    every = {str(status): entry for status, entry in errors(*statuses).items()} | own
    operation["responses"] = dict(sorted(every.items()))


def _add_links(paths: dict[str, Any]) -> None:
    """Add to each answer about something new the operations on it."""
    for path, (parameter, member) in _MADE.items():
        made = paths.get(PREFIX + path, {}).get("post")
        if made is None:
            continue
        made["responses"]["201"]["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {parameter: f"$response.body#/{member}"},
            }
            for _, other, operation in _operations(paths)
            # Whoever follows links expects an answer that ends, as a stream does not.
            if f"{{{parameter}}}" in other and operation["tags"] != [LIVE]
        }


def direct_operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations that FastAPI does not know, by method and path; ingest comes first."""
    operations = {
        f"{PREFIX}/ingest": _sending(
            "ingest_reading", "Send a reading of a device", _READING, StoredReading
        ),
        f"{PREFIX}/ingest/batch": _sending(
            "ingest_batch",
            "Send up to 10,000 readings, log messages and heartbeats; gzip is taken",
            _BATCH,
            StoredBatch,
        ),
    }
    for name, member, element in (
        ("measurements", "measurements", _READING),
        ("logs", "log_messages", _LOG),
        ("heartbeats", "heartbeats", _HEARTBEAT),
    ):
        elements = {"type": "array", "items": element}
        wrapped = _wrapped(member, elements, "The elements, up to 10,000")
        operations[f"{PREFIX}/sensors/{{identifier}}/{name}"] = _sending(
            f"send_{name}",
            f"Send a sensor's {name}, as over MQTT",
            {"anyOf": [wrapped, elements, element]},
            StoredBatch,
            records.parameter("path", "identifier", _TEXT, ""),
        )
    operations[PostPacket.template] = _sending(
        "post_packet", "Send a packet, and publish it on MQTT_PUBLISH_TOPIC", _PACKET, StoredPacket
    ) | {"tags": ["packets"]}
    posts = {("post", path): operation for path, operation in operations.items()}
    network = records.parameter("path", "network_identifier", _TEXT, "")
    return posts | {
        ("get", EVENTS_OF_NETWORK): _stream("stream_network", "Stream a network's events", network),
        ("get", EVENTS): _stream(
            "stream_events", "Stream the events of all that the caller may see"
        ),
    }


def _stream(name: str, summary: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    events = {
        "description": "Server-Sent Events, until either side ends them",
        "content": {"text/event-stream": {"schema": _TEXT}},
    }
    return {
        "tags": [LIVE],
        "summary": summary,
        "operationId": name,
        "parameters": [*parameters, *_OF_STREAMS],
        "responses": {"200": events, "404": errors(404)[404]},
    }


def _sending(
    name: str, summary: str, body: Any, record: type[Representation], *parameters: dict[str, Any]
) -> dict[str, Any]:
    return {
        "tags": ["ingest"],
        "summary": summary,
        "operationId": name,
        "parameters": [*parameters, _IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "201": {"description": "Committed", "content": shows(record)},
            "404": errors(404)[404],
        },
    }

"""OpenAPI's description of the streams, which FastAPI does not know."""

from typing import Any

from heliograph.web.records import errors
from heliograph.web.streams import KINDS, NetworkStream, Stream

# The tag of what does not end by itself.
LIVE = "live"
_MEDIA = "text/event-stream"
_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "sensor",
        "in": "query",
        "required": False,
        "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
        "description": "UUIDs or device_ids; default: all",
    },
    {
        "name": "kind",
        "in": "query",
        "required": False,
        "schema": {"type": "array", "items": {"enum": sorted(KINDS)}},
        "description": "Kinds of events; default: all",
    },
    {
        "name": "last_event_id",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "As the header Last-Event-ID, for a client that can't send one",
    },
    {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Go on after this event, or tell by an event `reset` that it can't be done",
    },
]
_NETWORK = {
    "name": "network_identifier",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
}

_EVENTS = {
    "description": "Server-Sent Events, until either side ends them",
    "content": {_MEDIA: {"schema": {"type": "string"}}},
}


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the streams, by method and path."""
    return {
        ("get", route.template): {
            "tags": [LIVE],
            "summary": summary,
            "operationId": name,
            "parameters": [*own, *_PARAMETERS],
            "responses": {"200": _EVENTS, "404": errors(404)[404]},
        }
        for route, name, summary, own in (
            (NetworkStream, "stream_network", "Stream a network's events", [_NETWORK]),
            (Stream, "stream_events", "Stream the events of all that the caller may see", []),
        )
    }

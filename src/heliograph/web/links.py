"""OpenAPI's links: where what has just been made is read, changed and deleted."""

from typing import Any

from heliograph.web.paths import PREFIX

LIVE = "live"
# By what makes it: the parameter that names it elsewhere, and the member of the answer with it.
_MADE = {
    "/networks": ("network_identifier", "network_identifier"),
    "/sensors": ("identifier", "sensor_identifier"),
    "/sensors/{identifier}/configurations": ("identifier", "sensor_identifier"),
    "/devices": ("device_id", "device_id"),
    "/nodes": ("node_id", "id"),
}


def describe(document: dict[str, Any]) -> None:
    """Add to each answer that tells of something new the operations on it."""
    paths = document["paths"]
    for path, (parameter, member) in _MADE.items():
        made = paths.get(PREFIX + path, {}).get("post")
        if made is None:
            continue
        links = made["responses"]["201"].setdefault("links", {})
        for other, operations in paths.items():
            if f"{{{parameter}}}" in other:
                for operation in operations.values():
                    if operation.get("tags") == [LIVE]:
                        continue  # who follows links expects an answer that ends
                    links[operation["operationId"]] = {
                        "operationId": operation["operationId"],
                        "parameters": {parameter: f"$response.body#/{member}"},
                    }

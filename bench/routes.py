"""The calls of `targets`: every route, in the order in which a client would call them.

A walk is what one client does: read something, or make it, change it and delete it again. `$name`
stands for what the walk knows: an existing `$sensor`, its `$device` and `$key`, the `$network` of
all of them, a member `$user`, a `$unique` word, the time `$tomorrow`, and what an earlier answer of
the walk has told (`keep`).
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from string import Template
from typing import Any, NamedTuple

# Called so often for each time that something is made and deleted: most calls are to read.
READS_A_CHANGE = 5
_VARIABLE = re.compile(r"\$\w+")
_PLACEHOLDER = re.compile(r"\{\w+\}")


class Call(NamedTuple):
    """A request and the status that answers it.

    `keep`: from the name of a variable to the place in the answer, like `messages.0.id`; where
    there is nothing the walk ends. `bearer`: the variable that has the token to call with, in place
    of the admin key. `conflicts`: another connection may have been quicker, which 409 says.
    """

    method: str
    path: str
    body: Any = None
    status: int = 200
    keep: Mapping[str, str] = {}
    bearer: str = ""
    conflicts: bool = False

    @property
    def route(self) -> str:
        """The route's name: method and template, whatever its parameters are called."""
        path = _VARIABLE.sub("{}", self.path.partition("?")[0])
        return f"{self.method} {path}"

    def templates(self) -> tuple[Template, Template]:
        """Return path and body with variables."""
        return Template(self.path), Template("" if self.body is None else json.dumps(self.body))


Walk = tuple[Call, ...]


def reading(*paths: str) -> list[Walk]:
    """Return a walk of one call for each path."""
    return [(Call("GET", path),) for path in paths]


READS = reading(
    "/health",
    "/ping",
    "/status",
    "/readyz",
    "/metrics",
    "/networks",
    "/networks/$network",
    "/networks/$network/boards",
    "/networks/$network/sensors?limit=100",
    "/networks/$network/members",
    "/networks/$network/latest?limit=100",
    "/networks/$network/retention",
    "/sensors?limit=100",
    "/sensors/$sensor",
    "/sensors/$sensor/measurements",
    "/sensors/$sensor/logs",
    "/sensors/$sensor/heartbeats",
    "/sensors/$sensor/configurations",
    "/sensors/$sensor/latest",
    "/sensors/$sensor/aggregates?bucket=1h&attribute=temperature",
    "/sensors/$sensor/logs/aggregates",
    "/sensors/$sensor/retention",
    "/sensors/$sensor/annotations",
    "/devices?limit=100",
    "/devices/$device",
    "/devices/$device/history",
    "/devices/$device/aggregate",
    "/nodes",
    "/audit",
    "/retention",
    "/packets/schema",
    "/rules?limit=100",
    "/actions?limit=100",
    "/alerts?limit=100",
    "/silences",
    "/channels",
    "/messages",
    "/session",
)

_MEASURED = {"temperature": 21.5, "humidity": 0.43}
_PUBLISH = {"username": "$device", "topic": "measurements/$device", "action": "publish"}
SENDS: list[Walk] = [
    (Call("POST", "/ingest", {"device_id": "$device", **_MEASURED}, 201),),
    (Call("POST", "/ingest/batch", [{"device_id": "$device", **_MEASURED}] * 10, 201),),
    (Call("POST", "/sensors/$sensor/measurements", {"measurements": [{"value": _MEASURED}]}, 201),),
    (Call("POST", "/sensors/$sensor/heartbeats", {"heartbeats": [{"success": True}]}, 201),),
    (
        Call(
            "POST",
            "/sensors/$sensor/logs",
            {"log_messages": [{"severity": "warning", "subject": "battery low"}]},
            201,
        ),
    ),
    (Call("POST", "/packets", {"device_id": "$device", "measurements": _MEASURED}, 201),),
    (Call("POST", "/broker/emqx/authentication", {"username": "$device", "password": "$key"}),),
    (Call("POST", "/broker/emqx/authorization", _PUBLISH),),
]

_INVENTORY = {"manufacturer": "Sensirion", "model": "SHT41", "modality": "climate"}
CHANGES: list[Walk] = [
    (
        Call("POST", "/networks", {"network_name": "$unique"}, 201, {"made": "network_identifier"}),
        Call("PUT", "/networks/$made", {"network_name": "$unique-2"}),
        Call("PUT", "/networks/$made/members/$user", {"role": "viewer"}),
        Call("GET", "/networks/$made/members/$user"),
        Call("DELETE", "/networks/$made/members/$user", status=204),
        Call("PUT", "/networks/$made/retention", {"raw_days": 90}),
        Call("POST", "/networks/$made/retention-preview", {"raw_days": 30}),
        Call(
            "POST",
            "/sensors",
            {"sensor_name": "roof", "network_identifier": "$made"},
            201,
            {"roof": "id"},
        ),
        Call("POST", "/networks/$made/configurations", {"configuration": {"interval": 60}}, 201),
        Call("DELETE", "/sensors/$roof?data=delete", status=204),
        Call("DELETE", "/networks/$made", status=204),
    ),
    (
        Call("POST", "/sensors", _INVENTORY, 201, {"made": "id"}),
        Call("PATCH", "/sensors/$made", {"name": "North side"}),
        Call("PUT", "/sensors/$made", {"expected_interval": 900}),
        Call("POST", "/sensors/$made/configurations", {"configuration": {"interval": 60}}, 201),
        Call("GET", "/sensors/$made/configurations/current"),
        Call("PUT", "/sensors/$made/retention", {"raw_days": 90}),
        Call("DELETE", "/sensors/$made?data=delete", status=204),
    ),
    (
        Call("POST", "/devices", {"device_id": "$unique"}, 201),
        Call("PATCH", "/devices/$unique", {"name": "North side"}),
        Call("POST", "/devices/$unique/key"),
        Call("DELETE", "/devices/$unique", status=204),
        Call("DELETE", "/sensors/$unique?data=delete", status=204),
    ),
    (
        Call("POST", "/devices/batch", [{"device_id": "$unique"}], 201),
        Call("DELETE", "/sensors/$unique?data=delete", status=204),
    ),
    (
        Call(
            "POST", "/nodes", {"serial_number": "$unique", "firmware_version": "1.4.2"}, 201
        )._replace(keep={"node": "id"}),
        Call("GET", "/nodes/$node"),
        Call("PATCH", "/nodes/$node", {"firmware_version": "1.5.0"}),
        Call("PUT", "/nodes/$node", {"firmware_version": "1.5.1"}),
        Call("POST", "/sensors", _INVENTORY, 201, {"made": "id"}),
        Call("POST", "/nodes/$node/sensors", {"sensor_id": "$made"}),
        Call("GET", "/nodes/$node/full"),
        Call("DELETE", "/nodes/$node/sensors/$made", status=204),
        Call("DELETE", "/sensors/$made?data=delete", status=204),
        Call("DELETE", "/nodes/$node", status=204),
    ),
]

_SERIES = [{"sensor": "$sensor", "attribute": name} for name in _MEASURED]
_BOARD = {"name": "$unique", "panels": [{"kind": "chart", "series": _SERIES}]}
_REMARK = {"text": "cleaned", "start": "2026-03-01T12:00:00Z"}
# An hour of readings, one a minute.
_ROWS = [f"2026-03-01T12:{minute:02}:00Z,21.5,0.43" for minute in range(60)]
_TABLE = {"table": "\n".join(["time,temperature,humidity", *_ROWS]), "sensor": "$sensor"}
_RULE = {"name": "$unique", "condition": {"attribute": "temperature", "above": 1_000}}
_SILENCE = {"sensor": "$sensor", "ends_at": "$tomorrow"}
_CHANNEL = {"name": "$unique", "type": "webhook", "url": "https://example.com/alerts"}
_TOO_NEW = {"measurements": [{"timestamp": 4_102_444_800, "value": _MEASURED}]}
CHANGES += [
    (
        Call("POST", "/networks/$network/boards", _BOARD, 201, {"made": "id"}),
        Call("GET", "/networks/$network/boards/$made"),
        Call("PUT", "/networks/$network/boards/$made", {"name": "$unique-2"}),
        Call("DELETE", "/networks/$network/boards/$made", status=204),
    ),
    (Call("POST", "/networks/$network/import-preview", _TABLE),),
    (
        Call("POST", "/sensors/$sensor/annotations", _REMARK, 201, {"made": "id"}),
        Call("GET", "/sensors/$sensor/annotations/$made"),
        Call("PATCH", "/sensors/$sensor/annotations/$made", {"text": "cleaned again"}),
        Call("PUT", "/sensors/$sensor/annotations/$made", {"text": "cleaned twice"}),
        Call("DELETE", "/sensors/$sensor/annotations/$made", status=204),
    ),
    (
        Call("POST", "/rules", _RULE, 201, {"made": "id"}),
        Call("GET", "/rules/$made"),
        Call("PATCH", "/rules/$made", {"for": 600}),
        Call("PUT", "/rules/$made", {"enabled": False}),
        Call("DELETE", "/rules/$made", status=204),
    ),
    (
        Call("GET", "/actions?limit=1&state=done", keep={"action": "0.id"}),
        Call("GET", "/actions/$action"),
        Call("POST", "/actions/$action/repeat", conflicts=True),
    ),
    (
        Call("GET", "/alerts?limit=1&state=raised", keep={"alert": "0.id"}),
        Call("GET", "/alerts/$alert"),
        Call("POST", "/alerts/$alert/acknowledge", {"comment": "on my way"}, conflicts=True),
        Call("POST", "/alerts/$alert/clear", conflicts=True),
    ),
    (
        Call("POST", "/silences", _SILENCE, 201, {"made": "id"}),
        Call("GET", "/silences/$made"),
        Call("PUT", "/silences/$made", {"comment": "the roof is mended"}),
        Call("DELETE", "/silences/$made", status=204),
    ),
    (
        Call("POST", "/channels", _CHANNEL, 201, {"made": "id"}),
        Call("GET", "/channels/$made"),
        Call("PATCH", "/channels/$made", {"enabled": False}),
        Call("PUT", "/channels/$made", {"enabled": False}),
        Call("DELETE", "/channels/$made", status=204),
    ),
    (
        Call("POST", "/sensors/$sensor/measurements", _TOO_NEW, 201),
        Call("GET", "/messages?kind=rejected&limit=1", keep={"message": "messages.0.id"}),
        Call("GET", "/messages/$message"),
        Call("GET", "/messages/$message/payload"),
        Call("POST", "/messages/$message/resubmit", conflicts=True),
    ),
]

# They take turns: one account may log in twice a second at most.
USERS = ("bench-reader", "bench-visitor")
PASSWORD = "Seven-lanterns-at-dusk"  # noqa: S105 - of an account that ends with the run
_ACCOUNT = {"username": "$unique", "password": PASSWORD}
_TOKEN = {"token": "access_token"}
# Twice a second, on a connection of its own: each hashes a password, one at a time.
LOG_IN: Walk = (
    Call("POST", "/authentication", {"username": "$user", "password": PASSWORD}, 200, _TOKEN),
    Call("GET", "/users/me", bearer="token"),
    Call("GET", "/users/me/sessions", bearer="token"),
    Call("POST", "/tickets", status=201, bearer="token"),
    Call("DELETE", "/authentication", status=204, bearer="token"),
)
# Now and then after one: it hashes three more.
SIGN_UP: Walk = (
    Call("POST", "/users", _ACCOUNT, 201, _TOKEN),
    Call(
        "PUT",
        "/users/me/password",
        {"password": PASSWORD, "new_password": "Nine-lanterns-at-dawn"},
        204,
        bearer="token",
    ),
)

# Not among the routes of which the targets speak, with the reason.
APART = {
    "GET /streams/{}": "a stream has no end",
    "GET /events": "a stream has no end",
    "GET /sensors/{}/export": "takes as long as its file is large",
    "GET /networks/{}/export": "takes as long as its file is large",
    "POST /rules/test": "a dry run reads all of a stored history",
    "GET /rules/{}/test": "a dry run reads all of a stored history",
    "POST /messages/resubmit": "submits all that were rejected, for ten seconds at most",
    "POST /channels/{}/test": "asks somebody else's server",
    "DELETE /users/me/sessions/{}": "ends a session, as DELETE /authentication does",
    "POST /setup": "makes the first administrator, once",
    "GET /rereadenv": "changes what is measured",
    "GET /doctor": "checks the whole database, which takes seconds",
}
# RabbitMQ's asks what EMQX's does, in five ways.
_RABBITMQ = re.compile(r"\w+ /broker/rabbitmq/")


def cycle(described: Collection[str]) -> list[Walk]:
    """Return what each of the connections does again and again on the routes that there are."""
    walks = [*READS * READS_A_CHANGE, *SENDS * READS_A_CHANGE, *CHANGES]
    return [walk for walk in walks if all(call.route in described for call in walk)]


def described(paths: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the routes that the targets are about, by the paths of an OpenAPI document."""
    found = (
        f"{method.upper()} {_PLACEHOLDER.sub('{}', path.removeprefix('/api/v1'))}"
        for path, operations in paths.items()
        for method in operations
    )
    return sorted(route for route in found if route not in APART and not _RABBITMQ.match(route))

"""OpenAPI's examples: of every request body some that work as they stand when they are tried.

They are about one greenhouse: `POST /devices` registers the device that the others name.
"""

from typing import Any

from heliograph.http.paths import PREFIX

DEVICE = "greenhouse-1"
USERNAME = "ada"
_PASSWORD = "Seven-lanterns-at-dusk"  # noqa: S105 - of nobody
_USER = {"username": USERNAME, "password": _PASSWORD}
_SENSOR_CHANGES = {
    "Name it, and expect a message each 15 minutes": {
        "name": "North side",
        "expected_interval": 900,
    },
    "Give it a new configuration": {"configuration": {"interval": 30}},
}
_NODE_CHANGES = {"Note an update": {"firmware_version": "1.5.0"}}
_CHANNEL_CHANGES = {
    "Tell nobody for now": {"enabled": False},
    "Another name": {"name": "Operators at night"},
}
_ANNOTATION = {
    "Another text": {"text": "The door was open, and the fan off"},
    "Until it was closed": {"start": "2026-01-15T11:02:00Z", "end": "2026-01-15T11:20:00Z"},
    "About a moment again": {"end": None},
}
_RETENTION = {
    "Measurements for three months, the rest longer": {
        "raw_days": 90,
        "rollup_days": 730,
        "log_days": 365,
    },
    "Measurements as it is said further up": {"raw_days": None},
}

_RABBITMQ = {"username": DEVICE, "vhost": "/"}
_EXCHANGE = {**_RABBITMQ, "resource": "exchange", "name": "amq.topic", "permission": "write"}

_SILENT = {"name": "Silent", "condition": {"no_data": 900}}
_RULE_CHANGES = {
    "Wait longer before it raises": {"for": 600},
    "Take it out of use": {"enabled": False},
}

# By method and path: by what an example shows, a body.
_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/ingest"): {
        "Flat": {"device_id": DEVICE, "temperature": 22.5, "humidity": 65.0},
        "With a time": {
            "device_id": DEVICE,
            "timestamp": "2024-05-01T12:00:00Z",
            "metrics": {"temperature": 22.5, "humidity": 65.0},
        },
    },
    ("post", "/ingest/batch"): {
        "An array": [
            {"device_id": DEVICE, "timestamp": 1_714_564_800, "temperature": 22.5},
            {"device_id": DEVICE, "timestamp": 1_714_564_860, "temperature": 22.6},
        ],
        "An object": {
            "readings": [{"device_id": DEVICE, "timestamp": 1_714_564_920, "temperature": 22.7}]
        },
        "Readings, log messages and heartbeats": {
            "readings": [{"device_id": DEVICE, "timestamp": 1_714_564_980, "temperature": 22.8}],
            "log_messages": [
                {
                    "device_id": DEVICE,
                    "timestamp": 1_714_564_980,
                    "severity": "info",
                    "subject": "started",
                }
            ],
            "heartbeats": [{"device_id": DEVICE, "timestamp": 1_714_564_980, "battery": 80}],
        },
    },
    ("post", "/packets"): {
        "A packet": {
            "device_id": DEVICE,
            "timestamp": 1_714_565_000,
            "measurements": {"temperature": 22.5, "humidity": 65.0},
            "status": "ok",
            "battery_level": 87,
        }
    },
    ("post", "/sensors/{identifier}/measurements"): {
        "An object": {
            "measurements": [{"timestamp": 1_714_564_800, "value": {"temperature": 22.5}}]
        },
        "An array": [
            {"timestamp": 1_714_564_860, "value": {"temperature": 22.6}},
            {"timestamp": 1_714_564_920, "value": {"temperature": 22.7}},
        ],
        "One": {"temperature": 22.5},
    },
    ("post", "/sensors/{identifier}/logs"): {
        "An object": {
            "log_messages": [
                {"severity": "warning", "subject": "battery low", "details": "3.1 V left"}
            ]
        },
        "One": {"severity": "info", "subject": "started"},
    },
    ("post", "/sensors/{identifier}/heartbeats"): {
        "A revision is applied": {"heartbeats": [{"revision": 0, "success": True}]},
        "A sign of life": {"battery": 80},
    },
    ("post", "/users"): {"An account": _USER},
    ("post", "/setup"): {
        "With the code that `serve` prints": {
            "code": "5tc4-oovq-nk3n",
            "username": "grace",
            "password": _PASSWORD,
        }
    },
    ("post", "/authentication"): {"For a token": _USER},
    ("put", "/users/me/password"): {
        "Another password": {"password": _PASSWORD, "new_password": "Nine-lanterns-at-dawn"}
    },
    ("post", "/networks"): {
        "A name": {"network_name": "greenhouses"},
        "With an identifier": {
            "network_name": "orchards",
            "network_identifier": "3b2f0c1e-6a54-4c8e-9d0b-7f1e5a2c4d68",
        },
    },
    ("put", "/networks/{network_identifier}"): {
        "Another name": {"network_name": "greenhouses of the north"},
        "Let shared keys in": {"shared_keys": True},
    },
    ("put", "/networks/{network_identifier}/members/{username}"): {
        "May read": {"role": "viewer"},
        "May configure": {"role": "editor"},
    },
    ("post", "/sensors"): {
        "By name": {"sensor_name": "roof", "configuration": {"interval": 60}},
        "By what it is": {
            "manufacturer": "Sensirion",
            "model": "SHT41",
            "modality": "temperature",
            "serial_number": "SHT41-0001",
        },
    },
    ("put", "/sensors/{identifier}"): _SENSOR_CHANGES,
    ("patch", "/sensors/{identifier}"): _SENSOR_CHANGES,
    ("post", "/sensors/{identifier}/configurations"): {
        "A configuration": {"configuration": {"interval": 60, "unit": "celsius"}}
    },
    ("post", "/networks/{network_identifier}/configurations"): {
        "For all sensors": {"configuration": {"interval": 60}},
        "Show what a change would give": {"patch": {"interval": 30}, "dry_run": True},
    },
    ("post", "/devices"): {
        "A device": {"device_id": DEVICE, "name": "Greenhouse"},
        "With an inventory": {
            "device_id": "greenhouse-2",
            "name": "South side",
            "serial_number": "ESP32-0002",
            "manufacturer": "Espressif",
            "model": "ESP32-C3",
            "modality": "climate",
            "expected_interval": 900,
        },
    },
    ("post", "/devices/batch"): {
        "An array": [{"device_id": "greenhouse-3"}, {"device_id": "greenhouse-4"}],
        "An object": {"devices": [{"device_id": "greenhouse-5", "name": "Seedlings"}]},
    },
    ("patch", "/devices/{device_id}"): {
        "Another name": {"name": "North side"},
        "Bring it back": {"is_active": True},
    },
    ("post", "/nodes"): {
        "A node": {"serial_number": "MAST-0001", "firmware_version": "1.4.2", "name": "North mast"}
    },
    ("put", "/nodes/{node_id}"): _NODE_CHANGES,
    ("patch", "/nodes/{node_id}"): _NODE_CHANGES,
    ("post", "/nodes/{node_id}/sensors"): {"A sensor": {"sensor_id": DEVICE}},
    ("post", "/rules"): {
        "Above a threshold, with hysteresis and for five minutes": {
            "name": "Too hot",
            "id": "8f0c7f5e-2f6b-4f0a-9d0e-6b1d2c3a4e5f",
            "match": {"sensors": [DEVICE]},
            "condition": {"attribute": "temperature", "above": 30, "clear_below": 28},
            "for": 300,
            "severity": "critical",
            "actions": [
                {"type": "alert", "text": "{{sensor.device_id}}: {{value.temperature}} °C"}
            ],
        },
        "Out of a range": {
            "name": "Humidity out of range",
            "condition": {
                "attribute": "humidity",
                "outside": [40, 80],
                "clear_inside": [45, 75],
            },
            "actions": [{"type": "alert"}],
        },
        "Nothing for a quarter of an hour": {**_SILENT, "actions": [{"type": "alert"}]},
        "Offline for five minutes": {
            "name": "Offline",
            "condition": {"offline": 300},
            "actions": [{"type": "alert"}],
        },
        "A leap from one measurement to the next": {
            "name": "Leap",
            "condition": {"attribute": "temperature", "change": 5},
            "actions": [{"type": "sse", "on": "message"}],
        },
        "An error is logged": {
            "name": "Errors",
            "condition": {"severity_at_least": "error"},
            "actions": [{"type": "mqtt", "topic": "commands", "payload": {"restart": True}}],
        },
        "An expression (CEL)": {
            "name": "Muggy",
            "condition": {"cel": "value.temperature > 25.0 && value.humidity > 70.0"},
            "cooldown": 3_600,
            "actions": [{"type": "alert"}],
        },
    },
    ("put", "/rules/{rule_id}"): _RULE_CHANGES,
    ("patch", "/rules/{rule_id}"): _RULE_CHANGES,
    ("post", "/rules/test"): {"Silences": _SILENT},
    ("post", "/channels"): {
        "E-mail": {"name": "Operators", "type": "email", "to": ["operator@example.org"]},
        "A webhook, signed and with a header": {
            "name": "Incidents",
            "type": "webhook",
            "url": "https://example.org/hooks/heliograph",
            "secret": "what the receiver checks the signature with",
            "headers": {"Authorization": "Bearer a-token"},
        },
        "Push messages by ntfy": {"name": "Phones", "type": "apprise", "url": "ntfys://a-topic"},
    },
    ("put", "/channels/{channel_id}"): _CHANNEL_CHANGES,
    ("patch", "/channels/{channel_id}"): _CHANNEL_CHANGES,
    ("post", "/alerts/{alert_id}/acknowledge"): {
        "With a comment": {"comment": "On my way, back within the hour"}
    },
    ("post", "/silences"): {
        "A sensor is moved": {
            "sensor": DEVICE,
            "ends_at": "2100-01-01T12:00:00Z",
            "starts_at": "2100-01-01T10:00:00Z",
            "comment": "It is moved to the other bay",
        },
        "Work on the roof": {
            "tag": "roof",
            "starts_at": "2100-01-02T06:00:00Z",
            "ends_at": "2100-01-02T18:00:00Z",
        },
    },
    ("put", "/silences/{silence_id}"): {"It takes longer": {"ends_at": "2100-01-01T14:00:00Z"}},
    ("post", "/networks/{network_identifier}/import-preview"): {
        "A logger's table": {
            "table": "time,temperature\n2026-05-01 12:00,21.5\n2026-05-01 12:10,21.7\n",
            "sensor": DEVICE,
            "time_zone": "Europe/Berlin",
        }
    },
    ("post", "/sensors/{identifier}/annotations"): {
        "A moment": {"text": "The door was open", "start": "2026-01-15T11:02:00Z"},
        "A span, of one attribute": {
            "text": "Calibrated: 0.4 °C too high until here",
            "start": "2026-01-14T09:00:00Z",
            "end": "2026-01-15T11:00:00Z",
            "attribute": "temperature",
        },
    },
    ("put", "/sensors/{identifier}/annotations/{annotation_id}"): _ANNOTATION,
    ("patch", "/sensors/{identifier}/annotations/{annotation_id}"): _ANNOTATION,
    ("post", "/networks/{network_identifier}/boards"): {
        "An empty one": {"name": "Control room"},
        "A week's course": {
            "name": "Fields",
            "panels": [
                {
                    "kind": "chart",
                    "title": "Air",
                    "series": [{"sensor": "fields-1", "attribute": "temperature"}],
                    "range": "7d",
                },
            ],
        },
    },
    ("put", "/networks/{network_identifier}/boards/{board_id}"): {
        "Another name": {"name": "Lobby"},
        "Nothing on it": {"panels": []},
    },
    ("put", "/networks/{network_identifier}/retention"): _RETENTION,
    ("post", "/networks/{network_identifier}/retention-preview"): _RETENTION,
    ("put", "/sensors/{identifier}/retention"): _RETENTION,
    ("post", "/messages/resubmit"): {
        "All that a device was not known for": {"reason": "UNKNOWN_SENSOR"},
        "A sensor's, of an hour": {
            "sensor": DEVICE,
            "start_time": "2026-01-15T11:00:00Z",
            "end_time": "2026-01-15T12:00:00Z",
        },
    },
    ("post", "/broker/emqx/authentication"): {
        "A device connects": {
            "username": DEVICE,
            "password": "the key of the device",
            "clientid": DEVICE,
            "peerhost": "192.0.2.7",
        }
    },
    ("post", "/broker/emqx/authorization"): {
        "A device publishes": {
            "username": DEVICE,
            "topic": f"measurements/{DEVICE}",
            "action": "publish",
            "clientid": DEVICE,
        }
    },
    ("post", "/broker/rabbitmq/user"): {
        "A device connects": {**_RABBITMQ, "password": "the key of the device", "client_id": DEVICE}
    },
    ("post", "/broker/rabbitmq/vhost"): {"A device connects": {**_RABBITMQ, "ip": "192.0.2.7"}},
    ("post", "/broker/rabbitmq/resource"): {"A device publishes": _EXCHANGE},
    ("post", "/broker/rabbitmq/topic"): {
        "A device publishes": {
            **_EXCHANGE,
            "resource": "topic",
            "routing_key": f"measurements.{DEVICE}",
        }
    },
}


def describe(document: dict[str, Any]) -> None:
    """Add to each request body its examples."""
    for (method, path), examples in _BODIES.items():
        content = document["paths"][PREFIX + path][method]["requestBody"]["content"]
        for kind, media in content.items():
            media["examples"] = {shows: {"value": body} for shows, body in examples.items()}
            if kind != "application/json":
                # Swagger UI asks for a form member by member.
                for name, member in media["schema"]["properties"].items():
                    member["examples"] = [body[name] for body in examples.values()]

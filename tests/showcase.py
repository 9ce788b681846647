"""A nursery's sensors over eight days, the same each time: what pictures of the dashboard show."""

import contextlib
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

USER, PASSWORD = "ada", "Nine-lanterns-at-dawn"
DAY = 86_400
DAYS, STEP = 8, 600
TEMPERATURE = {"temperature": {"unit": "°C", "display_name": "Air"}}
CLIMATE = {**TEMPERATURE, "humidity": {"unit": "%", "display_name": "Humidity"}}
SOIL = {
    "moisture": {"unit": "%", "display_name": "Soil moisture"},
    "soil_temperature": {"unit": "°C", "display_name": "Soil"},
}
WEATHER = {
    **TEMPERATURE,
    "wind": {"unit": "m/s", "display_name": "Wind"},
    "radiation": {"unit": "W/m²", "display_name": "Radiation"},
}
CHANGE = {"interval": 60, "averages": 5, "vents": {"open_above": 27, "close_below": 24}}


@dataclass
class Sensor:
    """A sensor, and how it behaves."""

    device_id: str
    name: str
    attributes: dict[str, dict[str, str]]
    tags: list[str]
    place: str
    east: float = 0
    north: float = 0
    # Seconds since it sent for the last time, and whether it is connected.
    silent: float = 0
    is_connected: bool = True
    warmer: float = 0
    key: str = field(default="", repr=False)


SENSORS = [
    *(
        Sensor(
            f"climate-{bay}",
            f"House {bay}",
            CLIMATE,
            ["climate", "heated"] if bay < 4 else ["climate"],
            f"Glasshouse {bay}, middle bay",
            east=30 * bay,
            north=20 * (bay % 2),
            warmer=2.6 * (bay == 3),
            silent=3 * 3_600 * (bay == 5),
            is_connected=bay != 5,
        )
        for bay in range(1, 7)
    ),
    *(
        Sensor(
            f"soil-{bed}",
            f"Bed {bed}",
            SOIL,
            ["soil"],
            f"Propagation bed {bed}",
            east=25 * bed,
            north=-60,
            is_connected=bed != 4,
        )
        for bed in range(1, 5)
    ),
    Sensor("weather", "Weather mast", WEATHER, ["roof"], "Roof of the packing hall", 90, 80),
    Sensor(
        "tank",
        "Rain water",
        {"level": {"unit": "%", "display_name": "Level"}},
        ["water"],
        "Tank behind the packing hall",
        140,
        70,
    ),
    Sensor("pump", "Pump", {}, ["water"], "Pump house", 150, 60),
    Sensor("cold-store", "Cold store", TEMPERATURE, ["cold"], "Packing hall", 110, 85),
    Sensor("new-arrival", "", {}, [], "", silent=math.inf, is_connected=False),
]


def values(sensor: Sensor, at: float, now: float, chance: random.Random) -> dict[str, Any]:
    """Return what a sensor measures at a time: a course by its distance from now."""
    ago = now - at
    hour = (14.5 - ago / 3_600) % 24
    sun = max(0.0, math.sin((hour - 6) / 12 * math.pi))
    clouds = 0.75 + 0.25 * math.sin(ago / 17_000) * math.cos(ago / 41_000)
    outside = 13 + 6 * math.sin((hour - 9) / 12 * math.pi) + 2 * math.sin(ago / 150_000)
    if sensor.device_id.startswith("climate"):
        air = 17 + 0.25 * outside + 7.5 * sun * clouds + sensor.warmer * sun
        air += chance.gauss(0, 0.12)
        return {
            "temperature": round(air, 2),
            "humidity": round(min(98, 118 - 2.1 * air + chance.gauss(0, 0.6)), 1),
        }
    if sensor.device_id.startswith("soil"):
        since_watered = (ago / DAY + int(sensor.device_id[-1]) * 0.4) % 2
        return {
            "moisture": round(28 + 7 * since_watered + chance.gauss(0, 0.15), 1),
            "soil_temperature": round(16.5 + 0.1 * outside + chance.gauss(0, 0.05), 2),
        }
    if sensor.device_id == "weather":
        return {
            "temperature": round(outside + chance.gauss(0, 0.15), 2),
            "wind": round(abs(3 + 2 * math.sin(ago / 9_000) + chance.gauss(0, 0.7)), 1),
            "radiation": round(820 * sun * clouds * (1 + chance.gauss(0, 0.03))),
        }
    if sensor.device_id == "tank":
        return {"level": round(24 + 5.5 * (ago / DAY) % 60 + chance.gauss(0, 0.1), 1)}
    if sensor.device_id == "pump":
        runs = hour % 6 < 1
        return {"running": runs, "mode": "irrigation" if runs else "standby", "pressure": 2.4}
    opened = 3 if 40 * 60 < ago % (5 * 3_600) < 60 * 60 else 0
    return {"temperature": round(3.4 + opened + chance.gauss(0, 0.1), 2)}


@dataclass
class Showcase:
    """What is in a server afterwards: the names in the paths of its pages."""

    names: dict[str, str]


@contextlib.contextmanager
def showcase(http: httpx.Client, mqtt_port: int) -> Iterator[Showcase]:
    """Fill a server that is empty, as its administrator; devices stay connected meanwhile."""
    network = _post(http, "/networks", network_name="Nursery")["network_identifier"]
    _post(http, "/networks", network_name="Trial fields")
    for username in ("grace", "linus"):
        _post(http, "/users", username=username, password=PASSWORD)
    for username, role in (("ada", "owner"), ("grace", "editor"), ("linus", "viewer")):
        http.put(f"/networks/{network}/members/{username}", json={"role": role}).raise_for_status()
    for sensor in SENSORS:
        sensor.key = _register(http, network, sensor)
    names = {"network": network, "sensor": "climate-3", **_rules(http, network)}
    _configure(http)
    now = time.time()
    _send(http, now)
    _annotate(http, now)
    _live(http, now)
    with contextlib.ExitStack() as stack:
        for sensor in SENSORS:
            if sensor.is_connected:
                stack.enter_context(_connected(sensor, mqtt_port))
        names["alert"] = _alerts(http)
        names["board"] = _board(http, network)
        # One that can't be accepted, with its reason.
        http.post(
            "/sensors/climate-2/measurements",
            json={"measurements": [{"value": {"temperature": 21.4}, "timestamp": "yesterday"}]},
        )
        yield Showcase(names)


def _register(http: httpx.Client, network: str, sensor: Sensor) -> str:
    body = {
        "device_id": sensor.device_id,
        "network_identifier": network,
        "name": sensor.name or None,
        "attributes": sensor.attributes,
        "tags": sensor.tags,
        # What is said of the past has arrived just now: only a short one makes late.
        "expected_interval": 1 if sensor.silent else 1_800,
    }
    if sensor.place:
        body["latitude"] = 51.9692 + sensor.north / 111_000
        body["longitude"] = 5.6654 + sensor.east / 68_000
        body["place"] = sensor.place
    return str(_post(http, "/devices", **body)["api_key"])


def _rules(http: httpx.Client, network: str) -> dict[str, str]:
    made = {}
    for name, severity, condition, match in (
        (
            "Too hot",
            "critical",
            {"attribute": "temperature", "above": 30, "clear_below": 28},
            {"tags": ["climate"]},
        ),
        ("Little water", "warning", {"attribute": "level", "below": 30}, {"sensors": ["tank"]}),
        ("Silent", "warning", {"no_data": 7_200}, {"tags": ["climate", "soil"]}),
        ("Errors", "info", {"severity_at_least": "error"}, {}),
    ):
        body = {"name": name, "severity": severity, "condition": condition, "match": match}
        actions = [{"type": "alert"}]
        made[name] = _post(http, "/rules", network_identifier=network, actions=actions, **body)
    operators = {"name": "Operators", "type": "email", "to": ["operators@example.org"]}
    channel = _post(http, "/channels", network_identifier=network, **operators)
    now = time.time()
    _post(
        http,
        "/silences",
        network_identifier=network,
        tag="cold",
        starts_at=now,
        ends_at=now + 2 * DAY,
        comment="The door's seal is being replaced",
    )
    return {"rule": str(made["Too hot"]["id"]), "channel": str(channel["id"])}


def _configure(http: httpx.Client) -> None:
    """The third one has two revisions confirmed; the last is on its way."""
    for number, averages in enumerate((1, 3, 5)):
        http.post(
            "/sensors/climate-3/configurations",
            json={"configuration": {**CHANGE, "averages": averages}},
        ).raise_for_status()
        if number < 2:
            heartbeat = {"heartbeats": [{"revision": number, "success": True, "battery": 87}]}
            http.post("/sensors/climate-3/heartbeats", json=heartbeat).raise_for_status()
    for device_id in ("climate-1", "soil-1", "weather"):
        http.post(
            f"/sensors/{device_id}/configurations", json={"configuration": CHANGE}
        ).raise_for_status()
    http.post(
        "/sensors/climate-1/heartbeats", json={"heartbeats": [{"revision": 0, "success": True}]}
    ).raise_for_status()


def _send(http: httpx.Client, now: float) -> None:
    readings, logs = [], []
    for number, sensor in enumerate(SENSORS):
        chance = random.Random(number)
        for step in range(DAYS * DAY // STEP, -1, -1):
            ago = step * STEP + 7 * number
            if ago < sensor.silent or (sensor.device_id == "soil-2" and 50 < ago / 3_600 < 61):
                continue
            at = now - ago
            readings.append(
                {
                    "device_id": sensor.device_id,
                    "timestamp": at,
                    "metrics": values(sensor, at, now, chance),
                }
            )
    for hours, severity, subject in (
        (170, "info", "started"),
        (98, "warning", "supply voltage low"),
        (53, "warning", "supply voltage low"),
        (28, "error", "humidity sensor does not answer"),
        (27, "info", "humidity sensor answers again"),
        (5, "info", "vents opened"),
    ):
        logs.append(
            {
                "device_id": "climate-3",
                "timestamp": now - hours * 3_600,
                "severity": severity,
                "subject": subject,
                "revision": 0,
            }
        )
    # Rules look at what comes in the order of its times.
    readings.sort(key=lambda reading: reading["timestamp"])
    for first in range(0, len(readings), 5_000):
        _post(http, "/ingest/batch", readings=readings[first : first + 5_000])
    _post(http, "/ingest/batch", readings=[], log_messages=logs)


def _annotate(http: httpx.Client, now: float) -> None:
    for hours, until, text, attribute in (
        (20.5, 19.25, "Vents open for cleaning", None),
        (9, None, "Sensor wiped", "humidity"),
    ):
        body = {"text": text, "start": now - hours * 3_600, "attribute": attribute}
        if until is not None:
            body["end"] = now - until * 3_600
        _post(http, "/sensors/climate-3/annotations", **body)


def _live(http: httpx.Client, now: float) -> None:
    """It says each hour that it lives, but for an evening; once its clock was not set yet."""
    heartbeats = [
        {"timestamp": now - hours * 3_600, "battery": 87 - hours // 12}
        for hours in range(96, 0, -1)
        if not 39 < hours < 46
    ]
    body = {"heartbeats": heartbeats}
    http.post("/sensors/climate-3/heartbeats", json=body).raise_for_status()
    wrong = {"measurements": [{"value": {"temperature": 21.4}, "timestamp": "not set"}]}
    http.post("/sensors/climate-3/measurements", json=wrong)


def _alerts(http: httpx.Client) -> str:
    """Wait for those of the rules; return the one that the page of an alert shows."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        alerts = http.get("/alerts").json()
        of_rule = {alert["name"]: str(alert["id"]) for alert in alerts}
        if {"Too hot", "Little water"} <= of_rule.keys():
            http.post(
                f"/alerts/{of_rule['Little water']}/acknowledge",
                json={"comment": "The lorry comes at noon"},
            ).raise_for_status()
            return of_rule["Little water"]
        time.sleep(0.1)
    raise AssertionError(f"alerts were raised by {sorted(of_rule)} alone")


def _board(http: httpx.Client, network: str) -> str:
    def panel(kind: str, title: str, *series: tuple[str, str]) -> dict[str, Any]:
        named = [{"sensor": sensor, "attribute": attribute} for sensor, attribute in series]
        shown = {"range": "7d"} if kind == "chart" else {}
        return {"kind": kind, "title": title, "series": named, **shown}

    board = _post(
        http,
        f"/networks/{network}/boards",
        name="Packing hall",
        panels=[
            panel(
                "values",
                "Now",
                ("climate-3", "temperature"),
                ("tank", "level"),
                ("cold-store", "temperature"),
            ),
            panel("chart", "Air", *((f"climate-{bay}", "temperature") for bay in (1, 2, 3))),
            panel("chart", "Soil moisture", *((f"soil-{bed}", "moisture") for bed in (1, 2))),
        ],
    )
    return str(board["id"])


@contextlib.contextmanager
def _connected(sensor: Sensor, port: int) -> Iterator[None]:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=sensor.device_id)
    client.username_pw_set(sensor.device_id, sensor.key)
    client.connect("127.0.0.1", port, keepalive=600)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def _post(http: httpx.Client, path: str, **body: Any) -> Any:
    response = http.post(path, json=body)
    assert response.is_success, f"{path}: {response.text[:1_000]}"
    return response.json()

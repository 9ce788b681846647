"""Alerts and silences over HTTP: who sees and does what, what streams show, and the clock."""

import uuid

import msgspec
import pytest

from heliograph.http.alerts import alert_frames
from heliograph.live.streams import SERVER
from heliograph.model.alert import NewAlert
from heliograph.model.time import HOUR, now, parse, to_epoch_seconds, to_rfc3339
from heliograph.processing import alerting
from heliograph.store.alerts import change_alerts
from integration.http.conftest import ADMIN, send
from ports import free_port
from server import eventually

RULE = str(uuid.uuid4())


@pytest.fixture
async def here(site):
    async with site() as running:
        running.http.headers.update(ADMIN)
        yield running


async def begin(here, device_id=None, network=None, rule=RULE, **members):
    """Raise an alert as the processor does, of a sensor and its network, or of the server."""
    store = here.services.store
    sensor = None if device_id is None else await store.sensors.find(device_id)
    new = NewAlert(
        rule,
        sensor.number if sensor else 0,
        sensor.network_identifier if sensor else network,
        *("Too hot", "warning", "31 °C", now()),
        **members,
    )
    async with store.engine.transaction() as transaction:
        [change] = await change_alerts(transaction, [new], now())
    store.alerts.changed([change])
    return change.alert


async def test_an_alert_is_read_acknowledged_and_cleared(here):
    await here.device("pump-1", name="Pump")
    alert = await begin(here, "pump-1", rule="rule")
    shown = (await here.http.get(f"/alerts/{alert.id}")).json()
    assert (shown["state"], shown["severity"], shown["device_id"]) == (
        "raised",
        "warning",
        "pump-1",
    )
    assert shown["sensor_name"] == "Pump"
    assert [event["event"] for event in shown.pop("events")] == ["raised"]
    listed = await here.http.get("/alerts")
    assert (listed.json(), listed.headers["x-total-count"]) == ([shown], "1")
    answer = await here.http.post(f"/alerts/{alert.id}/acknowledge", json={"comment": "on my way"})
    assert answer.status_code == 200
    acknowledged = answer.json()
    assert (acknowledged["state"], acknowledged["comment"]) == ("acknowledged", "on my way")
    assert acknowledged["acknowledged_by"] == "admin"
    for query, count in {
        "state=open": 1,
        "state=raised": 0,
        "state=acknowledged": 1,
        "state=cleared": 0,
        "severity=critical": 0,
        "severity=warning&sensor=pump-1": 1,
        "rule=rule": 1,
        "rule=disk": 0,
        f"network_identifier={alert.network_identifier}&limit=1": 1,
    }.items():
        listed = await here.http.get(f"/alerts?{query}")
        assert len(listed.json()) == count == int(listed.headers["x-total-count"]), query
    cleared = (await here.http.post(f"/alerts/{alert.id}/clear")).json()
    assert (cleared["state"], cleared["cleared_by"]) == ("cleared", "admin")
    for action in ("acknowledge", "clear"):
        answer = await here.http.post(f"/alerts/{alert.id}/{action}")
        assert (answer.status_code, answer.json()["code"]) == (409, "ALERT_CLEARED")
    for identifier in ("0", "x", "99", "9" * 30, "²"):
        answer = await here.http.get(f"/alerts/{identifier}")
        assert (answer.status_code, answer.json()["code"]) == (404, "ALERT_NOT_FOUND"), identifier
    for query, status in (
        ("state=old", 422),
        ("sensor=nobody", 404),
        ("rule=other", 404),
        ("colour=red", 422),
    ):
        assert (await here.http.get(f"/alerts?{query}")).status_code == status, query


async def test_who_sees_every_network_sees_no_alerts_of_the_server(site):
    async with site(anonymous_role="viewer", anonymous_networks="*", host="127.0.0.1") as here:
        await here.device("pump-1")
        await here.device("pump-2")
        mine, _ = await begin(here, "pump-1"), await begin(here, rule="disk")
        for query, found in (("", [mine]), ("?sensor=pump-1", [mine]), ("?sensor=pump-2", [])):
            shown = (await here.http.get(f"/alerts{query}")).json()
            assert [each["id"] for each in shown] == [str(each.id) for each in found], query


async def test_alerts_of_the_server_are_the_administrators(here):
    ada = await here.user("ada")
    network = await here.network("ada's", ada="owner")
    of_server = await begin(here, rule="broker")
    own = await begin(here, network=network, rule="own")
    # Hers by a rule that has raised nothing; and one that has, of somebody else's network.
    quiet = {"name": "Quiet", "condition": {"no_data": 900}, "network_identifier": network}
    quiet = (await here.http.post("/rules", json=quiet)).json()["id"]
    others = (await here.services.store.networks.default()).identifier
    await begin(here, rule="foreign", network=others)
    listed = await here.http.get("/alerts", params={"rule": "foreign"})
    assert listed.headers["x-total-count"] == "1"
    assert [each["id"] for each in (await here.http.get("/alerts")).json()][1:] == [
        str(own.id),
        str(of_server.id),
    ]
    here.http.headers.pop("x-api-key")
    for rule, status in (("foreign", 404), ("nobody's", 404), ("own", 200), (quiet, 200)):
        answer = await here.http.get("/alerts", params={"rule": rule}, headers=ada)
        assert answer.status_code == status, rule
    assert [each["id"] for each in (await here.http.get("/alerts", headers=ada)).json()] == [
        str(own.id)
    ]
    for method, path in (("GET", ""), ("POST", "/acknowledge"), ("POST", "/clear")):
        asked = f"/alerts/{of_server.id}{path}"
        assert (await here.http.request(method, asked, headers=ada)).status_code == 404, asked
    ends_at = to_rfc3339(now() + HOUR)
    everywhere = {"network_identifier": None, "ends_at": ends_at}
    assert (await here.http.post("/silences", json=everywhere, headers=ada)).status_code == 403
    made = await here.http.post("/silences", json=everywhere, headers=ADMIN)
    assert (made.status_code, made.json()["network_identifier"]) == (201, None)
    path = f"/silences/{made.json()['id']}"
    assert (await here.http.get(path, headers=ada)).status_code == 404
    assert (await here.http.get("/silences", headers=ada)).json() == []
    assert len((await here.http.get("/silences", headers=ADMIN)).json()) == 1


async def test_a_silence_is_made_changed_and_ended(here, monkeypatch):
    await here.device("pump-1", name="Pump")
    foreign = await here.network("other")
    document = {"name": "Too hot", "condition": {"attribute": "t", "above": 30}}
    rule = (await here.http.post("/rules", json=document)).json()["id"]
    ends_at = to_rfc3339(now() + HOUR)
    answer = await here.http.post(
        "/silences", json={"sensor": "pump-1", "ends_at": ends_at, "comment": "work"}
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["device_id"], made["author"], made["ends_at"]) == ("pump-1", "admin", ends_at)
    assert made["sensor_name"] == "Pump"
    alert = await begin(here, "pump-1", rule="rule")
    assert (await here.http.get(f"/alerts/{alert.id}")).json()["silenced"] is True
    path = f"/silences/{made['id']}"
    assert (await here.http.get(path)).json() == made
    assert (await here.http.put(path, json=made)).json() == made
    later = to_rfc3339(now() + 2 * HOUR)
    for form in (later, to_epoch_seconds(parse(later))):
        changed = (await here.http.put(path, json={"ends_at": form})).json()
    assert changed == {**made, "ends_at": later}
    past = to_rfc3339(now() - HOUR)
    for body, status in (
        ({}, 422),
        ({"ends_at": past}, 422),
        ({"ends_at": past, "starts_at": to_rfc3339(now() - 2 * HOUR)}, 422),
        ({"ends_at": True}, 422),
        ({"ends_at": 1e300}, 422),
        ({"ends_at": "2099-01-01T00:00:00Z"}, 422),
        ({"ends_at": ends_at, "starts_at": later}, 422),
        ({"ends_at": ends_at, "sensor": "nobody"}, 404),
        ({"ends_at": ends_at, "sensor": "pump-1", "network_identifier": foreign}, 404),
        ({"ends_at": ends_at, "senser": "pump-1"}, 422),
        ({"ends_at": ends_at, "tag": ""}, 422),
        ({"ends_at": ends_at, "rule": "Too hot"}, 404),
        ({"ends_at": ends_at, "rule": "disk"}, 404),
        ({"ends_at": ends_at, "rule": rule, "network_identifier": foreign}, 404),
    ):
        assert (await here.http.post("/silences", json=body)).status_code == status, body
    for body in ({"rule": "disk"}, {"rule": rule.upper()}):
        body |= {"ends_at": ends_at, "network_identifier": None}
        made = (await here.http.post("/silences", json=body)).json()
        assert made["rule"] == body["rule"].lower()
        await here.http.delete(f"/silences/{made['id']}")
    assert (await here.http.put(path, json={"tag": "roof"})).status_code == 422
    assert (await here.http.delete(path)).status_code == 204
    for method in ("GET", "PUT", "DELETE"):
        answer = await here.http.request(method, path, json={} if method == "PUT" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "SILENCE_NOT_FOUND")

    # It acts at once, without anybody's waiting for the clock's next look.
    async def is_loud():
        return not (await here.http.get(f"/alerts/{alert.id}")).json()["silenced"]

    await eventually(is_loud)
    assert (await here.http.get("/silences")).json() == []
    over = (await here.http.post("/silences", json={"ends_at": later})).json()
    monkeypatch.setattr("heliograph.http.silences.now", lambda: now() + 3 * HOUR)
    assert (await here.http.get("/silences")).json() == []
    assert (await here.http.get("/silences?ended=true")).json() == [over]


async def test_streams_of_the_network_show_what_becomes_of_alerts(here):
    await here.device("pump-1")
    shown = []
    here.services.store.alerts.changed.add(lambda changes: shown.extend(alert_frames(changes)))
    alert = await begin(here, "pump-1", rule="rule")
    await here.http.post(f"/alerts/{alert.id}/acknowledge")
    await here.http.post(f"/alerts/{alert.id}/clear")
    await begin(here, rule="broker")
    members = [msgspec.json.decode(frame.data) for frame in shown]
    assert [each["event"] for each in members] == ["raised", "acknowledged", "cleared", "raised"]
    assert {frame.kind for frame in shown} == {"alert"}
    assert [frame.network for frame in shown] == [alert.network_identifier] * 3 + [SERVER]
    assert [each["device_id"] for each in members] == ["pump-1"] * 3 + [None]
    assert (members[3]["rule"], members[3]["sensor_identifier"]) == ("broker", None)
    assert members[1]["acknowledged_by"] == "admin"


async def test_administrators_are_shown_the_servers_own_alerts(here, serving, watching):
    ash = await here.user("ash")
    network = await here.network("kanto", ash="owner")
    pump = await here.device("pump-1", network_identifier=network)
    async with (
        serving(here.web) as port,
        watching(port, "/events") as admins,
        watching(port, "/events?sensor=pump-1") as narrowed,
        watching(port, f"/streams/{network}?kind=alert") as of_network,
        watching(port, "/events", ash) as owners,
        watching(port, "/events", pump) as devices,
    ):
        await begin(here, rule="broker")
        await begin(here, "pump-1", rule="rule")
        assert [(await admins.event())[1]["rule"] for _ in range(2)] == ["broker", "rule"]
        for each in (narrowed, of_network, owners):
            assert (await each.event())[1]["rule"] == "rule"
        await send(here, 1, sensor="pump-1")
        assert (await devices.event())[0] == "measurement"


async def test_alerts_of_a_rule_that_is_gone_are_cleared(here):
    await here.device("pump-1")
    alert = await begin(here, "pump-1")
    await here.services.registry.changed()
    here.services.registry.changes()

    async def is_cleared():
        return (await here.http.get(f"/alerts/{alert.id}")).json()["state"] == "cleared"

    await eventually(is_cleared)


async def test_the_server_raises_alerts_about_a_sensor_whose_messages_are_rejected(
    site, monkeypatch
):
    monkeypatch.setattr(alerting, "WATCH_SECONDS", 0.1)
    async with site(processing_interval=0.05) as here:
        key = await here.device("pump-1")
        for _ in range(10):
            answer = await here.http.post("/ingest", content=b'{"t": NaN}', headers=key)
            assert answer.status_code == 422

        async def alerts():
            return (await here.http.get("/alerts", headers=ADMIN)).json()

        await eventually(alerts)
        [alert] = await alerts()
        assert (alert["rule"], alert["device_id"]) == ("rejected", "pump-1")
        assert alert["network_identifier"] == here.services.registry.default_network
        assert "10 messages" in alert["summary"]


async def test_a_broker_that_is_away_is_an_alert_for_the_administrator(site, monkeypatch):
    at_once = [each._replace(hold=0) for each in alerting.CONDITIONS]
    monkeypatch.setattr(alerting, "CONDITIONS", at_once)
    url = f"mqtt://127.0.0.1:{free_port()}"
    async with site(mqtt_url=url, processing_interval=0.05) as here:
        ash = await here.user("ash")

        async def alerts(headers):
            return (await here.http.get("/alerts", headers=headers)).json()

        await eventually(lambda: alerts(ADMIN))
        [alert] = await alerts(ADMIN)
        assert (alert["rule"], alert["network_identifier"]) == ("broker", None)
        assert alert["severity"] == "critical"
        assert await alerts(ash) == []

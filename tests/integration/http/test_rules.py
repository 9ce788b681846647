"""Rules over HTTP: made, read, changed, tried on what is stored, and who may."""

import uuid
import xml.etree.ElementTree as ET

import pytest

from heliograph.http import rules
from heliograph.model.time import SECOND, to_rfc3339
from heliograph.processing import dry_run
from integration.http.conftest import ADMIN

HOT = {"name": "Hot", "condition": {"attribute": "temperature", "above": 30, "clear_below": 28}}
START = 1_750_000_000
MEMBERS = {
    *("id", "network_identifier", "name", "enabled", "kinds", "match", "condition", "for"),
    *("clear_for", "cooldown", "late", "severity", "actions", "created_at", "changed_at"),
    *("author", "unknown_sensors", "unknown_channels"),
}


@pytest.fixture
async def here(site):
    """The running server; every call is the admin's unless it says whose it is."""
    async with site(mqtt_listen=()) as running:
        running.http.headers.update(ADMIN)
        yield running


async def made(here, **members):
    response = await here.http.post("/rules", json={**HOT, **members})
    assert response.status_code == 201, response.text
    return response.json()


def problem(response):
    assert response.status_code == 422, response.text
    (found,) = response.json()["detail"]
    return ".".join(map(str, found["loc"][1:])), found["msg"]


async def test_a_rule_is_made_read_listed_changed_sent_back_and_deleted(here):
    identifier = str(uuid.uuid4())
    rule = await made(here, id=identifier.upper(), match={"sensors": ["pump-1", "pump-2"]})
    assert set(rule) == MEMBERS
    assert (rule["id"], rule["author"]) == (identifier, "admin")
    assert rule["network_identifier"] == here.services.registry.default_network
    assert (rule["enabled"], rule["kinds"], rule["for"], rule["severity"]) == (
        *(True, ["measurement"], 0, "warning"),
    )
    assert rule["condition"] == HOT["condition"]
    assert rule["created_at"] == rule["changed_at"]
    path = f"/rules/{identifier}"
    # A rule may be made before its sensors are.
    assert rule["unknown_sensors"] == ["pump-1", "pump-2"]
    await here.device("pump-1")
    await here.device("pump-2", network_identifier=await here.network("roof"))
    rule = (await here.http.get(path.upper().replace("RULES", "rules"))).json()
    assert rule["unknown_sensors"] == ["pump-2"]

    # What GET gave can be sent back, and changes nothing.
    for method in ("PUT", "PATCH"):
        answer = await here.http.request(method, path, json=rule)
        assert (answer.status_code, answer.json()) == (200, rule), answer.text
    answer = await here.http.put(path, json={**rule, "author": "ada"})
    assert problem(answer) == ("author", "is not what it is: the server alone sets it")
    # Sensors may have come and gone since it was read.
    given = {**rule, "unknown_sensors": [], "changed_at": "2020-01-01T00:00:00Z", "late": True}
    answer = (await here.http.put(path, json=given)).json()
    assert (answer["late"], answer["unknown_sensors"]) == (True, ["pump-2"])
    assert answer["changed_at"] > rule["changed_at"]

    later = [{"after": 9, "severity": "critical", "channels": ["boss"]}]
    channels = [
        {"type": "alert", "channels": ["phone"], "escalate": later},
        {"type": "webhook", "channel": "pager", "on": "cleared"},
    ]
    changed = await here.http.patch(path, json={"for": 60, "actions": channels, "match": None})
    changed = changed.json()
    assert (changed["for"], changed["late"]) == (60, True)
    assert (changed["match"], changed["unknown_sensors"]) == ({"sensors": [], "tags": []}, [])
    assert changed["actions"] == [channels[0], channels[1]]
    assert changed["unknown_channels"] == ["boss", "pager", "phone"]

    off = await made(here, name="Off", enabled=False)
    for query, wanted in (
        ("", [changed, off]),
        ("?enabled=false", [off]),
        ("?name=Hot", [changed]),
        ("?offset=1&limit=1", [off]),
        (f"?network_identifier={uuid.uuid4()}", None),
    ):
        answer = await here.http.get(f"/rules{query}")
        assert answer.json() == wanted if wanted else answer.status_code == 404, query
        if wanted:
            total = 1 if "=" in query and "offset" not in query else 2
            assert answer.headers["x-total-count"] == str(total)

    assert (await here.http.delete(path)).status_code == 204
    for answer in (await here.http.get(path), await here.http.delete(path)):
        assert (answer.status_code, answer.json()["code"]) == (404, "RULE_NOT_FOUND")
    for unknown in ("test", "Hot", "%00"):
        assert (await here.http.get(f"/rules/{unknown}")).status_code == 404


async def test_what_is_no_rule_is_refused_by_name(here, monkeypatch):
    await here.device("pump-1")
    rule = await made(here)
    path = f"/rules/{rule['id']}"
    above = HOT["condition"]
    large = {"tags": ["x"], "sensors": [f"{number:064}" for number in range(1_000)]}
    for body, place, message in (
        ({"nam": "x"}, "nam", "unknown member: did you mean `name`?"),
        ({"condition": {"attribute": "t", "abov": 3}}, "condition.abov", "did you mean `above`?"),
        ({"condition": {"all": [above, {"above": 3}]}}, "condition.all.1.attribute", "is missing"),
        ({"condition": {"attribute": "t", "above": "3"}}, "condition.above", "is not a number"),
        ({"for": -1}, "for", "is not a duration"),
        ({"severity": "bad"}, "severity", "is not known"),
        ({"kinds": []}, "kinds", "has 0 items"),
        ({"match": {"sensor": ["x"]}}, "match.sensor", "did you mean `sensors`?"),
        ({"actions": [{"type": "sms"}]}, "actions.0.type", '"sms" is not known'),
        ({"actions": [{"type": "mqtt", "topic": "{{x}}"}]}, "actions.0.topic", "x"),
        ({"name": "x" * 256}, "name", "is longer than 255 characters"),
        ({"name": "\0"}, "name", "has a NUL character"),
        ({"match": large}, "", "the rule has"),
    ):
        for answer in (
            await here.http.post("/rules", json={**HOT, "name": "Other", **body}),
            await here.http.put(path, json=body),
            await here.http.post("/rules/test?sensor=pump-1", json={**HOT, **body}),
        ):
            found, said = problem(answer)
            assert found == place, body
            assert message in said, body
    assert problem(await here.http.post("/rules", json={})) == ("name", "is missing")
    assert (await here.http.post("/rules", json=[])).status_code == 422
    twice = b'{"name": "a", "name": "b", "condition": {"attribute": "t", "above": 1}}'
    answer = await here.http.post(
        "/rules", content=twice, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422

    answer = await here.http.post("/rules", json=HOT)
    assert (answer.status_code, answer.json()["code"]) == (409, "RULE_NAME_ALREADY_REGISTERED")
    answer = await here.http.post("/rules", json={**HOT, "name": "x", "id": rule["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "RULE_ALREADY_REGISTERED")
    monkeypatch.setattr("heliograph.store.rules.MAXIMUM_RULES", 1)
    answer = await here.http.post("/rules", json={**HOT, "name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "TOO_MANY_RULES")
    assert (await here.http.get("/rules")).json() == [rule]


async def test_topics_that_lead_nowhere_are_refused_where_that_can_be_known(here, monkeypatch):
    path = f"/rules/{(await made(here))['id']}"
    for topic, member, message in (
        ("foo/bar", "topic", "neither MQTT_PUBLISH_TOPIC (commands) nor where a sensor sends"),
        ("foo/{{value.t}}", "topic", "neither MQTT_PUBLISH_TOPIC"),
        ("commands/pump-1", "topic", "neither MQTT_PUBLISH_TOPIC"),
        ("status/pump-1", "topic", "neither MQTT_PUBLISH_TOPIC"),
        ("measurements/pump-1/t", "topic", "is no sensor's topic"),
        ("measurements/pump-1", "payload", "is missing"),
        ("logs/{{value.name}}", "payload", "is missing"),
    ):
        actions = {"actions": [{"type": "mqtt", "topic": topic}]}
        for answer in (
            await here.http.post("/rules", json={**HOT, "name": "Other", **actions}),
            await here.http.patch(path, json=actions),
        ):
            found, said = problem(answer)
            assert found == f"actions.0.{member}", topic
            assert message in said, topic
    # Whether the others lead anywhere is known when there is a message.
    topics = ("commands", "{{value.to}}", "measure{{value.to}}", "comm{{value.to}}")
    actions = {"actions": [{"type": "mqtt", "topic": topic} for topic in topics]}
    assert (await here.http.patch(path, json=actions)).status_code == 200
    # What was right once does not stand in the way of other changes.
    monkeypatch.setitem(vars(here.services.settings), "mqtt_publish_topic", "orders")
    assert (await here.http.patch(path, json={"enabled": False})).status_code == 200
    assert problem(await here.http.patch(path, json=actions))[0] == "actions.0.topic"


async def test_scripts_are_the_administrators(here):
    ada = await here.user("ada")
    network = await here.network("greenhouses", ada="owner")
    script = {"actions": [{"type": "script", "script": "fan.sh"}], "network_identifier": network}
    path = f"/rules/{(await made(here, **script))['id']}"
    del here.http.headers["x-api-key"]
    forbidden = {"detail": "This credential does not allow that", "code": "FORBIDDEN"}
    answer = await here.http.post("/rules", json={**HOT, **script, "name": "x"}, headers=ada)
    assert (answer.status_code, answer.json()) == (403, forbidden)
    # When it runs would be another's to say, too.
    for body in ({"for": 5}, {"actions": []}):
        assert (await here.http.patch(path, json=body, headers=ada)).status_code == 403
    assert (await here.http.patch(path, json={"actions": []}, headers=ADMIN)).status_code == 200
    assert (await here.http.patch(path, json={"for": 5}, headers=ada)).status_code == 200
    answer = await here.http.patch(path, json={"actions": script["actions"]}, headers=ada)
    assert answer.status_code == 403


def time(seconds):
    return to_rfc3339((START + seconds) * SECOND)


async def test_a_rule_is_tried_on_what_is_stored(here, monkeypatch):
    await here.device("pump-1")
    values = [20, 31, 29, 31, 27, 33, 29]
    readings = [
        {"timestamp": START + 10 * at, "value": {"temperature": value}}
        for at, value in enumerate(values)
    ]
    for kind, sent in (
        ("measurements", [*readings, {"timestamp": START + 65, "value": {"x": 1}}]),
        ("logs", [{"timestamp": START + 15, "severity": "error", "subject": "pump jammed"}]),
        ("heartbeats", [{"timestamp": START + at, "success": at < 30} for at in (5, 35)]),
    ):
        answer = await here.http.post(f"/sensors/pump-1/{kind}", json=sent)
        assert answer.json()["accepted"] == len(sent), answer.text
    query = {"sensor": "pump-1", "start": START, "end": START + 100}
    rule = await made(here)
    path = f"/rules/{rule['id']}/test"
    tried = (await here.http.get(path, params=query)).json()
    assert tried == {
        "sensor_identifier": (await here.http.get("/sensors/pump-1")).json()["id"],
        "start": time(0),
        "end": time(100),
        "complete": True,
        "messages": 8,
        "absent": 1,
        "failed": 0,
        "raises": 2,
        "raised_seconds": 80,
        "naive_raises": 3,
        "spans": [
            {"raised_at": time(10), "cleared_at": time(40)},
            {"raised_at": time(50), "cleared_at": None},
        ],
    }
    answer = await here.http.post("/rules/test", params=query, json=HOT)
    assert (answer.status_code, answer.json()) == (200, tried)
    for condition, kinds, spans in (
        ({"no_data": 25}, ["measurement"], [(90, None)]),
        ({"severity_at_least": "warning"}, ["log"], [(15, None)]),
        ({"attribute": "success", "equals": False}, ["heartbeat"], [(35, None)]),
        # Of several kinds in the order of their times.
        ({"no_data": 8}, ["measurement", "heartbeat"], [(18, 20), (28, 30), (48, 50), (58, 60)]),
    ):
        body = {"name": "x", "condition": condition, "kinds": kinds}
        answer = await here.http.post("/rules/test", params=query, json=body)
        wanted = [
            {"raised_at": time(at), "cleared_at": None if to is None else time(to)}
            for at, to in spans
        ]
        assert answer.json()["spans"][: len(wanted)] == wanted, condition
    # Nothing was stored of all that.
    assert (await here.http.get("/rules")).json() == [rule]

    for headers, form, is_drawn in (
        ({"accept": "image/avif,image/svg+xml,image/*,*/*;q=0.8"}, {}, True),
        ({"accept": "image/svg+xml"}, {"format": "json"}, False),
        ({"accept": "application/json, image/svg+xml"}, {}, False),
        ({}, {"format": "svg"}, True),
    ):
        answer = await here.http.get(path, params={**query, **form}, headers=headers)
        assert (answer.headers["content-type"] == rules.SVG) is is_drawn, headers
        if is_drawn:
            root = ET.fromstring(answer.text)  # noqa: S314 - ours
            assert "Hot · pump-1" in [each.text for each in root]

    for body, message in (
        ({"condition": {"offline": 60}}, "is not kept"),
        ({"condition": {"cel": "value."}}, "condition.cel"),
    ):
        answer = await here.http.post("/rules/test", params=query, json={**HOT, **body})
        assert answer.status_code == 422
        assert message in (answer.text if "cel" not in message else ".".join(problem(answer)))
    for wrong in ({"end": START - 1}, {"sensor": "nobody"}, {"sensor": ""}):
        answer = await here.http.get(path, params={**query, **wrong})
        assert answer.status_code == (422 if "end" in wrong else 404), wrong
    assert (await here.http.get(path)).status_code == 422

    # It is bounded: in messages, and in time.
    reading = dry_run.Pages.rows

    async def in_threes(pages, sensor, cursor, **options):
        async for records, sizes in reading(pages, sensor, cursor, **options):
            for at in range(0, len(records), 3):
                yield records[at : at + 3], sizes[at : at + 3]

    monkeypatch.setattr(dry_run.Pages, "rows", in_threes)
    for name, value, messages in (("MOST_MESSAGES", 4, 6), ("LONGEST_TRIAL", -1.0, 0)):
        with monkeypatch.context() as bounded:
            bounded.setattr(dry_run, name, value)
            part = (await here.http.get(path, params=query)).json()
        assert (part["complete"], part["messages"]) == (False, messages)
        assert part["end"] == time(10 * messages)
        assert part["raises"] == (2 if messages else 0)


async def test_who_may_not_edit_a_rule_sees_no_path_of_its_webhooks(here):
    viewer, editor = await here.user("ada"), await here.user("bob")
    network = await here.network("cellar", ada="viewer", bob="editor")
    url = "https://chat.example.org/hooks/secret?key=1"
    actions = [{"type": "webhook", "url": url}, {"type": "alert"}]
    rule = await made(here, network_identifier=network, actions=actions)
    for name in ADMIN:
        del here.http.headers[name]
    for headers, shown in ((viewer, "https://chat.example.org/***"), (editor, url)):
        one = (await here.http.get(f"/rules/{rule['id']}", headers=headers)).json()
        (listed,) = (await here.http.get("/rules", headers=headers)).json()
        assert one == listed
        assert [action.get("url") for action in one["actions"]] == [shown, None]

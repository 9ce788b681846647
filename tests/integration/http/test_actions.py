"""Actions of rules, from a message over HTTP to what they do, and what is shown of them."""

import asyncio
import uuid

import pytest

from integration.http.conftest import ADMIN

HOT = {"attribute": "t", "above": 30}


@pytest.fixture
async def here(site, tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    script = folder / "note"
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/noted\n")
    script.chmod(0o755)
    async with site(scripts_dir=folder, processing_interval=0.05) as here:
        here.http.headers.update(ADMIN)
        yield here


async def finished(here, count, **query):
    """Return the actions, the oldest first, once so many are there and none waits."""
    async with asyncio.timeout(20):
        while True:
            shown = (await here.http.get("/actions", params=query)).json()
            if len(shown) == count and all(each["state"] != "pending" for each in shown):
                return shown[::-1]
            await asyncio.sleep(0.02)


async def test_a_message_is_forwarded_stored_elsewhere_posted_and_given_to_a_script(here, tmp_path):
    key = await here.device("probe")
    await here.device("relay")
    message = {"was": "{{value.t}}", "of": "{{sensor.device_id}}"}
    actions = [
        {"type": "sse"},
        {"type": "mqtt", "topic": "measurements/relay", "payload": {"value": message}},
        {"type": "mqtt", "topic": "measurements/{{sensor.device_id}}", "payload": message},
        {"type": "mqtt", "topic": "{{kind}}/{{value.t}}"},
        {"type": "webhook", "url": "http://127.0.0.1:9/"},
        {"type": "script", "script": "note", "payload": message},
        {"type": "webhook", "channel": "hook"},
    ]
    channel = {"name": "hook", "type": "webhook", "url": "http://127.0.0.1:9/"}
    assert (await here.http.post("/channels", json=channel)).status_code == 201
    rule = {"name": "Hot", "condition": HOT, "actions": actions}
    made = await here.http.post("/rules", json=rule)
    assert made.status_code == 201, made.text
    sent = await here.http.post("/ingest", json={"device_id": "probe", "t": 31}, headers=key)
    assert sent.status_code == 201, sent.text
    done = await finished(here, len(actions))
    states = [(each["type"], each["state"]) for each in done]
    assert states == [
        ("sse", "done"),
        ("mqtt", "done"),
        ("mqtt", "failed"),
        ("mqtt", "failed"),
        ("webhook", "failed"),
        ("script", "done"),
        ("webhook", "failed"),
    ]
    assert "it would go on for ever" in done[2]["error"]
    assert "may not publish on 'measurement/31'" in done[3]["error"]
    assert all("WEBHOOK_ALLOW" in done[each]["error"] for each in (4, 6))
    assert (tmp_path / "noted").read_text() == '{"of":"probe","was":31}'
    stored = (await here.http.get("/sensors/relay/measurements")).json()
    assert [each["measurement"] for each in stored] == [{"of": "probe", "was": 31}]
    for each in done:
        assert (each["rule_id"], each["device_id"]) == (made.json()["id"], "probe")
        assert each["message_id"] is not None
    assert len({each["idempotency_key"] for each in done}) == len(actions)
    # A repeat of the message begins nothing, and one that is asked for runs once more.
    path = f"/actions/{done[5]['id']}"
    assert (await here.http.get(path)).json()["body"]["script"] == "note"
    (tmp_path / "noted").unlink()
    again = await here.http.post(f"{path}/repeat")
    assert again.status_code == 200, again.text
    await finished(here, len(actions))
    assert (tmp_path / "noted").exists()
    failed = (await here.http.get("/actions", params={"state": "failed", "type": "mqtt"})).json()
    assert [each["id"] for each in failed] == [done[3]["id"], done[2]["id"]]
    # What a rule has begun is found when the rule is gone; of what never was one nothing is.
    of_rule = {"rule": made.json()["id"].upper(), "limit": 1}
    assert (await here.http.delete(f"/rules/{made.json()['id']}")).status_code == 204
    listed = await here.http.get("/actions", params=of_rule)
    assert listed.headers["x-total-count"] == str(len(actions))
    for unknown in ("Hot", str(uuid.uuid4())):
        answer = await here.http.get("/actions", params={"rule": unknown})
        assert (answer.status_code, answer.json()["code"]) == (404, "RULE_NOT_FOUND"), unknown


async def test_an_alert_follows_the_condition_and_rules_are_counted(here):
    key = await here.device("probe")
    rule = {"name": "Hot", "condition": HOT, "actions": [{"type": "alert"}]}
    assert (await here.http.post("/rules", json=rule)).status_code == 201
    for value, state in ((31, "raised"), (20, "cleared")):
        await here.http.post("/ingest", json={"device_id": "probe", "t": value}, headers=key)
        async with asyncio.timeout(20):
            while True:
                alerts, _ = await here.services.store.alerts.page(None, offset=0, limit=10)
                if [each.state for each in alerts] == [state]:
                    break
                await asyncio.sleep(0.02)
    metrics = (await here.http.get("/metrics")).text
    assert "heliograph_rules 1.0" in metrics
    assert "heliograph_rule_transitions_total 2.0" in metrics

"""Everything received as one list, and rejected messages that are submitted again."""

import json

import pytest

from heliograph.model.time import DAY, SECOND, parse, to_rfc3339
from mqtt_client import publish
from server import ADMIN_KEY, eventually, running

ADMIN = {"X-API-Key": ADMIN_KEY}
HOUR_AGO = 3_600


async def listed(server, headers=ADMIN, **params):
    answer = await server.http.get("/messages", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def sent(server, path, body, key=ADMIN_KEY, status=201):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await server.http.post(path, content=content, headers={"X-API-Key": key})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
async def server(tmp_path):
    async with running(tmp_path) as server:
        yield server


async def test_everything_received_is_listed_newest_first(server):
    device = await server.device("pump")
    await sent(server, "/sensors/pump/measurements", {"value": {"t": 22.5}}, device.key)
    log = {"severity": "error", "subject": "hot", "timestamp": 1_768_478_000}
    await sent(server, "/sensors/pump/logs", log, device.key)
    await sent(server, "/sensors/pump/heartbeats", {"success": True, "rssi": -60}, device.key)
    packet = {"device_id": "pump", "measurements": {"t": 1}, "status": "ok"}
    await sent(server, "/packets", packet, device.key)
    await sent(server, "/packets", {**packet, "device_id": "nobody"})
    await sent(server, "/ingest", b'{"t": {', device.key, status=400)

    async def is_published():
        return (await listed(server, processed="false"))["messages"] == []

    # What is posted is published, and until then not processed.
    await eventually(is_published)
    whole = await listed(server)
    assert (whole["total_count"], whole["total_is_lower_bound"], whole["cursor"]) == (
        6,
        False,
        None,
    )
    messages = whole["messages"]
    assert [each["kind"] for each in messages] == [
        "rejected", "packet", "packet", "heartbeat", "log", "measurement",
    ]  # fmt: skip
    rejected, unknown, known, heartbeat, logged, measured = messages
    assert measured["payload"] == {"t": 22.5}
    assert logged["payload"] == {"severity": "error", "subject": "hot", "details": None}
    assert logged["timestamp"] == "2026-01-15T11:53:20.000000Z"
    assert heartbeat["payload"] == {"success": True, "rssi": -60}
    assert known["payload"] == packet
    assert (rejected["payload"], rejected["reason"]) == ('{"t": {', "MALFORMED_JSON")
    assert (rejected["sender"], rejected["size"]) == ("device:pump", 7)
    assert [each["topic"] for each in messages] == [
        "POST /api/v1/ingest", "POST /api/v1/packets", "POST /api/v1/packets",
        "heartbeats/pump", "log-messages/pump", "measurements/pump",
    ]  # fmt: skip
    assert unknown["sensor_identifier"] is None
    assert {each["sensor_identifier"] for each in (known, heartbeat, logged, measured)} == {
        device.identifier
    }
    # Each is read by its id; the payload is downloaded as it came.
    for each in messages:
        assert (await server.http.get(f"/messages/{each['id']}")).json() == each
    payload = await server.http.get(f"/messages/{rejected['id']}/payload")
    assert payload.content == b'{"t": {'
    assert "attachment" in payload.headers["content-disposition"]
    paths = (await server.http.get("/openapi.json")).json()["paths"]
    told = paths["/api/v1/messages/{message_id}/payload"]["get"]["responses"]["200"]
    assert list(told["content"]) == [payload.headers["content-type"]]

    for query, kinds in (
        ({"kind": "packet"}, ["packet", "packet"]),
        ({"kind": ["log", "measurement"]}, ["log", "measurement"]),
        ({"sensor": "pump"}, ["rejected", "packet", "heartbeat", "log", "measurement"]),
        ({"sensor": "pump", "kind": "packet"}, ["packet"]),
        ({"reason": "MALFORMED_JSON"}, ["rejected"]),
        ({"key": "measurements.t"}, ["packet", "packet"]),
        ({"key": "measurements"}, ["packet", "packet"]),
        ({"key": "t", "value": "22.5"}, ["measurement"]),
        ({"key": "t", "value": "22.50"}, ["measurement"]),
        ({"key": "t", "value": '"22.5"'}, []),
        ({"key": "device_id", "value": "pump"}, ["packet"]),
        ({"key": "device_id", "value": '"pump"', "sensor": "pump"}, ["packet"]),
        ({"key": "severity", "value": "error"}, ["log"]),
        ({"key": "success", "value": "true"}, ["heartbeat"]),
        ({"key": "success", "value": "1"}, []),
        ({"key": "rssi", "value": "-60"}, ["heartbeat"]),
        ({"processed": "true", "kind": "log"}, ["log"]),
        ({"processed": "false", "kind": "log"}, []),
        ({"end_time": measured["receipt_timestamp"]}, []),
        ({"start_time": measured["receipt_timestamp"], "limit": 1}, ["rejected"]),
    ):  # fmt: skip
        page = await listed(server, **query)
        assert [each["kind"] for each in page["messages"]] == kinds, query
        assert page["total_count"] == (6 if "limit" in query else len(kinds)), query
    # By a cursor all of them are read, each once.
    read, query = [], {"limit": 2}
    while True:
        page = await listed(server, **query)
        read += page["messages"]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert read == messages


async def test_a_bad_query_is_a_400_that_names_what_is_wrong(server):
    for query, place in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("start_time=soon", "start_time"),
        ("start_time=2&end_time=1", "start_time"),
        ("kind=reading", "kind"),
        ("value=1", "value"),
        ("processed=perhaps", "processed"),
        ("cursor=x", "cursor"),
        ("limt=1", "limt"),
        ("reason=NONE", "reason"),
    ):
        for path in ("/messages", "/api/v1/messages"):
            answer = await server.http.get(f"{path}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_FAILED"), query
            assert answer.json()["detail"][0]["loc"][:2] == ["query", place]
    assert (await server.http.get("/messages?sensor=nobody")).status_code == 404
    for name in ("1", "x", "9" * 30, str((1 << 63) - 1)):
        assert (await server.http.get(f"/messages/{name}")).status_code == 404


async def test_any_time_may_be_asked_for(server):
    # From 2109 on ids have no room for the time.
    await sent(server, "/packets", {"device_id": "nobody", "measurements": {"t": 1}})
    for start, end, count in (
        ("1900-01-01T00:00:00Z", "1901-01-01T00:00:00Z", 0),
        ("1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 1),
        ("2108-01-01T00:00:00Z", "2110-01-01T00:00:00Z", 0),
        ("4957-11-21T00:00:00Z", "9999-12-31T23:59:59Z", 0),
    ):
        for more in ("", "&kind=measurement&kind=rejected&kind=packet", "&key=measurements.t"):
            answer = await server.http.get(f"/messages?start_time={start}&end_time={end}{more}")
            assert answer.status_code == 200, answer.text
            assert answer.json()["total_count"] == count
        body = {"start_time": start, "end_time": end}
        answer = await server.http.post("/messages/resubmit", json=body)
        assert answer.status_code == 200, answer.text


async def resubmitted(server, identifier, headers=ADMIN):
    answer = await server.http.post(f"/messages/{identifier}/resubmit", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_rejected_is_submitted_again_once_the_cause_is_mended(server):
    pump = await server.device("pump")
    # By HTTP, with a time of its own and without; a batch of which a part was good; logs.
    for body in (
        {"device_id": "fan", "t": 1, "timestamp": 1_768_478_000},
        {"device_id": "fan", "t": 2},
    ):
        await sent(server, "/ingest", body, status=404)
    batch = [
        {"device_id": "pump", "t": 3},
        {"device_id": "fan", "t": 4},
        {"device_id": "fan", "t": {}},
    ]
    await sent(server, "/ingest/batch", batch)
    await sent(server, "/sensors/fan/logs", {"severity": "info", "subject": "up"}, status=404)
    await sent(server, "/packets", {"device_id": "fan", "measurements": {"t": 5}}, pump.key, 404)
    await sent(server, "/ingest", b"{", pump.key, status=400)
    before = (await listed(server, kind="rejected"))["messages"]
    assert len(before) == 6
    everything = {"reason": "UNKNOWN_SENSOR"}
    first = (await server.http.post("/messages/resubmit", json=everything)).json()
    assert (first["stored"], len(first["kept"]), first["cursor"]) == (0, 5, None)

    fan = await server.device("fan")
    again = await resubmitted(server, before[-1]["id"])
    assert again == {
        "id": before[-1]["id"], "stored": True, "accepted": 1, "duplicates": 0, "rejected": [],
    }  # fmt: skip
    assert (await server.http.post(f"/messages/{before[-1]['id']}/resubmit")).status_code == 404
    rest = (await server.http.post("/messages/resubmit", json={"sensor": None})).json()
    assert rest["stored"] == 2
    by_id = {each["id"]: each for each in rest["kept"]}
    # Not as another device, however known it is by now; and of the batch what is still wrong.
    malformed, packet, logged, batched = [each["id"] for each in before[:4]]
    assert logged not in by_id
    assert [each["code"] for each in by_id[packet]["rejected"]] == ["UNKNOWN_SENSOR"]
    assert [each["code"] for each in by_id[malformed]["rejected"]] == ["MALFORMED_JSON"]
    assert (by_id[batched]["accepted"], len(by_id[batched]["rejected"])) == (1, 1)
    assert by_id[batched]["rejected"][0]["index"] == 2
    # What has no time of its own was measured when it was first received.
    rows = await server.measurements(fan)
    assert [bytes(row.value) for row in rows] == [b'{"t":1}', b'{"t":2}', b'{"t":4}']
    assert [each["receipt_timestamp"] for each in before[-2:-1]] == [
        (await server.http.get(f"/messages/{rows[1].id}")).json()["timestamp"]
    ]
    # Nothing is stored twice: not what was good at first, and not what is submitted once more.
    assert [each["id"] for each in (await listed(server, reason="UNKNOWN_SENSOR"))["messages"]] == [
        packet
    ]
    once_more = await resubmitted(server, batched)
    assert (once_more["accepted"], once_more["duplicates"], once_more["stored"]) == (0, 0, False)
    assert len(await server.values(fan)) == 3
    assert await server.values(pump) == ['{"t":3}']
    entries = (await server.http.get("/audit?action=message.resubmit")).json()
    assert len(entries) == 4
    assert {each["actor"] for each in entries} == {"admin"}


async def test_a_crash_between_the_commit_and_the_end_of_the_entry_stores_nothing_twice(server):
    await sent(server, "/sensors/fan/measurements", [{"value": 1}, {"value": 1}], status=404)
    await sent(server, "/packets", {"device_id": "fan", "measurements": {"t": 5}})
    fan = await server.device("fan")
    [message] = (await listed(server, kind="rejected"))["messages"]
    settle = server.store.messages.settle

    async def crash(*_arguments):
        raise RuntimeError("killed")

    server.store.messages.settle = crash
    assert (await server.http.post(f"/messages/{message['id']}/resubmit")).status_code == 500
    server.store.messages.settle = settle
    assert await server.values(fan) == ["1", "1"]
    again = await resubmitted(server, message["id"])
    assert (again["accepted"], again["duplicates"], again["stored"]) == (0, 2, True)
    assert await server.values(fan) == ["1", "1"]


async def test_what_was_not_kept_whole_can_not_be_submitted_again(server):
    device = await server.device("pump")
    await sent(server, "/ingest", b'{"t": "' + b"x" * (2 << 20) + b'"}', device.key, status=413)
    [message] = (await listed(server, kind="rejected"))["messages"]
    answer = await server.http.post(f"/messages/{message['id']}/resubmit")
    assert (answer.status_code, answer.json()["code"]) == (409, "MESSAGE_NOT_RESUBMITTABLE")
    kept = (await server.http.post("/messages/resubmit", json={})).json()["kept"]
    assert [each["id"] for each in kept] == [message["id"]]


async def test_messages_over_mqtt_are_submitted_again_as_their_topics_say(server, monkeypatch):
    pump = await server.device("pump")
    client = await server.connect(pump)
    for topic, payload in (
        ("measurements/pump", b'{"value": 1, "timestamp": "2026-12-24T00:00:00Z"}'),
        ("heartbeats/pump", b'{"success": 1}'),
        ("packets/pump", b'{"device_id": "pump", "measurements": {}}'),
        ("status/pump", b"asleep"),
        ("measurement/pump", b"1"),
        ("measurements/fan", b'{"value": 1}'),
    ):
        client.send(publish(topic, payload, packet_id=1))
        assert (await client.packet())[0] == 0x40
    await server.device("fan")
    answer = (await server.http.post("/messages/resubmit", json={})).json()
    reasons = [[element["code"] for element in each["rejected"]] for each in answer["kept"]]
    assert reasons == [
        ["TIMESTAMP_IN_FUTURE"], ["WRONG_TYPE"], ["WRONG_TYPE"], ["INVALID_STATUS"],
        ["UNKNOWN_TOPIC"], ["UNKNOWN_SENSOR"],
    ]  # fmt: skip
    # What the pump sent for the fan is not the pump's.
    listing = await listed(server, kind="rejected", sensor="pump")
    assert [each["topic"] for each in listing["messages"]] == [
        "measurement/pump", "status/pump", "packets/pump", "heartbeats/pump", "measurements/pump",
    ]  # fmt: skip
    # The cause of the first is mended by time.
    clock = server.services.http_ingest.clock
    monkeypatch.setattr(type(clock), "now", lambda _: 1_798_000_000_000_000)
    assert (await resubmitted(server, answer["kept"][0]["id"]))["stored"] is True
    assert await server.values(pump) == ["1"]


async def test_only_what_is_asked_for_is_submitted_again_and_shown(site, monkeypatch):
    async with site(anonymous_role="viewer", anonymous_networks="*", host="127.0.0.1") as here:
        await here.device("pump")
        await here.device("other")
        for path, body in (
            ("/sensors/pump/measurements", {"valu": {}}),
            ("/ingest", {"device_id": "no", "t": 1}),
        ):
            await here.http.post(path, json=body, headers=ADMIN)
        # Whoever sees every network does not see what is in none.
        [wrong] = (await here.http.get("/messages")).json()["messages"]
        at = parse(wrong["receipt_timestamp"])
        for narrowing, count in (
            ({}, 2),
            ({"sensor": "pump"}, 1),
            ({"sensor": "other"}, 0),
            ({"topic": wrong["topic"]}, 1),
            ({"topic": "measurements/pump"}, 0),
            ({"reason": wrong["reason"]}, 1),
            ({"end_time": to_rfc3339(at)}, 0),
            ({"start_time": to_rfc3339(at + 60 * SECOND)}, 0),
            ({"start_time": to_rfc3339(at - SECOND), "sensor": "pump"}, 1),
        ):
            answer = await here.http.post("/messages/resubmit", json=narrowing, headers=ADMIN)
            assert len(answer.json()["kept"]) == count, narrowing
        # Without a time the last 24 hours are shown.
        monkeypatch.setattr("heliograph.http.messages.now", lambda: at + DAY + SECOND)
        assert (await here.http.get("/messages")).json()["total_count"] == 0
        assert (await here.http.get("/messages?start_time=1")).json()["total_count"] == 1


async def test_who_may_see_and_resubmit_what(site):
    async with site() as here:
        accounts = {name: await here.user(name) for name in ("vera", "ed", "out")}
        network = await here.network("roof", vera="viewer", ed="editor")
        pump = await here.device("pump", network_identifier=network)
        other = await here.device("other")
        for headers, path, body in (
            (pump, "/ingest", {"t": 1}),
            (pump, "/sensors/pump/measurements", {"valu": {}}),
            (other, "/ingest", {"t": 1}),
            ({"x-api-key": ADMIN_KEY}, "/packets", {"device_id": "no", "measurements": {"t": 1}}),
            ({"x-api-key": ADMIN_KEY}, "/ingest", {"device_id": "no", "t": 1}),
        ):
            await here.http.post(path, json=body, headers=headers)
        admin = (await here.http.get("/messages", headers=ADMIN)).json()["messages"]
        assert len(admin) == 5
        rejected = next(each for each in admin if each["topic"].endswith("pump/measurements"))
        alien = next(each for each in admin if each["kind"] == "packet")
        path = f"/messages/{rejected['id']}"
        for name, headers, status, count, read, resubmit in (
            ("vera", accounts["vera"], 200, 2, 200, 403),
            ("ed", accounts["ed"], 200, 2, 200, 200),
            ("out", accounts["out"], 200, 0, 404, 404),
            ("pump", pump, 200, 2, 200, 403),
            ("other", other, 200, 1, 404, 404),
            ("nobody", {}, 401, 0, 401, 401),
        ):
            seen = await here.http.get("/messages", headers=headers)
            assert seen.status_code == status, name
            assert len(seen.json().get("messages", ())) == count, name
            assert seen.json().get("total_count", 0) == count, name
            assert (await here.http.get(path, headers=headers)).status_code == read, name
            assert (await here.http.get(f"{path}/payload", headers=headers)).status_code == read
            again = await here.http.post(f"{path}/resubmit", headers=headers)
            assert again.status_code == resubmit, (name, again.text)
            foreign = await here.http.get(f"/messages/{alien['id']}", headers=headers)
            assert foreign.status_code == (401 if name == "nobody" else 404), name
            sensor = await here.http.get("/messages?sensor=other", headers=headers)
            expected = 401 if name == "nobody" else 200 if name == "other" else 404
            assert sensor.status_code == expected, name
        for name in ("vera", "out"):
            mine = await here.http.post("/messages/resubmit", json={}, headers=accounts[name])
            assert mine.json() == {"stored": 0, "kept": [], "cursor": None}
        narrowed = {"sensor": "pump"}
        answer = await here.http.post("/messages/resubmit", json=narrowed, headers=accounts["vera"])
        assert answer.status_code == 403


async def test_messages_for_which_there_was_no_time_are_resubmitted_from_the_cursor_on(
    server, monkeypatch
):
    pump = await server.device("pump")
    await sent(server, "/ingest", b"{", pump.key, status=400)
    with monkeypatch.context() as patch:
        patch.setattr("heliograph.http.messages.RESUBMITTING_SECONDS", -1)
        first = (await server.http.post("/messages/resubmit", json={})).json()
    assert (first["stored"], first["kept"]) == (0, [])
    rest = (await server.http.post("/messages/resubmit", json={"cursor": first["cursor"]})).json()
    assert (len(rest["kept"]), rest["cursor"]) == (1, None)
    assert first["cursor"] is not None

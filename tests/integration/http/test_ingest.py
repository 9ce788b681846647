import asyncio
import gzip
import json
import time

import pytest

from heliograph.ingest.decode import decode_batch
from heliograph.model.time import from_rfc3339
from server import blocked

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
SHARED = {"x-api-key": "a-shared-key-for-tests-only"}


async def history(site, device_id):
    response = await site.http.get(f"/devices/{device_id}/history", headers=ADMIN)
    assert response.status_code == 200
    return response.json()


async def test_a_device_sends_a_reading_and_finds_it_again(site):
    async with site() as here:
        key = await here.device("pump-1")
        sent = await here.http.post("/ingest", json={"temperature": 22.5}, headers=key)
        assert sent.status_code == 201
        stored = sent.json()
        assert set(stored) == {"id", "device_id", "timestamp"}
        assert stored["device_id"] == "pump-1"
        entry = {**stored, "revision": None, "metrics": {"temperature": 22.5}}
        assert await history(here, "pump-1") == [entry]


async def test_a_repeat_is_answered_with_the_first_ones_id(site):
    async with site() as here:
        key = await here.device("pump-1")
        reading = {"metrics": {"t": 1}, "timestamp": time.time()}
        first = await here.http.post("/ingest", json=reading, headers=key)
        again = await here.http.post("/ingest", json=reading, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert len(await history(here, "pump-1")) == 1


async def test_of_what_waits_for_its_commit_only_the_rows_are_held(site, monkeypatch):
    """What was read of a batch took as much memory as its rows, for as long as they waited."""
    parts, readings = [], []

    def decoded(*arguments):
        parts.extend(decode_batch(*arguments))
        return parts

    monkeypatch.setattr("heliograph.http.ingest.decode_batch", decoded)
    async with site() as here:
        key = await here.device("pump-1")
        post = here.services.http_ingest.post_readings

        async def noted(given, *arguments):
            readings.append(given)
            return await post(given, *arguments)

        monkeypatch.setattr(here.services.http_ingest, "post_readings", noted)
        async with blocked(here.services) as started:
            body = [{"n": at, "timestamp": 1_700_000_000 + at} for at in range(3)]
            posting = asyncio.create_task(here.http.post("/ingest/batch", json=body, headers=key))
            await started.wait()
            assert [part.readings for part in parts] == readings == [[]]
        assert (await posting).json()["accepted"] == 3


BAD_READINGS = (
    (b"{", 400, "MALFORMED_JSON"),
    (b"", 400, "MALFORMED_JSON"),
    (b'{"t": "\xff"}', 400, "INVALID_UTF8"),
    (b"{}", 422, "MISSING_MEMBER"),
    (b'{"metrics": {}}', 422, "MISSING_MEMBER"),
    (b'{"t": NaN}', 422, "NOT_A_NUMBER"),
    (b'{"t": "\\u0000"}', 422, "NUL_IN_TEXT"),
    (b'{"t": "\\ud800"}', 422, "LONE_SURROGATE"),
    (b'{"t": 1, "t": 2}', 422, "DUPLICATE_KEY"),
    (b'{"t": 1e999}', 422, "NUMBER_OUT_OF_RANGE"),
    (b'{"t": 1, "timestamp": 99999999999}', 422, "TIMESTAMP_IN_FUTURE"),
    (b'{"t": 1, "timestamp": "soon"}', 422, "INVALID_TIMESTAMP"),
    (b'{"t": ' + b"[" * 100 + b"]" * 100 + b"}", 422, "NESTED_TOO_DEEPLY"),
    (b'{"t": "' + b"x" * (1 << 20) + b'"}', 413, "PAYLOAD_TOO_LARGE"),
)


async def test_a_bad_reading_is_refused_and_kept(site):
    async with site() as here:
        key = await here.device("pump-1")
        for number, (body, status, code) in enumerate(BAD_READINGS, 1):
            response = await here.http.post("/ingest", content=body, headers=key)
            assert (response.status_code, response.json()["code"]) == (status, code), body[:20]
            kept = await here.rejected()
            assert len(kept) == number, body[:20]
            assert kept[0].payload == body[: 64 << 10]
            assert kept[0].principal == "device:pump-1"
            assert kept[0].source == "POST /api/v1/ingest"
            reason = "TOO_LARGE" if code == "PAYLOAD_TOO_LARGE" else code
            assert kept[0].reason == reason, body[:20]
        assert await history(here, "pump-1") == []


async def test_a_shared_key_speaks_for_the_device_it_names(site):
    async with site() as here:
        await here.device("pump-1")
        sent = await here.http.post("/ingest", json={"device_id": "pump-1", "t": 1}, headers=SHARED)
        assert sent.status_code == 201
        for body, status, code in [
            ({"t": 1}, 422, "DEVICE_ID_MISSING"),
            ({"device_id": "pump-2", "t": 1}, 404, "DEVICE_NOT_FOUND"),
        ]:
            # The admin key is no device's, and has none of its own.
            who = ADMIN if code == "DEVICE_ID_MISSING" else SHARED
            response = await here.http.post("/ingest", json=body, headers=who)
            assert (response.status_code, response.json()["code"]) == (status, code)
        reasons = [message.reason for message in await here.rejected()]
        assert sorted(reasons) == ["MISSING_MEMBER", "UNKNOWN_SENSOR"]


async def test_a_device_speaks_for_itself_only(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.device("pump-2")
        own = await here.http.post("/ingest", json={"device_id": "pump-1", "t": 1}, headers=key)
        assert own.status_code == 201
        other = await here.http.post("/ingest", json={"device_id": "pump-2", "t": 1}, headers=key)
        unknown = await here.http.post("/ingest", json={"device_id": "nobody", "t": 1}, headers=key)
        assert (other.status_code, other.json()) == (unknown.status_code, unknown.json())
        assert other.status_code == 404
        assert await history(here, "pump-2") == []


async def test_a_deactivated_device_is_heard_no_more(site):
    async with site() as here:
        key = await here.device("pump-1")
        assert (await here.http.post("/ingest", json={"t": 1}, headers=key)).status_code == 201
        assert (await here.http.delete("/devices/pump-1", headers=ADMIN)).status_code == 204
        own = await here.http.post("/ingest", json={"t": 2}, headers=key)
        unknown = await here.http.post("/ingest", json={"t": 2}, headers={"x-api-key": "nobody's"})
        assert own.status_code == 401
        assert own.json() == unknown.json()
        named = {"device_id": "pump-1", "t": 3}
        single = await here.http.post("/ingest", json=named, headers=SHARED)
        assert (single.status_code, single.json()["code"]) == (403, "DEVICE_INACTIVE")
        batch = await here.http.post("/ingest/batch", json=[named], headers=SHARED)
        assert [e["code"] for e in batch.json()["rejected"]] == ["DEACTIVATED_SENSOR"]
        by_path = await here.http.post(
            "/sensors/pump-1/measurements", json={"value": 1}, headers=SHARED
        )
        assert (by_path.status_code, by_path.json()["code"]) == (403, "DEVICE_INACTIVE")
        assert len(await history(here, "pump-1")) == 1
        await here.http.patch("/devices/pump-1", json={"is_active": True}, headers=ADMIN)
        assert (await here.http.post("/ingest", json={"t": 4}, headers=key)).status_code == 201


async def test_of_a_batch_the_good_ones_are_stored(site):
    async with site() as here:
        await here.device("pump-1")
        await here.device("pump-2")
        moment = time.time()
        readings = [
            {"device_id": "pump-1", "t": 1, "timestamp": moment},
            {"device_id": "nobody", "t": 1},
            {"device_id": "pump-2", "t": 2},
            {"t": 3},
            {"device_id": "pump-1", "metrics": {}},
            {"device_id": "pump-1", "t": 1, "timestamp": moment},
        ]
        response = await here.http.post("/ingest/batch", json={"readings": readings}, headers=ADMIN)
        assert response.status_code == 201
        answer = response.json()
        assert (answer["accepted"], answer["duplicates"]) == (2, 1)
        assert [(e["index"], e["code"]) for e in answer["rejected"]] == [
            (1, "UNKNOWN_SENSOR"),
            (3, "MISSING_MEMBER"),
            (4, "MISSING_MEMBER"),
        ]
        assert len(await history(here, "pump-1")) == 1
        assert len(await history(here, "pump-2")) == 1
        kept = await here.rejected()
        assert [json.loads(message.indexes) for message in kept] == [[1, 3, 4]]


async def test_a_batch_has_log_messages_and_heartbeats_beside_readings(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.device("pump-2")
        log = {"severity": "error", "subject": "hot", "timestamp": 1_700_000_000}
        batch = {
            "log_messages": [log, {**log, "device_id": "pump-2"}, {**log, "severity": "bad"}],
            "heartbeats": [
                {"device_id": "nobody", "success": True},
                {"device_id": "pump-1", "battery": 80, "id": "x"},
                {"device_id": "pump-1", "battery": 79, "id": "x"},
            ],
            "readings": [{"t": 1, "id": "x", "timestamp": 1_700_000_000}, {}],
        }
        repeatable = {**key, "idempotency-key": "a"}
        sent = await here.http.post("/ingest/batch", json=batch, headers=repeatable)
        assert sent.status_code == 201
        answer = sent.json()
        assert (answer["accepted"], answer["duplicates"]) == (3, 1)
        # A device speaks for itself only, of whatever kind.
        assert [(e.get("array"), e["index"], e["code"]) for e in answer["rejected"]] == [
            (None, 1, "MISSING_MEMBER"),
            ("log_messages", 1, "UNKNOWN_SENSOR"),
            ("log_messages", 2, "WRONG_TYPE"),
            ("heartbeats", 0, "UNKNOWN_SENSOR"),
        ]
        kept = [(m.source.split()[2:], json.loads(m.indexes)) for m in await here.rejected()]
        assert sorted(kept) == [([], [1]), (["heartbeats"], [0]), (["log_messages"], [1, 2])]
        again = await here.http.post("/ingest/batch", json=batch, headers=repeatable)
        assert again.json() == answer
        other = {"heartbeats": batch["heartbeats"]}
        reused = await here.http.post("/ingest/batch", json=other, headers=repeatable)
        assert (reused.status_code, reused.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
        everybody = await here.http.post("/ingest/batch", json=batch, headers=ADMIN)
        # Of the admin key's, what names no device is nobody's.
        assert [(e.get("array"), e["index"]) for e in everybody.json()["rejected"]] == [
            (None, 0), (None, 1), ("log_messages", 0), ("log_messages", 2), ("heartbeats", 0),
        ]  # fmt: skip
        assert (everybody.json()["accepted"], everybody.json()["duplicates"]) == (1, 2)
        for device, kind, count in (
            ("pump-1", "measurements", 1),
            ("pump-1", "logs", 1),
            ("pump-1", "heartbeats", 1),
            ("pump-2", "logs", 1),
            ("pump-2", "heartbeats", 0),
        ):
            page = await here.http.get(f"/sensors/{device}/{kind}", headers=ADMIN)
            assert len(page.json()) == count, (device, kind)


async def test_a_batch_of_nothing_but_bad_ones_is_answered_all_the_same(site):
    async with site() as here:
        key = await here.device("pump-1")
        response = await here.http.post("/ingest/batch", json=[{}, 1], headers=key)
        assert response.status_code == 201
        answer = response.json()
        assert (answer["accepted"], answer["duplicates"], len(answer["rejected"])) == (0, 0, 2)
        empty = await here.http.post("/ingest/batch", json=[], headers=key)
        assert empty.json() == {"accepted": 0, "duplicates": 0, "retimed": 0, "rejected": []}


async def test_of_a_batch_no_value_is_larger_than_a_message_may_be(site):
    async with site() as here:
        key = await here.device("a")
        sizes = {"x": 1_048_574, "y": 1_048_575, "ä": 524_300}
        readings = [{"value": text * size} for text, size in sizes.items()]
        for batch in (readings, [*readings, {}]):
            response = await here.http.post("/ingest/batch", json=batch, headers=key)
            assert response.status_code == 201
            rejected = [(each["index"], each["code"]) for each in response.json()["rejected"]]
            assert rejected[:2] == [(1, "TOO_LARGE"), (2, "TOO_LARGE")]
            assert len(rejected) == len(batch) - 1


async def test_a_batch_has_at_most_ten_thousand_readings(site):
    async with site() as here:
        key = await here.device("pump-1")
        many = [{"t": number} for number in range(10_000)]
        response = await here.http.post("/ingest/batch", json=many, headers=key)
        assert response.json() == {
            "accepted": 10_000,
            "duplicates": 0,
            "retimed": 0,
            "rejected": [],
        }
        more = await here.http.post("/ingest/batch", json=[*many, {"t": 0}], headers=key)
        assert (more.status_code, more.json()["code"]) == (413, "TOO_LARGE")


async def test_gzip_is_taken_and_bombs_are_not(site):
    async with site() as here:
        key = {**await here.device("pump-1"), "content-encoding": "gzip"}
        good = gzip.compress(json.dumps([{"t": 1}]).encode())
        response = await here.http.post("/ingest/batch", content=good, headers=key)
        assert response.json()["accepted"] == 1
        bomb = gzip.compress(b"[" + b" " * (100 << 20) + b"]")
        response = await here.http.post("/ingest/batch", content=bomb, headers=key)
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        response = await here.http.post("/ingest/batch", content=good[:-4], headers=key)
        assert response.status_code == 400


async def test_an_idempotency_key_repeats_the_answer(site):
    async with site() as here:
        key = {**await here.device("pump-1"), "idempotency-key": "a"}
        first = await here.http.post("/ingest", json={"t": 1}, headers=key)
        again = await here.http.post("/ingest", json={"t": 1}, headers=key)
        assert first.status_code == 201
        assert first.json() == again.json()
        assert len(await history(here, "pump-1")) == 1
        other = await here.http.post("/ingest", json={"t": 2}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
        batch = [
            await here.http.post("/ingest/batch", json=[{"t": 1}, {}], headers=key)
            for _ in range(2)
        ]
        assert batch[0].json() == batch[1].json()
        assert batch[0].json()["accepted"] == 1
        too_long = {**key, "idempotency-key": "x" * 256}
        response = await here.http.post("/ingest", json={"t": 1}, headers=too_long)
        assert response.status_code == 422


async def test_an_idempotency_key_is_not_that_of_another_device_of_the_name_before(site):
    async with site() as here:
        answers = []
        for _ in range(2):
            key = {**await here.device("pump-1"), "idempotency-key": "a"}
            answers.append(await here.http.post("/ingest", json={"t": 1}, headers=key))
            assert len(await history(here, "pump-1")) == 1
            removed = await here.http.delete("/sensors/pump-1", headers=ADMIN)
            assert removed.status_code == 204
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json()["id"] != answers[1].json()["id"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("text/plain", 201),
        ("application/x-www-form-urlencoded", 415),
        ("application/xml", 415),
    ],
)
async def test_only_json_is_taken(site, content_type, status):
    async with site() as here:
        key = {**await here.device("pump-1"), "content-type": content_type}
        response = await here.http.post("/ingest", content=b'{"t": 1}', headers=key)
        assert response.status_code == status


async def test_mqtts_payloads_are_taken_over_http(site):
    async with site() as here:
        key = await here.device("pump-1")
        uuid = (await here.http.get("/devices/pump-1", headers=key)).json()["id"]
        bodies = {
            "measurements": {"measurements": [{"value": {"t": 1}, "timestamp": 1_700_000_000.5}]},
            "logs": [{"severity": "error", "subject": "hot", "details": None}],
            "heartbeats": {"revision": None, "success": True},
        }
        for identifier in ("pump-1", uuid, uuid.upper()):
            for name, body in bodies.items():
                response = await here.http.post(
                    f"/sensors/{identifier}/{name}", json=body, headers=key
                )
                assert response.status_code == 201, response.text
                answer = response.json()
                assert answer["accepted"] + answer["duplicates"] == 1
        page = await here.http.get(f"/sensors/{uuid}/measurements", headers=key)
        assert page.json() == [
            {"revision": None, "creation_timestamp": 1_700_000_000.5, "measurement": {"t": 1}}
        ]
        assert len((await here.http.get("/sensors/pump-1/logs", headers=key)).json()) == 3


async def test_pages_of_all_kinds_that_are_sent_back_change_nothing(site):
    async with site() as here:
        key = await here.device("pump-1")
        at = {"timestamp": 1_700_000_000.5}
        sent = {
            "measurements": [{"value": 5, **at}, {"value": {"t": 1}, **at, "id": "a"}],
            "logs": [{"severity": "error", "subject": "hot", **at}],
            "heartbeats": [{"success": True, "battery": 80, **at}],
        }
        pages = {}
        for name, body in sent.items():
            route = f"/sensors/pump-1/{name}"
            assert (await here.http.post(route, json=body, headers=key)).status_code == 201
            pages[route] = (await here.http.get(route, headers=key)).json()
            assert len(pages[route]) == len(body)
        entries = await history(here, "pump-1")
        for route, page in pages.items():
            await here.http.post(route, json=page, headers=key)
            assert (await here.http.get(route, headers=key)).json() == page
        for element in pages["/sensors/pump-1/measurements"]:
            assert (await here.http.post("/ingest", json=element, headers=key)).status_code == 422
        assert await history(here, "pump-1") == entries


async def test_bad_mqtt_payloads_are_refused_and_kept(site):
    async with site() as here:
        key = await here.device("pump-1")
        whole = await here.http.post("/sensors/pump-1/logs", content=b"[", headers=key)
        assert (whole.status_code, whole.json()["code"]) == (400, "MALFORMED_JSON")
        part = await here.http.post(
            "/sensors/pump-1/logs",
            json=[{"severity": "error", "subject": "x"}, {"severity": "fatal", "subject": "x"}],
            headers=key,
        )
        assert part.status_code == 201
        assert part.json()["accepted"] == 1
        assert [e["index"] for e in part.json()["rejected"]] == [1]
        assert len(await here.rejected()) == 2
        unknown = await here.http.post("/sensors/nobody/logs", json=[], headers=SHARED)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "SENSOR_NOT_FOUND")


async def test_unknown_devices_are_registered_where_that_is_wanted(site):
    async with site(auto_provision=True) as here:
        for path, body in [
            ("/ingest", {"device_id": "new-1", "t": 1}),
            ("/ingest/batch", [{"device_id": "new-2", "t": 1}]),
            ("/sensors/new-3/measurements", {"value": 1}),
        ]:
            response = await here.http.post(path, json=body, headers=SHARED)
            assert response.status_code == 201
        devices = (await here.http.get("/devices", headers=ADMIN)).json()
        assert [device["device_id"] for device in devices] == ["new-1", "new-2", "new-3"]
        key = await here.device("pump-1")
        other = await here.http.post("/ingest", json={"device_id": "new-4", "t": 1}, headers=key)
        assert other.status_code == 404


async def test_a_reading_without_a_time_gets_the_servers(site):
    async with site() as here:
        key = await here.device("pump-1")
        times = []
        for number in range(5):
            response = await here.http.post(
                "/ingest", json={"t": number, "timestamp": 12.5}, headers=key
            )
            times.append(from_rfc3339(response.json()["timestamp"]))
        assert times == sorted(set(times))


async def test_ingest_is_limited_for_each_caller(site):
    async with site(rate_limit_ingest=2) as here:
        keys = [await here.device(name) for name in ("pump-1", "pump-2")]
        for key in keys:
            answers = [
                await here.http.post("/ingest", json={"t": number}, headers=key)
                for number in range(3)
            ]
            assert [answer.status_code for answer in answers] == [201, 201, 429]
            assert answers[2].json()["code"] == "RATE_LIMITED"
            assert int(answers[2].headers["retry-after"]) > 0


async def test_what_there_is_no_room_for_is_refused_before_it_is_decoded(site, monkeypatch):
    """Else who sends a batch again and again costs more by its refusals than by its rows."""
    decoded = []

    def decode(*arguments):
        decoded.append(arguments)
        return decode_batch(*arguments)

    monkeypatch.setattr("heliograph.http.ingest.decode_batch", decode)
    async with site() as here:
        key = await here.device("pump-1")
        state = here.services.http_ingest.state
        room, state.bytes_in_flight = state.bytes_in_flight, 1 << 40
        refused = await here.http.post("/ingest/batch", json=[{"t": 1}], headers=key)
        state.bytes_in_flight = room
        assert (refused.status_code, refused.json()["code"]) == (503, "QUEUE_FULL")
        assert refused.headers["retry-after"] == "1"
        assert not decoded
        taken = await here.http.post("/ingest/batch", json=[{"t": 1}], headers=key)
        assert (taken.status_code, len(decoded)) == (201, 1)

"""Times before 2001: an archive's are times, those of clocks that count from boot are not."""

import json
from datetime import UTC, datetime

import pytest

from aggregating import aggregates_of
from engines import SQLITE_FIRST
from heliograph.model.records import Kind
from heliograph.model.time import DAY, HOUR, from_rfc3339, to_rfc3339
from heliograph.rollups.task import Rolling
from mqtt_client import publish, published, subscribe
from server import eventually, running

TIMES = [
    "1659-01-01T00:00:00Z",
    "1955-11-12T22:04:00.250001-08:00",
    "1969-12-31T23:59:59.999999Z",
    "1971-01-01T00:00:00Z",
    "1977-08-20T10:29:00-04:00",
    "1999-12-31T23:59:59.999999Z",
    "2001-09-09T01:46:39.999999Z",
]
MOMENTS = list(map(from_rfc3339, TIMES))
NONE_AT_ALL = [0, 12.5, -1, 999_999_999, "1970-01-01T00:00:12Z", "1970-06-01T00:00:00+05:30"]


@pytest.fixture(params=SQLITE_FIRST)
def engine(request):
    return request.param


@pytest.fixture
async def here(tmp_path, database_url):
    async with running(tmp_path, database_url=database_url) as server:
        yield server


async def post(server, path, body):
    answer = await server.http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def stored(server, device):
    return [row.timestamp for row in await server.measurements(device)]


async def test_times_before_2001_come_in_by_every_way_and_are_one_row(here):
    device = await here.device()
    elements = [{"timestamp": time, "value": n} for n, time in enumerate(TIMES)]
    client = await here.connect(device)
    client.send(publish(device.topic, json.dumps({"measurements": elements}).encode()))
    assert await client.packet() == b"\x40\0\1"
    assert await stored(here, device) == MOMENTS
    repeats = {"accepted": 0, "duplicates": len(TIMES), "retimed": 0, "rejected": []}
    assert await post(here, f"/sensors/{device.identifier}/measurements", elements) == repeats
    readings = [{**element, "device_id": device.device_id} for element in elements]
    assert await post(here, "/ingest/batch", {"readings": readings}) == repeats
    for reading, moment in zip(readings, MOMENTS, strict=True):
        assert await post(here, "/ingest", reading) == {
            "id": str((await here.measurements(device))[readings.index(reading)].id),
            "device_id": device.device_id,
            "timestamp": to_rfc3339(moment),
        }
    assert await stored(here, device) == MOMENTS


async def test_times_before_2001_of_logs_and_heartbeats(here):
    device = await here.device()
    log, beat = {"severity": "info", "subject": "x"}, {"success": True}
    for route, element in (("logs", log), ("heartbeats", beat)):
        body = [{**element, "timestamp": time} for time in TIMES]
        for accepted in (len(TIMES), 0):
            answer = await post(here, f"/sensors/{device.identifier}/{route}", body)
            assert (answer["accepted"], answer["retimed"]) == (accepted, 0)


async def test_the_answer_says_how_many_were_retimed(here):
    """Numbers before 2001 and times of 1970 are a clock's from boot: the time of receipt counts."""
    device = await here.device()
    elements = [{"timestamp": time, "value": 1} for time in NONE_AT_ALL]
    elements += [{"value": 1}, {"timestamp": TIMES[4], "value": 1}, {"timestamp": 5, "value": {}}]
    count = len(NONE_AT_ALL)
    answer = await post(here, f"/sensors/{device.identifier}/measurements", elements)
    assert answer == {"accepted": count + 3, "duplicates": 0, "retimed": count + 1, "rejected": []}
    readings = [{"device_id": device.device_id, **e, "value": 2} for e in elements]
    readings.append({"device_id": device.device_id, "timestamp": "soon", "value": 1})
    readings.append({"device_id": device.device_id, "timestamp": 7, "value": 1, "id": "a"})
    answer = await post(here, "/ingest/batch", readings)
    assert (answer["accepted"], answer["retimed"]) == (count + 4, count + 2)
    # A repeat was retimed when it came first.
    answer = await post(here, "/ingest/batch", readings[-1:])
    assert (answer["accepted"], answer["duplicates"], answer["retimed"]) == (0, 1, 0)
    one = {"device_id": device.device_id, "t": 1}
    assert (await post(here, "/ingest", {**one, "timestamp": "1970-01-01T00:00:12Z"}))[
        "retimed"
    ] == 1
    assert "retimed" not in await post(here, "/ingest", one)
    client = await here.connect(device)
    client.send(publish(device.topic, b'{"timestamp": 3, "value": 3}'))
    await client.packet()
    metrics = (await here.http.get("/metrics")).text
    assert f"heliograph_ingest_retimed_total {2 * count + 5}.0\n" in metrics
    year = datetime.now(UTC).year
    assert [
        time for time in map(to_rfc3339, await stored(here, device)) if time < str(year - 1)
    ] == [to_rfc3339(MOMENTS[4])] * 2


async def test_an_idempotent_answer_says_again_how_many_were_retimed(here):
    device = await here.device()
    body = [{"device_id": device.device_id, "timestamp": 5, "t": 1}]
    headers = {"Idempotency-Key": "once"}
    answers = [await here.http.post("/ingest/batch", json=body, headers=headers) for _ in range(2)]
    assert [answer.json()["retimed"] for answer in answers] == [1, 1]


async def test_a_clock_that_was_never_set_is_told_so(here):
    device = await here.device()
    body = [{"device_id": device.device_id, "timestamp": "0001-01-01T00:00:00Z", "t": 1}]
    (fault,) = (await post(here, "/ingest/batch", body))["rejected"]
    assert fault["code"] == "INVALID_TIMESTAMP"
    assert "before 1650: was the clock ever set?" in fault["detail"]


async def test_times_before_2001_are_read_back_and_sent_back(here):
    """By pages in both directions, history, and what a subscriber is shown."""
    device = await here.device()
    admin = await here.admin()
    admin.send(subscribe(device.topic, qos=0))
    await admin.packet()
    elements = [{"timestamp": time, "value": n} for n, time in enumerate(TIMES)]
    bad = [{"timestamp": "soon", "value": 0}]  # so that what is shown is made anew
    await post(here, f"/sensors/{device.identifier}/measurements", elements + bad)
    shown = json.loads(published(await admin.packet()).payload)
    path = f"/devices/{device.device_id}/history"
    asked = {"start": "1600-01-01T00:00:00Z", "limit": 3}
    history, url, parameters = [], path, asked
    while url:
        page = await here.http.get(url, params=parameters)
        history += page.json()
        url, parameters = page.links.get("next", {}).get("url"), None
    assert [entry["timestamp"] for entry in history] == [*map(to_rfc3339, reversed(MOMENTS))]
    older, url = [], f"/sensors/{device.identifier}/measurements?direction=next&limit=2"
    while url:
        page = await here.http.get(url)
        older += page.json()
        url = page.links.get("next", {}).get("url") if page.json() else None
    assert [round(entry["creation_timestamp"] * 1e6) for entry in older] == MOMENTS
    for sent in (shown, history):
        answer = await post(here, f"/sensors/{device.identifier}/measurements", sent)
        assert (answer["accepted"], answer["duplicates"]) == (0, len(TIMES))


async def test_aggregates_of_an_archive(here):
    """By buckets from the oldest row on, whether rolled up or not."""
    device = await here.device()
    days = 40
    start = from_rfc3339("1969-12-01T00:00:00Z")
    elements = [
        {"timestamp": to_rfc3339(start + n * HOUR + 1), "value": n}
        for n in range(days * 24)
        if (start + n * HOUR) // DAY not in range(365)
    ]
    await post(here, f"/sensors/{device.identifier}/measurements", elements)
    await post(here, f"/sensors/{device.identifier}/measurements", [{"value": 1}])
    asked = {"start": 0, "bucket": "1d", "function": ["count", "sum"]}

    async def read(**parameters):
        path = f"/sensors/{device.identifier}/aggregates"
        answer = await here.http.get(path, params={**asked, **parameters})
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    raw = await read(start="1600-01-01T00:00:00Z", end="1971-01-01T00:00:00Z")
    assert [(entry["start"][:10], entry["count"]) for entry in raw] == [
        (f"1969-12-{day:02}", 24) for day in range(1, 32)
    ]
    assert raw[0]["sum"] == sum(range(24))

    async def pace():
        pass

    rolling = Rolling(here.store, pace)

    async def rolled_up():
        await rolling.redo(await rolling.newest_mark())
        return not (await aggregates_of(here.store).standing(number)).dirty

    number = (await here.store.sensors.find(device.device_id)).number
    await eventually(rolled_up)
    keys = [(number, 3_600, start + n * DAY) for n in range(31)]
    found = await here.store.engine.fetch("rollups_find", keys=json.dumps(keys))
    assert len(found) == 31
    assert await read(start="1600-01-01T00:00:00Z", end="1971-01-01T00:00:00Z") == raw
    # All there is, from a time far before it, takes no more buckets than its own time does.
    assert len(await read(start="1600-01-01T00:00:00Z", bucket="1w")) == 6
    answer = await here.http.get(
        f"/devices/{device.device_id}/aggregate",
        params={"start": "1969-12-31T00:00:00Z", "end": "1970-01-01T00:00:00Z"},
    )
    assert answer.json()["metrics"]["value"]["count"] == 24


async def test_a_range_of_nothing_is_cut_to_what_there_can_be(here):
    """Without anything stored, days since 1970 are no more buckets than before."""
    device = await here.device()
    path = f"/sensors/{device.identifier}/aggregates"
    answer = await here.http.get(path, params={"start": 0, "bucket": "1d"})
    assert (answer.status_code, answer.json()) == (200, {})


async def test_the_exports_of_an_archive(here):
    device = await here.device()
    elements = [{"timestamp": time, "value": n} for n, time in enumerate(TIMES)]
    await post(here, f"/sensors/{device.identifier}/measurements", elements)
    number = (await here.store.sensors.find(device.device_id)).number
    rows = await here.store.exports.page(
        Kind.MEASUREMENT, number, (-(1 << 63), -(1 << 63)), until=1 << 62, limit=100
    )
    assert [row[0] for row in rows] == MOMENTS
    answer = await here.http.get(f"/sensors/{device.identifier}/export", params={"format": "csv"})
    assert answer.status_code == 200, answer.text
    assert [line.split(",")[2] for line in answer.text.splitlines()[1:]] == [
        *map(to_rfc3339, MOMENTS)
    ]

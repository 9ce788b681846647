"""Aggregates over HTTP: by bucket, over a range, filled, refused."""

import contextlib
import threading
import zoneinfo

import pytest

from heliograph.http.answers import encode
from heliograph.model.time import DAY, HOUR, now, parse, to_epoch_seconds
from integration.http.conftest import ADMIN

# 2024-03-30T22:30:00Z: half past eleven in the evening before a day of 23 hours in Berlin.
EVENING = 1_711_837_800


async def fill(here, readings, device_id="pump-1"):
    """Store readings (seconds after EVENING, value)."""
    await here.device(device_id)
    elements = [{"timestamp": EVENING + at, "value": value} for at, value in readings]
    answer = await here.http.post(
        f"/sensors/{device_id}/measurements", json=elements, headers=ADMIN
    )
    assert answer.json()["accepted"] == len(readings), answer.text


async def get(here, path="/sensors/pump-1/aggregates", **params):
    params.setdefault("start", EVENING)
    params.setdefault("end", EVENING + 7_200)
    answer = await here.http.get(path, params=params, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextlib.contextmanager
def without_zone_files():
    """Have no zone files in the system, as with PYTHONTZPATH=."""
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        yield
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()


READINGS = [
    (0, {"air": {"temperature": 20}, "open": True, "name": "x"}),
    (60, {"air": {"temperature": 22.5}, "open": False}),
    (1_800, {"air": {"temperature": 18}, "tags": [1]}),
    (7_100, 7),
]


async def test_a_sum_of_the_largest_numbers_and_an_average_between_them(site):
    async with site() as here:
        values = [(0, {"t": 1e308, "u": 0.1, "v": 1.7e308}), (1, {"t": 1e308, "u": 0.1})]
        await fill(here, [*values, (2, {"t": -1e308, "u": 0.1, "v": 1.7e308})])
        found = await get(here)
        assert found["t"][0]["sum"] == 1e308
        assert (found["u"][0]["avg"], found["v"][0]["avg"]) == (0.1, 1.7e308)
        assert found["v"][0]["sum"] is None
        told = await get(here, "/devices/pump-1/aggregate")
        assert {name: each["avg"] for name, each in told["metrics"].items()} == {
            name: buckets[0]["avg"] for name, buckets in found.items()
        }


async def test_all_attributes_by_hour(site):
    async with site() as here:
        await fill(here, READINGS)
        found = await get(here)
        assert list(found) == ["air.temperature", "open", "value"]
        assert found["air.temperature"] == [
            {
                "start": "2024-03-30T22:00:00.000000Z",
                "avg": 21.25,
                "min": 20,
                "max": 22.5,
                "sum": 42.5,
                "count": 2,
                "last": 22.5,
            },
            {
                "start": "2024-03-30T23:00:00.000000Z",
                "avg": 18.0,
                "min": 18,
                "max": 18,
                "sum": 18.0,
                "count": 1,
                "last": 18,
            },
        ]
        assert [each["avg"] for each in found["open"]] == [0.5]
        assert [each["start"] for each in found["value"]] == ["2024-03-31T00:00:00.000000Z"]


async def test_attributes_functions_and_a_zone(site):
    async with site() as here:
        await fill(here, READINGS)
        found = await get(
            here,
            attribute=["air.temperature", "name", "air.temperature"],
            function=["count", "max", "count"],
            bucket="1d",
            tz="Europe/Berlin",
            end=EVENING + 2 * 86_400,
        )
        assert found == {
            "air.temperature": [
                {"start": "2024-03-30T00:00:00.000000+01:00", "count": 2, "max": 22.5},
                {"start": "2024-03-31T00:00:00.000000+01:00", "count": 1, "max": 18},
            ],
            "name": [],
        }


async def test_a_host_without_zone_files_knows_the_zones(site):
    with without_zone_files():
        async with site() as here:
            await fill(here, READINGS)
            found = await get(here, attribute="value", function="count", tz="Europe/Berlin")
    assert found["value"] == [{"start": "2024-03-31T01:00:00.000000+01:00", "count": 1}]


async def test_start_is_inclusive_and_end_exclusive(site):
    async with site() as here:
        await fill(here, READINGS)
        found = await get(here, start=EVENING + 60, end=EVENING + 1_800, function="count")
        assert [each["count"] for each in found["air.temperature"]] == [1]
        # What a bucket's start is given as is its start when sent again.
        start = found["air.temperature"][0]["start"]
        found = await get(here, start=start, end=EVENING + 1_801, function="count")
        assert [each["count"] for each in found["air.temperature"]] == [2, 1]
        assert await get(here, start=EVENING, end=EVENING) == {}
        assert await get(here, start=EVENING, end=EVENING, attribute="name") == {"name": []}


@pytest.mark.parametrize(
    ("fill_with", "expected"),
    [
        ("null", [20, None, None, 18]),
        ("0", [20, 0, 0, 18]),
        ("previous", [20, 20, 20, 18]),
        ("linear", [20, 19.5, 18.5, 18]),
    ],
)
async def test_empty_buckets(site, fill_with, expected):
    async with site() as here:
        await fill(here, [(-1, {"before": 1}), (0, {"t": 20}), (2_700, {"t": 18})])
        params = {"bucket": "15m", "function": ["last", "count"], "end": EVENING + 3_600}
        bare = await get(here, attribute="t", **params)
        assert [each["last"] for each in bare["t"]] == [20, 18]
        if fill_with == "linear":
            expected = [20, 20 - 2 / 3, 20 - 4 / 3, 18]
        for names in ({"attribute": "t"}, {}):
            found = await get(here, fill=fill_with, **names, **params)
            assert [each["last"] for each in found["t"]] == pytest.approx(expected)
            assert [each["count"] for each in found["t"]] == [1, 0, 0, 1]
        found = await get(here, fill=fill_with, attribute="before", **params)
        assert {each["last"] for each in found["before"]} == {0 if fill_with == "0" else None}


async def test_by_default_the_last_day_and_what_a_fast_clock_says(site):
    async with site() as here:
        await here.device("pump-1")
        moments = [now() - 2 * DAY, now() - HOUR, now() + HOUR]
        elements = [{"timestamp": to_epoch_seconds(at), "value": {"t": 1}} for at in moments]
        await here.http.post("/sensors/pump-1/measurements", json=elements, headers=ADMIN)
        for params, count in (({}, 2), ({"range": "4d"}, 3), ({"start": 0, "bucket": "1mo"}, 3)):
            answer = await here.http.get("/sensors/pump-1/aggregates", params=params, headers=ADMIN)
            assert sum(each["count"] for each in answer.json()["t"]) == count
        answer = await here.http.get("/devices/pump-1/aggregate", headers=ADMIN)
        whole = answer.json()
        assert whole["metrics"] == {"t": {"min": 1, "max": 1, "avg": 1, "count": 2}}
        assert parse(whole["start"]) < moments[1]
        assert parse(whole["end"]) > moments[2]


async def test_a_device_over_a_range(site):
    async with site() as here:
        await fill(here, READINGS)
        found = await get(here, "/devices/pump-1/aggregate")
        assert found == {
            "device_id": "pump-1",
            "start": "2024-03-30T22:30:00.000000Z",
            "end": "2024-03-31T00:30:00.000000Z",
            "count": 4,
            "metrics": {
                "air.temperature": {"min": 18, "max": 22.5, "avg": 60.5 / 3, "count": 3},
                "open": {"min": 0, "max": 1, "avg": 0.5, "count": 2},
                "value": {"min": 7, "max": 7, "avg": 7, "count": 1},
            },
        }
        nothing = await get(here, "/devices/pump-1/aggregate", start=EVENING, end=EVENING)
        assert (nothing["count"], nothing["metrics"]) == (0, {})


async def test_a_device_by_bucket(site):
    async with site() as here:
        await fill(here, [*READINGS, (7_101, {"name": "no number"})])
        days = await get(
            here, "/devices/pump-1/aggregate", bucket="1d", tz="Europe/Berlin", end=EVENING + 90_000
        )
        assert [(day["start"][:19], day["end"], day["count"]) for day in days] == [
            ("2024-03-30T00:00:00", "2024-03-31T00:00:00.000000+01:00", 2),
            ("2024-03-31T00:00:00", "2024-04-01T00:00:00.000000+02:00", 3),
        ]
        assert {day["device_id"] for day in days} == {"pump-1"}
        assert list(days[1]["metrics"]) == ["air.temperature", "value"]


async def test_what_is_wrong_is_told(site):
    async with site() as here:
        await fill(here, [(0, dict.fromkeys("abcdefghijklmnop", 1))])
        for params, location in [
            ({"bucket": "1y"}, "bucket"),
            ({"bucket": "0s"}, "bucket"),
            ({"bucket": "10s", "range": "4w"}, "bucket"),
            ({"tz": "Mars/Olympus"}, "tz"),
            ({"tz": "../../etc/passwd"}, "tz"),
            ({"function": "median"}, "function"),
            ({"fill": "next"}, "fill"),
            ({"fill": "0", "attribute": list("abcdefghijklmnop"), "bucket": "10s"}, "fill"),
            ({"start": "yesterday"}, "start"),
            ({"end": "nan"}, "end"),
            ({"range": "1y"}, "range"),
            ({"attribute": ["x"] * 101}, "attribute"),
        ]:
            answer = await here.http.get("/sensors/pump-1/aggregates", params=params, headers=ADMIN)
            assert answer.status_code == 422, params
            assert answer.json()["code"] == "VALIDATION_FAILED", params
            assert location in answer.json()["detail"][0]["loc"], params


async def test_more_than_one_answer_takes_is_refused(site, monkeypatch):
    async with site() as here:
        await fill(here, READINGS)
        monkeypatch.setattr("heliograph.rollups.aggregates.MAXIMUM_VALUES", 1)
        for path in ("/sensors/pump-1/aggregates", "/devices/pump-1/aggregate"):
            params = {"start": EVENING, "end": EVENING + 7_200}
            answer = await here.http.get(path, params=params, headers=ADMIN)
            assert answer.status_code == 422
            assert "fewer attributes" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("path", ["/sensors/pump-1/aggregates", "/devices/pump-1/aggregate"])
async def test_a_large_answer_is_the_same_made_beside_the_event_loop(site, monkeypatch, path):
    threads = []

    def encoding(body):
        threads.append(threading.current_thread())
        return encode(body)

    async with site() as here:
        await fill(here, READINGS)
        monkeypatch.setattr("heliograph.http.aggregates.encode", encoding)
        small = await get(here, path, bucket="1h")
        monkeypatch.setattr("heliograph.http.aggregates.AT_ONCE", 0)
        assert await get(here, path, bucket="1h") == small
        assert threads[0] != threads[1]


async def test_as_many_buckets_are_filled_as_an_answer_may_have(site, monkeypatch):
    async with site() as here:
        await fill(here, READINGS)
        monkeypatch.setattr("heliograph.http.aggregates.MAXIMUM_VALUES", 6)
        asked = {"attribute": ["name", "tags"], "fill": "0", "function": "count"}
        found = await get(here, end=EVENING + 3_600 + 1_801, **asked)
        assert [len(buckets) for buckets in found.values()] == [3, 3]
        params = {**asked, "start": EVENING, "end": EVENING + 3_600 + 5_401}
        answer = await here.http.get("/sensors/pump-1/aggregates", params=params, headers=ADMIN)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["query", "fill"]

import re
import time

import pytest

from heliograph.model.time import from_rfc3339

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
START = 1_700_000_000.0


async def filled(here, count, *, per_time=1, value=lambda number: {"n": number}):
    key = await here.device("pump-1")
    elements = [
        {"timestamp": START + number // per_time, "value": value(number)} for number in range(count)
    ]
    response = await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
    assert response.json()["accepted"] == count
    return key


def numbers(response):
    assert response.status_code == 200, response.text
    return [element["measurement"]["n"] for element in response.json()]


def link(response, rel):
    found = re.search(rf'<([^>]+)>; rel="{rel}"', response.headers.get("link", ""))
    return found and found[1]


async def test_the_newest_page_comes_first_and_reads_upwards(site):
    async with site() as here:
        key = await filled(here, 100)
        path = "/sensors/pump-1/measurements"
        assert numbers(await here.http.get(path, headers=key)) == list(range(36, 100))
        oldest = await here.http.get(f"{path}?direction=next&limit=3", headers=key)
        assert numbers(oldest) == [0, 1, 2]


async def test_a_key_is_exclusive_and_reads_either_way(site):
    async with site() as here:
        key = await filled(here, 10)
        page = (await here.http.get("/sensors/pump-1/measurements?limit=1", headers=key)).json()
        assert page[0]["creation_timestamp"] == START + 9
        for parameter, expected in [
            (f"creation_timestamp={START + 4}", [5, 6, 7]),
            (f"creation_timestamp={START + 4}&direction=next", [5, 6, 7]),
            (f"creation_timestamp={START + 4}&direction=previous", [1, 2, 3]),
            ("creation_timestamp=2023-11-14T22:13:24Z", [5, 6, 7]),
        ]:
            path = f"/sensors/pump-1/measurements?limit=3&{parameter}"
            assert numbers(await here.http.get(path, headers=key)) == expected


async def test_times_that_are_given_back_compare_equal_when_sent_again(site):
    async with site() as here:
        key = await here.device("pump-1")
        moments = [1_674_677_601.900101, 1_674_677_604.365664, 1_674_677_604.365665]
        elements = [{"timestamp": moment, "value": {"n": moment}} for moment in moments]
        await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
        key_time = None
        for moment in moments:
            query = {"limit": 1, "direction": "next"}
            if key_time is not None:
                query["creation_timestamp"] = key_time
            response = await here.http.get(
                "/sensors/pump-1/measurements", params=query, headers=key
            )
            assert numbers(response) == [moment]
            key_time = response.json()[-1]["creation_timestamp"]
            assert key_time == moment


@pytest.mark.parametrize("direction", ["next", "previous"])
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_links_lead_through_everything_exactly_once(site, direction, prefix):
    async with site() as here:
        key = await filled(here, 50, per_time=3)
        seen = []
        path = f"{prefix}/sensors/pump-1/measurements?limit=7&direction={direction}"
        while path:
            assert path.startswith(f"{prefix}/sensors/")
            response = await here.http.get(path, headers=key)
            page = numbers(response)
            assert len(page) >= 7 or link(response, direction) is None
            seen = seen + page if direction == "next" else page + seen
            path = link(response, direction)
        assert sorted(seen) == list(range(50))
        assert [number // 3 for number in seen] == sorted(number // 3 for number in range(50))


async def test_bad_parameters_are_validation_errors(site):
    async with site() as here:
        await here.device("pump-1")
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "direction=sideways",
            "creation_timestamp=x",
            "creation_timestamp=1e999",
            "creation_timestamp=NaN",
            "creation_timestamp=",
            "cursor=x",
            "cursor=",
        ]:
            for name in ["measurements", "logs", "heartbeats"]:
                response = await here.http.get(f"/sensors/pump-1/{name}?{query}", headers=ADMIN)
                assert response.status_code == 422, (name, query)
                assert response.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]], (
                    name,
                    query,
                )


async def test_logs_are_read_in_pages_too(site):
    async with site() as here:
        key = await here.device("pump-1")
        logs = [
            {"severity": "warning", "subject": str(n), "timestamp": START + n, "revision": n}
            for n in range(5)
        ]
        await here.http.post("/sensors/pump-1/logs", json={"log_messages": logs}, headers=key)
        first = await here.http.get("/sensors/pump-1/logs?limit=2", headers=key)
        assert first.json()[1] == {
            "revision": 4,
            "creation_timestamp": START + 4,
            "severity": "warning",
            "subject": "4",
            "details": None,
        }
        before = await here.http.get(link(first, "previous"), headers=key)
        assert [entry["subject"] for entry in before.json()] == ["1", "2"]


async def test_history_is_newest_first_within_its_range(site):
    async with site() as here:
        key = await filled(here, 10)
        path = "/devices/pump-1/history"

        async def found(**query):
            response = await here.http.get(path, params=query, headers=key)
            assert response.status_code == 200, response.text
            return [entry["metrics"]["n"] for entry in response.json()]

        assert await found() == []
        assert await found(range="5000w") == list(range(9, -1, -1))
        assert await found(start=START + 2, end=START + 5) == [4, 3, 2]
        assert await found(start="2023-11-14T22:13:28Z") == [9, 8]
        assert await found(end=START + 3, range="2s") == [2, 1]
        assert await found(start=START, limit=2) == [9, 8]
        assert await found(start=START + 5, end=START + 5) == []
        for query in ("range=1y", "range=h", "range=999999999w", "limit=10001", "start=x"):
            assert (await here.http.get(f"{path}?{query}", headers=key)).status_code == 422


async def walked(here, path, rel, key, found):
    """Follow the links from one end to the other."""
    pages = []
    while path:
        response = await here.http.get(path, headers=key)
        assert response.status_code == 200, response.text
        pages.append([found(entry) for entry in response.json()])
        path = link(response, rel)
        last = response
    return pages, last


@pytest.mark.parametrize("query", ["", "&attribute=n", "&attribute=n&attribute=x"])
@pytest.mark.parametrize("limit", [3, 5, 10])
async def test_history_is_walked_there_and_back(site, query, limit):
    async with site() as here:
        key = await filled(here, 20, per_time=4)
        before = {"timestamp": START - 1, "x": 0}
        await here.http.post("/ingest", json=before, headers=key)
        path = f"/devices/pump-1/history?start={START}&end={START + 4}&limit={limit}{query}"
        there, last = await walked(here, path, "next", key, lambda entry: entry["metrics"]["n"])
        seen = [number for page in there for number in page]
        assert sorted(seen) == list(range(16))
        assert [number // 4 for number in seen] == sorted((n // 4 for n in seen), reverse=True)
        back, _ = await walked(
            here, link(last, "previous"), "previous", key, lambda entry: entry["metrics"]["n"]
        )
        assert [n for page in reversed(back) for n in page] == seen[: len(seen) - len(there[-1])]
        # A range that ends now is the same one on every page.
        ranged = await here.http.get("/devices/pump-1/history?range=9000d&limit=2", headers=key)
        assert "start=" in link(ranged, "next")
        assert "range=" not in link(ranged, "next")


async def test_a_newer_page_of_history_starts_at_the_oldest_and_is_newest_first(site):
    async with site() as here:
        key = await filled(here, 6)
        path = f"/devices/pump-1/history?start={START}&limit=2&direction=newer"
        first = await here.http.get(path, headers=key)
        assert [entry["metrics"]["n"] for entry in first.json()] == [1, 0]
        second = await here.http.get(link(first, "previous"), headers=key)
        assert [entry["metrics"]["n"] for entry in second.json()] == [3, 2]
        for wrong in ("direction=next", "cursor=x"):
            response = await here.http.get(f"/devices/pump-1/history?{wrong}", headers=key)
            assert response.status_code == 422


@pytest.mark.parametrize("direction", ["next", "previous"])
async def test_only_what_has_an_attribute_is_read_and_only_that_of_it(site, direction):
    values = [{"n": 1, "a": {"b": 2, "c": 3}}, {"m": 4}, 5, {"a": {"b": 6}}, {"a": 7}]
    async with site() as here:
        key = await here.device("pump-1")
        elements = [
            {"timestamp": START + at, "value": value} for at, value in enumerate(values * 3)
        ]
        await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
        for names, expected in [
            (["a.b"], [{"a": {"b": 2}}, {"a": {"b": 6}}] * 3),
            (["m", "value"], [{"m": 4}, 5] * 3),
        ]:
            query = "".join(f"&attribute={name}" for name in names)
            for limit in (1, 2, 100):
                path = f"/sensors/pump-1/measurements?direction={direction}&limit={limit}{query}"
                pages, _ = await walked(
                    here, path, direction, key, lambda entry: entry["measurement"]
                )
                if direction == "previous":
                    pages.reverse()
                assert [value for page in pages for value in page] == expected
        many = "&".join(["attribute=a"] * 101)
        response = await here.http.get(f"/sensors/pump-1/measurements?{many}", headers=key)
        assert response.status_code == 422


async def test_more_rows_of_one_time_than_a_page_holds_are_reached_by_the_cursor(site):
    async with site() as here:
        key = await here.device("pump-1")
        for start in range(0, 10_300, 5_000):
            elements = [
                {"timestamp": START, "value": {"n": number}}
                for number in range(start, min(start + 5_000, 10_300))
            ]
            sent = await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
            assert sent.json()["accepted"] == len(elements)
        for direction in ("next", "previous"):
            path = f"/sensors/pump-1/measurements?direction={direction}&limit=1000"
            pages, _ = await walked(
                here, path, direction, key, lambda entry: entry["measurement"]["n"]
            )
            assert [len(page) for page in pages] == [10_000, 300]
            assert sorted(number for page in pages for number in page) == list(range(10_300))


async def test_history_shows_readings_of_a_clock_that_is_ahead(site):
    async with site() as here:
        key = await here.device("pump-1")
        ahead = {"t": 1, "timestamp": time.time() + 3_600}
        sent = await here.http.post("/ingest", json=ahead, headers=key)
        entries = (await here.http.get("/devices/pump-1/history", headers=key)).json()
        assert [entry["id"] for entry in entries] == [sent.json()["id"]]
        assert from_rfc3339(entries[0]["timestamp"]) == round(ahead["timestamp"] * 1e6)


async def test_values_that_are_no_objects_have_the_metric_value(site):
    async with site() as here:
        key = await filled(here, 2, value=lambda number: [number, "x"])
        entries = (await here.http.get("/devices/pump-1/history?range=9999d", headers=key)).json()
        assert [entry["metrics"] for entry in entries] == [{"value": [1, "x"]}, {"value": [0, "x"]}]


async def test_latest_has_each_attributes_own_time(site):
    async with site() as here:
        key = await here.device("pump-1")
        elements = [
            {"timestamp": START, "value": {"a": 1, "b": {"c": 2}}},
            {"timestamp": START + 1, "value": {"a": 3}},
        ]
        await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
        response = await here.http.get("/sensors/pump-1/latest", headers=key)
        body = response.json()
        assert set(body) == {"sensor_identifier", "device_id", "attributes", "labels"}
        assert body["attributes"] == {
            "a": {"value": 3, "timestamp": "2023-11-14T22:13:21.000000Z"},
            "b.c": {"value": 2, "timestamp": "2023-11-14T22:13:20.000000Z"},
        }


async def test_reads_are_limited(site):
    async with site(rate_limit_read=3) as here:
        answers = [await here.http.get("/devices", headers=ADMIN) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[3].json()["code"] == "RATE_LIMITED"
        assert 1 <= int(answers[3].headers["retry-after"]) <= 61
        public = [await here.http.get("/health") for _ in range(4)]
        assert [answer.status_code for answer in public] == [200, 200, 200, 429]

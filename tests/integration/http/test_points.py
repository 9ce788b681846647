"""`points=N`: measurements chosen for a chart."""

import pytest

from heliograph.store import measurements as measurements_module
from heliograph.store import points as points_module

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
START = 1_700_000_000
PATHS = ["/sensors/pump-1/measurements", "/devices/pump-1/history"]
RANGE = f"start={START}&end={START + 10_000}"


async def filled(here, count):
    key = await here.device("pump-1")
    elements = [
        {
            "timestamp": START + number,
            "value": {"n": 100 if number == 70 else number % 3, "air": {"t": number}, "x": "y"},
        }
        for number in range(count)
    ]
    response = await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
    assert response.json()["accepted"] == count
    return key


async def test_a_sensors_measurements_for_a_chart(site):
    async with site() as here:
        key = await filled(here, 200)
        path = f"/sensors/pump-1/measurements?attribute=n&{RANGE}"
        response = await here.http.get(f"{path}&points=10", headers=key)
        assert response.status_code == 200
        assert "link" not in response.headers
        entries = response.json()
        times = [entry["creation_timestamp"] for entry in entries]
        assert len(entries) == 10
        assert times == sorted(times)
        assert (times[0], times[-1]) == (START, START + 199)
        for entry, time in zip(entries, times, strict=True):
            expected = 100 if time == START + 70 else (time - START) % 3
            assert entry == {
                "revision": None,
                "creation_timestamp": time,
                "measurement": {"n": expected},
            }
        assert START + 70 in times
        narrow = f"/sensors/pump-1/measurements?attribute=air.t&start={START + 5}&end={START + 8}"
        response = await here.http.get(f"{narrow}&points=5000", headers=key)
        assert [entry["measurement"] for entry in response.json()] == [
            {"air": {"t": number}} for number in (5, 6, 7)
        ]


async def test_a_devices_history_for_a_chart(site):
    async with site() as here:
        key = await filled(here, 200)
        path = f"/devices/pump-1/history?{RANGE}&attribute=n"
        whole = (await here.http.get(path, headers=key)).json()
        response = await here.http.get(f"{path}&points=7", headers=key)
        assert "link" not in response.headers
        entries = response.json()
        assert len(entries) == 7
        assert [entries[0], entries[-1]] == [whole[0], whole[-1]]
        # Newest first, as history is; rows with their ids.
        assert [entry for entry in whole if entry in entries] == entries


@pytest.mark.parametrize("path", PATHS)
async def test_the_last_day_is_shown_unless_told_otherwise(site, path):
    async with site() as here:
        key = await here.device("pump-1")
        response = await here.http.post("/ingest", json={"n": 1}, headers=key)
        assert response.status_code == 201
        old = [{"timestamp": START, "value": {"n": 2}}]
        await here.http.post("/sensors/pump-1/measurements", json=old, headers=key)
        query = "attribute=n&points=3"
        assert len((await here.http.get(f"{path}?{query}", headers=key)).json()) == 1
        wide = await here.http.get(f"{path}?{query}&range=5000d", headers=key)
        assert len(wide.json()) == 2
        for nothing in ("attribute=n&end=5&start=3", "attribute=n&start=9&end=9"):
            answer = await here.http.get(f"{path}?{nothing}&points=3", headers=key)
            assert (answer.status_code, answer.json()) == (200, [])


async def test_what_makes_no_chart_is_refused(site):
    async with site() as here:
        key = await here.device("pump-1")
        for path in PATHS:
            for query, parameter in [
                ("points=2&attribute=n", "points"),
                ("points=5001&attribute=n", "points"),
                ("points=x&attribute=n", "points"),
                ("points=10", "attribute"),
                ("points=10&attribute=n&attribute=m", "attribute"),
                ("points=10&attribute=n&limit=5", "limit"),
                ("points=10&attribute=n&cursor=AAAAAAAAAAAAAAAAAAAAAA", "cursor"),
                ("points=10&attribute=n&range=99", "range"),
                ("points=10&attribute=n&start=yesterday", "start"),
            ]:
                response = await here.http.get(f"{path}?{query}", headers=key)
                assert response.status_code == 422, (path, query)
                assert response.json()["detail"][0]["loc"] == ["query", parameter], (path, query)


@pytest.mark.parametrize("query", ["start=5", "limit=3&end=5", "range=24h"])
async def test_a_page_of_measurements_has_no_range(site, query):
    # It was never looked at: half an answer would be taken for a whole one.
    async with site() as here:
        key = await here.device("pump-1")
        response = await here.http.get(f"/sensors/pump-1/measurements?{query}", headers=key)
        assert response.status_code == 422
        assert "goes with points" in response.text


@pytest.mark.parametrize("path", PATHS)
async def test_a_range_that_is_too_large_is_refused(site, path, monkeypatch):
    monkeypatch.setattr(points_module, "_FIRST_CHUNK", 2)
    monkeypatch.setattr(measurements_module, "LARGE_READ", 4)
    monkeypatch.setattr(measurements_module, "MAXIMUM_RAW_ROWS", 9)
    async with site() as here:
        key = await filled(here, 20)
        response = await here.http.get(f"{path}?attribute=n&points=5&{RANGE}", headers=key)
        assert response.status_code == 422
        assert "shorter range" in response.json()["detail"][0]["msg"]


@pytest.mark.parametrize("path", PATHS)
async def test_foreign_sensors_are_not_found(site, path):
    async with site() as here:
        await here.device("pump-1")
        other = await here.device("pump-2")
        response = await here.http.get(f"{path}?attribute=n&points=5", headers=other)
        assert response.status_code == 404

"""What is read the quick way is answered exactly as FastAPI's routes answer it."""

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.web.pages import PageRequest, encode_cursor
from heliograph.web.reads import QuickReads, plain_page
from integration.web.conftest import ADMIN, SHARED

START = 1_700_000_000


async def filled(here):
    key = await here.device("pump-1")
    measured = [{"timestamp": START + at // 2, "value": {"n": at}} for at in range(9)]
    logged = [{"timestamp": START + at, "severity": "info", "subject": f"s{at}"} for at in range(9)]
    for name, elements in (("measurements", measured), ("logs", logged)):
        path = f"/sensors/pump-1/{name}"
        assert (await here.http.post(path, json=elements, headers=key)).status_code == 201
    return key


def answer(response):
    return response.status_code, sorted(response.headers.raw), response.content


QUERIES = [
    "",
    "?limit=3",
    "?limit=3&direction=next",
    f"?creation_timestamp={START + 2}&limit=2",
    f"?creation_timestamp={START + 2}.5&direction=previous",
    "?creation_timestamp=2023-11-14T22:13:22Z",
    "?creation_timestamp=1e9",
    "?creation_timestamp=tomorrow",
    "?limit=0",
    "?limit=1001",
    "?limit=007",
    "?limit=2&limit=3",
    "?direction=up",
    "?cursor=AAAA",
    "?cursor=",
    "?limit",
    "?unknown=1",
    "?%ff=%00",
    "?limit=%33",
]


@pytest.mark.uncovered
@pytest.mark.parametrize("key", ["device", "admin", "shared", "wrong", "none"])
async def test_both_ways_answer_alike(site, monkeypatch, key):
    async with site() as here:
        own = await filled(here)
        other = await here.device("pump-2")
        headers = {"device": own, "admin": ADMIN, "shared": SHARED, "none": {}}.get(
            key, {"x-api-key": "wrong"}
        )
        sensor = (await here.http.get("/devices/pump-1", headers=ADMIN)).json()
        newest = (await here.http.get("/sensors/pump-1/logs?limit=1", headers=ADMIN)).headers
        cursor = newest["link"].split("?")[1].split(">")[0]
        paths = [
            f"{prefix}/sensors/{name}/{what}{query}{end}"
            for prefix, names in (
                ("", ("pump-1", "pump-2", sensor["sensor_identifier"].upper(), "nobody")),
                ("/api/v1", ("pump-1",)),
            )
            for name in names
            for what in ("latest", "measurements", "logs")
            for query in [*QUERIES, f"?{cursor}"]
            for end in ([""] if query else ["", "/"])
        ]
        assert other
        quick = [answer(await here.http.get(path, headers=headers)) for path in paths]
        monkeypatch.setattr(QuickReads, "_plain", lambda *_: None)
        for path, found in zip(paths, quick, strict=True):
            assert found == answer(await here.http.get(path, headers=headers)), path
        statuses = {status for status, *_ in quick}
        assert statuses == {
            "device": {200, 404, 422},
            "admin": {200, 404, 422},
            "shared": {403, 422},
            "wrong": {401, 422},
            "none": {401, 422},
        }.get(key, statuses)


async def test_plain_reads_do_not_reach_fastapi(site, monkeypatch):
    async with site() as here:
        key = await filled(here)

        async def beyond(*_):
            raise AssertionError("a plain read went the long way")

        monkeypatch.setattr("heliograph.web.application.CountedTraffic.__call__", beyond)
        for what in ("latest", "measurements?limit=5&direction=next", "logs"):
            response = await here.http.get(f"/sensors/pump-1/{what}", headers=key)
            assert response.status_code == 200


async def test_plain_reads_are_limited_and_counted(site):
    async with site(rate_limit_read=3) as here:
        key = await filled(here)
        path = "/sensors/pump-1/latest"
        statuses = [(await here.http.get(path, headers=key)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        counted = (await here.http.get("/metrics", headers=ADMIN)).text
        assert 'route="/api/v1/sensors/{identifier}/latest",status="4xx"} 1.0' in counted


async def test_plain_reads_say_when_the_database_is_away(site, monkeypatch):
    async with site() as here:
        key = await filled(here)

        async def away(*_, **__):
            raise StoreUnavailableError("an outage to order")

        monkeypatch.setattr(here.services.store.engine, "fetch", away)
        response = await here.http.get("/sensors/pump-1/measurements", headers=key)
        assert (response.status_code, response.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert response.headers["retry-after"] == "2"


def test_a_cursor_is_read_like_any_other():
    page = plain_page(f"limit=9&cursor={encode_cursor(5, -7)}&direction=previous".encode())
    assert isinstance(page, PageRequest)
    assert (page.cursor, page.limit, page.direction) == ((5, -7), 9, "previous")

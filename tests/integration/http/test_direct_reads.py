"""GETs that are answered directly read their parameters exactly as FastAPI would."""

import functools
import re

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError

from heliograph.errors import StoreUnavailableError
from heliograph.http import aggregates, errors, history, latest, measurements
from heliograph.http.pages import encode_cursor
from heliograph.http.resources import ReadRoute, known_call
from integration.http.conftest import ADMIN, SHARED

START = 1_700_000_000


async def filled(here):
    key = await here.device("pump-1")
    measured = [{"timestamp": START + at // 2, "value": {"n": at}} for at in range(9)]
    logged = [{"timestamp": START + at, "severity": "info", "subject": f"s{at}"} for at in range(9)]
    for name, elements in (("measurements", measured), ("logs", logged)):
        path = f"/sensors/pump-1/{name}"
        assert (await here.http.post(path, json=elements, headers=key)).status_code == 201
    return key


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
    f"?cursor={encode_cursor(5, -7)}&direction=previous",
    "?direction=newer&limit=0x2",
    "?attribute=a&attribute=b&limit=3",
    "?attribute=a&points=10&range=7d",
    "?attribute=a&attribute=%00&points=1",
    "?points=10&limit=3&attribute=a",
    "?start=5&range=7d",
    "?start=7&end=5&bucket=1h",
    "?range=7y&bucket=0h&tz=Nowhere/At_All&function=median&fill=none",
    "?bucket=1d&tz=Europe/Berlin&function=avg&function=max&fill=null",
    "?format=csv",
    "?format=xml",
    "?offset=-1",
    "?offset=3&limit=10000",
]


ROUTES = [
    route
    for module in (aggregates, history, latest, measurements)
    for route in module.router.routes
]


def shown(value):
    """Return a value that a route gets so that it can be compared with another one."""
    if isinstance(value, Request):
        return "the request"
    return shown(vars(value)) if hasattr(value, "__dict__") else str(value)


@pytest.mark.uncovered
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_parameters_are_those_that_fastapi_reads(monkeypatch, route):
    for module in ("aggregates", "history", "ranges"):
        monkeypatch.setattr(f"heliograph.http.{module}.now", lambda: START, raising=False)
    assert isinstance(route, ReadRoute)
    given = []

    @functools.wraps(route.endpoint)
    async def record(**values):
        values.pop("call")
        given.append(values)

    app = FastAPI()
    app.add_api_route(route.path, record, response_model=None)
    app.dependency_overrides[known_call] = lambda: None
    app.add_exception_handler(RequestValidationError, errors._raise)
    transport = httpx.ASGITransport(app)
    path = re.sub(r"{\w+}", "pump-1", route.path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for query in QUERIES:
            given.clear()
            for tag in ({}, {"if-none-match": '"x"'}):
                try:
                    await http.get(path + query, headers=tag)
                    expected = {k: shown(v) for k, v in given.pop().items() if v != "pump-1"}
                    told = []
                except RequestValidationError as error:
                    expected, told = None, [(each["loc"], each["msg"]) for each in error.errors()]
                scope = {
                    "type": "http",
                    "query_string": query[1:].encode(),
                    "headers": [(name.encode(), value.encode()) for name, value in tag.items()],
                }
                problems = []
                try:
                    values = route._parameters.read(Request(scope), problems)
                except RequestValidationError as error:
                    problems = error.errors()
                assert sorted((each["loc"], each["msg"]) for each in problems) == sorted(told)
                if expected is not None:
                    assert {k: shown(v) for k, v in values.items()} == expected, query


async def test_each_kind_of_caller_is_answered_as_elsewhere(site):
    async with site() as here:
        own = await filled(here)
        await here.device("pump-2")
        sensor = (await here.http.get("/devices/pump-1", headers=ADMIN)).json()
        for what in ("latest", "measurements", "logs", "heartbeats", "aggregates"):
            for headers, name, status in (
                (own, "pump-1", 200),
                (own, "pump-2", 404),
                (ADMIN, "pump-1/", 200),
                (ADMIN, sensor["sensor_identifier"].upper(), 200),
                (ADMIN, "nobody", 404),
                (SHARED, "pump-1", 403),
                ({"x-api-key": "wrong"}, "pump-1", 401),
                ({}, "pump-1", 401),
            ):
                path = f"/sensors/{name.strip('/')}/{what}{'/' if name[-1] == '/' else ''}"
                response = await here.http.get(path, headers=headers)
                assert response.status_code == status, (path, headers)


async def test_they_do_not_reach_fastapi(site, monkeypatch):
    async with site() as here:
        key = await filled(here)

        async def beyond(*_):
            raise AssertionError("it went the long way")

        monkeypatch.setattr("heliograph.http.front.Front._pass_on", beyond)
        for what in ("latest", "measurements?limit=5&direction=next", "logs"):
            response = await here.http.get(f"/sensors/pump-1/{what}", headers=key)
            assert response.status_code == 200


async def test_they_are_limited_and_counted(site):
    async with site(rate_limit_read=3) as here:
        key = await filled(here)
        path = "/sensors/pump-1/latest"
        statuses = [(await here.http.get(path, headers=key)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        counted = (await here.http.get("/metrics", headers=ADMIN)).text
        assert 'route="/api/v1/sensors/{identifier}/latest",status="4xx"} 1.0' in counted


async def test_they_say_when_the_database_is_away(site, monkeypatch):
    async with site() as here:
        key = await filled(here)

        async def away(*_, **__):
            raise StoreUnavailableError("an outage to order")

        monkeypatch.setattr(here.services.store.engine, "fetch", away)
        response = await here.http.get("/sensors/pump-1/measurements", headers=key)
        assert (response.status_code, response.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert response.headers["retry-after"] == "2"

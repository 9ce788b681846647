"""Who is limited by what: each kind of request has a bucket of its own."""

import re

import httpx
import pytest

from integration.http.conftest import ADMIN

METRICS = {"authorization": "Bearer a-token-for-metrics-only"}


async def statuses(here, count, path, headers=None, **options):
    method = options.pop("method", "GET")
    answers = [
        await here.http.request(method, path, headers=headers, **options) for _ in range(count)
    ]
    if answers[-1].status_code == 429:
        assert answers[-1].json()["code"] == "RATE_LIMITED"
        assert int(answers[-1].headers["retry-after"]) >= 1
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc", "/static/swagger/x.js"])
async def test_the_documentation_is_limited(site, path):
    async with site(rate_limit_read=3) as here:
        found = await statuses(here, 4, path)
        assert found[3] == 429
        assert 429 not in found[:3]
        # All of it together, and apart from callers with a credential.
        assert await statuses(here, 1, "/docs") == [429]
        assert await statuses(here, 3, "/devices", ADMIN) == [200] * 3


@pytest.mark.parametrize("probe", ["/health", "/ping", "/readyz", "/status"])
async def test_probes_have_a_bucket_of_their_own(site, probe):
    async with site(rate_limit_read=3) as here:
        assert await statuses(here, 4, "/docs") == [200, 200, 200, 429]
        assert await statuses(here, 4, "/authentication", method="POST", json={}) == [422] * 4
        assert await statuses(here, 4, probe) == [200, 200, 200, 429]


async def test_metrics_are_limited(site):
    async with site(rate_limit_read=3, metrics_token=METRICS["authorization"][7:]) as here:
        assert await statuses(here, 4, "/metrics", ADMIN) == [200, 200, 200, 429]
        assert await statuses(here, 4, "/metrics", METRICS) == [200, 200, 200, 429]


async def test_writes_have_a_bucket_apart_from_reads(site):
    async with site(rate_limit_read=3, rate_limit_write=2) as here:
        change = {"method": "PATCH", "json": {"name": "x"}, "headers": ADMIN}
        await here.device("pump-1")
        assert await statuses(here, 4, "/devices", ADMIN) == [200, 200, 200, 429]
        assert await statuses(here, 2, "/devices/pump-1", **change) == [200, 429]
        strangers = {"method": "POST", "json": {}}
        assert await statuses(here, 3, "/users", **strangers) == [422, 422, 429]
        assert await statuses(here, 1, "/docs") == [200]


async def test_each_answer_tells_the_limit_that_it_is_counted_by(site, serving):
    limits = {"rate_limit_read": 6, "rate_limit_write": 4, "rate_limit_ingest": 5}
    async with (
        site(**limits, rate_limit_failed_logins=3) as here,
        serving(here.web) as port,
        httpx.AsyncClient(base_url=f"http://localhost:{port}") as http,
    ):
        pump = await here.device("pump")
        # At once over a connection, and by ASGI: both say the same.
        for client in (http, here.http):
            for method, path, headers, expected in (
                ("POST", "/ingest", pump, [("ingest", 5)]),
                ("GET", "/sensors/pump/measurements", pump, [("read", 6)]),
                ("GET", "/devices/pump", pump, [("read", 6)]),
                ("GET", "/ping", {}, [("probe", 6)]),
                ("PATCH", "/devices/pump", ADMIN, [("write", 4)]),
                ("GET", "/devices", {"x-api-key": "wrong"}, [("log-in", 3)]),
                ("GET", "/devices", {"authorization": "Bearer wrong"}, [("log-in", 3)]),
                ("POST", "/authentication", {}, [("write", 4), ("log-in", 3)]),
            ):
                body = {"username": "ada", "password": "wrong"} if "auth" in path else {"name": "x"}
                content = {} if method == "GET" else {"json": body}
                answer = await client.request(method, path, headers=headers, **content)
                policies = [f'"{name}";q={quota};w=60' for name, quota in expected]
                assert answer.headers["ratelimit-policy"] == ", ".join(policies), path
                for name, _ in expected:
                    assert re.search(
                        rf'(^|, )"{name}";r=\d+;t=\d+(,|$)', answer.headers["ratelimit"]
                    )
        refused = [await http.get("/devices/pump", headers=pump) for _ in range(6)][-1]
        assert refused.status_code == 429
        assert refused.headers["ratelimit"].startswith('"read";r=0;t=')

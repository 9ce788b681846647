"""Who is limited by what: each kind of request has a bucket of its own."""

import re
from types import SimpleNamespace

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from integration.http.conftest import ADMIN

WRONG_TOKEN = {"authorization": "Bearer wrong"}
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
                ("GET", "/devices", {"x-api-key": "wrong"}, [("read", 6), ("log-in", 3)]),
                ("GET", "/devices", WRONG_TOKEN, [("read", 6), ("log-in", 3)]),
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


REFUSED = [
    # What no route takes, and what no credential comes with.
    ("GET", "/nothing", {}, 404, "read"),
    ("POST", "/nothing", {}, 404, "write"),
    ("DELETE", "/ingest", {}, 405, "write"),
    ("HEAD", "/users", {}, 405, "read"),
    ("GET", "/devices", {}, 401, "read"),
    ("GET", "/sensors/x/measurements", {}, 401, "read"),
    ("GET", "/events", {}, 401, "read"),
    ("GET", "/metrics", {}, 401, "read"),
    ("PATCH", "/devices/x", {}, 401, "write"),
    ("POST", "/ingest", {}, 401, "ingest"),
    # What is wrong with it.
    ("GET", "/devices?limt=1", ADMIN, 422, "read"),
    ("GET", "/sensors/x/measurements?limt=1", ADMIN, 422, "read"),
    ("PATCH", "/devices/x?a=1", ADMIN, 422, "write"),
    ("POST", "/ingest?a=1", ADMIN, 422, "ingest"),
    ("POST", "/ping", {}, 405, "probe"),
    # Guesses are counted twice: as guesses, and as requests.
    ("GET", "/devices", {"x-api-key": "wrong"}, 401, "read"),
    ("POST", "/ingest", {"x-api-key": "wrong"}, 401, "ingest"),
    ("GET", "/users/me", {"authorization": "Bearer wrong"}, 401, "read"),
]


async def test_what_is_refused_is_counted_like_what_it_asked_for(site, monkeypatch):
    # Nothing is refilled meanwhile.
    monkeypatch.setattr("heliograph.http.access.time", SimpleNamespace(monotonic=lambda: 0.0))
    limits = {"rate_limit_read": 1_000, "rate_limit_write": 1_000, "rate_limit_ingest": 1_000}
    async with site(**limits, rate_limit_failed_logins=100) as here:
        for method, path, headers, status, name in REFUSED:
            left = []
            for _ in range(2):
                content = {} if method in ("GET", "HEAD") else {"json": {}}
                answer = await here.http.request(method, path, headers=headers, **content)
                assert answer.status_code == status, path
                names = re.findall(r'"([a-z-]+)";q', answer.headers["ratelimit-policy"])
                assert names == [name, "log-in"][: 2 if "wrong" in str(headers) else 1], path
                left.append(int(re.search(r";r=(\d+)", answer.headers["ratelimit"])[1]))
            assert left[1] == left[0] - 1, path


async def test_who_guesses_paths_is_limited_and_nobody_else(site):
    async with site(rate_limit_read=3, rate_limit_write=2, cors_origins="http://a.test") as here:
        found = [(await here.http.get(f"/{number}")).status_code for number in range(4)]
        assert found == [404, 404, 404, 429]
        assert await statuses(here, 3, "/nothing", method="POST") == [404, 404, 429]
        assert await statuses(here, 3, "/devices", ADMIN) == [200] * 3
        assert await statuses(here, 3, "/ping") == [200] * 3
        transport = httpx.ASGITransport(here.web, client=("192.0.2.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as elsewhere:
            ask = {"origin": "http://a.test", "access-control-request-method": "GET"}
            preflights = [await elsewhere.options("/devices", headers=ask) for number in range(4)]
            assert [answer.status_code for answer in preflights] == [200, 200, 200, 429]
            assert preflights[0].headers["ratelimit"].startswith('"read";r=2;')
            assert (await elsewhere.get("/nothing")).status_code == 429


async def test_what_is_refused_before_any_route_is_limited(site):
    async with site(rate_limit_read=2, allowed_hosts="known.test") as here:
        foreign = {"host": "foreign.test"}
        assert await statuses(here, 3, "/ping", foreign) == [403, 403, 429]


@pytest.mark.parametrize(
    ("path", "code"), [("/nothing", 403), ("/realtime/all?a=1", 4422), ("/realtime/all", 4401)]
)
async def test_sockets_that_are_refused_are_limited(site, serving, path, code):
    async with site(rate_limit_read=2) as here, serving(here.web) as port:
        codes = []
        for _ in range(3):
            try:
                async with connect(f"ws://localhost:{port}{path}") as socket:
                    await socket.recv()
            except InvalidStatus as error:
                codes.append(error.response.status_code)
            except ConnectionClosed as error:
                codes.append(error.rcvd.code)
        assert codes == [code, code, 1013]

"""What the front makes of paths, bodies and failures, whatever answers behind it."""

import asyncio

import httpx
import pytest

from heliograph.errors import ErrorCode
from heliograph.http import bodies
from heliograph.http.access import Limits
from heliograph.http.answers import Answer, Answering
from heliograph.http.front import SOCKET, Front, Operation, Table
from heliograph.http.parameters import known
from heliograph.http.paths import PREFIX
from heliograph.http.traffic import Traffic
from heliograph.line_rate import AT_ONCE
from heliograph.request_ids import CURRENT
from heliograph.store.engine import Lineage


def front(*entries, fastapi=None, **options):
    """Return a front with these routes, and what it counts."""
    table, traffic = Table(), Traffic()
    for method, entry in entries:
        table.add(method, entry)
    limits = Limits(read=0, write=0, ingest=0)
    built = Front(table, fastapi, None, Lineage(), traffic, Answering(), limits, **options)
    return built, traffic


def counted(traffic):
    """Return how many requests were answered by route and class of status."""
    return {name: taken.count for name, taken in traffic.requests.items()}


def client(application):
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def recording(scopes):
    async def application(scope, _receive, send):
        scopes.append(scope)
        if scope["type"] == "http":
            await Answer(200, b"{}").send(send)

    return application


async def seen(scope):
    """Return the scope that a route gets for this one."""
    scopes = []
    application = recording(scopes)
    routes = [
        (kind, Operation(f"{PREFIX}/{path}", None, application=application))
        for kind, path in (("GET", "sensors"), ("GET", "devices"), (SOCKET, "realtime/all"))
    ]

    async def send(_message):
        pass

    given = {"method": "GET", "query_string": b"", "headers": [], **scope}
    await front(*routes)[0](given, None, send)
    return scopes[0]


@pytest.mark.parametrize(
    ("kind", "asked", "canonical"),
    [
        ("http", "/sensors/", "/api/v1/sensors"),
        ("http", "/api/v1/devices", "/api/v1/devices"),
        ("websocket", "/realtime/all/", "/api/v1/realtime/all"),
    ],
)
async def test_routes_get_canonical_paths_and_know_what_was_asked_for(kind, asked, canonical):
    scope = {"type": kind, "path": asked, "headers": []}
    inner = await seen(scope)
    assert (inner["path"], inner["asked_path"]) == (canonical, asked)
    assert scope["path"] == asked


async def test_the_root_path_of_a_proxy_stays_in_front():
    inner = await seen({"type": "http", "path": "/telemetry/sensors", "root_path": "/telemetry"})
    assert inner["path"] == "/telemetry/api/v1/sensors"


async def direct(_scope, _receive):
    return Answer(201, b"{}")


async def test_answers_are_counted_by_their_route():
    scopes = []
    application, traffic = front(
        ("POST", Operation(f"{PREFIX}/ingest", known(()), direct)),
        ("GET", Operation(f"{PREFIX}/sensors/{{identifier}}", None, application=recording(scopes))),
        fastapi=recording(scopes),
    )
    async with client(application) as http:
        assert (await http.post("/ingest")).status_code == 201
        assert (await http.post("/ingest?x=1")).status_code == 422
        assert (await http.get("/sensors/pump-1")).status_code == 200
        assert (await http.get("/nothing")).status_code == 200
        refused = await http.get("/ingest")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert scopes[0]["path_params"] == {"identifier": "pump-1"}
    assert counted(traffic) == {
        (f"{PREFIX}/ingest", 2): 1,
        (f"{PREFIX}/ingest", 4): 2,
        (f"{PREFIX}/sensors/{{identifier}}", 2): 1,
        ("unmatched", 2): 1,
    }


async def taking(_scope, receive, send):
    """Answer with the body, as a route of FastAPI's does."""
    await Answer(200, (await receive())["body"]).send(send)


THING = ("POST", Operation(f"{PREFIX}/thing", None))


async def posted(application, receive, headers=()):
    """Return the messages with which a request is answered."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/thing", "query_string": b""}
    await application({**scope, "headers": list(headers)}, receive, send)
    return sent


async def test_fastapis_bodies_are_bounded_in_time(monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    sent = await posted(front(THING, fastapi=taking)[0], asyncio.Event().wait)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_fastapis_bodies_are_bounded_in_size_and_all_together(monkeypatch):
    monkeypatch.setattr(bodies.Receiving.__init__, "__defaults__", (100_000,))
    monkeypatch.setattr("heliograph.http.front.RECEIVING_OTHER_BYTES", 100_000)
    application, traffic = front(THING, fastapi=taking)
    async with client(application) as http:
        for size, status in ((90_000, 200), (150_000, 503), (2 << 20, 413)):
            response = await http.post("/thing", json="x" * size)
            assert response.status_code == status, size
    assert counted(traffic) == {
        (f"{PREFIX}/thing", 2): 1,
        (f"{PREFIX}/thing", 5): 1,
        (f"{PREFIX}/thing", 4): 1,
    }


async def test_a_client_that_leaves_within_a_body_is_told_nothing():
    async def receive():
        return {"type": "http.disconnect"}

    application, traffic = front(THING, fastapi=taking)
    assert await posted(application, receive) == []
    assert counted(traffic) == {}


@pytest.mark.parametrize("ending", [True, False])
async def test_a_request_that_the_end_cancels_is_told_so(ending):
    begun = asyncio.Event()

    async def waiting(_scope, _receive, _send):
        begun.set()
        await asyncio.Event().wait()

    entry = Operation(f"{PREFIX}/thing", None, application=waiting)
    application, _ = front(("POST", entry), is_ending=lambda: ending)
    async with client(application) as http:
        request = asyncio.create_task(http.post("/thing", json={}))
        await begun.wait()
        request.cancel()
        if not ending:
            with pytest.raises(asyncio.CancelledError):
                await request
            return
        answer = await request
    assert (answer.status_code, answer.json()["code"]) == (503, ErrorCode.SHUTTING_DOWN)
    assert int(answer.headers["retry-after"]) > 0


async def test_half_an_answer_is_cut_off_by_the_server():
    async def failing(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    application, _ = front(("POST", Operation(f"{PREFIX}/thing", None, application=failing)))
    with pytest.raises(ZeroDivisionError):
        await posted(application, None)


async def made(_scope, _receive):
    return Answer(201, b"{}")


async def refused(_scope, _receive):
    return Answer(409, b"{}")


async def failing(_scope, _receive):
    return 1 / 0


def routed(method, name, answer):
    return method, Operation(f"{PREFIX}/{name}", known(()), answer)


async def test_requests_are_told_but_for_what_goes_well_all_day(told):
    routes = [routed("POST", "ingest", made), routed("POST", "full", refused)]
    routes += [routed("GET", "page", made), routed("GET", "health", made)]
    routes += [routed("GET", "broken", failing)]
    application, _ = front(*routes, fastapi=recording([]))
    async with client(application) as http:
        answers = [await http.post("/ingest"), await http.get("/health")]
        assert told == []
        assert all("x-request-id" not in answer.headers for answer in answers)
        answers = [await http.post("/full"), await http.get("/page")]
        answers += [await http.get("/broken"), await http.get(f"/{'p' * 9_000}")]
    assert all(len(answer.headers["x-request-id"]) == 16 for answer in answers)
    lines = [(each["log_level"], each.get("status"), each["path"][7:12]) for each in told]
    assert lines == [
        *(("info", 409, "/full"), ("info", 201, "/page")),
        *(("error", None, "/brok"), ("warning", 500, "/brok"), ("info", 200, "/pppp")),
    ]
    assert max(len(each["path"]) for each in told) <= 201


async def test_lines_of_requests_are_bounded_and_failures_have_room_of_their_own(told):
    routes = [routed("GET", "page", made), routed("POST", "full", refused)]
    async with client(front(*routes)[0]) as http:
        for _ in range(2 * AT_ONCE):
            await http.get("/page")
        assert len(told) < 1.5 * AT_ONCE
        await http.post("/full")
    assert told[-1]["status"] == 409


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        *((b"a-Request.of_1", True), (b"x" * 64, True), (b"x" * 65, False)),
        *((b"", False), (b"two words", False), (b"a\x1b[31m", False), (b"\xc3\xa9", False)),
    ],
)
async def test_the_id_is_the_clients_if_it_is_one(given, is_taken):
    ids = []

    async def noting(_scope, _receive):
        ids.append(CURRENT.get()())
        return Answer(409, b"{}")

    sent = await posted(front(routed("POST", "thing", noting))[0], None, [(b"x-request-id", given)])
    assert (ids[0].encode() == given) is is_taken
    assert (b"x-request-id", ids[0].encode()) in sent[0]["headers"]

"""HTTP_REDIRECT and HSTS_SECONDS, before an application that answers everything."""

import httpx
import pytest

from heliograph.address import parse_address
from heliograph.http.access import Limits
from heliograph.http.answers import Answer, Answering
from heliograph.http.encrypted import Encrypted
from heliograph.http.front import Front, Table
from heliograph.http.traffic import Traffic
from heliograph.settings import Settings
from heliograph.store.engine import Lineage

ELSEWHERE = ("192.0.2.7", 80)
LIMITS = Limits(read=0, write=0, ingest=0)


def settings(**values):
    return Settings.model_construct(**{**Settings().model_dump(), **values})


def encrypted(traffic=None, **values):
    """Return the layer before a front."""

    async def app(_scope, _receive, send):
        await Answer(200, b"{}").send(send)

    traffic = Traffic() if traffic is None else traffic
    front = Front(Table(), app, None, Lineage(), traffic, Answering(), LIMITS)
    return Encrypted(front, settings(**values), LIMITS)


async def ask(method, url, *, server=ELSEWHERE, headers=None, **values):
    """Return the answer to a client that has reached the server at this address."""
    layer = encrypted(**values)

    async def at(scope, receive, send):
        await layer({**scope, "server": server}, receive, send)

    transport = httpx.ASGITransport(at)
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.request(method, url, headers=headers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("host", "listen", "expected"),
    [
        ("tele.example:8000", (), "https://tele.example/a%20b?c=d%26"),
        ("tele.example", ("0.0.0.0:8443",), "https://tele.example:8443/a%20b?c=d%26"),
        ("[2001:db8::1]:80", ("[::]:443",), "https://[2001:db8::1]/a%20b?c=d%26"),
    ],
)
async def test_reading_is_led_to_https(method, host, listen, expected):
    answer = await ask(
        method,
        f"http://{host}/a%20b?c=d%26",
        http_redirect=True,
        https_listen=tuple(map(parse_address, listen)),
    )
    assert (answer.status_code, answer.headers["location"]) == (308, expected)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_what_was_sent_in_clear_is_refused(method):
    answer = await ask(method, "http://tele.example/ingest", http_redirect=True)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("url", "server", "headers", "expected"),
    [
        ("https://tele.example/", ELSEWHERE, {}, 200),
        ("http://localhost/", ("127.0.0.1", 80), {}, 200),
        ("http://localhost/", ("127.0.0.1", 80), {"x-forwarded-for": "192.0.2.9"}, 308),
        ("http://tele.example/", ELSEWHERE, {"x-forwarded-proto": "https"}, 308),
    ],
)
async def test_what_is_encrypted_or_from_this_machine_goes_on(url, server, headers, expected):
    answer = await ask("GET", url, server=server, headers=headers, http_redirect=True)
    assert answer.status_code == expected


async def test_a_socket_without_tls_is_closed(told):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "scheme": "ws", "headers": [], "server": ELSEWHERE}
    scope |= {"path": "/realtime/all", "query_string": b"", "client": ("192.0.2.9", 1)}
    traffic = Traffic()
    await encrypted(traffic, http_redirect=True)(scope, receive, send)
    assert sent[-1]["type"] == "websocket.close"
    assert traffic.requests["unmatched", 4].count == 1
    assert sent[-1]["code"] == 4403
    [line] = told
    assert (line["event"], line["address"], line["code"]) == ("socket refused", "192.0.2.9", 4403)


@pytest.mark.parametrize(("method", "status"), [("GET", 308), ("POST", 403)])
async def test_what_is_not_encrypted_is_counted_and_has_a_line_and_an_id(told, method, status):
    traffic = Traffic()
    answer = await ask(method, "http://x/ingest", traffic=traffic, http_redirect=True)
    [line] = told
    assert (line["event"], line["status"]) == ("request answered", status)
    assert answer.headers["x-request-id"]
    assert traffic.requests["unmatched", status // 100].count == 1


async def test_browsers_are_told_to_keep_to_https_over_https_alone():
    over = {url: await ask("GET", url, hsts_seconds=60) for url in ("https://x/", "http://x/")}
    assert over["https://x/"].headers["strict-transport-security"] == "max-age=60"
    assert "strict-transport-security" not in over["http://x/"].headers

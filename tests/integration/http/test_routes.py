"""What all routes have in common: both prefixes, the slash, errors, documentation."""

import re

import httpx
import pytest

from heliograph.http.documentation import STATIC

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}


async def operations(here):
    document = (await here.http.get("/openapi.json")).json()
    return [
        (method.upper(), re.sub(r"\{\w+\}", "pump-1", path))
        for path, methods in document["paths"].items()
        for method in methods
    ]


POLICY = "default-src 'none'; frame-ancestors 'none'"
GUARDED = ("nosniff", "no-referrer")


def guards(response):
    names = ("x-content-type-options", "referrer-policy", "content-security-policy")
    return tuple(response.headers.get(name) for name in names)


async def test_every_kind_of_answer_tells_browsers_what_not_to_do_with_it(site):
    async with site(metrics_token="a-token") as here:
        pump = await here.device("pump-1")
        await here.http.post("/ingest", json={"t": 1}, headers=pump)
        asked = {
            path: await here.http.get(path, headers=ADMIN, follow_redirects=False)
            for path in (
                *("/", "/ping", "/metrics", "/nowhere", "/packets/schema", "/openapi.json"),
                *("/sensors/pump-1/measurements", "/networks/default/measurements?format=csv"),
                *("/events", "/sensors/pump-1/export?kind=measurement&format=csv"),
            )
        }
        asked["DELETE"] = await here.http.delete("/devices/pump-1", headers=ADMIN)
        for path, response in asked.items():
            assert guards(response) == (*GUARDED, POLICY), path
        pages = (
            await here.http.get("/docs"),
            await here.http.get("/static/swagger-ui/swagger-ui.css"),
        )
        for page in pages:
            assert guards(page)[:2] == GUARDED
            assert "frame-ancestors 'none'" in guards(page)[2]


async def test_every_route_answers_under_both_prefixes_with_and_without_a_slash(site):
    async with site() as here:
        await here.device("pump-1")
        found = await operations(here)
        assert len(found) >= 20
        for method, path in found:
            bare = path.removeprefix("/api/v1")
            statuses = set()
            for form in (path, bare, path + "/", bare + "/"):
                response = await here.http.request(method, form, headers={"x-api-key": "wrong"})
                assert response.status_code not in (301, 307, 308, 404, 405), form
                assert guards(response) == (*GUARDED, POLICY), form
                statuses.add(response.status_code)
            assert len(statuses) == 1, (method, path, statuses)


async def test_every_route_refuses_other_methods_and_names_its_own(site):
    async with site() as here:
        found = await operations(here)
        for path in {path for _, path in found}:
            own = {method for method, other in found if other == path}
            # By its path, `batch` may be a device's name too, and `resubmit` a message's.
            named = f"{path.rpartition('/')[0]}/pump-1"
            own |= {method for method, other in found if other == named}
            response = await here.http.request("PROPFIND", path, headers=ADMIN)
            assert response.status_code == 405
            assert response.json()["code"] == "METHOD_NOT_ALLOWED"
            assert set(response.headers["allow"].split(", ")) == own


# A member of each body that any route takes; what a route does not know is refused, or left alone.
ANY_BODY = {
    "device_id": "pump-2",
    "sensor_id": "pump-1",
    "configuration": {"a": 1},
    "network_name": "n",
    "name": "n",
    "role": "viewer",
    "username": "somebody",
    "password": "12345678",
    "serial_number": "s",
    "raw_days": 1,
    "t": 1,
}


async def test_no_route_fails_by_a_500_while_the_database_is_away(site, database_url, monkeypatch):
    monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 0.2)
    async with site(database_url=database_url, shutdown_timeout=0.5) as here:
        await here.device("pump-1")
        found = await operations(here)
        # As at the end of the server, and as every driver's error that says "not now".
        await here.services.store.close()
        statuses = set()
        for method, path in found:
            bodies = [None] if method in ("GET", "DELETE") else [ANY_BODY, {"t": 1}]
            bodies += [{name: ANY_BODY[name]} for name in ANY_BODY if method in ("PATCH", "PUT")]
            if method == "POST":
                bodies += [
                    {"configuration": 1},
                    {"device_id": "pump-3"},
                    {"network_name": "n"},
                    {"username": "somebody", "password": "12345678"},
                    {"sensor_name": "s"},
                    {"serial_number": "s"},
                ]
            for body in bodies:
                response = await here.http.request(method, path, json=body, headers=ADMIN)
                status = response.status_code
                if status in (400, 422):
                    continue  # it was not taken for one of this route
                assert status < 500 or status == 503, (method, path, body, response.text)
                if status == 503 and not path.endswith("/readyz"):
                    assert response.json()["code"] in ("DATABASE_UNAVAILABLE", "SHUTTING_DOWN")
                statuses.add(status)
                break
        assert 503 in statuses


@pytest.mark.parametrize("path", ["/nothing", "/api/v1", "/api/v1/", "/api/v2/devices", "/a/b/c"])
async def test_unknown_routes_are_not_found(site, path):
    async with site() as here:
        response = await here.http.get(path, headers=ADMIN)
        assert response.status_code == 404
        assert response.json() == {"detail": "Route not found", "code": "NOT_FOUND"}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"[" * 100_000, b"null"])
async def test_bodies_of_other_routes_never_break_anything(site, content):
    async with site() as here:
        await here.device("pump-1")
        for method, path in [("POST", "/devices"), ("PATCH", "/devices/pump-1")]:
            response = await here.http.request(method, path, content=content, headers=ADMIN)
            assert response.status_code in (400, 422)
            assert response.json()["code"] in ("MALFORMED_JSON", "VALIDATION_FAILED")


async def test_bodies_of_other_routes_are_checked_too(site):
    async with site() as here:
        form = {**ADMIN, "content-type": "application/x-www-form-urlencoded"}
        response = await here.http.post("/devices", content=b"device_id=a", headers=form)
        assert (response.status_code, response.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        plain = {**ADMIN, "content-type": "text/plain"}
        response = await here.http.post("/devices", content=b'{"device_id": "a"}', headers=plain)
        assert response.status_code == 201
        large = b'{"device_id": "b", "x": "' + b"x" * (1 << 20) + b'"}'
        response = await here.http.post("/devices", content=large, headers=ADMIN)
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_proxys_root_path_is_followed(site):
    async with site() as here:
        transport = httpx.ASGITransport(here.web, root_path="/telemetry")
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            for path in ("/telemetry/health", "/telemetry/api/v1/ping"):
                assert (await http.get(path)).status_code == 200
            key = await here.device("pump-1")
            sent = await http.post("/telemetry/ingest", json={"t": 1}, headers=key)
            assert sent.status_code == 201
            assert 'href="/telemetry/static/' in (await http.get("/telemetry/docs")).text


async def test_the_documentation_fetches_nothing_from_elsewhere(site):
    async with site() as here:
        for page in ("/docs", "/redoc", "/docs/"):
            response = await here.http.get(page)
            assert response.headers["content-type"].startswith("text/html")
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "http" not in policy
            links = re.findall(r'(?:src|href|data-openapi)="([^"]+)"', response.text)
            assert len(links) >= 4
            for link in links:
                assert link.startswith("/")
                fetched = await here.http.get(link)
                assert fetched.status_code == 200


def test_the_vendored_scripts_load_nothing_from_elsewhere():
    scripts = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".html")]
    assert len(scripts) >= 8
    for path in scripts:
        text = path.read_text("utf-8")
        for host in ("cdn.", "fonts.googleapis", "fonts.gstatic", "unpkg.com", "jsdelivr"):
            assert f"//{host}" not in text, (path, host)
        assert "sourceMappingURL=" not in text.splitlines()[-1]
    assert (STATIC / "redoc" / "LICENSE").is_file()
    assert (STATIC / "swagger-ui" / "LICENSE").is_file()


@pytest.mark.parametrize("path", ["nothing.js", "../application.py", "%2e%2e/application.py", ""])
async def test_static_files_are_only_those(site, path):
    async with site() as here:
        response = await here.http.get(f"/static/{path}")
        assert response.status_code == 404

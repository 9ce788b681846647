"""Every route with every credential."""

import pytest

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
SHARED = {"x-api-key": "a-shared-key-for-tests-only"}
OPEN = ["/health", "/ping", "/status", "/readyz", "/openapi.json", "/docs", "/redoc"]

# Who: none, wrong key, bearer, device itself, another device, shared key, admin.
WHO = ("none", "wrong", "bearer", "own", "other", "shared", "admin")
# And with ANONYMOUS_ROLE: viewer, editor, owner.
MATRIX = {
    # route: (body, WHO's answers, anonymous roles' answers)
    ("GET", "/devices"): (None, (401, 401, 401, 403, 403, 403, 200), (200, 200, 200)),
    ("POST", "/devices"): (
        {"device_id": "new"},
        (401, 401, 401, 403, 403, 403, 201),
        (403, 201, 201),
    ),
    ("GET", "/devices/pump-1"): (None, (401, 401, 401, 200, 404, 403, 200), (200, 200, 200)),
    ("PATCH", "/devices/pump-1"): (
        {"name": "x"},
        (401, 401, 401, 403, 404, 403, 200),
        (403, 200, 200),
    ),
    ("DELETE", "/devices/pump-1"): (None, (401, 401, 401, 403, 404, 403, 204), (403, 403, 204)),
    ("POST", "/devices/pump-1/key"): (None, (401, 401, 401, 403, 404, 403, 200), (403, 200, 200)),
    ("GET", "/devices/pump-1/history"): (
        None,
        (401, 401, 401, 200, 404, 403, 200),
        (200, 200, 200),
    ),
    ("GET", "/sensors/pump-1/measurements"): (
        None,
        (401, 401, 401, 200, 404, 403, 200),
        (200, 200, 200),
    ),
    ("GET", "/sensors/pump-1/logs"): (None, (401, 401, 401, 200, 404, 403, 200), (200, 200, 200)),
    ("GET", "/sensors/pump-1/latest"): (
        None,
        (401, 401, 401, 200, 404, 403, 200),
        (200, 200, 200),
    ),
    ("POST", "/ingest"): (
        {"device_id": "pump-1", "t": 1},
        (401, 401, 401, 201, 404, 201, 201),
        (403, 201, 201),
    ),
    ("POST", "/ingest/batch"): (
        [{"device_id": "pump-1", "t": 1}],
        (401, 401, 401, 201, 201, 201, 201),
        (403, 201, 201),
    ),
    ("POST", "/sensors/pump-1/measurements"): (
        {"value": 1},
        (401, 401, 401, 201, 404, 201, 201),
        (403, 201, 201),
    ),
    ("POST", "/sensors/pump-1/logs"): (
        {"severity": "info", "subject": "x"},
        (401, 401, 401, 201, 404, 201, 201),
        (403, 201, 201),
    ),
    ("POST", "/sensors/pump-1/heartbeats"): (
        {},
        (401, 401, 401, 201, 404, 201, 201),
        (403, 201, 201),
    ),
    ("GET", "/metrics"): (None, (401, 401, 401, 403, 403, 403, 200), (403, 403, 403)),
}


async def credentials(here):
    return {
        "none": {},
        "wrong": {"x-api-key": "nobody's"},
        "bearer": {"authorization": "Bearer nobody's"},
        "own": await here.device("pump-1"),
        "other": await here.device("pump-2"),
        "shared": SHARED,
        "admin": ADMIN,
    }


async def test_the_matrix_has_every_route(site):
    async with site() as here:
        document = (await here.http.get("/openapi.json")).json()
    documented = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in document["paths"].items()
        for method in operations
    }
    templates = {
        (method, path.replace("pump-1", "{x}"))
        for method, path in [*MATRIX, *(("GET", path) for path in OPEN[:4])]
    }
    assert templates == {
        (method, path.replace("{identifier}", "{x}").replace("{device_id}", "{x}"))
        for method, path in documented
    }


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
@pytest.mark.parametrize(("method", "path"), MATRIX)
async def test_who_may_what(site, method, path, prefix):
    body, expected, _ = MATRIX[method, path]
    for who, status in zip(WHO, expected, strict=True):
        async with site() as here:
            headers = (await credentials(here))[who]
            response = await here.http.request(method, prefix + path, json=body, headers=headers)
            assert response.status_code == status, (who, response.text)
            if status >= 400:
                error = response.json()
                assert set(error) == {"detail", "code"}
                codes = {"none": "INVALID_API_KEY", "bearer": "INVALID_TOKEN"}
                if status == 401:
                    assert error["code"] == codes.get(who, "INVALID_API_KEY")
                    assert error["detail"] == f"Invalid {'token' if who == 'bearer' else 'API key'}"
                    assert response.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path"), MATRIX)
async def test_what_anonymous_roles_may(site, method, path):
    body, _, expected = MATRIX[method, path]
    for role, status in zip(("viewer", "editor", "owner"), expected, strict=True):
        async with site(anonymous_role=role) as here:
            await here.device("pump-1")
            response = await here.http.request(method, path, json=body)
            assert response.status_code == status, (role, response.text)
            wrong = await here.http.request(method, path, json=body, headers={"x-api-key": ""})
            assert wrong.status_code == 401


async def test_anothers_device_answers_exactly_as_none(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.device("pump-2")
        for method, path in MATRIX:
            if "pump-1" not in path:
                continue
            body = MATRIX[method, path][0]
            answers = []
            for name in ("pump-2", "nobody", "00000000-0000-0000-0000-000000000000", "a b", "%00"):
                response = await here.http.request(
                    method, path.replace("pump-1", name), json=body, headers=key
                )
                answers.append((response.status_code, response.content))
            assert answers == [answers[0]] * 5, path
            assert answers[0][0] == 404


async def test_sensors_of_other_networks_are_hidden_from_anonymous_callers(site):
    async with site(anonymous_role="owner") as here:
        await here.device("pump-1")
        known = await here.services.registry.find("pump-1")
        known.network_identifier = "another"
        response = await here.http.get("/sensors/pump-1/measurements")
        assert response.status_code == 404
        sent = await here.http.post("/ingest", json={"device_id": "pump-1", "t": 1})
        assert sent.status_code == 404


@pytest.mark.parametrize("path", [*OPEN, "/"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "nobody's"}])
async def test_some_routes_are_for_everybody(site, path, headers):
    async with site() as here:
        response = await here.http.get(path, headers=headers)
        assert response.status_code < 400


async def test_wrong_keys_are_limited_and_right_ones_are_not(site):
    async with site(rate_limit_failed_logins=3) as here:
        key = await here.device("pump-1")
        guesses = [
            await here.http.get("/devices", headers={"x-api-key": str(number)})
            for number in range(5)
        ]
        assert [guess.status_code for guess in guesses] == [401, 401, 401, 429, 429]
        assert int(guesses[-1].headers["retry-after"]) > 0
        assert (await here.http.get("/devices/pump-1", headers=key)).status_code == 200


async def test_a_key_that_has_ended_is_forgotten_at_once(site):
    async with site() as here:
        key = await here.device("pump-1")
        for number in range(3):
            await here.http.post("/ingest", json={"t": number}, headers=key)
        await here.http.post("/devices/pump-1/key", headers=ADMIN)
        response = await here.http.post("/ingest", json={"t": 9}, headers=key)
        assert response.status_code == 401

"""What a route does not know is refused by name: parameters and members, on every route alike."""

import re

import httpx
import pytest
import websockets

from integration.http.conftest import ADMIN

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

UNKNOWN = "unheard_of"


async def described(here):
    return (await here.http.get("/openapi.json")).json()


def operations(document):
    return [
        (method.upper(), re.sub(r"\{\w+\}", "pump-1", path), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def parameters(document, operation):
    """Return the names that the document gives of what an operation takes in its query."""
    listed = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
    schemes = document["components"]["securitySchemes"]
    taken = {name for each in operation["security"] for name in each}
    return listed | {schemes[name]["name"] for name in taken if schemes[name].get("in") == "query"}


def refused(response):
    """Return where the names stand that are not known."""
    if response.status_code not in (400, 422) or not isinstance(response.json()["detail"], list):
        return []
    problems = response.json()["detail"]
    return [each["loc"] for each in problems if each["type"] == "extra_forbidden"]


@pytest.mark.uncovered
async def test_every_operation_refuses_a_parameter_that_the_document_does_not_list(site):
    async with site() as here:
        await here.device("pump-1")
        document = await described(here)
        opened = set()
        for method, path, operation in operations(document):
            response = await here.http.request(method, f"{path}?{UNKNOWN}=1", headers=ADMIN)
            if operation.get("x-open-query"):
                opened.add(path.removeprefix("/api/v1"))
                assert response.status_code == 200, (method, path, response.text)
            else:
                assert refused(response) == [["query", UNKNOWN]], (method, path, response.text)
            known = parameters(document, operation)
            for name in known:
                response = await here.http.request(method, f"{path}?{name}=1", headers=ADMIN)
                assert not refused(response), (method, path, name, response.text)
        probes = {"/health", "/ping", "/readyz", "/status"}
        asked = ("user", "vhost", "resource", "topic")
        assert opened == probes | {f"/broker/rabbitmq/{name}" for name in asked}


@pytest.mark.parametrize(
    ("path", "wrong", "meant"),
    [
        ("/devices/pump-1/history?limt=2", "limt", "limit"),
        ("/sensors/pump-1/aggregates?from=yesterday", "from", "start"),
        ("/sensors?conected=false", "conected", "connected"),
        ("/sensors?manufacture=Acme", "manufacture", "manufacturer"),
        ("/sensors/pump-1/measurements?Limit=3", "Limit", "limit"),
        ("/api/v1/networks/default/sensors/pump-1/measurements?limt=3", "limt", "limit"),
        ("/nodes/?ofset=3", "ofset", "offset"),
        ("/sensors/pump-1/latest?attribut=t", "attribut", None),
        ("/events?kinds=log", "kinds", "kind"),
        ("/sensors?network=default", "network", "network_identifier"),
        ("/messages?start=2026-01-01", "start", "start_time"),
        ("/messages?until=2026-01-01", "until", "end_time"),
    ],
)
async def test_a_mistyped_parameter_is_told_what_was_meant(site, path, wrong, meant):
    async with site() as here:
        await here.device("pump-1")
        response = await here.http.get(path, headers=ADMIN)
        assert refused(response) == [["query", wrong]]
        assert response.json()["code"] == "VALIDATION_FAILED"
        (problem,) = response.json()["detail"]
        hint = f": did you mean `{meant}`?" if meant else "; there are none here"
        assert problem["msg"] == f"unknown parameter{hint}"


async def test_what_another_route_takes_is_told(site):
    async with site() as here:
        await here.device("pump-1")
        response = await here.http.delete("/devices/pump-1?data=keep", headers=ADMIN)
        (problem,) = response.json()["detail"]
        assert problem["msg"] == "unknown parameter: `DELETE /sensors/{identifier}` takes it"


async def test_a_parameter_may_be_written_in_any_way(site):
    async with site() as here:
        await here.device("pump-1")
        for query in ("l%69mit=1", "limit=1&", "&&limit=1", "limit", "%6Cimit=1&offset=0", "&"):
            answer = await here.http.get(f"/devices?{query}", headers=ADMIN)
            assert not refused(answer), query
        for query in ("l%69mt=1", "limit=1&limt", "+limit=1", "=1", "limit=1;offset=2&x=1"):
            answer = await here.http.get(f"/devices?{query}", headers=ADMIN)
            assert len(refused(answer)) == 1, query


async def test_nothing_is_stored_of_a_reading_with_a_parameter(site):
    async with site() as here:
        key = await here.device("pump-1")
        for path in ("/ingest", "/ingest/batch", "/sensors/pump-1/measurements"):
            response = await here.http.post(f"{path}?timestmp=5", json={"t": 1}, headers=key)
            assert refused(response) == [["query", "timestmp"]]
        assert (await here.http.get("/devices/pump-1/history", headers=key)).json() == []
        counted = (await here.http.get("/metrics", headers=ADMIN)).text
        assert 'route="/api/v1/ingest",status="4xx"} 1.0' in counted


async def test_pages_and_static_files_take_any_query(site):
    async with site() as here:
        for path in ("/docs", "/redoc", "/openapi.json", "/static/swagger-ui/swagger-ui.css"):
            plain = await here.http.get(path)
            assert (await here.http.get(f"{path}?v=1&{UNKNOWN}")).text == plain.text
        assert (await here.http.get(f"/?{UNKNOWN}=1")).status_code == 307
        missing = await here.http.get(f"/nothing?{UNKNOWN}=1", headers=ADMIN)
        assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
        wrong = await here.http.request("PROPFIND", f"/devices?{UNKNOWN}=1", headers=ADMIN)
        assert wrong.status_code == 405
        probe = await here.http.head("/health?x=1")
        assert probe.status_code == 200


async def test_a_proxys_root_path_hides_no_unknown_parameter(site):
    async with site() as here:
        transport = httpx.ASGITransport(here.web, root_path="/telemetry")
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            response = await http.get("/telemetry/devices?limt=1", headers=ADMIN)
            assert refused(response) == [["query", "limt"]]


async def test_a_sockets_unknown_parameter_is_told_as_it_closes(site, serving):
    async with site() as here, serving(here.web) as port:
        await here.device("pump-1")
        for path in ("/realtime/all", "/realtime/subscribe/pump-1"):
            address = f"ws://127.0.0.1:{port}{path}?tiket=abc"
            async with websockets.connect(address, additional_headers=ADMIN) as client:
                with pytest.raises(websockets.ConnectionClosed):
                    await client.recv()
                assert client.close_code == 4422
                assert client.close_reason == "tiket: unknown parameter: did you mean `ticket`?"


async def test_a_query_of_many_unknown_parameters_is_answered_briefly(site):
    async with site() as here:
        query = "&".join(f"p{number}={number}" for number in range(1_000))
        response = await here.http.get(f"/devices?{query}", headers=ADMIN)
        assert len(refused(response)) == 10
        response = await here.http.get("/devices?%00=1&%ff=2&%ed%a0%80=3", headers=ADMIN)
        assert len(refused(response)) >= 2


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/devices/pump-1/history?limit=2&limit=3", "limit"),
        ("/sensors?connected=true&connected=false", "connected"),
        ("/sensors?conn%65cted=true&connected=false&limit=1", "connected"),
        ("/sensors/pump-1/measurements?limit=2&limit=3", "limit"),
        ("/sensors/pump-1/aggregates?bucket=1h&attribute=t&attribute=u&bucket=1d", "bucket"),
        ("/events?kind=log&kind=alert&last_event_id=1&last_event_id=2", "last_event_id"),
    ],
)
async def test_a_parameter_with_one_value_is_refused_with_two(site, path, name):
    async with site() as here:
        await here.device("pump-1")
        response = await here.http.get(path, headers=ADMIN)
        assert response.status_code == 422
        (problem,) = response.json()["detail"]
        assert (problem["loc"], problem["type"]) == (["query", name], "repeated")


async def test_what_may_be_repeated_may_and_so_may_one_value(site):
    async with site() as here:
        key = await here.device("pump-1")
        await here.http.post("/ingest", json={"t": 1, "u": 2}, headers=key)
        for query in (
            "measurements?attribute=t&attribute=u",
            "measurements?limit=3&limit=3",
            "aggregates?function=min&function=max&attribute=t&attribute=u",
            "export?kind=log&kind=measurement&format=jsonl",
        ):
            answer = await here.http.get(f"/sensors/pump-1/{query}", headers=ADMIN)
            assert answer.status_code == 200, (query, answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/devices/pump-1/history?start=1700000000&range=1h",
        "/devices/pump-1/history?start=1700000000&range=1h&attribute=t&points=5",
        "/devices/pump-1/aggregate?start=1700000000&range=24h",
        "/sensors/pump-1/aggregates?range=1h&start=1700000000&bucket=1d",
        "/sensors/pump-1/measurements?range=1h&start=1700000000&attribute=t&points=5",
    ],
)
async def test_a_range_beside_a_start_is_refused_as_one_of_them_would_be_ignored(site, path):
    async with site() as here:
        key = await here.device("pump-1")
        await here.http.post("/ingest", json={"t": 1}, headers=key)
        response = await here.http.get(path, headers=ADMIN)
        assert response.status_code == 422
        (problem,) = response.json()["detail"]
        assert (problem["loc"], problem["msg"]) == (["query", "range"], "goes without start")
        ended = path.replace("start=1700000000", "end=1700000000")
        assert (await here.http.get(ended, headers=ADMIN)).status_code == 200


# Members


def resolved(document, schema):
    """Return the shapes of objects that a body may have."""
    if "$ref" in schema:
        return resolved(document, document["components"]["schemas"][schema["$ref"].split("/")[-1]])
    choices = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    # Of an object they are about which of its members go together.
    if choices and schema.get("type") != "object":
        return [shape for each in choices for shape in resolved(document, each)]
    if schema.get("type") == "array":
        return [[shape] for shape in resolved(document, schema["items"])]
    return [schema] if schema.get("type") == "object" else []


def wrong_body(shape):
    """Return a body of this shape with a member that it does not have; None: it takes any."""
    if isinstance(shape, list):
        inner = wrong_body(shape[0])
        return None if inner is None else [inner]
    assert "additionalProperties" in shape, shape
    if shape["additionalProperties"] is not False:
        return None
    needed = shape.get("required", [*shape["properties"]][: shape.get("minProperties", 0)])
    return {**{name: member(shape["properties"][name]) for name in needed}, UNKNOWN: 1}


def member(schema):
    if "enum" in schema:
        return schema["enum"][0]
    return {"array": [], "string": "x"}.get(schema.get("type"), 1)


@pytest.mark.uncovered
async def test_every_closed_body_refuses_a_member_that_the_document_does_not_list(site):
    async with site() as here:
        await here.device("pump-1")
        document = await described(here)
        closed, opened = 0, set()
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                continue
            shapes = resolved(document, content["application/json"]["schema"])
            assert shapes, path
            for shape in shapes:
                body = wrong_body(shape)
                if body is None:
                    opened.add(path.removeprefix("/api/v1"))
                    continue
                closed += 1
                response = await here.http.request(method, path, json=body, headers=ADMIN)
                told = response.json()
                if response.status_code == 201:
                    assert told["accepted"] == 0
                    assert [each["code"] for each in told["rejected"]] == ["UNKNOWN_MEMBER"]
                else:
                    assert response.status_code in (400, 422), (method, path, body, told)
                    assert "extra_forbidden" in response.text or told["code"] == "UNKNOWN_MEMBER"
                assert UNKNOWN in response.text
        assert closed > 20
        assert opened == {
            "/ingest",
            "/ingest/batch",
            "/sensors/pump-1/measurements",
            "/sensors/pump-1/heartbeats",
            "/broker/emqx/authentication",
            "/broker/emqx/authorization",
        }


@pytest.mark.parametrize(
    ("method", "path", "body", "wrong", "meant"),
    [
        ("PATCH", "/devices/pump-1", {"is_actve": False}, ["is_actve"], "is_active"),
        ("PUT", "/sensors/pump-1/retention", {"raw_dayz": 30}, ["raw_dayz"], "raw_days"),
        ("POST", "/devices", {"devcie_id": "a"}, ["devcie_id"], "device_id"),
        (
            "POST",
            "/devices/batch",
            [{"device_id": "a"}, {"device_id": "b", "nmae": "x"}],
            [1, "nmae"],
            "name",
        ),
        ("POST", "/devices/batch", {"devices": [], "device": 1}, ["device"], "devices"),
        ("POST", "/devices/batch", {"deices": []}, ["deices"], "devices"),
        (
            "POST",
            "/sensors",
            {"sensor_name": "a", "confguration": {}},
            ["confguration"],
            "configuration",
        ),
        (
            "POST",
            "/sensors/pump-1/configurations",
            {"configuration": 1, "revison": 2},
            ["revison"],
            None,
        ),
        (
            "POST",
            "/users",
            {"user_name": "a", "username": "b", "password": "12345678"},
            ["user_name"],
            "username",
        ),
        (
            "PUT",
            "/networks/NETWORK/members/ash",
            {"role": "viewer", "rolle": "owner"},
            ["rolle"],
            "role",
        ),
    ],
)
async def test_a_mistyped_member_is_told_what_was_meant(site, method, path, body, wrong, meant):
    async with site() as here:
        await here.device("pump-1")
        path = path.replace("NETWORK", here.services.registry.default_network)
        response = await here.http.request(method, path, json=body, headers=ADMIN)
        assert refused(response) == [["body", *wrong]]
        told = response.json()["detail"][0]["msg"]
        assert told.startswith(
            f"unknown member: did you mean `{meant}`?" if meant else "unknown member; there are "
        )
        device = (await here.http.get("/devices/pump-1", headers=ADMIN)).json()
        assert device["is_active"] is True


async def test_what_takes_no_body_refuses_one(site):
    """Or else a device seems to have the key that was given, and has another."""
    async with site() as here:
        await here.device("pump-1")
        ash = await here.user("ash")
        found = [
            (method, path)
            for method, path, operation in operations(await described(here))
            if method in ("POST", "PUT", "PATCH") and "requestBody" not in operation
        ]
        assert len(found) == 6
        channel = {"name": "Operators", "type": "email", "to": ["ash@example.org"]}
        made = (await here.http.post("/channels", json=channel, headers=ADMIN)).json()
        for method, found_path in found:
            path = found_path.replace("/channels/pump-1", f"/channels/{made['id']}")
            headers = ash if path.endswith("/tickets") else ADMIN
            for body, place in (
                ({"api_key": "my own"}, ["body", "api_key"]),
                ([1], ["body"]),
                ("text", ["body"]),
            ):
                answer = await here.http.request(method, path, json=body, headers=headers)
                assert refused(answer) == [place], answer.text
            for content in (b"[" * 100_000, b'"\xff"', b"{"):
                answer = await here.http.request(method, path, content=content, headers=headers)
                assert refused(answer) == [["body"]], answer.text
            for content in (b"", b"{}", b" null "):
                answer = await here.http.request(method, path, content=content, headers=headers)
                # There is no message of that name, no action and no alert.
                assert answer.is_success or answer.status_code == 404, answer.text


async def test_what_takes_any_member_takes_any(site):
    async with site() as here:
        key = await here.device("pump-1")
        flat = await here.http.post("/ingest", json={"is_actve": 1, "limt": 2}, headers=key)
        assert flat.status_code == 201
        heartbeat = {"heartbeats": [{"battery": 80, "revison": 1}]}
        sent = await here.http.post("/sensors/pump-1/heartbeats", json=heartbeat, headers=key)
        assert sent.json()["accepted"] == 1
        configuration = {"configuration": {"anything": {"at": "all"}}}
        made = await here.http.post(
            "/sensors/pump-1/configurations", json=configuration, headers=ADMIN
        )
        assert made.status_code == 201
        named = {"user_name": "ash", "password": "a long pass phrase"}
        assert (await here.http.post("/users", json=named)).status_code == 201


@pytest.mark.uncovered
async def test_every_body_refuses_a_member_that_it_has_twice(site):
    async with site() as here:
        await here.device("pump-1")
        document = await described(here)
        asked = 0
        for method, path, operation in operations(document):
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content or "/broker/" in path:
                continue
            asked += 1
            response = await here.http.request(
                method, path, content=b'{"twice": 1, "twice": 2}', headers=ADMIN
            )
            told = response.text
            assert response.status_code in (201, 400, 422), (method, path, told)
            assert "twice in one object" in told or "DUPLICATE_KEY" in told, (method, path, told)
        assert asked > 15


async def test_a_configuration_with_a_member_twice_is_refused_by_name(site):
    async with site() as here:
        await here.device("pump-1")
        response = await here.http.post(
            "/sensors/pump-1/configurations",
            content=b'{"configuration": {"on": true, "interval": 5, "interval": 50}}',
            headers=ADMIN,
        )
        assert response.status_code == 422
        assert response.json() == {
            "detail": "The body has the member 'interval' twice in one object",
            "code": "VALIDATION_FAILED",
        }


@pytest.mark.uncovered
async def test_every_deletion_refuses_a_body_that_would_change_nothing(site):
    async with site() as here:
        await here.device("pump-1")
        document = await described(here)
        asked = 0
        for method, path, _ in operations(document):
            if method != "DELETE":
                continue
            asked += 1
            response = await here.http.request(method, path, json={"data": "delete"}, headers=ADMIN)
            assert refused(response) == [["body", "data"]], (path, response.text)
        assert asked >= 7
        large = b"[" + b" " * (2 << 20) + b"]"
        response = await here.http.request(
            "DELETE", "/sensors/pump-1", content=large, headers=ADMIN
        )
        assert response.status_code == 413
        assert (await here.http.get("/sensors/pump-1", headers=ADMIN)).status_code == 200
        response = await here.http.request("DELETE", "/sensors/pump-1", json={}, headers=ADMIN)
        assert response.status_code == 204


async def test_a_mistyped_member_within_another_one_is_told_what_was_meant(site):
    async with site() as here:
        await here.device("pump-1")
        board = "/networks/default/boards"
        series = [{"sensor": "pump-1", "attribut": "t"}]
        for method, path, body, wrong, meant in (
            ("PATCH", "/sensors/pump-1", {"attributes": {"t": {"units": "C"}}}, "units", "unit"),
            ("POST", board, {"name": "P", "panels": [{"titel": "t"}]}, "titel", "title"),
            ("POST", board, {"name": "P", "panels": [{"series": series}]}, "attribut", "attribute"),
        ):
            response = await here.http.request(method, path, json=body, headers=ADMIN)
            told = [each for each in response.json()["detail"] if each["loc"][-1] == wrong]
            expected = f"unknown member: did you mean `{meant}`?"
            assert [each["msg"] for each in told] == [expected], response.text

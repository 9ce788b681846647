"""What OpenAPI says holds: requests generated from it never break the server.

HELIOGRAPH_OPENAPI_EXAMPLES says how many requests each operation gets, where the default is to
be through in a minute.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from server import ADMIN_KEY, serving

# Headers that say where a request ends: with others of them there is none to be answered.
FRAMING = ("transfer-encoding", "content-length")
HEADERS = {"x-api-key": ADMIN_KEY}
EXAMPLES = int(os.environ.get("HELIOGRAPH_OPENAPI_EXAMPLES", "2"))
SECONDS = 240 + 20 * EXAMPLES
PROGRAM = """
import encodable
from schemathesis.cli import schemathesis
encodable.known().start()
schemathesis()
"""

DOCUMENTED = (
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "not_a_server_error",
)
short = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
)
def address(request, tmp_path_factory):
    """Run the server as users run it, once on each engine, and return its address."""
    options = {"RATE_LIMIT_READ": "0", "RATE_LIMIT_INGEST": "0", "LOG_LEVEL": "error"}
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgresql_cluster")
        options["database_url"] = cluster.dsn(cluster.create_database())
    with serving(tmp_path_factory.mktemp("server"), **options) as server:
        yield server.url


@pytest.fixture(scope="module")
def api(address):
    # Half a second to import, and one worker of all that collect tests needs it. Its checks are
    # known by name once they are imported.
    import schemathesis.specs.openapi.checks  # noqa: PLC0415 - told above

    return schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.fixture(scope="module")
def device(address):
    """Register a device and return the headers that it sends."""
    created = httpx.post(f"{address}/devices", json={"device_id": "pump-1"}, headers=HEADERS)
    assert created.status_code == 201
    return {"x-api-key": created.json()["api_key"]}


@pytest.fixture(scope="module")
def user(address):
    """Sign up and return a function that gives the headers of another session each time."""
    credentials = {"username": "ash", "password": "12345678"}
    assert httpx.post(f"{address}/users", json=credentials).status_code == 201

    def session():
        token = httpx.post(f"{address}/authentication", json=credentials).json()["access_token"]
        return {"authorization": f"Bearer {token}"}

    return session


def operations(api):
    # Those that end: a stream is read in tests of its own.
    found = [result.ok() for result in api.get_all_operations()]
    return [operation for operation in found if operation.tags != ["live"]]


def holds(operation, mode, callers, adapt=lambda case: None):
    """Call the operation with generated requests, and compare its answers to the document."""
    from schemathesis import GenerationMode  # noqa: PLC0415 - as `api`
    from schemathesis.checks import CHECKS  # noqa: PLC0415 - as `api`

    generated = operation.as_strategy(generation_mode=GenerationMode(mode))
    documented = CHECKS.get_by_names(DOCUMENTED)

    @short
    @given(case=generated, headers=st.sampled_from(callers))
    def call(case, headers):
        adapt(case)
        for name in FRAMING:
            (case.headers or {}).pop(name, None)
        response = case.call(headers=headers, timeout=60)
        case.validate_response(response, checks=documented)

    # Without parameters and body there is nothing to get wrong.
    with contextlib.suppress(Unsatisfiable):
        call()


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_any_request_is_answered_as_documented(api, mode):
    for operation in operations(api):
        # A path takes any text: a request that has nothing else can't be wrong.
        if mode == "positive" or operation.query or operation.body:
            holds(operation, mode, [HEADERS])


def test_whoever_calls_is_answered_as_documented(api, device, user):
    nobody, wrong = {}, {"x-api-key": "no-key-of-ours"}
    forged = {"authorization": "Bearer c186a32e88541b4ddb2f0bd59a68b7d6"}
    session = user()
    for operation in operations(api):
        ends = (operation.method, operation.path) == ("delete", "/api/v1/authentication")
        own = user() if ends else session
        holds(operation, "positive", [own, device, nobody, wrong, forged])


def test_requests_about_a_device_that_exists_are_answered_as_documented(api, device):
    def adapt(case):
        for name in ("identifier", "device_id"):
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = "pump-1"
        if case.method == "PATCH" and isinstance(case.body, dict):
            # The others need it under its name.
            case.body.pop("device_id", None)
            case.body["is_active"] = True

    found = [operation for operation in operations(api) if "{" in operation.path]
    assert len(found) >= 8
    # The one that deactivates it comes last.
    for operation in sorted(found, key=lambda operation: operation.method == "delete"):
        holds(operation, "positive", [HEADERS], adapt)


def test_what_is_made_is_used_as_documented(address, tmp_path):
    """Follow the links from what makes something to what reads, changes and deletes it.

    By Schemathesis's own program: Hypothesis alone would ask that a server answer twice alike.
    """
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-c", PROGRAM, "run", f"{address}/openapi.json"),
        *("--header", f"X-API-Key: {ADMIN_KEY}", "--phases", "stateful"),
        *("--checks", ",".join(DOCUMENTED)),
        *("--max-examples", str(EXAMPLES * 5), "--generation-deterministic", "--no-color"),
        *("--exclude-tag", "live"),
        *("--continue-on-failure", "--report", "json", "--report-json-path", str(report)),
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    told = json.loads(report.read_text())
    assert told["warnings"]["unresolvable_reference"] == []
    assert told["operations"]["tested"] >= 12, told["operations"]


# The document


def test_each_route_is_listed_once(address):
    document = httpx.get(f"{address}/openapi.json").json()
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    identifiers = [operation["operationId"] for *_, operation in listed(document)]
    assert len(set(identifiers)) == len(identifiers)
    assert all("summary" in operation for *_, operation in listed(document))
    for path in ("/ingest", "/ingest/batch", "/sensors/{identifier}/measurements"):
        assert "201" in document["paths"][f"/api/v1{path}"]["post"]["responses"]


def listed(document):
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_a_credential_is_asked_for_where_the_document_says_so(address):
    document = httpx.get(f"{address}/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    asking = 0
    for method, path, operation in listed(document):
        taken = operation["security"]
        assert set(itertools.chain.from_iterable(taken)) <= set(schemes)
        answer = httpx.request(method, address + path.replace("{", "x").replace("}", "x"))
        needed = bool(taken) and {} not in taken
        assert (answer.status_code == 401) == needed, (method, path, answer.text)
        asking += needed
    assert asking > len(document["paths"]) / 2


def test_each_scheme_is_taken(address):
    credentials = {"username": "brock", "password": "12345678"}
    origin = {"origin": address}
    with httpx.Client(base_url=address) as client:
        assert client.post("/users", json=credentials).status_code == 201
        told = client.post(
            "/authentication", json={**credentials, "cookie": True}, headers=origin
        ).json()
        assert client.get("/users/me").json()["username"] == "brock"
        network = {"network_name": "kanto"}
        # What another site's page sends does not count.
        for headers, status in ((origin, 201), ({"origin": "https://rocket.example"}, 403)):
            made = client.post("/networks", json=network, headers=headers)
            assert made.status_code == status
    bearer = {"authorization": f"Bearer {told['access_token']}"}
    assert httpx.get(f"{address}/users/me", headers=bearer).status_code == 200
    created = httpx.post(f"{address}/devices", json={"device_id": "pump-2"}, headers=HEADERS)
    key = {"x-api-key": created.json()["api_key"]}
    assert httpx.get(f"{address}/sensors/pump-2", headers=key).status_code == 200

"""What OpenAPI says holds: requests generated from it never break the server."""

import contextlib
import os
import socket
import subprocess
import sys
import time

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

ADMIN_KEY = "an-admin-key-for-tests-only"
HEADERS = {"x-api-key": ADMIN_KEY}
START_SECONDS = 30

DOCUMENTED = (
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
    not_a_server_error,
)
short = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Run the server as users run it and return its address."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    environment = {
        **os.environ,
        "APP_ENV": "test",
        "API_SECRET_KEY": ADMIN_KEY,
        "DATA_DIRECTORY": str(folder),
        "MQTT_LISTEN": "127.0.0.1:0",
        "RATE_LIMIT_READ": "0",
        "RATE_LIMIT_INGEST": "0",
        "RATE_LIMIT_FAILED_LOGINS": "0",
        "LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "uvicorn", "heliograph.app:app", "--port", str(port)]
    with subprocess.Popen(command, env=environment, cwd=folder) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline and server.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                        break
                time.sleep(0.05)
            else:
                pytest.fail("the server did not become ready")
            created = httpx.post(f"{url}/devices", json={"device_id": "pump-1"}, headers=HEADERS)
            assert created.status_code == 201
            yield url
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def api(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def operations(api):
    return [result.ok() for result in api.get_all_operations()]


def holds(operation, mode, adapt=lambda case: None):
    """Call the operation with generated requests, and compare its answers to the document."""

    @short
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case):
        adapt(case)
        response = case.call(headers=HEADERS, timeout=10)
        case.validate_response(response, checks=DOCUMENTED)

    call()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_request_is_answered_as_documented(api, mode):
    for operation in operations(api):
        # Without parameters and body there is nothing to get wrong.
        with contextlib.suppress(Unsatisfiable):
            holds(operation, mode)


def test_requests_about_a_device_that_exists_are_answered_as_documented(api):
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
        holds(operation, GenerationMode.POSITIVE, adapt)


def test_each_route_is_listed_once(address):
    document = httpx.get(f"{address}/openapi.json").json()
    assert all(path.startswith("/api/v1/") for path in document["paths"])
    operations = [
        operation for methods in document["paths"].values() for operation in methods.values()
    ]
    identifiers = [operation["operationId"] for operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    assert all("summary" in operation for operation in operations)
    for path in ("/ingest", "/ingest/batch", "/sensors/{identifier}/measurements"):
        assert "201" in document["paths"][f"/api/v1{path}"]["post"]["responses"]

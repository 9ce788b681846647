"""Traces over OTLP, taken by a receiver of the test's own."""

import asyncio
import http.server
import subprocess
import sys
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heliograph import traces
from heliograph.errors import StartError
from server import eventually, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
RULE = {
    "name": "Hot",
    "condition": {"attribute": "t", "above": 30},
    "actions": [{"type": "sse"}],
}


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans; answers with the status."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.resources, self.spans, self.headers, self.status = [], [], [], 200

    def named(self, name):
        return [span for span in self.spans if span.name == name]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.headers.append((self.path, dict(self.headers)))
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.resources.append(attributes(part.resource))
            self.server.spans += [span for scope in part.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def attributes(part):
    values = ((each.key, each.value) for each in part.attributes)
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values}


@pytest.fixture
def collector(monkeypatch):
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, name="collector")
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=roof")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "greenhouses")
        # The rest is sent at the end.
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


async def test_spans_of_requests_commits_rules_and_actions(tmp_path, collector):
    async with running(tmp_path, log_level="info") as here:
        assert (await here.http.post("/rules", json=RULE)).status_code == 201
        await here.device("pump")
        processor = here.services.processor
        await eventually(lambda: processor.index.rules)
        given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        await here.http.post("/ingest", json={"device_id": "pump", "t": 31}, headers=given)
        await eventually(lambda: sum(each.done_total for each in here.services.dispatchers))
        await here.http.get("/ping", headers={"traceparent": "00-zz"})
        await here.http.get("/readyz")
    (ingest,) = collector.named("POST /api/v1/ingest")
    assert (ingest.trace_id.hex(), ingest.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(ingest) == {
        "http.request.method": "POST",
        "http.route": "/api/v1/ingest",
        "http.response.status_code": 201,
    }
    assert 0 < ingest.start_time_unix_nano <= ingest.end_time_unix_nano
    # What is no context begins a trace of its own.
    (ping,) = collector.named("GET /api/v1/ping")
    assert not ping.parent_span_id
    (whole,) = collector.named("publish to commit")
    (commit,) = collector.named("commit")
    assert (commit.trace_id, commit.parent_span_id) == (whole.trace_id, whole.span_id)
    assert attributes(whole) == {"heliograph.messages": 1, "heliograph.rows": 1}
    assert whole.start_time_unix_nano <= commit.start_time_unix_nano
    (turn,) = collector.named("rule turn")
    assert attributes(turn) == {"heliograph.observations": 1, "heliograph.transitions": 1}
    (action,) = collector.named("action sse")
    assert attributes(action)["heliograph.outcome"] == "done"
    assert {resource["service.name"] for resource in collector.resources} == {"greenhouses"}
    path, headers = collector.headers[0]
    assert (path, headers["x-team"]) == ("/v1/traces", "roof")


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    monkeypatch.setattr(traces, "CLOSING_SECONDS", 0.01)
    async with running(tmp_path) as here:
        for _ in range(20):
            assert (await here.http.get("/ping")).status_code == 200


def test_whoever_ends_waits_for_no_collector(monkeypatch):
    monkeypatch.setattr(traces, "CLOSING_SECONDS", 0.01)
    released, sent = threading.Event(), []

    class Provider:
        def get_tracer(self, *_):
            return None

        def shutdown(self):
            sent.append(released.wait(10))

    asyncio.run(traces.Traces(Provider()).close())
    assert sent == []
    released.set()


@pytest.mark.parametrize(
    ("variables", "is_on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:1/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
async def test_they_are_off_unless_an_endpoint_is_named(monkeypatch, variables, is_on):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opened = traces.open_traces()
    assert (opened is not None) == is_on
    if opened is not None:
        await opened.close()


def test_another_protocol_and_a_missing_package_are_told(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(StartError, match="OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc'"):
        traces.open_traces()
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(StartError, match=r"pip install 'heliograph\[otel\]'"):
        traces.open_traces()


def test_nothing_of_it_is_imported_while_they_are_off(tmp_path):
    script = (
        "import sys; import heliograph.app; from heliograph.traces import open_traces;"
        "assert open_traces() is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')"
        " or name.startswith('opentelemetry.exporter')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout == "[]\n"

"""Traces by OpenTelemetry, an extra: spans that are sent to a collector over OTLP.

Who has something to tell calls what it was given here when it is over, with how long it took; where
there are no traces it was given nothing. So they cost nothing while they are off, and no span is
open across an await that others could end.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from heliograph.errors import StartError
from heliograph.version import VERSION

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
# What is left to be sent at the end has so long.
CLOSING_SECONDS = 2.0
SERVER_ERROR = 500


class Traces:
    """Makes spans of what is over, of the kinds that the server has."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415 - the same

        self._provider = provider
        self._tracer = provider.get_tracer("heliograph", VERSION)
        self._extract = tracecontext.TraceContextTextMapPropagator().extract
        self._within = trace.set_span_in_context
        self._server = trace.SpanKind.SERVER
        self._failed = trace.StatusCode.ERROR

    def request(self, scope: Mapping[str, Any], template: str, status: int, seconds: float) -> None:
        """Tell of a request whose answer has begun; it belongs to the trace that it names."""
        headers = dict(scope["headers"])
        named = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        method, end = scope["method"], time.time_ns()
        span = self._tracer.start_span(
            f"{method} {template}",
            context=self._extract(named) if named else None,
            kind=self._server,
            start_time=end - int(seconds * 1e9),
            attributes={
                "http.request.method": method,
                "http.route": template,
                "http.response.status_code": status,
            },
        )
        if status >= SERVER_ERROR:
            span.set_status(self._failed)
        span.end(end)

    def commit(self, waited: float, seconds: float, messages: int, rows: int) -> None:
        """Tell of a transaction, and how long the first of its messages had waited at its end."""
        end = time.time_ns()
        counts = {"heliograph.messages": messages, "heliograph.rows": rows}
        whole = self._tracer.start_span(
            "publish to commit",
            start_time=end - int(max(waited, seconds) * 1e9),
            attributes=counts,
        )
        self._tracer.start_span(
            "commit", context=self._within(whole), start_time=end - int(seconds * 1e9)
        ).end(end)
        whole.end(end)

    def turn(self, seconds: float, observations: int, transitions: int) -> None:
        """Tell of a turn of rules that had something to look at."""
        end = time.time_ns()
        self._tracer.start_span(
            "rule turn",
            start_time=end - int(seconds * 1e9),
            attributes={
                "heliograph.observations": observations,
                "heliograph.transitions": transitions,
            },
        ).end(end)

    def action(self, seconds: float, kind: str, action: int, outcome: str) -> None:
        """Tell of an action that was tried."""
        end = time.time_ns()
        span = self._tracer.start_span(
            f"action {kind}",
            start_time=end - int(seconds * 1e9),
            attributes={"heliograph.action": str(action), "heliograph.outcome": outcome},
        )
        if outcome == "failed":
            span.set_status(self._failed)
        span.end(end)

    async def close(self) -> None:
        """Send what is left, for a moment."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            try:
                self._provider.shutdown()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(ended.set)

        # The loop would wait at its end for a thread of its own: it tries for many seconds.
        threading.Thread(target=end, name="traces' end", daemon=True).start()
        try:
            await asyncio.wait_for(ended.wait(), CLOSING_SECONDS)
        except TimeoutError:
            log.warning("traces left unsent at the end")


def open_traces() -> Traces | None:
    """Return what makes spans if OTEL_EXPORTER_OTLP_ENDPOINT is set; None: there are no traces.

    OpenTelemetry's variables are read from the environment, by its own library: endpoint, headers,
    time-out, sampler, and the bounds of the queue, of which what is too much is dropped.

    Raises:
        StartError: the extra is missing, or they ask for another protocol.
    """
    environment = os.environ
    if (
        not any(environment.get(name) for name in ENDPOINTS)
        or environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    ):
        return None
    for name in PROTOCOLS:
        if (given := environment.get(name)) not in (None, "", PROTOCOL):
            raise StartError(f"{name}: {given!r} is not {PROTOCOL!r}, which is spoken alone")
    try:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415 - extra
        from opentelemetry.sdk import resources  # noqa: PLC0415 - the same
        from opentelemetry.sdk.trace import TracerProvider, export  # noqa: PLC0415 - same
    except ImportError:
        needed = "traces need a package: pip install 'heliograph[otel]'"
        raise StartError(f"{ENDPOINTS[1]}: {needed}") from None
    known = {"service.version": VERSION}
    if "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        known["service.name"] = environment.get("OTEL_SERVICE_NAME") or "heliograph"
    # It would end at the process's exit by itself, after all logs.
    provider = TracerProvider(resource=resources.Resource.create(known), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    log.info("traces sent over OTLP")
    return Traces(provider)

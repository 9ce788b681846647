"""Metrics for Prometheus. No sensor is ever a label: there may be a million."""

import hmac
from collections.abc import Iterator

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.responses import Response

from heliograph.errors import ErrorCode
from heliograph.model.time import now, to_epoch_seconds
from heliograph.store.removal import KeptKind
from heliograph.web.access import Access, client_address
from heliograph.web.answers import Answering
from heliograph.web.connections import WebSocketProtocol
from heliograph.web.dependencies import TheAccess, TheServices
from heliograph.web.limits import Limits, bearer
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.services import Services
from heliograph.web.traffic import Traffic

router = APIRouter(prefix=PREFIX, tags=["health"])


class HeliographCollector(Collector):
    """Reads the counts that the server keeps anyway, when it is asked."""

    def __init__(self, services: Services, traffic: Traffic, answering: Answering) -> None:
        self._services = services
        self._traffic = traffic
        self._answering = answering

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield self._requests()
        yield from self._answers()
        yield self._refused()
        for name, text, count in (
            ("empty_frames", "Frames of no payload", WebSocketProtocol.empty_frames_total),
            ("floods", "Sockets ended for too many such", WebSocketProtocol.floods_total),
        ):
            yield CounterMetricFamily(f"heliograph_websocket_{name}", text, value=count)
        yield from self._ingest()
        yield self._rejected()
        yield from self._rollups()
        yield from self._listener()
        yield from self._passwords()
        yield from self._link()
        yield from self._disk()
        yield from self._retention()
        yield GaugeMetricFamily(
            "heliograph_start_time_seconds",
            "When the server started",
            value=to_epoch_seconds(self._services.started_at),
        )

    def _requests(self) -> Metric:
        requests = CounterMetricFamily(
            "heliograph_http_requests",
            "HTTP requests by route and class of status",
            labels=["route", "status"],
        )
        for (template, status), count in sorted(self._traffic.requests.items()):
            requests.add_metric([template, f"{status}xx"], count)
        return requests

    def _answers(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "heliograph_http_answering_bytes",
            "Bytes of large answers under way",
            value=self._answering.bytes,
        )
        yield CounterMetricFamily(
            "heliograph_http_answers_refused",
            "Large answers refused because too many were under way",
            value=self._answering.refused_total,
        )
        yield CounterMetricFamily(
            "heliograph_http_answers_cut_off",
            "Large answers ended because their clients took them slowly while others waited",
            value=self._answering.cut_off_total,
        )

    def _refused(self) -> Metric:
        refused = CounterMetricFamily(
            "heliograph_http_refused",
            "Requests and sockets refused for a foreign Host or another site's page",
            labels=["code"],
        )
        for code, count in sorted(self._traffic.refused_requests.items()):
            refused.add_metric([code.value], count)
        return refused

    def _ingest(self) -> Iterator[Metric]:
        state = self._services.posts.state
        for name, text, count in (
            ("messages", "Messages committed", state.messages_total),
            ("rows", "Measurements, logs and heartbeats committed", state.rows_total),
            ("duplicates", "Repeats that were dropped", state.duplicates_total),
            (
                "retimed",
                "Elements stored with their time of receipt, since what they gave is no time",
                state.retimed_total,
            ),
            ("commits", "Transactions committed", state.commits_total),
            (
                "dropped",
                "Messages neither stored nor acknowledged, since the database was put back",
                state.dropped_total,
            ),
            (
                "rejected_not_kept",
                "Rejected messages that were not kept, mostly for the bounds of what is",
                state.rejected_not_kept_total,
            ),
        ):
            yield CounterMetricFamily(f"heliograph_ingest_{name}", text, value=count)
        for name, text, value in (
            ("queue_depth", "Messages that wait for their commit", state.depth),
            ("bytes_in_flight", "Bytes that wait for their commit", state.bytes_in_flight),
            ("database_available", "Whether commits succeed", int(state.database_available)),
            ("clock_behind", "Whether the clock is behind", int(state.clock_behind)),
            (
                "last_commit_timestamp_seconds",
                "When the last commit was",
                to_epoch_seconds(state.last_commit_at or 0),
            ),
        ):
            yield GaugeMetricFamily(f"heliograph_ingest_{name}", text, value=value)

    def _rollups(self) -> Iterator[Metric]:
        state = self._services.rollups
        for name, text, value in (
            ("lag_seconds", "How far rollups are behind the clock", state.lag_seconds(now())),
            ("late_marks", "Marks of late rows to be worked off, up to 100,000", state.marks),
            ("backlog_ranges", "Ranges of history to be rolled up, up to 100,000", state.ranges),
        ):
            yield GaugeMetricFamily(f"heliograph_rollup_{name}", text, value=value)
        for name, text, count in (
            ("stored", "Rollups stored", state.stored_total),
            ("wide_hours", "Hours with more attributes than are rolled up", state.wide_total),
        ):
            yield CounterMetricFamily(f"heliograph_rollup_{name}", text, value=count)

    def _passwords(self) -> Iterator[Metric]:
        state = self._services.passwords.state
        yield GaugeMetricFamily(
            "heliograph_passwords_waiting", "Log-ins that wait for their turn", value=state.waiting
        )
        yield CounterMetricFamily(
            "heliograph_passwords_hashed", "Passwords hashed", value=state.hashed_total
        )
        refused = CounterMetricFamily(
            "heliograph_passwords_refused",
            "Log-ins and new passwords refused unread, by the code of the answer",
            labels=["code"],
        )
        for code in (ErrorCode.RATE_LIMITED, ErrorCode.QUEUE_FULL):
            refused.add_metric([code.value], state.refused_total[code])
        yield refused

    def _listener(self) -> Iterator[Metric]:
        listener = self._services.listener
        yield GaugeMetricFamily(
            "heliograph_mqtt_connections",
            "Open MQTT connections",
            value=listener.connections if listener else 0,
        )
        if listener is None:
            return
        counts = listener.counts
        for name, text, reasons in (
            ("refusals", "Connections ended for a fault of the client's", counts.refusals),
            ("refused_filters", "Subscriptions not granted", counts.refused_filters),
        ):
            family = CounterMetricFamily(f"heliograph_mqtt_{name}", text, labels=["reason"])
            for reason, count in sorted(reasons.items()):
                family.add_metric([reason.lower()], count)
            yield family
        for name, text, count in (
            (
                "dropped_messages",
                "Messages that did not go to a subscriber, for the bounds of what waits for one",
                counts.dropped,
            ),
            (
                "too_large_messages",
                "Messages that did not go to a subscriber, being larger than it takes",
                counts.too_large,
            ),
            (
                "withheld_messages",
                "Messages that a subscriber was owed and may not see any more",
                counts.withheld,
            ),
            (
                "withheld_wills",
                "Last wills of clients whose key, password or session has ended",
                counts.withheld_wills,
            ),
            ("turns", "How often a connection had to let others go first", counts.turns),
            (
                "held_back",
                "How often somebody had had his share while others sent all there is room for",
                counts.held_back,
            ),
        ):
            yield CounterMetricFamily(f"heliograph_mqtt_{name}", text, value=count)

    def _link(self) -> Iterator[Metric]:
        link = self._services.link
        if link is None:
            return
        yield GaugeMetricFamily(
            "heliograph_broker_connected", "Whether the broker is there", value=int(link.connected)
        )
        yield GaugeMetricFamily(
            "heliograph_broker_waiting_messages",
            "Messages that the broker has not taken from us yet",
            value=link.waiting,
        )
        for name, text, count in (
            ("connects", "Connections made to the broker", link.connects),
            ("dropped_messages", "Messages that the broker has dropped", link.dropped_count),
        ):
            yield CounterMetricFamily(f"heliograph_broker_{name}", text, value=count)

    def _disk(self) -> Iterator[Metric]:
        disk = self._services.disk
        for name, text, value in (
            ("used_bytes", "What the database takes: live pages, and the log of writes", disk.used),
            ("budget_bytes", "DISK_BUDGET; 0: none", disk.budget),
            ("budget_used_up", "Whether new data is refused", int(disk.is_full)),
        ):
            yield GaugeMetricFamily(f"heliograph_disk_{name}", text, value=value)

    def _retention(self) -> Iterator[Metric]:
        state = self._services.retention.state
        removed = CounterMetricFamily(
            "heliograph_retention_removed_rows", "Rows removed, by kind", labels=["kind"]
        )
        for kind in KeptKind:
            removed.add_metric([kind.value], state.removed_total[kind])
        yield removed
        for name, text, count in (
            ("dropped_partitions", "Partitions dropped", state.partitions_total),
            ("failures", "Runs that ended halfway", state.failures_total),
        ):
            yield CounterMetricFamily(f"heliograph_retention_{name}", text, value=count)
        yield GaugeMetricFamily(
            "heliograph_retention_last_run_timestamp_seconds",
            "When the last run began that came to its end",
            value=to_epoch_seconds(state.last_run_at or 0),
        )

    def _rejected(self) -> Metric:
        rejected = CounterMetricFamily(
            "heliograph_ingest_rejected",
            "Elements and messages rejected, by reason",
            labels=["reason"],
        )
        for reason, count in sorted(self._services.posts.state.rejected_total.items()):
            rejected.add_metric([reason], count)
        return rejected


def metrics_registry(
    services: Services, traffic: Traffic, answering: Answering
) -> CollectorRegistry:
    """Return a registry of this application's metrics only."""
    registry = CollectorRegistry()
    registry.register(HeliographCollector(services, traffic, answering))
    return registry


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **errors(401, 403),
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
async def read_metrics(request: Request, services: TheServices, access: TheAccess) -> Response:
    """Read the metrics with the admin key, or with METRICS_TOKEN as a bearer token."""
    await _admit(request, services, access)
    registry: CollectorRegistry = request.app.state.metrics
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _admit(request: Request, services: Services, access: Access) -> None:
    limits: Limits = request.app.state.limits
    headers = dict(request.scope["headers"])
    authorization = headers.get(b"authorization")
    token = services.settings.metrics_token
    if token is not None and authorization is not None:
        expected = b"bearer " + token.get_secret_value().encode()
        sent = authorization[:7].lower() + authorization[7:]
        if hmac.compare_digest(sent, expected):
            limits.probe(client_address(request.scope))
            return
    caller = await access.caller(request.scope)
    access.require_admin(caller)
    limits.read(bearer(caller, client_address(request.scope)))

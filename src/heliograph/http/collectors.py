"""What is told to Prometheus. No sensor is ever a label: there may be a million.

Its library is imported with this module, when somebody asks for the first time.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from heliograph.errors import ErrorCode
from heliograph.http.answers import Answering
from heliograph.http.connections import WebSocketProtocol
from heliograph.http.services import Services
from heliograph.http.traffic import Traffic
from heliograph.model.histogram import Durations, together
from heliograph.model.time import SECOND, now, to_epoch_seconds
from heliograph.store.duties import DutyName
from heliograph.store.removal import KeptKind

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# Of what another worker tells, as it is before it is compressed.
MAXIMUM_TOLD_BYTES = 8 << 20

log = structlog.get_logger()


class HeliographCollector(Collector):
    """Reads the counts that the server keeps anyway, when it is asked."""

    def __init__(self, services: Services, traffic: Traffic, answering: Answering) -> None:
        self._services = services
        self._traffic = traffic
        self._answering = answering

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._http()
        yield from self._ingest()
        yield from self._rollups()
        yield from self._packing()
        yield from self._listener()
        yield from self._passwords()
        yield from self._link()
        yield from self._disk_and_retention()
        yield from self._processing()
        text = "Open streams and WebSockets"
        yield _gauge("live_viewers", text, self._services.streams.count)
        started = to_epoch_seconds(self._services.started_at)
        yield _gauge("start_time_seconds", "When the server started", started)
        yield from self._servers()

    def _processing(self) -> Iterator[Metric]:
        processor = self._services.processor
        text = "Rules in use"
        yield _gauge("rules", text, len(processor.index.rules))
        text = "Messages that rules have looked at"
        yield _counter("rule_observations", text, processor.observed_total)
        text = "Raises, clears and forwarded messages of rules"
        yield _counter("rule_transitions", text, processor.transitions_total)
        actions = CounterMetricFamily(
            "heliograph_actions", "Actions that were run, by outcome", labels=["outcome"]
        )
        dispatchers = self._services.dispatchers
        actions.add_metric(["done"], sum(each.done_total for each in dispatchers))
        actions.add_metric(["failed"], sum(each.failed_total for each in dispatchers))
        actions.add_metric(["retried"], sum(each.retried_total for each in dispatchers))
        yield actions

    def _http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "heliograph_http_requests",
            "HTTP requests by route and class of status; WebSockets opened are 1xx, refused 4xx",
            labels=["route", "status"],
        )
        durations = HistogramMetricFamily(
            "heliograph_http_request_duration_seconds",
            "How long requests took until their answers began, by route",
            labels=["route"],
        )
        answered = sorted(self._traffic.requests.items())
        for template, of_route in itertools.groupby(answered, key=lambda each: each[0][0]):
            parts = list(of_route)
            for (_, status), taken in parts:
                requests.add_metric([template, f"{status}xx"], taken.count)
            taken = together(taken for _, taken in parts)
            durations.add_metric([template], taken.buckets, taken.seconds)
        yield requests
        yield durations
        answering = self._answering
        text = "Bytes of large answers under way"
        yield _gauge("http_answering_bytes", text, answering.bytes)
        text = "Large answers refused because too many were under way"
        yield _counter("http_answers_refused", text, answering.refused_total)
        text = "Large answers ended because their clients took them slowly while others waited"
        yield _counter("http_answers_cut_off", text, answering.cut_off_total)
        text = "Requests and sockets refused for a foreign Host or another site's page"
        yield _counters("http_refused", text, "code", self._traffic.refused_requests.items())
        text = "Frames of no payload"
        yield _counter("websocket_empty_frames", text, WebSocketProtocol.empty_frames_total)
        text = "Sockets ended for too many such"
        yield _counter("websocket_floods", text, WebSocketProtocol.floods_total)

    def _ingest(self) -> Iterator[Metric]:
        state = self._services.http_ingest.state
        yield _counter("ingest_messages", "Messages committed", state.messages_total)
        text = "Measurements, logs and heartbeats committed"
        yield _counter("ingest_rows", text, state.rows_total)
        yield _counter("ingest_duplicates", "Repeats that were dropped", state.duplicates_total)
        text = "Measurements stored that may be in a damaged chunk already"
        yield _counter("ingest_possible_repeats", text, state.possible_repeats_total)
        text = "Elements stored with their time of receipt, since what they gave is no time"
        yield _counter("ingest_retimed", text, state.retimed_total)
        yield _counter("ingest_commits", "Transactions committed", state.commits_total)
        text = "How long transactions took"
        yield _histogram("ingest_commit_duration_seconds", text, state.commits)
        text = "From the receipt of a transaction's first message to its commit"
        yield _histogram("ingest_wait_seconds", text, state.waits)
        text = "Messages neither stored nor acknowledged, since the database was put back"
        yield _counter("ingest_dropped", text, state.dropped_total)
        text = "Rejected messages that were not kept, mostly for the bounds of what is"
        yield _counter("ingest_rejected_not_kept", text, state.rejected_not_kept_total)
        text = "Elements and messages rejected, by reason"
        yield _counters("ingest_rejected", text, "reason", state.rejected_total.items())
        yield _gauge("ingest_queue_depth", "Messages that wait for their commit", state.depth)
        text = "Bytes that wait for their commit"
        yield _gauge("ingest_bytes_in_flight", text, state.bytes_in_flight)
        text = "Whether commits succeed"
        yield _gauge("ingest_database_available", text, state.database_available)
        yield _gauge("ingest_clock_behind", "Whether the clock is behind", state.clock_behind)
        last = to_epoch_seconds(state.last_commit_at or 0)
        yield _gauge("ingest_last_commit_timestamp_seconds", "When the last commit was", last)

    def _servers(self) -> Iterator[Metric]:
        instance, held = self._services.instance, self._services.duties.held
        number = instance.number if instance else 0
        yield _gauge("instance_number", "Number of this server among all on its database", number)
        living = 1 + len(instance.others) if instance else 1
        yield _gauge("instances", "Servers that use the database", living)
        text = "Whether this server has the duty, which one of all on a database has"
        duties = GaugeMetricFamily("heliograph_duty_held", text, labels=["duty"])
        for name in DutyName:
            duties.add_metric([name.value], name.value in held)
        yield duties

        counts = self._services.shared_counts
        text = "Whether limits count for all servers together, in RATE_LIMIT_STORAGE"
        yield _gauge("limits_shared", text, counts is not None and counts.problem is None)
        text = "Calls of RATE_LIMIT_STORAGE that failed or took too long"
        yield _counter("limits_failures", text, counts.failures_total if counts else 0)

    def _rollups(self) -> Iterator[Metric]:
        state = self._services.rollups
        text = "How far rollups are behind the clock"
        yield _gauge("rollup_lag_seconds", text, state.lag_seconds(now()))
        text = "Marks of late rows to be worked off, up to 100,000"
        yield _gauge("rollup_late_marks", text, state.marks)
        text = "Ranges of history to be rolled up, up to 100,000"
        yield _gauge("rollup_backlog_ranges", text, state.ranges)
        yield _counter("rollup_stored", "Rollups stored", state.stored_total)
        text = "Hours with more attributes than are rolled up"
        yield _counter("rollup_overfull", text, state.wide_total)

    def _packing(self) -> Iterator[Metric]:
        state = self._services.packer.state
        yield _counter("packing_rows", "Measurements packed", state.packed_total)
        text = "Small chunks of which fewer were made"
        yield _counter("packing_merged_chunks", text, state.merged_total)
        text = "Runs of packing that ended halfway, and pieces that can't be packed"
        yield _counter("packing_failures", text, state.failures_total)
        text = "When the last run of packing came to its end"
        last = to_epoch_seconds(state.last_run_at or 0)
        yield _gauge("packing_last_run_timestamp_seconds", text, last)

    def _passwords(self) -> Iterator[Metric]:
        state = self._services.passwords.state
        text = "Log-ins that wait for their turn"
        yield _gauge("passwords_waiting", text, state.waiting)
        yield _counter("passwords_hashed", "Passwords hashed", state.hashed_total)
        text = "Log-ins and new passwords refused unread, by the code of the answer"
        codes = (ErrorCode.RATE_LIMITED, ErrorCode.QUEUE_FULL)
        counts = {code: state.refused_total[code] for code in codes}
        yield _counters("passwords_refused", text, "code", counts.items())

    def _listener(self) -> Iterator[Metric]:
        listener = self._services.listener
        connections = listener.connections if listener else 0
        yield _gauge("mqtt_connections", "Open MQTT connections", connections)
        if listener is None:
            return
        counts = listener.counts
        text = "Connections ended for a fault of the client's"
        yield _counters("mqtt_refusals", text, "reason", _lower(counts.refusals))
        text = "Subscriptions not granted"
        yield _counters("mqtt_refused_filters", text, "reason", _lower(counts.refused_filters))
        text = "Messages that did not go to a subscriber, for the bounds of what waits for one"
        yield _counter("mqtt_dropped_messages", text, counts.dropped)
        text = "Messages that did not go to a subscriber, being larger than it takes"
        yield _counter("mqtt_too_large_messages", text, counts.too_large)
        text = "Messages that a subscriber was owed and may not see any more"
        yield _counter("mqtt_withheld_messages", text, counts.withheld)
        text = "Last wills of clients whose key, password or session has ended"
        yield _counter("mqtt_withheld_wills", text, counts.withheld_wills)
        text = "How often a connection had to let others go first"
        yield _counter("mqtt_turns", text, counts.turns)
        text = "How often somebody had had their share while others sent all there is room for"
        yield _counter("mqtt_held_back", text, counts.held_back)

    def _link(self) -> Iterator[Metric]:
        if (link := self._services.link) is None:
            return
        yield _gauge("broker_connected", "Whether the broker is there", link.connected)
        text = "Messages that the broker has not taken from us yet"
        yield _gauge("broker_waiting_messages", text, link.waiting)
        yield _counter("broker_connects", "Connections made to the broker", link.connects)
        text = "Messages that the broker has dropped"
        yield _counter("broker_dropped_messages", text, link.dropped.count)

    def _disk_and_retention(self) -> Iterator[Metric]:
        disk, state = self._services.disk, self._services.retention.state
        text = "What the database takes: live pages, and the log of writes"
        yield _gauge("disk_used_bytes", text, disk.used)
        yield _gauge("disk_budget_bytes", "DISK_BUDGET; 0: none", disk.budget)
        yield _gauge("disk_budget_used_up", "Whether new data is refused", disk.is_full)
        removed = {kind: state.removed_total[kind] for kind in KeptKind}
        yield _counters("retention_removed_rows", "Rows removed, by kind", "kind", removed.items())
        text = "Partitions dropped"
        yield _counter("retention_dropped_partitions", text, state.partitions_total)
        yield _counter("retention_failures", "Runs that ended halfway", state.failures_total)
        text = "When the last run began that came to its end"
        last = to_epoch_seconds(state.last_run_at or 0)
        yield _gauge("retention_last_run_timestamp_seconds", text, last)


class OfWorker(Collector):
    """Names the worker, one of several, whose counts they are."""

    def __init__(self, collector: Collector, number: int) -> None:
        self._collector = collector
        self._label = {"worker": str(number)}

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for metric in self._collector.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, **self._label})
                for sample in metric.samples
            ]
            yield metric


# Of each metric: its name, text and kind, and each sample's name, labels and value.
_Told = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Told).decode


def packed(collector: Collector) -> bytes:
    """Return metrics as one worker tells them to another."""
    told = [
        (
            each.name,
            each.documentation,
            each.type,
            [(s.name, s.labels, float(s.value)) for s in each.samples],
        )
        for each in collector.collect()
    ]
    return zlib.compress(_pack(told), 1)


class OfAll(Collector):
    """What all workers have counted, each metric once, as the text format wants it."""

    def __init__(self, own: Collector, told: Sequence[bytes], workers: int) -> None:
        """Take this worker's metrics, and what the others have told."""
        self._own = own
        self._told = told
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        metrics = {each.name: each for each in self._own.collect()}
        telling = 1
        for data in self._told:
            try:
                told = _unpack(zlib.decompressobj().decompress(data, MAXIMUM_TOLD_BYTES))
            except (msgspec.MsgspecError, zlib.error) as error:
                log.warning("counts of another worker not read", reason=str(error))
                continue
            telling += 1
            for name, text, kind, samples in told:
                metric = metrics.setdefault(name, Metric(name, text, kind))
                for sample in samples:
                    metric.add_sample(*sample)
        yield from metrics.values()
        yield _gauge("workers", "Workers of this server", self._workers)
        text = "Workers whose counts are told here: what of the others is left out"
        yield _gauge("workers_telling", text, telling)


class Waiting(Collector):
    """What waits in the database for rules and to be done, as it was when it was asked."""

    def __init__(self, observed: int | None, due: int | None, waiting: int) -> None:
        """Take since when the oldest of each waits (microseconds; None: none does)."""
        self._observed = observed
        self._due = due
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Yield how much waits, and for how long."""
        text = "How long the oldest message waits that rules have yet to look at"
        yield _gauge("rule_lag_seconds", text, _seconds_since(self._observed))
        text = "Actions that wait, up to 100,000: the outbox"
        yield _gauge("actions_waiting", text, self._waiting)
        text = "How long the action is overdue that should have begun first"
        yield _gauge("action_lag_seconds", text, _seconds_since(self._due))


def _seconds_since(moment: int | None) -> float:
    return 0.0 if moment is None else max(0, now() - moment) / SECOND


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"heliograph_{name}", text, value=value)


def _counter(name: str, text: str, count: float) -> Metric:
    return CounterMetricFamily(f"heliograph_{name}", text, value=count)


def _histogram(name: str, text: str, taken: Durations) -> Metric:
    family = HistogramMetricFamily(f"heliograph_{name}", text, labels=())
    family.add_metric([], taken.buckets, taken.seconds)
    return family


def _counters(name: str, text: str, label: str, counts: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(f"heliograph_{name}", text, labels=[label])
    for each, count in sorted(counts):
        family.add_metric([each], count)
    return family


def _lower(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((reason.lower(), count) for reason, count in counts.items())


def metrics_registry(
    services: Services, traffic: Traffic, answering: Answering
) -> CollectorRegistry:
    """Return a registry of this application's metrics, and of what its process takes."""
    registry = CollectorRegistry()
    worker = services.worker
    for each in (
        ProcessCollector(registry=None),
        HeliographCollector(services, traffic, answering),
    ):
        registry.register(each if worker.is_alone else OfWorker(each, worker.number))
    services.siblings.tell_counts(lambda: packed(registry))
    return registry


def in_text(
    registry: CollectorRegistry,
    told: Sequence[bytes],
    workers: int,
    waiting: tuple[int | None, int | None, int] | None,
) -> bytes:
    """Return the metrics of all workers, with what the others have told, in the text format.

    Without what `waiting` says if the database did not: since when the oldest waits for rules, and
    to be done, and how many wait.
    """
    text: bytes = generate_latest(OfAll(registry, told, workers))
    return text if waiting is None else text + generate_latest(Waiting(*waiting))

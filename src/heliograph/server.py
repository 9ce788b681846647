"""Wiring and lifecycle: sinks start first and stop last, sources the other way round."""

import asyncio
import contextlib
import errno
import gc
import hmac
import itertools
import os
import resource
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import structlog

from heliograph import logs, shutdown
from heliograph.access.authenticator import Authenticator, FailedLogIns
from heliograph.access.limiter import Limiter
from heliograph.access.passwords import Passwords
from heliograph.access.registry import NO_GUESTS, Guests, Registry
from heliograph.access.shared_counts import SharedCounts
from heliograph.access.windows import Windows
from heliograph.admin_key import ensure_api_secret_key
from heliograph.broker_url import parse_broker_url
from heliograph.brokers.clients import BrokerClients
from heliograph.brokers.mosquitto import MosquittoFiles, MosquittoPaths
from heliograph.brokers.rules import ServerAccount, rules_for, server_account
from heliograph.configuration.publisher import Publisher
from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.heartbeat import HeartbeatSender
from heliograph.http.alerts import alert_frames
from heliograph.http.services import Services
from heliograph.http.streams import look_up
from heliograph.http.traffic import Traffic
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.batch import IngestIds
from heliograph.ingest.clock import Clock, ClockWatch
from heliograph.ingest.elsewhere import Elsewhere, Interest
from heliograph.ingest.http_ingest import HttpIngest
from heliograph.ingest.instance import Instance
from heliograph.ingest.leftovers import Leftovers
from heliograph.ingest.mqtt_ingest import MqttIngest
from heliograph.ingest.packet_ingest import PacketIngest
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.rejections import RejectionBudget, Rejections
from heliograph.ingest.routes import Router
from heliograph.ingest.state import PipelineState
from heliograph.live import signals
from heliograph.live.frames import Frame
from heliograph.live.hub import Hub
from heliograph.live.notices import Notices
from heliograph.live.positions import Watermarks
from heliograph.live.streams import Streams
from heliograph.memory import usable_memory
from heliograph.model.actions import BROKER, LISTENER, PUBLISH
from heliograph.model.audit import Actor, ActorKind
from heliograph.model.credentials import weakness
from heliograph.model.grouping import Pace
from heliograph.model.principal import Role
from heliograph.model.time import SECOND, now
from heliograph.mqtt.connection import ListenerLimits
from heliograph.mqtt.link import Link, LinkOptions
from heliograph.mqtt.listener import Listener
from heliograph.mqtt.members import Legacies
from heliograph.packer import Packer
from heliograph.presence import PresenceWriter
from heliograph.processing.alerting import Alerting, Signs
from heliograph.processing.channels import Courier
from heliograph.processing.chat import Chats
from heliograph.processing.dispatcher import CONCURRENT, Dispatcher, Run
from heliograph.processing.email import Mailer, MailServer
from heliograph.processing.notifications import Notifications
from heliograph.processing.outbound import AT_ONCE as WEBHOOKS_AT_ONCE
from heliograph.processing.outbound import Webhooks
from heliograph.processing.processor import Processor
from heliograph.processing.rule_actions import PacketActions, RuleActions
from heliograph.processing.scripts import Scripts
from heliograph.retention.disk_budget import DiskBudget, DiskState
from heliograph.retention.runs import RetentionRuns, prune_for_ever
from heliograph.rollups.aggregates import Aggregates
from heliograph.rollups.task import RollupTask
from heliograph.running_settings import Change, RunningSettings
from heliograph.settings import (
    OF_EACH_TIME,
    OF_KEEPING,
    OF_LOGS,
    OF_NOTICES,
    OF_PROCESSING,
    OF_RATES,
    OF_SECRETS,
    OF_STREAMS,
    OF_TOPICS,
    Settings,
)
from heliograph.shutdown import Shutdown
from heliograph.siblings import Siblings
from heliograph.store import Store, migrate, open_store
from heliograph.store.channels import NOTIFY
from heliograph.store.claim import Claim
from heliograph.store.duties import Duties, DutyName
from heliograph.store.sqlite import fitting_cache
from heliograph.systemd import HandedSockets
from heliograph.tls import ServerTls, link_tls, watch
from heliograph.traces import open_traces
from heliograph.worker import ALONE, Worker

log = structlog.get_logger()

# Beside a busy event loop the writer's thread would wait 5 ms for the interpreter each time.
SWITCH_SECONDS = 0.0005
# Rows are tuples of numbers and texts, in which the garbage collector has nothing to find; left
# to count allocations by itself it takes a quarter of the ingest path's time.
COLLECT_SECONDS = 1.0
# All that is alive is looked through once in so many times; else only what was made since.
YOUNG_COLLECTIONS = 60
FILES_SECONDS = 1.0
# When sensors were last seen is answered from memory; a crash may cost so many seconds of it.
FLUSH_SECONDS = 30.0
# Other servers answer from the database; a row costs it some 50 µs.
FLUSH_BESIDE_OTHERS_SECONDS = 5.0
# Two chats, which take up to 20 seconds each, and as many that wait for them within a claim's time.
NOTIFICATIONS_AT_ONCE = 4
DATABASE_SECONDS = 3.0
# The broker tells its count every few seconds.
DROPS_SECONDS = 1.0


class Server:
    """Owns every part of a running server, and every task."""

    def __init__(
        self,
        settings: Settings,
        handed: HandedSockets | None = None,
        worker: Worker = ALONE,
    ) -> None:
        self._given = settings
        self._worker = worker
        self._handed = handed or HandedSockets()
        self._parts = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._streams: Streams | None = None
        self._sources: list[Link | Legacies | Listener] = []
        # Set when a part has failed that the server can't do without.
        self.failed = asyncio.Event()
        self.shutdown = Shutdown(settings.shutdown_timeout)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Services]:
        """Run the server for as long as the context lasts.

        At its end what has been read is committed and acknowledged, all of it within
        SHUTDOWN_TIMEOUT. A start that fails halfway stops what it has started.

        Raises:
            StartError: with one readable line.
        """
        try:
            yield await self._start()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop what has been started, in stages that take no longer than SHUTDOWN_TIMEOUT."""
        self.begin_shutdown()
        await self._parts.aclose()

    def begin_shutdown(self) -> bool:
        """Start the clock of the shutdown; return false if it runs already.

        May be called before the context of `running` ends, as soon as it is known that it will:
        streams end, and devices' connections are read no more while HTTP answers the requests
        that it has.
        """
        first = self.shutdown.begin()
        if self._streams is not None:
            self._streams.close()
        for source in self._sources:
            source.stop_taking()
        return first

    async def _start(self) -> Services:  # noqa: C901, PLR0912, PLR0915 - the wiring, read from top to bottom
        # store ◀─ pipeline ◀─ ingest ◀─┬─ MQTT listener ◀── devices
        #   │          │                ├─ link ◀── broker ◀── devices
        #   │          │                └─ http ◀── devices, users
        #   │          └─▶ hub ─┬─▶ listener ─▶ subscribers
        #   │                   ├─▶ streams ─▶ viewers
        #   │                   ├─▶ notices ─▶ streams
        #   │                   └─▶ other servers, and what they commit ─▶ hub
        #   ├─ rules ─▶ outbox ─▶ dispatchers ─▶ streams, listener, link, webhooks, scripts
        #   ├─ notices ─▶ outbox ─▶ dispatcher ─▶ e-mail, webhooks, chats
        #   ├─ configuration publisher ─▶ listener, link ─▶ devices
        #   ├─ Mosquitto's files ─▶ Mosquitto (who may log in there)
        #   ├─ rollups, presence, retention, disk budget (─▶ pipeline)
        #   └─ registry (the cache of sensors), pruning
        #
        # What is stopped stands where its start leaves it on the stack: the last is stopped first.
        sys.setswitchinterval(SWITCH_SECONDS)
        given = self._given
        claim = Claim(given.database_url, accept_empty=given.accept_empty_database)
        self._parts.callback(claim.release)
        store = await _open_store(given, claim)
        self._at_end("store", store.close, shutdown.STORE)
        # Not before: a server that another one's claim keeps out leaves no key behind.
        settings = self._settings()
        newest_id, newest_receipt = await store.newest()
        role = settings.anonymous_role
        guests = Guests(Role[role.upper()], settings.anonymous_networks) if role else NO_GUESTS
        registry = Registry(store, auto_provision=settings.auto_provision, guests=guests)
        await registry.load()

        # From a message to its commit.
        hub = Hub()
        budget = RejectionBudget(
            per_source_per_hour=settings.rejected_per_source_per_hour,
            maximum_bytes=settings.rejected_max_bytes,
        )
        _, budget.kept_bytes = await store.rejected.totals()
        clock, ids = Clock(newest_receipt), IngestIds(last=newest_id)
        instance = await self._lease(settings, store, ids)
        duties = await self._duties(store, instance)
        attributes = NewAttributes(registry.number, clock.moment)
        pipeline = Pipeline(
            store,
            hub,
            registry,
            Rejections(budget, clock, ids, PipelineState()),
            attributes,
            maximum_bytes=settings.max_in_flight_bytes,
            instance=instance,
        )
        # Behind all that is stored, whosever it is, and before all that comes here.
        pipeline.state.newest_id = ids.last
        rollups = RollupTask(
            store,
            pipeline.state,
            attributes,
            moment=clock.moment,
            duty=duties[DutyName.ROLLUPS],
        )
        retention = RetentionRuns(
            store,
            settings.retention,
            clock=clock.now,
            elapsed=lambda: clock.elapsed,
            busy=lambda: pipeline.state.depth > 0,
            newest=pipeline.latest,
            duty=duties[DutyName.RETENTION],
        )
        packer = Packer(
            store,
            settings.packing_age,
            moment=clock.moment,
            busy=lambda: pipeline.state.depth > 0,
            duty=duties[DutyName.PACKING],
        )
        disk = DiskBudget(store, pipeline, settings.disk_budget, refusing=retention.set_urgent)
        clock_watch = ClockWatch(store, clock, registry, pipeline.latest, retention.follow)

        # Who may do what.
        passwords = Passwords()
        self._parts.callback(passwords.close)
        await _warn_of_lookalikes(store)
        await make_administrator(settings, store, passwords)
        shared_counts, windows = await self._counts(settings)
        limiter = Limiter(settings.rate_limit_failed_logins, windows)
        authenticator = _authenticator(settings, store, registry, passwords, limiter)
        router = Router(registry)

        # Sources, and who is told of a commit.
        watermarks = Watermarks(lambda: pipeline.state.resume_id(now(), ids.instance))
        streams = self._streams = Streams(
            per_principal=settings.max_streams_per_principal,
            maximum=settings.max_streams,
            began=pipeline.watch,
            watermarks=watermarks,
        )
        ways = [bool(settings.mqtt_listen or settings.mqtt_tls_listen), bool(settings.mqtt_url)]
        packets = PacketIngest(
            registry,
            pipeline,
            ids,
            publish_topic=settings.mqtt_publish_topic,
            through=tuple(itertools.compress((LISTENER, BROKER), ways)),
        )
        mqtt_ingest = MqttIngest(
            store,
            registry,
            router,
            authenticator,
            pipeline,
            clock,
            ids,
            packets=packets,
            publish_topic=settings.mqtt_publish_topic,
            subscribe_topic=settings.mqtt_subscribe_topic,
        )
        client_id = instance.mqtt_client_id if instance else None
        link = _make_link(settings, mqtt_ingest, client_id) if settings.mqtt_url else None
        listens = settings.mqtt_listen or settings.mqtt_tls_listen
        listener = _make_listener(settings, mqtt_ingest) if listens else None
        legacies = await self._legacies(settings, store, instance, link)
        sources = (link, legacies, listener)
        self._sources += [source for source in sources if source is not None]
        publisher = Publisher(
            store.publications,
            broker=link,
            subscribers=listener,
            alone=store.engine.name == "sqlite",
            duty=duties[DutyName.CONFIGURATIONS],
        )
        self._at_end("configurations", publisher.close, shutdown.CONFIGURATIONS)
        http_ingest = HttpIngest(registry, pipeline, clock, ids, packets)
        leftovers = Leftovers(store, pipeline)
        processor = Processor(store, registry, interval=settings.processing_interval)
        processor.used.add(partial(_watch_batches, pipeline, processor))
        webhooks = await self._parts.enter_async_context(Webhooks(settings.webhook_allow))
        notifications = Notifications(
            store.channels,
            Courier(_mailer(settings), webhooks, Chats(settings.webhook_allow)),
            settings.secrets,
            _pace(settings),
            interval=settings.processing_interval,
        )
        rule_actions = RuleActions(
            registry,
            streams,
            listener,
            link,
            send=http_ingest.send,
            publish_topic=settings.mqtt_publish_topic,
            webhooks=webhooks,
            notifications=notifications,
            scripts=_scripts(settings),
        )
        publish = PacketActions(listener, link).run
        # Held while one runs that may be what ends the server.
        suspects = asyncio.Lock()
        quick = {PUBLISH: publish, **rule_actions.quick}
        publishing = _dispatcher(settings, store, quick, suspects, instance)
        # What others may keep waiting: as many as are run at once, so that none waits for its turn
        # with its time running out.
        calling = _dispatcher(
            settings, store, rule_actions.calls, suspects, instance, WEBHOOKS_AT_ONCE
        )
        scripting = _dispatcher(
            settings, store, rule_actions.scripts, suspects, instance, settings.max_scripts
        )
        self._at_end("actions", publishing.close, shutdown.CONFIGURATIONS)
        self._at_end("calls", calling.close, shutdown.CONFIGURATIONS)
        self._at_end("scripts", scripting.close, shutdown.CONFIGURATIONS)
        pipeline.runner = publishing
        processor.entered.add(publishing.wake)
        processor.entered.add(calling.wake)
        processor.entered.add(scripting.wake)
        notifying = _dispatcher(
            settings, store, {NOTIFY: notifications.send}, suspects, instance, NOTIFICATIONS_AT_ONCE
        )
        notifications.entered.add(notifying.wake)
        processor.entered.add(notifications.wake)
        notifications.more_comes = processor.is_telling
        self._at_end("notifications", notifying.close, shutdown.CONFIGURATIONS)
        traffic = Traffic()
        alerting = Alerting(
            store,
            registry,
            _signs(settings, pipeline, disk, link, traffic),
            interval=settings.processing_interval,
            duty=duties[DutyName.ALERTS],
        )
        elsewhere = _elsewhere(store, registry, hub, pipeline, watermarks)
        presence = PresenceWriter(store, registry.connected, hub, instance)
        presence.noted.add(processor.present)
        account = server_account(settings)
        files = _mosquitto_files(settings, store, account)
        running_settings = RunningSettings(self._given, settings)
        services = Services(
            running_settings=running_settings,
            siblings=Siblings(self._worker, elsewhere, running_settings),
            store=store,
            registry=registry,
            router=router,
            authenticator=authenticator,
            passwords=passwords,
            limiter=limiter,
            shared_counts=shared_counts,
            latest=pipeline.latest,
            http_ingest=http_ingest,
            publishing=publishing,
            calling=calling,
            scripting=scripting,
            notifying=notifying,
            processor=processor,
            notifications=notifications,
            alerting=alerting,
            broker_clients=BrokerClients(
                registry,
                authenticator,
                mqtt_ingest,
                server_name=account.name,
                server_password=account.password,
            ),
            streams=streams,
            retention=retention,
            packer=packer,
            disk=disk.state,
            rollups=rollups.state,
            aggregates=Aggregates(store.engine, store.raw_reads, store.chunks),
            instance=instance,
            elsewhere=elsewhere,
            duties=duties,
            worker=self._worker,
            listener=listener,
            link=link,
            informing=files,
            traffic=traffic,
            started_at=now(),
        )
        running_settings.may_change(
            list(_changes(services, budget, packets, mqtt_ingest, rule_actions))
        )
        services.siblings.begin()
        notices = Notices(streams, partial(look_up, services))
        self._trace(traffic, pipeline, processor, services.dispatchers)

        # Who is told what.
        hub.add(streams.watched, streams.publish)
        if listener is not None:
            hub.add(listener.fanout.watched, listener.fanout.show)
        hub.add(streams.watched, notices.publish)
        _exchange(elsewhere, pipeline, hub, streams, listener, publisher, notices, store, registry)
        store.configurations.revised.add(lambda _revisions: publisher.wake())
        store.configurations.revised.add(notices.revised)
        store.alerts.changed.add(lambda changes: streams.show(alert_frames(changes)))
        store.alerts.changed.add(lambda _: notifications.wake())
        store.silences.changed.add(alerting.wake)
        registry.written_elsewhere.add(pipeline.latest.forget_all)
        registry.erased_elsewhere.add(leftovers.erased)
        # A sensor may have another name, other rights, or be gone.
        registry.changes.add(streams.changed)
        if listener is not None:
            registry.changes.add(listener.recheck)
        registry.changes.add(publisher.wake)
        registry.changes.add(processor.changed)
        registry.changes.add(alerting.registry_changed)
        if files is not None:
            registry.changes.add(files.wake)
        # What is remembered of a database that was put back since.
        remembering = (
            *(pipeline, instance, duties, rollups, streams, link, listener, publisher, notices),
            elsewhere,
            publishing,
            calling,
            scripting,
            processor,
            notifying,
            alerting,
            leftovers,
        )
        for part in remembering:
            if part is not None:
                registry.rollbacks.add(part.forget)
        for source in self._sources:
            pipeline.add_source(source.pause, source.resume)

        # The start: sinks first.
        await self._join(elsewhere)
        self._at_end("tasks", self._cancel_tasks, shutdown.TASKS)
        if instance is not None:
            self._run(instance.run(), "instance")
        self._run(duties.run(), "duties")
        self._share(services)
        committing = self._run(pipeline.run(), "pipeline")
        self._run(registry.watch(), "registry")
        self._run(leftovers.run(), "leftovers")
        rolling = self._run(rollups.run(), "rollups")
        self._run(streams.run(), "streams")
        self._run(notices.run(), "notices")
        self._at_end("last seen", lambda: _flush_last_seen(registry), shutdown.LAST_SEEN)
        self._at_end("presence", lambda: presence.close(now()), shutdown.PRESENCE)
        await presence.begin(clock.moment())
        self._run(presence.run(), "presence")
        await disk.look()  # before anything is taken
        self._run(disk.run(), "disk-budget")
        sweeping = self._run(retention.run(), "retention")
        packing = self._run(packer.run(), "packing")
        self._run(collect_garbage(), "garbage")
        self._run(_watch_files(), "file-descriptors")
        self._run(_flush_for_ever(registry, lambda: services.servers), "last-seen")
        pruning = prune_for_ever(
            store,
            lambda: services.settings,
            budget,
            retention.horizon,
            duties[DutyName.RETENTION],
        )
        self._run(pruning, "maintenance")
        await clock_watch.begin()
        self._run(clock_watch.run(), "clock")
        self._run(publisher.run(), "configurations")
        await processor.refresh()
        self._run(processor.run(), "rules")
        self._run(publishing.run(), "publications")
        self._run(calling.run(), "calls")
        self._run(scripting.run(), "scripts")
        await notifications.check()
        self._run(notifications.run(), "notices-of-alerts")
        self._run(notifying.run(), "notifications")
        self._run(alerting.run(), "alerts")
        if files is not None:
            self._run(files.run(), "mosquitto-files")
        heartbeat = HeartbeatSender(
            lambda: services.settings.heartbeat_url,
            partial(_takes_data, store, pipeline.state, disk.state),
            duties[DutyName.HEARTBEAT].given,
        )
        self._run(heartbeat.run(), "heartbeat")
        # The sources last.
        for source in reversed(self._sources):
            self._at_end("connections", source.close, shutdown.CONNECTIONS)
        self._parts.push_async_callback(self._drain, pipeline, committing)
        for source in reversed(self._sources):
            self._at_end("sources", source.close_sources, shutdown.SOURCES)
        # Who waits for the last commits need not wait for these too.
        self._parts.callback(rolling.cancel)
        self._parts.callback(sweeping.cancel)
        self._parts.callback(packing.cancel)
        if link is not None:
            link.dropped.known = await store.broker_drops.find(str(link.broker))
            self._run(link.run(), "mqtt-link")
            self._run(_note_broker_drops(store, link), "broker-drops")
        if legacies is not None:
            self._run(legacies.run(), "mqtt-legacies")
        if listener is not None:
            self._keep_sessions(store, listener, instance, elsewhere)
            tls = self._listener_tls(settings)
            await _listen(settings, listener, tls, self._handed, self._worker)
            self._run(listener.sweep(), "mqtt-sweep")
        return services

    def _settings(self) -> Settings:
        settings, generated = ensure_api_secret_key(self._given)
        if generated:
            log.info("admin key created", file=str(settings.data_directory / "api_secret_key"))
        return settings

    async def _counts(self, settings: Settings) -> tuple[SharedCounts | None, Windows]:
        """Return where limits are counted: on all servers together if there is a Redis."""
        key = settings.api_secret_key
        # The same on all servers, and of no use for anything else.
        secret = hmac.digest((key.get_secret_value() if key else "").encode(), b"limits", "sha256")
        if settings.rate_limit_storage is None:
            return None, Windows(secret)
        shared = SharedCounts(settings.rate_limit_storage, secret)
        self._at_end("limits", shared.close, shutdown.STORE)
        await shared.start()
        return shared, Windows(secret, shared)

    def _share(self, services: Services) -> None:
        """Have limits follow how many servers there are, and whether these count together."""

        def limit() -> None:
            services.limit(services.settings)

        if services.instance is not None:
            services.instance.counted.add(limit)
        shared = services.shared_counts
        if shared is None:
            return
        for buckets in services.access.limits.all:
            shared.add(buckets)
        if services.listener is not None:
            shared.add(services.listener.shares)
        shared.changed.add(limit)
        self._run(shared.run(), "limits")

    async def _lease(self, settings: Settings, store: Store, ids: IngestIds) -> Instance | None:
        if store.engine.name == "sqlite":
            return None  # the file is this server's: it has claimed it
        client_ids = self._worker.client_ids(settings) if settings.mqtt_shared else []
        instance = Instance(store, ids, mqtt_client_ids=client_ids)
        await instance.start()
        self._at_end("instance", instance.end, shutdown.STORE)
        return instance

    @staticmethod
    async def _legacies(
        settings: Settings, store: Store, instance: Instance | None, link: Link | None
    ) -> Legacies | None:
        """Return what reads out what a broker holds for servers that are gone."""
        if link is None or instance is None or not settings.mqtt_shared:
            return None
        legacies = Legacies(link, store.broker_members, instance.token)
        try:
            await legacies.enter(instance.mqtt_client_id or settings.mqtt_client_id)
        except StoreUnavailableError as error:
            raise StartError(f"DATABASE_URL: {error}") from error
        return legacies

    async def _join(self, elsewhere: Elsewhere | None) -> None:
        """Exchange events with other servers from now on."""
        if elsewhere is None:
            return
        self._at_end("signals", elsewhere.close, shutdown.STORE)
        await elsewhere.start()
        self._run(elsewhere.run(), "signals")

    def _keep_sessions(
        self,
        store: Store,
        listener: Listener,
        instance: Instance | None,
        elsewhere: Elsewhere | None,
    ) -> None:
        """Have sessions of MQTT go from one server to another."""
        if instance is None or elsewhere is None:
            return
        keeper = listener.keep(store.mqtt_sessions, elsewhere, instance.token)
        elsewhere.receive_at_once(signals.Asked, lambda told: keeper.asked(told.keys))
        elsewhere.receive_at_once(signals.Given, lambda told: keeper.given(told.keys))
        elsewhere.reconnected = keeper.reconnected
        self._run(keeper.run(), "mqtt-sessions")

    def _trace(
        self,
        traffic: Traffic,
        pipeline: Pipeline,
        processor: Processor,
        dispatchers: Iterable[Dispatcher],
    ) -> None:
        traces = open_traces()
        if traces is None:
            return
        self._at_end("traces", traces.close, shutdown.STORE)
        traffic.traced, pipeline.traced = traces.request, traces.commit
        processor.traced = traces.turn
        for dispatcher in dispatchers:
            dispatcher.traced = traces.action

    async def _duties(self, store: Store, instance: Instance | None) -> Duties:
        if instance is None:
            return Duties(store.engine, "", None)
        duties = Duties(store.engine, instance.token, lambda: instance.held)
        try:
            await duties.look()
        except StoreUnavailableError as error:
            raise StartError(f"DATABASE_URL: can't take duties: {error}") from error
        self._at_end("duties", duties.end, shutdown.STORE)
        return duties

    def _listener_tls(self, settings: Settings) -> ServerTls | None:
        if not settings.mqtt_tls_listen:
            return None
        certificate, key = settings.mqtt_tls_certificate, settings.mqtt_tls_key
        tls = ServerTls("MQTT_TLS", certificate, key, settings.mqtt_tls_ca)
        self._run(watch(tls), "mqtt-certificate")
        return tls

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # A server without one of its parts would look alive: better to start anew.
            log.critical("task ended unexpectedly", task=task.get_name(), exc_info=task.exception())
            self.failed.set()

    def _at_end(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], until: float
    ) -> None:
        """Do this as a stage of the shutdown, before all that was put on the stack so far."""
        self._parts.push_async_callback(self.shutdown.stage, name, work, until)

    async def _drain(self, pipeline: Pipeline, committing: asyncio.Task[None]) -> None:
        """Wait until all that was read is committed, or cannot be in time."""
        draining = asyncio.create_task(pipeline.drain(), name="drain")
        seconds = self.shutdown.left(shutdown.DRAIN)
        await asyncio.wait(
            {draining, committing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        if draining.cancelled():
            # What is left was never acknowledged: its senders have it still.
            log.error("uncommitted messages left at the end", left=pipeline.state.depth)

    async def _cancel_tasks(self) -> None:
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _open_store(settings: Settings, claim: Claim) -> Store:
    if settings.auto_migrate:
        backup = await migrate(settings.database_url, backups=settings.migration_backups)
        if backup is not None:
            log.info("database backed up before its migration", file=str(backup))
    cache_bytes = settings.sqlite_cache or fitting_cache(usable_memory())
    store = await open_store(settings.database_url, claim, cache_bytes=cache_bytes)
    try:
        (await store.migration_state()).require_head()
    except BaseException:
        await store.close()
        raise
    return store


async def _warn_of_lookalikes(store: Store) -> None:
    alike = await store.accounts.claim_looks()
    if alike:
        # They were there before it was asked for, or the command line was told to make them.
        count = len({younger.identifier for younger, _ in alike})
        log.warning("confusable user names: see heliograph user alike", accounts=count)


async def make_administrator(settings: Settings, store: Store, passwords: Passwords) -> None:
    """Make the account of ADMIN_USERNAME where there is none; its password is never changed."""
    password = settings.admin_password
    if settings.admin_username is None or password is None:
        return
    known = await store.accounts.find_username(settings.admin_username)
    if known is not None:
        if not known.is_admin:
            # Whoever has signed up under this name first must not become one by that.
            log.warning("ADMIN_USERNAME of a user without administrator's rights")
        return
    reason = weakness(password.get_secret_value(), settings.admin_username)
    if reason is not None:
        log.warning("easily guessed ADMIN_PASSWORD", reason=reason)
    with contextlib.suppress(AlreadyExistsError):
        await store.accounts.create(
            identifier=str(uuid.uuid4()),
            username=settings.admin_username,
            password_hash=await passwords.hash(password.get_secret_value()),
            created_at=now(),
            is_admin=True,
            may_look_alike=True,
            actor=Actor(ActorKind.SYSTEM, "start"),
        )
        log.info("administrator account created", username=settings.admin_username)


def _authenticator(
    settings: Settings, store: Store, registry: Registry, passwords: Passwords, limiter: Limiter
) -> Authenticator:
    if settings.api_secret_key is None:
        raise StartError("API_SECRET_KEY: missing")
    return Authenticator(
        registry,
        admin_key=settings.api_secret_key.get_secret_value(),
        device_keys=tuple(key.get_secret_value() for key in settings.device_api_keys),
        anonymous_role=settings.anonymous_role,
        accounts=store.accounts,
        passwords=passwords,
        limiter=limiter,
        failed=FailedLogIns(store.audit, limiter),
    )


def _dispatcher(
    settings: Settings,
    store: Store,
    runs: Mapping[str, Run],
    suspects: asyncio.Lock,
    instance: Instance | None,
    concurrent: int = CONCURRENT,
) -> Dispatcher:
    return Dispatcher(
        store.actions,
        runs,
        interval=settings.processing_interval,
        server=instance.token if instance is not None else "",
        concurrent=concurrent,
        suspects=suspects,
    )


def _scripts(settings: Settings) -> Scripts:
    return Scripts(
        settings.scripts_dir,
        seconds=settings.script_timeout,
        memory=settings.script_memory,
        at_once=settings.max_scripts,
    )


def _elsewhere(
    store: Store, registry: Registry, hub: Hub, pipeline: Pipeline, watermarks: Watermarks
) -> Elsewhere | None:
    if pipeline.instance is None or store.signals is None:
        return None
    return Elsewhere(
        store.signals, pipeline.instance, store.replay, registry, hub, pipeline.state, watermarks
    )


def _behind(streams: Streams, listener: Listener | None) -> Callable[[], set[object]]:
    """Return what tells who watches here and has no room for much more."""
    if listener is None:
        return streams.behind
    return lambda: streams.behind() | listener.fanout.behind()


def _exchange(
    elsewhere: Elsewhere | None,
    pipeline: Pipeline,
    hub: Hub,
    streams: Streams,
    listener: Listener | None,
    publisher: Publisher,
    notices: Notices,
    store: Store,
    registry: Registry,
) -> None:
    """Have other servers told what happens here, and show here what they tell."""
    if elsewhere is None:
        return

    def interest() -> Interest | None:
        if listener is not None and listener.fanout.watched():
            return Interest(None, None)
        return Interest(streams.networks(), streams.kinds()) if streams.watched() else None

    def shown(frames: list[Frame]) -> None:
        for each in frames:
            named = each.kind, each.sensor, each.network
            elsewhere.tell(signals.Shown(*named, each.data.decode(), each.device_id))

    async def show(told: signals.Shown) -> None:
        named = told.kind, told.sensor, told.network
        streams.show_here([Frame(*named, None, told.data.encode(), told.device_id)])

    async def revised(told: signals.Revised) -> None:
        notices.revised(told.revisions)

    async def configured(told: signals.Configured) -> None:
        await publisher.show(dict(told.revisions))

    async def published(told: signals.Announced) -> None:
        if listener is not None:
            listener.publish_here(told.topic, told.payload, told.network)

    elsewhere.interest = interest
    elsewhere.behind = _behind(streams, listener)
    elsewhere.receive(signals.Shown, show)
    elsewhere.receive(signals.Revised, revised)
    elsewhere.receive(signals.Configured, configured)
    elsewhere.receive(signals.Announced, published)
    pipeline.elsewhere = elsewhere
    hub.tell_elsewhere(lambda: not elsewhere.is_alone, elsewhere.changed)
    streams.shown = shown
    registry.changed_here.add(elsewhere.registry_changed)
    store.configurations.revised.add(
        lambda revisions: elsewhere.tell(signals.Revised(tuple(revisions)))
    )
    publisher.shown = lambda told: elsewhere.tell(signals.Configured(tuple(told.items())))
    if listener is not None:
        listener.published = lambda *told: elsewhere.tell(signals.Announced(*told))


def _watch_batches(pipeline: Pipeline, processor: Processor, is_used: bool) -> None:
    """Have rules look at batches if there are any."""
    pipeline.observe = processor.index.observe if is_used else None
    pipeline.observed = processor.committed if is_used else None


def _changes(
    services: Services,
    rejections: RejectionBudget,
    packets: PacketIngest,
    mqtt_ingest: MqttIngest,
    rule_actions: RuleActions,
) -> Iterator[Change]:
    """Yield which settings can change while the server runs, and what makes a change count."""
    listener = services.listener

    def look_so_often(settings: Settings) -> None:
        parts: tuple[Dispatcher | Processor | Notifications | Alerting, ...] = (
            *services.dispatchers,
            *(services.processor, services.notifications, services.alerting),
        )
        for part in parts:
            part.interval = settings.processing_interval
            part.wake()

    def keep(settings: Settings) -> None:
        services.retention.default = settings.retention
        rejections.per_source_per_hour = settings.rejected_per_source_per_hour
        rejections.maximum_bytes = settings.rejected_max_bytes
        services.disk.budget = settings.disk_budget
        services.packer.after = settings.packing_age

    def stream(settings: Settings) -> None:
        services.streams.maximum = settings.max_streams
        services.streams.per_principal = settings.max_streams_per_principal

    def lead(settings: Settings) -> None:
        topic = settings.mqtt_publish_topic
        packets.publish_topic = rule_actions.publish_topic = topic
        with listener.fanout.taken_in_anew() if listener else contextlib.nullcontext():
            mqtt_ingest.lead(topic, settings.mqtt_subscribe_topic)
        services.registry.renew()

    def notify(settings: Settings) -> None:
        services.notifications.courier.mailer = _mailer(settings)
        services.notifications.keep_pace(_pace(settings))

    # The first one may fail.
    yield (*OF_LOGS, *OF_SECRETS), logs.configure_by
    yield OF_PROCESSING, look_so_often
    yield OF_RATES, services.limit
    yield OF_KEEPING, keep
    yield OF_NOTICES, notify
    yield OF_STREAMS, stream
    yield OF_TOPICS, lead
    yield OF_EACH_TIME, None


def _signs(
    settings: Settings, pipeline: Pipeline, disk: DiskBudget, link: Link | None, traffic: Traffic
) -> Signs:
    """Return where alerting sees how the server does."""
    state = pipeline.state
    certificates = (
        *(settings.mqtt_tls_certificate, settings.mqtt_url_tls_certificate),
        settings.https_certificate,
    )

    def elements() -> tuple[int, int]:
        rejected = sum(state.rejected_total.values())
        return state.rows_total + rejected, rejected

    return Signs(
        queue=lambda: state.bytes_in_flight / settings.max_in_flight_bytes,
        elements=elements,
        answers=traffic.failures,
        rejected=state.take_rejected,
        broker=lambda: None if link is None else link.problem,
        disk=lambda: (disk.state.percent, disk.state.is_low, disk.state.is_full),
        clock_behind=lambda: state.clock_behind,
        certificates=[path for path in certificates if path is not None],
    )


async def _takes_data(store: Store, state: PipelineState, disk: DiskState) -> bool:
    """Return whether new data is taken and stored now."""
    if not state.database_available or state.clock_behind or disk.is_full:
        return False
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            await store.ping()
    except (StoreUnavailableError, TimeoutError):
        return False
    return True


def _make_link(settings: Settings, mqtt_ingest: MqttIngest, client_id: str | None) -> Link:
    broker = parse_broker_url(settings.mqtt_url or "")
    password = settings.mqtt_password
    options = LinkOptions(
        client_id=client_id or settings.mqtt_client_id,
        packets=settings.mqtt_subscribe_topic,
        username=settings.mqtt_username,
        password=password.get_secret_value() if password is not None else None,
        shared=settings.mqtt_shared,
        keepalive=settings.mqtt_keepalive,
        receive_maximum=settings.mqtt_receive_maximum,
        tls=link_tls(settings) if broker.tls else None,
        server_name=settings.mqtt_url_tls_server_name,
    )
    return Link(mqtt_ingest, broker, options)


def _make_listener(settings: Settings, mqtt_ingest: MqttIngest) -> Listener:
    limits = ListenerLimits(
        connections=settings.mqtt_max_connections,
        connections_per_address=settings.mqtt_max_connections_per_address,
        connections_per_principal=settings.mqtt_max_connections_per_principal,
        receive_maximum=settings.mqtt_receive_maximum,
        connect_seconds=settings.mqtt_connect_timeout,
        messages_per_minute=settings.rate_limit_mqtt,
    )
    return Listener(mqtt_ingest, limits)


def _pace(settings: Settings) -> Pace:
    return Pace(round(settings.notice_window * SECOND), settings.notices_per_hour)


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_host is None:
        return Mailer(None)
    password = settings.smtp_password
    server = MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        sender=settings.smtp_sender or "",
        username=settings.smtp_username,
        password=password.get_secret_value() if password is not None else None,
    )
    return Mailer(server)


async def _listen(
    settings: Settings,
    listener: Listener,
    tls: ServerTls | None,
    handed: HandedSockets,
    worker: Worker,
) -> None:
    """Let devices connect.

    Raises:
        StartError: one of the addresses can't be listened on.
    """
    addresses = [(address, None) for address in settings.mqtt_listen]
    encrypted = None if tls is None else tls.context
    for address, context in [*addresses, *((a, encrypted) for a in settings.mqtt_tls_listen)]:
        try:
            bound = handed.take_all(*address)
            for each in bound:
                await listener.listen(*address, context, bound=each)
            if not bound:
                await listener.listen(*address, context, shared=worker.share_ports)
        except OSError as error:
            raise StartError(
                f"MQTT_LISTEN: can't listen on {address}: {os.strerror(error.errno or 0)}"
            ) from error
        if worker.speaks:
            log.info("listening for MQTT", address=str(address), tls=context is not None)


def _mosquitto_files(
    settings: Settings, store: Store, account: ServerAccount
) -> MosquittoFiles | None:
    paths = MosquittoPaths(
        settings.mosquitto_password_path,
        settings.mosquitto_acl_path,
        settings.mosquitto_pid_path,
    )
    if paths.passwords is None and paths.acl is None:
        return None
    return MosquittoFiles(store.broker_access, paths, rules_for(settings, "%u"), account)


async def collect_garbage() -> None:
    """Collect garbage by the clock, not by the number of allocations, for ever."""
    # What has been made by now stays: modules, routes, settings. To look for the little of it that
    # does not would take a tenth of the start.
    gc.freeze()
    gc.disable()
    try:
        while True:
            for _ in range(YOUNG_COLLECTIONS):
                await asyncio.sleep(COLLECT_SECONDS)
                gc.collect(1)
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


async def _watch_files() -> None:
    """Log once when no file can be opened any more, and once when one can again, for ever.

    uvloop refuses connections then by closing them, without a word.
    """
    used_up = False
    while True:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if not used_up and error.errno in (errno.EMFILE, errno.ENFILE):
                used_up = True
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                log.error(  # noqa: TRY400 - a state, told once, needs no traceback
                    "file descriptors used up: new connections are closed", limit=limit
                )
        else:
            if used_up:
                log.info("file descriptors available again")
            used_up = False
        await asyncio.sleep(FILES_SECONDS)


async def _flush_for_ever(registry: Registry, servers: Callable[[], int]) -> None:
    waited = 0.0
    while True:
        await asyncio.sleep(FLUSH_BESIDE_OTHERS_SECONDS)
        waited += FLUSH_BESIDE_OTHERS_SECONDS
        if servers() > 1 or waited >= FLUSH_SECONDS:
            waited = 0.0
            await _flush_last_seen(registry)


async def _flush_last_seen(registry: Registry) -> None:
    """Store when sensors were last seen, if that can be done now."""
    with contextlib.suppress(StoreUnavailableError):
        await registry.flush()


async def _note_broker_drops(store: Store, link: Link) -> None:
    """Store how many messages the broker says that it has dropped, for ever."""
    while True:
        await link.dropped.changed.wait()
        link.dropped.changed.clear()
        said = link.dropped.reported()
        if said is None:
            continue
        try:
            await store.broker_drops.note(str(link.broker), said)
        except StoreUnavailableError:
            link.dropped.changed.set()
        await asyncio.sleep(DROPS_SECONDS)

"""Wiring and lifecycle: sinks start first and stop last, sources the other way round.

store ◀─ pipeline ◀─ intake ◀─┬─ MQTT listener ◀── devices
  │          │                ├─ link ◀── broker ◀── devices
  │          │                └─ web ◀── devices, users
  │          └─▶ hub ─┬─▶ listener ─▶ subscribers
  │                   └─▶ streams ─▶ viewers
  ├─ configuration publisher ─▶ listener, link ─▶ devices
  ├─ Mosquitto's files ─▶ Mosquitto (who may log in there)
  ├─ retention, disk budget (─▶ pipeline)
  └─ registry (the cache of sensors), maintenance
"""

import asyncio
import contextlib
import sys
import uuid
from typing import TYPE_CHECKING, Any

import structlog

from heliograph import ending, upkeep
from heliograph.access.authenticator import Authenticator, FailedLogIns
from heliograph.access.limiter import Limiter
from heliograph.access.registry import NO_GUESTS, Guests, Registry
from heliograph.admin_key import ensure_api_secret_key
from heliograph.broker.clients import BrokerClients
from heliograph.broker.from_settings import rules_for, server_account
from heliograph.broker.mosquitto_files import MosquittoFiles, MosquittoPaths
from heliograph.configuration.publisher import Publisher
from heliograph.ending import Ending
from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.ingest.clock import Clock
from heliograph.ingest.clock_watch import ClockWatch
from heliograph.ingest.endpoint import Endpoint
from heliograph.ingest.instance import Instance
from heliograph.ingest.intake import Intake
from heliograph.ingest.notes import Notes
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.posts import Posts
from heliograph.ingest.rejections import RejectionBudget
from heliograph.ingest.reports import NumberTextReports
from heliograph.ingest.routes import Router
from heliograph.live.hub import Hub
from heliograph.live.streams import Streams
from heliograph.model.audit import Actor, ActorKind
from heliograph.model.identifiers import IngestIds
from heliograph.model.principal import Role
from heliograph.model.time import now
from heliograph.passwords import Passwords
from heliograph.presence import PresenceWriter
from heliograph.retention.disk_budget import DiskBudget
from heliograph.retention.runs import RetentionRuns
from heliograph.rollups.aggregates import Aggregates
from heliograph.rollups.task import RollupTask
from heliograph.settings import Settings
from heliograph.sources import listen, make_link, make_listener
from heliograph.store import Store, migrate, open_store
from heliograph.store.claim import Claim
from heliograph.weak_passwords import weakness
from heliograph.web.notices import Notices
from heliograph.web.services import Services

if TYPE_CHECKING:
    from heliograph.mqtt.link import Link
    from heliograph.mqtt.listener import Listener

log = structlog.get_logger()

# Beside a busy event loop the writer's thread would wait 5 ms for the interpreter each time.
SWITCH_SECONDS = 0.0005


class Server:
    """A running server: everything that `start` has made, in the order of its making."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: Listener | None = None
        self._link: Link | None = None
        self._files: MosquittoFiles | None = None
        self.failed = asyncio.Event()
        self.ending = Ending(settings.shutdown_timeout)

    async def start(self) -> Services:
        """Start everything, sinks first.

        Raises:
            StartError: with one readable line.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        settings = self._settings()
        self._claim = Claim(settings.database_url, accept_empty=settings.accept_empty_database)
        self._store = store = await self._open_store(settings)
        newest_id, newest_receipt = await store.newest()
        self._registry = registry = Registry(
            store, auto_provision=settings.auto_provision, guests=_guests(settings)
        )
        await registry.load()
        hub = Hub()
        self._pipeline = pipeline = Pipeline(store, hub, maximum_bytes=settings.max_in_flight_bytes)
        rejections = await self._rejections(settings)
        clock, ids = Clock(newest_receipt), IngestIds(last=newest_id)
        pipeline.instance = await self._lease(settings, ids)
        texts = NumberTextReports(registry.number, clock.moment)
        notes = Notes(registry, clock, ids, rejections, pipeline.state, texts)
        pipeline.refuse, pipeline.unlearn = notes.refuse_rows, notes.unlearn
        pipeline.rolled_back = registry.look
        registry.on_rollback(pipeline.forget)
        registry.elsewhere = pipeline.latest.forget_all
        intake = Intake(pipeline, registry, clock, ids, notes)
        self._passwords = Passwords()
        await self._claim_looks()
        await self._make_administrator(settings)
        limiter = Limiter(settings.rate_limit_failed_logins)
        authenticator = self._authenticator(settings, registry, limiter)
        router = Router(registry)
        self._committing = self._run(pipeline.run(), "pipeline")
        self._run(registry.watch(), "registry")
        rollups = RollupTask(store, pipeline.state, texts, moment=clock.moment)
        registry.on_rollback(rollups.forget)
        self._rolling = self._run(rollups.run(), "rollups")
        streams = self._start_streams(settings, hub, intake, ids)
        await self._start_presence(hub, clock.moment())
        retention, disk = await self._start_retention(settings, clock)
        self._start_upkeep(settings, rejections, retention)
        await self._watch_clock(clock, retention)
        topic = settings.mqtt_publish_topic
        endpoint = Endpoint(store, registry, router, authenticator, intake, publish_topic=topic)
        await self._start_mqtt(settings, endpoint, hub)
        self._publish_configurations()
        self._write_mosquitto_files(settings)
        services = Services(
            settings=settings,
            store=store,
            registry=registry,
            router=router,
            authenticator=authenticator,
            passwords=self._passwords,
            limiter=limiter,
            latest=pipeline.latest,
            posts=Posts(pipeline, clock, ids, notes),
            broker_clients=_broker_clients(settings, registry, authenticator, endpoint),
            streams=streams,
            retention=retention,
            disk=disk.state,
            rollups=rollups.state,
            aggregates=Aggregates(store.engine, store.raw_reads),
            instance=pipeline.instance,
            listener=self._listener,
            link=self._link,
            informing=self._files,
            started_at=now(),
        )
        return self._start_notices(services, hub)

    def _settings(self) -> Settings:
        settings, generated = ensure_api_secret_key(self._given)
        if generated:
            log.info("admin key made", file=str(settings.data_directory / "api_secret_key"))
        return settings

    def _start_upkeep(
        self, settings: Settings, rejections: RejectionBudget, retention: RetentionRuns
    ) -> None:
        self._run(upkeep.collect(), "garbage")
        self._run(upkeep.watch_files(), "file-descriptors")
        self._run(upkeep.flush(self._registry), "last-seen")
        maintenance = upkeep.maintain(self._store, settings, rejections, retention.horizon)
        self._run(maintenance, "maintenance")

    async def _watch_clock(self, clock: Clock, retention: RetentionRuns) -> None:
        watch = ClockWatch(self._store, clock, self._registry, self._pipeline.latest)
        watch.horizon_changed = retention.follow
        await watch.begin()
        self._run(watch.run(), "clock")

    async def _start_retention(
        self, settings: Settings, clock: Clock
    ) -> tuple[RetentionRuns, DiskBudget]:
        pipeline = self._pipeline
        runs = RetentionRuns(
            self._store,
            settings.retention,
            clock=clock.now,
            elapsed=lambda: clock.elapsed,
            busy=lambda: pipeline.state.depth > 0,
            newest=pipeline.latest,
        )
        budget = DiskBudget(self._store, pipeline, settings.disk_budget, refusing=runs.set_urgent)
        await budget.look()  # before anything is taken
        self._run(budget.run(), "disk-budget")
        self._sweeping = self._run(runs.run(), "retention")
        return runs, budget

    def begin_to_end(self) -> bool:
        """Start the clock of the end; False: the end has begun before.

        May be called before `stop`, as soon as it is known that the server ends: streams end, and
        devices' connections are read no more while HTTP answers the requests that it has.
        """
        first = self.ending.begin()
        self._streams.close()
        for source in self._sources():
            source.stop_taking()
        return first

    def _sources(self) -> "list[Link | Listener]":
        return [source for source in (self._link, self._listener) if source is not None]

    async def stop(self) -> None:
        """Stop everything, sources first; what has been read is committed and acknowledged.

        All of it together takes no longer than SHUTDOWN_TIMEOUT.
        """
        self.begin_to_end()
        end = self.ending
        # Who waits for the last commits need not wait for these too.
        self._rolling.cancel()
        self._sweeping.cancel()
        sources = self._sources()
        for source in sources:
            await end.stage("sources", source.close_sources(), until=ending.SOURCES)
        if not await self._drained():
            # What is left was never acknowledged: its senders have it still.
            log.error("stopped before everything was committed", left=self._pipeline.state.depth)
        for source in sources:
            await end.stage("connections", source.close(), until=ending.CONNECTIONS)
        await end.stage("presence", self._presence.close(now()), until=ending.PRESENCE)
        await end.stage("last seen", self._note_last_seen(), until=ending.LAST_SEEN)
        await end.stage("tasks", self._cancel_tasks(), until=ending.TASKS)
        await end.stage("configurations", self._publisher.close(), until=ending.CONFIGURATIONS)
        self._passwords.close()
        if (instance := self._pipeline.instance) is not None:
            await end.stage("instance", instance.end(), until=ending.STORE)
        await end.stage("store", self._store.close(), until=ending.STORE)
        self._claim.release()

    async def _drained(self) -> bool:
        """Tell whether all that waits was committed in time, by a pipeline that still runs."""
        draining = asyncio.create_task(self._pipeline.drain(), name="drain")
        waited = {draining, self._committing}
        seconds = self.ending.left(ending.DRAIN)
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        return not draining.cancelled()

    async def _note_last_seen(self) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self._registry.flush()

    async def _cancel_tasks(self) -> None:
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def abandon(self) -> None:
        """Undo a start that failed halfway: nothing has been taken, so nothing is drained."""
        await self._cancel_tasks()
        if hasattr(self, "_passwords"):
            self._passwords.close()
        if hasattr(self, "_store"):
            # Its threads would keep the process from ending.
            await self._store.close()
        if hasattr(self, "_claim"):
            self._claim.release()

    async def _open_store(self, settings: Settings) -> Store:
        if settings.auto_migrate:
            await migrate(settings.database_url)
        store = await open_store(settings.database_url, self._claim)
        try:
            (await store.migration_state()).require_head()
        except StartError:
            await store.close()
            raise
        return store

    async def _lease(self, settings: Settings, ids: IngestIds) -> Instance | None:
        if self._store.engine.name == "sqlite":
            return None  # the file is this server's: it has claimed it
        client_id = settings.mqtt_client_id if settings.mqtt_shared else None
        instance = Instance(self._store, ids, mqtt_client_id=client_id)
        await instance.start()
        self._registry.on_rollback(instance.forget)
        self._run(instance.run(), "instance")
        return instance

    async def _rejections(self, settings: Settings) -> RejectionBudget:
        rejections = RejectionBudget(
            per_source_per_hour=settings.rejected_per_source_per_hour,
            maximum_bytes=settings.rejected_max_bytes,
        )
        _, rejections.kept_bytes = await self._store.rejected.totals()
        return rejections

    async def _start_presence(self, hub: Hub, moment: int) -> None:
        self._presence = presence = PresenceWriter(
            self._store, self._registry.connected, hub, self._pipeline.instance
        )
        await presence.begin(moment)
        self._run(presence.run(), "presence")

    def _start_notices(self, services: Services, hub: Hub) -> Services:
        notices = Notices(services)
        self._registry.on_rollback(notices.forget)
        hub.add(services.streams.watched, notices.publish)
        self._run(notices.run(), "notices")
        return services

    def _start_streams(
        self, settings: Settings, hub: Hub, intake: Intake, ids: IngestIds
    ) -> Streams:
        self._pipeline.find_sensor = self._registry.number
        state = self._pipeline.state
        # Behind all that is stored, whosever it is, and before all that comes here.
        state.newest_id = ids.last
        self._streams = streams = Streams(
            per_principal=settings.max_streams_per_principal,
            maximum=settings.max_streams,
            began=intake.watch,
            resume_id=lambda: state.resume_id(now(), ids.instance),
        )
        hub.add(streams.watched, streams.publish)
        self._registry.on_change(streams.changed)
        self._registry.on_rollback(streams.forget)
        self._run(streams.run(), "streams")
        return streams

    async def _claim_looks(self) -> None:
        alike = await self._store.accounts.claim_looks()
        if alike:
            # They were there before it was asked for, or the command line was told to make them.
            count = len({younger.identifier for younger, _ in alike})
            log.warning("accounts look alike: see heliograph user alike", accounts=count)

    async def _make_administrator(self, settings: Settings) -> None:
        """Make the account of ADMIN_USERNAME where there is none; its password is never changed."""
        password = settings.admin_password
        if settings.admin_username is None or password is None:
            return
        known = await self._store.accounts.find_username(settings.admin_username)
        if known is not None:
            if not known.is_admin:
                # Whoever has signed up under this name first must not become one by that.
                log.warning("ADMIN_USERNAME is a user's who is no administrator")
            return
        reason = weakness(password.get_secret_value(), settings.admin_username)
        if reason is not None:
            log.warning("ADMIN_PASSWORD is easily guessed", reason=reason)
        with contextlib.suppress(AlreadyExistsError):
            await self._store.accounts.create(
                identifier=str(uuid.uuid4()),
                username=settings.admin_username,
                password_hash=await self._passwords.hash(password.get_secret_value()),
                created_at=now(),
                is_admin=True,
                may_look_alike=True,
                actor=Actor(ActorKind.SYSTEM, "start"),
            )
            log.info("administrator's account made", username=settings.admin_username)

    def _authenticator(
        self, settings: Settings, registry: Registry, limiter: Limiter
    ) -> Authenticator:
        if settings.api_secret_key is None:
            raise StartError("API_SECRET_KEY: missing")
        return Authenticator(
            registry,
            admin_key=settings.api_secret_key.get_secret_value(),
            device_keys=tuple(key.get_secret_value() for key in settings.device_api_keys),
            anonymous_role=settings.anonymous_role,
            accounts=self._store.accounts,
            passwords=self._passwords,
            limiter=limiter,
            failed=FailedLogIns(self._store.audit, limiter),
        )

    async def _start_mqtt(self, settings: Settings, endpoint: Endpoint, hub: Hub) -> None:
        if settings.mqtt_url:
            self._link = link = make_link(settings, endpoint)
            self._pipeline.add_source(link.pause, link.resume)
            link.dropped.known = await self._store.broker_drops.find(str(link.broker))
            self._registry.on_rollback(link.forget)
            self._run(link.run(), "mqtt-link")
            self._run(upkeep.note_drops(self._store, link), "broker-drops")
        if settings.mqtt_listen or settings.mqtt_tls_listen:
            self._listener = listener = make_listener(settings, endpoint)
            self._pipeline.add_source(listener.pause, listener.resume)
            self._registry.on_change(listener.recheck)
            self._registry.on_rollback(listener.forget)
            hub.add(listener.watched, listener.show)
            await listen(settings, listener)
            self._run(listener.sweep(), "mqtt-sweep")

    def _publish_configurations(self) -> None:
        store = self._store
        self._publisher = publisher = Publisher(
            store.publications,
            broker=self._link,
            subscribers=self._listener,
            alone=store.engine.name == "sqlite",
        )
        store.configurations.added = publisher.wake
        self._registry.on_rollback(publisher.forget)
        self._registry.on_change(publisher.wake)  # a sensor may have another name, or none
        self._run(publisher.run(), "configurations")

    def _write_mosquitto_files(self, settings: Settings) -> None:
        paths = MosquittoPaths(
            settings.mosquitto_password_path,
            settings.mosquitto_acl_path,
            settings.mosquitto_pid_path,
        )
        if paths.passwords is None and paths.acl is None:
            return
        account, rules = server_account(settings), rules_for(settings, "%u")
        self._files = files = MosquittoFiles(self._store.broker_access, paths, rules, account)
        self._registry.on_change(files.wake)
        self._run(files.run(), "mosquitto-files")

    def _run(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            # A server without one of its parts would look alive: better to start anew.
            log.critical("a task has ended", task=task.get_name(), exc_info=task.exception())
            self.failed.set()


def _guests(settings: Settings) -> Guests:
    role = settings.anonymous_role
    return Guests(Role[role.upper()], settings.anonymous_networks) if role else NO_GUESTS


def _broker_clients(
    settings: Settings, registry: Registry, authenticator: Authenticator, endpoint: Endpoint
) -> BrokerClients:
    name, password = server_account(settings)
    return BrokerClients(
        registry, authenticator, endpoint, server_name=name, server_password=password
    )

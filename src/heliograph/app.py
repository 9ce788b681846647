"""Wiring and lifecycle: sinks start first and stop last, sources the other way round.

store ◀─ pipeline ◀─ intake ◀─┬─ MQTT listener ◀── devices
  │          │                └─ web ◀── devices, users
  │          └─▶ hub ─▶ listener ─▶ subscribers
  └─ registry (the cache of sensors), maintenance
"""

import asyncio
import contextlib
import gc
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from heliograph import logs
from heliograph.errors import StartError, StoreUnavailableError
from heliograph.ingest.authentication import Authenticator
from heliograph.ingest.clock import Clock
from heliograph.ingest.endpoint import Endpoint
from heliograph.ingest.intake import Intake
from heliograph.ingest.notes import Notes
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.posts import Posts
from heliograph.ingest.registry import Registry
from heliograph.ingest.rejections import RejectionBudget
from heliograph.ingest.routes import Router
from heliograph.live.hub import Hub
from heliograph.model.identifiers import IngestIds
from heliograph.model.time import DAY, now
from heliograph.mqtt.limits import Limits
from heliograph.mqtt.listener import Listener
from heliograph.settings import Settings, ensure_api_secret_key, load_settings
from heliograph.store import Store, migrate, open_store
from heliograph.store.claim import Claim
from heliograph.web.application import create_web
from heliograph.web.services import Services

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Beside a busy event loop the writer's thread would wait 5 ms for the interpreter each time.
SWITCH_SECONDS = 0.0005
# Rows are tuples of numbers and texts, in which the garbage collector has nothing to find; left
# to count allocations by itself it takes a quarter of the ingest path's time.
COLLECT_SECONDS = 5.0
DRAIN_SECONDS = 20.0
# When sensors were last seen is answered from memory; a crash may cost so many seconds of it.
FLUSH_SECONDS = 30.0
MAINTENANCE_SECONDS = 3_600.0


class Server:
    """A running server: everything that `start` has made, in the order of its making."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()

    async def start(self) -> Services:
        """Start everything, sinks first.

        Raises:
            StartError: with one readable line.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        settings, generated = ensure_api_secret_key(self._given)
        if generated:
            log.info("admin key made", file=str(settings.data_directory / "api_secret_key"))
        self._claim = Claim(settings.database_url)
        self._store = store = await self._open_store(settings)
        newest_id, newest_receipt = await store.newest()
        self._registry = registry = Registry(store, auto_provision=settings.auto_provision)
        await registry.load()
        hub = Hub()
        self._pipeline = pipeline = Pipeline(store, hub, maximum_bytes=settings.max_in_flight_bytes)
        rejections = RejectionBudget(
            per_source_per_hour=settings.rejected_per_source_per_hour,
            maximum_bytes=settings.rejected_max_bytes,
        )
        _, rejections.kept_bytes = await store.rejected.totals()
        clock, ids = Clock(newest_receipt), IngestIds(last=newest_id)
        notes = Notes(registry, clock, ids, rejections, pipeline.state)
        pipeline.refuse, pipeline.unlearn = notes.refuse_rows, notes.unlearn
        intake = Intake(pipeline, registry, clock, ids, notes)
        authenticator = self._authenticator(settings, registry)
        router = Router(registry)
        self._committing = self._run(pipeline.run(), "pipeline")
        self._run(registry.watch(), "registry")
        self._run(self._collect(), "garbage")
        self._run(self._flush(), "last-seen")
        self._run(self._maintain(settings, rejections), "maintenance")
        self._listener = await self._listen(settings, hub, intake, router, authenticator)
        return Services(
            settings=settings,
            store=store,
            registry=registry,
            router=router,
            authenticator=authenticator,
            posts=Posts(pipeline, clock, ids, notes),
            listener=self._listener,
            started_at=now(),
        )

    async def stop(self) -> None:
        """Stop everything, sources first; what has been read is committed and acknowledged."""
        listener = self._listener
        if listener is not None:
            await listener.close_sources()
        if not await self._drained():
            # What is left was never acknowledged: its senders have it still.
            log.error("stopped before everything was committed", left=self._pipeline.state.depth)
        if listener is not None:
            await listener.close()
        with contextlib.suppress(StoreUnavailableError):
            await self._registry.flush()
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()
        self._claim.release()

    async def _drained(self) -> bool:
        """Tell whether all that waits was committed in time, by a pipeline that still runs."""
        draining = asyncio.create_task(self._pipeline.drain(), name="drain")
        waited = {draining, self._committing}
        await asyncio.wait(waited, timeout=DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        return not draining.cancelled()

    async def abandon(self) -> None:
        """Undo a start that failed halfway: nothing has been taken, so nothing is drained."""
        for task in reversed(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_store"):
            # Its threads would keep the process from ending.
            await self._store.close()
        if hasattr(self, "_claim"):
            self._claim.release()

    async def _open_store(self, settings: Settings) -> Store:
        if settings.auto_migrate:
            await migrate(settings.database_url)
        store = await open_store(settings.database_url)
        current, head = await store.migration_state()
        if current != head:
            await store.close()
            raise StartError(
                f"DATABASE_URL: the database is at revision {current or 'none'}, this version"
                f" needs {head}: run heliograph migrate"
            )
        return store

    @staticmethod
    def _authenticator(settings: Settings, registry: Registry) -> Authenticator:
        if settings.api_secret_key is None:
            raise StartError("API_SECRET_KEY: missing")
        return Authenticator(
            registry,
            admin_key=settings.api_secret_key.get_secret_value(),
            device_keys=tuple(key.get_secret_value() for key in settings.device_api_keys),
            anonymous_role=settings.anonymous_role,
        )

    async def _listen(
        self,
        settings: Settings,
        hub: Hub,
        intake: Intake,
        router: Router,
        authenticator: Authenticator,
    ) -> Listener | None:
        if not settings.mqtt_listen and not settings.mqtt_tls_listen:
            return None
        endpoint = Endpoint(
            self._store,
            self._registry,
            router,
            authenticator,
            intake,
            publish_topic=settings.mqtt_publish_topic,
        )
        limits = Limits(
            connections=settings.mqtt_max_connections,
            connections_per_address=settings.mqtt_max_connections_per_address,
            connections_per_principal=settings.mqtt_max_connections_per_principal,
            receive_maximum=settings.mqtt_receive_maximum,
            connect_seconds=settings.mqtt_connect_timeout,
            failed_logins_per_minute=settings.rate_limit_failed_logins,
        )
        listener = Listener(endpoint, limits)
        self._pipeline.add_source(listener.pause, listener.resume)
        self._registry.on_change(listener.recheck)
        hub.add(listener.watched, lambda events: listener.show(endpoint.shown(events)))
        tls = _tls_context(settings) if settings.mqtt_tls_listen else None
        addresses = [(address, None) for address in settings.mqtt_listen]
        for address, context in [*addresses, *((a, tls) for a in settings.mqtt_tls_listen)]:
            try:
                await listener.listen(address.host, address.port, context)
            except OSError as error:
                await listener.close_sources()
                raise StartError(
                    f"MQTT_LISTEN: can't listen on {address}: {os.strerror(error.errno or 0)}"
                ) from error
            log.info("listening for MQTT", address=str(address), tls=context is not None)
        self._run(listener.sweep(), "mqtt-sweep")
        return listener

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

    @staticmethod
    async def _collect() -> None:
        """Collect garbage by the clock, not by the number of allocations."""
        gc.collect()
        # What has been made by now stays: modules, routes, settings.
        gc.freeze()
        gc.disable()
        try:
            while True:
                await asyncio.sleep(COLLECT_SECONDS)
                gc.collect()
        finally:
            gc.enable()
            gc.unfreeze()

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            with contextlib.suppress(StoreUnavailableError):
                await self._registry.flush()

    async def _maintain(self, settings: Settings, rejections: RejectionBudget) -> None:
        while True:
            try:
                await self._store.deliveries.prune(now())
                await self._store.rejected.prune(now() - settings.rejected_retention_days * DAY)
                _, rejections.kept_bytes = await self._store.rejected.totals()
            except StoreUnavailableError:
                log.debug("maintenance waits for the database")
            await asyncio.sleep(MAINTENANCE_SECONDS)


def _tls_context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(str(settings.mqtt_tls_certificate), settings.mqtt_tls_key)
        if settings.mqtt_tls_ca is not None:
            context.load_verify_locations(settings.mqtt_tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"MQTT_TLS_CERTIFICATE: can't be used: {error}") from error
    return context


class Application:
    """The ASGI application: HTTP goes to the web, the lifespan starts and stops the server."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._web: Any = None
        self.server: Server | None = None
        self.services: Services | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._web(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Services]:
        """Run the server for as long as the context lasts."""
        settings = self._settings if self._settings is not None else load_settings()
        logs.configure(settings.log_level, settings.log_format)
        self.server = server = Server(settings)
        try:
            self.services = services = await server.start()
        except BaseException:
            await server.abandon()
            raise
        self._web = create_web(services)
        try:
            yield services
        finally:
            await server.stop()

    async def _terminate_on_failure(self) -> None:
        """End a process that is not ours to end, the way its owner expects."""
        if self.server is not None:
            await self.server.failed.wait()
            os.kill(os.getpid(), signal.SIGTERM)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                stage = "shutdown"
                watching = asyncio.create_task(self._terminate_on_failure(), name="failure-watch")
                await receive()
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        except Exception as error:
            # Raised, it would mean to uvicorn that there is no lifespan: it would serve on.
            if not isinstance(error, StartError):
                log.exception("the server could not start or stop", stage=stage)
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def create_app(settings: Settings | None = None) -> Application:
    """Return the application; without settings it reads the environment when it starts."""
    return Application(settings)


app = create_app()

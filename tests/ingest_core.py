"""The ingest core over a store, without sockets: what a test publishes and posts goes in here."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from time import time_ns
from typing import Any

from heliograph.access.authenticator import ADMIN, Authenticator
from heliograph.access.registry import Guests, KnownSensor, Registry
from heliograph.errors import RowError, StoreUnavailableError
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.batch import IngestIds, Message
from heliograph.ingest.clock import Clock
from heliograph.ingest.http_ingest import HttpIngest
from heliograph.ingest.instance import Instance
from heliograph.ingest.mqtt_ingest import MqttIngest
from heliograph.ingest.packet_ingest import PacketIngest
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.rejections import RejectionBudget, Rejections
from heliograph.ingest.routes import Router
from heliograph.ingest.state import PipelineState
from heliograph.live.hub import Hub
from heliograph.model.actions import LISTENER
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal, Role
from heliograph.store import Store
from heliograph.store.engine import Batch, Written
from server import eventually

ADMIN_KEY = "an-admin-key-for-tests-only"
SHARED_KEY = "a-shared-key-for-tests-only"
# 2026-01-15T12:00:00Z
NOON = 1_768_478_400


class TroubledStore:
    """The store, with faults to order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.batches: list[Batch] = []
        self.refuses: Callable[[tuple[Any, ...]], bool] | None = None
        self.refuses_batch: Callable[[Batch], bool] | None = None
        self.outages = 0
        self.ambiguous = 0
        self.free = asyncio.Event()
        self.free.set()
        self.started = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, batch: Batch) -> Written:
        self.started.set()
        await self.free.wait()
        if self.outages:
            self.outages -= 1
            raise StoreUnavailableError("an outage to order")
        rows = [*batch.measurements, *batch.logs, *batch.heartbeats]
        if self.refuses is not None and any(map(self.refuses, rows)):
            raise RowError("a row to refuse")
        if self.refuses_batch is not None and self.refuses_batch(batch):
            raise RowError("a batch to refuse")
        written = await self._store.write(batch)
        self.batches.append(batch)
        if self.ambiguous:
            self.ambiguous -= 1
            raise StoreUnavailableError("the answer was lost on its way")
        return written


class Origin:
    """Takes back what was settled, and knows the order of it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def settled(self, messages: list[Message]) -> None:
        self.messages += messages

    @property
    def tokens(self) -> list[int]:
        return [token for message in self.messages for token in message.tokens]


class Core:
    """The parts of the ingest core, wired as the server wires them."""

    def __init__(
        self,
        store: Store,
        newest: tuple[int, int],
        *,
        auto_provision: bool = False,
        maximum_bytes: int = 32 << 20,
        per_source_per_hour: int = 1_000,
        rejected_bytes: int = 1 << 20,
        anonymous_role: str = "",
        clock_ahead: int = 0,
    ) -> None:
        self.store = TroubledStore(store)
        guests = Guests(Role[anonymous_role.upper() or "NONE"])
        self.registry = Registry(self.store, auto_provision=auto_provision, guests=guests)
        self.hub = Hub()
        self.events: list[Any] = []
        self._watching = False
        self.hub.add(lambda: self._watching, self.events.extend)
        self.rejections = RejectionBudget(
            per_source_per_hour=per_source_per_hour, maximum_bytes=rejected_bytes
        )
        # By so many microseconds, from the start on.
        self.clock = Clock(newest[1], wall_ns=lambda: time_ns() + clock_ahead * 1_000)
        self.ids = IngestIds(last=newest[0])
        self.pipeline = Pipeline(
            self.store,
            self.hub,
            self.registry,
            Rejections(self.rejections, self.clock, self.ids, PipelineState()),
            NewAttributes(self.registry.number, self.clock.moment),
            maximum_bytes=maximum_bytes,
        )
        packets = PacketIngest(
            self.registry,
            self.pipeline,
            self.ids,
            publish_topic="commands",
            through=(LISTENER,),
        )
        self.http = HttpIngest(self.registry, self.pipeline, self.clock, self.ids, packets)
        self.router = Router(self.registry)
        self.authenticator = Authenticator(
            self.registry,
            admin_key=ADMIN_KEY,
            device_keys=(SHARED_KEY,),
            anonymous_role=anonymous_role,
        )
        self.mqtt = MqttIngest(
            self.store,
            self.registry,
            self.router,
            self.authenticator,
            self.pipeline,
            self.clock,
            self.ids,
            packets=packets,
            publish_topic="commands",
            subscribe_topic="packets/+",
        )
        self.origin = Origin()
        self._token = 0

    @property
    def watching(self) -> bool:
        """Whether somebody watches; who begins to tells the pipeline so."""
        return self._watching

    @watching.setter
    def watching(self, watching: bool) -> None:
        self._watching = watching
        if watching:
            self.pipeline.watch()

    @property
    def state(self) -> Any:
        return self.http.state

    async def device(self, device_id: str | None = None, **members: Any) -> KnownSensor:
        """Register a device whose key is its name."""
        key_hash = hash_key(device_id) if device_id else None
        identifier = str(uuid.uuid4())
        options = {"device_id": device_id, "key_hash": key_hash, "created_at": 1, **members}
        await self.store.sensors.create(identifier=identifier, **options)
        await self.registry.changed()
        found = await self.registry.find(identifier)
        assert found is not None
        return found

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        principal: Principal = ADMIN,
        origin: Origin | None = None,
        token: int | None = None,
        delivery: bytes | None = b"session",
        redelivered: bool = False,
    ) -> int:
        """Publish, and return the token by which it will be settled."""
        route = await self.mqtt.route(principal, topic)
        if token is None:
            self._token += 1
            token = self._token
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        origin = origin or self.origin
        self.mqtt.receive(origin, token, route, payload, delivery, redelivered)
        return token

    async def settled(self) -> None:
        """Return when nothing is under way any more."""
        await eventually(lambda: self.state.depth == 0)

    @contextlib.asynccontextmanager
    async def blocked(self) -> AsyncIterator[None]:
        """Let the writer begin a batch and hold it: what comes meanwhile waits together."""
        store = self.store
        store.free.clear()
        store.started.clear()
        self.mqtt.receive_oversize(Origin(), 0, await self.mqtt.route(ADMIN, "nowhere/x"), b"", 0)
        await store.started.wait()
        try:
            yield
        finally:
            store.free.set()
        await self.settled()

    async def post(self, sensor: KnownSensor, payload: Any, **options: Any) -> Any:
        """Post measurements as the administrator."""
        kind = options.pop("kind")
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        source = options.pop("source", "POST /test")
        return await self.http.post(kind, sensor, body, ADMIN, source, **options)

    async def rows(self, sensor: KnownSensor) -> list[Any]:
        """Return the sensor's measurements, oldest first."""
        measurements = self.store.measurements
        return list(
            await measurements.page(sensor.number, key=None, direction="next", limit=10_000)
        )

    async def values(self, sensor: KnownSensor) -> list[Any]:
        """Return the sensor's measured values, oldest first."""
        return [json.loads(bytes(row.value)) for row in await self.rows(sensor)]

    async def reasons(self) -> list[str]:
        """Return the reasons of the rejected messages but the core's own, oldest first."""
        return [m.reason for m in await self.rejected()]

    async def rejected(self) -> list[Any]:
        """Return the rejected messages but those of `blocked`, oldest first."""
        kept = await self.store.rejected.list(limit=1_000)
        return [message for message in reversed(kept) if message.source != "nowhere/x"]


@contextlib.asynccontextmanager
async def running(store: Store, *, leased: bool = False, **options: Any) -> AsyncIterator[Core]:
    """Run the core on a store, as after a start of the server; `leased`: as one of several."""
    core = Core(store, await store.newest(), **options)
    if leased:
        core.pipeline.instance = Instance(store, core.ids)
        await core.pipeline.instance.start()
    await core.registry.load()
    task = asyncio.create_task(core.pipeline.run(), name="pipeline")
    try:
        yield core
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def clock_moved(clock: Clock, microseconds: int) -> Iterator[None]:
    """Move the wall clock of the ingest core, which the monotonic one knows nothing of."""
    wall_ns = clock.wall_ns
    clock.wall_ns = lambda: time_ns() + microseconds * 1_000
    try:
        yield
    finally:
        clock.wall_ns = wall_ns

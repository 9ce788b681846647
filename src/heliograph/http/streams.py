"""Server-Sent Events: a network's stream, and all that a caller may see.

A stream of a network begins with its activity, and one that is resumed with what was committed
since the last event that its client has.
"""

import asyncio
from typing import NamedTuple

import msgspec
from starlette.types import Receive, Scope, Send

from heliograph.access.registry import Registry
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.http.configurations import ConfigurationEntry
from heliograph.http.direct import disconnected, outlet_of
from heliograph.http.paths import PREFIX
from heliograph.http.representation import as_of_now
from heliograph.http.services import Services
from heliograph.http.watching import Watch, Watchers, listening, parameters
from heliograph.live import positions, sse
from heliograph.live.frames import Frame, encode, frame, notice
from heliograph.live.notices import PRESENCE
from heliograph.live.positions import Position
from heliograph.live.streams import SHUTTING_DOWN
from heliograph.live.viewer import Viewer
from heliograph.model.identifiers import MAXIMUM_INSTANCE, ingest_id_time
from heliograph.model.presence import presence
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND, now, to_epoch_seconds
from heliograph.store import Store
from heliograph.store.measurements import SensorActivity
from heliograph.store.telemetry import Received

EVENTS = f"{PREFIX}/events"
EVENTS_OF_NETWORK = f"{PREFIX}/streams/{{network_identifier}}"
ACTIVITY = "activity"
KINDS = frozenset(
    (ACTIVITY, "measurement", "log", "heartbeat", "configuration", "presence", "alert", "rule")
)
RETRY_MILLISECONDS = 2_000
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


# Of the activity: how wide its intervals are, and how far it goes back.
WIDTH = 4 * HOUR
LENGTH = 28 * DAY
# A network of more sensors is shown by its first ones.
MAXIMUM_SENSORS = 1_000
# A client that comes again within it gets what was counted before.
KEPT = 60 * SECOND
MAXIMUM_KEPT = 100

# Of what is resumed: how old the last event may be, and how far ahead of the clock.
OLDEST = HOUR
AHEAD = MINUTE
MAXIMUM_EVENTS = 10_000
MAXIMUM_BYTES = 64 << 20
# What is looked through for them: the messages of all networks.
MAXIMUM_SCANNED = 50_000
PAGE_EVENTS = 500
PAGE_BYTES = 1 << 20
READING_AT_ONCE = 4
# What a client has seen of another server is shown here in a moment, if that is told or looked for.
ARRIVAL_SECONDS = 15.0
_GREATEST = (1 << 63) - 1

TOO_OLD = "too old"
TOO_MANY = "too many"
UNKNOWN = "unknown"


class _Opened(NamedTuple):
    """A stream that has begun: who watches what, and how it is written to them."""

    viewer: Viewer
    watch: Watch
    send: Send

    async def write(self, data: bytes) -> None:
        """Write a part of the answer; return when the client takes more."""
        part = {"type": "http.response.body", "body": data, "more_body": True}
        await self.viewer.sent(self.send(part))


class Stream:
    """The routes of Server-Sent Events: an ASGI application, without a response object."""

    def __init__(self, services: Services) -> None:
        self._streams = services.streams
        self._watchers = Watchers(services)
        self._replay = _Replay(services)
        self._activity = _Activity(services.store, services.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream, until it ends."""
        async with self._watchers.viewer(scope, receive) as viewer:
            principal = await self._watchers.caller(scope)
            given = parameters(scope)
            kinds = _kinds(given.get("kind", []))
            network = scope["path_params"].get("network_identifier")
            watch = await self._watchers.watch(principal, given.get("sensor", []), kinds, network)
            self._watchers.enter(viewer, principal, scope)
            viewer.allowed = watch.check(self._streams, viewer)
            last_event_id = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
            last_event_id = last_event_id or given.get("last_event_id", [""])[-1]
            async with listening(viewer, disconnected(receive), "stream's client"):
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                viewer.outlet = outlet_of(scope)
                await self._write(_Opened(viewer, watch, send), last_event_id)
                body = sse.retry(RETRY_MILLISECONDS)
                await send({"type": "http.response.body", "body": body})

    async def _write(self, stream: _Opened, last_event_id: str) -> None:
        viewer = stream.viewer
        await stream.write(sse.retry(RETRY_MILLISECONDS))
        try:
            await self._begin(stream, last_event_id)
            while viewer.closed is None or viewer.closed == SHUTTING_DOWN:
                dropped, chunks = await viewer.take()
                if not chunks:
                    break
                lagged = sse.lagged(dropped) if dropped else b""
                await stream.write(b"".join([lagged, *(chunk.data for chunk in chunks)]))
        except StoreUnavailableError:
            pass  # the client comes again by itself

    async def _begin(self, stream: _Opened, last_event_id: str) -> None:
        watch = stream.watch
        if not last_event_id:
            # First of all: what the snapshot does not count any more is sent.
            await self._replay.begin(stream)
        if watch.network is not None and (watch.kinds is None or ACTIVITY in watch.kinds):
            snapshot = await self._activity.snapshot(watch.network)
            if not stream.viewer.allowed():
                return
            await stream.write(sse.event(ACTIVITY, snapshot))
        if last_event_id:
            await self._replay.resume(stream, last_event_id)


class _Activity:
    """Counts a network's measurements, once for all who ask at about the same time."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._measurements = store.measurements
        self._registry = registry
        # By network: when it was counted, and the JSON of each sensor, by its UUID.
        self._kept: dict[str, tuple[int, asyncio.Task[list[tuple[str, bytes]]]]] = {}

    async def snapshot(self, network: str) -> bytes:
        """Return JSON: of each sensor the intervals with measurements, and their counts.

        Raises:
            StoreUnavailableError: not now.
        """
        moment = now()
        counted_at, task = self._kept.get(network, (0, None))
        failed = task is not None and task.done() and (task.cancelled() or task.exception())
        if task is None or failed or not moment - KEPT < counted_at <= moment:
            self._kept.pop(network, None)
            while len(self._kept) >= MAXIMUM_KEPT:
                del self._kept[next(iter(self._kept))]
            task = asyncio.create_task(self._count(network, moment), name=f"activity {network}")
            self._kept[network] = moment, task
        # One who leaves must not end it for the others.
        counted = await asyncio.shield(task)
        # A change brings its sensor into memory: others are where they were.
        known = [(self._registry.cached(name), text) for name, text in counted]
        still = [text for each, text in known if each is None or each.network_identifier == network]
        return b"[%b]" % b",".join(still)

    async def _count(self, network: str, moment: int) -> list[tuple[str, bytes]]:
        end = moment // WIDTH * WIDTH + WIDTH
        found = await self._measurements.activity(
            network, since=end - LENGTH, until=end, width=WIDTH, limit=MAXIMUM_SENSORS
        )
        return [(sensor.identifier, encode(_representation(sensor))) for sensor in found]


def _representation(sensor: SensorActivity) -> dict[str, object]:
    return {
        "sensor_identifier": sensor.identifier,
        "sensor_name": sensor.sensor_name,
        "bucket_timestamps": [to_epoch_seconds(bucket) for bucket in sensor.buckets],
        "measurement_counts": sensor.counts,
    }


class _Page(NamedTuple):
    """Rows from one id to another; `kinds` of those that are wanted, none: not to be read."""

    first: int
    last: int
    kinds: frozenset[Kind]


class _Way(NamedTuple):
    """What lies between where a client stands and where all stand who watch here."""

    after: Position
    until: Position
    # The servers of which something is found there.
    met: frozenset[int] = frozenset()

    @property
    def first(self) -> int:
        """The least id behind which some of it lies."""
        return min(self.after.values())

    def passes(self, ingest_id: int) -> bool:
        """Return whether an id lies on it."""
        return positions.passed(self.after, self.until, ingest_id)

    def beside(self, ingest_id: int) -> bytes:
        """Return what stands beside an id for who has got there."""
        if len({*self.after, *self.until, *self.met}) == 1:
            return b""
        reached = positions.on_the_way(self.after, self.until, ingest_id, self.met)
        return positions.beside(reached, ingest_id & MAXIMUM_INSTANCE)

    def end(self, index: list[Received]) -> Position:
        """Return where one stands who has been sent all of it, which is this."""
        reached = {each.id & MAXIMUM_INSTANCE: each.id for each in index}
        return {**self.after, **reached, **self.until}


class _Replay:
    """Reads what streams have missed, for a few of them at a time."""

    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._replay = services.store.replay
        self._streams = services.streams
        self._turn = asyncio.Semaphore(READING_AT_ONCE)

    async def begin(self, stream: _Opened) -> None:
        """Watch from now on; the client is told from which id on, should it come again."""
        self._streams.watch(stream.viewer, stream.watch.selection())
        await stream.write(self._streams.heartbeat())

    async def resume(self, stream: _Opened, last_event_id: str) -> None:
        """Write what came after an event and watch from there on, or say that there is a gap.

        Raises:
            StoreUnavailableError: not now.
        """
        viewer, watch = stream.viewer, stream.watch
        after = positions.parse(last_event_id)
        reason = _unusable(after)
        if after is None or reason is not None:
            await self._reset(stream, reason or UNKNOWN)
            return
        if not await self._arrive(after):
            await self._reset(stream, UNKNOWN)
            return
        # Far from the present without watching, so that the queue does not fill meanwhile.
        for watching in (False, True):
            if watching:
                self._streams.watch(viewer, watch.selection())
            # What is behind it is published from now on, and so is in the queue.
            way = _Way(after, self._streams.watermarks.position)
            index = await self._index(way)
            pages = None if index is None else await self._plan(index, watch)
            if index is None or pages is None:
                await self._reset(stream, TOO_MANY)
                return
            way = way._replace(met=frozenset(each.id & MAXIMUM_INSTANCE for each in index))
            sent: set[int] = set()
            for page in pages:
                if viewer.closed is not None:
                    return
                data = await self._read(page, way, watch, sent)
                if data:
                    await stream.write(data)
            after = way.end(index)
            # Of a server that nothing was known of.
            viewer.forget(frozenset(sent))

    async def _reset(self, stream: _Opened, reason: str) -> None:
        await stream.write(sse.reset(reason))
        await self.begin(stream)

    async def _arrive(self, after: Position) -> bool:
        """Wait until all that a client has seen of other servers was published here; False: not."""
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                await self._streams.watermarks.reach(after)
        except TimeoutError:
            return False
        return True

    async def _index(self, way: _Way) -> list[Received] | None:
        """Return what there is to read; None: it is too much."""
        async with self._turn:
            index = await self._replay.index(way.first, _GREATEST, MAXIMUM_SCANNED + 1)
        if len(index) > MAXIMUM_SCANNED:
            return None
        return [each for each in index if way.passes(each.id)]

    async def _plan(self, index: list[Received], watch: Watch) -> list[_Page] | None:
        """Return what to read of it; None: it is too much."""
        wanted = await self._wanted(index, watch)
        kinds = watch.kinds
        chosen = [
            each
            for each in index
            if each.sensor in wanted and (kinds is None or each.kind.value in kinds)
        ]
        if len(chosen) > MAXIMUM_EVENTS or sum(e.size for e in chosen) > MAXIMUM_BYTES:
            return None
        return _pages(index, {each.id for each in chosen})

    async def _wanted(self, index: list[Received], watch: Watch) -> set[int]:
        selection = watch.selection()
        wanted: set[int] = set()
        for number in {each.sensor for each in index}:
            sensor = await self._registry.find_number(number)
            if sensor is None or not sensor.identifier:
                continue
            if selection.covers(sensor.network_identifier, number):
                wanted.add(number)
        return wanted

    async def _read(self, page: _Page, way: _Way, watch: Watch, sent: set[int]) -> bytes:
        if not page.kinds:
            return b""
        async with self._turn:
            rows = await self._replay.rows(sorted(page.kinds), page.first, page.last)
        if not watch.is_allowed():
            return b""  # its stream is about to be ended
        selection = watch.selection()
        parts: list[bytes] = []
        for kind, row in rows:
            if not way.passes(row[0]):
                continue
            sensor = await self._registry.find_number(row[1])
            if sensor is None or not selection.wants(
                sensor.network_identifier, sensor.number, kind.value
            ):
                continue
            names = sensor.number, sensor.identifier, sensor.device_id, sensor.network_identifier
            shown = frame(kind, names, row)
            shown.beside = way.beside(row[0])
            parts.append(shown.sse)
            sent.add(row[0])
        return b"".join(parts)


def _unusable(after: Position | None) -> str | None:
    """Return why nothing can be resumed from there; None: it can."""
    if not after:
        return UNKNOWN
    moment = now()
    if ingest_id_time(max(after.values())) > moment + AHEAD:
        return UNKNOWN
    if ingest_id_time(min(after.values())) < moment - OLDEST:
        return TOO_OLD
    return None


def _pages(index: list[Received], wanted: set[int]) -> list[_Page]:
    """Return the rows in pieces that are bounded with all that lies between the wanted ones."""
    pages: list[_Page] = []
    at = 0
    while at < len(index):
        end, size = at, 0
        kinds: set[Kind] = set()
        while end < len(index) and end - at < PAGE_EVENTS and (not size or size < PAGE_BYTES):
            size += index[end].size + 1
            if index[end].id in wanted:
                kinds.add(index[end].kind)
            end += 1
        pages.append(_Page(index[at].id, index[end - 1].id, frozenset(kinds)))
        at = end
    return pages


def _kinds(given: list[str]) -> frozenset[str] | None:
    kinds = frozenset(kind for text in given for kind in text.split(",") if kind)
    if kinds - KINDS:
        detail = f"kind should be one of {', '.join(sorted(KINDS))}"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
    return kinds or None


async def look_up(services: Services, number: int, revision: int) -> Frame | None:
    """Return the event of a sensor's revision, or of its presence; None: it is gone."""
    sensor = await services.store.sensors.find_number(number)
    if sensor is None or sensor.deleted_at is not None:
        return None
    if revision == PRESENCE:
        return _presence(as_of_now(sensor, services.registry))
    found = await services.store.configurations.page(
        number, revision=revision - 1, direction="next", limit=1
    )
    if not found or found[0].revision != revision:
        return None
    shown = msgspec.structs.asdict(ConfigurationEntry.of(found[0]))
    return notice("configuration", _names(sensor), shown)


def _presence(sensor: Sensor) -> Frame:
    connected, since = presence(sensor)
    timestamp = None if since is None else to_epoch_seconds(since)
    members = {"connected": connected, "timestamp": timestamp}
    return notice(Kind.PRESENCE.value, _names(sensor), members)


def _names(sensor: Sensor) -> tuple[int, str, str | None, str]:
    return sensor.number, sensor.identifier, sensor.device_id, sensor.network_identifier

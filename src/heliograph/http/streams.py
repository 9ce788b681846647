"""Server-Sent Events: a network's stream, and all that a caller may see."""

import asyncio
from typing import NamedTuple

import msgspec
from starlette.types import Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.http.activity import Activity
from heliograph.http.configurations import ConfigurationEntry
from heliograph.http.direct import cut_off, outlet_of
from heliograph.http.paths import PREFIX
from heliograph.http.replay import Replay
from heliograph.http.representation import as_of_now
from heliograph.http.services import Services
from heliograph.http.watching import Watch, Watchers, parameters
from heliograph.live import sse
from heliograph.live.frames import Frame, notice
from heliograph.live.notices import PRESENCE
from heliograph.live.streams import SHUTTING_DOWN
from heliograph.live.viewer import Viewer
from heliograph.model.presence import presence
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor
from heliograph.model.time import to_epoch_seconds

ACTIVITY = "activity"
KINDS = frozenset(
    (ACTIVITY, "measurement", "log", "heartbeat", "configuration", "presence", "alert", "rule")
)
RETRY_MILLISECONDS = 2_000
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class Asked(NamedTuple):
    """What a request asks for. `last_event_id` is empty where it resumes nothing."""

    watch: Watch
    with_activity: bool
    last_event_id: str


class Stream:
    """A route of Server-Sent Events: an ASGI application, without a response object."""

    template = f"{PREFIX}/events"

    def __init__(
        self,
        services: Services,
        watchers: Watchers,
        replay: Replay,
        activity: Activity,
    ) -> None:
        self.watchers = watchers
        self._streams = services.streams
        self._replay = replay
        self._activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream, until it ends."""
        viewer = Viewer()
        try:
            asked = await self._open(scope, viewer)
            await self._run(viewer, asked, scope, receive, send)
        except asyncio.CancelledError:
            if viewer.closed is None:
                raise
            await cut_off(scope, receive)
        finally:
            self._streams.leave(viewer)

    async def watch(
        self, principal: Principal, _scope: Scope, sensors: list[str], kinds: frozenset[str] | None
    ) -> Watch:
        """Return what the caller watches.

        Raises:
            HeliographError: the caller may not.
        """
        return await self.watchers.everything(principal, sensors, kinds)

    async def _open(self, scope: Scope, viewer: Viewer) -> Asked:
        principal = await self.watchers.caller(scope)
        given = parameters(scope)
        kinds = _kinds(given.get("kind", []))
        watch = await self.watch(principal, scope, given.get("sensor", []), kinds)
        self.watchers.enter(viewer, principal, scope)
        viewer.allowed = watch.check(self._streams, viewer)
        header = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1")
        with_activity = watch.network is not None and (kinds is None or ACTIVITY in kinds)
        return Asked(watch, with_activity, header or given.get("last_event_id", [""])[-1])

    async def _run(
        self, viewer: Viewer, asked: Asked, scope: Scope, receive: Receive, send: Send
    ) -> None:
        viewer.task = asyncio.current_task()
        gone = asyncio.create_task(_disconnected(receive), name="stream's client")
        gone.add_done_callback(lambda _: viewer.close("disconnected"))
        writing = _Writing(viewer, send)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            viewer.outlet = outlet_of(scope)
            await writing(sse.retry(RETRY_MILLISECONDS))
            try:
                await self._begin(viewer, asked, writing)
                while viewer.closed is None or viewer.closed == SHUTTING_DOWN:
                    dropped, chunks = await viewer.take()
                    if not chunks:
                        break
                    await writing(
                        b"".join(
                            [sse.lagged(dropped) if dropped else b"", *(c.data for c in chunks)]
                        )
                    )
            except StoreUnavailableError:
                pass  # the client comes again by itself
            await send({"type": "http.response.body", "body": sse.retry(RETRY_MILLISECONDS)})
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _begin(self, viewer: Viewer, asked: Asked, writing: "_Writing") -> None:
        if not asked.last_event_id:
            # First of all: what the snapshot does not count any more is told.
            await self._replay.begin(viewer, asked.watch, writing)
        if asked.with_activity and asked.watch.network is not None:
            snapshot = await self._activity.snapshot(asked.watch.network)
            if not viewer.allowed():
                return
            await writing(sse.event(ACTIVITY, snapshot))
        if asked.last_event_id:
            await self._replay.resume(viewer, asked.watch, asked.last_event_id, writing)


class NetworkStream(Stream):
    """The stream of one network."""

    template = f"{PREFIX}/streams/{{network_identifier}}"

    async def watch(
        self, principal: Principal, scope: Scope, sensors: list[str], kinds: frozenset[str] | None
    ) -> Watch:
        """Return what the caller watches.

        Raises:
            HeliographError: the caller may not.
        """
        network = scope["path_params"]["network_identifier"]
        return await self.watchers.network(principal, network, sensors, kinds)


class _Writing:
    """Writes a part of the answer; meanwhile it is known since when the client keeps it waiting."""

    __slots__ = ("_send", "_viewer")

    def __init__(self, viewer: Viewer, send: Send) -> None:
        self._viewer = viewer
        self._send = send

    async def __call__(self, data: bytes) -> None:
        """Write; return when the client takes more."""
        viewer = self._viewer
        viewer.writing_since = viewer.touched_at = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        viewer.writing_since = None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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

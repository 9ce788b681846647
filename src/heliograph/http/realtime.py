"""WebSockets: readings of a device, of several, or of all that a caller may see."""

import asyncio
import dataclasses
from typing import Any, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.http.access import Rights
from heliograph.http.direct import outlet_of
from heliograph.http.errors import STATUS
from heliograph.http.paths import PREFIX
from heliograph.http.services import Services
from heliograph.http.watching import MAXIMUM_SENSORS, Watch, Watchers, listening
from heliograph.live.frames import encode
from heliograph.live.streams import REVOKED, SHUTTING_DOWN
from heliograph.live.viewer import Viewer
from heliograph.model.principal import Principal

READINGS = frozenset(("measurement",))
# What a socket's address may have in its query.
PARAMETERS = frozenset(("ticket",))
LARGEST_MESSAGE = 16 << 10
# By the status that HTTP would answer; any other error: try again later.
CLOSE_CODES = {401: 4401, 403: 4403, 404: 4404, 422: 4422}
TRY_AGAIN_LATER = 1013
GOING_AWAY = 1001
ACK = b'{"type":"ack"}'
PONG = b'{"type":"pong"}'
NO_COMMAND = (
    'A message is JSON like {"action": "subscribe", "device_id": "greenhouse-1"}; the action is'
    " ping, subscribe or unsubscribe"
)


class Command(msgspec.Struct):
    """What a client may send."""

    action: Literal["ping", "subscribe", "unsubscribe"]
    device_id: str | None = None


_decode = msgspec.json.Decoder(Command).decode


class Realtime:
    """The routes of WebSockets: an ASGI application."""

    everything = f"{PREFIX}/realtime/all"
    template = f"{PREFIX}/realtime/subscribe/{{device_id}}"

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watchers = Watchers(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the socket, until it ends."""
        await receive()  # websocket.connect
        async with self._watchers.viewer(scope, receive) as viewer:
            try:
                principal = await self._watchers.caller(scope)
                watch = await self._watch(principal, scope["path_params"].get("device_id"))
                self._watchers.enter(viewer, principal, scope)
            except (HeliographError, StoreUnavailableError) as error:
                limited = self._services.access.limits.refused(scope)
                await _close_at_once(limited or error, send)
                return
            await send({"type": "websocket.accept"})
            viewer.outlet = outlet_of(scope)
            socket = _Socket(self._services, principal, watch, viewer, receive, send)
            await socket.say(ACK)
            viewer.allowed = watch.check(self._services.streams, viewer)
            self._services.streams.watch(viewer, watch.selection())
            async with listening(viewer, socket.listen(), "socket's client"):
                await socket.show()

    async def _watch(self, principal: Principal, device_id: str | None) -> Watch:
        if device_id is None:
            return await self._watchers.watch(principal, kinds=READINGS, as_messages=True)
        return await self._watchers.device(principal, device_id, READINGS)


@dataclasses.dataclass
class _Socket:
    """An open socket: one task writes, another one takes what the client sends, and answers it."""

    services: Services
    principal: Principal
    watch: Watch
    viewer: Viewer
    receive: Receive
    send: Send
    turn: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    async def show(self) -> None:
        """Write what is shown, until it ends."""
        viewer = self.viewer
        while viewer.closed is None or viewer.closed == SHUTTING_DOWN:
            dropped, chunks = await viewer.take()
            if not chunks:
                break
            if dropped:
                await self.say(b'{"type":"lagged","count":%d}' % dropped)
            for chunk in chunks:
                # A sign of life is no event, and the protocol has pings of its own.
                for part in chunk.parts if chunk.count else ():
                    await self.say(part)
        if viewer.closed == REVOKED:
            await self.send(_close(4401, "The credential is no longer valid"))
        elif viewer.closed == SHUTTING_DOWN:
            await self.send(_close(GOING_AWAY, "The server is shutting down"))

    async def say(self, message: bytes) -> None:
        """Send a message; return when the client takes more."""
        async with self.turn:
            await self.viewer.sent(self.send({"type": "websocket.send", "text": message.decode()}))

    async def listen(self) -> None:
        """Answer what the client asks, until it goes."""
        while True:
            message = await self.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or message.get("bytes") or ""
            if len(text) > LARGEST_MESSAGE:
                await self.say(_error(ErrorCode.PAYLOAD_TOO_LARGE, "The message is too large"))
            else:
                await self.say(await self._answer(text))

    async def _answer(self, text: str | bytes) -> bytes:
        """Do what the message says and return the answer."""
        try:
            command = _decode(text)
            if command.action == "ping":
                return PONG
            return await self._subscribe(command)
        except (msgspec.DecodeError, UnicodeError):
            return _error(ErrorCode.VALIDATION_FAILED, NO_COMMAND)
        except HeliographError as error:
            return _error(error.code, str(error.detail))
        except StoreUnavailableError:
            return _error(ErrorCode.DATABASE_UNAVAILABLE, "The database is not available")

    async def _subscribe(self, command: Command) -> bytes:
        if command.device_id is None:
            raise HeliographError(ErrorCode.DEVICE_ID_MISSING, "device_id is missing")
        sensor = await Rights(self.principal, self.services.registry).device(command.device_id)
        watch = self.watch
        if watch.sensors is not None:
            if command.action == "subscribe":
                watch.sensors |= {sensor.number}
            else:
                watch.sensors -= {sensor.number}
            if len(watch.sensors) > MAXIMUM_SENSORS:
                watch.sensors -= {sensor.number}
                detail = f"A socket may name {MAXIMUM_SENSORS} devices at most"
                raise HeliographError(ErrorCode.TOO_MANY_STREAMS, detail)
            self.services.streams.watch(self.viewer, watch.selection())
        elif command.action == "unsubscribe":
            detail = "This socket shows all devices"
            raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
        return encode({"type": "ack", "action": command.action, "device_id": command.device_id})


async def refuse(error: HeliographError, receive: Receive, send: Send) -> None:
    """Answer a socket that is not to be opened."""
    await receive()  # websocket.connect
    await _close_at_once(error, send)


async def _close_at_once(error: HeliographError | StoreUnavailableError, send: Send) -> None:
    # A browser learns why only from a socket that was accepted.
    await send({"type": "websocket.accept"})
    await send(_refusal(error))


def _error(code: ErrorCode, detail: str) -> bytes:
    return encode({"type": "error", "code": code.value, "detail": detail})


def _refusal(error: HeliographError | StoreUnavailableError) -> dict[str, Any]:
    if isinstance(error, StoreUnavailableError):
        return _close(TRY_AGAIN_LATER, "The database is not available")
    return _close(CLOSE_CODES.get(STATUS[error.code], TRY_AGAIN_LATER), str(error.detail))


def _close(code: int, reason: str) -> dict[str, Any]:
    return {"type": "websocket.close", "code": code, "reason": reason[:120]}

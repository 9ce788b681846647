"""Connections: those of HTTP bounded in number, and in what each may keep waiting.

That is the rest of a head, requests before those ahead of them are answered, and an answer that
its client does not take. Those of streams and sockets may be written to past ASGI.
"""

import asyncio
import ipaddress
import logging
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import Any, ClassVar

import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from heliograph.address import is_loopback
from heliograph.errors import ErrorCode
from heliograph.http.answers import Answer, encode, lines_of
from heliograph.http.bodies import content_length
from heliograph.http.direct import CONNECTION
from heliograph.live.viewer import Chunk, Outlet
from heliograph.per_address import PerAddress

log = structlog.get_logger()

# A device on a bad link sends its head in one packet, and repeats it within seconds.
HEAD_SECONDS = 10.0
# The parser itself would collect a head of any size.
MAXIMUM_HEAD_BYTES = 64 << 10
# Requests of a connection that wait for the answers to those before them; from so many on nothing
# more is read.
MAXIMUM_PIPELINED = 4
# What is parsed without looking whether there are so many, in lines: a request has three at least.
LINES_AT_ONCE = 32
# An answer of which its client has taken nothing for so long ends the connection.
UNREAD_SECONDS = 30.0
# From a client that has been told that there were too many requests nothing is read for so long:
# one that repeats them at once would cost as much by its refusals.
REFUSED_SECONDS = 1.0
# What a client has for its first request that was let in as the server began to end.
FIRST_REQUEST_SECONDS = 1.0
# Parsed at once of what a WebSocket's client has sent: up to 170 frames.
WEBSOCKET_PART_BYTES = 1 << 10
# Frames of a socket that carry nothing (pings, pieces of a message, messages), in so many seconds.
MAXIMUM_EMPTY_FRAMES = 1_000
EMPTY_FRAMES_SECONDS = 60.0
NO_HOST = "A request of HTTP/1.1 has one Host header"
_NAME = itemgetter(0)
MAXIMUM_HTTP_CONNECTIONS = 1_024
MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS = 256
SECONDS_BETWEEN_WARNINGS = 60.0


class _Warnings:
    """Warns at most once a minute: who can cause it can cause it thousands of times in a second."""

    def __init__(self) -> None:
        self._from = 0.0

    def warn(self, event: str, **details: Any) -> None:
        """Write a line to the log, if one is due."""
        now = asyncio.get_running_loop().time()
        if now >= self._from:
            self._from = now + SECONDS_BETWEEN_WARNINGS
            log.warning(event, **details)


class _WithOutlet(asyncio.Protocol):
    """Keeps the outlet of what is written past ASGI, of which there is one at a time at most."""

    outlet: Outlet | None = None
    transport: asyncio.Transport

    @property
    def takes_bytes(self) -> bool:
        """Whether the client keeps up, and is there."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """Have events wait in their queue, until the client takes more."""
        super().pause_writing()
        self.tell_outlet()

    def resume_writing(self) -> None:
        """Have events written at once again."""
        super().resume_writing()
        self.tell_outlet()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nothing be written any more."""
        super().connection_lost(exc)
        self.tell_outlet()

    def abort(self) -> None:
        """End it at once, whatever waits to be written."""
        self.transport.abort()

    def tell_outlet(self) -> None:
        """Notify the outlet, if there is one, of the current state."""
        if self.outlet is not None:
            self.outlet.ready = self.takes_bytes

    def _open(self, write: Callable[[bytes], None], frame: Callable[[Chunk], bytes]) -> Outlet:
        self.outlet = Outlet(write, frame)
        self.tell_outlet()
        return self.outlet


class _Naming(logging.LoggerAdapter[logging.Logger]):
    """uvicorn's logger, whose lines about a connection have its address."""

    @property
    def level(self) -> int:
        return self.logger.level


class _Flow(FlowControl):
    """Reads no more while too many requests wait, whatever those before them ask for."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.is_full = False

    def resume_reading(self) -> None:
        """Read on, if there is room."""
        if not self.is_full:
            super().resume_reading()


class BoundedHttpProtocol(_WithOutlet, HttpToolsProtocol):
    """uvicorn's HTTP, which by itself waits for heads for ever and for any number of them.

    Its keep-alive timer runs only from an answer to the next byte that arrives. It parses all
    that has arrived, whoever waits for the answers, and waits for ever until they are taken.
    """

    # Of the whole process: so are the file descriptors that they take.
    _of_address: ClassVar[PerAddress] = PerAddress()
    _warnings: ClassVar[_Warnings] = _Warnings()
    # Headers of every answer, and the lines that they are: uvicorn makes a new list each second.
    _default: ClassVar[tuple[list[tuple[bytes, bytes]], bytes]] = ([], b"")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # uvicorn goes by whether anything would be logged anywhere.
        self.access_log = self.config.access_log and self.access_log
        self._counted: str | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        # Since when the client owes us (the rest of) a head; None: it owes none.
        self._head_since: float | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        # Whether the head names the server, once.
        self._names_host = True
        # What has been read, and up to where it is parsed, while others are answered first.
        self._read = b""
        self._parsed = 0
        # Runs while nothing more is taken, whatever room there is; what was taken before waits.
        self._resting: asyncio.TimerHandle | None = None
        self._held: deque[tuple[RequestResponseCycle, Any]] = deque()
        # Whether what follows can't be parsed.
        self._is_broken = False
        # Whether the server ends: the next request is the last.
        self._is_ending = False
        self._answering: RequestResponseCycle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Take the connection, or close it if there are too many."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if refusal := self._refusal(address):
            self._warn(refusal, address)
            # connection_lost is called even so, and closes it.
            self.transport = transport
            transport.abort()
            return
        self._counted = address
        self._of_address.enter(address)
        self.logger = _Naming(self.logger, {"address": address})  # type: ignore[assignment] # it is called as one
        super().connection_made(transport)
        self.flow: _Flow = _Flow(transport)
        self._head_since = self.loop.time()
        self._sweep_timer = self.loop.call_later(HEAD_SECONDS, self._sweep)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and notify the handlers of its requests."""
        self._forget()
        # The one being answered need not be the last one, which is all that uvicorn looks at.
        waiting = (*self.pipeline, *self._held)
        for cycle in (self._answering, *(cycle for cycle, _ in waiting)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._held.clear()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol; this one is not notified of its end."""
        if self._is_answering():
            # What comes next would stand in the middle of an answer.
            self.transport.abort()
            return
        if not self._names_host:
            self.send_400_response(NO_HOST)
            return
        self._forget()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as there is room for its requests."""
        if self.flow.is_full or data.count(b"\n") > LINES_AT_ONCE:
            # At most what is read once more: by then reading is paused.
            self._read = self._read[self._parsed :] + data
            self._parsed = 0
            if self._resting is None:
                self._parse_on()
        else:
            self._parse(data)
            if len(self.pipeline) >= MAXIMUM_PIPELINED:
                self._fill()

    def _parse_on(self) -> None:
        """Parse what has been read, a few lines at a time, while there is room."""
        while self._parsed < len(self._read) and not self._is_broken:
            if len(self.pipeline) >= MAXIMUM_PIPELINED:
                self._fill()
                return
            begin, self._parsed = self._parsed, self._end_of_part()
            self._parse(self._read[begin : self._parsed])
            if self._counted is None or self.transport.is_closing():
                # It has been given up, or is another protocol's now.
                self._read = b""
        self._read, self._parsed = b"", 0
        if self.flow.is_full and not (self._is_broken or self.transport.is_closing()):
            self.flow.is_full = False
            self.flow.resume_reading()

    def _end_of_part(self) -> int:
        """Return up to where to parse at once: a body, or as many lines as may be."""
        cycle, end = self.cycle, self._parsed
        if self._head_since is None and cycle is not None and cycle.more_body:
            declared = content_length(dict(self.headers).get(b"content-length")) or 0
            if declared > self._body_bytes:
                return min(len(self._read), end + declared - self._body_bytes)
        for _ in range(LINES_AT_ONCE):
            end = self._read.find(b"\n", end) + 1
            if not end:
                return len(self._read)
        return end

    def _fill(self) -> None:
        """Read no more until some requests have been answered."""
        self.flow.is_full = True
        self.flow.pause_reading()

    def _parse(self, data: bytes) -> None:
        """Parse this; give up on a head that has become too large."""
        cycle = self.cycle
        expected = self._head_since is not None or self.timeout_keep_alive_task is not None
        super().data_received(data)
        # Data that begins with another request's body is not all head.
        if self._head_since is not None and expected and self.cycle is cycle:
            self._head_bytes += len(data)
            if self._head_bytes > MAXIMUM_HEAD_BYTES:
                self._give_up("HTTP head too large")

    def on_message_begin(self) -> None:
        """Begin to wait for a complete head."""
        if self._head_since is None:
            self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End to wait for it."""
        self._head_since = None
        self._head_bytes = self._body_bytes = 0
        before, names = self.cycle, list(map(_NAME, self.headers))
        # As HTTP/1.1 has it (RFC 9112, 3.2).
        self._names_host = names.count(b"host") == 1 or self.parser.get_http_version() != "1.1"
        if self._names_host:
            super().on_headers_complete()
        else:
            app, self.app = self.app, _no_host
            try:
                super().on_headers_complete()
            finally:
                self.app = app
        if self.cycle is not before:  # else it is to become a WebSocket
            scope: Any = self.scope
            scope[CONNECTION] = self
            if self._is_ending:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        if self._answering is not None:
            # What was made for the request would keep itself in memory by it.
            scope: Any = self._answering.scope
            scope.pop(CONNECTION, None)
        if self._resting is not None:
            self._held, self.pipeline = self.pipeline, self._held
        super().on_response_complete()
        if self.flow.is_full and self._resting is None and not self.transport.is_closing():
            self._parse_on()

    def shutdown(self) -> None:
        """Close the connection once what came is answered; a first request may be on its way.

        Nobody else would answer that: its client has been let in by this server.
        """
        if self.cycle is None and not self._is_ending:
            self._is_ending = True
            self.loop.call_later(FIRST_REQUEST_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def rest(self) -> None:
        """Take no further request for a moment.

        A trusted proxy's connection goes on: the next request may be another client's.
        """
        if (
            self._resting is None
            and self._counted is not None
            and not self._is_proxy(self._counted)
        ):
            self._fill()
            self._resting = self.loop.call_later(REFUSED_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self._resting = None
        if self.transport.is_closing():
            return
        if self._held:
            self._held, self.pipeline = self.pipeline, self._held
            self._unset_keepalive_if_required()
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._parse_on()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, once all that came before it has been answered."""
        if not self._is_answering():
            super().send_400_response(msg)
        elif self.cycle.more_body:
            self.transport.abort()
        else:
            self.cycle.keep_alive = False
            self._is_broken = True
            self._fill()

    def pause_writing(self) -> None:
        """Wait until the client takes more, but not for ever."""
        super().pause_writing()
        if self._unread_timer is None:
            self._await_reading()

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._cancel_unread()

    def _await_reading(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._check_reading)

    def _check_reading(self) -> None:
        """End the connection if the client has taken nothing since the last look.

        Streams have a bound of their own.
        """
        self._unread_timer = None
        left = self.transport.get_write_buffer_size()
        if not left:
            return
        if left < self._unread_bytes or self.outlet is not None:
            self._await_reading()
        else:
            self._give_up("HTTP answer not taken")

    def _cancel_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def body(self) -> bytes | None:
        """Return the body of the request that is being answered if all of it has come."""
        cycle = self._answering
        return None if cycle is None or cycle.more_body else bytes(cycle.body)

    def answer(self, status: int, head: bytes, body: bytes, /) -> bool:
        """Send a whole answer to the request that is being answered; False: not this way."""
        cycle = self._answering
        if (
            cycle is None
            or cycle.response_started
            or cycle.disconnected
            or cycle.access_log
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        default = cycle.default_headers
        if default is not self._default[0]:
            BoundedHttpProtocol._default = default, lines_of(default)
        lines = [STATUS_LINE[status], self._default[1], head]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join(lines))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def open_outlet(self) -> Outlet | None:
        """Return where the answer that has begun is written on; None: it has no chunks."""
        if self._answering is None or not self._answering.chunked_encoding:
            return None
        return self._open(self.transport.write, http_frame)

    @property
    def takes_bytes(self) -> bool:
        """Whether the client keeps up, and is there."""
        return not self.flow.write_paused and not self.transport.is_closing()

    def _sweep(self) -> None:
        """Close the connection if its head is overdue, else look again later.

        One timer for all of a connection's requests: they only note the time.
        """
        now = self.loop.time()
        if self.transport.is_closing():
            # A rest that is too little to pause writing would be waited for as long as it takes.
            self._head_since = None
            if self._unread_timer is None:
                self._await_reading()
        elif self._is_answering():
            # It may be us who have stopped reading within the next head.
            if self._head_since is not None:
                self._head_since = now
        elif self._head_since is None:
            # Neither a head nor the keep-alive timer: stray line ends, or the rest of a body
            # that was answered early. The next head is what it has to come to.
            if self.timeout_keep_alive_task is None:
                self._head_since = now
        elif now - self._head_since >= HEAD_SECONDS:
            self._give_up("HTTP request overdue")
            return
        due = HEAD_SECONDS if self._head_since is None else self._head_since + HEAD_SECONDS - now
        self._sweep_timer = self.loop.call_later(due, self._sweep)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self, reason: str) -> None:
        self._warn(reason, self._counted or "")
        self.transport.abort()

    def _forget(self) -> None:
        self._cancel_unread()
        for timer in (self._sweep_timer, self._resting):
            if timer is not None:
                timer.cancel()
        self._sweep_timer = self._resting = None
        if self._counted is not None:
            self._of_address.leave(self._counted)
            self._counted = None

    def _refusal(self, address: str) -> str | None:
        if len(self.connections) >= MAXIMUM_HTTP_CONNECTIONS:
            return "too many HTTP connections"
        of_address, in_all = MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS, MAXIMUM_HTTP_CONNECTIONS
        is_full = self._of_address.is_full(address, of_address, in_all)
        if is_full and not self._is_shared(address):
            return "too many HTTP connections from one address"
        return None

    def _is_shared(self, address: str) -> bool:
        """Return whether many clients have it: of a socket file, of this machine, of a proxy."""
        return not address or is_loopback(address) or self._is_proxy(address)

    def _is_proxy(self, address: str) -> bool:
        """Return whether this is the address of a proxy that is trusted."""
        proxies = self.config.forwarded_allow_ips if self.config.proxy_headers else None
        if not (address and proxies) or isinstance(proxies, str):
            return False
        peer = ipaddress.ip_address(address)
        return any(peer in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)

    def _warn(self, event: str, address: str) -> None:
        self._warnings.warn(event, address=address, connections=len(self.connections))


async def _no_host(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Refuse a request that does not name the server, or names two."""
    body = encode({"detail": NO_HOST, "code": ErrorCode.VALIDATION_FAILED.value})
    await Answer(400, body, [(b"connection", b"close")]).send(send)


class WebSocketProtocol(_WithOutlet, WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, which by themselves parse all that has arrived at once.

    That may be tens of thousands of frames, which need no payload. So a part is parsed a turn,
    and none before the application has taken what was in the last one. Frames that carry nothing
    are counted, and too many end the socket.
    """

    # Of the whole process.
    _warnings: ClassVar[_Warnings] = _Warnings()
    empty_frames_total: ClassVar[int] = 0
    floods_total: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._read = b""
        self._parsed = 0
        self._is_due = False
        self._empty_frames = 0
        self._counted_since = 0.0
        self._last_pongs = b""

    def data_received(self, data: bytes) -> None:
        """Parse what came, or its first part."""
        if self._read:
            # At most what is read once more: reading is paused.
            self._read = self._read[self._parsed :] + data
            self._parsed = 0
        elif len(data) <= WEBSOCKET_PART_BYTES or not self.handshake_initiated:
            super().data_received(data)
        else:
            self._read = data
            self.transport.pause_reading()
            self._parse_on()

    async def receive(self) -> Any:
        """Return what the client has sent, and go on with what else was read."""
        message = await super().receive()
        if self._read:
            # It reads on once it has given all that was parsed; there is more to parse first.
            self.transport.pause_reading()
            self._continue()
        return message

    def _continue(self) -> None:
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._parse_on)

    def _parse_on(self) -> None:
        """Parse a part of what has been read."""
        self._is_due = False
        if self.transport.is_closing():
            self._read = b""
            return
        if self.read_paused:
            return  # until the application has taken it
        begin = self._parsed
        self._parsed = begin + WEBSOCKET_PART_BYTES
        super().data_received(self._read[begin : self._parsed])
        if self._parsed < len(self._read):
            self._continue()
            return
        self._read, self._parsed = b"", 0
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """Begin to serve the socket, in a task that has yet to start."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            scope: Any = self.scope
            scope[CONNECTION] = self

    def handle_events(self) -> None:
        """Take what the client has sent; it may be that it goes."""
        empty = sum(isinstance(event, Frame) and not event.data for event in self.conn.events)
        super().handle_events()
        if empty:
            self._count_empty(empty)
        self.tell_outlet()

    def handle_ping(self) -> None:
        """Answer; while the client takes nothing only the last ones wait (RFC 6455, 5.5.3)."""
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pongs)
        else:
            self._last_pongs = pongs or self._last_pongs

    def resume_writing(self) -> None:
        """Write on, first what has been asked for meanwhile."""
        super().resume_writing()
        pongs, self._last_pongs = self._last_pongs, b""
        if pongs and not self.transport.is_closing():
            self.transport.write(pongs)

    def keepalive_timeout(self) -> None:
        """Close the socket of a client that is silent; one that takes nothing either is gone."""
        takes_nothing = self.transport.get_write_buffer_size() > 0
        super().keepalive_timeout()
        if takes_nothing:
            # In order it would be closed only when the client has taken what waits for it.
            self.transport.abort()

    def _count_empty(self, frames: int) -> None:
        """Count frames that carry nothing, of which too many in a minute end the socket."""
        WebSocketProtocol.empty_frames_total += frames
        now = self.loop.time()
        if now - self._counted_since >= EMPTY_FRAMES_SECONDS:
            self._counted_since, self._empty_frames = now, 0
        self._empty_frames += frames
        if self._empty_frames > MAXIMUM_EMPTY_FRAMES and self.conn.state is State.OPEN:
            WebSocketProtocol.floods_total += 1
            address = self.client[0] if self.client else ""
            self._warnings.warn("too many empty WebSocket frames", address=address)
            self.conn.fail(CloseCode.POLICY_VIOLATION, "Too many frames without a payload")
            self.handle_parser_exception()

    def open_outlet(self) -> Outlet | None:
        """Return where messages are written past ASGI; None: each changes how others compress."""
        if self.conn.extensions:
            return None
        return self._open(self.transport.write, websocket_frames)

    def body(self) -> bytes | None:
        """Return nothing: a socket's requests have none."""
        return None

    def answer(self, *_: object) -> bool:
        """Send nothing: a socket has no answers."""
        return False

    def rest(self) -> None:
        """Go on: what can be refused as too much is refused before a socket is opened."""

    def shutdown(self) -> None:
        """Go."""
        super().shutdown()
        self.tell_outlet()

    @property
    def takes_bytes(self) -> bool:
        """Whether the client keeps up, and is there."""
        return (
            self.writable.is_set()
            and self.conn.state is State.OPEN
            and not self.transport.is_closing()
        )


def http_frame(chunk: Chunk) -> bytes:
    """Return what is shown as a chunk of an HTTP/1.1 answer."""
    framed = b"%x\r\n%b\r\n" % (chunk.size, chunk.data)
    if chunk.count:  # a sign of life goes to viewers of both protocols
        chunk.framed = framed
    return framed


def websocket_frames(chunk: Chunk) -> bytes:
    """Return what is shown as messages of a WebSocket; it has signs of life of its own."""
    if not chunk.count:
        return b""
    chunk.framed = b"".join(
        [Frame(Opcode.TEXT, part).serialize(mask=False) for part in chunk.parts]
    )
    return chunk.framed

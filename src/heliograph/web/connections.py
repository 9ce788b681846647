"""Connections: those of HTTP bounded in number, and in how long and large a head may be.

Those of streams and sockets may be written to past ASGI.
"""

import asyncio
import ipaddress
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from heliograph.live.viewer import Outlet
from heliograph.web import direct

log = structlog.get_logger()

# A device on a bad link sends its head in one packet, and repeats it within seconds.
HEAD_SECONDS = 10.0
# The parser itself would collect a head of any size.
MAXIMUM_HEAD_BYTES = 64 << 10
MAXIMUM_HTTP_CONNECTIONS = 1_024
MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS = 256
SECONDS_BETWEEN_WARNINGS = 60.0


class _WithOutlet(asyncio.Protocol):
    """Keeps the outlet of what is written past ASGI, of which there is one at a time at most."""

    outlet: Outlet | None = None

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

    def tell_outlet(self) -> None:
        """Tell the outlet, if there is one, how things are now."""
        if self.outlet is not None:
            self.outlet.ready = self.takes_bytes


class BoundedHttpProtocol(_WithOutlet, HttpToolsProtocol):
    """uvicorn's HTTP, which by itself waits for heads for ever and for any number of them.

    Its keep-alive timer runs only from an answer to the next byte that arrives.
    """

    # Of the whole process: so are the file descriptors that they take.
    _of_address: ClassVar[dict[str, int]] = {}
    _warn_from: ClassVar[float] = 0.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._counted: str | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        # Since when the client owes us (the rest of) a head; None: it owes none.
        self._head_since: float | None = None
        self._head_bytes = 0

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
        self._of_address[address] = self._of_address.get(address, 0) + 1
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._sweep_timer = self.loop.call_later(HEAD_SECONDS, self._sweep)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol; its end is not told to this one."""
        self._forget()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Parse what came; give up on a head that has become too large."""
        cycle = self.cycle
        expected = self._head_since is not None or self.timeout_keep_alive_task is not None
        super().data_received(data)
        # Data that begins with another request's body is not all head.
        if self._head_since is not None and expected and self.cycle is cycle:
            self._head_bytes += len(data)
            if self._head_bytes > MAXIMUM_HEAD_BYTES:
                self._give_up("the head of an HTTP request is too large")

    def on_message_begin(self) -> None:
        """Begin to wait for a complete head."""
        if self._head_since is None:
            self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End to wait for it."""
        self._head_since = None
        self._head_bytes = 0
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it is to become a WebSocket
            direct.offer(self.scope, self, self.cycle)

    @property
    def takes_bytes(self) -> bool:
        """Whether the client keeps up, and is there."""
        return not self.flow.write_paused and not self.transport.is_closing()

    def _sweep(self) -> None:
        """Close the connection if its head is overdue, else look again later.

        One timer for all of a connection's requests: they only note the time.
        """
        now = self.loop.time()
        if self._is_answering():
            # It may be us who have stopped reading within the next head.
            if self._head_since is not None:
                self._head_since = now
        elif self._head_since is None:
            # Neither a head nor the keep-alive timer: stray line ends, or the rest of a body
            # that was answered early. The next head is what it has to come to.
            if self.timeout_keep_alive_task is None:
                self._head_since = now
        elif now - self._head_since >= HEAD_SECONDS:
            self._give_up("an HTTP client did not send a request in time")
            return
        due = HEAD_SECONDS if self._head_since is None else self._head_since + HEAD_SECONDS - now
        self._sweep_timer = self.loop.call_later(due, self._sweep)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def abort(self) -> None:
        """End it at once, whatever waits to be written."""
        self.transport.abort()

    def _give_up(self, reason: str) -> None:
        self._warn(reason, self._counted or "")
        self.transport.abort()

    def _forget(self) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        if self._counted is not None:
            left = self._of_address.get(self._counted, 0) - 1
            if left > 0:
                self._of_address[self._counted] = left
            else:
                self._of_address.pop(self._counted, None)
            self._counted = None

    def _refusal(self, address: str) -> str | None:
        if len(self.connections) >= MAXIMUM_HTTP_CONNECTIONS:
            return "too many HTTP connections"
        if self._of_address.get(
            address, 0
        ) >= MAXIMUM_HTTP_CONNECTIONS_PER_ADDRESS and not self._is_shared(address):
            return "too many HTTP connections from one address"
        return None

    def _is_shared(self, address: str) -> bool:
        """Tell whether many clients come from this address: a proxy that is trusted, or here."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return True  # A socket file.
        proxies = self.config.forwarded_allow_ips if self.config.proxy_headers else None
        if peer.is_loopback or not proxies or isinstance(proxies, str):
            return peer.is_loopback
        return any(peer in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)

    def _warn(self, event: str, address: str) -> None:
        # Who can cause this can cause it thousands of times in a second.
        now = self.loop.time()
        if now >= BoundedHttpProtocol._warn_from:
            BoundedHttpProtocol._warn_from = now + SECONDS_BETWEEN_WARNINGS
            log.warning(event, address=address, connections=len(self.connections))


class WebSocketProtocol(_WithOutlet, WebSocketsSansIOProtocol):
    """uvicorn's WebSockets."""

    def handle_connect(self, event: Request) -> None:
        """Begin to serve the socket, in a task that has yet to start."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            direct.offer(self.scope, self, self)

    def handle_events(self) -> None:
        """Take what the client has sent; it may be that it goes."""
        super().handle_events()
        self.tell_outlet()

    def abort(self) -> None:
        """End it at once, whatever waits to be written."""
        self.transport.abort()

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

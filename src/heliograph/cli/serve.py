"""`heliograph serve`."""

import asyncio
import contextlib
import functools
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog
import typer
import uvicorn
import uvloop

from heliograph import logs
from heliograph.address import Address
from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.app import ENDING_SIGNALS, Application, create_app
from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.http.connections import (
    HEAD_SECONDS,
    MAXIMUM_HTTP_CONNECTIONS,
    BoundedHttpProtocol,
    WebSocketProtocol,
)
from heliograph.http.services import Services
from heliograph.printable import printable_lines
from heliograph.settings import Settings, load_settings
from heliograph.shutdown import HTTP
from heliograph.systemd import HandedSockets, Manager
from heliograph.tls import ServerTls, watch

# What requests that the end has cancelled get to be answered.
ANSWER_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2_048
# What a client over TLS gets at the end of the server to close its side of a connection.
LINGER_SECONDS = 0.5
# What the first steps call the device that there is not yet.
DEVICE = "my-first-sensor"
# What a client may send on a WebSocket; what it asks for takes far less.
LARGEST_WEBSOCKET_MESSAGE = 64 << 10
# What the process needs beside the devices' connections: HTTP, with those that are accepted
# only to be closed, the database, its files.
OTHER_FILES = MAXIMUM_HTTP_CONNECTIONS + 512

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


@app.command()
def serve(
    *,
    host: str | None = typer.Option(None, help="Address for HTTP instead of HOST."),
    port: int | None = typer.Option(None, help="Port for HTTP instead of PORT; 0: a free one."),
    access_log: bool = typer.Option(False, "--access-log", help="Log every request."),
) -> None:
    """Start the server.

    HTTP on HOST and PORT, HTTPS on HTTPS_LISTEN, and MQTT for devices on MQTT_LISTEN. SIGTERM,
    SIGHUP (unless nohup has it ignored) and Ctrl-C end it cleanly: what has been taken is
    committed and acknowledged, within SHUTDOWN_TIMEOUT.
    """
    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    logs.configure_by(settings)
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if settings.debug else logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO if access_log else logging.WARNING)
    _raise_file_limit(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=settings.debug) as runner:
        failed = runner.run(_serve(settings, access_log=access_log))
    if failed:
        raise typer.Exit(1)


class HttpServer(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us.

    They may come before it serves and after it has, while what devices sent is committed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield

    on_stop: Callable[[], None] = staticmethod(lambda: None)
    on_started: Callable[[], None] = staticmethod(lambda: None)
    # Sockets on which TLS is spoken, and how.
    encrypted: Sequence[socket.socket] = ()
    tls: ServerTls | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        # Not among uvicorn's own, which it waits for: also for those who never end a handshake.
        self._encrypting: list[asyncio.Server] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Let clients in."""
        await super().startup(sockets)
        await self._listen_encrypted()
        self.on_started()

    async def _listen_encrypted(self) -> None:
        if self.tls is None:
            return
        for listening in self.encrypted:
            server = await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=listening,
                ssl=self.tls.context,
                ssl_handshake_timeout=HEAD_SECONDS,
                backlog=BACKLOG,
            )
            self._encrypting.append(server)

    def _protocol(self) -> BoundedHttpProtocol:
        return BoundedHttpProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, and wait for what is being answered."""
        for server in self._encrypting:
            server.close()
        ending = asyncio.create_task(self._end_lingering(), name="lingering-connections")
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_lingering(self) -> None:
        """End connections over TLS whose clients don't say that they know of the end.

        A client that keeps one for its next request reads of it only then.
        """
        closing: dict[asyncio.Transport, float] = {}
        while True:
            moment = time.monotonic()
            for connection in list(self.server_state.connections):
                transport = connection.transport
                is_sent = transport.is_closing() and not transport.get_write_buffer_size()
                if is_sent and moment - closing.setdefault(transport, moment) > LINGER_SECONDS:
                    transport.abort()
            await asyncio.sleep(LINGER_SECONDS / 4)

    def stop(self) -> None:
        """Begin to stop; a second call does not wait for open connections."""
        self.on_stop()  # streams would stay open for ever
        self.force_exit = self.should_exit
        self.should_exit = True


async def _serve(settings: Settings, *, access_log: bool) -> bool:
    """Serve until a signal or a failure; return whether it was a failure.

    Raises:
        StartError: it cannot start.
    """
    manager, handed, tls = Manager(), HandedSockets.received(), _tls(settings)
    with contextlib.ExitStack() as sockets:
        sockets.callback(handed.close)
        listening, *encrypted = (
            sockets.enter_context(contextlib.closing(_bind(where, place, handed)))
            for where, place in _places(settings)
        )
        application = create_app(settings, handed)
        server = HttpServer(_config(settings, application, access_log=access_log))
        loop = asyncio.get_running_loop()
        for number in _ending_signals():
            loop.add_signal_handler(number, server.stop)
        keeping_alive = asyncio.create_task(manager.keep_alive(), name="watchdog")
        async with _ended_with(keeping_alive), application.running() as services:
            handed.require_none_left()
            # uvicorn is told of no lifespan, so that requests need not go by the application.
            server.config.app = application.web
            server.on_stop = functools.partial(_begin_shutdown, server, application, manager)
            server.encrypted, server.tls = encrypted, tls
            addresses = [Address(*each.getsockname()[:2]) for each in (listening, *encrypted)]
            has_reader = _has_reader(settings)
            lines = await _welcome(settings, services, *addresses) if has_reader else ""
            server.on_started = functools.partial(_tell_of_start, manager, lines)
            if not server.should_exit:
                await _run(server, application, listening, addresses)
    return application.server is not None and application.server.failed.is_set()


@contextlib.asynccontextmanager
async def _ended_with(task: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell_of_start(manager: Manager, lines: str) -> None:
    manager.tell("READY=1")
    if lines:
        print(printable_lines(lines), flush=True)


async def _run(
    server: HttpServer,
    application: Application,
    listening: socket.socket,
    addresses: Sequence[Address],
) -> None:
    for number, address in enumerate(addresses):
        log.info("listening for HTTP", address=str(address), tls=number > 0)
    watching = [asyncio.create_task(_stop_on_failure(server, application), name="failure-watch")]
    if server.tls is not None:
        watching.append(asyncio.create_task(watch(server.tls), name="https-certificate"))
    try:
        await server.serve(sockets=[listening])
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    if cancelled := set(server.server_state.tasks):
        await asyncio.wait(cancelled, timeout=ANSWER_SECONDS)
    log.info("stopping")


def _ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end the server: a closed terminal does, unless it is to outlive it.

    `nohup` says so by having SIGHUP ignored.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ENDING_SIGNALS
    return (*ENDING_SIGNALS, signal.SIGHUP)


def _begin_shutdown(server: HttpServer, application: Application, manager: Manager) -> None:
    """Divide the time that the shutdown may take, and see that it takes no more."""
    if application.server is None or not application.begin_shutdown():
        return
    manager.tell("STOPPING=1")
    shutdown = application.server.shutdown
    server.config.timeout_graceful_shutdown = shutdown.left(HTTP)  # type: ignore[assignment] # it awaits so many seconds
    # Threads that hang in a system call, on a dead disk say, can't be told to end.
    last = threading.Timer(shutdown.left(), _end_at_once)
    last.daemon = True
    last.start()


def _end_at_once() -> None:
    log.critical("SHUTDOWN_TIMEOUT exceeded: process killed")
    os._exit(1)


async def _stop_on_failure(server: HttpServer, application: Application) -> None:
    if application.server is not None:
        await application.server.failed.wait()
        server.stop()


def _config(settings: Settings, application: Any, *, access_log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=LARGEST_WEBSOCKET_MESSAGE,
        # It would have to be done anew for each viewer, and holds 40 KiB of each.
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=access_log,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )


def _tls(settings: Settings) -> ServerTls | None:
    if not settings.https_listen:
        return None
    certificate, key = settings.https_certificate, settings.https_key
    return ServerTls("HTTPS", certificate, key, protocols=("http/1.1",))


def _places(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield where to listen, and what says so: plain HTTP first."""
    yield f"HOST={settings.host} PORT={settings.port}", Address(settings.host, settings.port)
    for address in settings.https_listen:
        yield f"HTTPS_LISTEN={address}", address


def _bind(where: str, place: Address, handed: HandedSockets) -> socket.socket:
    """Return a socket bound for HTTP: nobody gets in before the server is ready to answer."""
    try:
        if (found := handed.take(*place)) is not None:
            return found
        family, kind, protocol, _, address = socket.getaddrinfo(
            *place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise StartError(f"cannot listen on {where}: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


def _raise_file_limit(settings: Settings) -> None:
    """Let the process hold as many connections as it may, where the system allows it."""
    wanted = settings.mqtt_max_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.debug(
            "fewer files allowed than for MQTT_MAX_CONNECTIONS", allowed=allowed, wanted=wanted
        )


def _has_reader(settings: Settings) -> bool:
    """Return whether a person reads the output, as far as the settings tell."""
    return settings.log_format == "console" and settings.log_level in ("debug", "info")


async def _welcome(settings: Settings, services: Services, http: Address, *https: Address) -> str:
    """Return what is printed for a person: where the server is reached, its key, what is next.

    `settings` are those given, before the server made an admin key.
    """
    url = f"http://{http.from_here}"
    lines = [
        f"  HTTP           {url}",
        *(f"  HTTPS          https://{address.from_here}" for address in https),
        f"  documentation  {url}/docs",
        *(f"  {name:<13}  {address}" for name, address in _mqtt(settings, services)),
        f"  database       {parse_database_url(settings.database_url).place}",
        f"  admin key      {_admin_key(settings)}",
    ]
    _, sensors = await services.store.sensors.list(networks=None, offset=0, limit=1)
    if sensors == 0:
        lines += ["", *_next_step(url)]
    return "\n".join(["", *lines, "", "Ctrl-C ends the server.", ""])


def _mqtt(settings: Settings, services: Services) -> Iterator[tuple[str, Address]]:
    if services.listener is not None:
        encrypted = {address.port for address in settings.mqtt_tls_listen}
        # One for all of IPv4 and one for all of IPv6 are the same name from here.
        for address in dict.fromkeys(Address(*at).from_here for at in services.listener.addresses):
            yield "MQTT, TLS" if address.port in encrypted else "MQTT", address
    if services.link is not None:
        yield "MQTT broker", Address(*services.link.address)


def _admin_key(settings: Settings) -> str:
    if settings.api_secret_key is not None:
        return "as API_SECRET_KEY has it"
    return f"in {settings.data_directory / SECRET_KEY_FILE}"


def _next_step(url: str) -> Iterator[str]:
    yield "Register a device, in a second terminal in this folder, and keep the key that it prints:"
    yield f"    {_program()} device create {DEVICE}"
    yield "Send a reading with that key:"
    yield "    curl -H 'X-API-Key: KEY' -H 'Content-Type: application/json' \\"
    yield f"      -d '{{\"temperature\": 22.5}}' {url}/ingest"


def _program() -> str:
    """Return how to call this program: by the path it was called by where a shell won't find it."""
    called = sys.argv[0]
    found = shutil.which("heliograph")
    if found is not None and Path(found).resolve() == Path(called).resolve():
        return "heliograph"
    return called

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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
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
from heliograph.cli.workers import Start, Workers
from heliograph.database_url import parse_database_url
from heliograph.errors import StartError, StoreUnavailableError
from heliograph.http.connections import (
    HEAD_SECONDS,
    MAXIMUM_HTTP_CONNECTIONS,
    BoundedHttpProtocol,
    WebSocketProtocol,
)
from heliograph.http.services import Services
from heliograph.printable import printable, printable_lines
from heliograph.settings import Settings, load_settings
from heliograph.shutdown import HTTP
from heliograph.systemd import HandedSockets, Manager
from heliograph.tls import ServerTls, watch
from heliograph.version import VERSION
from heliograph.worker import ALONE, Worker, require_several

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

MOST_WORKERS = 64
# How often the parent of workers looks around though nothing has happened.
IDLE_SECONDS = 60.0

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


@app.command()
def serve(
    *,
    host: str | None = typer.Option(None, help="Address for HTTP instead of HOST."),
    port: int | None = typer.Option(None, help="Port for HTTP instead of PORT; 0: a free one."),
    workers: int = typer.Option(1, min=1, max=MOST_WORKERS, help="Processes; PostgreSQL alone."),
    access_log: bool = typer.Option(False, "--access-log", help="Log every request."),
) -> None:
    """Start the server.

    HTTP on HOST and PORT, HTTPS on HTTPS_LISTEN, and MQTT for devices on MQTT_LISTEN. SIGTERM,
    SIGHUP (unless nohup has it ignored) and Ctrl-C end it cleanly: what has been taken is
    committed and acknowledged, within SHUTDOWN_TIMEOUT. Several workers are processes that listen
    on the same ports; one that ends is started again.
    """
    given = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    logs.configure_by(settings)
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if settings.debug else logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO if access_log else logging.WARNING)
    _raise_file_limit(settings)
    if workers > 1:
        require_several(settings, workers)
    # Before anything is written: a server that can't listen leaves nothing behind.
    with contextlib.closing(HandedSockets.received()) as handed:
        bound, settings = _bind_all(settings, handed)
        handed.require_none_left()
    if workers > 1:
        failed = _serve_by_workers(settings, workers, bound, access_log=access_log)
    else:
        failed = _run_one(_serve(settings, HandedSockets(bound), access_log=access_log), settings)
    if failed:
        raise typer.Exit(1)


def _run_one(serving: Coroutine[Any, Any, bool], settings: Settings) -> bool:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=settings.debug) as runner:
        return runner.run(serving)


def _serve_by_workers(
    settings: Settings, count: int, bound: list[socket.socket], *, access_log: bool
) -> bool:
    """Serve on these sockets by several processes until a signal; return whether it failed."""
    manager = Manager()

    def work(start: Start) -> int:
        structlog.contextvars.bind_contextvars(worker=start.number)
        speaks = start.number == 0 and start.is_first
        worker = Worker(count, start.number, speaks=speaks, is_again=not start.is_first)
        serving = _serve(
            settings, HandedSockets(bound), access_log=access_log, worker=worker, start=start
        )
        try:
            return int(_run_one(serving, settings))
        except (StartError, StoreUnavailableError) as error:
            sys.stderr.write(f"heliograph: {printable(' '.join(str(error).split()))}\n")
            return 1

    def started() -> None:
        log.info("server started", version=VERSION, process=os.getpid(), workers=count)
        manager.tell("READY=1")

    def ending() -> None:
        log.info("stopping", workers=count)
        manager.tell("STOPPING=1")
        # Who comes now is refused at once, and not left to wait for nobody.
        for each in bound:
            each.close()

    workers = Workers(
        count,
        work,
        signals=_ending_signals(),
        started=started,
        ending=ending,
        shutdown_seconds=settings.shutdown_timeout,
    )
    failed = workers.run(manager.show_life, manager.sign_seconds or IDLE_SECONDS)
    log.info("server stopped")
    return failed


def _bind_all(settings: Settings, handed: HandedSockets) -> tuple[list[socket.socket], Settings]:
    """Return a socket for each address of HTTP and MQTT, and settings that name their ports.

    Raises:
        StartError: one of the addresses can't be listened on.
    """
    http, *https = [_bind(where, place, handed) for where, place in _places(settings)]
    bound = [http, *https]

    def listened(name: str) -> tuple[Address, ...]:
        found = []
        for address in getattr(settings, name):
            sockets = list(_bind_mqtt(f"{name.upper()}={address}", address, handed))
            bound.extend(sockets)
            found.append(_named(address, sockets[0]))
        return tuple(found)

    named = [_named(*pair) for pair in zip(settings.https_listen, https, strict=True)]
    changed = {
        "port": http.getsockname()[1],
        "https_listen": tuple(named),
        "mqtt_listen": listened("mqtt_listen"),
        "mqtt_tls_listen": listened("mqtt_tls_listen"),
    }
    return bound, settings.model_copy(update=changed)


def _named(address: Address, bound: socket.socket) -> Address:
    return address if address.port else address._replace(port=bound.getsockname()[1])


def _bind_mqtt(where: str, address: Address, handed: HandedSockets) -> Iterator[socket.socket]:
    """Yield a socket for each address that the host has, as asyncio would bind them."""
    try:
        found = handed.take_all(*address)
        if not found:
            resolved = socket.getaddrinfo(
                address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            found = [_bound(each[0], each[4]) for each in dict.fromkeys(resolved)]
    except OSError as error:
        raise StartError(f"cannot listen on {where}: {error.strerror or error}") from error
    yield from found


def _bound(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


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


async def _serve(
    settings: Settings,
    handed: HandedSockets,
    *,
    access_log: bool,
    worker: Worker = ALONE,
    start: Start | None = None,
) -> bool:
    """Serve until a signal or a failure; return whether it was a failure.

    A `worker` tells its `start` when it serves, and ends with whoever has started it.

    Raises:
        StartError: it cannot start.
    """
    manager, tls = Manager(), _tls(settings)
    with contextlib.ExitStack() as sockets:
        sockets.callback(handed.close)
        listening, *encrypted = (
            sockets.enter_context(contextlib.closing(_bind(where, place, handed)))
            for where, place in _places(settings)
        )
        application = create_app(settings, handed, worker)
        server = HttpServer(_config(settings, application, access_log=access_log))
        loop = asyncio.get_running_loop()
        for number in _ending_signals():
            loop.add_signal_handler(number, server.stop)
        if start is not None:
            loop.add_reader(start.parent, _stop_once, loop, start.parent, server)
        keeping_alive = asyncio.create_task(manager.keep_alive(), name="watchdog")
        async with _ended_with(keeping_alive), application.running() as services:
            handed.require_none_left()
            # uvicorn is told of no lifespan, so that requests need not go by the application.
            server.config.app = application.web
            server.on_stop = functools.partial(_begin_shutdown, server, application, manager)
            server.encrypted, server.tls = encrypted, tls
            addresses = [Address(*each.getsockname()[:2]) for each in (listening, *encrypted)]
            has_reader = _has_reader(settings) and worker.speaks
            lines = await _welcome(settings, services, *addresses) if has_reader else ""
            server.on_started = functools.partial(_tell_of_start, manager, lines, start)
            if not server.should_exit:
                if worker.speaks:
                    for place, address in enumerate(addresses):
                        log.info("listening for HTTP", address=str(address), tls=place > 0)
                await _run(server, application, listening, worker)
    return application.server is not None and application.server.failed.is_set()


@contextlib.asynccontextmanager
async def _ended_with(task: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _stop_once(loop: asyncio.AbstractEventLoop, parent: int, server: HttpServer) -> None:
    """End with the parent: nobody would start this worker again, nor end it."""
    loop.remove_reader(parent)
    log.warning("parent process gone: worker ends")
    server.stop()


def _tell_of_start(manager: Manager, lines: str, start: Start | None) -> None:
    manager.tell("READY=1")
    if start is not None:
        start.tell_ready()
    if lines:
        print(printable_lines(lines), flush=True)


async def _run(
    server: HttpServer,
    application: Application,
    listening: socket.socket,
    worker: Worker,
) -> None:
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
    if worker.is_alone:
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
        f"  dashboard      {url}/dashboard/",
        f"  documentation  {url}/docs",
        *(f"  {name:<13}  {address}" for name, address in _mqtt(settings, services)),
        f"  database       {parse_database_url(settings.database_url).place}",
        f"  admin key      {_admin_key(settings)}",
    ]
    if not await services.store.accounts.has_administrator():
        lines += ["", "Make the administrator in a browser, or with heliograph user create:"]
        lines += [f"    {url}/dashboard/", f"    setup code  {services.authenticator.setup_code}"]
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

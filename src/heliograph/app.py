"""The ASGI application: starts the server with its lifespan, and hands requests to the front."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from types import FrameType
from typing import Any

import structlog

from heliograph import logs
from heliograph.errors import StartError
from heliograph.http.application import create_web
from heliograph.http.services import Services
from heliograph.server import Server
from heliograph.settings import Settings, load_settings, mistyped_variables
from heliograph.systemd import HandedSockets
from heliograph.version import VERSION
from heliograph.worker import ALONE, Worker, end_uvicorn, require_several, worker_of_uvicorn

log = structlog.get_logger()

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Application:
    """The ASGI application: requests go to the front, the lifespan starts and stops the server."""

    def __init__(
        self,
        settings: Settings | None = None,
        handed: HandedSockets | None = None,
        worker: Worker = ALONE,
    ) -> None:
        self._settings = settings
        self._handed = handed
        self._worker = worker
        # The front, while the server runs: all but the lifespan is its affair.
        self.web: Any = None
        self.server: Server | None = None
        self.services: Services | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self.web(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Services]:
        """Run the server for as long as the context lasts."""
        settings = self._settings if self._settings is not None else load_settings()
        logs.configure_by(settings)
        worker = self._worker
        require_several(settings, worker.processes)
        for each in mistyped_variables() if worker.speaks else ():
            question = f"no such setting: did you mean {each.meant}?"
            log.warning(question, name=each.name, set_in=each.source)
        self.server = server = Server(settings, self._handed, worker)
        async with server.running() as services:
            self.services = services
            self.web = create_web(services)
            # Of several, their parent tells it of all; uvicorn's parent knows nothing of ours.
            tells = worker.is_alone or (worker.share_ports and worker.speaks)
            write = log.info if tells else log.debug
            write("server started", version=VERSION, process=os.getpid(), **worker.described)
            yield services
        write("server stopped")

    def begin_shutdown(self) -> bool:
        """Take notice that the server will stop, before it does; return false if that was known."""
        return self.server is not None and self.server.begin_shutdown()

    async def _terminate_on_failure(self) -> None:
        """End a process that is not ours to end, the way its owner expects."""
        if self.server is not None:
            await self.server.failed.wait()
            os.kill(os.getpid(), signal.SIGTERM)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stage = "startup"
        worker = self._worker = worker_of_uvicorn()
        try:
            require_several(self._settings or load_settings(), worker.processes)
        except StartError as error:
            if not worker.is_alone:
                await end_uvicorn(worker, str(error))
        try:
            async with self.running():
                with _on_ending_signals(self.begin_shutdown):
                    await send({"type": "lifespan.startup.complete"})
                    stage = "shutdown"
                    watching = asyncio.create_task(
                        self._terminate_on_failure(), name="failure-watch"
                    )
                    await receive()
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        except Exception as error:
            # Raised, it would mean to uvicorn that there is no lifespan: it would serve on.
            if not isinstance(error, StartError):
                log.exception("server start or stop failed", stage=stage)
            await send({"type": f"lifespan.{stage}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


@contextlib.contextmanager
def _on_ending_signals(begin: Callable[[], object]) -> Iterator[None]:
    """Begin to end when a signal ends the process of another server.

    It would wait for all open connections before it tells us: for streams, for ever. A closed
    terminal (SIGHUP) would end it at once; it ends as by SIGTERM.
    """
    loop = asyncio.get_running_loop()
    others = {number: signal.getsignal(number) for number in (*ENDING_SIGNALS, signal.SIGHUP)}
    hung_up = others[signal.SIGHUP] is signal.SIG_DFL and callable(others[signal.SIGTERM])

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)
        if number == signal.SIGHUP and hung_up:
            number = signal.SIGTERM
        other = others[signal.Signals(number)]
        if callable(other):
            other(number, frame)

    ours = []
    if threading.current_thread() is threading.main_thread():
        # Where nobody handles a signal it has to end the process, as before.
        ours = [number for number in ENDING_SIGNALS if callable(others[number])]
        if hung_up:
            ours.append(signal.SIGHUP)
    for number in ours:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is handle:
                signal.signal(number, others[number])


def create_app(
    settings: Settings | None = None,
    handed: HandedSockets | None = None,
    worker: Worker = ALONE,
) -> Application:
    """Return the application; without settings it reads the environment when it starts.

    It takes the sockets for MQTT from those that were handed over, if they are there.
    """
    return Application(settings, handed, worker)


app = create_app()

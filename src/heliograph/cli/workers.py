"""Several processes of one server: started, watched, started again, and ended together.

    parent ──▶ binds the ports ──▶ forks the first worker ── ready ──▶ forks the others
      ▲                                                                     │
      └── SIGCHLD: starts it again, later each time ◀── a worker ends ◀─────┘

The parent has no event loop, no thread and no connection: so what it forks is as it was at the
start. Workers share its sockets: one that stands still leaves its connections to the others.
"""

import contextlib
import dataclasses
import gc
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import structlog

log = structlog.get_logger()

# Before a worker that has ended is started again: doubled each time that it has not lived long.
FIRST_RESTART_SECONDS = 1.0
LONGEST_RESTART_SECONDS = 30.0
LONG_LIFE_SECONDS = 60.0
# What workers have beyond SHUTDOWN_TIMEOUT to end.
KILL_SECONDS = 5.0
_READY = b"r"


@dataclasses.dataclass(frozen=True)
class Start:
    """What a worker is told: which it is, whether it is the first start, and how to answer.

    `parent` is a descriptor that ends (EOF) with the parent.
    """

    number: int
    is_first: bool
    parent: int
    _ready: int

    def tell_ready(self) -> None:
        """Tell the parent that it serves."""
        with contextlib.suppress(OSError):
            os.write(self._ready, _READY)


@dataclasses.dataclass(slots=True)
class _Place:
    """A worker's place, and the process that has it; process 0: none."""

    number: int
    process: int = 0
    telling: int = -1
    is_ready: bool = False
    starts: int = 0
    began: float = 0.0
    due: float = 0.0
    short_lives: int = 0


class Workers:
    """Keeps so many workers running, each of which is a call of `work` that returns its status."""

    def __init__(
        self,
        count: int,
        work: Callable[[Start], int],
        *,
        signals: tuple[signal.Signals, ...],
        started: Callable[[], None],
        ending: Callable[[], None],
        shutdown_seconds: float,
    ) -> None:
        """End them at one of these signals; call `started` once all serve, `ending` before the end.

        Whatever has not ended `shutdown_seconds` later is killed.
        """
        self._places = [_Place(number) for number in range(count)]
        self._work = work
        self._signals = signals
        self._started = started
        self._ending = ending
        self._shutdown_seconds = shutdown_seconds + KILL_SECONDS
        self._selector = selectors.DefaultSelector()
        self._alive, self._held = os.pipe()
        self._woken, self._waking = socket.socketpair()
        self._asked = 0
        self._deadline: float | None = None
        self._have_started = False
        self._failed = False

    def run(self, sign: Callable[[], None], seconds: float) -> bool:
        """Run them until a signal, or until one can't start; return whether that was a failure.

        Call `sign` at least each so many seconds.
        """
        self._woken.setblocking(False)
        self._waking.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        # Not copied for each worker by what the collector notes in it.
        gc.freeze()
        with self._handling():
            while self._deadline is None or any(place.process for place in self._places):
                sign()
                self._start_due()
                for key, _ in self._selector.select(min(self._next(), seconds)):
                    if key.data is None:
                        with contextlib.suppress(BlockingIOError):
                            self._woken.recv(1_024)
                    else:
                        self._hear(key.data)
                self._reap()
                self._follow_signals()
        return self._failed

    @contextlib.contextmanager
    def _handling(self) -> Iterator[None]:
        def ask(_number: int, _frame: object) -> None:
            self._asked += 1

        before = {number: signal.signal(number, ask) for number in self._signals}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        former = signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _next(self) -> float:
        """Return the seconds until something is due."""
        moment = time.monotonic()
        if self._deadline is not None:
            return max(self._deadline - moment, 0.0)
        due = [place.due for place in self._places if not place.process]
        return max(min(due, default=moment + LONGEST_RESTART_SECONDS) - moment, 0.05)

    def _start_due(self) -> None:
        if self._deadline is not None:
            return
        for place in self._places:
            if not place.process and place.due <= time.monotonic():
                self._start(place)
            if not place.is_ready and place.number == 0 and not self._have_started:
                return  # the first one migrates, or tells why none can start

    def _start(self, place: _Place) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        place.starts += 1
        place.began = time.monotonic()
        start = Start(place.number, place.starts == 1, self._alive, writing)
        # None may come between the fork and the worker's own handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        place.process = os.fork()
        if place.process == 0:
            os.close(reading)
            self._be(start, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writing)
        place.telling = reading
        self._selector.register(reading, selectors.EVENT_READ, place)

    def _be(self, start: Start, mask: "set[int | signal.Signals]") -> NoReturn:
        """Be a worker to the end of this process."""
        status = 1
        try:
            # Ctrl-C is the parent's, who asks all of them to end.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (*self._signals, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._selector.close()
            os.close(self._held)
            for place in self._places:
                if place.telling >= 0:
                    os.close(place.telling)
            self._woken.close()
            self._waking.close()
            status = self._work(start)
        except BaseException:  # noqa: BLE001 - whatever it is, it ends here
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _hear(self, place: _Place) -> None:
        said = os.read(place.telling, 1)
        self._forget(place)
        if said != _READY:
            return  # it has ended: what `_reap` finds
        place.is_ready = True
        if not self._have_started and all(each.is_ready for each in self._places):
            self._have_started = True
            self._started()
        elif self._have_started and self._deadline is None:
            log.info("worker started again", worker=place.number, process=place.process)

    def _forget(self, place: _Place) -> None:
        if place.telling >= 0:
            self._selector.unregister(place.telling)
            os.close(place.telling)
            place.telling = -1

    def _reap(self) -> None:
        for place in self._places:
            if not place.process:
                continue
            process, waited = os.waitpid(place.process, os.WNOHANG)
            if process:
                self._forget(place)
                place.process, place.is_ready = 0, False
                self._has_ended(place, process, os.waitstatus_to_exitcode(waited))

    def _has_ended(self, place: _Place, process: int, status: int) -> None:
        if self._deadline is not None:
            self._failed = self._failed or status != 0
            return
        if not self._have_started:
            # It has said why; the others could start no better.
            if status < 0:
                log.error("worker ended at its start", worker=place.number, status=status)
            self._failed = True
            self._end()
            return
        moment = time.monotonic()
        lived = moment - place.began
        place.short_lives = 0 if lived > LONG_LIFE_SECONDS else place.short_lives + 1
        delay = FIRST_RESTART_SECONDS * (1 << min(max(place.short_lives - 1, 0), 16))
        delay = min(delay, LONGEST_RESTART_SECONDS)
        place.due = moment + delay
        log.error(
            "worker ended: it is started again",
            worker=place.number,
            process=process,
            status=status,
            again_in_seconds=delay,
        )

    def _follow_signals(self) -> None:
        if self._deadline is None and self._asked:
            self._end()
        elif self._asked > 1:
            self._ask()  # a second signal waits for nobody
        self._asked = min(self._asked, 1)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = time.monotonic() + KILL_SECONDS
            self._failed = True
            for place in self._places:
                if place.process:
                    log.critical(
                        "SHUTDOWN_TIMEOUT exceeded: worker killed",
                        worker=place.number,
                        process=place.process,
                    )
                    os.kill(place.process, signal.SIGKILL)

    def _end(self) -> None:
        self._deadline = time.monotonic() + self._shutdown_seconds
        self._ending()
        self._ask()

    def _ask(self) -> None:
        for place in self._places:
            if place.process:
                os.kill(place.process, signal.SIGTERM)

"""A command that is told to end, by systemd or since its terminal is gone, undoes what it began."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# As shells have it.
_KILLED = 128


@contextlib.contextmanager
def undone_when_terminated() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises, instead of ending the process.

    A signal that is ignored stays so: see nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        # None but the main one is told.
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _exit)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(_KILLED + number)

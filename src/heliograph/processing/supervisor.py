"""Runs a program within bounds, and ends all that it has started when it ends or is ended.

A program of its own, of the standard library alone: between a fork and what it runs, a server with
threads could set no limits safely. On Linux whatever the program leaves behind becomes a child of
this process, even if it has left its session; elsewhere its process group is ended.

usage: supervisor.py MEMORY SECONDS PROGRAM [ARGUMENT]…
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Any

CANNOT_RUN = 126
_SET_DEATH_SIGNAL = 1  # of Linux's <sys/prctl.h>
_SET_SUBREAPER = 36


def main() -> int:
    """Run the program; return its status, or 128 and the signal that has ended it."""
    memory, seconds, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
        # Without the server nobody would wait for it, and the server will run it again.
        libc.prctl(_SET_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    # Ended before it knows what to end, it would leave that running.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        _become(program, memory, seconds)

    def end(number: int, _: Any) -> None:
        _end_all(child)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status = os.waitpid(child, 0)
    _end_all(child)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(program: list[str], memory: int, seconds: int) -> None:
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for limit, bound in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(limit, (bound, bound))
        os.execv(program[0], program)  # noqa: S606 - no shell is what is wanted
    except (OSError, ValueError) as error:
        os.write(2, str(getattr(error, "strerror", None) or error).encode())
        os._exit(CANNOT_RUN)


def _end_all(child: int) -> None:
    """Kill the program and all that it has left, and wait until none is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 - starts sooner
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())

"""What all processes of a run of the tests share, and how it goes when the run does.

The process that the user starts (`begin`) makes a folder, whose path those that it starts
inherit. What one of them makes in there `once` the others take as well. However the run ends, by a
kill too, a guard ends what is left of it and deletes the folder.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VARIABLE = "HELIOGRAPH_TEST_RUN"
_SECONDS = 10.0
_MEMORY = "/dev/shm"
_ROOM = 8 * 2**30


def folder() -> Path:
    """Return the run's folder."""
    return Path(os.environ[VARIABLE])


def once(name: str, make: Callable[[], Any]) -> Any:
    """Return what the first call of this name in the whole run has made: any JSON."""
    made = folder() / f"{name}.json"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(json.dumps(make()))
        return json.loads(made.read_text())


def _place() -> str | None:
    """Return where files are cheap: in memory, if there is room for all of a run and to run them.

    A disk takes ten times as long to make a database, and what waits for one waits for all others.
    """
    try:
        kind = os.statvfs(_MEMORY)
    except OSError:
        return None
    has_room = kind.f_bavail * kind.f_frsize >= _ROOM and not kind.f_flag & os.ST_NOEXEC
    return _MEMORY if has_room and os.access(_MEMORY, os.W_OK) else None


@contextlib.contextmanager
def begin() -> Iterator[None]:
    """Be the process that the run's folder and all that the run starts live as long as."""
    path = tempfile.mkdtemp(prefix="heliograph-tests-", dir=_place())
    # Other users' servers have their data within.
    Path(path).chmod(0o755)
    # Its input ends when this process does.
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, path],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    os.environ[VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        guard.communicate(timeout=3 * _SECONDS)


def _left(path: str) -> list[int]:
    """Return the processes that have inherited the folder's path."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{VARIABLE}={path}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def _end(path: str) -> None:
    # PostgreSQL takes SIGQUIT as a crash and takes its children along; most others just end.
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for process in _left(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + _SECONDS
        while _left(path) and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    _end(sys.argv[1])

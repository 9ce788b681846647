"""How a load's process and the benchmark agree on when the clock starts.

The process prints `ready`, waits for a line on its standard input, works, and prints one
JSON object.
"""

import gc
import json
import resource
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from bench.processes import Measured

ROOT = Path(__file__).resolve().parent.parent
PREPARATION = 240.0
WORK = 300.0


class LoadError(Exception):
    """A load could not be delivered, or an answer was not the one that it has to be."""


def raise_open_files(wanted: int) -> None:
    """Let this process and those it starts open so many files.

    Raises:
        OSError: the hard limit is lower, and may not be raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except ValueError as error:
        raise OSError(f"{wanted} open files are needed, ulimit -Hn says {hard}") from error


def wait_for_go() -> None:
    """Say that everything is prepared, and return when the benchmark says go."""
    gc.collect()
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    if not sys.stdin.readline():
        raise LoadError("the benchmark has gone")


def awaited_end() -> threading.Event:
    """Return what is set when the benchmark says go once more: to end."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        ended.set()

    threading.Thread(target=wait, name="end of the load", daemon=True).start()
    return ended


def report(**members: Any) -> None:
    """Print the result as one line."""
    print(json.dumps(members), flush=True)


class Load:
    """A load's process, seen from the benchmark; use it in a `with` statement."""

    def __init__(self, module: str, **specification: Any) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}", json.dumps(specification)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def ready(self) -> None:
        """Wait until everything is built and connected."""
        if self._line(PREPARATION) != b"ready":
            raise LoadError(f"{self._module} did not get ready")

    def signal(self) -> None:
        """Say go; to a load without an end of its own, say it again to end it."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        self._process.stdin.write(b"go\n")

    def wait(self, seconds: float) -> None:
        """Let a load without an end of its own go on for so long.

        Raises:
            LoadError: it has ended before.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise LoadError(f"{self._module} ended early")

    def result(self, seconds: float = WORK) -> dict[str, Any]:
        """Return what the process reports at its end, which has to come within the seconds."""
        found: dict[str, Any] = json.loads(self._line(seconds))
        return found

    def run(self) -> dict[str, Any]:
        """Start the clock and return what the process reports at its end."""
        self.signal()
        return self.result()

    def measured(self, *processes: "Measured") -> tuple[dict[str, Any], float]:
        """Run it once it is ready; return its report, and the CPU seconds of the processes."""
        self.ready()
        before = sum(process.cpu_seconds() for process in processes)
        found = self.run()
        return found, sum(process.cpu_seconds() for process in processes) - before

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - opened above
        deadline, line = time.monotonic() + seconds, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise LoadError(f"{self._module} said nothing for {seconds:g} seconds")
                if not (piece := self._process.stdout.read(65_536)):
                    raise LoadError(f"{self._module} ended early")
                line += piece
        return bytes(line).strip()

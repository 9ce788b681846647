"""Processes that are measured: their CPU time, their memory, their end."""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

from bench.starting_line import ROOT, LoadError

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Measured:
    """A running server or bare path."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        *,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for_port(self, port: int) -> None:
        """Wait until the process accepts connections on the port."""

        def accepts() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        self._wait(accepts, f"port {port}")

    def wait_until_ready(self, url: str) -> None:
        """Wait until the URL answers 200."""

        def ready() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own
                    return bool(response.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        self._wait(ready, url)

    def wait_for_output(self, text: str) -> None:
        """Wait until the process has printed a text."""
        self._wait(lambda: text in self.output(), repr(text))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LoadError(f"{what} did not come up:\n{self.output()}")
            time.sleep(0.02)

    def output(self) -> str:
        """Return the end of what the process has printed."""
        return self._log.read_text(errors="replace")[-4_000:]

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process and its children, those that ended included."""
        return cpu_seconds(self._process.pid)

    def cpu_seconds_of_children(self) -> dict[int, float]:
        """Return the CPU time of each of the process's children that runs, by its number."""
        _, *children = _tree(self._process.pid)
        return {child: cpu_seconds(child) for child in children}

    def written_bytes(self) -> int:
        """Return the bytes that the process and its children have handed to the system to write.

        Not `write_bytes`: a page of a large folio counts there as the whole folio.
        """
        return sum(map(_written, _tree(self._process.pid)))

    def proportional_mebibytes(self) -> float:
        """Return the memory of the process, of what others share its part."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        return int(text.partition("\nPss:")[2].split()[0]) / 1_024

    def resident_mebibytes(self) -> float:
        """Return the resident memory of the process and its children."""
        found = filter(None, map(_stat, _tree(self._process.pid)))
        return sum(int(fields[21]) for fields in found) * PAGE / (1 << 20)

    def stop(self) -> None:
        """End the process, and wait for its end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise LoadError(f"the process did not stop:\n{self.output()}") from None


class Repeatedly:
    """Does something at an interval, in a thread, until the `with` statement ends."""

    interval: float

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def once(self) -> None:
        """Do it."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._end.wait(self.interval):
            self.once()


class Watch(Repeatedly):
    """Samples the memory of a process, in MiB; keeps the highest."""

    interval = 0.05

    def __init__(self, process: Measured) -> None:
        super().__init__()
        self._process = process
        self._before = self.highest = process.resident_mebibytes()

    def once(self) -> None:
        """Take a sample."""
        self.highest = max(self.highest, self._process.resident_mebibytes())

    @property
    def growth(self) -> float:
        """The highest growth so far."""
        self.once()
        return self.highest - self._before


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and its children, those that ended included."""
    # A child that has ended is in its parent's fields from there on.
    return sum(int(n) for each in _tree(process) for n in _stat(each)[11:15]) / TICKS


def _tree(process: int) -> Iterator[int]:
    pending = [process]
    while pending:
        number = pending.pop()
        yield number
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                pending += [int(child) for child in task.read_text().split()]
            except OSError:
                continue  # the thread has ended meanwhile


def _written(number: int) -> int:
    try:
        text = Path(f"/proc/{number}/io").read_text()
    except OSError:
        return 0  # it has ended meanwhile
    return int(text.partition("wchar:")[2].split()[0])


def _stat(number: int) -> list[str]:
    """Return the fields of a process from its state on; empty when it has ended."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return []
    return text.rsplit(")", 1)[1].split()

"""A private Mosquitto for tests: real, on free ports, gone afterwards."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ports import free_port

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
SECONDS = 60.0
# As deploy/mosquitto has it: nothing that was acknowledged is dropped, and much is in flight.
PLAIN = """
allow_anonymous true
persistence true
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
sys_interval 1
"""


class Mosquitto:
    """A broker with its state in a folder of its own. `start` and `stop` return when it is done."""

    def __init__(self, options: str = PLAIN, port: int | None = None) -> None:
        assert PROGRAM is not None
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="heliograph-mosquitto-"))
        # Mosquitto gives up root for its own user.
        self.folder.chmod(0o777)
        self.configuration = self.folder / "mosquitto.conf"
        self.configure(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def configure(self, options: str) -> None:
        """Take other options from the next start on."""
        self.configuration.write_text(
            f"listener {self.port} 127.0.0.1\npersistence_location {self.folder}/\n{options}"
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM or "mosquitto", "-c", str(self.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"Mosquitto has ended:\n{self.said[-2000:]}"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.01)
        raise AssertionError(f"Mosquitto does not listen:\n{self.said[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it and wait for that; SIGTERM lets it save its state.

        One that has just begun to listen forgets a signal that comes before its main loop.
        """
        if self._process is None:
            return
        deadline = time.monotonic() + SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"Mosquitto does not end:\n{self.said[-2000:]}"
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running_mosquitto(options: str = PLAIN) -> Iterator[Mosquitto]:
    """Run a broker for as long as the context lasts."""
    if PROGRAM is None:
        pytest.skip("Mosquitto is not installed")
    broker = Mosquitto(options)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()

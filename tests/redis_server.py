"""A Redis server for tests: real, on a port of its own, with nothing on the disk."""

import shutil
import socket
import subprocess
import time
from typing import Self

import shared
from ports import free_port

_SECONDS = 20.0


class RedisServer:
    """A server that may be stopped and started again, which forgets all. A context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is missing: ./scripts/setup --with-services"
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--loglevel"]
        self._process = subprocess.Popen(
            [program, *options, "warning"], cwd=shared.folder(), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS) as client:
                client.sendall(b"PING\r\n")
                return client.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

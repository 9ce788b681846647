"""Programs that the server starts: within a time, memory and output, and with nothing left."""

import asyncio
import contextlib
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from heliograph.errors import DeliveryError

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
# What a supervisor takes to end what it has started.
ENDING_SECONDS = 2.0
_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


class Bounds(NamedTuple):
    """What a program may take: seconds, bytes of address space, bytes of output."""

    seconds: float
    memory: int
    output: int


class Ending(NamedTuple):
    """How a program ended, by itself: its exit status (128 and the signal), and what it wrote."""

    status: int
    output: str


async def run(program: Sequence[str], message: bytes, folder: Path, bounds: Bounds) -> Ending:
    """Run a program in the folder, with the message as its input; when it ends, all of it ends.

    Its environment holds nothing of the server's. Output and errors are one text.

    Raises:
        DeliveryError: it took too long, wrote too much or could not be started.
    """
    limits = [str(bounds.memory), str(math.ceil(bounds.seconds) + 1)]
    try:
        transport, running = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Running(bounds.output),
            *(sys.executable, "-I", "-S", _SUPERVISOR, *limits, *program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryError(f"can't be started: {error.strerror}") from error
    try:
        writer = _input(transport)
        # It may have ended by now, and uvloop refuses what is written to a pipe that is closed.
        if not writer.is_closing():
            writer.write(message)
        writer.close()
        async with asyncio.timeout(bounds.seconds):
            await running.finished.wait()
    except TimeoutError:
        raise DeliveryError(f"ended after {bounds.seconds:g} s, which is all it may take") from None
    finally:
        await _end(transport, running)
    if running.has_written_too_much:
        raise DeliveryError(
            f"ended after {bounds.output} bytes of output, which is all it may write"
        )
    # It has ended by itself.
    status = cast("int", transport.get_returncode())
    return Ending(status, running.output.decode("utf-8", "replace"))


class _Running(asyncio.SubprocessProtocol):
    """What a supervisor's program has written, and how far its end has come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.output = bytearray()
        # Its pipes are closed and its status is known, or it has written too much.
        self.finished = asyncio.Event()
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    @property
    def has_written_too_much(self) -> bool:
        return len(self.output) > self._most

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        if not self.has_written_too_much:
            self.output += data
        if self.has_written_too_much:
            self.finished.set()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed.set()
        self.finished.set()


async def _end(transport: asyncio.SubprocessTransport, running: _Running) -> None:
    """End a supervisor, and with it all that it has started; close its pipes."""
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if running.exited.is_set():
                break
            with contextlib.suppress(ProcessLookupError):
                transport.send_signal(number)
            await _wait(running.exited)
    finally:
        # What has outlived its supervisor may hold the pipes, and never read its input.
        writer = _input(transport)
        if writer.get_write_buffer_size():
            writer.abort()
        transport.close()
    await _wait(running.closed)


def _input(transport: asyncio.SubprocessTransport) -> asyncio.WriteTransport:
    # It was started with a pipe.
    return cast("asyncio.WriteTransport", transport.get_pipe_transport(0))


async def _wait(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDING_SECONDS):
            await event.wait()

"""Programs that the server starts: within a time, memory and output, and with nothing left."""

import asyncio
import contextlib
import math
import signal
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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _SUPERVISOR, *limits, *program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=folder,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryError(f"can't be started: {error.strerror}") from error
    # Asked for above, both are there.
    writer = cast("asyncio.StreamWriter", process.stdin)
    reader = cast("asyncio.StreamReader", process.stdout)
    writing = asyncio.create_task(_write(writer, message), name="program input")
    try:
        async with asyncio.timeout(bounds.seconds):
            output = await _read(reader, bounds.output)
            status = await process.wait()
    except TimeoutError:
        raise DeliveryError(f"ended after {bounds.seconds:g} s, which is all it may take") from None
    finally:
        writing.cancel()
        await _end(process)
        await asyncio.gather(writing, return_exceptions=True)
    return Ending(status, output.decode("utf-8", "replace"))


async def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    # A program need not read its input.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        writer.write(message)
        await writer.drain()
    writer.close()


async def _read(reader: asyncio.StreamReader, most: int) -> bytes:
    output = b""
    while part := await reader.read(1 << 16):
        output += part
        if len(output) > most:
            raise DeliveryError(f"ended after {most} bytes of output, which is all it may write")
    return output


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a supervisor, and with it all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                # Not `wait`, which also waits for pipes that what remains may hold.
                while process.returncode is None:  # noqa: ASYNC110 - asyncio has no event for it
                    await asyncio.sleep(0.01)

"""A process that is one of several of one server: a worker."""

import asyncio
import multiprocessing
import os
import signal
import sys
from typing import Any, NamedTuple, NoReturn

from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.settings import Settings

# Ends a parent that takes all signals which ask it to end for its users' wish, with status 0.
_FAILING = signal.SIGALRM
# The first process of a container gets no signal that it doesn't handle.
_FIRST_PROCESS = 1
_FAILURE = 1
# For how long, and how often, it is seen whether the parent has ended.
_LOOKS, _LOOK_SECONDS = 200, 0.05


class Worker(NamedTuple):
    """One of several `processes` that listen on the same ports.

    Each has a `number` from 0. One of them `speaks`: it tells what would be the same of each. Those
    that `share_ports` bind the ports of MQTT by themselves, each beside the others; the rest
    inherit bound sockets. One `is_again` if there was another in its place before.
    """

    processes: int = 1
    number: int = 0
    speaks: bool = True
    share_ports: bool = False
    is_again: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether it is the whole server."""
        return self.processes == 1

    @property
    def described(self) -> dict[str, int]:
        """What log lines say of it."""
        return {} if self.is_alone else {"workers": self.processes}

    def client_ids(self, settings: Settings) -> list[str]:
        """Return the client ids under which a broker's messages are shared, one a process."""
        first = settings.mqtt_client_id
        return [first, *(f"{first}-{number}" for number in range(2, self.processes + 1))]


ALONE = Worker()


def require_several(settings: Settings, count: int) -> None:
    """Return if the settings suit so many workers.

    Raises:
        StartError: they don't; one line says which and why.
    """
    if count == 1:
        return
    if parse_database_url(settings.database_url).is_sqlite:
        raise StartError(
            f"DATABASE_URL: SQLite takes one process, not {count} workers: start one worker, or"
            " use PostgreSQL"
        )
    if settings.mqtt_url and not settings.mqtt_shared:
        raise StartError(
            f"MQTT_SHARED: {count} workers can't all have one session at the broker of MQTT_URL:"
            " set MQTT_SHARED=true, or start one worker"
        )
    if settings.log_file is not None:
        raise StartError(
            f"LOG_FILE: {count} workers would rotate one file: have standard error kept instead,"
            " or start one worker"
        )


def worker_of_uvicorn() -> Worker:
    """Return what this process is among those that `uvicorn --workers` has started, if it has."""
    process: Any = multiprocessing.current_process()
    # What uvicorn's parent has handed over; nothing public tells how many workers there are.
    config = getattr(process, "_kwargs", {}).get("config")
    count = getattr(config, "workers", 1)
    if multiprocessing.parent_process() is None or not isinstance(count, int) or count < 2:
        return ALONE
    number = int(process.name.rpartition("-")[2]) - 1
    return Worker(count, number, speaks=number == 0, share_ports=True)


async def end_uvicorn(worker: Worker, reason: str) -> NoReturn:
    """End all of uvicorn, which would start workers that can't start anew for ever; tell it once.

    Its parent ends by a signal, since it has status 0 whenever it ends by itself.
    """
    parent = os.getppid()
    if worker.speaks:
        sys.stderr.write(f"heliograph: {reason}\n")
        sys.stderr.flush()
        os.kill(parent, signal.SIGTERM if parent == _FIRST_PROCESS else _FAILING)
    for _ in range(_LOOKS):
        if os.getppid() != parent:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    os._exit(_FAILURE)

"""One message at a time: how long until its PUBACK, and until a live viewer has it."""

import json
import socket
import sys
import time
from typing import Any

from bench.mqtt_connection import exactly, opened
from bench.packets import PUBACK_BYTES, publishes, subscribe
from bench.starting_line import LoadError, report, wait_for_go

PAUSE = 0.01


def viewer(specification: dict[str, Any]) -> socket.socket:
    """Return the connection of an administrator who watches all measurements."""
    connection = opened(specification["port"], "viewer", "viewer", specification["key"])
    connection.sendall(subscribe(1, "measurements/#", 0))
    answer = exactly(connection, 5)
    if answer[0] != 0x90 or answer[4] > 1:
        raise LoadError(f"SUBSCRIBE was answered {answer.hex()}")
    return connection


def wait_for_publish(connection: socket.socket) -> None:
    """Take one whole PUBLISH, sent to a viewer as it is."""
    first, size, shift = exactly(connection, 1)[0], 0, 0
    if first >> 4 != 3:
        raise LoadError(f"not a PUBLISH: {first:#x}")
    while True:
        byte = exactly(connection, 1)[0]
        size |= (byte & 127) << shift
        if not byte & 128:
            break
        shift += 7
    exactly(connection, size)


def main() -> None:
    specification = json.loads(sys.argv[1])
    live, samples = specification["live"], specification["samples"]
    first = int(time.time() * 1_000) - 3_600_000
    numbers = range(1, specification["sensors"] + 1)
    warm_up = 20
    prepared = list(publishes(numbers, samples + warm_up, 1, first))
    watching = viewer(specification) if live else None
    sending = opened(specification["port"], "sender", "gateway", specification["key"])
    latencies = []
    for index, (packet, acknowledgment) in enumerate(prepared):
        if index == warm_up:
            wait_for_go()
        started = time.perf_counter()
        sending.sendall(packet)
        if watching:
            wait_for_publish(watching)
            latencies.append(time.perf_counter() - started)
        answer = exactly(sending, PUBACK_BYTES)
        if not watching:
            latencies.append(time.perf_counter() - started)
        if answer != acknowledgment:
            raise LoadError(f"{answer.hex()} in place of {acknowledgment.hex()}")
        # Idle means that whatever follows a commit has ended before the next message comes.
        time.sleep(PAUSE)
    report(latencies=[seconds * 1_000 for seconds in latencies[warm_up:]], messages=samples)


if __name__ == "__main__":
    main()

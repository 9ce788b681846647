"""One event at a time to many viewers of a stream, some beside them that never read.

How long from the PUBLISH until each viewer has the event.
"""

import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.event_streams import PATIENCE, Crowd, watch
from bench.limits import raise_open_files
from bench.mqtt_connection import exactly, opened
from bench.packets import PACKET_IDS, PUBACK_BYTES, puback, publish, publishes
from bench.starting_line import LoadError, report, wait_for_go

PAUSE = 0.02
WARM_UP = 10
# The stalled ones also watch the second sensor, which fills all that lies before them: their
# queue, the connection's buffer and the system's.
WATCHED, STUFFED = 1, 2
STUFFING = 60 << 10
STUFFED_BYTES = 6 << 20


def stuffing(sensor: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield large messages of a sensor, each with its PUBACK."""
    first = time.time() - 7_200
    for index in range(STUFFED_BYTES // STUFFING):
        text = f"{index:0{STUFFING}d}"
        element = f'{{"timestamp": {first + index:.3f}, "value": {{"text": "{text}"}}}}'
        packet_id = PACKET_IDS + index
        yield (
            publish(sensor, f'{{"measurements": [{element}]}}'.encode(), packet_id),
            puback(packet_id),
        )


def send(connection: socket.socket, packet: bytes, acknowledgment: bytes) -> None:
    """Publish, and wait for the PUBACK."""
    connection.sendall(packet)
    if (answer := exactly(connection, PUBACK_BYTES)) != acknowledgment:
        raise LoadError(f"{answer.hex()} in place of {acknowledgment.hex()}")


def latencies(
    crowd: Crowd, viewers: int, sending: socket.socket, pairs: list[tuple[bytes, bytes]]
) -> list[float]:
    """Return how long each event took to each viewer."""
    found: list[float] = []
    for packet, acknowledgment in pairs:
        left = viewers
        started = time.perf_counter()

        def each(_seen: int, new: int, started: float = started) -> None:
            nonlocal left
            left -= new
            found.append(time.perf_counter() - started)

        send(sending, packet, acknowledgment)
        while left > 0:
            if not crowd.read(PATIENCE, each):
                raise LoadError(f"{left} viewers wait for an event")
        time.sleep(PAUSE)
    return found


def main() -> None:
    specification: dict[str, Any] = json.loads(sys.argv[1])
    viewers, port, key = (specification[name] for name in ("viewers", "port", "key"))
    raise_open_files(viewers + specification["stalled"] + 200)
    identifiers = [specification["sensors"][number - 1] for number in (WATCHED, STUFFED)]
    path = f"/events?kind=measurement&sensor={identifiers[0]}"
    crowd = Crowd(port, path, key, viewers)
    both = f"{path}&sensor={identifiers[1]}"
    stalled = [watch(port, both, key, small=True) for _ in range(specification["stalled"])]
    sending = opened(specification["mqtt_port"], "sender", "gateway", key)
    for pair in stuffing(STUFFED):
        send(sending, *pair)
    first = int(time.time() * 1_000) - 3_600_000
    pairs = list(publishes([WATCHED], specification["samples"] + WARM_UP, 1, first))
    latencies(crowd, viewers, sending, pairs[:WARM_UP])
    wait_for_go()
    found = latencies(crowd, viewers, sending, pairs[WARM_UP:])
    report(latencies=[seconds * 1_000 for seconds in found])
    del stalled


if __name__ == "__main__":
    main()

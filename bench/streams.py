"""Viewers of Server-Sent Event streams, as loads of three kinds.

`count`: until each viewer has so many events. `idle`: viewers on whom nothing happens, who connect
once the clock runs. `latency`: one event at a time, from its PUBLISH until each viewer has it,
some beside them that never read.
"""

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.mqtt_load import exactly, opened
from bench.packets import PACKET_IDS, PUBACK_BYTES, puback, publish, publishes
from bench.requests import get
from bench.starting_line import LoadError, raise_open_files, report, wait_for_go

SOCKET_TIMEOUT = 30.0
PATIENCE = 60.0
READ_SIZE = 1 << 18
# What each event of interest contains once; in the data it would be escaped.
MARK = b"\nevent: measurement\n"
# The end of an event where it is the end of a chunk too: of what was written at once.
WRITTEN = b"\n\n\r\n"
LAGGED = b"\nevent: lagged\n"
BEGUN = b"retry: "
# Of viewers that are to be slow: the system's buffers are small, and full soon.
SMALL_BUFFER = 4 << 10
PAUSE = 0.02
WARM_UP = 10
# The stalled ones also watch the second sensor, which fills all that lies before them: their
# queue, the connection's buffer and the system's.
WATCHED, STUFFED = 1, 2
STUFFING = 60 << 10
STUFFED_BYTES = 6 << 20


class EventCount:
    """How many events a stream has brought, and in how many writes, in whatever pieces."""

    __slots__ = ("_tail", "seen", "writes")

    def __init__(self) -> None:
        self._tail = b""
        self.seen = self.writes = 0

    def add(self, data: bytes) -> int:
        """Take a piece; return how many events it completes.

        Raises:
            LoadError: the viewer was told that it is too slow.
        """
        data = self._tail + data
        if LAGGED in data:
            raise LoadError(f"a viewer lost events after {self.seen}")
        found = data.count(MARK)
        self.seen += found
        # Each of the two is counted when its last byte has come.
        old = self._tail
        self.writes += data.count(WRITTEN) - old.count(WRITTEN)
        self._tail = data[-len(MARK) + 1 :]
        return found


def watch(port: int, path: str, key: str, *, small: bool = False) -> socket.socket:
    """Return an open stream, past the head of its answer."""
    stream = socket.socket()
    stream.settimeout(SOCKET_TIMEOUT)
    if small:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    stream.connect(("127.0.0.1", port))
    stream.sendall(get(path, key))
    data = b""
    while BEGUN not in data:
        piece = stream.recv(READ_SIZE)
        if not piece:
            raise LoadError(f"the server closed a stream: {data[:400]!r}")
        data += piece
        if not data.startswith(b"HTTP/1.1 200"[: len(data)]):
            raise LoadError(f"a stream was answered {data[:400]!r}")
    return stream


class Crowd:
    """Many viewers of one stream, read by one thread."""

    def __init__(self, port: int, path: str, key: str, viewers: int) -> None:
        self._streams: dict[int, tuple[socket.socket, EventCount]] = {}
        self._poll = select.epoll()
        for _ in range(viewers):
            stream = watch(port, path, key)
            stream.setblocking(False)
            self._streams[stream.fileno()] = (stream, EventCount())
            self._poll.register(stream.fileno(), select.EPOLLIN)

    def read(self, seconds: float, each: Callable[[int, int], None]) -> bool:
        """Read what is there; tell of each viewer that got something how many, and how many new.

        False: nothing came for so many seconds.
        """
        ready = self._poll.poll(seconds)
        for number, _ in ready:
            stream, count = self._streams[number]
            data = stream.recv(READ_SIZE)
            if not data:
                raise LoadError(f"the server closed a stream after {count.seen} events")
            if found := count.add(data):
                each(count.seen, found)
        return bool(ready)

    def close(self) -> None:
        """Leave."""
        self._poll.close()
        for stream, _ in self._streams.values():
            stream.close()

    @property
    def events_a_write(self) -> float:
        """How many events came in one write, on average."""
        counts = [count for _, count in self._streams.values()]
        return sum(c.seen for c in counts) / max(1, sum(c.writes for c in counts))

    def read_until(self, events: int) -> float:
        """Read until every viewer has so many events; return the seconds that it took."""
        left = sum(1 for _, count in self._streams.values() if count.seen < events)

        def each(seen: int, found: int) -> None:
            nonlocal left
            left -= seen >= events > seen - found

        started = time.perf_counter()
        while left:
            if not self.read(PATIENCE, each):
                raise LoadError(f"{left} viewers wait for events")
        return time.perf_counter() - started


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
    kind, viewers, port, key = (specification[n] for n in ("kind", "viewers", "port", "key"))
    raise_open_files(viewers + specification.get("stalled", 0) + 200)
    if kind == "latency":
        latency(specification, viewers, port, key)
    elif kind == "count":
        crowd = Crowd(port, specification["path"], key, viewers)
        wait_for_go()
        seconds = crowd.read_until(specification["events"])
        report(seconds=seconds, events_a_write=crowd.events_a_write)
    else:
        wait_for_go()
        crowd = Crowd(port, specification["path"], key, viewers)
        report(connections=viewers)
        sys.stdin.readline()
        crowd.close()


def latency(specification: dict[str, Any], viewers: int, port: int, key: str) -> None:
    """Show one event at a time."""
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

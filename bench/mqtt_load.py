"""Loads over MQTT, of three kinds.

`rate`: measurements as fast as the other side acknowledges them. `latency`: one message at a time,
until its PUBACK or until a live viewer has it. `idle`: devices that connect and say nothing.
"""

import json
import math
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.packets import (
    PUBACK_BYTES,
    chunks,
    connect,
    device_key,
    identifier,
    publishes,
    subscribe,
)
from bench.starting_line import LoadError, raise_open_files, report, wait_for_go

SOCKET_TIMEOUT = 30.0
READ_SIZE = 1 << 18
PATIENCE = 60.0
# How long ago the first was measured, in milliseconds: all of it is in the past.
AGE = 3_600_000
# Idle means that whatever follows a commit has ended before the next message comes.
PAUSE = 0.01
# Connections that are opened at once.
WAVE = 50


def opened(port: int, client_id: str, username: str, password: str) -> socket.socket:
    """Return a connected socket whose CONNECT was accepted."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(connect(client_id, username, password))
    answer = exactly(connection, 4)
    if answer[0] != 0x20 or answer[3] != 0:
        raise LoadError(f"CONNECT of {username} was answered {answer.hex()}")
    return connection


def exactly(connection: socket.socket, size: int) -> bytes:
    """Return the next `size` bytes."""
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise LoadError("the server closed the connection")
        found += piece
    return found


class Sender:
    """Publishes prebuilt messages, never more than `window` of them unacknowledged.

    The PUBACKs have to come in the order of the messages, each once: the bytes received are
    compared with those that are due.
    """

    def __init__(self, connection: socket.socket, window: int) -> None:
        connection.setblocking(False)
        self.connection, self.window = connection, window
        self.acknowledged = self.sent = 0
        self._chunks: list[tuple[bytes, int]] = []
        self._due = b""
        self._received = 0
        self._rest = memoryview(b"")

    def load(self, packets: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the messages to send next; those before have to be acknowledged."""
        published, acknowledgments = zip(*packets, strict=True)
        self._due = b"".join(acknowledgments)
        self._chunks = chunks(published, max(1, min(500, self.window // 4)))[::-1]
        self.acknowledged = self.sent = self._received = 0

    @property
    def is_open(self) -> bool:
        """Whether there is something to send now."""
        if self._rest:
            return True
        return bool(self._chunks) and self.sent - self.acknowledged < self.window

    @property
    def is_done(self) -> bool:
        """Whether all is sent and acknowledged."""
        return not self._chunks and not self._rest and self.acknowledged == self.sent

    def stop(self) -> None:
        """Send no more than the chunk that is under way."""
        self._chunks.clear()

    def send(self) -> None:
        """Send what the socket takes of one chunk."""
        if not self._rest:
            data, count = self._next()
            self._rest = memoryview(data)
            self.sent += count
        try:
            self._rest = self._rest[self.connection.send(self._rest) :]
        except BlockingIOError:
            return

    def _next(self) -> tuple[bytes | bytearray, int]:
        """Take the next chunk, and how many messages it has."""
        return self._chunks.pop()

    def receive(self) -> None:
        """Compare what has come with the PUBACKs that are due."""
        try:
            data = self.connection.recv(READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            raise LoadError(f"the server closed the connection after {self.acknowledged} messages")
        end = self._received + len(data)
        if data != self._expected(self._received, end) or end > self.sent * PUBACK_BYTES:
            raise LoadError(f"not the PUBACKs that are due: {data[:32].hex()}…")
        self._received = end
        self.acknowledged = end // PUBACK_BYTES

    def _expected(self, start: int, end: int) -> bytes:
        """Return the PUBACKs that are due, from one byte to another."""
        return self._due[start:end]


def connections(specification: dict[str, Any]) -> list[tuple[Sender, list[int]]]:
    """Return the open connections, each with the sensors that it publishes for.

    A gateway sends so many messages of a sensor `together`, one after the other.
    """
    count, numbers = specification["connections"], range(1, specification["sensors"] + 1)
    together = specification.get("together", 1)
    senders = []
    for index in range(count):
        if specification["gateway"]:
            own = [number for number in numbers for _ in range(together)]
            username, password = "gateway", specification["key"]
        else:
            own = [numbers[index]]
            username, password = identifier(own[0]), device_key(own[0])
        connection = opened(specification["port"], f"load-{index}", username, password)
        senders.append((Sender(connection, max(1, specification["window"] // count)), own))
    return senders


def deliver(senders: Sequence[Sender], over: Callable[[float], bool] | None = None) -> float:
    """Send everything; return the seconds until the last PUBACK.

    `over` tells, from the seconds spent, whether to send no more.
    """
    selector = selectors.DefaultSelector()
    both, reading = selectors.EVENT_READ | selectors.EVENT_WRITE, selectors.EVENT_READ
    interest = dict.fromkeys(senders, both)
    for sender in senders:
        selector.register(sender.connection, both, sender)
    started = progress = time.perf_counter()
    waiting = set(senders)
    while waiting:
        events = selector.select(1.0)
        clock = time.perf_counter()
        progress = clock if events else progress
        if clock - progress > PATIENCE:
            raise LoadError(f"nothing acknowledged for {PATIENCE:g} seconds")
        if over is not None and over(clock - started):
            for sender in senders:
                sender.stop()
        for key, ready in events:
            sender = key.data
            if ready & selectors.EVENT_READ:
                sender.receive()
            if ready & selectors.EVENT_WRITE and sender.is_open:
                sender.send()
            if sender.is_done:
                waiting.discard(sender)
        for sender in senders:
            wanted = both if sender.is_open else reading
            if interest[sender] != wanted:
                interest[sender] = wanted
                selector.modify(sender.connection, wanted, sender)
    selector.close()
    return time.perf_counter() - started


def rate(specification: dict[str, Any]) -> None:
    """Send as fast as it is acknowledged."""
    measurements = specification["measurements"]
    first = int(time.time() * 1_000) - specification.get("age", AGE)
    pairs = connections(specification)
    senders = [sender for sender, _ in pairs]
    for phase in ("warm_up", "messages"):
        share = specification[phase] // len(pairs)
        for sender, sensors in pairs:
            sender.load(publishes(sensors, share, measurements, first))
            first += share * measurements
        if phase == "warm_up":
            deliver(senders)
    wait_for_go()
    longest = specification.get("seconds", math.inf)
    seconds = deliver(senders, lambda spent: spent > longest)
    report(seconds=seconds, messages=sum(sender.acknowledged for sender in senders))


def viewer(port: int, key: str, topic_filter: str = "measurements/#") -> socket.socket:
    """Return the connection of an administrator who watches topics, by default measurements."""
    connection = opened(port, "viewer", "viewer", key)
    connection.sendall(subscribe(1, topic_filter, 0))
    answer = exactly(connection, 5)
    if answer[0] != 0x90 or answer[4] > 1:
        raise LoadError(f"SUBSCRIBE was answered {answer.hex()}")
    return connection


def wait_for_publish(connection: socket.socket) -> bytes:
    """Take one whole PUBLISH, sent to a viewer as it is; return what follows its fixed header."""
    first, size, shift = exactly(connection, 1)[0], 0, 0
    if first >> 4 != 3:
        raise LoadError(f"not a PUBLISH: {first:#x}")
    while True:
        byte = exactly(connection, 1)[0]
        size |= (byte & 127) << shift
        if not byte & 128:
            break
        shift += 7
    return exactly(connection, size)


def latency(specification: dict[str, Any]) -> None:
    """Send one at a time."""
    live, samples = specification["live"], specification["samples"]
    first = int(time.time() * 1_000) - 3_600_000
    numbers = range(1, specification["sensors"] + 1)
    warm_up = 20
    prepared = list(publishes(numbers, samples + warm_up, 1, first))
    watching = viewer(specification["port"], specification["key"]) if live else None
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
        time.sleep(PAUSE)
    report(latencies=[seconds * 1_000 for seconds in latencies[warm_up:]], messages=samples)


def wave(port: int, numbers: range) -> list[socket.socket]:
    """Return the connections of some devices, each accepted."""
    opened = []
    with selectors.DefaultSelector() as selector:
        for number in numbers:
            connection = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_TIMEOUT)
            connection.sendall(
                connect(f"device-{number}", identifier(number), device_key(number), 3_600)
            )
            selector.register(connection, selectors.EVENT_READ, (number, connection))
            opened.append(connection)
        waiting = len(opened)
        while waiting:
            events = selector.select(SOCKET_TIMEOUT)
            if not events:
                raise LoadError(f"{waiting} connections were not answered")
            for key, _ in events:
                number, connection = key.data
                answer = connection.recv(4)
                if len(answer) != 4 or answer[0] != 0x20 or answer[3] != 0:
                    raise LoadError(f"CONNECT of device {number} was answered {answer.hex()}")
                selector.unregister(key.fileobj)
                waiting -= 1
    return opened


def idle(specification: dict[str, Any]) -> None:
    """Connect."""
    count = specification["connections"]
    raise_open_files(count + 200)
    wait_for_go()
    connections = []
    for at in range(1, count + 1, WAVE):
        connections += wave(specification["port"], range(at, min(at + WAVE, count + 1)))
    report(connections=len(connections))
    sys.stdin.readline()


def main() -> None:
    specification = json.loads(sys.argv[1])
    kinds = {"rate": rate, "latency": latency, "idle": idle}
    kinds[specification.get("kind", "rate")](specification)


if __name__ == "__main__":
    main()

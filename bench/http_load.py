"""Loads of HTTP requests over connections that are kept alive, one at a time on each.

Modes: `single` and `batch` send each prepared request once, `lines` the same readings to
InfluxDB; `hammer` repeats one GET until it is told to stop; `latency` times one GET after another.
"""

import asyncio
import json
import random
import socket
import sys
import threading
import time
from typing import Any

import uvloop

from bench.requests import batch, get, lines, single
from bench.starting_line import LoadError, report, wait_for_go

PATIENCE = 240.0
# What every answer has to begin with.
STATUS = {
    "single": b"HTTP/1.1 201",
    "batch": b"HTTP/1.1 201",
    "lines": b"HTTP/1.1 204",
    "hammer": b"HTTP/1.1 200",
}


def answer_size(data: bytes) -> int | None:
    """Return the size of the answer at the start of the data; None: its head is not all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    if head.startswith(b"http/1.1 204"):
        return end + 4
    at = head.find(b"content-length:")
    if b"transfer-encoding: chunked" in head:
        return len(data) if data.endswith(b"\r\n0\r\n\r\n") else None
    if at < 0:
        raise LoadError(f"an answer without a length: {data[:200]!r}")
    return end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, requests: list[bytes], status: bytes, load: "HttpLoad") -> None:
        self.requests, self.status, self.load = requests, status, load
        self.rest = b""
        self.next = self.answered = self.rejected = 0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.fail(f"the server closed a connection: {exc}")

    def send(self) -> None:
        if self.load.stopped or (self.next == len(self.requests) and not self.load.repeats):
            self.load.done()
            return
        request = self.requests[self.next % len(self.requests)]
        self.next += 1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.rest = self.rest + data if self.rest else data
        size = answer_size(self.rest)
        if size is None or len(self.rest) < size:
            return
        if not self.rest.startswith(self.status) or len(self.rest) > size:
            self.load.fail(f"an answer of another kind: {self.rest[:400]!r}")
            return
        if self.load.counts_rejected and b'"rejected":[]' not in self.rest.replace(b" ", b""):
            self.load.fail(f"readings were rejected: {self.rest[:400]!r}")
            return
        self.rest = b""
        self.answered += 1
        self.send()


class HttpLoad:
    """All connections, and whether they are through."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self.specification = specification
        self.repeats = specification["mode"] == "hammer"
        self.counts_rejected = specification["mode"] == "batch"
        self.stopped = False
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connections: list[Connection] = []
        self.working = 0

    def requests(self, count: int, first: int) -> list[bytes]:
        """Return requests from the `first` reading on."""
        given = self.specification
        base = int(time.time() * 1_000) - 3_600_000
        if given["mode"] == "hammer":
            return [get(given["path"], given["key"])]
        if given["mode"] == "single":
            return [
                single(index % given["sensors"] + 1, base + index)
                for index in range(first, first + count)
            ]
        size = given["readings"]
        if given["mode"] == "lines":
            return [
                lines(given["sensors"], at, size, base)
                for at in range(first, first + count * size, size)
            ]
        return [
            batch(given["sensors"], at, size, base, given["key"])
            for at in range(first, first + count * size, size)
        ]

    async def open(self) -> None:
        """Connect."""
        status = STATUS[self.specification["mode"]]
        loop = asyncio.get_running_loop()
        for _ in range(self.specification["connections"]):
            _, connection = await loop.create_connection(
                lambda: Connection([], status, self), "127.0.0.1", self.specification["port"]
            )
            self.connections.append(connection)

    async def run(self, requests: list[bytes]) -> float:
        """Send the requests over the connections; return the seconds until the last answer."""
        count = len(self.connections)
        self.finished = asyncio.get_running_loop().create_future()
        self.working = count
        for index, connection in enumerate(self.connections):
            connection.requests = requests if self.repeats else requests[index::count]
            connection.next = connection.answered = 0
        started = time.perf_counter()
        for connection in self.connections:
            connection.send()
        async with asyncio.timeout(PATIENCE):
            await self.finished
        return time.perf_counter() - started

    def done(self) -> None:
        """Note that one connection is through."""
        self.working -= 1
        if not self.working and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, reason: str) -> None:
        """End the run with an error."""
        if not self.finished.done():
            self.finished.set_exception(LoadError(reason))

    def stop(self) -> None:
        """Send no more requests."""
        self.stopped = True


def ask(connection: socket.socket, request: bytes, status: bytes = b"200") -> bytearray:
    """Return the whole answer to a request, which has to have the status."""
    connection.sendall(request)
    # Megabytes are not to be copied with each piece: that is no time of the server's.
    data, size = bytearray(), None
    while size is None or len(data) < size:
        piece = connection.recv(1 << 18)
        if not piece:
            raise LoadError("the server closed the connection")
        data += piece
        size = answer_size(bytes(data)) if size is None else size
    if not data.startswith(b"HTTP/1.1 " + status):
        raise LoadError(f"an answer of another kind: {bytes(data[:400])!r}")
    return data


def latency(specification: dict[str, Any]) -> None:
    """Time one GET after another."""
    # Both sides get the same pages in the same order.
    chosen = random.Random(1)
    low, high = specification["keys"]
    warm_up = specification["warm_up"]
    requests = [
        get(specification["path"].format(key=chosen.uniform(low, high)), specification["key"])
        for _ in range(specification["samples"] + warm_up)
    ]
    connection = socket.create_connection(("127.0.0.1", specification["port"]), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sizes = [len(ask(connection, request)) for request in requests[:warm_up]]
    wait_for_go()
    latencies = []
    for request in requests[warm_up:]:
        started = time.perf_counter()
        ask(connection, request)
        latencies.append((time.perf_counter() - started) * 1_000)
    report(latencies=latencies, bytes=sum(sizes) / len(sizes))


async def rate(specification: dict[str, Any]) -> None:
    """Send all requests."""
    load = HttpLoad(specification)
    count, warm_up = specification["requests"], specification["warm_up"]
    readings = specification.get("readings", 1)
    warming = load.requests(warm_up, 0)
    requests = load.requests(count, warm_up * readings)
    await load.open()
    if not load.repeats:
        await load.run(warming)
    wait_for_go()
    if load.repeats:
        loop = asyncio.get_running_loop()
        stop = threading.Thread(
            target=lambda: (sys.stdin.readline(), loop.call_soon_threadsafe(load.stop)), daemon=True
        )
        stop.start()
    seconds = await load.run(requests)
    answered = sum(connection.answered for connection in load.connections)
    report(seconds=seconds, requests=answered)


def main() -> None:
    specification = json.loads(sys.argv[1])
    if specification["mode"] == "latency":
        latency(specification)
    else:
        uvloop.run(rate(specification))


if __name__ == "__main__":
    main()

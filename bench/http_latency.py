"""One GET after another over one connection, each timed."""

import json
import random
import socket
import sys
import time

from bench.http_load import answer_size
from bench.requests import get
from bench.starting_line import LoadError, report, wait_for_go

WARM_UP = 50


def ask(connection: socket.socket, request: bytes) -> bytearray:
    """Return the whole answer to a request."""
    connection.sendall(request)
    # Megabytes are not to be copied with each piece: that is no time of the server's.
    data, size = bytearray(), None
    while size is None or len(data) < size:
        piece = connection.recv(1 << 18)
        if not piece:
            raise LoadError("the server closed the connection")
        data += piece
        size = answer_size(bytes(data)) if size is None else size
    if not data.startswith(b"HTTP/1.1 200"):
        raise LoadError(f"an answer of another kind: {bytes(data[:400])!r}")
    return data


def main() -> None:
    specification = json.loads(sys.argv[1])
    # Both sides get the same pages in the same order.
    chosen = random.Random(1)
    low, high = specification["keys"]
    warm_up = specification.get("warm_up", WARM_UP)
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


if __name__ == "__main__":
    main()

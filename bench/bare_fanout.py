"""The bare way to many viewers: one buffer, written to one socket after the other.

`GET /publish/300` has it written 300 times to all who have asked for anything else.
"""

import argparse
import select
import socket

from bench.starting_line import raise_open_files
from heliograph.live import sse

OPEN_FILES = 12_000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PUBLISH = b"GET /publish/"
# As the server's, of the load's messages.
DATA = (
    b'{"sensor_identifier":"00000000-0000-0000-0000-000000000001","device_id":"bench-000001",'
    b'"revision":1,"creation_timestamp":1700000000.123,'
    b'"measurement":{"humidity":0.43,"pressure":1013.2,"temperature":21.5}}'
)
WRITING_TIMEOUT = 30_000


def chunk(data: bytes) -> bytes:
    """Return the data as a chunk of an HTTP answer."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def write(viewer: socket.socket, data: bytes) -> None:
    """Write it whole, waiting where the viewer is slow."""
    try:
        sent = viewer.send(data)
    except BlockingIOError:
        sent = 0
    while sent < len(data):
        waiting = select.poll()
        waiting.register(viewer.fileno(), select.POLLOUT)
        if not waiting.poll(WRITING_TIMEOUT):
            raise TimeoutError("a viewer takes nothing")
        sent += viewer.send(data[sent:])


class Fanout:
    """The viewers, and what is written to them."""

    def __init__(self) -> None:
        self.viewers: list[socket.socket] = []
        self.event = chunk(sse.event("measurement", DATA, 1 << 61))

    def serve(self, listening: socket.socket) -> None:
        """Take viewers, and write whenever asked to."""
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = client.recv(4_096)
            if request.startswith(PUBLISH):
                self.publish(int(request[len(PUBLISH) :].split()[0]))
                client.close()
            elif request:
                client.sendall(HEAD + chunk(sse.retry(2_000)))
                client.setblocking(False)
                self.viewers.append(client)

    def publish(self, events: int) -> None:
        """Write the event so many times to all."""
        event = self.event
        for _ in range(events):
            for viewer in self.viewers:
                write(viewer, event)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    raise_open_files(OPEN_FILES)
    with socket.create_server(("127.0.0.1", options.port), backlog=2_048) as listening:
        Fanout().serve(listening)


if __name__ == "__main__":
    main()

"""Devices that send as much as they can, for a while: a process of its own, so as to be able to.

Over MQTT each has as many messages under way as it is let; over HTTP each repeats at once what is
refused. It prints one JSON object: what was acknowledged, and how requests were answered.
"""

import asyncio
import collections
import itertools
import json
import sys
import time
from typing import Any

from mqtt_client import connect, publish

START_AGE = 86_400
CHUNK = 100
# Readings of a request.
BATCH = 500
PACKET_IDS = 65_535
# The PUBACKs of all packet ids, in turn.
CYCLE = b"".join(b"\x40\x02" + (n + 1).to_bytes(2, "big") for n in range(PACKET_IDS))
LAST_SECONDS = 60.0


class Publisher(asyncio.Protocol):
    """Publishes at QoS 1 over one connection; PUBACKs have to come in order, each once."""

    def __init__(self, device_id: str, key: str, window: int, start: float) -> None:
        self.device_id = device_id
        self.sent = self.acknowledged = 0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key, self._window, self._start = key, window, start
        self._received = -4  # what answers CONNECT is as long as a PUBACK
        self._ready = self._ended = self._is_due = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(connect(self.device_id, self.device_id, self._key))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.begun, self.settled):
            if not future.done():
                future.set_exception(exc or ConnectionResetError(self.device_id))

    def data_received(self, data: bytes) -> None:
        if self._received < 0:
            assert data[:4] == b"\x20\x02\x00\x00", data[:4]
            data, self._received = data[4:], 0
            self.begun.set_result(None)
        at = self._received % len(CYCLE)
        self._received += len(data)
        expected = CYCLE[at : at + len(data)]
        assert data == expected + CYCLE[: len(data) - len(expected)], "not the PUBACKs that are due"
        self.acknowledged = self._received // 4
        assert self.acknowledged <= self.sent
        self._send_soon()

    def begin(self) -> None:
        self._ready = True
        self._send_soon()

    def end(self) -> None:
        self._ended = True
        self._send_soon()

    def pause_writing(self) -> None:
        self._ready = False

    def resume_writing(self) -> None:
        self.begin()

    def _send_soon(self) -> None:
        """Let the others have their turn before each chunk."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        if self._ready and not self._ended and self.sent - self.acknowledged < self._window:
            packets = [self._packet(n) for n in range(self.sent, self.sent + CHUNK)]
            self.sent += CHUNK
            self._transport.write(b"".join(packets))
            self._send_soon()
        elif self._ended and self.acknowledged == self.sent and not self.settled.done():
            self.settled.set_result(None)

    def _packet(self, n: int) -> bytes:
        payload = b'{"timestamp":%.3f,"value":{"n":%d}}' % (self._start + n / 1_000, n)
        return publish(f"measurements/{self.device_id}", payload, packet_id=n % PACKET_IDS + 1)


class Posts:
    """What the connections of a device post, and how that is answered."""

    def __init__(self, device_id: str, key: str, start: float) -> None:
        self.device_id = device_id
        self.numbers = itertools.count()
        self.acknowledged: list[int] = []
        self.answers: collections.Counter[str] = collections.Counter()
        self.ended = False
        self._start = start
        self._head = f"POST /ingest/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n".encode()

    def request(self, n: int) -> bytes:
        """Return the n-th batch."""
        readings = (
            b'{"n":%d,"timestamp":%.3f}' % (at, self._start + at / 1_000)
            for at in range(n * BATCH, (n + 1) * BATCH)
        )
        body = b"[%b]" % b",".join(readings)
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)


class Poster(asyncio.Protocol):
    """One request at a time; what is refused is sent again at once."""

    def __init__(self, posts: Posts) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._posts = posts
        self._n = next(posts.numbers)
        self._request = posts.request(self._n)
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.settled.done():
            self.settled.set_exception(exc or ConnectionResetError(self._posts.device_id))

    def begin(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:]) if found else {}
        if not found or len(body) < int(headers[b"content-length"]):
            return
        self._rest = b""
        status = int(head[9:12])
        posts = self._posts
        if status == 201:
            posts.acknowledged.append(self._n)
            self._n = next(posts.numbers)
            self._request = posts.request(self._n)
        posts.answers[f"{status} {headers.get(b'retry-after', b'').decode()}".strip()] += 1
        if posts.ended:
            self.settled.set_result(None)
        else:
            self.begin()


async def load(
    *,
    port: int,
    mqtt_port: int,
    publishers: dict[str, str],
    posters: dict[str, str],
    window: int,
    connections: int,
    seconds: float,
) -> dict[str, Any]:
    """Send for so long; each posting device over so many connections."""
    loop, start = asyncio.get_running_loop(), time.time() - START_AGE
    publishing = [Publisher(name, key, window, start) for name, key in publishers.items()]
    posting = [Posts(name, key, start) for name, key in posters.items()]
    senders = [Poster(posts) for posts in posting for _ in range(connections)]
    for publisher in publishing:
        await loop.create_connection(lambda each=publisher: each, "127.0.0.1", mqtt_port)
    for sender in senders:
        await loop.create_connection(lambda each=sender: each, "127.0.0.1", port)
    await asyncio.gather(*(publisher.begun for publisher in publishing))
    print("ready", flush=True)
    sys.stdin.readline()
    for each in (*senders, *publishing):
        each.begin()
    await asyncio.sleep(seconds)
    for publisher in publishing:
        publisher.end()
    for posts in posting:
        posts.ended = True
    async with asyncio.timeout(LAST_SECONDS):
        await asyncio.gather(*(each.settled for each in (*publishing, *senders)))
    return {
        "answers": sum((posts.answers for posts in posting), collections.Counter()),
        "published": {publisher.device_id: publisher.acknowledged for publisher in publishing},
        "posted": {posts.device_id: sorted(posts.acknowledged) for posts in posting},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(**json.loads(sys.argv[1])))), flush=True)

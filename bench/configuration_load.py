"""Devices that wait for configurations and acknowledge them, and the requests that make some.

`all`: one request for all devices. `one`: a request for one device after another, each when the
one before has been acknowledged in the database.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from functools import partial
from typing import Any

import uvloop

from bench.bare_listener import CONNECT, PUBLISH, SUBSCRIBE, packet
from bench.databases import Database
from bench.http_load import answer_size
from bench.packets import connect, device_key, heartbeat, identifier, received, subscribe
from bench.requests import post
from bench.scale import Profile
from bench.starting_line import LoadError, raise_open_files, report, wait_for_go

WAVE = 100
PATIENCE = 120.0
SETTLING_SECONDS = 0.02
LOOK_SECONDS = 0.001
KEEPALIVE = 3_600
# How many sensors have acknowledged a revision.
ACKNOWLEDGED = "SELECT count(*) FROM configuration WHERE revision = {} AND success"
CONNACK, PUBACK, SUBACK = CONNECT + 1, PUBLISH + 1, SUBSCRIBE + 1


class Devices:
    """All devices, and what they have received."""

    def __init__(self, count: int) -> None:
        self.count = count
        # When each device received its newest revision, by the clock of `time.perf_counter`.
        self.moments: dict[int, float] = {}
        self.failure: str | None = None
        self.unacknowledged = 0
        self._changed = asyncio.Event()

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        self._changed.set()

    def progress(self) -> None:
        self._changed.set()

    async def wait(self, count: int) -> None:
        """Return when so many devices have received a revision, and the broker their answers."""
        async with asyncio.timeout(PATIENCE):
            while len(self.moments) < count or self.unacknowledged:
                await self._changed.wait()
                self._changed.clear()
                self.check()

    def check(self) -> None:
        """Raise if anything was wrong."""
        if self.failure:
            raise LoadError(self.failure)


class Device(asyncio.Protocol):
    """Acknowledges each revision that it gets; they have to count up from 0, each once."""

    def __init__(self, number: int, devices: Devices) -> None:
        self.number, self.devices = number, devices
        self.revision = -1
        self.rest = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        name = identifier(self.number)
        transport.write(
            connect(f"device-{self.number}", name, device_key(self.number), KEEPALIVE)
            + subscribe(1, f"configurations/{name}", 1)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.devices.fail(f"the broker closed the connection of device {self.number}: {exc}")

    def data_received(self, data: bytes) -> None:
        buffer = self.rest + data if self.rest else data
        at, end = 0, len(buffer)
        while (body := packet(buffer, at, end)) is not None:
            self.take(buffer[at] >> 4, buffer[body[0] : body[1]])
            at = body[1]
        self.rest = buffer[at:]

    def take(self, kind: int, body: bytes) -> None:
        if kind == PUBLISH:
            self.configured(body)
        elif kind == PUBACK:
            self.devices.unacknowledged -= 1
            self.devices.progress()
        elif kind == SUBACK and body[-1] == 1:
            self.ready.set_result(None)
        elif kind != CONNACK or body[1] != 0:
            self.devices.fail(f"device {self.number} was told {kind} {body.hex()}")

    def configured(self, body: bytes) -> None:
        moment = time.perf_counter()
        packet_id, message = received(body)
        revision = json.loads(message)["revision"]
        if revision != self.revision + 1:
            self.devices.fail(f"device {self.number} got {revision} after {self.revision}")
            return
        self.revision = revision
        self.transport.write(
            b"\x40\x02" + packet_id + heartbeat(self.number, revision, time.time(), 1)
        )
        self.devices.moments[self.number] = moment
        self.devices.unacknowledged += 1
        self.devices.progress()


async def connected(port: int, devices: Devices) -> None:
    """Connect all devices, some at a time; return when each has its subscription."""
    loop = asyncio.get_running_loop()
    numbers = iter(range(1, devices.count + 1))
    while wave := list(itertools.islice(numbers, WAVE)):
        made = await asyncio.gather(
            *(loop.create_connection(partial(Device, n, devices), "127.0.0.1", port) for n in wave)
        )
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(device.ready for _, device in made))
        devices.check()


class Requests:
    """One connection for requests, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, request: bytes) -> Any:
        """Send one that makes something and return the answer's body."""
        self._writer.write(request)
        data, size = b"", None
        async with asyncio.timeout(PATIENCE):
            while size is None or len(data) < size:
                piece = await self._reader.read(1 << 18)
                if not piece:
                    raise LoadError("the server closed the connection")
                data += piece
                size = answer_size(data) if size is None else size
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 201"):
            raise LoadError(f"an answer of another kind: {data[:400]!r}")
        return json.loads(body)


def configuration(number: int) -> str:
    """Return the body of a request; each has another configuration."""
    return json.dumps(
        {"configuration": {"interval": 60 + number, "threshold": 21.5, "mode": "normal"}}
    )


async def all_at_once(
    devices: Devices, requests: Requests, path: str, key: str, number: int
) -> tuple[float, float, list[float]]:
    """Give all devices a revision.

    Returns when that began, the milliseconds until the request was answered, and each device's
    until it had the revision.
    """
    devices.moments.clear()
    request = post(path, key, configuration(number))
    started = time.perf_counter()
    answer = await requests.send(request)
    if len(answer) != devices.count:
        raise LoadError(f"{len(answer)} of {devices.count} devices were given a revision")
    answered = (time.perf_counter() - started) * 1_000
    await devices.wait(devices.count)
    return started, answered, [(moment - started) * 1_000 for moment in devices.moments.values()]


async def one_by_one(
    devices: Devices, requests: Requests, database: Database, chosen: list[int], key: str
) -> list[tuple[float, float]]:
    """Give one device after another a revision.

    Returns the milliseconds until each device had it, and until the database had its answer.
    """
    found = []
    with database.reading() as row:
        for index, number in enumerate(chosen):
            devices.moments.clear()
            path = f"/sensors/{identifier(number)}/configurations"
            request = post(path, key, configuration(index))
            started = time.perf_counter()
            revision = (await requests.send(request))["revision"]
            await devices.wait(1)
            is_acknowledged = f"{ACKNOWLEDGED.format(revision)} AND sensor = {number}"
            async with asyncio.timeout(PATIENCE):
                while not row(is_acknowledged)[0]:  # noqa: ASYNC110 - not ours
                    await asyncio.sleep(LOOK_SECONDS)
            ended = time.perf_counter()
            found.append(((devices.moments[number] - started) * 1_000, (ended - started) * 1_000))
            # Light load: whatever follows the commit has ended before the next request.
            await asyncio.sleep(SETTLING_SECONDS)
    return found


async def main() -> None:
    specification = json.loads(sys.argv[1])
    devices = Devices(specification["devices"])
    raise_open_files(devices.count + 200)
    key = specification["key"]
    await connected(specification["broker"], devices)
    requests = Requests(*await asyncio.open_connection("127.0.0.1", specification["port"]))
    path = specification["path"]
    await all_at_once(devices, requests, path, key, 0)
    samples = specification["samples"]
    if not samples:
        wait_for_go()
        started, answered, times = await all_at_once(devices, requests, path, key, 1)
        report(started=started, answered=answered, received=times)
        return
    address = specification["address"]
    database = Database(specification["engine"], address, address, Profile("", 0, 0), bare=False)
    draw = random.Random(1)
    chosen = [draw.randint(1, devices.count) for _ in range(samples)]
    wait_for_go()
    pairs = await one_by_one(devices, requests, database, chosen, key)
    devices.check()
    report(received=[pair[0] for pair in pairs], acknowledged=[pair[1] for pair in pairs])


if __name__ == "__main__":
    uvloop.run(main())

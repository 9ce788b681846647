"""The load of `targets`: connections that walk over all routes, and one that logs in.

Each connection sends a request, waits for its answer, pauses, and sends the next, until it is told
to end. `pause` is how long the pauses are on average, in seconds: each is between none and twice
that. With 0 there are none, and the server is as busy as it can be.
"""

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvloop

from bench.http_load import answer_size
from bench.packets import device_key, identifier
from bench.requests import device_id
from bench.routes import LOG_IN, PASSWORD, SIGN_UP, USERS, Call, Walk, cycle
from bench.starting_line import LoadError, awaited_end, report, wait_for_go

PATIENCE = 60.0
DAY = 86_400
CONFLICT = b"HTTP/1.1 409 "
LOG_IN_SECONDS = 0.5
# After so many log-ins somebody signs up.
LOG_INS_A_SIGN_UP = 5


class Client(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._rest = b""
        self._answer: asyncio.Future[bytes] | None = None
        self.answered_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError(f"the server closed a connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._rest += data
        size = answer_size(self._rest)
        if size is None or len(self._rest) < size:
            return
        self.answered_at = time.perf_counter()
        answer, self._rest = self._rest[:size], self._rest[size:]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    async def ask(self, request: bytes) -> bytes:
        """Return the whole answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, PATIENCE)


class RouteLoad:
    """All connections, and how long each call took."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self._given = specification
        self._walks = cycle(specification["described"])
        self._tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + DAY))
        self._templates = {
            id(call): call.templates() for walk in (*self._walks, LOG_IN, SIGN_UP) for call in walk
        }
        self._words = 0
        self._random = random.Random(1)
        self._ended = threading.Event()
        self.counts = False
        self.milliseconds: dict[str, list[float]] = {}

    async def run(self) -> None:
        """Warm up, wait for the start, go on until told to end, and report."""
        opener = await self._open()
        for user in USERS:
            account = Call("POST", "/users", {"username": user, "password": PASSWORD}, 201)
            self._templates[id(account)] = account.templates()
            await self._walk(opener, (account,))
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._go_round(await self._open(), number))
            for number in range(self._given["connections"])
        ]
        tasks.append(loop.create_task(self._log_in(opener)))
        started = loop.run_in_executor(None, wait_for_go)
        await self._or_fail(started, tasks)
        self.counts, began = True, time.perf_counter()
        self._ended = awaited_end()
        await asyncio.gather(*tasks)
        report(seconds=time.perf_counter() - began, milliseconds=self.milliseconds)

    async def _or_fail(
        self, started: asyncio.Future[None], tasks: list[asyncio.Task[None]]
    ) -> None:
        """Wait for the start; raise at once what a connection has raised before."""
        await asyncio.wait({started, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        await started

    async def _open(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, "127.0.0.1", self._given["port"])
        return client

    async def _go_round(self, client: Client, number: int) -> None:
        """Walk all walks again and again, each time in another order."""
        order = random.Random(number)
        walks = [*self._walks]
        while True:
            order.shuffle(walks)
            for walk in walks:
                if self._ended.is_set():
                    return
                await self._walk(client, walk, order)

    async def _log_in(self, client: Client) -> None:
        """Log in twice a second, however long it takes; sign up now and then."""
        due, count = time.perf_counter(), 0
        while not self._ended.is_set():
            await self._walk(client, LOG_IN)
            count += 1
            if count % LOG_INS_A_SIGN_UP == 0:
                await self._walk(client, SIGN_UP)
            due = max(due + LOG_IN_SECONDS, time.perf_counter() - LOG_IN_SECONDS)
            await asyncio.sleep(due - time.perf_counter())

    async def _walk(self, client: Client, walk: Walk, pauses: random.Random | None = None) -> None:
        known, pause = self._variables(), self._given["pause"]
        for call in walk:
            if pause and pauses is not None:
                await asyncio.sleep(pauses.uniform(0, 2 * pause))
            request = b"".join(self._request(call, known))
            started = time.perf_counter()
            try:
                answer = await client.ask(request)
            except TimeoutError as error:
                raise LoadError(f"{call.route} was not answered in time") from error
            spent = client.answered_at - started
            if call.conflicts and answer.startswith(CONFLICT):
                return
            if not answer.startswith(b"HTTP/1.1 %d " % call.status):
                raise LoadError(f"{call.route} was answered {answer[:400]!r}")
            if self.counts:
                self.milliseconds.setdefault(call.route, []).append(spent * 1_000)
            if call.keep:
                told = json.loads(answer.partition(b"\r\n\r\n")[2])
                try:
                    known |= {name: _at(told, place) for name, place in call.keep.items()}
                except IndexError:
                    return

    def _variables(self) -> dict[str, Any]:
        number = self._random.randint(1, self._given["sensors"])
        self._words += 1
        return {
            "sensor": identifier(number),
            "device": device_id(number),
            "key": device_key(number),
            "network": self._given["network"],
            "user": USERS[self._words % len(USERS)],
            "tomorrow": self._tomorrow,
            "unique": f"bench-word-{self._words}",
        }

    def _request(self, call: Call, known: dict[str, Any]) -> Iterator[bytes]:
        path, body = (each.substitute(known) for each in self._templates[id(call)])
        yield f"{call.method} /api/v1{path} HTTP/1.1\r\nHost: bench\r\n".encode()
        if call.bearer:
            yield f"Authorization: Bearer {known[call.bearer]}\r\n".encode()
        else:
            yield f"X-API-Key: {self._given['key']}\r\n".encode()
        if body:
            yield b"Content-Type: application/json\r\n"
        if body or call.method != "GET":
            yield f"Content-Length: {len(body)}\r\n".encode()
        yield b"\r\n" + body.encode()


def _at(told: Any, place: str) -> Any:
    """Return what an answer has at a place."""
    for step in place.split("."):
        told = told[int(step) if step.isdecimal() else step]
    return told


def main() -> None:
    uvloop.run(RouteLoad(json.loads(sys.argv[1])).run())


if __name__ == "__main__":
    main()

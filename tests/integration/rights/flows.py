"""Every way in which data flows from or to who has a right.

A flow is a generator of two steps: it yields when it has begun, so that rights may end, and then
what has come of it: with `say` and the like in its second step it is asked what comes live.
"""

import asyncio
import contextlib
import json

import httpx
import websockets

from integration.rights.case import Seen, as_json

SECONDS = 10
# Of one sensor's export the first page, as heliograph.exchange.pages reads it.
FIRST_PAGE = 16
REFUSED = (401, 403, 404)


# What is read


async def polls(case, text):
    """Asking again and again, with the ETag of the answer that one has."""
    await case.configure(text)
    paths = [f"/sensors/{sensor.identifier}/configurations/current" for sensor in case.sensors]
    tags = [(await case.ask("GET", path)).headers["etag"] for path in paths]
    yield
    answers = [
        await case.ask("GET", path, headers={"if-none-match": tag})
        for path, tag in zip(paths, tags, strict=True)
    ]
    answers += [
        await case.ask("GET", f"/sensors/{sensor.identifier}/measurements")
        for sensor in case.sensors
    ]
    yield _by_status(case, answers)


async def network_stream(case, text):
    """The stream of a network, open."""
    async with _events(case, f"/streams/{case.roof}") as events:
        yield
        await case.say(text)
        # It shows one network alone; what is kept may be in another.
        last = case.last(text) if case.cellar == case.roof else f"{text} of lost"
        seen = await events.until(case, text, last)
        yield seen._replace(kept=seen.kept or (case.cellar != case.roof and not seen.ended))


async def stream(case, text):
    """The stream of all that one may see, open."""
    async with _events(case, "/events") as events:
        yield
        await case.say(text)
        yield await events.until(case, text)


async def resumed_stream(case, text):
    """What came while a stream was away, which it may be resumed with."""
    async with _events(case, "/events") as events:
        last_id = events.last_id
    await case.say(text)
    yield
    async with _events(case, "/events", headers={"last-event-id": last_id}) as events:
        yield await events.until(case, text)


async def stream_by_ticket(case, text):
    """A ticket for a stream, made and not used yet."""
    ticket = (await case.ask("POST", "/tickets")).json()["ticket"]
    yield
    async with _events(case, f"/events?ticket={ticket}", headers=None) as events:
        await case.say(text)
        yield await events.until(case, text)


async def socket_of_all(case, text):
    """A WebSocket that shows all that one may see."""
    async with _socket(case, "/realtime/all") as socket:
        yield
        await case.say(text)
        yield await _until(case, socket, text)


async def socket_of_devices(case, text):
    """A WebSocket that shows the devices that it names."""
    async with _socket(case, f"/realtime/subscribe/{case.lost.device_id}") as socket:
        for sensor in case.sensors[1:]:
            await socket.send(json.dumps({"action": "subscribe", "device_id": sensor.device_id}))
            assert json.loads(await socket.recv())["type"] == "ack"
        yield
        await case.say(text)
        yield await _until(case, socket, text)


async def export_of_a_sensor(case, text):
    """A download under way, of which the first page has been sent."""
    async with _export(case, f"/sensors/{case.lost.identifier}/export", text) as rest:
        yield
        yield await rest()


async def export_of_a_network(case, text):
    """A download under way, of all sensors of a network."""
    async with _export(case, f"/networks/{case.roof}/export", text) as rest:
        yield
        yield await rest()


# What is sent


async def posts(case, text):
    """Readings over HTTP."""
    yield
    answers = [
        await case.ask("POST", "/ingest", json=case.reading(sensor, text))
        for sensor in case.sensors
    ]
    stored = await case.stored(text)
    assert stored[:2] == _by_status(case, answers)[:2]
    yield _by_status(case, answers)


async def repeats(case, text):
    """An Idempotency-Key, by which the first answer is given again."""

    async def post():
        return [
            await case.ask(
                "POST",
                "/ingest",
                json=case.reading(sensor, text),
                headers={"idempotency-key": sensor.device_id + text},
            )
            for sensor in case.sensors
        ]

    first = await post()
    yield
    again = await post()
    ids = {answer.json()["id"] for answer in first}
    assert {answer.json()["id"] for answer in again if answer.is_success} <= ids
    yield _by_status(case, again)


async def repeated_batch(case, text):
    """An Idempotency-Key of a batch, of which each element is answered for."""

    async def post():
        body = [case.reading(sensor, text) for sensor in case.sensors]
        key = {"idempotency-key": f"{case.name} {text}"}
        return await case.ask("POST", "/ingest/batch", json=body, headers=key)

    await post()
    yield
    yield _of_batch(case, await post())


async def batch_under_way(case, text):
    """A batch whose body comes when its head has been taken, and its sender's right has ended."""
    body = as_json([case.reading(sensor, text) for sensor in case.sensors])
    head = [
        "POST /api/v1/ingest/batch HTTP/1.1",
        "host: 127.0.0.1",
        "expect: 100-continue",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in case.headers.items()),
    ]
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", case.world.port)
        writer.write("\r\n".join([*head, "\r\n"]).encode())
        # Who sends is known before the body is asked for.
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    yield
    async with asyncio.timeout(SECONDS):
        writer.write(body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].split(b"\r\n")[0])
        content = await reader.readexactly(length)
    writer.close()
    status = int(answer.split()[1])
    seen = _of_batch(case, httpx.Response(status, content=content))
    assert (await case.stored(text))[:2] == seen[:2]
    yield seen


# How


def _by_status(case, answers):
    """Return what answers about each sensor in turn say together."""
    turn = len(case.sensors)
    lost, kept = answers[::turn], answers[1::turn] if turn == 2 else []
    for answer in answers:
        assert answer.status_code < 400 or answer.status_code in REFUSED, answer.text
    return Seen(
        any(answer.status_code < 400 for answer in lost),
        bool(kept) and all(answer.status_code < 400 for answer in kept),
        all(answer.status_code == 401 for answer in answers),
    )


def _of_batch(case, answer):
    if answer.status_code >= 400:
        assert answer.status_code in REFUSED, answer.text
        return Seen(False, False, True)
    refused = [each["index"] for each in answer.json()["rejected"]]
    assert answer.json()["accepted"] + answer.json()["duplicates"] + len(refused) == len(
        case.sensors
    )
    return Seen(0 not in refused, case.kept is not None and 1 not in refused, ended=False)


@contextlib.asynccontextmanager
async def _events(case, path, headers=()):
    """Open a stream; `headers` beside the holder's own, None: without those."""
    given = {} if headers is None else {**case.headers, **dict(headers)}
    async with case.http.stream("GET", path, headers=given) as response:
        events = _Events(response)
        if response.is_success:
            # It says how to come again, and with which id, when it has begun.
            await events.line("retry")
            if "last-event-id" not in given:
                events.last_id = (await events.line("id:")).removeprefix("id:").strip()
        yield events


class _Events:
    """What comes of a stream, line by line."""

    def __init__(self, response):
        self.last_id = None
        self._response = response
        self._lines = response.aiter_lines()

    async def line(self, start):
        """Return the next line that starts so; None: the stream has ended."""
        async with asyncio.timeout(SECONDS):
            async for line in self._lines:
                if line.startswith(start):
                    return line
        return None

    async def until(self, case, text, last=None):
        """Return what has come when what is last has, or the stream has ended."""
        if not self._response.is_success:
            assert self._response.status_code in REFUSED
            return Seen(False, False, True)
        data, last = "", last or case.last(text)
        while last not in data:
            line = await self.line("data:")
            if line is None:
                return case.seen(data, text, ended=True)
            data += line
        return case.seen(data, text, ended=False)


@contextlib.asynccontextmanager
async def _socket(case, path):
    url = f"ws://127.0.0.1:{case.world.port}{path}"
    async with websockets.connect(url, additional_headers=case.headers) as socket:
        assert json.loads(await socket.recv()) == {"type": "ack"}
        yield socket


async def _until(case, socket, text):
    data = ""
    with contextlib.suppress(websockets.ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            while case.last(text) not in data:
                data += await socket.recv()
        return case.seen(data, text, ended=False)
    return case.seen(data, text, ended=True)


@contextlib.asynccontextmanager
async def _export(case, path, text):
    """Begin a download; the function that this gives returns what of the last row has come."""
    await case.say(text, rows=FIRST_PAGE + 1)

    async def rest():
        release()
        data, ended = b"", False
        try:
            async for piece in response.aiter_raw():
                data += piece
        except httpx.RemoteProtocolError:
            ended = True
        seen = case.seen(data, text, ended=ended)
        # What is kept need not be in it.
        return seen._replace(kept=case.kept is not None and not ended)

    exports = case.server.store.exports
    async with (
        _held(exports, "page", after=1) as (reached, release),
        case.http.stream(
            "GET", path, headers={**case.headers, "accept-encoding": "identity"}
        ) as response,
    ):
        assert response.is_success
        await reached()
        yield rest


@contextlib.asynccontextmanager
async def _held(queries, name, *, after=0):
    """Hold a query up, after so many calls: until it is reached, and from when it is released."""
    reached, released, query = asyncio.Event(), asyncio.Event(), getattr(queries, name)
    calls = 0

    async def held(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls > after:
            reached.set()
            await released.wait()
        return await query(*arguments, **options)

    async def is_reached():
        async with asyncio.timeout(SECONDS):
            await reached.wait()

    setattr(queries, name, held)
    try:
        yield is_reached, released.set
    finally:
        released.set()
        delattr(queries, name)


READING = (
    polls,
    network_stream,
    stream,
    resumed_stream,
    stream_by_ticket,
    socket_of_all,
    socket_of_devices,
    export_of_a_sensor,
    export_of_a_network,
)
SENDING = (posts, repeats, repeated_batch, batch_under_way)
# What devices have nothing to do with.
OF_USERS = (network_stream, stream_by_ticket, export_of_a_network)

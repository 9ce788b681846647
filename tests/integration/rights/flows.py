"""Every way in which data flows from or to who has a right.

A flow is a generator of two steps: it yields when it has begun, so that rights may end, and then
what has come of it: with `say` and the like in its second step it is asked what comes live.
"""

import asyncio
import contextlib
import json

import httpx
import websockets

from integration.rights.case import Seen, as_json, heard, said
from mqtt_client import publish, subscribe
from server import ADMIN_KEY, eventually

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
    yield _by_status(case, answers)


async def readings(case, text):
    """A device's stored readings."""
    yield
    await case.say(text)
    paths = [f"/devices/{sensor.identifier}/history" for sensor in case.sensors]
    answers = [await case.ask("GET", path) for path in paths]
    assert all(answer.is_success or answer.status_code in REFUSED for answer in answers)
    ended = all(answer.status_code == 401 for answer in answers)
    yield case.seen("".join(answer.text for answer in answers), text, ended=ended)


async def lists(case, _text):
    """What is listed of networks and their sensors."""
    await case.say("listed")
    yield
    paths = ["/sensors", "/devices"]
    for network in (case.roof, case.cellar):
        paths += [f"/networks/{network}/sensors", f"/networks/{network}/latest"]
    answers = [await case.ask("GET", f"{path}?limit=10000") for path in paths]
    ended = all(answer.status_code == 401 for answer in answers)
    listed = "".join(answer.text for answer in answers)
    yield Seen(case.lost.identifier in listed, case.kept.identifier in listed, ended)


async def activity(case, _text):
    """The snapshot that a network's stream begins with, which is kept for others who open one."""
    await case.say("active")

    async def snapshot(network):
        async with _events(case, f"/streams/{network}") as events:
            return await events.line("data:") if events.begun else ""

    for network in (case.roof, case.cellar):
        assert await snapshot(network)
    yield
    shown = [await snapshot(network) for network in (case.roof, case.cellar)]
    told = "".join(shown)
    yield Seen(case.lost.identifier in told, case.kept.identifier in told, not told)


async def network_stream(case, text):
    """The stream of a network, open."""
    async with _events(case, f"/streams/{case.roof}") as events:
        yield
        await case.say(text)
        # It shows one network alone; what is kept may be in another.
        last = case.last(text) if case.cellar == case.roof else said(case.lost, text)
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


async def subscription(case, text):
    """An MQTT session that is connected, and subscribes to what sensors send."""
    client = await _subscribed(case, "measurements", text)
    yield
    await case.say(text)
    payloads, ended = await heard(client)
    await client.close()
    yield case.seen(payloads, text, ended=ended)


async def configurations(case, text):
    """An MQTT session that is connected, and subscribes to configurations."""
    client = await _subscribed(case, "configurations", text)
    yield
    await case.configure(text)
    # Who sees all networks has others' to take before.
    last = case.last(text) if case.sees_all else None
    payloads, ended = await heard(client, last=last)
    await client.close()
    yield case.seen(payloads, text, ended=ended)


async def retained(case, text):
    """Configurations that the listener retains, for who is connected and subscribes now."""
    await case.configure(text)
    client = await case.connect(text)
    yield
    client.send(subscribe(_filter(case, "configurations")))
    payloads, ended = await heard(client, last=case.last(text))
    await client.close()
    yield case.seen(payloads, text, ended=ended)


async def retained_under_way(case, text):
    """Retained configurations that are being read for who has subscribed."""
    await case.configure(text)
    client = await case.connect(text)
    store = case.server.store
    # A device asks for its own; of others it is known by then that they may be seen.
    queries = (
        (store.configurations, "current") if case.kept is None else (store.publications, "texts")
    )
    async with _held(*queries) as (reached, release):
        client.send(subscribe(_filter(case, "configurations")))
        await reached()
        yield
        release()
        payloads, ended = await heard(client, last=case.last(text))
    await client.close()
    yield case.seen(payloads, text, ended=ended)


async def owed(case, text):
    """An MQTT session that is not connected: what it is owed when it comes again."""
    client = await _subscribed(case, "measurements", text, keeps=True)
    await _gone(case, client)
    await case.say(text)
    yield
    yield await _owed(case, text)


async def unacknowledged(case, text):
    """An MQTT session that has not acknowledged: what it is sent again."""
    client = await _subscribed(case, "measurements", text, keeps=True)
    await case.say(text)
    payloads, _ = await heard(client, acknowledging=False)
    assert case.seen(payloads, text, ended=False).lost
    await _gone(case, client)
    yield
    yield await _owed(case, text)


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
    rest = await _begin_to_post(case, "/ingest/batch", body)
    yield
    seen = _of_batch(case, await rest())
    assert (await case.stored(text))[:2] == seen[:2]
    yield seen


async def configurations_under_way(case, text):
    """New configurations whose bodies come when their heads have been taken."""
    rests = [
        await _begin_to_post(
            case,
            f"/sensors/{sensor.identifier}/configurations",
            as_json({"configuration": {"said": said(sensor, text)}}),
        )
        for sensor in case.sensors
    ]
    yield
    yield _by_status(case, [await rest() for rest in rests])


async def publishing(case, text):
    """An MQTT session that is connected, and publishes."""
    client = await case.connect(text)
    yield
    for number, sensor in enumerate(case.sensors, 1):
        value = as_json({"value": case.reading(sensor, text)["metrics"]})
        topic = f"measurements/{sensor.device_id}"
        client.send(publish(topic, value, packet_id=number))
    _, ended = await heard(client)
    await eventually(lambda: case.server.state.depth == 0)
    await client.close()
    yield (await case.stored(text))._replace(ended=ended)


async def wills(case, _text):
    """Last wills of clients that are connected, and then go without a word."""
    clients = []
    for sensor in case.sensors:
        await _set_status(case, sensor, b"online")
        will = (f"status/{sensor.device_id}", b"offline", 1, True)
        clients.append(await case.connect(f"will-{sensor.device_id}", will=will))
    yield
    ended = (await heard(clients[0]))[1]
    await _gone(case, *clients)
    if (keeper := case.server.listener.keeper) is not None:
        # Each is published once the database says that its session is still this server's.
        await eventually(lambda: not keeper._firing)
    await eventually(lambda: case.server.state.depth == 0)
    found = [await case.server.store.sensors.find_number(each.number) for each in case.sensors]
    came = [sensor.status == "offline" for sensor in found]
    yield Seen(came[0], came[-1] if case.kept else False, ended)


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


async def _begin_to_post(case, path, body):
    """Send the head of a request; the function that this returns sends the body."""
    head = [
        f"POST /api/v1{path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        "expect: 100-continue",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in case.headers.items()),
    ]
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", case.world.port)
        writer.write("\r\n".join([*head, "\r\n"]).encode())
        # Where it matters who sends, that is known before the body is asked for.
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")

    async def rest():
        async with asyncio.timeout(SECONDS):
            writer.write(body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"content-length: ")[2].split(b"\r\n")[0])
            content = await reader.readexactly(length)
        writer.close()
        return httpx.Response(int(answer.split()[1]), content=content)

    return rest


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
        self.begun = response.is_success
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
        if not self.begun:
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


def _filter(case, first):
    """Return what the holder may subscribe to: a device has no wildcards."""
    return f"{first}/#" if case.sees_all else f"{first}/{case.lost.device_id}"


async def _subscribed(case, first, text, **options):
    client = await case.connect(text, **options)
    client.send(subscribe(_filter(case, first)))
    assert (await client.packet())[-1] == 1
    return client


async def _gone(case, *clients):
    """Go without a word, and wait until the listener has noticed."""
    ours = {client.writer.get_extra_info("sockname")[1] for client in clients}
    for client in clients:
        await client.abort()
    listener = case.server.listener

    def are_gone():
        peers = [each.transport.get_extra_info("peername") for each in listener._connections]
        return ours.isdisjoint(port for _, port in peers)

    await eventually(are_gone)


async def _owed(case, text):
    """Come again to the session, by what logs in now, and return what is sent of it."""
    client = await case.connect(text, case.login_after, keeps=True)
    if client is None:
        return Seen(False, False, True)
    payloads, ended = await heard(client)
    await client.close()
    return case.seen(payloads, text, ended=ended)


async def _set_status(case, sensor, status):
    admin = await case.connect("admin", ("admin", ADMIN_KEY))
    admin.send(publish(f"status/{sensor.device_id}", status))
    assert (await admin.packet())[0] == 0x40
    await admin.close()


OWED = (owed, unacknowledged)
OF_NETWORKS = (
    lists,
    activity,
    network_stream,
    stream_by_ticket,
    export_of_a_network,
)
OVER_MQTT = (subscription, configurations, owed, unacknowledged, publishing, wills)
READING = (
    polls,
    readings,
    stream,
    resumed_stream,
    socket_of_all,
    socket_of_devices,
    export_of_a_sensor,
    subscription,
    configurations,
    retained,
    retained_under_way,
    *OF_NETWORKS,
)
SENDING = (
    posts,
    repeats,
    repeated_batch,
    batch_under_way,
    configurations_under_way,
    publishing,
    wills,
)
ALL = (*READING, *OWED, *SENDING)
ALONE = tuple((flow,) for flow in ALL)
# What a right may end for at once: neither holds up another's query, nor does it change by what it
# says or configures what another has begun with. Of the first group, `retained` and `activity`
# begin last and are asked first, so that nothing is said or configured meanwhile.
_APART = ((retained_under_way, export_of_a_sensor), (polls, export_of_a_network))
_LAST = (retained, activity)
GROUPS = (
    (*(flow for flow in ALL if flow not in (*_APART[0], *_APART[1], *_LAST)), *_LAST),
    *_APART,
)
# What each may do at all: devices see no networks and configure nothing, and shared keys see no
# lists and no configurations.
OF_USERS = (*OF_NETWORKS, configurations_under_way)
OF_HOLDER = {
    "user": ALL,
    "administrator": ALL,
    "device": tuple(flow for flow in ALL if flow not in OF_USERS),
    "shared": (readings, socket_of_devices, posts, repeats, repeated_batch, batch_under_way),
    "gateway": OVER_MQTT,
}

"""What a device must not reach, tried on a listener or a broker that has its rules.

Each part is shown able to fail: the same client does the same on topics of its own, and is seen.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mqtt_client import Client, connect, publish, published, subscribe
from server import eventually

PUBLISHED = ("measurements", "log-messages", "logs", "heartbeats", "acknowledgments", "status")
PAYLOADS = {
    "measurements": b'{"value": "%s"}',
    "log-messages": b'{"severity": "info", "subject": "%s"}',
    "logs": b'{"severity": "info", "subject": "%s"}',
    "heartbeats": b'{"details": "%s"}',
    "acknowledgments": b'{"details": "%s"}',
    "status": b"online",
}
# In MQTT 3.1.1, what a SUBACK says of a filter that is refused.
REFUSED = 0x80


def payload(first: str, text: bytes) -> bytes:
    return PAYLOADS[first].replace(b"%s", text)


def configured_by(server: Any) -> Callable[[str], Awaitable[None]]:
    """Return a coroutine function that gives a sensor a new revision, which is published."""

    async def configure(identifier: str) -> None:
        answer = await server.http.post(
            f"/sensors/{identifier}/configurations", json={"configuration": {"a": 1}}
        )
        assert answer.status_code == 201, answer.text

    return configure


async def granted(client: Client, topic_filter: str, packet_id: int = 9) -> bool:
    """Subscribe, and tell whether that was granted; retained messages may come before or after."""
    client.send(subscribe(topic_filter, packet_id=packet_id))
    while True:
        answer = await client.packet()
        assert answer, "the connection has ended"
        if answer[0] == 0x90:
            return bool(answer[-1] != REFUSED)
        _HEARD.setdefault(id(client), []).append(answer)


_HEARD: dict[int, list[bytes]] = {}


async def heard(client: Client) -> list[tuple[str, bytes]]:
    """Return topic and payload of all that has come until a ping is answered."""
    found = _HEARD.pop(id(client), [])
    client.send(b"\xc0\x00")
    while (answer := await client.packet()) != b"\xd0":
        assert answer, "the connection has ended"
        found.append(answer)
    result = []
    for raw in found:
        if raw[0] >> 4 != 3:
            continue
        message = published(raw)
        if message.qos:
            client.send(b"\x40\x02" + message.packet_id.to_bytes(2, "big"))
        result.append((message.topic, message.payload))
    return result


async def has_heard(client: Client, topic: str, seconds: float = 60.0) -> list[tuple[str, bytes]]:
    """Return all that has come up to a message on this topic."""
    everything: list[tuple[str, bytes]] = []
    async with asyncio.timeout(seconds):
        while topic not in [name for name, _ in everything]:
            everything += await heard(client)
            await asyncio.sleep(0.005)
    return everything


async def taken(client: Client, topic: str, data: bytes, packet_id: int = 7) -> None:
    """Publish with QoS 1 and return when that is answered, whatever the answer says."""
    client.send(publish(topic, data, packet_id=packet_id))
    while True:
        answer = await client.packet()
        assert answer, "the connection has ended"
        if answer[0] == 0x40:
            return
        _HEARD.setdefault(id(client), []).append(answer)


class World:
    """Devices A and B at a broker, and an observer who sees everything.

    `own` and `foreign` are the names in A's and B's topics; `login` logs a device in by A's or
    B's name and key.
    """

    def of_foreign(self, topics: Iterable[str]) -> list[str]:
        """Return those of the topics that are B's, by whatever name."""
        names = {self.foreign[0], self.shown_as[1]}
        return [topic for topic in topics if topic.rpartition("/")[2] in names]

    def __init__(
        self,
        port: int,
        own: tuple[str, str],
        foreign: tuple[str, str],
        observer: tuple[str, str],
        stored: Callable[[str], Awaitable[list[Any]]],
        shown_as: tuple[str, str] | None = None,
    ) -> None:
        self.port = port
        self.own, self.foreign = own, foreign
        self.observer = observer
        # What the server has of the device of this name.
        self.stored = stored
        # The names in the topics that the observer sees.
        self.shown_as = shown_as or (own[0], foreign[0])

    async def client(self, client_id: str, who: tuple[str, str], **options: Any) -> Client:
        return await Client.connected(self.port, client_id, *who, **options)

    async def watching(self) -> Client:
        """Return the observer, who is subscribed to everything."""
        client = await self.client("observer", self.observer)
        for first in (*PUBLISHED, "configurations"):
            assert await granted(client, f"{first}/+")
        await heard(client)
        return client

    async def dies_with_a_will(self, client_id: str, topic: str) -> None:
        """Have A connect with a will on this topic and go without a word."""
        client = await Client.open(self.port)
        will = (topic, b"offline", 1, True)
        client.send(connect(client_id, *self.own, will=will))
        answer = await client.packet()
        if answer and answer[2] == 0:
            await client.abort()


async def check_publishing(world: World) -> None:
    """A's messages on B's topics reach nobody; on its own they do."""
    watching = await world.watching()
    device = await world.client("a", world.own)
    for first in PUBLISHED:
        await taken(device, f"{first}/{world.foreign[0]}", payload(first, b"foreign"))
    for first in PUBLISHED:
        await taken(device, f"{first}/{world.own[0]}", payload(first, b"own"))
    own = world.shown_as[0]
    seen = [topic for topic, _ in await has_heard(watching, f"status/{own}")]
    assert {f"{first}/{own}" for first in PUBLISHED} <= _aliases(seen)
    assert world.of_foreign(seen) == []
    await eventually(lambda: world.stored(world.own[0]))
    assert await world.stored(world.foreign[0]) == []
    await device.close()
    await watching.close()


def _aliases(topics: list[str]) -> set[str]:
    """Return the topics, and those that the listener shows under their main name."""
    found = set(topics)
    for name, alias in (("log-messages", "logs"), ("heartbeats", "acknowledgments")):
        found |= {topic.replace(name, alias) for topic in topics if topic.startswith(f"{name}/")}
    return found


FILTERS = (
    "configurations/{b}",
    "measurements/{b}",
    "status/{b}",
    "#",
    "+/+",
    "measurements/#",
    "measurements/+",
    "configurations/+",
    "configurations/#",
    "status/+",
    "+/{b}",
    "$share/group/configurations/{b}",
    "$share/group/#",
    "$share/group/+/+",
)


async def check_subscribing(world: World, configure: Callable[[str], Awaitable[None]]) -> None:
    """Whatever A subscribes to, it gets nothing of B, retained or live; its own it gets."""
    await configure(world.foreign[0])
    device = await world.client("a", world.own)
    for number, template in enumerate(FILTERS, 20):
        await granted(device, template.format(b=world.foreign[0]), number)
    other = await world.client("b", world.foreign)
    assert await granted(other, f"configurations/{world.foreign[0]}")
    await has_heard(other, f"configurations/{world.foreign[0]}")
    for first in PUBLISHED:
        await taken(other, f"{first}/{world.foreign[0]}", payload(first, b"live"))
    await configure(world.foreign[0])
    await has_heard(other, f"configurations/{world.foreign[0]}")
    # What it is told of itself comes after all that it could have been told of the other.
    await granted(device, f"configurations/{world.own[0]}", 60)
    await configure(world.own[0])
    seen = await has_heard(device, f"configurations/{world.own[0]}")
    assert world.of_foreign(topic for topic, _ in seen) == []
    await device.close()
    await other.close()


async def check_wills(world: World) -> None:
    """A's will on B's status reaches nobody; on its own it does."""
    watching = await world.watching()
    await world.dies_with_a_will("a-foreign", f"status/{world.foreign[0]}")
    await world.dies_with_a_will("a-foreign-2", f"configurations/{world.foreign[0]}")
    await world.dies_with_a_will("a-own", f"status/{world.own[0]}")
    seen = await has_heard(watching, f"status/{world.shown_as[0]}")
    assert world.of_foreign(topic for topic, _ in seen) == []
    await watching.close()


async def check_sessions(world: World, configure: Callable[[str], Awaitable[None]]) -> None:
    """A that connects under B's client id gets nothing of what waits for B."""
    topic = f"configurations/{world.foreign[0]}"
    other = await world.client("b-session", world.foreign, clean=False)
    assert await granted(other, topic)
    await heard(other)
    await other.close()
    await configure(world.foreign[0])
    thief = await world.client("b-session", world.own, clean=False)
    await configure(world.foreign[0])
    await granted(thief, f"configurations/{world.own[0]}")
    await configure(world.own[0])
    seen = await has_heard(thief, f"configurations/{world.own[0]}")
    assert world.of_foreign(name for name, _ in seen) == []
    await thief.close()

"""A broker that does what the test says: it sends exactly the bytes that it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import mqtt5

from mqtt_client import publish

SECONDS = 60.0
GRANTED = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE

PacketT = TypeVar("PacketT")


class Conversation:
    """A connection of a client; what it says is read at once and waits to be asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.pings = 0
        # A broker that has fallen silent answers no PINGREQ either.
        self.answers_pings = True
        self.hears = asyncio.Event()
        self.hears.set()
        self.ended = asyncio.Event()
        self._packets: asyncio.Queue[Any] = asyncio.Queue()
        self.reading = asyncio.create_task(self._read(reader), name="scripted-broker read")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        buffer = b""
        try:
            while True:
                await self.hears.wait()
                data = await reader.read(1 << 16)
                if not data:
                    break
                buffer = self._split(buffer + data)
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            self._packets.put_nowait(None)
            self.writer.close()

    def _split(self, buffer: bytes) -> bytes:
        while buffer:
            try:
                packet, size = mqtt5.read(memoryview(buffer))
            except IndexError:
                break
            buffer = buffer[size:]
            if isinstance(packet, mqtt5.PingReqPacket):
                self.pings += 1
                if self.answers_pings:
                    self.send(mqtt5.PingRespPacket().write())
            else:
                self._packets.put_nowait(packet)
        return buffer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def flushed(self) -> None:
        """Return when the client's side has taken what was sent."""
        async with asyncio.timeout(SECONDS):
            await self.writer.drain()

    async def read(self, kind: type[PacketT], seconds: float = SECONDS) -> PacketT:
        """Return the next packet, which has to be of this kind."""
        async with asyncio.timeout(seconds):
            packet = await self._packets.get()
        assert isinstance(packet, kind), packet
        return packet

    async def acknowledged(self, count: int) -> list[int]:
        """Return the packet ids of the next `count` packets, all of which are PUBACKs."""
        return [(await self.read(mqtt5.PubAckPacket)).packet_id for _ in range(count)]

    @property
    def unread(self) -> int:
        """How many packets of the client have not been asked for."""
        return self._packets.qsize()

    async def end(self) -> None:
        """Return when the client has gone."""
        async with asyncio.timeout(SECONDS):
            await self.ended.wait()

    async def up(self, session_present: bool = False, **connack: Any) -> mqtt5.ConnectPacket:
        """Agree to everything that a link asks for at first; return its CONNECT."""
        connect = await self.read(mqtt5.ConnectPacket)
        self.send(mqtt5.ConnAckPacket(session_present=session_present, **connack).write())
        await self.subscribed(session_present=session_present)
        return connect

    async def subscribed(self, *, session_present: bool = False) -> mqtt5.SubscribePacket:
        """Grant what is subscribed to, and let go what is not wanted any more."""
        if session_present:
            unsubscribe = await self.read(mqtt5.UnsubscribePacket)
            codes = [mqtt5.UnsubAckReasonCode.SUCCESS] * len(unsubscribe.patterns)
            self.send(mqtt5.UnsubAckPacket(unsubscribe.packet_id, codes).write())
        subscribe = await self.read(mqtt5.SubscribePacket)
        codes = [GRANTED] * len(subscribe.topic_filters)
        self.send(mqtt5.SubAckPacket(subscribe.packet_id, codes).write())
        return subscribe

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()


class ScriptedBroker:
    """Listens on a free port, and says nothing of its own accord."""

    def __init__(self) -> None:
        self.port = 0
        self.conversations: list[Conversation] = []
        self._came: asyncio.Queue[Conversation] = asyncio.Queue()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def accept(self) -> Conversation:
        """Return the next client to connect."""
        async with asyncio.timeout(SECONDS):
            return await self._came.get()

    async def up(self, **connack: Any) -> Conversation:
        """Return the next link, connected and subscribed."""
        conversation = await self.accept()
        await conversation.up(**connack)
        return conversation

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(reader, writer)
        self.conversations.append(conversation)
        self._came.put_nowait(conversation)


@contextlib.asynccontextmanager
async def scripted_broker() -> AsyncIterator[ScriptedBroker]:
    """Listen for as long as the context lasts."""
    broker = ScriptedBroker()
    listening = await asyncio.start_server(broker.hear, "127.0.0.1", 0)
    broker.port = listening.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        listening.close()
        for conversation in broker.conversations:
            conversation.reading.cancel()
            conversation.cut()
        readers = [conversation.reading for conversation in broker.conversations]
        await asyncio.gather(*readers, return_exceptions=True)


def message(topic: str | bytes, payload: bytes, packet_id: int = 1, **options: Any) -> bytes:
    """Return a PUBLISH of MQTT 5 in QoS 1; in QoS 0 with packet id 0."""
    options.setdefault("qos", 1 if packet_id else 0)
    return publish(topic, payload, packet_id=packet_id, version=5, **options)

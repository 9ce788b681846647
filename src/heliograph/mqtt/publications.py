"""What is published to a broker, in QoS 1: in order, and known to have been taken."""

import asyncio
from collections import deque
from typing import Protocol

import msgspec

from heliograph.errors import ErrorCode, HeliographError
from heliograph.mqtt.codec import packets
from heliograph.mqtt.codec.reasons import MQTT_5, Reason
from heliograph.mqtt.codec.topics import valid_topic

# What may wait for a broker that is away.
MAXIMUM_WAITING = 10_000
MAXIMUM_WAITING_BYTES = 64 << 20
# What may be on its way to a broker that does not answer, or does not read.
MAXIMUM_WINDOW = 1_000
MAXIMUM_WINDOW_BYTES = 4 << 20
# Connections that may be lost over a message that is under way alone.
MAXIMUM_LOSSES = 3


class PublicationRefusedError(Exception):
    """The broker does not take a message, and would not the next time."""


class PublicationUnsettledError(Exception):
    """The broker has ended the connection over this message, or over one beside it."""


class Publication(msgspec.Struct, eq=False):
    """A message that the broker has yet to acknowledge."""

    topic: str
    payload: bytes
    retain: bool
    taken: "asyncio.Future[None]"
    sent: bool = False
    losses: int = 0


class Writer(Protocol):
    """Where packets go."""

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone."""
        ...


class Publications:
    """Keeps what is to be published until the broker has it, over any number of connections.

    Some brokers (Mosquitto 2.0.11 is one) end the connection after they have refused a message,
    and what they said of it may be lost with that. So a connection after a lost one begins with
    a single message, and no message ends connections for ever.
    """

    def __init__(self) -> None:
        self._waiting: deque[Publication] = deque()
        # Not acknowledged yet, in the order of sending; those of the last connection are sent
        # again before anything else.
        self._sent: dict[int, Publication] = {}
        self._again: deque[int] = deque()
        # Of all that wait, and of those that are under way on this connection.
        self._bytes = self._sent_bytes = 0
        self._writer: Writer | None = None
        self._window = self._widest = MAXIMUM_WINDOW
        self._lost = self._refused = False
        self._largest = 0
        self._retains = True
        self._last_id = 0

    def __len__(self) -> int:
        """Return how many the broker does not have yet."""
        return len(self._waiting) + len(self._sent)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return when the broker has taken the message.

        Raises:
            ValueError: nobody could take it: the topic is no text of MQTT.
            PublicationRefusedError: it does not take it.
            PublicationUnsettledError: it takes it neither nor says so.
            HeliographError: QUEUE_FULL, too many wait already.
        """
        if len(self) >= MAXIMUM_WAITING or self._bytes >= MAXIMUM_WAITING_BYTES:
            raise HeliographError(
                ErrorCode.QUEUE_FULL, "Too much waits for the MQTT broker", retry_after=5
            )
        if not valid_topic(topic):
            raise ValueError(f"not a topic of MQTT: {topic[:100]!r}")
        taken = asyncio.get_running_loop().create_future()
        publication = Publication(topic, payload, retain, taken)
        self._waiting.append(publication)
        self._bytes += len(payload)
        self._send()
        try:
            await publication.taken
        except asyncio.CancelledError:
            if not publication.sent:
                self._waiting.remove(publication)
                self._bytes -= len(payload)
            raise

    def connected(
        self,
        writer: Writer,
        *,
        session_present: bool,
        receive_maximum: int,
        largest: int,
        retains: bool = True,
    ) -> None:
        """Send what was not acknowledged again, in its order, then what waits [MQTT-4.4.0-1].

        To a broker that has lost the session it is new. `largest` is
        the largest packet that it takes (0: any), `retains` whether it takes what is to be
        retained. A broker that takes less than on the last connection gets the rest as new.
        """
        self._widest, self._largest = min(receive_maximum, MAXIMUM_WINDOW), largest
        self._window = 1 if self._lost else self._widest
        self._writer, self._retains = writer, retains
        again = list(self._sent.items())[: self._widest] if session_present else []
        fresh = list(self._sent.values())[len(again) :]
        self._waiting.extendleft(reversed(fresh))
        self._sent, self._again = dict(again), deque(packet_id for packet_id, _ in again)
        self._sent_bytes = 0
        self._send()

    def disconnected(self) -> None:
        """Keep everything until there is a connection again, but what may have ended this one."""
        if self._writer is None:
            return
        self._writer = None
        unanswered = list(self._sent.keys() - set(self._again))
        if len(unanswered) == 1:
            self._sent[unanswered[0]].losses += 1
        for packet_id in unanswered:
            publication = self._sent[packet_id]
            if self._refused or publication.losses >= MAXIMUM_LOSSES:
                del self._sent[packet_id]
                detail = f"the broker ended the connection beside {publication.topic}"
                self._finish(publication, PublicationUnsettledError(detail))
        self._lost = bool(unanswered) or self._refused
        self._refused = False

    def acknowledged(self, packet_id: int, reason: Reason) -> None:
        """Take the outcome of the message with this packet id, for the caller that awaits it."""
        publication = None if packet_id in self._again else self._sent.pop(packet_id, None)
        if publication is not None:
            self._window = min(self._window * 2, self._widest)
            self._sent_bytes -= len(publication.payload)
            if reason < Reason.UNSPECIFIED_ERROR:
                self._finish(publication)
            else:
                self._refused = True
                detail = f"the broker refuses {publication.topic}: {reason.words}"
                self._finish(publication, PublicationRefusedError(detail))
        self._send()

    def _send(self) -> None:
        while self._has_room and self._again:
            packet_id = self._again.popleft()
            self._write(self._sent[packet_id], packet_id, again=True)
        while self._has_room and self._waiting:
            publication = self._waiting.popleft()
            publication.sent = True
            self._write(publication, self._next_id(), again=False)

    @property
    def _has_room(self) -> bool:
        return (
            self._writer is not None
            and len(self._sent) - len(self._again) < self._window
            and self._sent_bytes < MAXIMUM_WINDOW_BYTES
        )

    def _write(self, publication: Publication, packet_id: int, *, again: bool) -> None:
        packet = packets.publish(
            MQTT_5,
            publication.topic,
            publication.payload,
            1,
            retain=publication.retain,
            duplicate=again,
            packet_id=packet_id,
        )
        if self._largest and len(packet) > self._largest:
            problem = f"the broker takes {self._largest} bytes at most"
        elif publication.retain and not self._retains:
            problem = "the broker retains nothing"
        else:
            self._sent[packet_id] = publication
            self._sent_bytes += len(publication.payload)
            if self._writer is not None:
                self._writer.write(packet)
            return
        self._sent.pop(packet_id, None)
        self._finish(publication, PublicationRefusedError(problem))

    def _finish(self, publication: Publication, error: Exception | None = None) -> None:
        self._bytes -= len(publication.payload)
        if publication.taken.done():
            return
        if error is None:
            publication.taken.set_result(None)
        else:
            publication.taken.set_exception(error)

    def _next_id(self) -> int:
        # 1 and 2 are the link's own, for SUBSCRIBE and UNSUBSCRIBE.
        while True:
            self._last_id = self._last_id + 1 if 2 < self._last_id < 0xFFFF else 3
            if self._last_id not in self._sent:
                return self._last_id

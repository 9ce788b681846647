"""HTTP's way into the pipeline: a caller waits for the commit."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.ingest.batch import MESSAGE_BYTES, ROW_BYTES, IngestIds, Message
from heliograph.ingest.clock import Clock
from heliograph.ingest.decode import Reading
from heliograph.ingest.identity import element_key, identify, ledger_key, tells_apart
from heliograph.ingest.packet_ingest import PacketIngest
from heliograph.ingest.packets import Packet
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.rejections import NOT_STORABLE
from heliograph.ingest.routes import DECODERS
from heliograph.ingest.state import PipelineState
from heliograph.ingest.strict_json import Fault
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.principal import Principal
from heliograph.model.records import DEVICE_TIMESTAMP, ID, TIMESTAMP, Kind
from heliograph.model.time import DAY

COMMIT_TIMEOUT_SECONDS = 10

RULE = Principal("rule", "rule")

_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An element that is stored. Of a duplicate, `id` is that of the row stored first."""

    index: int
    id: int
    timestamp: int
    duplicate: bool


class Outcome(NamedTuple):
    """What became of a message's elements, after the commit.

    `retimed` are the indexes of those stored now whose time was none: they got that of receipt.
    """

    accepted: list[Accepted]
    faults: list[Fault]
    retimed: tuple[int, ...] = ()


class PostedPacket(NamedTuple):
    """The id of a packet that is stored; of a repeat, that of the first."""

    id: int
    is_repeat: bool


class HttpIngest:
    """Stores what is posted; every method returns after the commit."""

    def __init__(
        self,
        registry: Registry,
        pipeline: Pipeline,
        clock: Clock,
        ids: IngestIds,
        packets: PacketIngest,
    ) -> None:
        self._registry = registry
        self._pipeline = pipeline
        # Refuses what would be refused all the same once it is decoded.
        self.check_room = pipeline.check_room
        self.passed = pipeline.passed
        self._rejections = pipeline.rejections
        self._attributes = pipeline.attributes
        self.clock = clock
        self._ids = ids
        self.packets = packets
        self._origin = _Waiting()

    @property
    def state(self) -> PipelineState:
        """How the pipeline does."""
        self._pipeline.state.clock_behind = self.clock.behind
        return self._pipeline.state

    async def post(
        self,
        kind: Kind,
        sensor: KnownSensor,
        payload: bytes,
        principal: Principal,
        source: str,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Store what MQTT's payload of this kind says; return after the commit.

        Raises:
            HeliographError: QUEUE_FULL, DATABASE_UNAVAILABLE, CLOCK_BEHIND, SHUTTING_DOWN,
                IDEMPOTENCY_KEY_REUSED.
        """
        self.check_room()
        now = self.clock.now()
        first = self._ids.take(now, 0)
        untimed_from = max(now, sensor.newest_assigned + 1)
        decoded = DECODERS[kind](payload, sensor.number, first, now, untimed_from, sensor)
        rows = decoded.rows
        self._ids.take(now, len(rows))
        size = len(payload) + MESSAGE_BYTES + ROW_BYTES * len(rows)
        message = Message(self._origin, [0], kind, sensor, rows, size)
        message.complete(sensor, decoded, untimed_from, self._attributes)
        if decoded.identities:
            identify(message, sensor, decoded.identities)
        self._registry.note_seen(sensor, now, measured=kind is Kind.MEASUREMENT and bool(rows))
        indexes = decoded.indexes or range(len(rows))
        return await self._commit(
            message, indexes, payload, principal, source, now, idempotency_key
        )

    async def send(
        self, kind: Kind, sensor: KnownSensor, payload: bytes, source: str, key: str
    ) -> None:
        """Store what a rule sends as a sensor, once for each key; return after the commit.

        Raises:
            HeliographError: as `post`.
            ValueError: something of it can't be accepted; it is kept as rejected.
        """
        outcome = await self.post(kind, sensor, payload, RULE, source, key)
        if outcome.faults:
            raise ValueError(outcome.faults[0].detail)

    async def post_readings(
        self,
        readings: list[tuple[int, KnownSensor, Reading]],
        faults: list[Fault],
        payload: bytes,
        principal: Principal,
        source: str,
        idempotency_key: str | None = None,
        kind: Kind = Kind.MEASUREMENT,
        *,
        received: int | None = None,
    ) -> Outcome:
        """Store what is of one kind, each of its own sensor, and keep the message if it has faults.

        The `readings` are taken out: while their rows wait for the commit they would take as much
        memory as these.

        `received` is when it came if that was earlier: what has no time gets one by that and its
        index, so that it is a repeat if it is submitted twice.

        Raises:
            HeliographError: as `post`.
        """
        self.check_room()
        now = self.clock.now()
        row_id = self._ids.take(now, len(readings))
        sensor = readings[0][1] if len(readings) == 1 else None
        size = len(payload) + MESSAGE_BYTES + ROW_BYTES * len(readings)
        message = Message(self._origin, [0], kind, sensor, [], size)
        message.faults = faults
        indexes: list[int] = []
        parts: list[KnownSensor] = []
        identities: list[tuple[int, bytes]] = []
        for index, known, reading in readings:
            untimed = max(now, known.newest_assigned + 1)
            if received is not None:
                untimed = received + index
            if reading.timestamp is None:
                known.newest_assigned = max(known.newest_assigned, untimed)
                message.untimed = True
            message.rows.append(reading.row(row_id, known.number, now, untimed))
            row_id += INGEST_ID_STEP
            if not reading.names <= known.attributes:
                rows = message.rows[-1:]
                message.attributes += self._attributes.learn(known, reading.names, rows)
            if reading.identity is not None and tells_apart(known, reading.identity):
                key = element_key(known, kind, reading.identity)
                identities.append((len(indexes), key))
            indexes.append(index)
            parts.append(known)
            if received is None:
                self._registry.note_seen(known, now, measured=kind is Kind.MEASUREMENT)
        readings.clear()
        if sensor is None:
            message.parts = parts
        if identities:
            message.identities, message.extras = identities, True
        return await self._commit(
            message, indexes, payload, principal, source, now, idempotency_key
        )

    async def post_packet(
        self,
        packet: Packet,
        sensor: KnownSensor | None,
        payload: bytes,
        principal: Principal,
        source: str,
        idempotency_key: str | None = None,
        *,
        publish: bool = True,
        received: int | None = None,
    ) -> PostedPacket:
        """Store a packet, and have it published; return after the commit.

        `received` is when it came, if that was earlier.

        Raises:
            HeliographError: as `post`.
        """
        self.check_room()
        now = self.clock.now()
        size = len(payload) + MESSAGE_BYTES + 2 * ROW_BYTES
        message = Message(self._origin, [0], Kind.PACKET, None, [], size)
        self.packets.enter(
            message, packet, sensor, principal, source, now, publish=publish, received=received
        )
        outcome = await self._commit(
            message, (0,), payload, principal, source, now, idempotency_key
        )
        if not outcome.accepted:
            raise HeliographError(ErrorCode.VALIDATION_FAILED, NOT_STORABLE)
        stored = outcome.accepted[0]
        return PostedPacket(stored.id, stored.duplicate or message.dropped is not None)

    async def reject(
        self,
        payload: bytes,
        fault: Fault,
        principal: Principal,
        source: str,
        sensor: KnownSensor | None = None,
    ) -> None:
        """Keep a message that could not be accepted; return after the commit.

        Raises:
            HeliographError: as `post`.
        """
        self.check_room()
        now = self.clock.now()
        size = len(payload) + MESSAGE_BYTES
        message = Message(self._origin, [0], Kind.REJECTED, sensor, [], size)
        message.faults = [fault]
        await self._commit(message, (), payload, principal, source, now, None)

    async def _commit(
        self,
        message: Message,
        indexes: Collection[int],
        payload: bytes,
        principal: Principal,
        source: str,
        now: int,
        idempotency_key: str | None,
    ) -> Outcome:
        """Return what became of the rows, once they are committed: `indexes` are their elements'.

        With a key that was sent before, that is what became of them then.
        """
        if message.faults:
            self._rejections.refuse(message, principal, source, payload, len(payload), now)
        # A packet of no sensor is stored as nothing else.
        rows = message.rows if message.packet is None else message.rows or [message.packet]
        body = ""
        if idempotency_key is not None:
            body = hashlib.sha256(payload).hexdigest()
            # A device's name may have been another's before: its number has not.
            sender = str(principal.sensor or principal.account or "")
            message.delivery = ledger_key(
                "idempotency", principal.name, sender, source, idempotency_key
            )
            message.delivery_expiry = now + DAY
            message.redelivered = message.extras = True
            message.answer = lambda duplicates: _encode(
                (body, _outcome(message, indexes, rows, duplicates))
            ).decode()
        message.future = committed = self._origin.wait()
        self._pipeline.enqueue(message)
        try:
            await committed
        except TimeoutError as error:
            raise HeliographError(
                ErrorCode.DATABASE_UNAVAILABLE, "The database is not available", retry_after=5
            ) from error
        if message.dropped is None:
            return _outcome(message, indexes, rows, message.duplicates or {})
        first_body, first_outcome = msgspec.json.decode(message.dropped, type=tuple[str, Outcome])
        if first_body != body:
            raise HeliographError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED, "The Idempotency-Key belongs to another body"
            )
        return _without_lost(first_outcome, message.faults)


class _Waiting:
    """The origin of HTTP's messages: each waits on a future of its own, and no longer than allowed.

    One timer is for all of them: they are due in the order in which they came.
    """

    def __init__(self) -> None:
        self._due: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> asyncio.Future[None]:
        """Return what is done after the commit, or fails with a TimeoutError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._due[future] = due = loop.time() + COMMIT_TIMEOUT_SECONDS
        if self._timer is None:
            self._timer = loop.call_at(due, self._give_up)
        return future

    def settled(self, messages: list[Message]) -> None:
        """Wake those who wait."""
        for message in messages:
            future = message.future
            if future is not None:
                self._due.pop(future, None)
                if not future.done():
                    future.set_result(None)

    def _give_up(self) -> None:
        """End the waiting of those who are due; come again when the next one is."""
        loop, self._timer = asyncio.get_running_loop(), None
        for future, due in list(self._due.items()):
            if due > loop.time():
                self._timer = loop.call_at(due, self._give_up)
                break
            del self._due[future]
            if not future.done():  # who waited may be gone
                future.set_exception(TimeoutError())


def _without_lost(outcome: Outcome, faults: Sequence[Fault]) -> Outcome:
    """Return a first answer without what who asks again may not send any more."""
    lost = {
        fault.index: fault
        for fault in faults
        if fault.reason in (RejectionReason.UNKNOWN_SENSOR, RejectionReason.DEACTIVATED_SENSOR)
    }
    kept = [accepted for accepted in outcome.accepted if accepted.index not in lost]
    withdrawn = [lost[accepted.index] for accepted in outcome.accepted if accepted.index in lost]
    refused = sorted([*outcome.faults, *withdrawn], key=lambda fault: fault.index or 0)
    return Outcome(kept, refused, tuple(i for i in outcome.retimed if i not in lost))


def _outcome(
    message: Message,
    indexes: Collection[int],
    rows: list[tuple[Any, ...]],
    duplicates: Mapping[int, int],
) -> Outcome:
    """Return what became of the rows that the message had when it was sent."""
    faults = list(message.faults)
    kept = message.rows if message.packet is None else message.rows or [message.packet]
    if kept is not rows and kept != rows:
        # The database refused some of them.
        stored = {row[0] for row in kept}
        indexed = list(zip(indexes, rows, strict=True))
        indexes = [index for index, row in indexed if row[0] in stored]
        faults = [fault for fault in faults if fault.reason is not RejectionReason.NOT_STORABLE]
        faults += [
            Fault(index, RejectionReason.NOT_STORABLE, NOT_STORABLE)
            for index, row in indexed
            if row[0] not in stored
        ]
    accepted: list[Accepted] = []
    retimed: list[int] = []
    for index, row in zip(indexes, kept, strict=True):
        row_id = row[ID]
        is_duplicate = row_id in duplicates
        stored_id = duplicates[row_id] if is_duplicate else row_id
        accepted.append(Accepted(index, stored_id, row[TIMESTAMP], is_duplicate))
        if row[DEVICE_TIMESTAMP] is not None and not is_duplicate:
            retimed.append(index)
    return Outcome(accepted, faults, tuple(retimed))

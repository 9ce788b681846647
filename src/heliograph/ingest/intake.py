"""Where messages enter: decoding, what is kept of bad ones, and the way into the pipeline."""

import asyncio
import hashlib
from typing import Any

import msgspec

from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.ingest.clock import Clock
from heliograph.ingest.decode import (
    Reading,
    Rejected,
    attribute_names,
    decode_status,
    measurement_row,
)
from heliograph.ingest.message import Message, Origin
from heliograph.ingest.outcome import Accepted, Fault, Outcome
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.registry import MAXIMUM_ATTRIBUTES, KnownSensor, Registry
from heliograph.ingest.rejections import RejectionBudget
from heliograph.ingest.routes import DECODERS, Route
from heliograph.ingest.state import PipelineState
from heliograph.model.identifiers import INGEST_ID_STEP, IngestIds
from heliograph.model.principal import Principal
from heliograph.model.records import AttributeRow, Kind
from heliograph.model.time import DAY

KEPT_BYTES = 64 << 10
COMMIT_TIMEOUT_SECONDS = 30
# What a row takes in memory beside its payload, for the bound of what is in flight.
ROW_BYTES = 400
MESSAGE_BYTES = 200

_encode = msgspec.json.Encoder().encode


class Intake:
    """Takes messages from devices, whichever way they come.

    `receive` is MQTT's way: it returns at once, and the origin is told after the commit. The
    `post…` methods are HTTP's: they return after the commit.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        registry: Registry,
        clock: Clock,
        ids: IngestIds,
        rejections: RejectionBudget,
    ) -> None:
        self.pipeline = pipeline
        self.clock = clock
        self._registry = registry
        self._ids = ids
        self._rejections = rejections
        self._http = _Waiting()
        pipeline.refuse = self._refuse_rows

    @property
    def state(self) -> PipelineState:
        """How the pipeline does."""
        self.pipeline.state.clock_behind = self.clock.behind
        return self.pipeline.state

    def receive(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        *,
        delivery: bytes | None = None,
        redelivered: bool = False,
        watched: bool = False,
    ) -> Message:
        """Take a published message; `origin` is told when it is committed.

        `token` is the packet id, `delivery` the ledger's name of the session (None: the message
        is not acknowledged, and so never comes again). The payload is kept for live viewers
        when it is `watched`.

        Raises:
            HeliographError: CLOCK_BEHIND; the message was not taken.
        """
        now = self.clock.now()
        sensor = route.sensor
        if sensor is None or route.kind is Kind.STATUS:
            return self._receive_other(origin, token, route, payload, now, delivery, redelivered)
        ids = self._ids
        first = ids.next(now)
        assigned = sensor.newest_assigned
        untimed_from = now if now > assigned else assigned + 1
        rows, faults, untimed, identities, _, attributes = route.decode(
            payload, sensor.number, first, now, untimed_from
        )
        if rows:
            ids.advance(first, len(rows))
        message = Message(
            origin,
            token,
            route.kind,
            sensor,
            rows,
            len(payload) + MESSAGE_BYTES + ROW_BYTES * len(rows),
        )
        sensor.seen_at = now
        if route.kind is Kind.MEASUREMENT and rows:
            sensor.measured_at = now
            known = sensor.attributes
            for names in attributes:
                if not names <= known:
                    self._learn(message, sensor, names)
        self._registry.touch(sensor)
        if untimed:
            sensor.newest_assigned = untimed_from + len(rows)
        if faults:
            message.faults = faults
            self._refuse(message, route.principal, route.source, payload, len(payload), now)
        if identities:
            self._identify(message, sensor, identities)
        if (untimed or faults) and delivery is not None:
            self._enter(message, delivery, payload, now, redelivered=redelivered)
        if watched:
            message.payload = payload
        self.pipeline.enqueue(message)
        return message

    def receive_oversize(
        self, origin: Origin, token: Any, route: Route, head: bytes, size: int
    ) -> Message:
        """Take note of a message over the limit, of which only the head was kept.

        Raises:
            HeliographError: CLOCK_BEHIND; the message was not taken.
        """
        now = self.clock.now()
        message = Message(origin, token, Kind.REJECTED, None, [], len(head) + MESSAGE_BYTES)
        detail = f"The payload of {size} bytes is over the limit of 1 MiB"
        message.faults = [Fault(None, RejectionReason.TOO_LARGE, detail)]
        self._refuse(message, route.principal, route.source, head, size, now)
        self.pipeline.enqueue(message)
        return message

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
        self.pipeline.check_room()
        now = self.clock.now()
        first = self._ids.next(now)
        untimed_from = max(now, sensor.newest_assigned + 1)
        decoded = DECODERS[kind](payload, sensor.number, first, now, untimed_from)
        rows = decoded.rows
        if rows:
            self._ids.advance(first, len(rows))
            if decoded.untimed:
                sensor.newest_assigned = untimed_from + len(rows)
        message = self._http_message(kind, sensor, rows, len(payload))
        if kind is Kind.MEASUREMENT:
            for names in decoded.attributes:
                if not names <= sensor.attributes:
                    self._learn(message, sensor, names)
        self._see(sensor, now, measured=kind is Kind.MEASUREMENT and bool(rows))
        message.faults = decoded.faults
        if decoded.identities:
            self._identify(message, sensor, decoded.identities)
        indexes = decoded.indexes or range(len(rows))
        return await self._post(message, indexes, payload, principal, source, now, idempotency_key)

    async def post_readings(
        self,
        readings: list[tuple[int, KnownSensor, Reading]],
        faults: list[Fault],
        payload: bytes,
        principal: Principal,
        source: str,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Store readings, each of its own sensor, and keep the message if it has faults.

        Raises:
            HeliographError: as `post`.
        """
        self.pipeline.check_room()
        now = self.clock.now()
        first = self._ids.next(now)
        sensor = readings[0][1] if len(readings) == 1 else None
        message = self._http_message(Kind.MEASUREMENT, sensor, [], len(payload))
        row_id = first
        identities: list[tuple[int, bytes]] = []
        for position, (_, known, reading) in enumerate(readings):
            untimed = max(now, known.newest_assigned + 1)
            if reading.timestamp is None:
                known.newest_assigned = untimed
            message.rows.append(measurement_row(reading, known.number, row_id, now, untimed))
            row_id += INGEST_ID_STEP
            if not reading.names <= known.attributes:
                self._learn(message, known, reading.names)
            if reading.identity is not None:
                key = _element_key(known, Kind.MEASUREMENT, reading.identity)
                identities.append((position, key))
            self._see(known, now, measured=True)
        if readings:
            self._ids.advance(first, len(readings))
        message.size += ROW_BYTES * len(readings)
        message.parts = None if sensor else [known for _, known, _ in readings]
        message.faults = faults
        if identities:
            message.identities, message.extras = identities, True
        indexes = [index for index, _, _ in readings]
        return await self._post(message, indexes, payload, principal, source, now, idempotency_key)

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
        self.pipeline.check_room()
        now = self.clock.now()
        message = self._http_message(Kind.REJECTED, sensor, [], len(payload))
        message.faults = [fault]
        self._refuse(message, principal, source, payload, len(payload), now)
        await self._committed(message)

    def _http_message(
        self, kind: Kind, sensor: KnownSensor | None, rows: list[Any], size: int
    ) -> Message:
        future = asyncio.get_running_loop().create_future()
        size += MESSAGE_BYTES + ROW_BYTES * len(rows)
        return Message(self._http, future, kind, sensor, rows, size)

    async def _post(
        self,
        message: Message,
        indexes: Any,
        payload: bytes,
        principal: Principal,
        source: str,
        now: int,
        idempotency_key: str | None,
    ) -> Outcome:
        if message.faults:
            self._refuse(message, principal, source, payload, len(payload), now)
        outcome = _outcome(message, indexes)
        if idempotency_key is None:
            await self._committed(message)
            return outcome if message.duplicates is None else _outcome(message, indexes)
        body = hashlib.sha256(payload).hexdigest()
        message.delivery = _key("idempotency", principal.name, source, idempotency_key)
        message.delivery_expiry = now + DAY
        message.redelivered = message.extras = True
        message.answer = _encode((body, outcome)).decode()
        await self._committed(message)
        if message.dropped is None:
            return outcome if message.duplicates is None else _outcome(message, indexes)
        first_body, first_outcome = msgspec.json.decode(message.dropped, type=tuple[str, Outcome])
        if first_body != body:
            raise HeliographError(
                ErrorCode.IDEMPOTENCY_KEY_REUSED, "The Idempotency-Key belongs to another body"
            )
        return first_outcome

    async def _committed(self, message: Message) -> None:
        self.pipeline.enqueue(message)
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                await message.token
        except TimeoutError as error:
            raise HeliographError(
                ErrorCode.DATABASE_UNAVAILABLE, "The database is not available", retry_after=5
            ) from error

    def _see(self, sensor: KnownSensor, now: int, *, measured: bool) -> None:
        sensor.seen_at = now
        if measured:
            sensor.measured_at = now
        self._registry.touch(sensor)

    def _learn(self, message: Message, sensor: KnownSensor, names: Any) -> None:
        """Register attributes that the sensor has not had before, with the message."""
        known = sensor.attributes
        room = MAXIMUM_ATTRIBUTES - len(known)
        fresh = sorted(attribute_names(names) - known)[: max(room, 0)]
        if fresh:
            known.update(fresh)
            rows: list[AttributeRow] = [(sensor.number, name) for name in fresh]
            message.attributes = (message.attributes or []) + rows

    def _receive_other(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        now: int,
        delivery: bytes | None,
        redelivered: bool,
    ) -> Message:
        message = Message(origin, token, route.kind, route.sensor, [], len(payload) + MESSAGE_BYTES)
        fault = route.fault
        if fault is None and route.sensor is not None:
            try:
                message.status = decode_status(payload)
            except Rejected as rejected:
                fault = rejected.fault
            else:
                self._see(route.sensor, now, measured=False)
                message.payload = payload
                message.extras = True
        if fault is not None:
            message.faults = [fault]
            self._refuse(message, route.principal, route.source, payload, len(payload), now)
            if delivery is not None:
                self._enter(message, delivery, payload, now, redelivered=redelivered)
        self.pipeline.enqueue(message)
        return message

    def _identify(
        self, message: Message, sensor: KnownSensor, identities: list[tuple[int, str]]
    ) -> None:
        message.identities = [
            (position, _element_key(sensor, message.kind, identity))
            for position, identity in identities
        ]
        message.extras = True

    def _enter(
        self, message: Message, delivery: bytes, payload: bytes, now: int, *, redelivered: bool
    ) -> None:
        name = b"%b %d " % (delivery, message.token)
        message.delivery = hashlib.blake2b(name + payload, digest_size=16).digest()
        message.delivery_expiry = now + DAY
        message.redelivered = redelivered
        message.extras = True

    def _refuse(
        self,
        message: Message,
        principal: Principal,
        source: str,
        payload: bytes,
        size: int,
        now: int,
    ) -> None:
        """Count the message's faults, and keep it as rejected within the budget."""
        counts = self.pipeline.state.rejected_total
        for fault in message.faults:
            counts[fault.reason.value] = counts.get(fault.reason.value, 0) + 1
        kept = payload[:KEPT_BYTES]
        if not self._rejections.admit(principal.name, len(kept), now):
            self.pipeline.state.rejected_not_kept_total += 1
            return
        fault = message.faults[0]
        indexes = [fault.index for fault in message.faults if fault.index is not None]
        row_id = self._ids.next(now)
        self._ids.advance(row_id, 1)
        message.rejected = (
            row_id,
            now,
            message.sensor.number if message.sensor else None,
            principal.name,
            _storable(source),
            kept,
            size,
            fault.reason.value,
            _storable(fault.detail),
            _encode(indexes).decode() if indexes else None,
        )
        message.extras = True

    def _refuse_rows(self, message: Message, positions: list[int]) -> None:
        """Keep a message of which the database refused the rows at these positions."""
        now = self.clock.floor
        message.faults = [
            Fault(position, RejectionReason.NOT_STORABLE, "The database can't hold it")
            for position in positions
        ] or [Fault(None, RejectionReason.NOT_STORABLE, "The database can't hold it")]
        principal = Principal("unknown", f"sensor:{message.sensor.number if message.sensor else 0}")
        payload = message.payload or b""
        self._refuse(message, principal, message.kind.value, payload, len(payload), now)


class _Waiting:
    """The origin of HTTP's messages: each waits on a future of its own."""

    def settled(self, messages: list[Message]) -> None:
        """Wake those who wait."""
        for message in messages:
            if not message.token.done():
                message.token.set_result(None)


def _outcome(message: Message, indexes: Any) -> Outcome:
    duplicates = message.duplicates or {}
    accepted = [
        Accepted(index, duplicates.get(row[0], row[0]), row[2], row[0] in duplicates)
        for index, row in zip(indexes, message.rows, strict=True)
    ]
    return Outcome(accepted, message.faults)


def _key(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()


def _element_key(sensor: KnownSensor, kind: Kind, identity: str) -> bytes:
    return _key("element", str(sensor.number), kind.value, identity)


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()

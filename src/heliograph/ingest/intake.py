"""MQTT's way into the pipeline."""

from heliograph.access.registry import Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.clock import Clock
from heliograph.ingest.decode import Rejected, decode_status
from heliograph.ingest.message import Message, Origin
from heliograph.ingest.notes import Notes
from heliograph.ingest.outcome import Fault
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.routes import Route
from heliograph.model.identifiers import INGEST_ID_STEP, IngestIds
from heliograph.model.principal import Principal
from heliograph.model.records import Kind

# What a message and a row take in memory beside the payload, for the bound of what is in flight.
MESSAGE_BYTES = 200
ROW_BYTES = 400

OFFLINE = "offline"
NOBODY = Principal("broker", "broker")


class Intake:
    """Takes what devices publish: returns at once, and tells the origin after the commit."""

    def __init__(
        self, pipeline: Pipeline, registry: Registry, clock: Clock, ids: IngestIds, notes: Notes
    ) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._clock = clock
        self._ids = ids
        self._notes = notes

    def receive(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take a published message; `origin` is told when it is committed.

        `token` comes back with it; its low 16 bits are the packet id. `delivery` is the ledger's
        name of the session (None: the message is not acknowledged, and so never comes again).

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        clock = self._clock
        now = clock.wall_ns() // 1_000
        if clock.floor <= now <= clock.ceiling:
            clock.floor = now
        else:
            now = clock.now()
        sensor, decode, pipeline, ids = route.sensor, route.decode, self._pipeline, self._ids
        if sensor is None or decode is None:
            return self._receive_other(origin, token, route, payload, now, delivery, redelivered)
        if pipeline.refusal is not None:
            raise pipeline.refusal()
        first = (now // 1_000 << 21) | ids.instance  # inlined: `next` here, `advance` below
        if first <= ids.last:
            first = ids.last + INGEST_ID_STEP
        untimed_from = now if now > sensor.newest_assigned else sensor.newest_assigned + 1
        rows, faults, untimed, identities, _, attributes = decoded = decode(
            payload, sensor.number, first, now, untimed_from, sensor
        )
        count = len(rows)
        ids.last = first + (count - 1) * INGEST_ID_STEP if count else ids.last
        size = len(payload) + MESSAGE_BYTES + ROW_BYTES * count
        sensor.seen_at = now
        self._registry.touched.add(sensor)
        plain = not (faults or untimed or identities or pipeline.watched)
        if attributes:
            sensor.measured_at = now
            for names in attributes:
                if not names <= sensor.attributes:
                    plain = False
        if plain and pipeline.join(origin, token, route.kind, rows, size):
            return size
        message = Message(origin, [token], route.kind, sensor, rows, size)
        if plain:
            message.merged = True
        else:
            self._notes.complete(message, sensor, decoded, untimed_from)
            message.payload = payload
            if untimed or faults:
                self._note(message, route, payload, now, delivery, redelivered)
        pipeline.enqueue(message)
        return size

    def entered(self, principal: Principal) -> None:
        """Take note of a connection: only a sensor's own tells that it is connected."""
        if principal.kind != "device" or principal.sensor is None:
            return
        moment = self._moment()
        self._registry.connected.enter(principal.sensor, moment)
        if sensor := self._registry.number(principal.sensor):
            self._notes.note_seen(sensor, moment, measured=False)

    def left(self, principal: Principal) -> None:
        """Take note of the end of a connection that has entered."""
        if principal.kind == "device" and principal.sensor is not None:
            self._registry.connected.leave(principal.sensor, self._moment())

    def _moment(self) -> int:
        # Never before what was said on the connection.
        return self._clock.moment()

    @property
    def commits(self) -> bool:
        """Whether the database is there, as far as the last commit told."""
        return self._pipeline.state.database_available

    @property
    def in_flight(self) -> int:
        """How many bytes wait to be committed."""
        return self._pipeline.state.bytes_in_flight

    @property
    def committed(self) -> tuple[int, int]:
        """How many bytes were committed since the start, as in flight, and in how many commits."""
        state = self._pipeline.state
        return state.bytes_total, state.commits_total

    def watch(self) -> None:
        """Keep messages apart from now on, for those who watch."""
        self._pipeline.watched = True

    def _note(
        self,
        message: Message,
        route: Route,
        payload: bytes,
        now: int,
        delivery: bytes | None,
        redelivered: bool,
    ) -> None:
        """Keep what was wrong, and note what a repeat of the message is told by."""
        if message.faults:
            self._notes.refuse(message, route.principal, route.source, payload, len(payload), now)
        if delivery is not None:
            self._notes.enter(message, delivery, route, payload, now, redelivered=redelivered)

    def receive_oversize(
        self, origin: Origin, token: int, route: Route, head: bytes, size: int
    ) -> int:
        """Take note of a message over the limit, of which only the head was kept.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        detail = f"The payload of {size} bytes is over the limit of 1 MiB"
        fault = Fault(None, RejectionReason.TOO_LARGE, detail)
        return self._reject(origin, token, fault, route.principal, route.source, head, size)

    def receive_unreadable(self, origin: Origin, token: int, topic: str, payload: bytes) -> int:
        """Take note of a message whose topic is no text, and so nobody's.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        fault = Fault(None, RejectionReason.INVALID_UTF8, "The topic is not UTF-8")
        return self._reject(origin, token, fault, NOBODY, topic, payload, len(payload))

    def _reject(
        self,
        origin: Origin,
        token: int,
        fault: Fault,
        principal: Principal,
        source: str,
        kept: bytes,
        size: int,
    ) -> int:
        if self._pipeline.refusal is not None:
            raise self._pipeline.refusal()
        now = self._clock.now()
        message = Message(origin, [token], Kind.REJECTED, None, [], len(kept) + MESSAGE_BYTES)
        message.faults = [fault]
        self._notes.refuse(message, principal, source, kept, size, now)
        self._pipeline.enqueue(message)
        return message.size

    def ignore(self, origin: Origin, token: int) -> int:
        """Let a message pass that says nothing new: its origin is told in its turn.

        Returns:
            What it counts as in flight, in bytes.
        """
        message = Message(origin, [token], Kind.REJECTED, None, [], MESSAGE_BYTES)
        self._pipeline.enqueue(message)
        return message.size

    def receive_retained(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take a status that a broker has kept: it holds now, but was not said now.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        now = self._clock.now()
        return self._receive_other(
            origin, token, route, payload, now, delivery, redelivered, retained=True
        )

    def receive_empty(
        self,
        origin: Origin,
        token: int,
        route: Route,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take an empty message with RETAIN: of a status nothing is kept from now on.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: CLOCK_BEHIND, DISK_BUDGET_USED_UP; the message was not taken.
        """
        if route.kind is not Kind.STATUS or route.sensor is None:
            return self.receive(origin, token, route, b"", delivery, redelivered)
        message = Message(origin, [token], route.kind, route.sensor, [], MESSAGE_BYTES)
        by_broker = route.principal.kind == "broker"
        message.status = (route.sensor.number, self._clock.now(), None, by_broker)
        message.payload = b""
        message.extras = True
        self._pipeline.enqueue(message)
        return message.size

    def _receive_other(
        self,
        origin: Origin,
        token: int,
        route: Route,
        payload: bytes,
        now: int,
        delivery: bytes | None,
        redelivered: bool,
        *,
        retained: bool = False,
    ) -> int:
        message = Message(
            origin, [token], route.kind, route.sensor, [], len(payload) + MESSAGE_BYTES
        )
        fault = route.fault
        sensor = route.sensor
        if fault is None and sensor is not None:
            try:
                status = decode_status(payload)
            except Rejected as rejected:
                fault = rejected.fault
            else:
                by_broker = route.principal.kind == "broker"
                message.status = (sensor.number, now, status, by_broker)
                # `offline` is a last will as a rule: not the sensor has sent it.
                if status != OFFLINE and not retained:
                    self._notes.note_seen(sensor, now, measured=False)
                message.payload = payload
                message.extras = True
        if fault is not None:
            # A status takes no room: the sensor's record has it.
            if self._pipeline.refusal is not None:
                raise self._pipeline.refusal()
            message.faults = [fault]
            self._note(message, route, payload, now, delivery, redelivered)
        self._pipeline.enqueue(message)
        return message.size

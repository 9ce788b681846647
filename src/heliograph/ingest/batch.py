"""Messages on their way from their sources to the commit: their ids, and the rows of one batch."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from heliograph.access.registry import KnownSensor
from heliograph.ingest.attributes import NewAttributes
from heliograph.ingest.decode import Decoded
from heliograph.ingest.strict_json import Fault
from heliograph.model.event import Committed
from heliograph.model.identifiers import INGEST_ID_STEP, MAXIMUM_INSTANCE
from heliograph.model.records import (
    ActionRow,
    AttributeRow,
    DeliveryRow,
    Kind,
    ObservationRow,
    PacketRow,
    RejectedRow,
    StatusRow,
)
from heliograph.store.engine import Batch, RegistryChange

# The ledger's answer to a packet that came again: before its first delivery, if that reached
# another server.
REDELIVERED = "redelivered"
# What a message and a row take in memory beside the payload, for the bound of what is in flight.
MESSAGE_BYTES = 200
ROW_BYTES = 400


class Origin(Protocol):
    """Where messages come from, and who is told when they are safe."""

    def settled(self, messages: "list[Message]") -> None:
        """Take the messages back after their commit, in the order in which they came.

        Called on the event loop; must neither block nor raise.
        """
        ...


class IngestIds:
    """Hands out ingest ids: 63 bits, strictly increasing, ordered by time."""

    __slots__ = ("instance", "last")

    def __init__(self, instance: int = 0, last: int = 0) -> None:
        """Start behind `last`, the newest stored id, so that no clock can repeat one."""
        self.instance = instance
        own = last & ~MAXIMUM_INSTANCE | instance
        # Always an id of this instance, so that counting on from it gives none of another's.
        self.last = own if own >= last else own + INGEST_ID_STEP

    def move(self, instance: int, last: int) -> None:
        """Go on as another instance, behind `last` and all ids that were made here before."""
        moved = IngestIds(instance, max(self.last, last))
        self.instance, self.last = moved.instance, moved.last

    def take(self, now: int, count: int) -> int:
        """Return the first of the next `count` ids, INGEST_ID_STEP apart; of 0 it takes none.

        `now` is in microseconds.
        """
        first = (now // 1_000 << 21) | self.instance
        if first <= self.last:
            first = self.last + INGEST_ID_STEP
        if count:
            self.last = first + (count - 1) * INGEST_ID_STEP
        return first


class Message:
    """A decoded message in the pipeline: what is stored of it, and who waits for that.

    At 100,000 a second nothing is cheap. What most messages do not have is a default of the
    class; and plain messages of one origin that follow one another become one (`merged`), of
    which `tokens`, the origin's own, tells them apart.
    """

    future: asyncio.Future[None] | None = None
    payload: bytes | None = None
    faults: tuple[Fault, ...] | list[Fault] = ()
    # Of rows that were dropped as repeats: their ids, and those of the rows stored before.
    duplicates: dict[int, int] | None = None
    # The ids of heartbeats that name a revision which does not exist.
    flagged: Collection[int] = ()
    rejected: RejectedRow | None = None
    status: StatusRow | None = None
    attributes: tuple[AttributeRow, ...] = ()
    # A packet is stored as it is, under the id of its measurement if it is one too; the actions
    # follow from it. While its device has yet to be found, `resolve` does that.
    packet: PacketRow | None = None
    actions: tuple[ActionRow, ...] = ()
    resolve: Callable[[], Awaitable[None]] | None = None
    # Per row, its sensor, where one message speaks of several.
    parts: list[KnownSensor] | None = None
    # Position in rows and ledger key of elements that carry an id of their own.
    identities: list[tuple[int, bytes]] | None = None
    # The message's key in the ledger of deliveries. With `redelivered` it is looked up first;
    # a message that is found there is dropped, and `dropped` is the answer that was kept.
    delivery: bytes | None = None
    delivery_expiry: int | None = None
    redelivered = False
    dropped: str | None = None
    # What the ledger keeps to answer a repeat with, by the rows that were repeats themselves.
    answer: Callable[[Mapping[int, int]], str] | None = None
    # There is more to store than rows.
    extras = False
    # Some rows have the time of receipt for their own.
    untimed = False
    merged = False

    def __init__(
        self,
        origin: Origin,
        tokens: list[int],
        kind: Kind,
        sensor: KnownSensor | None,
        rows: list[tuple[Any, ...]],
        size: int,
    ) -> None:
        self.origin = origin
        self.tokens = tokens
        self.kind = kind
        self.sensor = sensor
        self.rows = rows
        self.size = size

    def complete(
        self, sensor: KnownSensor, decoded: Decoded, untimed_from: int, attributes: NewAttributes
    ) -> None:
        """Add what was decoded of the sensor beside the rows; note which timestamps were given."""
        if decoded.untimed:
            # Those without a time count up from there; there may be fewer than rows.
            sensor.newest_assigned = untimed_from + len(decoded.rows) - 1
            self.untimed = True
        if decoded.faults:
            self.faults = decoded.faults
        for names in decoded.attributes:
            if not names <= sensor.attributes:
                self.attributes += attributes.learn(sensor, names, decoded.rows)

    @property
    def is_over(self) -> bool:
        """Whether its sensor was found before the database was put back to another state."""
        if self.sensor is not None:
            return self.sensor.reading.is_over
        return self.parts is not None and any(part.reading.is_over for part in self.parts)

    @property
    def first_id(self) -> int:
        """The id that the ledger keeps for this message."""
        if self.rows:
            return int(self.rows[0][0])
        other = self.packet or self.rejected
        return other[0] if other is not None else 0


# From a batch to what rules have to look at of it.
Observe: TypeAlias = Callable[[Batch], list[ObservationRow]]


def build_batch(
    messages: list[Message],
    change: RegistryChange | None = None,
    *,
    observe: Observe | None = None,
    probe: bool = False,
) -> Batch:
    """Return the rows of the messages, without those known to be repeats.

    `change` is the registry's that their sensors were found by; `observe` adds what rules have to
    look at, None: there are no rules. With `probe` only telemetry rows are taken, and not to
    stay: to find out which of them can't be stored.
    """
    batch = Batch(trial=probe, change=change)
    tables: dict[Kind, list[Any]] = {
        Kind.MEASUREMENT: batch.measurements,
        Kind.LOG: batch.logs,
        Kind.HEARTBEAT: batch.heartbeats,
    }
    measurements = batch.measurements
    for message in messages:
        if message.dropped is not None:
            continue
        rows = message.rows
        if message.duplicates:
            rows = [row for row in rows if row[0] not in message.duplicates]
        if message.kind is Kind.MEASUREMENT:
            measurements += rows
        elif rows:
            tables[message.kind] += rows
        if probe:
            continue
        batch.attributes += message.attributes
        if message.extras:
            _add_extras(batch, message)
            if message.answer is not None:
                batch.answers = functools.partial(corrected_answers, messages)
    batch.sort()
    if observe is not None and not probe:
        batch.observations = observe(batch)
    return batch


def corrected_answers(messages: list[Message], duplicates: dict[int, int]) -> list[DeliveryRow]:
    """Return the ledger's entries whose answers did not know of these repeats yet."""
    return [
        (
            message.delivery,
            message.first_id,
            message.delivery_expiry,
            message.answer({**(message.duplicates or {}), **duplicates}),
        )
        for message in messages
        if message.delivery is not None
        and message.answer is not None
        and message.dropped is None
        and any(row[0] in duplicates for row in message.rows or (message.packet or (0,),))
    ]


def give_new_ids(messages: Iterable[Message], ids: IngestIds, moment: int) -> None:
    """Give the rows new ids in place of those that another server may have given too."""
    for message in messages:
        count = len(message.rows)
        first = ids.take(moment, count)
        # In place: who waits for the answer has the list.
        message.rows[:] = [
            (first + position * INGEST_ID_STEP, *row[1:])
            for position, row in enumerate(message.rows)
        ]
        if message.packet is not None:
            _name_packet(message, message.rows[0][0] if message.rows else ids.take(moment, 1))
        if message.rejected is not None:
            message.rejected = (ids.take(moment, 1), *message.rejected[1:])
        message.duplicates = None


def _name_packet(message: Message, row_id: int) -> None:
    """Give the message's packet this id, and the actions that follow from it."""
    if message.packet is not None:
        message.packet = (row_id, *message.packet[1:])
    message.actions = tuple((*row[:5], row_id, *row[6:]) for row in message.actions)


def _add_extras(batch: Batch, message: Message) -> None:
    if message.rejected is not None:
        batch.rejected.append(message.rejected)
    if message.status is not None:
        batch.statuses.append(message.status)
    if message.packet is not None and message.packet[0] not in (message.duplicates or ()):
        batch.packets.append(message.packet)
        batch.actions += message.actions
    if message.delivery is not None:
        answer = REDELIVERED if message.redelivered else None
        if message.answer is not None:
            answer = message.answer(message.duplicates or {})
        entries = batch.claims if message.redelivered else batch.deliveries
        entries.append((message.delivery, message.first_id, message.delivery_expiry, answer))
    for position, key in message.identities or ():
        row_id = message.rows[position][0]
        if not message.duplicates or row_id not in message.duplicates:
            batch.claims.append((key, row_id, None, None))


def committed_events(
    messages: list[Message], find: Callable[[int], KnownSensor | None]
) -> list[Committed]:
    """Return what was inserted, message by message, for those who watch.

    `find` returns the sensor of a number: merged messages, which came before anybody watched,
    have rows of several.
    """
    events: list[Committed] = []
    for message in messages:
        if message.dropped is not None:
            continue
        duplicates = message.duplicates or {}
        if message.merged:
            inserted = (row for row in message.rows if row[0] not in duplicates)
            events += [
                _event(message, sensor, list(rows), None)
                for number, rows in itertools.groupby(inserted, itemgetter(1))
                if (sensor := find(number)) is not None
            ]
        elif message.parts is not None:
            events += [
                _event(message, sensor, [row], None)
                for sensor, row in zip(message.parts, message.rows, strict=True)
                if row[0] not in duplicates
            ]
        elif message.sensor is not None:
            rows = [row for row in message.rows if row[0] not in duplicates]
            whole = not duplicates and not message.faults
            if rows or message.status:
                payload = message.payload if whole else None
                events.append(_event(message, message.sensor, rows, payload))
    return events


def _event(
    message: Message, sensor: KnownSensor, rows: list[Any], payload: bytes | None
) -> Committed:
    if message.kind is Kind.HEARTBEAT:
        rows = [(*row, row[0] in message.flagged) for row in rows]
    return Committed(
        message.kind,
        sensor.number,
        sensor.identifier,
        sensor.device_id,
        sensor.network_identifier,
        rows,
        payload,
        message.origin,
        # Of a message that somebody waits for a token names it, or a future.
        1 if message.tokens[0] or message.future is not None else 0,
    )

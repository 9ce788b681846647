"""What a message gets beside its rows: new attributes, ledger keys, and what was wrong."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.clock import Clock
from heliograph.ingest.decode import attribute_names
from heliograph.ingest.message import Message
from heliograph.ingest.outcome import Decoded, Fault
from heliograph.ingest.rejections import RejectionBudget
from heliograph.ingest.reports import NumberTextReports, RejectionReports
from heliograph.ingest.routes import Route
from heliograph.ingest.state import PipelineState
from heliograph.model.identifiers import IngestIds
from heliograph.model.principal import Principal
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_SENSOR, AttributeRow, Kind
from heliograph.model.time import HOUR

KEPT_BYTES = 64 << 10
# For how long a packet that comes again is told by its id and content. The longer, the likelier
# is a client that counts its packet ids from 1 again, whose new message looks like the old one.
REDELIVERY = HOUR
# PostgreSQL's indexes take 2,704 bytes at most; a longer name is kept with its value only.
LONGEST_NAME = 1_024
NOT_STORABLE = "The database can't hold it"

_encode = msgspec.json.Encoder().encode


class Notes:
    """Adds to messages what most do not have, and keeps the bounds of it."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        ids: IngestIds,
        rejections: RejectionBudget,
        state: PipelineState,
        texts: NumberTextReports,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._ids = ids
        self._rejections = rejections
        self._state = state
        self._reports = RejectionReports()
        self._texts = texts

    def note_seen(self, sensor: KnownSensor, now: int, *, measured: bool) -> None:
        """Note when the sensor was last heard of."""
        sensor.seen_at = now
        if measured:
            sensor.measured_at = now
        self._registry.touched.add(sensor)

    def complete(
        self, message: Message, sensor: KnownSensor, decoded: Decoded, untimed_from: int
    ) -> None:
        """Add what was decoded beside the rows, and note which timestamps were given."""
        if decoded.untimed:
            # Those without a time count up from there; there may be fewer than rows.
            sensor.newest_assigned = untimed_from + len(decoded.rows) - 1
            message.untimed = True
        for names in decoded.attributes:
            if not names <= sensor.attributes:
                self.learn(message, sensor, names, decoded.rows)
        if decoded.faults:
            message.faults = decoded.faults
        if decoded.identities:
            self.identify(message, sensor, decoded.identities)

    def learn(
        self,
        message: Message,
        sensor: KnownSensor,
        names: Any,
        measured: Sequence[tuple[Any, ...]],
    ) -> None:
        """Register attributes that the sensor has not had before, with the message.

        `measured` are the rows of the sensor that have them, and may have others.
        """
        known = sensor.attributes
        room = MAXIMUM_ATTRIBUTES_OF_SENSOR - len(known)
        unknown = [n for n in attribute_names(names) - known if len(n.encode()) <= LONGEST_NAME]
        fresh = sorted(unknown)[: max(room, 0)]
        if fresh:
            known.update(fresh)
            rows: list[AttributeRow] = [(sensor.number, name) for name in fresh]
            message.attributes = (message.attributes or []) + rows
            self._texts.look(sensor, fresh, measured)

    def unlearn(self, message: Message) -> None:
        """Take back the attributes of a message that can't be stored with them."""
        for number, name in message.attributes or ():
            if sensor := self._registry.number(number):
                sensor.attributes.discard(name)

    def identify(
        self, message: Message, sensor: KnownSensor, identities: list[tuple[int, str]]
    ) -> None:
        """Let the ledger know the elements that carry an id of their own."""
        message.identities = [
            (position, element_key(sensor, message.kind, identity))
            for position, identity in identities
            if tells_apart(sensor, identity)
        ]
        message.extras = True

    def enter(
        self,
        message: Message,
        delivery: bytes,
        route: Route,
        payload: bytes,
        now: int,
        *,
        redelivered: bool,
    ) -> None:
        """Enter the delivery in the ledger: nothing in the message tells its repeat apart.

        A broker's session carries all sensors and counts its packet ids round and round: the
        topic keeps apart what two of them say in the same words.
        """
        if not message.rows and message.rejected is None:
            # Nothing is stored that a repeat could double; a mad device would fill the ledger.
            return
        name = b"%b %d %b " % (delivery, message.tokens[0] & 0xFFFF, route.source.encode())
        message.delivery = hashlib.blake2b(name + payload, digest_size=16).digest()
        message.delivery_expiry = now + REDELIVERY
        message.redelivered = redelivered
        message.extras = True

    def refuse(
        self,
        message: Message,
        principal: Principal,
        source: str,
        payload: bytes,
        size: int,
        now: int,
    ) -> None:
        """Count the message's faults, and keep it as rejected within the budget."""
        for fault in message.faults:
            self._count(fault)
        number = message.sensor.number if message.sensor else None
        self._reports.tell(message.faults, principal, source, message.sensor, now)
        self._keep(message, number, principal.name, source, payload, size, now)

    def refuse_rows(self, message: Message, rows: list[tuple[Any, ...]]) -> None:
        """Keep rows of a message that the database refused."""
        fault = Fault(None, RejectionReason.NOT_STORABLE, NOT_STORABLE)
        self._count(fault)
        message.faults = [*message.faults, fault]
        if message.rejected is not None:
            return  # it is kept already, for other elements
        numbers = {row[1] for row in rows}
        number = numbers.pop() if len(numbers) == 1 else None
        payload = repr(rows).encode("utf-8", "replace")
        name, now = f"sensor:{number or 0}", self._clock.floor
        self._keep(message, number, name, message.kind.value, payload, len(payload), now)

    def _count(self, fault: Fault) -> None:
        counts = self._state.rejected_total
        counts[fault.reason.value] = counts.get(fault.reason.value, 0) + 1

    def _keep(
        self,
        message: Message,
        number: int | None,
        principal: str,
        source: str,
        payload: bytes,
        size: int,
        now: int,
    ) -> None:
        kept = payload[:KEPT_BYTES]
        if not self._rejections.admit(principal, len(kept), now):
            self._state.rejected_not_kept_total += 1
            return
        fault = message.faults[0]
        indexes = [fault.index for fault in message.faults if fault.index is not None]
        row_id = self._ids.next(now)
        self._ids.advance(row_id, 1)
        message.rejected = (
            row_id,
            now,
            number,
            principal,
            _storable(source),
            kept,
            size,
            fault.reason.value,
            _storable(fault.detail),
            _encode(indexes).decode() if indexes else None,
        )
        message.extras = True


def ledger_key(*parts: str) -> bytes:
    """Return the ledger's key for what these parts name."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()


def element_key(sensor: KnownSensor, kind: Kind, identity: str) -> bytes:
    """Return the ledger's key for an element that its device gave an id."""
    return ledger_key("element", str(sensor.number), kind.value, identity)


def tells_apart(sensor: KnownSensor, identity: str) -> bool:
    """Tell whether an element's id may be told repeats by.

    Its sensor's own name is not: devices that sign each reading with it would be heard once.
    """
    return identity not in sensor.names


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()

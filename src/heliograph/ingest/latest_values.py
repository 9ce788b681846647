"""The newest value of each attribute, in memory for the sensors that somebody asks about."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from heliograph.ingest.attributes import attributes_of
from heliograph.ingest.message import Message
from heliograph.ingest.registry import KnownSensor
from heliograph.model.records import Attribute, Kind
from heliograph.store import Store
from heliograph.store.attributes import keys_of, value_at

MAXIMUM_SENSORS = 10_000
# Of all values together, as JSON, and of all rows that wait.
MAXIMUM_BYTES = 32 << 20
# Rows committed since the last question, which are looked at with the next one; a sensor that
# sends more in between is read from the store again.
MAXIMUM_PENDING_BYTES = 64 << 10
# What a row that waits takes beside its text.
ROW_BYTES = 200
# Another process may write to PostgreSQL: what it has committed is seen after so many seconds.
FRESH_SECONDS = 1.0

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


class _Row(NamedTuple):
    timestamp: int
    fingerprint: int
    value: str


class _Held:
    """What is known of a sensor; `read_at` is None until the store has answered."""

    __slots__ = ("attributes", "pending", "pending_bytes", "read_at", "size")

    def __init__(self) -> None:
        self.attributes: dict[str, Attribute] = {}
        self.pending: list[_Row] = []
        self.pending_bytes = 0
        self.read_at: float | None = None
        self.size = 0


class LatestValues:
    """Answers from memory, of which commits keep what they change right.

    Nothing is held of a sensor until somebody asks. Then each commit leaves its rows of that
    sensor here, undecoded, and the next question takes of them what is newer than what is known:
    by time, and at one time by fingerprint, as the store does it. So late rows change nothing
    that they should not, and a row that comes twice changes nothing the second time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The one asked for longest ago first.
        self._held: dict[int, _Held] = {}
        self._size = 0
        self._pending_bytes = 0
        # Of SQLite's file this process is the only one that writes telemetry.
        self._fresh = FRESH_SECONDS if store.engine.name == "postgresql" else float("inf")

    def note(self, messages: Sequence[Message]) -> None:
        """Take notice of what has just been committed."""
        held = self._held
        if not held:
            return
        for message in messages:
            if message.kind is not Kind.MEASUREMENT or message.dropped is not None:
                continue
            for row in message.rows:
                found = held.get(row[1])
                if found is None or (message.duplicates and row[0] in message.duplicates):
                    continue
                size = len(row[7]) + ROW_BYTES
                found.pending.append(_Row(row[2], row[3], row[7]))
                found.pending_bytes += size
                self._pending_bytes += size
                if found.pending_bytes > MAXIMUM_PENDING_BYTES:
                    self.forget(row[1])
        if self._pending_bytes > MAXIMUM_BYTES:
            self.forget_all()

    def forget(self, number: int) -> None:
        """Ask the store the next time, because rows of this sensor have been deleted."""
        held = self._held.pop(number, None)
        if held is not None:
            self._size -= held.size
            self._pending_bytes -= held.pending_bytes

    def forget_all(self) -> None:
        """Ask the store the next time, because rows have been deleted."""
        self._held.clear()
        self._size = self._pending_bytes = 0

    async def read(self, sensor: KnownSensor) -> list[Attribute]:
        """Return the newest value of each attribute that the sensor has ever measured, by name."""
        number, clock = sensor.number, asyncio.get_running_loop().time
        held = self._held.get(number)
        asked_at = clock()
        if held is None or held.read_at is None or asked_at - held.read_at >= self._fresh:
            # From here on it hears of commits: the store may answer without those under way.
            self.forget(number)
            self._held[number] = held = _Held()
            try:
                found = await self._store.measurements.latest(number)
            except BaseException:
                self._forget_if(number, held)
                raise
            held.attributes = {attribute.name: attribute for attribute in found}
            held.read_at = asked_at
        elif not held.pending:
            self._held[number] = self._held.pop(number)
            return list(held.attributes.values())
        self._catch_up(sensor, held)
        if self._held.get(number) is held:
            self._keep(number, held)
        return list(held.attributes.values())

    def _forget_if(self, number: int, held: _Held) -> None:
        if self._held.get(number) is held:
            self.forget(number)

    def _catch_up(self, sensor: KnownSensor, held: _Held) -> None:
        """Take what is newer from the rows that have been committed meanwhile."""
        attributes, pending = held.attributes, held.pending
        if self._held.get(sensor.number) is held:
            self._pending_bytes -= held.pending_bytes
        held.pending, held.pending_bytes = [], 0
        for row in pending:
            document = _decode(row.value)
            for name in attributes_of(document):
                known = attributes.get(name)
                # Beyond its thousandth name the store knows none of a sensor's.
                if known is None and name not in sensor.attributes:
                    continue
                if known is None or (row.timestamp, row.fingerprint) > (
                    known.timestamp,
                    known.fingerprint,
                ):
                    value = _value(document, name)
                    attributes[name] = Attribute(name, row.timestamp, value, row.fingerprint)
        held.attributes = dict(sorted(attributes.items()))

    def _keep(self, number: int, held: _Held) -> None:
        self._size -= held.size
        held.size = sum(len(a.name) + len(_encode(a.value)) for a in held.attributes.values())
        self._size += held.size
        # To the end of those to forget.
        del self._held[number]
        self._held[number] = held
        while len(self._held) > MAXIMUM_SENSORS or self._size > MAXIMUM_BYTES:
            self.forget(next(iter(self._held)))


def _value(document: Any, name: str) -> Any:
    # Names as `attributes_of` gives them: of a flat object they are its keys.
    if type(document) is dict and name in document and "." not in name and "\\" not in name:
        return document[name]
    return value_at(document, keys_of(name))

"""The newest value of each attribute, in memory for the sensors that somebody asks about."""

import asyncio
import dataclasses
import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from heliograph.access.registry import KnownSensor
from heliograph.ingest.batch import Message
from heliograph.model.attributes import attributes_of, keys_of, value_at
from heliograph.model.records import Attribute, Kind
from heliograph.model.time import now, to_rfc3339
from heliograph.store import Store

# Two of the largest pages of networks' sensors.
MAXIMUM_SENSORS = 20_000
# Of all values together, as JSON, and of all rows that wait.
MAXIMUM_BYTES = 32 << 20
# Rows committed since the last question, which are looked at with the next one; a sensor that
# sends more in between is read from the store again.
MAXIMUM_PENDING_BYTES = 64 << 10
# Beyond so many changes between two looks everybody is looked at.
MAXIMUM_CHANGES = 1_024
# What a row that waits takes beside its text.
ROW_BYTES = 200
DIGEST_BYTES = 16
# Another process may write to PostgreSQL: what it has committed is seen after so many seconds.
FRESH_SECONDS = 1.0

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


class _Row(NamedTuple):
    timestamp: int
    fingerprint: int
    value: str


class Text(NamedTuple):
    """A sensor's newest values as JSON, what tells them from others, and how long they count.

    `until` is by the loop's clock; a commit may change them earlier, which raises `changes`.
    `truncated`: there are more, which would be too much of one sensor.
    """

    json: bytes
    digest: bytes
    until: float
    truncated: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class _SensorValues:
    """What is known of a sensor; `read_at` is None until the store has answered.

    Once it has answered, there is a `text` of all that does not wait in `pending`.
    """

    attributes: dict[str, Attribute] = dataclasses.field(default_factory=dict)
    pending: list[_Row] = dataclasses.field(default_factory=list)
    pending_bytes: int = 0
    read_at: float | None = None
    text: Text | None = None
    truncated: bool = False

    @property
    def size(self) -> int:
        """What it counts among all that is held."""
        return len(self.text.json) if self.text is not None else 0


class LatestValues:
    """Answers from memory, of which commits keep what they change right.

    Nothing is held of a sensor until somebody asks. Then each commit leaves its rows of that
    sensor here, undecoded, and the next question takes of them what is newer than what is known:
    by time, and at one time by fingerprint, as the store does it. So late rows change nothing
    that they should not, and a row that comes twice changes nothing the second time.

    `changes` rises whenever what was read of a sensor may read differently now, for those who keep
    what they made of it: they take the number first and read then. `changed_since` says of whom.
    """

    def __init__(self, store: Store) -> None:
        self.changes = 0
        # The sensors of the last ones.
        self._changed: deque[int] = deque(maxlen=MAXIMUM_CHANGES)
        self._store = store
        # The one asked for longest ago first.
        self._held: dict[int, _SensorValues] = {}
        self._size = 0
        self._pending_bytes = 0
        # Of SQLite's file this process is the only one that writes telemetry.
        self._fresh = FRESH_SECONDS if store.engine.name == "postgresql" else float("inf")
        # Until then rows come up by themselves whose time lay beyond the clock's when it was wrong.
        self._settled_after = 0

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
                if not found.pending:
                    # Once is enough until somebody reads it.
                    self._note_change(row[1])
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
            self._note_change(number)
            self._size -= held.size
            self._pending_bytes -= held.pending_bytes

    def settle_after(self, moment: int) -> None:
        """Ask the store anew until this moment (microseconds): hidden rows' time may come."""
        self._settled_after = moment
        self.forget_all()

    def forget_all(self) -> None:
        """Ask the store the next time, because rows have been deleted."""
        self.changes += 1
        self._changed.clear()
        self._held.clear()
        self._size = self._pending_bytes = 0

    def changed_since(self, changes: int) -> set[int] | None:
        """Return whose values have changed since `changes` was this; None: perhaps everybody's."""
        count = self.changes - changes
        if count > len(self._changed):
            return None
        return set(islice(reversed(self._changed), count))

    async def read(self, sensor: KnownSensor) -> list[Attribute]:
        """Return the newest value of each attribute that the sensor has ever measured, by name."""
        return list((await self._known_one(sensor)).attributes.values())

    async def text(self, sensor: KnownSensor) -> Text:
        """Return the same as a JSON object by name."""
        text = (await self._known_one(sensor)).text
        assert text is not None  # noqa: S101 - tells the type checker
        return text

    async def texts(self, sensors: Sequence[KnownSensor]) -> list[Text]:
        """Return those of several sensors; the store is asked once for all it is asked about."""
        # Each has one by now: the check is for the type checker.
        return [held.text for held in await self._known(sensors) if held.text is not None]

    @property
    def _lasts(self) -> float:
        """For how many seconds an answer of the store counts."""
        if self._settled_after and now() <= self._settled_after:
            return FRESH_SECONDS
        return self._fresh

    async def _known_one(self, sensor: KnownSensor) -> _SensorValues:
        held = (await self._known([sensor]))[0]
        if self._held.get(sensor.number) is held:
            # To the end of those to forget.
            self._held[sensor.number] = self._held.pop(sensor.number)
        return held

    async def _known(self, sensors: Sequence[KnownSensor]) -> list[_SensorValues]:
        """Return what is held of each, with all that was committed before the call."""
        # Whoever is forgotten while the store is asked about others may still be answered for.
        found = [self._held.get(sensor.number) for sensor in sensors]
        expired = asyncio.get_running_loop().time() - self._lasts
        asked: dict[int, _SensorValues] = {}
        if unknown := [
            sensor.number
            for sensor, held in zip(sensors, found, strict=True)
            if held is None or held.read_at is None or held.read_at <= expired
        ]:
            asked = await self._ask(unknown)
        known: list[_SensorValues] = []
        for sensor, earlier in zip(sensors, found, strict=True):
            held = asked.get(sensor.number, earlier)
            assert held is not None  # noqa: S101 - tells the type checker: it was unknown
            if held.pending or held.text is None:
                self._catch_up(sensor, held)
            known.append(held)
        return known

    async def _ask(self, numbers: Sequence[int]) -> dict[int, _SensorValues]:
        """Ask the store for what it knows of the sensors."""
        asked_at = asyncio.get_running_loop().time()
        asked: dict[int, _SensorValues] = {}
        for number in numbers:
            # From here on it hears of commits: the store may answer without those under way.
            self.forget(number)
            self._held[number] = asked[number] = _SensorValues()
        try:
            found = await self._store.measurements.latest_of(numbers)
        except BaseException:
            for number, held in asked.items():
                if self._held.get(number) is held:
                    self.forget(number)
            raise
        for number, held in asked.items():
            attributes = found.get(number)
            if attributes is not None:
                held.attributes = {attribute.name: attribute for attribute in attributes}
                held.truncated = attributes.truncated
            held.read_at = asked_at
        return asked

    def _note_change(self, number: int) -> None:
        self.changes += 1
        self._changed.append(number)

    def _catch_up(self, sensor: KnownSensor, held: _SensorValues) -> None:
        """Take what is newer from the rows that have been committed meanwhile."""
        is_kept = self._held.get(sensor.number) is held
        if is_kept:
            self._pending_bytes -= held.pending_bytes
            self._size -= held.size
        _take_pending(sensor, held)
        held.text = _text(held, self._lasts)
        if is_kept:
            self._size += held.size
            # To the end of those to forget.
            self._held[sensor.number] = self._held.pop(sensor.number)
            while len(self._held) > MAXIMUM_SENSORS or self._size > MAXIMUM_BYTES:
                self.forget(next(iter(self._held)))


def _take_pending(sensor: KnownSensor, held: _SensorValues) -> None:
    attributes, pending = held.attributes, held.pending
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


def _text(held: _SensorValues, fresh: float) -> Text:
    json = _encode(_shown(held.attributes.values()))
    digest = hashlib.blake2b(json, digest_size=DIGEST_BYTES).digest()
    return Text(json, digest, (held.read_at or 0.0) + fresh, held.truncated)


def _shown(attributes: Iterable[Attribute]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    timestamp, moment = None, ""
    for attribute in attributes:
        # Mostly one row has them all.
        if attribute.timestamp != timestamp:
            timestamp = attribute.timestamp
            moment = to_rfc3339(timestamp)
        shown[attribute.name] = {"value": attribute.value, "timestamp": moment}
    return shown


def _value(document: Any, name: str) -> Any:
    # Names as `attributes_of` gives them: of a flat object they are its keys.
    if type(document) is dict and name in document and "." not in name and "\\" not in name:
        return document[name]
    return value_at(document, keys_of(name))

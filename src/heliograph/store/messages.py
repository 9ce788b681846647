"""Everything that was received, newest first: what it was, what it said, what became of it.

It stands in five tables, and the ingest id is the one order that they have in common. PostgreSQL
has no tree by it, only an index of blocks: what is asked for is a stretch of ids, wide enough that
there are as many rows in it as are wanted, and so narrow that all of them can be looked at.

What has to be looked for is looked for in one stretch after the other, each as long as is looked
through in some milliseconds. A search ends after so many rows or so much time, whatever there is.

Packed measurements are looked for after the rows of a stretch: what is packed in between is found
among both, and taken once. Nothing packed becomes a row again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from heliograph.model.attributes import MISSING, WHOLE, keys_of, member_text
from heliograph.model.audit import Actor, AuditAction, AuditedChange
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.records import ID, Kind, MeasurementRow, RejectedMessage
from heliograph.model.time import SECOND, now
from heliograph.store.audit import enter
from heliograph.store.chunks import Chunks
from heliograph.store.engine import Engine, Row, Subject, Transaction, json_text, narrowed
from heliograph.store.packed_messages import MOST_OPENED, PackedMessages
from heliograph.store.pages import (
    ANY_SIZE,
    CHUNK_SIZE,
    ENTRY_BYTES,
    LARGEST_PAGE,
    Hold,
    hold_any,
    longest_of,
)

KINDS: Final = (Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT, Kind.PACKET, Kind.REJECTED)
# Up to here the number of messages is exact.
MOST_COUNTED = 10_000
# A request that has to look for what it wants looks at so many rows at most, a stretch at a time;
# and at more than the fewest only for so long, but for the stretch that it is in.
MOST_SCANNED, FEWEST_SCANNED = 100_000, 1_000
SEARCH_SECONDS = 0.05
# The longest stretch; the first has the fewest rows. How long looking through one should take.
MOST_OF_STRETCH = 20_000
STRETCH_SECONDS = 0.01
# The rows of a sensor that has no more are found by the sensor.
FEW_OF_SENSOR = 20_000
# How far the clocks of several servers may be ahead of this one's, in ingest ids.
_AHEAD = 2 * SECOND
# By how much a stretch with too few rows becomes longer, and the next one at most.
_GROWTH = 8
_CONTENTS_AT_ONCE = 256
# Of the chunks around one id, one of which may have it.
_ALL: Final = 1 << 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class WantedMessages(NamedTuple):
    """Which messages are wanted; what is None does not narrow them. Times are microseconds.

    `key` is a dotted path in the payload, and `value` JSON or any text that stands there; `before`
    is a cursor.
    """

    start: int
    end: int | None = None
    kinds: Collection[Kind] = KINDS
    networks: Sequence[str] | None = None
    sensor: int | None = None
    processed: bool | None = None
    reason: str | None = None
    key: str | None = None
    value: str | None = None
    before: int | None = None
    limit: int = 100


class ReceivedMessage(msgspec.Struct, gc=False):
    """A message as it was received; `payload` is JSON, of a rejected one a text as JSON."""

    id: int
    kind: Kind
    sensor: int | None
    timestamp: int
    receipt_timestamp: int
    payload: bytes
    # Of packets and rejected messages; the others' is that of their sensor.
    source: str | None = None
    principal: str | None = None
    size: int | None = None
    reason: str | None = None
    detail: str | None = None
    processed: bool = True


class MessagePage(NamedTuple):
    """The newest messages, how many there are from the cursor on, and the next cursor.

    Where not all have been looked at, the number is a lower bound. None: there are no more.
    """

    messages: list[ReceivedMessage]
    total: int
    is_lower_bound: bool
    cursor: int | None


class _Name(NamedTuple):
    """Which message it is; of a packed one the message itself."""

    kind: str
    id: int
    sensor: int | None
    timestamp: int
    packed: ReceivedMessage | None = None


class _Stretch(NamedTuple):
    """Ids, the last one exclusive, between which there are so many rows, and the newest's."""

    since: int
    before: int
    rows: int
    newest: int


class Messages(Subject):
    """Reads messages of all kinds, and settles what becomes of rejected ones."""

    def __init__(self, engine: Engine, chunks: Chunks) -> None:
        super().__init__(engine)
        self._chunks = chunks

    async def page(self, wanted: WantedMessages, *, hold: Hold = hold_any) -> MessagePage:
        """Return the newest messages that are wanted."""
        if wanted.networks is not None and not wanted.networks:
            return MessagePage([], 0, False, None)
        since = first_ingest_id(wanted.start)
        end = now() + _AHEAD if wanted.end is None else wanted.end
        before = first_ingest_id(end)
        if wanted.before is not None:
            before = min(before, wanted.before)
        if wanted.processed is False:
            [(first, last)] = await self._engine.fetch("messages_unprocessed_span")
            if first is None:
                return MessagePage([], 0, False, None)
            since, before = max(since, first), min(before, last + 1)
        search = _Search(self._engine, self._chunks, wanted, hold)
        await search.run(since, before)
        await self._mark_unprocessed(search.found)
        return MessagePage(search.found, search.total, search.is_lower_bound, search.cursor)

    async def find(
        self, identifier: int, *, networks: Sequence[str] | None, sensor: int | None
    ) -> ReceivedMessage | None:
        """Return the message with this id, if it is of a sensor in the networks, or of this one."""
        wanted = WantedMessages(0, networks=networks, sensor=sensor, limit=1)
        search = _Search(self._engine, self._chunks, wanted, hold_any, most_opened=_ALL)
        names, _ = await search.newest(identifier, identifier + 1, 1)
        found = [message async for message in search.contents(names)]
        await self._mark_unprocessed(found)
        return found[0] if found else None

    async def names_of_sensors(self, numbers: Collection[int]) -> dict[int, tuple[str, str | None]]:
        """Return the UUID and the `device_id` of each sensor, also of deleted ones."""
        if not numbers:
            return {}
        text = json_text(sorted(numbers))
        rows = await self._engine.fetch("messages_sensors", numbers=text)
        return {number: (identifier, device_id) for number, identifier, device_id in rows}

    async def rejected(self, identifier: int) -> RejectedMessage | None:
        """Return the rejected message with this id."""
        return await self._one(RejectedMessage, "rejected_find", id=identifier)

    async def rejected_since(
        self,
        after: int,
        until: int,
        *,
        sensor: int | None,
        networks: Sequence[str] | None,
        source: str | None,
        reason: str | None,
        limit: int,
    ) -> list[RejectedMessage]:
        """Return rejected messages with ids from `after` on and before `until`, oldest first."""
        return await self._all(
            RejectedMessage,
            "rejected_due",
            after=after,
            until=until,
            sensor=sensor,
            networks=narrowed(networks),
            source=source,
            reason=reason,
            limit=limit,
        )

    async def settle(
        self,
        message: RejectedMessage,
        actor: Actor,
        left: tuple[str, str, str | None] | None,
        network: str | None,
    ) -> None:
        """Take a message that is stored by now off the list, or note what is `left` of it.

        That is the reason, the detail, and the indexes of its elements as JSON.
        """
        change = AuditedChange(
            AuditAction.MESSAGE_RESUBMIT,
            str(message.id),
            message.source,
            network,
            {"reason": {"old": message.reason, "new": left[0] if left else None}},
        )

        async def work(transaction: Transaction) -> None:
            if left is None:
                changed = await transaction.fetch("rejected_remove", id=message.id)
            else:
                reason, detail, indexes = left
                texts = {"reason": reason, "detail": detail, "indexes": indexes}
                changed = await transaction.fetch("rejected_keep", id=message.id, **texts)
            if changed:
                await enter(transaction, actor, [change])

        await self._engine.change(work)

    async def _mark_unprocessed(self, messages: Sequence[ReceivedMessage]) -> None:
        pending = await _unprocessed(self._engine, [message.id for message in messages])
        for message in messages:
            message.processed = message.id not in pending


class _Search:
    """Finds a page of messages, and counts those that are like them."""

    def __init__(
        self,
        engine: Engine,
        chunks: Chunks,
        wanted: WantedMessages,
        hold: Hold,
        most_opened: int | None = None,
    ) -> None:
        self.found: list[ReceivedMessage] = []
        self.total = 0
        self.is_lower_bound = False
        self.cursor: int | None = None
        self._engine = engine
        self._chunks = chunks
        self._wanted = wanted
        self._hold = hold
        self._size = 0
        # The rows of the stretches that have been looked at.
        self._scanned = 0
        self._is_full = False
        kinds = wanted.kinds if wanted.reason is None else {*wanted.kinds} & {Kind.REJECTED}
        self._kinds = " ".join(kinds)
        # One to be read and one to be counted, at the same time.
        self._packed: list[PackedMessages] = []
        if Kind.MEASUREMENT in kinds:
            unwanted = None if wanted.processed is None else self._processed_otherwise
            of = wanted.sensor, wanted.networks, unwanted, most_opened or MOST_OPENED
            self._packed = [PackedMessages(engine, chunks, *of) for _ in range(2)]
        # The rows of a sensor that has few, newest first.
        self._few: list[_Name] | None = None
        self._condition = None if wanted.key is None else _Condition(wanted.key, wanted.value)
        # Where the networks are all that there are, only what is of no sensor is left out.
        self._is_of_all = False
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + SEARCH_SECONDS

    async def run(self, since: int, before: int) -> None:
        """Search from one id down to another."""
        wanted, reached = self._wanted, since
        if wanted.networks is not None:
            others = await self._engine.fetch(
                "messages_other_network", networks=narrowed(wanted.networks)
            )
            self._is_of_all = not others
        first = since
        if wanted.sensor is not None and await self._has_few(wanted.sensor):
            self._few = await self._names_of_sensor(since, before)
            if len(self._few) > MOST_COUNTED:
                self.is_lower_bound, first = True, self._few[-1].id
        if self._finds_at_once:
            # All are counted while the newest are looked for.
            total, reached = await asyncio.gather(
                self._count(first, before), self._scan(first, before)
            )
            if self._is_full and total <= len(self.found):
                total = await self._count(first, before)  # some have come meanwhile
            self.total = max(total, len(self.found))
        else:
            reached = await self._scan(first, before)
        if any(packed.has_left_out for packed in self._packed):
            self.is_lower_bound = True
        if self.total > MOST_COUNTED:
            self.total, self.is_lower_bound = MOST_COUNTED, True
        if self._is_full:
            if self.total > len(self.found) or self.is_lower_bound:
                self.cursor = self.found[-1].id
        elif reached > since:
            self.cursor = reached

    def _has_to_end(self, rows: int) -> bool:
        """Return whether the time is over, and enough looked at: so many rows of this stretch."""
        return self._scanned + rows >= FEWEST_SCANNED and self._clock() > self._deadline

    @property
    def _finds_at_once(self) -> bool:
        """Whether all that is in a stretch is wanted, but for a few."""
        wanted = self._wanted
        if self._few is not None:
            return wanted.key is None
        narrows = (wanted.key, wanted.processed, wanted.sensor, wanted.reason)
        return narrows == (None,) * 4 and (wanted.networks is None or self._is_of_all)

    async def _scan(self, since: int, before: int) -> int:
        """Look at one stretch after the other; return down to which id."""
        # What is tried first: the last second, or where that is not asked for, as long.
        length = max(before - first_ingest_id(now() - SECOND), first_ingest_id(SECOND))
        most = first = min(FEWEST_SCANNED, MOST_OF_STRETCH)
        while before > since and self.total <= MOST_COUNTED:
            if self._is_full and self._finds_at_once:
                return since
            is_spent = any(packed.is_spent for packed in self._packed[:1])
            if self._scanned >= MOST_SCANNED or is_spent or self._has_to_end(0):
                self.is_lower_bound = True
                return before
            began = self._clock()
            stretch = await self._stretch(since, before, length, most)
            before = stretch.since
            if self._is_full and self._condition is None:
                self.total += await self._count(stretch.since, stretch.before)
            else:
                room = self._wanted.limit - len(self.found)
                limit = max(stretch.rows, most) if self._condition else room
                names, before = await self.newest(stretch.since, stretch.before, limit)
                reached = await self._take(names)
                if reached is not None:
                    self.is_lower_bound = True
                    return reached
                self._scanned += sum(name.packed is not None for name in names)
            self._scanned += stretch.rows
            if stretch.rows:
                is_quick = self._clock() - began < STRETCH_SECONDS
                most = min(most * _GROWTH, MOST_OF_STRETCH) if is_quick else max(most // 2, first)
                # As many as that, and some room, as they lie here.
                length = max((stretch.newest - stretch.since) * most * 2 // (3 * stretch.rows), 1)
        return before

    async def _stretch(self, since: int, before: int, length: int, most: int) -> _Stretch:
        """Return a stretch of ids up to `before` that has rows, but not more than `most`.

        It has none if there are none from `since` on. `length` is what is tried first.
        """
        if self._few is not None:
            rows = len(self._few_between(since, before))
            return _Stretch(since, before, rows, before - 1)
        empty, crowded = 0, None
        while True:
            begin = max(before - length, since)
            [(rows, newest)] = await self._engine.fetch(
                "messages_stretch", since=begin, before=before, kinds=self._kinds, limit=most + 1
            )
            if rows > most and length > 1:
                crowded = length
                if length <= empty:
                    empty = 0  # what was empty no longer is: rows come while they are counted
            elif rows or begin == since:
                return _Stretch(begin, before, rows, newest or begin)
            else:
                empty = length
            if crowded is None:
                length = empty * _GROWTH
            else:
                length = (empty + crowded) // 2 if empty else max(crowded // _GROWTH, 1)

    async def _take(self, names: Sequence[_Name]) -> int | None:
        """Count those that are wanted, and take as many as there is room for, newest first.

        Return down to which id it came in time; None: to the last.
        """
        if self._condition is None:
            self.total += len(names)
            room = self._wanted.limit - len(self.found)
            async for message in self.contents(names[:room]):
                if not self._add(message):
                    break
            return None
        for at in range(0, len(names), _CONTENTS_AT_ONCE):
            if at and self._has_to_end(at):
                return names[at - 1].id
            async for message in self.contents(names[at : at + _CONTENTS_AT_ONCE]):
                if self._condition.holds(message):
                    self.total += 1
                    self._add(message)
            if self.total > MOST_COUNTED:
                break
        return None

    def _add(self, message: ReceivedMessage) -> bool:
        """Return whether there was room for the message."""
        size = self._size + len(message.payload) + ENTRY_BYTES
        if not self._is_full and (not self.found or size <= LARGEST_PAGE):
            self.found.append(message)
            self._size = size
            self._hold(size)
            self._is_full = len(self.found) == self._wanted.limit
            return True
        self._is_full = True
        return False

    async def _has_few(self, sensor: int) -> bool:
        limit = FEW_OF_SENSOR + 1
        [(rows,)] = await self._engine.fetch("messages_rows_of_sensor", sensor=sensor, limit=limit)
        return int(rows) <= FEW_OF_SENSOR

    async def _names_of_sensor(self, since: int, before: int) -> list[_Name]:
        rows = await self._engine.fetch(
            "messages_of_sensor",
            sensor=self._wanted.sensor,
            since=since,
            before=before,
            kinds=self._kinds,
            reason=self._wanted.reason,
            processed=self._processed,
            limit=MOST_COUNTED + 1,
        )
        return [_Name(*row) for row in rows]

    def _few_between(self, since: int, before: int) -> list[_Name]:
        return [name for name in self._few or () if since <= name.id < before]

    async def newest(self, since: int, before: int, limit: int) -> tuple[list[_Name], int]:
        """Return the newest with ids from `since` on and before `before`; and down to which id."""
        if self._few is not None:
            names = self._few_between(since, before)[:limit]
        else:
            names = await self._names(since, before, limit)
        if len(names) == limit:
            since = names[-1].id
        if not self._packed or (names and names[0].id == since == before - 1):
            return names, since
        rows, since = await self._packed[0].newest(since, before, limit)
        # What was a row when these were found and has been packed since is among both.
        known = {name.id: name for name in names if name.id >= since}
        known |= {row[ID]: _packed_name(row) for row in rows}
        names = sorted(known.values(), key=attrgetter("id"), reverse=True)[:limit]
        return names, names[-1].id if len(names) == limit else since

    async def _names(self, since: int, before: int, limit: int) -> list[_Name]:
        """Return the same of what is not packed."""
        condition = self._condition
        rows = await self._engine.fetch(
            "messages_names",
            since=since,
            before=before,
            **self._which(),
            member=condition and condition.member,
            said=condition and condition.said,
            spelled=condition and condition.spelled,
            limit=limit,
        )
        return [_Name(*row) for row in rows]

    async def _count(self, since: int, before: int) -> int:
        if self._few is not None:
            count = len(self._few_between(since, before))
        else:
            limit = MOST_COUNTED + 1
            [(count,)] = await self._engine.fetch(
                "messages_count", since=since, before=before, **self._which(), limit=limit
            )
        if self._packed and count <= MOST_COUNTED:
            packed, is_lower_bound = await self._packed[1].count(
                since, before, MOST_COUNTED - count
            )
            count += packed
            self.is_lower_bound |= is_lower_bound
        return int(count)

    def _which(self) -> dict[str, Any]:
        return {
            "kinds": self._kinds,
            "sensor": self._wanted.sensor,
            "networks": None if self._is_of_all else narrowed(self._wanted.networks),
            "of_all": 1 if self._is_of_all else None,
            "reason": self._wanted.reason,
            "processed": self._processed,
        }

    async def _processed_otherwise(self, ids: Sequence[int]) -> set[int]:
        """Return which of these are processed, or are not: those that are not wanted."""
        pending = await _unprocessed(self._engine, ids)
        return pending if self._wanted.processed else set(ids) - pending

    @property
    def _processed(self) -> int | None:
        return None if self._wanted.processed is None else int(self._wanted.processed)

    async def contents(self, names: Sequence[_Name]) -> AsyncIterator[ReceivedMessage]:
        """Yield the messages of these names, in their order; what is gone meanwhile is left out."""
        for at in range(0, len(names), _CONTENTS_AT_ONCE):
            piece = names[at : at + _CONTENTS_AT_ONCE]
            longest = longest_of(len(piece), CHUNK_SIZE)
            found = await self._read([name for name in piece if name.packed is None], longest)
            for name in piece:
                row = found.get(name.id)
                if row is not None and row[3] > longest:
                    # Large ones come one by one.
                    row = (await self._read([name], ANY_SIZE)).get(name.id)
                message = name.packed if row is None else _MESSAGES[Kind(name.kind)](name, row)
                if message is None and name.kind == Kind.MEASUREMENT:
                    message = await self._packed_since(name)
                if message is not None:
                    yield message

    async def _packed_since(self, name: _Name) -> ReceivedMessage | None:
        """Return a message that was a row when its name was found."""
        if name.sensor is None:
            return None
        rows = await self._chunks.named({(name.id, name.sensor, name.timestamp)})
        return _packed_name(rows[0]).packed if rows else None

    async def _read(self, names: Sequence[_Name], longest: int) -> dict[int, Row]:
        found: dict[int, Row] = {}
        for kind in {name.kind for name in names}:
            text = json_text([name[1:] for name in names if name.kind == kind])
            rows = await self._engine.fetch(f"messages_{kind}", names=text, longest=longest)
            found.update((row[0], row) for row in rows)
        return found


class _Condition:
    """That something stands at a place in the payload, and what."""

    def __init__(self, key: str, value: str | None) -> None:
        self._keys = keys_of(key)
        self._value: Any = MISSING
        self._text = value
        # What the text of a payload contains of which it holds, at least.
        self.member = "" if self._keys == WHOLE else member_text(self._keys)
        self.said = self.spelled = "" if value is None else _spelled(value)
        if value is not None:
            try:
                self._value = _decode(value)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                return
            self.said = _telling(self._value)

    def holds(self, message: ReceivedMessage) -> bool:
        """Return whether it holds for a message; of a rejected one, if that is JSON."""
        try:
            document = _decode(message.payload)
            if message.kind is Kind.REJECTED:
                document = _decode(document)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        found = _at(document, self._keys)
        if found is MISSING or self._text is None:
            return found is not MISSING
        if found == self._text and type(found) is str:
            return True
        return self._value is not MISSING and _is_same(found, self._value)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether they are the same JSON: Python takes true for 1."""
    if type(one) is dict and type(other) is dict:
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_is_same, one, other))
    return (type(one) is bool) is (type(other) is bool) and bool(one == other)


def _at(document: Any, keys: tuple[str, ...]) -> Any:
    """Return what stands there, be it an object, or `MISSING`."""
    if type(document) is not dict:
        return document if keys == WHOLE else MISSING
    for key in keys:
        if type(document) is not dict or key not in document:
            return MISSING
        document = document[key]
    return document


def _telling(value: Any) -> str:
    """Return what the canonical text of what is equal to the value contains; perhaps nothing."""
    if isinstance(value, str):
        return _spelled(value)
    if type(value) in (int, float) and value == value // 1:
        return str(int(value)) if abs(value) < 1e15 else ""
    return "" if isinstance(value, dict | list) else _encode(value).decode()


def _spelled(text: str) -> str:
    return _encode(text)[1:-1].decode()


async def _unprocessed(engine: Engine, ids: Sequence[int]) -> set[int]:
    """Return the ids of those that a rule or an action has yet to deal with."""
    if not ids:
        return set()
    text = json_text([(each,) for each in ids])
    return {row_id for (row_id,) in await engine.fetch("messages_unprocessed", names=text)}


def _packed_name(row: MeasurementRow) -> _Name:
    row_id, sensor, timestamp, _, receipt, _, _, value, *_ = row
    name = row_id, Kind.MEASUREMENT, sensor, timestamp
    message = ReceivedMessage(*name, receipt, value.encode())
    return _Name(Kind.MEASUREMENT, row_id, sensor, timestamp, message)


def _measurement(name: _Name, row: Row) -> ReceivedMessage:
    return _telemetry(name, row, row[4].encode())


def _log(name: _Name, row: Row) -> ReceivedMessage:
    return _telemetry(
        name, row, _encode(dict(zip(("severity", "subject", "details"), row[4:7], strict=True)))
    )


def _heartbeat(name: _Name, row: Row) -> ReceivedMessage:
    # SQLite knows no booleans.
    success = None if row[4] is None else bool(row[4])
    details = {} if row[5] is None else _decode(row[5])
    return _telemetry(name, row, _encode({"success": success, **details}))


def _telemetry(name: _Name, row: Row, payload: bytes) -> ReceivedMessage:
    return ReceivedMessage(name.id, Kind(name.kind), name.sensor, name.timestamp, row[1], payload)


def _packet(name: _Name, row: Row) -> ReceivedMessage:
    message = _measurement(name, row)
    message.source = row[2]
    return message


def _rejected(name: _Name, row: Row) -> ReceivedMessage:
    _, receipt, source, _, payload, principal, size, reason, detail = row
    text = _encode(bytes(payload).decode("utf-8", "replace"))
    return ReceivedMessage(
        name.id, Kind.REJECTED, name.sensor, name.timestamp, receipt, text, source, principal, size,
        reason, detail,
    )  # fmt: skip


_MESSAGES: Final[dict[Kind, Callable[[_Name, Row], ReceivedMessage]]] = {
    Kind.MEASUREMENT: _measurement,
    Kind.LOG: _log,
    Kind.HEARTBEAT: _heartbeat,
    Kind.PACKET: _packet,
    Kind.REJECTED: _rejected,
}

"""From messages to the rows of one transaction, and back to what became of them."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Protocol

from heliograph.access.registry import KnownSensor
from heliograph.ingest.message import Message
from heliograph.model.batch import Batch
from heliograph.model.event import Committed
from heliograph.model.identifiers import INGEST_ID_STEP, IngestIds, as_ingest_id
from heliograph.model.records import DeliveryRow, Kind, RowName

# The ledger's answer to a packet that came again: before its first delivery, if that reached
# another server.
REDELIVERED = "redelivered"


class Ledger(Protocol):
    """Remembers deliveries that carry no time of their own."""

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, str | None]]:
        """Return the id and the answer of each key that is known."""
        ...

    async def stored(self, kind: Kind, names: Sequence[RowName]) -> set[RowName]:
        """Return those by which a row of the kind goes."""
        ...


def asking(messages: list[Message]) -> list[Message]:
    """Return the messages that the ledger might know."""
    return [message for message in messages if message.redelivered or message.identities]


async def drop_repeats(messages: list[Message], ledger: Ledger) -> dict[int, int]:
    """Find what the ledger already has; return the ids of repeated rows and of their originals.

    What of it another server stores meanwhile, the ledger tells when the batch is written. A
    redelivered message that is found loses its rows; an element with an id that is found, or
    that stands in an earlier message of the same batch, is left out by `build_batch`.
    """
    asked = asking(messages)
    if not asked:
        return {}
    keys = [m.delivery for m in asked if m.redelivered and m.delivery is not None]
    keys += [key for m in asked for _, key in m.identities or ()]
    found = await ledger.find(keys)
    posted_back = await _find_named(asked, ledger)
    repeats: dict[int, int] = {}
    first: dict[bytes, int] = {}
    for message in asked:
        known = found.get(message.delivery) if message.delivery and message.redelivered else None
        # Where nothing was stored, 0 stands for the first id, and says nothing of whose it is.
        if known is not None and (known[0] != message.first_id or known[0] == 0):
            repeats.update((row[0], known[0]) for row in message.rows)
            message.dropped = known[1] or ""
            continue
        for position, key in message.identities or ():
            row = message.rows[position]
            row_id = row[0]
            if (name := _row_named(row)) is not None and (message.kind, name) in posted_back:
                repeats[row_id] = name[0]
                continue
            stored = found.get(key)
            original = first.setdefault(key, stored[0] if stored else row_id)
            if original != row_id:
                repeats[row_id] = original
    for message in asked:
        message.duplicates = {r[0]: repeats[r[0]] for r in message.rows if r[0] in repeats} or None
    return repeats


async def _find_named(messages: list[Message], ledger: Ledger) -> set[tuple[Kind, RowName]]:
    """Return the stored rows that elements name by what the server itself calls them."""
    named: dict[Kind, list[RowName]] = {}
    for message in messages:
        for position, _ in message.identities or ():
            if (name := _row_named(message.rows[position])) is not None:
                named.setdefault(message.kind, []).append(name)
    return {
        (kind, name) for kind, names in named.items() for name in await ledger.stored(kind, names)
    }


def _row_named(row: tuple[Any, ...]) -> RowName | None:
    """Return the row that this one's element may be, posted back as history answered it."""
    ingest_id = as_ingest_id(row[-1])
    return None if ingest_id is None else (ingest_id, row[1], row[2])


def build_batch(messages: list[Message], *, probe: bool = False) -> Batch:
    """Return the rows of the messages, without those known to be repeats.

    With `probe` only telemetry rows are taken, and not to stay: to find out which of them can't
    be stored.
    """
    batch = Batch(trial=probe)
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
        if message.attributes:
            batch.attributes += message.attributes
        if message.extras:
            _add_extras(batch, message)
            if message.answer is not None:
                batch.answers = functools.partial(corrected_answers, messages)
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
        and any(row[0] in duplicates for row in message.rows)
    ]


def lose_claims(messages: list[Message], keys: frozenset[bytes]) -> None:
    """Have messages looked up in the ledger whose keys were stored for others meanwhile."""
    for message in messages:
        if message.delivery in keys:
            message.redelivered = True


def give_new_ids(messages: Iterable[Message], ids: IngestIds, moment: int) -> None:
    """Give the rows new ids in place of those that another server may have given too."""
    for message in messages:
        count = len(message.rows)
        first = ids.next(moment)
        # In place: who waits for the answer has the list.
        message.rows[:] = [
            (first + position * INGEST_ID_STEP, *row[1:])
            for position, row in enumerate(message.rows)
        ]
        ids.advance(first, count)
        if message.rejected is not None:
            row_id = ids.next(moment)
            ids.advance(row_id, 1)
            message.rejected = (row_id, *message.rejected[1:])
        message.duplicates = None


def _add_extras(batch: Batch, message: Message) -> None:
    if message.rejected is not None:
        batch.rejected.append(message.rejected)
    if message.status is not None:
        batch.statuses.append(message.status)
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

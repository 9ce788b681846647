"""How what comes again is told from what is new, where no time of its own tells it.

The ledger keeps a key for each delivery that may come again, for each element with an id of its own
and for each answer under an Idempotency-Key.
"""

import hashlib
from typing import Any

from heliograph.access.registry import KnownSensor
from heliograph.ingest.batch import Message
from heliograph.ingest.routes import Route
from heliograph.model.identifiers import as_ingest_id
from heliograph.model.records import Kind, RowName
from heliograph.model.time import HOUR
from heliograph.store.telemetry import Deliveries

# For how long a packet that comes again is told by its id and content. The longer, the likelier
# is a client that counts its packet ids from 1 again, whose new message looks like the old one.
REDELIVERY = HOUR


def identify(message: Message, sensor: KnownSensor, identities: list[tuple[int, str]]) -> None:
    """Let the ledger know the elements that carry an id of their own."""
    message.identities = [
        (position, element_key(sensor, message.kind, identity))
        for position, identity in identities
        if tells_apart(sensor, identity)
    ]
    message.extras = True


def enter(
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
    if not message.rows and message.rejected is None and message.packet is None:
        # Nothing is stored that a repeat could double; a mad device would fill the ledger.
        return
    name = b"%b %d %b " % (delivery, message.tokens[0] & 0xFFFF, route.source.encode())
    message.delivery = hashlib.blake2b(name + payload, digest_size=16).digest()
    message.delivery_expiry = now + REDELIVERY
    message.redelivered = redelivered
    message.extras = True


def ledger_key(*parts: str) -> bytes:
    """Return the ledger's key for what these parts name."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()


def element_key(sensor: KnownSensor, kind: Kind, identity: str) -> bytes:
    """Return the ledger's key for an element that its device gave an id."""
    return ledger_key("element", str(sensor.number), kind.value, identity)


def tells_apart(sensor: KnownSensor, identity: str) -> bool:
    """Return whether repeats may be recognised by an element's id.

    Its sensor's own name is not: devices that sign each reading with it would be heard once.
    """
    return identity not in sensor.names


def asks_the_store(message: Message) -> bool:
    """Return whether the ledger might know the message, or its sensor has yet to be found."""
    return message.redelivered or bool(message.identities) or message.resolve is not None


async def drop_repeats(messages: list[Message], ledger: Deliveries) -> dict[int, int]:
    """Find what the ledger already has; return the ids of repeated rows and of their originals.

    What of it another server stores meanwhile, the ledger tells when the batch is written. A
    redelivered message that is found loses its rows; an element with an id that is found, or
    that stands in an earlier message of the same batch, is left out by `build_batch`.
    """
    asked = [message for message in messages if message.redelivered or message.identities]
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


async def _find_named(messages: list[Message], ledger: Deliveries) -> set[tuple[Kind, RowName]]:
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


def lose_claims(messages: list[Message], keys: frozenset[bytes]) -> None:
    """Have messages looked up in the ledger whose keys were stored for others meanwhile."""
    for message in messages:
        if message.delivery in keys:
            message.redelivered = True

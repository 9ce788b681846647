"""The ledger of deliveries: what tells a repeat where the content can't."""

from collections.abc import Sequence

import msgspec

from heliograph.model.records import Kind, RowName
from heliograph.model.time import now
from heliograph.store.engine import Engine

PRUNED_AT_ONCE = 5_000
NAMED_AT_ONCE = 5_000

_encode = msgspec.json.Encoder().encode


class Deliveries:
    """Keys of deliveries that were stored; entered together with what they brought."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, str | None]]:
        """Return id and answer of each key that is known and not expired."""
        if not keys:
            return {}
        rows = await self._engine.find_deliveries(keys, now())
        return {key: (row_id, answer) for key, row_id, answer in rows}

    async def stored(self, kind: Kind, names: Sequence[RowName]) -> set[RowName]:
        """Return those by which a row of the kind goes."""
        stored: set[RowName] = set()
        for at in range(0, len(names), NAMED_AT_ONCE):
            wanted = _encode(names[at : at + NAMED_AT_ONCE]).decode()
            rows = await self._engine.fetch(f"{kind.value}_by_name", names=wanted)
            stored.update((row[0], row[1], row[2]) for row in rows)
        return stored

    async def forget(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Delete (key, id) pairs, unless the key stands for another id by now."""
        for at in range(0, len(deliveries), PRUNED_AT_ONCE):
            await self._engine.forget_deliveries(deliveries[at : at + PRUNED_AT_ONCE])

    async def prune(self, now: int) -> int:
        """Delete those expired at a time; return how many."""
        pruned = 0
        while True:
            async with self._engine.transaction() as transaction:
                rows = await transaction.fetch("deliveries_prune", now=now, limit=PRUNED_AT_ONCE)
            pruned += len(rows)
            if len(rows) < PRUNED_AT_ONCE:
                return pruned

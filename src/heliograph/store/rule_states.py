"""What rules remember of sensors, and what they have yet to look at."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from heliograph.model.records import Kind
from heliograph.store.engine import Row, Subject, Transaction, json_text, narrowed
from heliograph.store.packed_repeats import PackedRepeats

T = TypeVar("T")


class StoredObservation(msgspec.Struct, frozen=True, gc=False):
    """A row that a rule has to look at. `value` is JSON text."""

    rule: str
    sensor: int
    timestamp: int
    fingerprint: int
    id: int
    receipt_timestamp: int
    kind: str
    verdict: str | None
    value: str
    newest: int | None


class StoredState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A rule's state of a sensor: `state` is text, `phase` is idle, pending or raised.

    `basis` tells the rule that it rests on from what the rule was before. `due_at` is when the
    clock may change it (microseconds); None: never.
    """

    rule: str
    sensor: int
    state: str
    basis: int
    phase: str
    due_at: int | None


class EnteredAction(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a rule has begun, for the outbox: `state` is pending, or failed at once with `error`."""

    rule: str
    position: int
    sensor: int
    timestamp: int
    fingerprint: int
    message: int | None
    network_identifier: str
    type: str
    body: str
    due_at: int
    created_at: int
    state: str
    finished_at: int | None
    error: str | None


class Turn:
    """An open transaction in which this server alone moves the states of rules."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self._fetch = transaction.fetch

    async def run(self, work: Callable[["Turn"], Awaitable[T]]) -> T:
        """Return what work makes of the transaction; see `Transaction.run`."""
        made: T = await self.transaction.run(lambda transaction: work(Turn(transaction)))
        return made

    async def take(self, limit: int, characters: int) -> list[StoredObservation]:
        """Return the oldest observations, by rule, sensor and time; `settle` has to follow."""
        rows = await self._fetch("observations_take", limit=limit, characters=characters)
        return [StoredObservation(*row) for row in rows]

    async def settle(self, observations: Sequence[StoredObservation]) -> None:
        """Forget what has been looked at."""
        keys = [(each.rule, each.sensor, each.timestamp, each.fingerprint) for each in observations]
        await self._fetch("observations_settle", keys=json_text(keys))

    async def states(self, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Row]:
        """Return the text and basis of states by rule and sensor, as far as there are any."""
        rows = await self._fetch("rule_states_find", pairs=json_text(list(pairs)))
        return {(row[0], row[1]): row[2:] for row in rows}

    async def due(self, now: int, limit: int) -> Sequence[Row]:
        """Return rule, sensor, text and basis of states that the clock may change."""
        return await self._fetch("rule_states_due", now=now, limit=limit)

    async def active(self) -> Sequence[Row]:
        """Return rule, sensor and basis of all states that are not idle."""
        return await self._fetch("rule_states_active")

    async def store(self, states: Sequence[StoredState]) -> None:
        """Store states, unless their rule is gone."""
        await self._fetch("rule_states_store", rows=json_text(list(states)))

    async def begin(self, states: Sequence[StoredState]) -> None:
        """Store states of sensors of which the rule has none yet."""
        await self._fetch("rule_states_begin", rows=json_text(list(states)))

    async def end(self, pairs: Sequence[tuple[str, int]]) -> None:
        """Forget states."""
        await self._fetch("rule_states_end", pairs=json_text(list(pairs)))

    async def enter(self, actions: Sequence[EnteredAction]) -> None:
        """Enter what rules have begun into the outbox, once each."""
        await self._fetch("rule_actions_store", rows=json_text(list(actions)))

    async def row(self, kind: Kind, sensor: int, timestamp: int, fingerprint: int) -> Row | None:
        """Return the stored row with this key, in the order of the records' rows."""
        query = "packet_of_sensor" if kind is Kind.PACKET else f"{kind.value}_by_key"
        key = {"sensor": sensor, "timestamp": timestamp, "fingerprint": fingerprint}
        rows = await self._fetch(query, **key)
        if not rows and kind is Kind.MEASUREMENT:
            wanted = 0, sensor, timestamp, fingerprint, 0, None, None, ""
            found = await PackedRepeats().find_rows(self._fetch, [wanted], {})
            rows = list(found.values())
        return rows[0] if rows else None


class RuleStates(Subject):
    """The states of all rules."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn | None]:
        """Open a transaction to move states in; None: another server is about it."""
        async with self._engine.transaction() as transaction:
            [(is_ours,)] = await transaction.fetch("rules_turn")
            yield Turn(transaction) if is_ours else None

    async def active(self) -> Sequence[Row]:
        """Return rule, sensor and basis of all states that are not idle."""
        return await self._engine.fetch("rule_states_active")

    async def awake(self) -> list[tuple[str, int]]:
        """Return rule and sensor of all states that are not idle, or have something to look at."""
        rows = await self._engine.fetch("rule_states_awake")
        return [(name, number) for name, number in rows]

    async def matched(
        self, network: str, names: Sequence[str] | None, tags: Sequence[str]
    ) -> list[int]:
        """Return the numbers of a network's sensors in use.

        With `names`, of those called so (UUID or `device_id`) and those with one of the tags.
        """
        wanted = {"names": narrowed(names), "tags": json_text(list(tags))}
        return await self._all(int, "sensors_matched", network=network, **wanted)

    async def oldest(self) -> int | None:
        """Return when the oldest message was received that rules have yet to look at, if any."""
        rows = await self._engine.fetch("observations_oldest")
        return int(rows[0][0]) if rows else None

    async def due_at(self) -> int | None:
        """Return when the clock may change a state next; None: never."""
        [(due_at,)] = await self._engine.fetch("rule_states_due_at")
        return None if due_at is None else int(due_at)

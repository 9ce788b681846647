"""The outbox: what is to be done because of a message, a rule or the clock, at least once each."""

import enum
from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.model.actions import idempotency_key
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.time import SECOND
from heliograph.store.audit import enter
from heliograph.store.engine import Row, Subject, Transaction, json_text

# How long a claim holds: no action takes longer. That of a server that is gone ends with its lease.
CLAIM_SECONDS = 60
# What is not begun now, since another that may end the server is, is looked at again after that.
SUSPECT_SECONDS = 0.25
# Said of an action while its claim follows one of which nobody noted how it ended.
ENDED = "the server ended before it was done"
# Nobody puts an action off for longer: what is due later was put off by a clock set back since.
FURTHEST_SECONDS = 3_600
PRUNED_AT_ONCE = 1_000


class ActionState(enum.StrEnum):
    """What became of an action."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class DueAction(msgspec.Struct, frozen=True, gc=False):
    """An action that is claimed. `body` is JSON text; `attempts` counts this one too."""

    id: int
    rule: str
    position: int
    sensor: int
    timestamp: int
    fingerprint: int
    message: int | None
    network_identifier: str | None
    type: str
    body: str
    attempts: int
    created_at: int
    # Whether it was begun more than once before, and nobody noted how that ended.
    is_suspect: bool

    @property
    def idempotency_key(self) -> str:
        """Return what a receiver knows it by when it is run again."""
        what = self.rule, self.position, self.type
        return idempotency_key(*what, self.sensor, self.timestamp, self.fingerprint)


class SettledAction(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What became of a claimed action; pending again, it is due at `due_at`.

    `claim` is the attempt that this is of: what has been claimed again since is another's, and
    only that it is done counts.
    """

    id: int
    state: ActionState
    attempts: int
    due_at: int
    finished_at: int | None
    error: str | None
    claim: int


class NextDue(msgspec.Struct, frozen=True):
    """When the next action may be claimed, and of which type it is."""

    type: str
    due_at: int


class ActionRecord(msgspec.Struct, frozen=True, gc=False):
    """An action as it is listed. Times are microseconds; `sensor` 0 and `rule` "" are none."""

    id: int
    rule: str
    position: int
    sensor: int
    timestamp: int
    fingerprint: int
    message: int | None
    network_identifier: str | None
    type: str
    body: str
    state: str
    attempts: int
    due_at: int
    created_at: int
    finished_at: int | None
    error: str | None

    @property
    def idempotency_key(self) -> str | None:
        """Return what the receivers of a rule's action know it by; None: of the server's own."""
        what = self.rule, self.position, self.type, self.sensor, self.timestamp, self.fingerprint
        return idempotency_key(*what) if self.rule else None


class Actions(Subject):
    """The actions of all networks, and the server's own.

    Rows are entered in the transaction of what they follow from. A process claims them for a time,
    and nobody else takes them meanwhile; what it does not settle is claimed again.
    """

    async def next_due(self, types: Sequence[str]) -> NextDue | None:
        """Return which of these types has waited longest, or waits shortest; None: none."""
        wanted = json_text(list(types))
        found = await self._all(NextDue, "actions_next_due", types=wanted)
        return min(found, key=lambda due: due.due_at, default=None)

    async def claim(
        self,
        now: int,
        type: str,  # noqa: A002 - as in `page`
        limit: int,
        *,
        suspects: bool = True,
        settled: Sequence[SettledAction] = (),
        server: str = "",
    ) -> list[DueAction]:
        """Claim what is due of a type, those first that have waited longest.

        One that is suspect is claimed at most, and none unless `suspects`: they wait a little. What
        became of others is noted before: what has ended well is not blamed for what is begun now.
        `server` is the token of the one that claims; a file has one server, which needs none.
        """
        until = now + CLAIM_SECONDS * SECOND

        async def work(transaction: Transaction) -> Sequence[Row]:
            if settled:
                await transaction.fetch("actions_settle", rows=json_text(list(settled)))
            return await transaction.fetch(
                "actions_claim",
                now=now,
                until=until,
                later=now + int(SUSPECT_SECONDS * SECOND),
                type=type,
                limit=limit,
                suspects=suspects,
                ended=ENDED,
                **self._of(server),
            )

        rows = await self._engine.change(work)
        begun = (DueAction(*row) for *row, due_at in rows if due_at == until)
        return sorted(begun, key=lambda due: due.id)

    async def settle(self, settled: Sequence[SettledAction]) -> None:
        """Note what became of claimed actions."""
        await self._write("actions_settle", rows=json_text(list(settled)))

    async def take_over(self, now: int, types: Sequence[str], *, begins: bool) -> int:
        """End the claims of servers that are gone, and return how many they were.

        Gone is whose lease has run out; for a server that begins also whose connection is gone. A
        file has one server: when it begins all claims are of one that is gone, and later none.
        """
        which: dict[str, Any] = {"now": now, "types": json_text(list(types))}
        if self._engine.name == "sqlite":
            until = now + CLAIM_SECONDS * SECOND
            return len(await self._write("actions_release", until=until, **which)) if begins else 0
        which["begins"] = begins
        [(are_there,)] = await self._engine.fetch("actions_abandoned", **which)
        return len(await self._write("actions_take_over", **which)) if are_there else 0

    def _of(self, server: str) -> dict[str, str]:
        return {"server": server} if self._engine.name == "postgresql" else {}

    async def hasten(self, now: int) -> None:
        """Have due now what is due so late that a clock was wrong when it was put off."""
        await self._write("actions_hasten", now=now, until=now + FURTHEST_SECONDS * SECOND)

    async def page(
        self,
        networks: Sequence[str] | None,
        *,
        state: str | None = None,
        type: str | None = None,  # noqa: A002 - what the column and the parameter are called
        rule: str | None = None,
        sensor: int | None = None,
        offset: int,
        limit: int,
    ) -> tuple[list[ActionRecord], int]:
        """Return a page of actions, newest first, and how many there are; None: of all networks."""
        which = {
            "networks": None if networks is None else json_text(list(networks)),
            "state": state,
            "type": type,
            "rule": rule,
            "sensor": sensor,
        }
        return await self._page(ActionRecord, "actions", which, offset=offset, limit=limit)

    async def find(self, identifier: int) -> ActionRecord | None:
        """Return the action with this id."""
        return await self._one(ActionRecord, "action_find", id=identifier)

    async def of_message(self, message: int, type: str) -> list[ActionRecord]:  # noqa: A002 - as in `page`
        """Return what is to be done because of a message, of one type."""
        return await self._all(ActionRecord, "action_of_message", message=message, type=type)

    async def repeat(
        self, identifier: int, now: int, *, actor: Actor = SYSTEM
    ) -> ActionRecord | None:
        """Have a finished action done again; None: there is none, or it waits anyway."""

        async def work(transaction: Transaction) -> ActionRecord | None:
            rows = await transaction.fetch("action_repeat", id=identifier, now=now)
            if not rows:
                return None
            action = ActionRecord(*rows[0])
            entry = AuditedChange(
                AuditAction.ACTION_REPEAT,
                str(action.id),
                action.type,
                action.network_identifier,
                {},
            )
            await enter(transaction, actor, [entry])
            return action

        return await self._engine.change(work)

    async def overdue(self) -> int | None:
        """Return since when the action waits that should have been claimed first; None: none."""
        [(due_at,)] = await self._engine.fetch("actions_overdue")
        return None if due_at is None else int(due_at)

    async def waiting(self, limit: int) -> int:
        """Return how many wait, counted up to `limit`."""
        [(count,)] = await self._engine.fetch("actions_waiting", limit=limit)
        return int(count)

    async def prune(self, before: int) -> int:
        """Delete what was finished before; return how many there were."""
        return await self._prune("actions_prune", PRUNED_AT_ONCE, before=before)

"""Rules as they are stored: JSON that `processing/rules.py` reads."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.identifiers import is_uuid
from heliograph.store.audit import LONGEST_VALUE, Changes, enter
from heliograph.store.engine import Subject, Transaction, json_text, narrowed

# Each falls upon the messages of its network, and is looked at for each of them.
MAXIMUM_RULES = 1_000
# The members that are said to be others now, but not what they are: an address may be a secret.
_MENTIONED = frozenset({"actions"})


class TooManyRulesError(Exception):
    """The network has `MAXIMUM_RULES`."""


class StoredRule(msgspec.Struct, frozen=True):
    """A rule. `definition` is JSON text of all its members, the name and `enabled` too.

    Times are microseconds; `author` is the name of the principal who made it.
    """

    identifier: str
    network_identifier: str
    name: str
    enabled: bool
    definition: str
    created_at: int
    changed_at: int
    author: str | None = None


class Rules(Subject):
    """The rules of all networks."""

    async def find(self, identifier: str) -> StoredRule | None:
        """Return the rule with this UUID (in any case)."""
        if not is_uuid(identifier):
            return None
        return await self._one(_rule, "rule_find", identifier=identifier.lower())

    async def enabled(self) -> list[StoredRule]:
        """Return the rules in use, oldest first."""
        return await self._all(_rule, "rules_enabled")

    async def page(
        self,
        *,
        networks: Sequence[str] | None,
        offset: int,
        limit: int,
        name: str | None = None,
        enabled: bool | None = None,
    ) -> tuple[list[StoredRule], int]:
        """Return a page of rules, oldest first, and how many there are.

        `networks` narrows them to those of these networks; None: of all.
        """
        which = {"networks": narrowed(networks), "name": name, "enabled": enabled}
        return await self._page(_rule, "rules", which, offset=offset, limit=limit)

    async def sensors_named(self, names: Collection[str]) -> set[tuple[str, str]]:
        """Return network and name of the sensors that have one of these UUIDs or device_ids."""
        return await self._named("rules_sensors_named", names)

    async def channels_named(self, names: Collection[str]) -> set[tuple[str, str]]:
        """Return network and name of the channels that have one of these names or UUIDs."""
        return await self._named("rules_channels_named", names)

    async def _named(self, query: str, names: Collection[str]) -> set[tuple[str, str]]:
        if not names:
            return set()
        rows = await self._engine.fetch(query, names=json_text(sorted(names)))
        return {(network, name) for network, name in rows}

    async def create(
        self,
        *,
        identifier: str,
        network_identifier: str,
        document: dict[str, Any],
        created_at: int,
        author: str | None = None,
        actor: Actor = SYSTEM,
    ) -> StoredRule | None:
        """Make a rule of what `document_of` has written; None: there is no such network.

        Raises:
            AlreadyExistsError: the network has one of this name, or the identifier is taken.
            TooManyRulesError: the network has as many as it may.
        """

        async def work(transaction: Transaction) -> StoredRule | None:
            # In the order in which whoever deletes a network locks.
            await transaction.fetch("registry_lock")
            if not await transaction.fetch("network_locked", identifier=network_identifier):
                return None
            [(count,)] = await transaction.fetch(
                "rules_of_network", network_identifier=network_identifier
            )
            if count >= MAXIMUM_RULES:
                raise TooManyRulesError
            rows = await transaction.fetch(
                "rule_create",
                identifier=identifier.lower(),
                network_identifier=network_identifier,
                name=document["name"],
                enabled=document["enabled"],
                definition=json_text(document),
                created_at=created_at,
                author=author,
            )
            rule = _rule(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.RULE_CREATE, rule, {})])
            return rule

        return await self._make("rule_find", identifier, work)

    async def change(
        self,
        identifier: str,
        decide: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        changed_at: int,
        actor: Actor = SYSTEM,
    ) -> StoredRule | None:
        """Change a rule to what `decide` returns of its document; None: there is no such rule.

        Nobody else changes it meanwhile. What is equal is not written.

        Raises:
            AlreadyExistsError: the network has another one of this name.
            Exception: what `decide` raises; nothing is changed then.
        """

        async def work(transaction: Transaction) -> StoredRule | None:
            await transaction.fetch("registry_lock")
            found = await transaction.fetch("rule_locked", identifier=identifier)
            if not found:
                return None
            rule = _rule(*found[0])
            before = msgspec.json.decode(rule.definition)
            after = decide(before)
            changes = _differences(before, after)
            if not changes:
                return rule
            rows = await transaction.fetch(
                "rule_change",
                identifier=identifier,
                name=after["name"],
                enabled=after["enabled"],
                definition=json_text(after),
                changed_at=changed_at,
            )
            rule = _rule(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.RULE_CHANGE, rule, changes)])
            return rule

        return await self._engine.change(work)

    async def delete(self, identifier: str, *, actor: Actor = SYSTEM) -> bool:
        """Delete a rule and what it remembers of sensors; tell whether there was such a rule."""

        async def work(transaction: Transaction) -> bool:
            await transaction.fetch("registry_lock")
            rows = await transaction.fetch("rule_delete", identifier=identifier)
            if rows:
                gone = _entry(AuditAction.RULE_DELETE, _rule(*rows[0]), {})
                await enter(transaction, actor, [gone])
            return bool(rows)

        return await self._engine.change(work)


def _rule(*columns: Any) -> StoredRule:
    rule = StoredRule(*columns)
    return msgspec.structs.replace(rule, enabled=bool(rule.enabled))  # SQLite knows none


def _entry(action: AuditAction, rule: StoredRule, changes: Changes) -> AuditedChange:
    return AuditedChange(action, rule.identifier, rule.name, rule.network_identifier, changes)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Changes:
    """Return the members that differ, with what may be told of them."""
    changes: Changes = {}
    for name, new in after.items():
        old = before.get(name)
        if old != new:
            told = {} if name in _MENTIONED else {"old": _told(old), "new": _told(new)}
            changes[name] = told
    return changes


def _told(value: Any) -> Any:
    text = json_text(value)
    return value if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"

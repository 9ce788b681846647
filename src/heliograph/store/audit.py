"""The audit log, written in the transactions of the changes that it tells of."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from heliograph.model.audit import Actor, AuditAction, AuditedChange, AuditEntry
from heliograph.model.sensor import Network, Node, Sensor
from heliograph.model.time import SECOND, now
from heliograph.store.engine import Subject, Transaction, json_text, narrowed
from heliograph.store.pages import (
    GREATEST,
    LARGEST_PAGE,
    LEAST,
    Cursor,
    Hold,
    Page,
    hold_any,
)

PRUNED_AT_ONCE = 5_000
# Of a text in an entry, in characters.
LONGEST_VALUE = 255
# Entries read at once, and what one may take beside its changes.
_READ_AT_ONCE = 1_000
_ENTRY_BYTES = 2_048

# The members whose values are told, and what the API calls them. What is not here is not told:
# no key, password or token, and no configuration, which may hold a network's password.
SHOWN: Final[Mapping[type[msgspec.Struct], Mapping[str, str]]] = {
    Network: {"name": "network_name", "shared_keys": "shared_keys", "packing": "packing"},
    Node: {
        "network_identifier": "network_identifier",
        "serial_number": "serial_number",
        "firmware_version": "firmware_version",
        "name": "name",
    },
    Sensor: {
        "network_identifier": "network_identifier",
        "device_id": "device_id",
        "is_active": "is_active",
        "name": "name",
        "sensor_name": "sensor_name",
        "serial_number": "serial_number",
        "manufacturer": "manufacturer",
        "model": "model",
        "modality": "modality",
        "node_identifier": "node_id",
        "expected_interval": "expected_interval",
        "tags": "tags",
        "attribute_labels": "attributes",
        "latitude": "latitude",
        "longitude": "longitude",
        "place": "place",
        "packing": "packing",
    },
}
# The members of which it is told only that they are others now.
SECRET: Final[Mapping[type[msgspec.Struct], Mapping[str, str]]] = {
    Sensor: {"key_hash": "api_key"},
}
# Of something new: the entry itself names its network, and nothing is made inactive or
# shared, and what is not to be packed is so by its record.
OMITTED: Final = ("network_identifier", "is_active", "shared_keys", "packing")

Changes: TypeAlias = dict[str, dict[str, Any]]
Recorded: TypeAlias = Network | Node | Sensor


class Audit(Subject):
    """The entries there are, newest first."""

    async def list(
        self,
        *,
        networks: Sequence[str] | None = None,
        actor_kind: str | None = None,
        actor_name: str | None = None,
        action: str | None = None,
        resource: str | None = None,
        start: int = LEAST,
        end: int = GREATEST,
        cursor: Cursor | None = None,
        limit: int,
        hold: Hold = hold_any,
    ) -> Page[AuditEntry]:
        """Return entries of at least `start`, before `end`, and older than the one at `cursor`.

        They end early before they exceed `LARGEST_PAGE`.

        `networks` narrows them to those of these networks; `resource` to what has or had this
        identifier or name. A cursor is the (timestamp, id) of an entry.
        """
        before, before_id = (end, LEAST) if cursor is None else min((end, LEAST), cursor)
        query = "audit_list"
        if resource is not None:
            query = "audit_list_of_resource"
        elif networks is not None:
            query = "audit_list_of_networks" if len(networks) != 1 else "audit_list_of_network"
        page: Page[AuditEntry] = Page()
        while len(page) < limit:
            wanted = min(limit - len(page), _READ_AT_ONCE)
            entries = await self._all(
                _entry,
                query,
                networks=narrowed(networks),
                network=networks[0] if networks else None,
                actor_kind=actor_kind,
                actor_name=actor_name,
                action=action,
                resource=resource,
                start=start,
                before=before,
                before_id=before_id,
                limit=wanted,
            )
            for entry in entries:
                size = page.size + len(bytes(entry.changes)) + _ENTRY_BYTES
                if page and size > LARGEST_PAGE:
                    page.more = True
                    return page
                page.append(entry)
                page.size = size
            hold(page.size)
            if len(entries) < wanted:
                return page
            before, before_id = page[-1].timestamp, page[-1].id
        page.more = True
        return page

    async def has_network(self, network: str) -> bool:
        """Return whether anything is known of a network, which may be gone by now."""
        return bool(await self._engine.fetch("audit_network_known", network=network))

    async def enter(self, actor: Actor, change: AuditedChange) -> None:
        """Enter what changes nothing else in the store."""

        async def work(transaction: Transaction) -> None:
            await enter(transaction, actor, [change])

        await self._engine.change(work)

    async def prune(self, before: int) -> int:
        """Delete the entries from before a time; return how many."""
        return await self._prune("audit_prune", PRUNED_AT_ONCE, before=before)


async def enter(transaction: Transaction, actor: Actor, changes: Sequence[AuditedChange]) -> None:
    """Enter what the transaction does: if it is rolled back, so is the entry."""
    if not changes:
        return
    rows = [
        (each.action, each.identifier, each.name, each.network, json_text(each.changes))
        for each in changes
    ]
    await transaction.fetch(
        "audit_add",
        timestamp=now(),
        actor_kind=actor.kind.value,
        actor_name=actor.name,
        address=actor.address,
        rows=json_text(rows),
    )


def audited_change(
    action: AuditAction, record: Recorded, changes: Changes | None = None
) -> AuditedChange:
    """Return what to enter of something that was done to what a record stands for."""
    network = record.identifier if isinstance(record, Network) else record.network_identifier
    return AuditedChange(action, record.identifier, _name_of(record), network, changes or {})


def created(action: AuditAction, record: Recorded, more: Changes | None = None) -> AuditedChange:
    """Return what to enter of a new record; `more` are members that stand elsewhere."""
    members = differences(None, record)
    for name in OMITTED:
        members.pop(name, None)
    return audited_change(action, record, {**members, **(more or {})})


def changed(action: AuditAction, before: Recorded, after: Recorded) -> list[AuditedChange]:
    """Return what to enter of a changed record: nothing if nothing has changed.

    What moves from one network to another is entered for both, whose owners may differ.
    """
    if not (changes := differences(before, after)):
        return []
    entered = [audited_change(action, after, changes)]
    if "network_identifier" in changes:
        entered.insert(0, audited_change(action, before, changes))
    return entered


def sensor_change(before: Sensor, after: Sensor) -> list[AuditedChange]:
    """Return what to enter of a changed sensor; of its key alone it is an action of its own."""
    action = AuditAction.SENSOR_CHANGE
    if differences(before, after).keys() == {"api_key"}:
        is_none = after.key_hash is None
        action = AuditAction.SENSOR_REVOKE_KEY if is_none else AuditAction.SENSOR_CHANGE_KEY
    return changed(action, before, after)


def sensor_name(sensor: Sensor) -> str | None:
    """Return what people call a sensor."""
    return sensor.device_id or sensor.sensor_name or sensor.name


def _name_of(record: Recorded) -> str | None:
    if isinstance(record, Network):
        return record.name
    if isinstance(record, Node):
        return record.name or record.serial_number
    return sensor_name(record)


def differences(before: Recorded | None, after: Recorded) -> Changes:
    """Return what may be told of how a record differs from what it was, or from none."""
    changes: Changes = {}
    for member, name in SHOWN[type(after)].items():
        old, new = getattr(before, member, None), getattr(after, member)
        # Something new that has no tags or labels has nothing to tell of them.
        if old == new or (before is None and new in ((), {})):
            continue
        changes[name] = {"new": _value(name, new)}
        if before is not None:
            changes[name] = {"old": _value(name, old), **changes[name]}
    for member, name in SECRET.get(type(after), {}).items():
        if getattr(before, member, None) != getattr(after, member):
            changes[name] = {}
    return changes


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        return value[:LONGEST_VALUE] + "…"
    # Seconds, as everywhere outside.
    return value / SECOND if name == "expected_interval" and value is not None else value


def _entry(*columns: Any) -> AuditEntry:
    return AuditEntry(*(*columns[:-1], msgspec.Raw(columns[-1])))

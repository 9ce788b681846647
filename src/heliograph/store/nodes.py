"""Nodes: hardware units that carry sensors of their own network."""

from collections.abc import Sequence
from typing import Any

from heliograph.model.audit import SYSTEM, Actor, AuditAction
from heliograph.model.identifiers import is_uuid
from heliograph.model.sensor import Node, Sensor
from heliograph.store.audit import audited_change, changed, created, enter
from heliograph.store.engine import Subject, Transaction, narrowed

CHANGEABLE = ("network_identifier", "serial_number", "firmware_version", "name")


class NodeNotEmptyError(Exception):
    """The node carries sensors, which can't follow it into another network."""


class Nodes(Subject):
    """The nodes of all networks."""

    async def find(self, identifier: str) -> Node | None:
        """Return the node with this UUID (in any case)."""
        if not is_uuid(identifier):
            return None
        return await self._one(Node, "node_by_identifier", identifier=identifier.lower())

    async def create(
        self,
        *,
        identifier: str,
        network_identifier: str,
        created_at: int,
        serial_number: str | None = None,
        firmware_version: str | None = None,
        name: str | None = None,
        actor: Actor = SYSTEM,
    ) -> Node:
        """Register a node.

        Raises:
            AlreadyExistsError: the field's value is taken.
        """

        async def work(transaction: Transaction) -> Node:
            rows = await transaction.fetch(
                "node_create",
                identifier=identifier.lower(),
                network_identifier=network_identifier,
                serial_number=serial_number,
                firmware_version=firmware_version,
                name=name,
                created_at=created_at,
            )
            node = Node(*rows[0])
            await enter(transaction, actor, [created(AuditAction.NODE_CREATE, node)])
            return node

        return await self._make("node_by_identifier", identifier, work)

    async def change(
        self, identifier: str, *, actor: Actor = SYSTEM, **members: Any
    ) -> Node | None:
        """Change the members given (of `CHANGEABLE`) and no others; None: no such node.

        Raises:
            AlreadyExistsError: the field's value is taken.
            NodeNotEmptyError: it would leave its sensors behind in another network.
            TypeError: a member that can't be changed.
        """

        async def work(transaction: Transaction) -> Node | None:
            found = await lock_node(transaction, identifier)
            if found is None or not members:
                return found
            wanted = changed_members(found, CHANGEABLE, members)
            if wanted["network_identifier"] != found.network_identifier and await transaction.fetch(
                "sensors_of_node_locked", identifier=identifier
            ):
                raise NodeNotEmptyError
            rows = await transaction.fetch("node_change", identifier=identifier, **wanted)
            node = Node(*rows[0])
            await enter(transaction, actor, changed(AuditAction.NODE_CHANGE, found, node))
            return node

        return await self._engine.change(work)

    async def delete(self, identifier: str, *, actor: Actor = SYSTEM) -> bool:
        """Delete a node, whose sensors stay without one; tell whether there was such a node."""

        async def work(transaction: Transaction) -> bool:
            found = await lock_node(transaction, identifier)
            if found is None:
                return False
            carried = await transaction.fetch("sensors_of_node_locked", identifier=identifier)
            await transaction.fetch("node_sensors_detach", identifier=identifier)
            await transaction.fetch("node_delete", identifier=identifier)
            left = {"sensors": {"old": len(carried), "new": 0}} if carried else {}
            await enter(transaction, actor, [audited_change(AuditAction.NODE_DELETE, found, left)])
            return True

        return await self._engine.change(work)

    async def list(
        self,
        *,
        networks: Sequence[str] | None,
        offset: int,
        limit: int,
        serial_number: str | None = None,
        firmware_version: str | None = None,
    ) -> tuple[list[Node], int]:
        """Return a page of nodes in the order of their creation, and how many there are.

        `networks` narrows them to those of these networks; None: of all.
        """
        which = {
            "networks": narrowed(networks),
            "serial_number": serial_number,
            "firmware_version": firmware_version,
        }
        return await self._page(Node, "nodes", which, offset=offset, limit=limit)


def changed_members(
    record: Node | Sensor, changeable: Sequence[str], members: dict[str, Any]
) -> dict[str, Any]:
    """Return the members of a record that may change, as they are to be.

    Raises:
        TypeError: a member that can't be changed.
    """
    if unknown := members.keys() - set(changeable):
        raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
    # What brokers are told of a key is of no use to those who read records: it is not in them,
    # and stays as it is for as long as the key does.
    return {**{name: getattr(record, name, None) for name in changeable}, **members}


async def lock_node(transaction: Transaction, identifier: str) -> Node | None:
    """Return the node, which nobody else changes until the transaction ends.

    It is locked before any sensor is: else two who attach and move at once could deadlock.
    """
    rows = await transaction.fetch("node_locked", identifier=identifier)
    return Node(*rows[0]) if rows else None

"""Networks: groups of sensors, and who may do what in them."""

from collections.abc import Sequence

from heliograph.errors import AlreadyExistsError, RowError
from heliograph.model.account import Member
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.identifiers import is_uuid
from heliograph.model.principal import Role
from heliograph.model.sensor import Network
from heliograph.store.audit import audited_change, changed, created, enter
from heliograph.store.engine import Subject, Transaction, json_text, narrowed

DEFAULT_NETWORK = "default"


class LastOwnerError(Exception):
    """A network would be left without anybody who may manage it."""


class Networks(Subject):
    """The networks, and their members."""

    async def default(self) -> Network:
        """Return the network of everything that names none; the first migration makes it."""
        rows = await self._engine.fetch("network_by_name", name=DEFAULT_NETWORK)
        return _network(*rows[0])

    async def find(self, identifier: str) -> Network | None:
        """Return the network with this UUID (in any case)."""
        return await self._one(_network, "network_by_identifier", identifier=identifier.lower())

    async def called(self, name: str) -> Network | None:
        """Return the network with this UUID (in any case), or else of this name."""
        found = await self.find(name) if is_uuid(name) else None
        return found or await self._one(_network, "network_by_name", name=name)

    async def named(self, names: Sequence[str]) -> frozenset[str]:
        """Return the networks that have one of these names, or identifiers (in any case)."""
        identifiers = [name.lower() for name in names if is_uuid(name)]
        wanted = json_text([*names, *identifiers])
        return frozenset(await self._all(str, "networks_named", networks=wanted))

    async def identifiers(self) -> Sequence[str]:
        """Return those of all networks."""
        return await self._all(str, "networks_identifiers")

    async def sharing(self) -> frozenset[str]:
        """Return the networks in which shared keys send and read."""
        return frozenset(await self._all(str, "networks_sharing"))

    async def create(
        self,
        *,
        identifier: str,
        name: str,
        created_at: int,
        owner: str | None,
        actor: Actor = SYSTEM,
    ) -> Network:
        """Make a network; `owner` is the account that owns it, if one does.

        An identifier that the audit log knows stays taken when its network is gone: who had it
        next would be shown what became of that one.

        Raises:
            AlreadyExistsError: the field's value is taken.
        """
        identifier = identifier.lower()

        async def work(transaction: Transaction) -> Network:
            if await transaction.fetch("audit_network_known", network=identifier):
                raise AlreadyExistsError("identifier")
            rows = await transaction.fetch(
                "network_create", identifier=identifier, name=name, created_at=created_at
            )
            network = _network(*rows[0])
            await enter(transaction, actor, [created(AuditAction.NETWORK_CREATE, network)])
            if owner is not None:
                await _set_member(
                    transaction, actor, network.identifier, owner, Role.OWNER, created_at
                )
            return network

        return await self._make("network_by_identifier", identifier, work)

    async def change(
        self,
        identifier: str,
        *,
        name: str | None = None,
        shared_keys: bool | None = None,
        packing: bool | None = None,
        actor: Actor = SYSTEM,
    ) -> Network | None:
        """Change what is given; None: there is no such network.

        Raises:
            AlreadyExistsError: the `name` is taken.
        """

        async def work(transaction: Transaction) -> Network | None:
            if not await transaction.fetch("network_locked", identifier=identifier):
                return None
            found = await transaction.fetch("network_by_identifier", identifier=identifier)
            before = _network(*found[0])
            rows = await transaction.fetch(
                "network_change",
                identifier=identifier,
                name=before.name if name is None else name,
                shared_keys=before.shared_keys if shared_keys is None else shared_keys,
                packing=before.packing if packing is None else packing,
            )
            after = _network(*rows[0])
            await enter(transaction, actor, changed(AuditAction.NETWORK_CHANGE, before, after))
            return after

        return await self._engine.change(work)

    async def delete(self, identifier: str, *, actor: Actor = SYSTEM) -> bool:
        """Delete a network that has no sensors; tell whether that was so.

        Raises:
            AlreadyExistsError: it has sensors.
        """

        async def work(transaction: Transaction) -> bool:
            # In the order in which whoever registers a sensor locks: registry, then network.
            await transaction.fetch("registry_lock")
            deleted = await transaction.fetch("network_delete", identifier=identifier)
            if deleted:
                gone = audited_change(AuditAction.NETWORK_DELETE, _network(*deleted[0]))
                await enter(transaction, actor, [gone])
            elif await transaction.fetch("network_by_identifier", identifier=identifier):
                raise AlreadyExistsError("sensors")
            return bool(deleted)

        try:
            return await self._engine.change(work)
        except RowError as error:
            # One that another process has put into it meanwhile holds it by its foreign key.
            raise AlreadyExistsError("sensors") from error

    async def members(self, network: str) -> list[Member]:
        """Return the network's members, oldest first."""
        return await self._all(_member, "members_of", network=network)

    async def set_member(
        self,
        network: str,
        account: str,
        role: Role,
        created_at: int,
        *,
        actor: Actor = SYSTEM,
    ) -> bool:
        """Give the account a role; tell whether there is the network.

        Raises:
            LastOwnerError: it is the last owner, and would be one no more.
        """

        async def work(transaction: Transaction) -> bool:
            owners = await _owners(transaction, network)
            if owners is None:
                return False
            await _set_member(transaction, actor, network, account, role, created_at)
            await _check_owners(transaction, network, owners)
            return True

        return await self._engine.change(work)

    async def remove_member(self, network: str, account: str, *, actor: Actor = SYSTEM) -> bool:
        """Take the account's role away; tell whether it had one.

        Raises:
            LastOwnerError: it is the last owner.
        """

        async def work(transaction: Transaction) -> bool:
            owners = await _owners(transaction, network)
            found = await transaction.fetch("membership_delete", network=network, account=account)
            await _check_owners(transaction, network, owners)
            if found:
                member = await transaction.fetch("membership_of", network=network, account=account)
                changes = {"role": {"old": _role_name(found[0][0])}}
                action, username = AuditAction.MEMBER_DELETE, member[0][0]
                left = AuditedChange(action, account, username, network, changes)
                await enter(transaction, actor, [left])
            return bool(found)

        return await self._engine.change(work)

    async def list(
        self, *, networks: Sequence[str] | None, offset: int, limit: int
    ) -> tuple[list[Network], int]:
        """Return a page of networks, oldest first, and how many there are.

        `networks` narrows them to those of these identifiers; None: all.
        """
        which = {"networks": narrowed(networks)}
        return await self._page(_network, "networks", which, offset=offset, limit=limit)


def _network(
    identifier: str, name: str, created_at: int, shared_keys: object, packing: object
) -> Network:
    # SQLite knows no booleans.
    return Network(identifier, name, created_at, bool(shared_keys), bool(packing))


def _member(username: str, account: str, role: int, created_at: int) -> Member:
    return Member(username, account, Role(role), created_at)


async def _set_member(
    transaction: Transaction, actor: Actor, network: str, account: str, role: Role, created_at: int
) -> None:
    found = await transaction.fetch("membership_of", network=network, account=account)
    await transaction.fetch(
        "membership_set", network=network, account=account, role=int(role), created_at=created_at
    )
    username, before = found[0]
    if before == role:
        return
    action, changes = AuditAction.MEMBER_CREATE, {"role": {"new": _role_name(role)}}
    if before is not None:
        action, changes["role"]["old"] = AuditAction.MEMBER_CHANGE, _role_name(before)
    change = AuditedChange(action, account, username, network, changes)
    await enter(transaction, actor, [change])


def _role_name(role: int) -> str:
    return Role(role).name.lower()


async def _owners(transaction: Transaction, network: str) -> int | None:
    # Two owners who leave at once must not leave nobody: whoever comes second waits here.
    if not await transaction.fetch("network_locked", identifier=network):
        return None
    return await _count_owners(transaction, network)


async def _count_owners(transaction: Transaction, network: str) -> int:
    [(count,)] = await transaction.fetch("owners_count", network=network)
    return int(count)


async def _check_owners(transaction: Transaction, network: str, before: int | None) -> None:
    if before and not await _count_owners(transaction, network):
        raise LastOwnerError

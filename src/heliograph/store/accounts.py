"""Accounts, and the sessions that they log in with."""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from heliograph.errors import AlreadyExistsError
from heliograph.model.account import Account, AccountSession, OpenSession
from heliograph.model.audit import SYSTEM, Actor, ActorKind, AuditAction, AuditedChange
from heliograph.model.lookalikes import Holders, looks
from heliograph.model.principal import Role
from heliograph.store.audit import Changes, enter
from heliograph.store.engine import Subject, Transaction, json_text

SESSION: Final = "session"
TICKET: Final = "ticket"

# The most that an account has at a time; the oldest ends for the next one.
MOST: Final = {SESSION: 100, TICKET: 1_000}

# Sessions of which it is noted in one transaction that they are used.
TOUCHED_AT_ONCE: Final = 100

_OPENING: Final = {SESSION: AuditAction.USER_LOG_IN, TICKET: AuditAction.USER_MAKE_TICKET}


class NewSession(NamedTuple):
    """What stands for an account from one time to another, in microseconds.

    `address` and `user_agent` tell its user from where it was opened.
    """

    token_hash: bytes
    purpose: str
    created_at: int
    expires_at: int
    address: str | None = None
    user_agent: str | None = None


def _account(*columns: Any) -> Account:
    identifier, username, password_hash, is_admin, created_at, is_active = columns
    return Account(identifier, username, password_hash, bool(is_admin), created_at, bool(is_active))


def _session(*columns: Any) -> AccountSession:
    *account, expires_at = columns
    return AccountSession(_account(*account), expires_at)


class Accounts(Subject):
    """The accounts of all users."""

    async def create(
        self,
        *,
        identifier: str,
        username: str,
        password_hash: str,
        created_at: int,
        is_admin: bool = False,
        may_look_alike: bool = False,
        is_first: bool = False,
        actor: Actor = SYSTEM,
        session: NewSession | None = None,
    ) -> Account:
        """Make an account, and open a `session` of its own by the account itself.

        One that `is_first` is made only while there is no administrator.

        Raises:
            AlreadyExistsError: the `username` is taken, or its `look` is: the name is easily
                confused with another's. That counts for nothing if it `may_look_alike`. Or there
                is an `administrator`.
        """
        # In a thread: the first time a table is read.
        claimed = sorted(await asyncio.to_thread(looks, username))

        async def work(transaction: Transaction) -> Account:
            if is_first:
                await transaction.fetch("looks_lock")
                if (await transaction.fetch("administrator_exists"))[0][0]:
                    raise AlreadyExistsError("administrator")
            rows = await transaction.fetch(
                "account_create",
                identifier=identifier,
                username=username,
                password_hash=password_hash,
                is_admin=is_admin,
                created_at=created_at,
            )
            claims = await transaction.fetch(
                "looks_claim", account=identifier, looks=json_text(claimed)
            )
            if len(claims) < len(claimed) and not may_look_alike:
                raise AlreadyExistsError("look")
            changes: Changes = {"is_admin": {"new": True}} if is_admin else {}
            made = AuditedChange(AuditAction.USER_CREATE, identifier, username, changes=changes)
            await enter(transaction, actor, [made])
            account = _account(*rows[0])
            if session is not None:
                user = Actor(ActorKind.USER, username, actor.address)
                await _open(transaction, account, session, user)
            return account

        return await self._engine.change(work)

    async def claim_looks(self) -> Sequence[tuple[Account, Account]]:
        """Have each account hold what its name looks like, and return those that look alike.

        So that it is as the data of today has it, and holds for accounts from before it was
        asked for. Of accounts that share a look the oldest one has it; each younger one is
        returned with whose look it has. All of them go on as they are.
        """
        accounts, holders = await self._holders(await self.list())
        rows = await self._engine.fetch("looks_list")
        if {row[0]: row[1] for row in rows} != holders.by_look:
            async with self._engine.transaction() as transaction:
                await transaction.fetch("looks_lock")
                found = [_account(*row) for row in await transaction.fetch("accounts_list")]
                accounts, holders = await self._holders(found)
                await transaction.fetch("looks_forget")
                await transaction.fetch("looks_fill", looks=json_text(holders.by_look))
        return [(accounts[younger], accounts[older]) for younger, older in holders.alike]

    @staticmethod
    async def _holders(accounts: Sequence[Account]) -> tuple[dict[str, Account], Holders]:
        def hold() -> Holders:
            holders = Holders()
            for account in accounts:
                holders.add(account.identifier, account.username)
            return holders

        return {each.identifier: each for each in accounts}, await asyncio.to_thread(hold)

    async def has_administrator(self) -> bool:
        """Return whether there is an administrator's account, in use or not."""
        return bool((await self._engine.fetch("administrator_exists"))[0][0])

    async def find(self, identifier: str) -> Account | None:
        """Return the account with this UUID."""
        return await self._one(_account, "account_by_identifier", identifier=identifier)

    async def find_username(self, username: str) -> Account | None:
        """Return the account with this name, as it was written."""
        if not _is_storable(username):
            return None
        return await self._one(_account, "account_by_username", username=username)

    async def list(self) -> list[Account]:
        """Return all accounts, oldest first."""
        return await self._all(_account, "accounts_list")

    async def known(self, accounts: Sequence[str]) -> dict[str, tuple[Account, dict[str, Role]]]:
        """Return those of the accounts that are active, each with its roles by network."""
        wanted = json_text(accounts)
        found: dict[str, tuple[Account, dict[str, Role]]] = {
            account.identifier: (account, {})
            for account in await self._all(_account, "accounts_known", accounts=wanted)
        }
        for identifier, network, role in await self._engine.fetch("roles_known", accounts=wanted):
            # A new account may have become a member between the two queries.
            if identifier in found:
                found[identifier][1][network] = Role(role)
        return found

    async def change_password(
        self,
        identifier: str,
        password_hash: str,
        *,
        expected: str | None = None,
        kept: bytes = b"",
        actor: Actor = SYSTEM,
    ) -> bool:
        """Set the password and end all sessions and tickets but the one `kept`.

        Returns:
            Whether there is such an account, with the password hash `expected` if one is.
        """

        async def work(transaction: Transaction) -> bool:
            found = await transaction.fetch(
                "account_password",
                identifier=identifier,
                password_hash=password_hash,
                expected=expected,
            )
            if found:
                await transaction.fetch("sessions_end", account=identifier, kept=kept)
                action, username = AuditAction.USER_CHANGE_PASSWORD, found[0][1]
                await enter(transaction, actor, [AuditedChange(action, identifier, username)])
            return bool(found)

        return await self._engine.change(work)

    async def rehash(self, identifier: str, password_hash: str, *, expected: str) -> bool:
        """Keep the same password by another hash; False: its hash is not the one expected."""
        return bool(
            await self._write(
                "account_password",
                identifier=identifier,
                password_hash=password_hash,
                expected=expected,
            )
        )

    async def activate(self, identifier: str, *, is_active: bool, actor: Actor = SYSTEM) -> bool:
        """Let the account be used or not; out of use, its sessions and tickets have ended.

        Returns:
            Whether that is a change.
        """
        action = AuditAction.USER_ACTIVATE if is_active else AuditAction.USER_DEACTIVATE

        async def work(transaction: Transaction) -> bool:
            found = await transaction.fetch(
                "account_activate", identifier=identifier, is_active=is_active
            )
            if found:
                await transaction.fetch("sessions_end", account=identifier, kept=b"")
                changes: Changes = {"is_active": {"old": not is_active, "new": is_active}}
                username = found[0][0]
                made = AuditedChange(action, identifier, username, changes=changes)
                await enter(transaction, actor, [made])
            return bool(found)

        return await self._engine.change(work)

    async def open_session(
        self,
        token_hash: bytes,
        account: Account,
        *,
        purpose: str,
        created_at: int,
        expires_at: int,
        address: str | None = None,
        user_agent: str | None = None,
        actor: Actor = SYSTEM,
    ) -> bool:
        """Let whoever has the token of this hash be the account until it expires.

        Of more than `MOST` the oldest end.

        Returns:
            Whether it was done: not if the account's password is another by now, or it is not
            active any more.
        """
        opened = NewSession(token_hash, purpose, created_at, expires_at, address, user_agent)
        return await self._engine.change(lambda change: _open(change, account, opened, actor))

    async def find_session(
        self, token_hash: bytes, purpose: str, now: int
    ) -> AccountSession | None:
        """Return whose session this is; None: nobody's, or it has expired."""
        return await self._one(
            _session, "session_account", token_hash=token_hash, purpose=purpose, now=now
        )

    async def living_sessions(self, accounts: Mapping[bytes, str], now: int) -> set[bytes]:
        """Return those token hashes, given with their accounts, whose sessions have not ended."""
        rows = await self._engine.fetch(
            "sessions_living",
            accounts=json_text(sorted(set(accounts.values()))),
            token_hashes=json_text([token_hash.hex() for token_hash in accounts]),
            now=now,
        )
        return {bytes(token_hash) for (token_hash,) in rows}

    async def sessions(self, account: str, now: int) -> Sequence[OpenSession]:
        """Return the sessions that the account is logged in by, the newest first."""
        return await self._all(
            OpenSession, "sessions_of_account", account=account, purpose=SESSION, now=now
        )

    async def touch_sessions(self, used: Mapping[bytes, int]) -> None:
        """Note when sessions were last used, by the hashes of their tokens; no time moves back."""
        # In their order, as by everyone who locks several: no deadlocks.
        rows = sorted(used.items())
        for at in range(0, len(rows), TOUCHED_AT_ONCE):
            await self._engine.change(
                functools.partial(_touch, rows=rows[at : at + TOUCHED_AT_ONCE])
            )

    async def end_session(self, token_hash: bytes, *, actor: Actor = SYSTEM) -> bool:
        """End the session; tell whether there was one."""

        async def work(transaction: Transaction) -> bool:
            ended = await transaction.fetch("session_end", token_hash=token_hash)
            for (identifier,) in ended:
                rows = await transaction.fetch("account_by_identifier", identifier=identifier)
                action, username = AuditAction.USER_LOG_OUT, rows[0][1]
                await enter(transaction, actor, [AuditedChange(action, identifier, username)])
            return bool(ended)

        return await self._engine.change(work)

    async def spend_session(self, token_hash: bytes, purpose: str, now: int) -> bool:
        """End what can be used once; tell whether it was there, and had not expired."""
        return bool(
            await self._write("session_spend", token_hash=token_hash, purpose=purpose, now=now)
        )

    async def prune_sessions(self, now: int) -> None:
        """Delete what has expired."""
        await self._write("sessions_prune", now=now)


async def _touch(transaction: Transaction, rows: Sequence[tuple[bytes, int]]) -> None:
    for token_hash, used_at in rows:
        await transaction.fetch("session_touch", token_hash=token_hash, used_at=used_at)


def _is_storable(text: str) -> bool:
    # No name holds these, and the databases would refuse to look for them.
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


async def _open(
    transaction: Transaction, account: Account, session: NewSession, actor: Actor
) -> bool:
    """Open the session; False: the account is not in use, or its password is another one."""
    opened = await transaction.fetch(
        "session_open",
        **session._asdict(),
        account=account.identifier,
        password_hash=account.password_hash,
    )
    if opened:
        await transaction.fetch(
            "sessions_end_oldest",
            account=account.identifier,
            purpose=session.purpose,
            newest=session.token_hash,
            others=MOST[session.purpose] - 1,
        )
        who = account.identifier, account.username
        await enter(transaction, actor, [AuditedChange(_OPENING[session.purpose], *who)])
    return bool(opened)

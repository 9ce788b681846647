"""The accounts in use, as the hot path knows them: a cache in front of the store."""

from typing import NamedTuple

from heliograph.access.policy import KnownAccount
from heliograph.model.time import now
from heliograph.store import Store

MAXIMUM_ACCOUNTS = 5_000
MAXIMUM_SESSIONS = 5_000


class Renewal(NamedTuple):
    """What has become of everything that was known."""

    accounts: dict[str, KnownAccount]
    sessions: set[bytes]


class KnownAccounts:
    """Active accounts with their roles, and the sessions that somebody is connected by.

    Who is not known here may do nothing until he is looked up: what is forgotten for lack of
    room is refused too much, never too little.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.accounts: dict[str, KnownAccount] = {}
        # Whose they are, by the hash of their token.
        self.sessions: dict[bytes, str] = {}
        # How often somebody became known, and another was forgotten for lack of room perhaps.
        self.additions = 0

    def get(self, account: str) -> KnownAccount | None:
        """Return the account if it is known."""
        return self.accounts.get(account)

    async def read(self, account: str) -> KnownAccount | None:
        """Return what the store says of an account; None: there is none in use."""
        found = (await self._store.accounts.known([account])).get(account)
        return KnownAccount(*found) if found is not None else None

    def add(self, known: KnownAccount) -> None:
        """Know an account from now on."""
        self.additions += 1
        self.accounts[known.account.identifier] = known
        while len(self.accounts) > MAXIMUM_ACCOUNTS:
            del self.accounts[next(iter(self.accounts))]

    def hold(self, session: bytes, account: str) -> None:
        """Know from now on whether the session of this token's hash lives."""
        self.sessions[session] = account
        while len(self.sessions) > MAXIMUM_SESSIONS:
            del self.sessions[next(iter(self.sessions))]

    def forget(self) -> None:
        """Know nobody, and no session."""
        self.accounts.clear()
        self.sessions.clear()

    async def renewal(self) -> Renewal:
        """Return what the store says now of all that is known.

        Nothing becomes known between the end of this and `assume` if nothing is awaited there.
        """
        accounts: dict[str, KnownAccount] = {}
        living: set[bytes] = set()
        asked: set[str | bytes] = set()
        while True:
            # Whatever was looked up meanwhile may be older than the change.
            wanted = self.accounts.keys() - asked
            sessions = {k: v for k, v in self.sessions.items() if k not in asked}
            if not wanted and not sessions:
                return Renewal(accounts, living)
            asked |= wanted | sessions.keys()
            if wanted:
                found = await self._store.accounts.known(list(wanted))
                accounts.update((name, KnownAccount(*known)) for name, known in found.items())
            if sessions:
                living |= await self._store.accounts.living_sessions(sessions, now())

    def assume(self, renewal: Renewal) -> None:
        """Take over what has become of everything that was known."""
        for name in list(self.accounts):
            if name in renewal.accounts:
                self.accounts[name] = renewal.accounts[name]
            else:
                del self.accounts[name]
        for session in self.sessions.keys() - renewal.sessions:
            del self.sessions[session]

"""All sessions there are: found again on a new connection, forgotten in time."""

import asyncio
from collections.abc import Callable

from heliograph.model.principal import Principal
from heliograph.mqtt.limits import (
    LONGEST_SESSION_SECONDS,
    MAXIMUM_SESSIONS,
    MAXIMUM_SESSIONS_OF_PRINCIPAL,
)
from heliograph.mqtt.session import Owner, Session, owner_of


class Sessions:
    """Sessions by principal and client id, so that nobody can take over a stranger's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.forgotten: Callable[[Session], None] = lambda _session: None
        self.entered: Callable[[Principal], None] = lambda _principal: None
        self.left: Callable[[Principal], None] = lambda _principal: None
        self._loop = loop
        self._sessions: dict[tuple[Owner, str], Session] = {}
        self._left: dict[Session, float] = {}
        self._left_of: dict[Owner, dict[Session, None]] = {}
        self._due: dict[Session, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._connected: dict[Owner, int] = {}

    def __len__(self) -> int:
        """Return the number of sessions, connected or not."""
        return len(self._sessions)

    def find(self, principal: Principal, client_id: str) -> Session | None:
        """Return the session of this client, connected or not."""
        return self._sessions.get((owner_of(principal), client_id))

    def enter(self, session: Session) -> None:
        """Keep a session that has a connection now."""
        owner = session.owner
        self._sessions[owner, session.client_id] = session
        self._forget_leaving(session)
        self._connected[owner] = self._connected.get(owner, 0) + 1
        self.entered(session.principal)
        handle = self._due.pop(session, None)
        if handle is not None:
            handle[0].cancel()

    def leave(self, session: Session) -> None:
        """Note that the session's connection is gone; it ends now or after its expiry."""
        owner = session.owner
        count = self._connected.get(owner, 0) - 1
        if count > 0:
            self._connected[owner] = count
        else:
            self._connected.pop(owner, None)
        self.left(session.principal)
        if not session.expiry:
            self.end(session)
            return
        self._left[session] = self._loop.time() + session.expiry
        left = self._left_of.setdefault(owner, {})
        left[session] = None
        if len(left) > MAXIMUM_SESSIONS_OF_PRINCIPAL:
            self.end(next(iter(left)))
        if len(self._left) > MAXIMUM_SESSIONS:
            self.end(next(iter(self._left)))

    def end(self, session: Session) -> None:
        """Forget a session; a will that was to come later comes now [MQTT-3.1.3-9]."""
        key = (session.owner, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._forget_leaving(session)
        due = self._due.pop(session, None)
        if due is not None:
            due[0].cancel()
            due[1]()
        self.forgotten(session)

    def call_later(self, session: Session, delay: float, action: Callable[[], None]) -> None:
        """Do something after a delay, unless the session gets a connection before."""
        if delay <= 0:
            action()
            return

        def due() -> None:
            self._due.pop(session, None)
            action()

        self._due[session] = (self._loop.call_later(delay, due), action)

    def sweep(self, now: float) -> None:
        """End the sessions whose time is over."""
        for session in [session for session, end in self._left.items() if end <= now]:
            self.end(session)

    def forget(self) -> None:
        """End every session, those that are connected with their connection."""
        for session in self._sessions.values():
            session.expiry = 0
        for session in list(self._left):
            self.end(session)

    def of_principal(self, principal: Principal) -> int:
        """Return how many connected sessions the principal has."""
        return self._connected.get(owner_of(principal), 0)

    @staticmethod
    def longest(seconds: int) -> int:
        """Return how long a session that asks for so many seconds is kept."""
        return min(seconds, LONGEST_SESSION_SECONDS)

    def close(self) -> None:
        """Let go of what was to happen later."""
        for handle, _ in self._due.values():
            handle.cancel()
        self._due.clear()

    def _forget_leaving(self, session: Session) -> None:
        if self._left.pop(session, None) is None:
            return
        owner = session.owner
        left = self._left_of[owner]
        del left[session]
        if not left:
            del self._left_of[owner]

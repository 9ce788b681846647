"""All sessions there are: found again on a new connection, forgotten in time."""

import asyncio
from collections.abc import Callable

from heliograph.model.principal import Principal
from heliograph.mqtt.limits import LONGEST_SESSION_SECONDS, MAXIMUM_SESSIONS
from heliograph.mqtt.session import Session


class Sessions:
    """Sessions by principal and client id, so that nobody can take over a stranger's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.forgotten: Callable[[Session], None] = lambda _session: None
        self._loop = loop
        self._sessions: dict[tuple[str, str], Session] = {}
        self._left: dict[Session, float] = {}
        self._due: dict[Session, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._principals: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of sessions, connected or not."""
        return len(self._sessions)

    def find(self, principal: Principal, client_id: str) -> Session | None:
        """Return the session of this client, connected or not."""
        return self._sessions.get((principal.name, client_id))

    def enter(self, session: Session) -> None:
        """Keep a session that has a connection now."""
        self._sessions[session.principal.name, session.client_id] = session
        self._left.pop(session, None)
        name = session.principal.name
        self._principals[name] = self._principals.get(name, 0) + 1
        handle = self._due.pop(session, None)
        if handle is not None:
            handle[0].cancel()

    def leave(self, session: Session) -> None:
        """Note that the session's connection is gone; it ends now or after its expiry."""
        name = session.principal.name
        count = self._principals.get(name, 0) - 1
        if count > 0:
            self._principals[name] = count
        else:
            self._principals.pop(name, None)
        if not session.expiry:
            self.end(session)
            return
        self._left[session] = self._loop.time() + session.expiry
        while len(self._left) > MAXIMUM_SESSIONS:
            self.end(next(iter(self._left)))

    def end(self, session: Session) -> None:
        """Forget a session; a will that was to come later comes now [MQTT-3.1.3-9]."""
        key = (session.principal.name, session.client_id)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._left.pop(session, None)
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

    def of_principal(self, name: str) -> int:
        """Return how many connected sessions the principal has."""
        return self._principals.get(name, 0)

    @staticmethod
    def longest(seconds: int) -> int:
        """Return how long a session that asks for so many seconds is kept."""
        return min(seconds, LONGEST_SESSION_SECONDS)

    def close(self) -> None:
        """Let go of what was to happen later."""
        for handle, _ in self._due.values():
            handle.cancel()
        self._due.clear()

"""What a broker holds for servers that are gone, read out by one that lives.

Servers that share a broker's messages have a session each there. One that is gone for a minute
leaves what it was assigned in its session: another one connects with its client id, subscribes to
nothing any more by that, takes what waits, and ends the session.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.mqtt.codec import packets
from heliograph.mqtt.link import CHECK_SECONDS, Link, LinkConnection, LinkError

log = structlog.get_logger()

LOOK_SECONDS = 5.0
# For so many looks a member has to be gone.
LOOKS = 12
# Nothing waits any more when nothing has come for so long, and all is acknowledged.
QUIET_SECONDS = 5.0


class MemberList(Protocol):
    """Who has which client id at a broker."""

    async def enter(self, broker: str, client_id: str, token: str) -> None:
        """Note that a server has this client id from now on."""

    async def orphaned(self, broker: str) -> list[tuple[str, str]]:
        """Return client ids with their holders' tokens whose holder does not live."""

    async def take(self, broker: str, client_id: str, holder: str, token: str) -> bool:
        """Take a client id from its holder; return whether nobody else has."""

    async def held(self, broker: str, client_id: str, token: str) -> bool:
        """Return whether a client id is still this server's."""

    async def forget(self, broker: str, client_id: str, token: str) -> None:
        """Forget a client id whose session has ended."""


class Legacy(Link):
    """The session of a server that is gone, which is read out and ended."""

    async def read_out(self, is_ours: Callable[[], Awaitable[bool]]) -> bool:
        """Take all that waits, and end the session; False: its owner is back, or the link is lost.

        Raises:
            LinkError: there is no connection.
            StoreUnavailableError: nobody knows whether it is still ours.
        """
        connection = await self.open()
        try:
            accepted = await self._log_in(connection)
            if accepted.session_present:
                await self._unsubscribe(connection, accepted)
                if not await self._is_empty(connection, is_ours):
                    return False
            connection.write(packets.end_of_session())
            connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    await asyncio.shield(connection.lost)
            return True
        finally:
            connection.abort()

    async def _is_empty(
        self, connection: LinkConnection, is_ours: Callable[[], Awaitable[bool]]
    ) -> bool:
        loop = asyncio.get_running_loop()
        pinged = heard = loop.time()
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=CHECK_SECONDS)
            if not await is_ours():
                return False
            now = loop.time()
            taken = connection.taken
            if connection.in_flight or taken != connection.taken_before:
                heard, connection.taken_before = now, taken
            elif now - heard > QUIET_SECONDS:
                return True
            connection.listen()
            if now - pinged > self._options.keepalive / 2:
                pinged = now
                connection.ping()
        return False


class Legacies:
    """Reads out what a broker holds for members that are gone, one after the other."""

    def __init__(self, link: Link, members: MemberList, token: str) -> None:
        """Do so at the broker of a link, in the name of this token."""
        self._link = link
        self._members = members
        self._token = token
        self._broker = str(link.broker)
        self._looks: dict[tuple[str, str], int] = {}
        self._current: Legacy | None = None
        # Client ids that are, or may be, this server's by now, and are not read out.
        self._taken: set[str] = set()
        self._full = self._stopping = False

    async def enter(self, client_id: str) -> None:
        """Note that this server has its client id.

        Raises:
            StoreUnavailableError: not now.
        """
        await self._members.enter(self._broker, client_id, self._token)

    def pause(self) -> None:
        """Read nothing until `resume`: the pipeline is full."""
        self._full = True
        if self._current is not None:
            self._current.pause()

    def resume(self) -> None:
        """Read again."""
        self._full = False
        if self._current is not None:
            self._current.resume()

    def stop_taking(self) -> None:
        """Read nothing more."""
        self._stopping = True
        if self._current is not None:
            self._current.stop_taking()

    async def close_sources(self) -> None:
        """Take nothing more."""
        self.stop_taking()

    async def close(self) -> None:
        """Leave what is not read out to others."""
        if self._current is not None:
            await self._current.close()

    async def run(self) -> None:
        """Look for members that are gone, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                for client_id in list(self._taken):
                    # Unless its owner is back. Whoever looks next finds it given up.
                    await self._members.take(self._broker, client_id, self._token, "")
                    self._taken.discard(client_id)
                orphaned = await self._members.orphaned(self._broker)
                self._looks = {each: self._looks.get(each, 0) + 1 for each in orphaned}
                for (client_id, holder), looks in list(self._looks.items()):
                    if looks >= LOOKS and not self._stopping:
                        await self._read_out(client_id, holder)
            except StoreUnavailableError:
                self._looks.clear()

    async def _read_out(self, client_id: str, holder: str) -> None:
        self._taken.add(client_id)
        if not await self._members.take(self._broker, client_id, holder, self._token):
            self._taken.discard(client_id)
            return
        which = self._broker, client_id, self._token

        async def is_ours() -> bool:
            return not self._stopping and await self._members.held(*which)

        self._current = legacy = Legacy(
            self._link.host, self._link.broker, self._link.options_of(client_id)
        )
        if self._full:
            legacy.pause()
        try:
            is_over = await legacy.read_out(is_ours)
        except LinkError as error:
            log.warning("messages for a server that is gone not read", reason=str(error))
            is_over = False
        finally:
            self._current = None
        if is_over:
            await self._members.forget(*which)
            self._taken.discard(client_id)
            log.info("messages for a server that is gone read", client_id=client_id)

"""What is retained, sent after a SUBSCRIBE as fast as the client takes it."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.mqtt.reasons import Reason

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection

log = structlog.get_logger()


class _Wanted(NamedTuple):
    qos: int
    identifiers: tuple[int, ...]


class Retained:
    """Sends a connection what is retained under its filters, one filter after the other.

    It waits for acknowledgments, so that the bounds of what waits for a client can't cut it
    short; meanwhile the connection goes on with whatever else there is.
    """

    __slots__ = ("_connection", "_room", "_superseded", "_task", "_wanted")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._wanted: dict[str, _Wanted] = {}
        self._room = asyncio.Event()
        # Topics that got something newer while older contents were being read.
        self._superseded: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def send(self, topic_filter: str, qos: int, identifier: int | None) -> None:
        """Send what is retained under a subscription's filter, after what is being sent.

        What is being sent of this very filter begins anew [MQTT-3.8.4-3].
        """
        self._wanted.pop(topic_filter, None)
        self._wanted[topic_filter] = _Wanted(qos, () if identifier is None else (identifier,))
        if self._task is None:
            tasks = self._connection.listener.tasks
            self._task = asyncio.create_task(self._run(), name="mqtt retained")
            tasks.add(self._task)
            self._task.add_done_callback(tasks.discard)

    def discard(self, topic_filter: str) -> None:
        """Do not send what was still to be sent under this filter."""
        self._wanted.pop(topic_filter, None)

    def supersede(self, topics: Iterable[str]) -> None:
        """Do not send what has been read under these topics: the client gets something newer."""
        if self._task is not None:
            self._superseded.update(topics)

    def wake(self) -> None:
        """Look again whether the client takes more."""
        self._room.set()

    def close(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        connection = self._connection
        try:
            while self._wanted:
                topic_filter, wanted = next(iter(self._wanted.items()))
                await self._send(topic_filter, wanted)
                if self._wanted.get(topic_filter) is wanted:
                    del self._wanted[topic_filter]
        except StoreUnavailableError:
            # On its next connection the client subscribes again.
            connection.fail(Reason.SERVER_BUSY, "the database is not available")
        except Exception:
            log.exception("retained messages could not be sent", peer=connection.peer)
            connection.fail(Reason.UNSPECIFIED_ERROR, "the server failed")
        finally:
            self._task = None
            self._superseded.clear()

    async def _send(self, topic_filter: str, wanted: _Wanted) -> None:
        connection = self._connection
        session, principal = connection.session, connection.principal
        if session is None or principal is None:
            return
        # Whatever was newer before this is read is read now.
        self._superseded.clear()
        host = connection.listener.host
        async for message in host.retained(principal, topic_filter):
            while connection.congested or session.queue:
                self._room.clear()
                await self._room.wait()
            connection.recheck()
            if session.connection is not connection or self._wanted.get(topic_filter) is not wanted:
                return
            if message.topic in self._superseded:
                continue
            # The right may have ended while the client took what came before.
            if host.may_see(principal, message.sensor, message.network_identifier):
                message.qos, message.identifiers = wanted
                session.deliver(message)
            else:
                session.counts.withheld += 1

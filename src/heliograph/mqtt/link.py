"""The link to an external broker: one session, for as long as the server runs.

    connect ─▶ CONNACK ─▶ (UNSUBSCRIBE) ─▶ SUBSCRIBE ─▶ up ─▶ lost ─▶ wait ─▶ connect …

The session is persistent: what is published while the server is away waits at the broker.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

import mqtt5
import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.mqtt import dropped, link_packets
from heliograph.mqtt.dropped import Dropped
from heliograph.mqtt.link_connection import LinkConnection
from heliograph.mqtt.pausing import FULL
from heliograph.mqtt.publications import Publications

if TYPE_CHECKING:
    from heliograph.broker_url import BrokerUrl
    from heliograph.mqtt.host import Host

log = structlog.get_logger()

CONNECT_SECONDS = 10.0
CHECK_SECONDS = 1.0
STUCK_SECONDS = 60.0
FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0
# A connection that lasted so long was a good one: the next attempt comes soon.
GOOD_SECONDS = 10.0
LINGER_SECONDS = 2.0
REFUSED = 0x80
GROUP = "heliograph"
DATA = ("measurements/+", "log-messages/+", "logs/+", "heartbeats/+", "acknowledgments/+")
STATE = ("status/+",)
WATCH = [dropped.TOPIC, dropped.UPTIME]
SUBSCRIBING, UNSUBSCRIBING = 1, 2  # packet ids

AnswerT = TypeVar("AnswerT")


@dataclasses.dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to log in, and how much to ask for."""

    client_id: str = "heliograph"
    username: str | None = None
    password: str | None = None
    shared: bool = False
    keepalive: int = 30
    receive_maximum: int = 65_535
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class LinkError(Exception):
    """Why there is no connection, in plain words."""


class Link:
    """Keeps a session with a broker; its messages come back as acknowledgments."""

    def __init__(self, host: "Host", broker: "BrokerUrl", options: LinkOptions) -> None:
        self.host = host
        self.broker = broker
        self.publications = Publications()
        self.dropped = Dropped()
        # What the ledger of deliveries calls the session.
        self.ledger_name = f"link {broker.host}:{broker.port} {options.client_id}".encode()
        # Why there is no connection; None while there is one.
        self.problem: str | None = "not connected yet"
        self.connects = 0
        self._options = options
        self._connection: LinkConnection | None = None
        self._full = False
        self._stopping = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages arrive."""
        return self.problem is None

    @property
    def dropped_count(self) -> int:
        """How many messages the broker has dropped since the link was made, and while away."""
        return self.dropped.count

    @property
    def waiting(self) -> int:
        """How many messages the broker has not taken from us yet."""
        return len(self.publications)

    @property
    def address(self) -> tuple[str, int]:
        """Where the broker is."""
        return self.broker.host, self.broker.port

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return when the broker has taken the message; see `Publications.publish`."""
        await self.publications.publish(topic, payload, retain=retain)

    # The pipeline's side

    def pause(self) -> None:
        """Read nothing until `resume`: the pipeline is full."""
        self._full = True
        if self._connection is not None:
            self._connection.pause(FULL)

    def resume(self) -> None:
        """Read again."""
        if self._stopping.is_set():
            return
        self._full = False
        if self._connection is not None:
            self._connection.resume(FULL)

    def forget(self) -> None:
        """Connect anew: what was read was not stored, and comes again."""
        if self._connection is not None:
            self._connection.end("the database was put back")

    # Its life

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until `close_sources`."""
        loop = asyncio.get_running_loop()
        delay = FIRST_RETRY_SECONDS
        while not self._stopping.is_set():
            started = loop.time()
            try:
                reason = await self._session()
            except LinkError as error:
                reason = str(error)
            self.publications.disconnected()
            if self._stopping.is_set():
                break
            if reason != self.problem:
                log.error(
                    "no connection to the MQTT broker", broker=str(self.broker), reason=reason
                )
            self.problem = reason
            if loop.time() - started > GOOD_SECONDS:
                delay = FIRST_RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                # Not all of a broker's clients at the same moment.
                async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
                    await self._stopping.wait()
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)
        await asyncio.Event().wait()  # until whoever stops it is through with it

    def stop_taking(self) -> None:
        """Read nothing more; what has been read is still acknowledged."""
        self._stopping.set()
        self.pause()

    async def close_sources(self) -> None:
        """Take nothing more: nobody waits for the broker."""
        self.stop_taking()

    async def close(self) -> None:
        """Say goodbye; the session stays at the broker."""
        self._stopping.set()
        connection = self._connection
        if connection is None or connection.transport is None:
            return
        connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await asyncio.shield(connection.lost)
        connection.abort()

    async def _session(self) -> str:
        """Hold one connection; return why it was lost.

        Raises:
            LinkError: there is none.
        """
        connection = await self._open()
        self._connection = connection
        if self._full:
            connection.pause(FULL)
        keepalive: float = self._options.keepalive
        try:
            accepted = await self._log_in(connection)
            if accepted.server_keep_alive is not None:
                keepalive = accepted.server_keep_alive
            await self._subscribe(connection, accepted)
            self.publications.connected(
                connection,
                session_present=accepted.session_present,
                receive_maximum=accepted.receive_max,
                largest=accepted.max_packet_size or 0,
                retains=accepted.retain_available,
            )
            self.problem = None
            self.connects += 1
            log.info(
                "connected to the MQTT broker",
                broker=str(self.broker),
                client_id=self._options.client_id,
                session_present=accepted.session_present,
            )
            await self._watch(connection, keepalive)
        finally:
            if not self._stopping.is_set():
                connection.abort()
        return connection.lost.result()

    async def _watch(self, connection: LinkConnection, keepalive: float) -> None:
        """Return when the connection is lost, or is good for nothing any more."""
        loop = asyncio.get_running_loop()
        pinged = loop.time()
        while not connection.lost.done():
            await asyncio.wait([connection.lost], timeout=CHECK_SECONDS)
            now, silence = loop.time(), connection.listen()
            if connection.confirmed.is_due or (keepalive and now - pinged > keepalive / 2):
                pinged = now
                connection.ping()
            self.dropped.settle()
            if connection.over:
                over, connection.over = connection.over, []
                with contextlib.suppress(StoreUnavailableError):
                    await self.host.forget(over)
            if keepalive and silence > keepalive * 1.5:
                connection.end("the broker has fallen silent")
            elif not self.host.commits:
                connection.progress_at = now  # the broker can do nothing about it
            elif connection.is_stuck and now - connection.progress_at > STUCK_SECONDS:
                connection.end(f"nothing was acknowledged for {STUCK_SECONDS:.0f} seconds")

    async def _open(self) -> LinkConnection:
        broker, options = self.broker, self._options
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: LinkConnection(self),
                    broker.host,
                    broker.port,
                    ssl=options.tls,
                    server_hostname=(options.server_name or broker.host) if options.tls else None,
                )
        except TimeoutError:
            raise LinkError(f"{broker} does not answer within {CONNECT_SECONDS:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            raise LinkError(f"the broker's certificate: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise LinkError(f"TLS with {broker} failed: {link_packets.plain(error)}") from None
        except (socket.gaierror, ValueError):  # no name at all is a UnicodeError
            raise LinkError(f"there is no host {broker.host!r}") from None
        except ConnectionRefusedError:
            raise LinkError(f"nothing listens at {broker}") from None
        except OSError as error:
            # Who knows no TLS hangs up on its first words.
            doubt = "; does it speak TLS there?" if options.tls else ""
            raise LinkError(
                f"{broker} can't be reached: {link_packets.plain(error)}{doubt}"
            ) from None
        return connection

    async def _log_in(self, connection: LinkConnection) -> mqtt5.ConnAckPacket:
        options = self._options
        connection.write(
            link_packets.connect(
                options.client_id,
                options.username if options.username is not None else self.broker.username,
                options.password if options.password is not None else self.broker.password,
                keepalive=options.keepalive,
                receive_maximum=options.receive_maximum,
            )
        )
        answer = await self._answer(connection, mqtt5.ConnAckPacket, "CONNECT")
        if answer.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
            detail = f" ({answer.reason_str})" if answer.reason_str else ""
            raise LinkError(f"refused: {link_packets.refusal(answer.reason_code)}{detail}")
        if options.shared and not answer.shared_subscription_available:
            raise LinkError("MQTT_SHARED: the broker has no shared subscriptions")
        if answer.max_qos == mqtt5.QoS.AT_MOST_ONCE:
            raise LinkError("the broker has QoS 0 only: nothing would be safe")
        return answer

    async def _subscribe(self, connection: LinkConnection, accepted: mqtt5.ConnAckPacket) -> None:
        shared = [f"$share/{GROUP}/{name}" for name in DATA]
        wanted, unwanted = (shared, list(DATA)) if self._options.shared else (list(DATA), shared)
        if accepted.session_present and accepted.shared_subscription_available:
            # What this session may have asked for before would come twice.
            connection.write(link_packets.unsubscribe(UNSUBSCRIBING, unwanted))
            await self._answer(connection, mqtt5.UnsubAckPacket, "UNSUBSCRIBE")
        connection.write(link_packets.subscribe(SUBSCRIBING, wanted, list(STATE), WATCH))
        answer = await self._answer(connection, mqtt5.SubAckPacket, "SUBSCRIBE")
        for name, code in zip([*wanted, *STATE], answer.reason_codes, strict=False):
            if int(code) >= REFUSED:
                raise LinkError(
                    f"the broker refuses the subscription {name}: {link_packets.words(code)}"
                )
            if code == mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE:
                raise LinkError(f"the broker grants only QoS 0 to the subscription {name}")

    async def _answer(
        self, connection: LinkConnection, kind: type[AnswerT], question: str
    ) -> AnswerT:
        waiting = asyncio.create_task(connection.answers.get(), name="mqtt-link answer")
        either: set[asyncio.Future[Any]] = {waiting, connection.lost}
        try:
            # What waits for this session may come before the answer, and more than we can store
            # at once: only a broker that says nothing at all has not understood.
            while connection.listen() < CONNECT_SECONDS:
                await asyncio.wait(
                    either, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting.done() or connection.lost.done():
                    break
            if waiting.done():
                answer = waiting.result()
                if isinstance(answer, kind):
                    return answer
                raise LinkError(f"the broker answers {question} with {type(answer).__name__}")
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if connection.lost.done():
            raise LinkError(connection.lost.result())
        raise LinkError(f"no answer to {question} within {CONNECT_SECONDS:.0f} s; is it MQTT 5?")

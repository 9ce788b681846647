"""From a CONNECT to a session, or to the reason why there is none."""

import asyncio
import uuid
from typing import TYPE_CHECKING

import structlog

from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.hourly import Hourly
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.mqtt import packets
from heliograph.mqtt.aliases import TopicAliases
from heliograph.mqtt.limits import MAXIMUM_TOPIC_ALIASES
from heliograph.mqtt.packets import MQTT_5, Connect, Properties, Reason
from heliograph.mqtt.session import Session
from heliograph.mqtt.wills import LastWill

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.listener import Listener

log = structlog.get_logger()

LOGIN_SECONDS = 10.0


class Opening:
    """Answers CONNECT. Nothing of any session is touched before the client is known."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._refusals = Hourly()

    async def open(self, connection: "Connection", connect: Connect) -> None:
        """Authenticate, check the will, find or make the session, and answer."""
        principal = await self._authenticate(connection, connect)
        if principal is None:
            return
        limit = self._listener.limits.connections_per_principal
        if (
            limit
            and not principal.is_admin
            and self._listener.sessions.of_principal(principal) >= limit
            and not self._takes_over(principal, connect.client_id)
        ):
            connection.refuse(Reason.QUOTA_EXCEEDED, "too many connections")
            return
        connection.principal = principal
        connection.credential = self._listener.host.credential(principal)
        if not self._listener.host.is_current(principal, connection.credential):
            connection.refuse(Reason.NOT_AUTHORIZED, "the credential has just ended")
            return
        if connect.will is not None:
            route = await self._listener.host.route(principal, connect.will.topic)
            if not self._listener.host.accepts(route):
                connection.refuse(Reason.NOT_AUTHORIZED, "the will's topic is not allowed")
                return
            connection.will = LastWill(connect.will, route, principal, connection.credential)
        if not connection.closing:
            self._enter(connection, connect, principal)

    def _takes_over(self, principal: Principal, client_id: str) -> bool:
        session = self._listener.sessions.find(principal, client_id)
        return session is not None and session.connection is not None

    async def _authenticate(self, connection: "Connection", connect: Connect) -> Principal | None:
        listener = self._listener
        if connect.authentication_method is not None:
            connection.refuse(Reason.BAD_AUTHENTICATION_METHOD, "no such method")
            return None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                if connect.username is None and connect.password is None:
                    principal = listener.host.anonymous()
                else:
                    principal = await listener.host.login(
                        connect.username or "", connect.password or b"", connection.peer
                    )
        except (StoreUnavailableError, TimeoutError):
            connection.refuse(Reason.SERVER_UNAVAILABLE, "the database is not available")
            return None
        except HeliographError as error:
            limited = error.code is ErrorCode.RATE_LIMITED
            reason = Reason.CONNECTION_RATE_EXCEEDED if limited else Reason.SERVER_BUSY
            connection.refuse(reason, error.detail)
            return None
        if principal is None:
            self._refuse_login(connection, connect)
        return principal

    def _refuse_login(self, connection: "Connection", connect: Connect) -> None:
        self._tell(connection.peer, connect.username)
        reason = (
            Reason.NOT_AUTHORIZED if connect.username is None else Reason.BAD_USER_NAME_OR_PASSWORD
        )
        connection.refuse(reason, "unknown user name or wrong key")

    def _tell(self, peer: str, username: str | None) -> None:
        """Warn of a refused log-in: a device with an old key tries again every few seconds."""
        network = network_of(peer)
        untold = self._refusals.due((network, username or ""), network, now())
        if untold is not None:
            more = {"not_told_before": untold} if untold else {}
            log.warning("log-in refused", peer=peer, username=username, **more)
        if self._refusals.has_left_out():
            log.warning("more log-ins are refused: they are not named within this hour")

    def _enter(self, connection: "Connection", connect: Connect, principal: Principal) -> None:
        sessions = self._listener.sessions
        client_id = connect.client_id or f"heliograph-{uuid.uuid4().hex}"
        properties = self._properties(connect, client_id)
        largest = connection.client_maximum_packet_size
        if len(packets.connack(connection.version, properties=properties)) > largest:
            connection.refuse(Reason.PACKET_TOO_LARGE, "CONNACK is larger than the client takes")
            return
        session = sessions.find(principal, client_id)
        if session is not None and session.connection is not None:
            previous, session.connection = session.connection, None
            if session.expiry and not connect.clean_start and previous.delays_will:
                previous.will = None  # its session goes on in time [MQTT-3.1.3-9]
            previous.fail(Reason.SESSION_TAKEN_OVER, "the client has connected again")
            sessions.leave(session)
            session = sessions.find(principal, client_id)
        if session is not None and connect.clean_start:
            sessions.end(session)
            session = None
        present = session is not None
        if session is None:
            session = Session(principal, client_id, self._listener.counts)
        session.principal = principal
        session.expiry = self._expiry(connect)
        session.connection = connection
        connection.share = self._listener.shares.enter(session.owner, principal)
        sessions.enter(session)
        self._listener.fanout.attach(session)
        connection.session = session
        connection.is_known()
        connection.keepalive = connect.keepalive * 1.5
        if connect.version == MQTT_5:
            connection.aliases = TopicAliases()
        connection.write(
            packets.connack(connection.version, session_present=present, properties=properties)
        )
        session.resume()

    def _expiry(self, connect: Connect) -> int:
        return self._listener.longest_session(connect.session_expiry)

    def _properties(self, connect: Connect, client_id: str) -> Properties:
        expiry = self._expiry(connect)
        return Properties(
            receive_maximum=self._listener.limits.receive_maximum,
            assigned_client_identifier=None if connect.client_id else client_id,
            session_expiry_interval=expiry if expiry != connect.session_expiry else None,
            topic_alias_maximum=MAXIMUM_TOPIC_ALIASES,
            shared_subscription_available=0,
        )

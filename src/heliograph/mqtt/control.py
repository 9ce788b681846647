"""Every packet but PUBLISH: what a client asks for, and how its exchanges go on."""

from typing import TYPE_CHECKING

from heliograph.mqtt import packets
from heliograph.mqtt.limits import LARGE_CONTROL_BYTES
from heliograph.mqtt.reasons import PacketType, ProtocolError, Reason
from heliograph.mqtt.receiving import check_size
from heliograph.mqtt.shares import FILTER_COST, MESSAGE_BYTES, PACKET_COST

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.session import Session


def control(connection: "Connection", buffer: bytes, at: int, start: int, stop: int) -> None:
    """Answer a packet that is not a PUBLISH of a client with a session.

    Raises:
        ProtocolError: the connection can't go on.
    """
    kind = packets.check_flags(buffer[at])
    session = connection.session
    if session is None and kind is not PacketType.CONNECT:  # [MQTT-3.1.0-1]
        raise ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")
    check_size(connection, buffer, start, stop)
    if stop - start > LARGE_CONTROL_BYTES:
        connection.give_way()
    body = buffer[start:stop]
    if session is None:
        connection.listener.connect(connection, body)
        return
    version = connection.version
    _charge(connection, 0 if kind is PacketType.PUBACK else PACKET_COST)
    match kind:
        case PacketType.PINGREQ:
            packets.read_pingreq(body)
            connection.write(packets.PINGRESP)
        case PacketType.PUBACK:
            _acknowledge(connection, session, packets.read_puback(body, version, kind)[0])
        case PacketType.PUBREL:
            _release(connection, session, packets.read_puback(body, version, kind)[0])
        case PacketType.PUBREC:
            _received(connection, *packets.read_puback(body, version, kind))
        case PacketType.PUBCOMP:
            packets.read_puback(body, version, kind)
        case PacketType.SUBSCRIBE:
            subscribe = packets.read_subscribe(body, version)
            _charge(connection, FILTER_COST * len(subscribe.filters))
            connection.run(connection.listener.subscribe(connection, subscribe), "subscribe")
        case PacketType.UNSUBSCRIBE:
            unsubscribe = packets.read_unsubscribe(body, version)
            _charge(connection, FILTER_COST * len(unsubscribe.filters))
            connection.listener.unsubscribe(connection, unsubscribe)
        case PacketType.DISCONNECT:
            _disconnect(connection, session, packets.read_disconnect(body, version))
        case _:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"{kind.name} after CONNECT")


def _charge(connection: "Connection", messages: float) -> None:
    """Count the packet as so many messages of the principal's share."""
    if connection.share is not None:
        connection.share.credit -= messages * MESSAGE_BYTES


def _acknowledge(connection: "Connection", session: "Session", packet_id: int) -> None:
    # There are as many that are due as messages that we have sent.
    if not session.acknowledged(packet_id):
        _charge(connection, PACKET_COST)


def _received(connection: "Connection", packet_id: int, reason: Reason) -> None:
    # Nothing is sent at QoS 2, so there is nothing to release; and after an error never.
    if reason < Reason.UNSPECIFIED_ERROR:
        unknown = Reason.PACKET_IDENTIFIER_NOT_FOUND
        connection.write(packets.pubrel(connection.version, packet_id, unknown))


def _release(connection: "Connection", session: "Session", packet_id: int) -> None:
    if session.received.is_committed(packet_id) is False:
        # Not committed, so no PUBREC has been sent that it could be the answer to.
        raise ProtocolError(Reason.PROTOCOL_ERROR, "PUBREL before PUBREC")
    known = session.received.end(packet_id)
    if known and connection.in_flight:
        connection.in_flight -= 1
    reason = Reason.SUCCESS if known else Reason.PACKET_IDENTIFIER_NOT_FOUND
    connection.write(packets.pubcomp(connection.version, packet_id, reason))


def _disconnect(
    connection: "Connection", session: "Session", disconnect: packets.Disconnect
) -> None:
    expiry = disconnect.session_expiry
    if expiry is not None:
        if expiry and not session.expiry:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a session expiry from nothing")
        session.expiry = connection.listener.longest_session(expiry)
    if disconnect.reason != Reason.DISCONNECT_WITH_WILL_MESSAGE:
        connection.will = None  # [MQTT-3.14.4-3]
    connection.close()

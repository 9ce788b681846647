"""What a PUBLISH begins: an exchange in QoS 1 or 2, or the passing of an oversize packet."""

from typing import TYPE_CHECKING

from heliograph.errors import HeliographError
from heliograph.mqtt import packets
from heliograph.mqtt.limits import (
    KEPT_BYTES,
    MAXIMUM_CONNECT_BYTES,
    MAXIMUM_CONTROL_BYTES,
    MAXIMUM_PACKET_BYTES,
)
from heliograph.mqtt.oversize import Oversize
from heliograph.mqtt.reasons import MQTT_5, PacketType, ProtocolError, Reason
from heliograph.mqtt.settlement import PACKET_ID, QOS_2, token_of

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.session import Session


def begin_delivery(connection: "Connection", session: "Session", packet_id: int, qos: int) -> bool:
    """Count a QoS 1 or 2 delivery; False: it is known, and needs no more than its answer.

    Raises:
        ProtocolError: more are under way than the receive maximum [MQTT-3.3.4-7].
    """
    if qos == QOS_2:
        committed = session.received.is_committed(packet_id)
        if committed is not None:
            if committed:
                connection.write(packets.pubrec(connection.version, packet_id))
            return False
    maximum = connection.listener.limits.receive_maximum
    if connection.version == MQTT_5 and connection.in_flight >= maximum:
        raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many messages in flight")
    if qos == QOS_2:
        # Those of earlier connections count, and in MQTT 3.1.1 too: they are kept.
        if len(session.received) >= maximum:
            raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many messages not released")
        session.received.begin(packet_id)
    connection.in_flight += 1
    return True


def abandon_delivery(connection: "Connection", session: "Session", token: int) -> None:
    """Undo `begin_delivery` for a message that was not taken."""
    if token:
        connection.in_flight -= 1
        if token >> 16 == QOS_2:
            session.received.end(token & PACKET_ID)


def oversize(
    connection: "Connection", buffer: bytes, at: int, start: int, stop: int
) -> Oversize | None:
    """Return an unfinished packet of the buffer if it is too large to wait for its end.

    Raises:
        ProtocolError: it is too large, or the first one, and of a type that may not be so.
    """
    first = buffer[at]
    kind = first >> 4
    if connection.session is None and kind != PacketType.CONNECT:  # [MQTT-3.1.0-1]
        raise ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNECT")
    if kind != PacketType.PUBLISH:
        check_size(connection, buffer, start, stop)
        return None
    if stop - start <= MAXIMUM_PACKET_BYTES:
        return None
    return Oversize(first, stop - start, buffer[start:])


def check_size(connection: "Connection", buffer: bytes, start: int, stop: int) -> None:
    """Refuse a packet that is too large and no PUBLISH, be it whole or only begun.

    Raises:
        ProtocolError: it is; a client that greets is told so already.
    """
    size = stop - start
    if connection.session is not None:
        # Of a SUBSCRIBE of a megabyte each filter would have to be read in one go.
        if size > MAXIMUM_CONTROL_BYTES:
            raise ProtocolError(Reason.PACKET_TOO_LARGE, f"a packet of {size} bytes")
    elif size > MAXIMUM_CONNECT_BYTES:
        error = ProtocolError(Reason.PACKET_TOO_LARGE, f"a CONNECT of {size} bytes")
        connection.write(packets.refusal(buffer[start:], error))
        raise error


async def refuse_oversize(connection: "Connection", packet: Oversize) -> None:
    """Keep the head of a packet that has been let go of as a rejected message.

    Raises:
        ProtocolError, StoreUnavailableError, HeliographError: it has to be sent again.
    """
    head, host = packet.head, connection.listener.host
    topic, packet_id, payload_at, properties = packets.read_publish(
        head, 0, 1, len(head), connection.version
    )
    if properties is not None:
        topic = connection.aliases.resolve(topic, properties)
    session, principal = connection.session, connection.principal
    if session is None or principal is None:
        return
    route = await host.route(principal, packets.decode_topic(topic))
    token = token_of(packet_id, packet.qos)
    if packet_id and not begin_delivery(connection, session, packet_id, packet.qos):
        return
    payload, size = head[payload_at:][:KEPT_BYTES], packet.size - (payload_at - 1)
    try:
        connection.in_flight_bytes += host.receive_oversize(connection, token, route, payload, size)
    except HeliographError:
        abandon_delivery(connection, session, token)
        raise

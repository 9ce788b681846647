"""What a PUBLISH begins: an exchange in QoS 1 or 2, or the passing of an oversize packet."""

from typing import TYPE_CHECKING

from heliograph.errors import HeliographError
from heliograph.mqtt import packets
from heliograph.mqtt.limits import KEPT_BYTES, MAXIMUM_CONTROL_BYTES, MAXIMUM_PACKET_BYTES
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
        committed = session.received.get(packet_id)
        if committed is not None:
            if committed:
                connection.write(packets.pubrec(connection.version, packet_id))
            return False
    if (
        connection.in_flight >= connection.listener.limits.receive_maximum
        and connection.version == MQTT_5
    ):
        raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "too many messages in flight")
    if qos == QOS_2:
        session.received[packet_id] = False
    connection.in_flight += 1
    return True


def abandon_delivery(connection: "Connection", session: "Session", token: int) -> None:
    """Undo `begin_delivery` for a message that was not taken."""
    if token:
        connection.in_flight -= 1
        if token >> 16 == QOS_2:
            session.received.pop(token & PACKET_ID, None)


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
    # Of a SUBSCRIBE of a megabyte each filter would have to be read in one go.
    limit = MAXIMUM_PACKET_BYTES if kind == PacketType.PUBLISH else MAXIMUM_CONTROL_BYTES
    if stop - start <= limit:
        return None
    if kind != PacketType.PUBLISH:
        raise ProtocolError(Reason.PACKET_TOO_LARGE, f"a packet of {stop - start} bytes")
    return Oversize(first, stop - start, buffer[start:])


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

"""Acknowledgments: what devices are told once their messages are committed."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from heliograph.mqtt import packets
from heliograph.mqtt.limits import IN_FLIGHT_BYTES
from heliograph.mqtt.pausing import OWN
from heliograph.mqtt.reasons import MQTT_5, Reason

if TYPE_CHECKING:
    from heliograph.mqtt.connection import Connection
    from heliograph.mqtt.host import Taken

QOS_1 = 1
QOS_2 = 2
PACKET_ID = 0xFFFF


def token_of(packet_id: int, qos: int) -> int:
    """Return what a message carries through the pipeline to find its way back; 0 for QoS 0."""
    return packet_id | qos << 16


def settle(connection: "Connection", messages: "list[Taken]") -> None:
    """Acknowledge what has been committed, in the order of receipt and in one write.

    A PUBACK goes to the connection that the message came by, or nowhere: on another one the
    client repeats the message, and is answered there. The state of QoS 2 belongs to the session.
    """
    answers: list[bytes] = []
    plain: list[int] = []
    before = connection.in_flight_bytes
    for message in messages:
        connection.in_flight_bytes -= message.size
        refused = bool(message.faults) and not message.rows and connection.version == MQTT_5
        for token in message.tokens:
            qos = token >> 16
            if qos == QOS_1:
                connection.in_flight -= 1
                if not refused:
                    plain.append(token & PACKET_ID)
                    continue
            elif qos == 0:
                continue
            answers.append(packets.pubacks(plain))
            plain = []
            if qos == QOS_1:
                answers.append(_refusal(connection, packets.puback, message, token))
            else:
                _settle_received(connection, message, token, answers)
    answers.append(packets.pubacks(plain))
    connection.write(b"".join(answers))
    share = connection.share
    if share is not None and share.is_over:
        share.committed += before - connection.in_flight_bytes
    if connection.pauses & OWN and connection.in_flight_bytes < IN_FLIGHT_BYTES // 2:
        connection.resume(OWN)


def _refusal(
    connection: "Connection", write: Callable[..., bytes], message: "Taken", token: int
) -> bytes:
    reason = Reason(connection.listener.host.puback_reason(message))
    packet_id, detail = token & PACKET_ID, message.faults[0].detail
    whole = write(MQTT_5, packet_id, reason, detail)
    return connection.explained(whole, write(MQTT_5, packet_id, reason))


def _settle_received(
    origin: "Connection", message: "Taken", token: int, answers: list[bytes]
) -> None:
    """Answer a QoS 2 message on whatever connection its session has by now."""
    packet_id, session = token & PACKET_ID, origin.session
    if session is None or session.received.is_committed(packet_id) is None:
        return
    connection = session.connection
    if connection is None:
        session.received.commit(packet_id)
        return
    if connection.version == MQTT_5 and message.faults and not message.rows:
        # A PUBREC with an error ends the exchange: no PUBREL follows [MQTT-4.3.3-4].
        session.received.end(packet_id)
        connection.in_flight = max(connection.in_flight - 1, 0)
        answer = _refusal(connection, packets.pubrec, message, token)
    else:
        session.received.commit(packet_id)
        answer = packets.pubrec(connection.version, packet_id)
    if connection is origin:
        answers.append(answer)
    else:
        connection.write(answer)

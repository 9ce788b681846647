"""What the link says to a broker and hears from it, by the `mqtt5` codec."""

import ssl
from typing import SupportsInt

import mqtt5

from heliograph.mqtt import packets
from heliograph.mqtt.reasons import MQTT_3_1_1, MQTT_5, ProtocolError, Reason

# Of a CONNACK, where the name of the reason leaves a person with a question.
_REFUSALS = {
    Reason.UNSUPPORTED_PROTOCOL_VERSION: "the broker does not speak MQTT 5",
    Reason.CLIENT_IDENTIFIER_NOT_VALID: "the broker does not take MQTT_CLIENT_ID",
    Reason.BAD_USER_NAME_OR_PASSWORD: "wrong user name or password",
    Reason.NOT_AUTHORIZED: "not authorized: wrong user name or password, or not allowed",
    Reason.SERVER_UNAVAILABLE: "the broker is not available",
    Reason.SERVER_BUSY: "the broker is busy",
}
NEVER_EXPIRES = 0xFFFF_FFFF


def refusal(code: SupportsInt) -> str:
    """Return in plain words why a broker takes no connection."""
    return _REFUSALS.get(Reason(int(code)), words(code))


def words(code: SupportsInt) -> str:
    """Return a reason code in plain words."""
    return Reason(int(code)).name.lower().replace("_", " ")


def plain(error: Exception) -> str:
    """Return in plain words what is wrong with a socket or with TLS."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (isinstance(error, OSError) and error.strerror) or str(error)


def connect(
    client_id: str,
    username: str | None,
    password: str | None,
    *,
    keepalive: int,
    receive_maximum: int,
) -> bytes:
    """Return a CONNECT to a session that never expires."""
    return mqtt5.ConnectPacket(
        client_id,
        username=username,
        password=password.encode() if password is not None else None,
        clean_start=False,
        keep_alive=keepalive,
        session_expiry_interval=NEVER_EXPIRES,
        receive_max=receive_maximum,
    ).write()


def subscribe(packet_id: int, data: list[str], state: list[str], watch: list[str]) -> bytes:
    """Return a SUBSCRIBE.

    Of `data` nothing retained is wanted, which would come back as if measured at each connect;
    of `state` (statuses) all of it; `watch` are the broker's own figures. A live message has
    no RETAIN flag, however it was published.
    """
    never, always = mqtt5.RetainHandling.SEND_NEVER, mqtt5.RetainHandling.SEND_ALWAYS
    filters = [
        mqtt5.TopicFilter(name, max_qos=qos, retain_as_published=False, retain_handling=handling)
        for names, qos, handling in (
            (data, mqtt5.QoS.AT_LEAST_ONCE, never),
            (state, mqtt5.QoS.AT_LEAST_ONCE, always),
            (watch, mqtt5.QoS.AT_MOST_ONCE, always),
        )
        for name in names
    ]
    return mqtt5.SubscribePacket(packet_id, filters).write()


def unsubscribe(packet_id: int, filters: list[str]) -> bytes:
    """Return an UNSUBSCRIBE."""
    return mqtt5.UnsubscribePacket(packet_id, filters).write()


def publish(topic: str, payload: bytes, packet_id: int, *, retain: bool, again: bool) -> bytes:
    """Return a PUBLISH in QoS 1."""
    return mqtt5.PublishPacket(
        topic,
        payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain=retain,
        packet_id=packet_id,
        duplicate=again,
    ).write()


def has_text(buffer: bytes, at: int) -> bool:
    """Tell whether the topic of the PUBLISH that begins there is UTF-8, as far as it is there."""
    end = len(buffer)
    length_at = at + 1
    while length_at < end and buffer[length_at] & 0x80:
        length_at += 1
    topic_at = length_at + 3
    if topic_at > end:
        return True
    stop = topic_at + (buffer[topic_at - 2] << 8 | buffer[topic_at - 1])
    topic = buffer[topic_at:stop]
    if stop > end or topic.isascii():
        return True
    try:
        topic.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_publish(buffer: bytes, at: int, start: int, stop: int) -> tuple[bytes, int, int]:
    """Return topic, packet id and where the payload starts of a PUBLISH that can't be taken.

    Properties that can't be read count as payload: refused for them, the packet would come
    again with every connection. `start` and `stop` are those of `packets.frame`.

    Raises:
        ProtocolError: it ends before its payload.
    """
    try:
        topic, packet_id, payload, _ = packets.read_publish(buffer, at, start, stop, MQTT_5)
    except ProtocolError:
        topic, packet_id, payload, _ = packets.read_publish(buffer, at, start, stop, MQTT_3_1_1)
    return topic, packet_id, payload


PING = mqtt5.PingReqPacket().write()
DISCONNECT = mqtt5.DisconnectPacket().write()

"""MQTT 3.1.1 packets and telemetry payloads, built before any clock starts."""

from collections.abc import Iterator, Sequence

PACKET_IDS = 60_000
ELEMENT = '{"revision": 1, "timestamp": %.3f, "value": %s}'
PUBACK_BYTES = 4
VALUE = '{"temperature": %.1f, "humidity": 0.43, "pressure": 1013.2}'


def identifier(number: int) -> str:
    """Return the UUID of the sensor with this number."""
    return f"00000000-0000-0000-0000-{number:012d}"


def device_key(number: int) -> str:
    """Return the API key of the sensor with this number."""
    return f"bench-device-key-{number:012d}"


def value(element: int) -> str:
    """Return the JSON text of one measured value."""
    return VALUE % (21.5 + element)


def payload(first_millisecond: int, measurements: int) -> bytes:
    """Return a message of measurements a millisecond apart; with one, it has 134 bytes."""
    elements = ", ".join(
        ELEMENT % ((first_millisecond + k) / 1_000, value(k)) for k in range(measurements)
    )
    return f'{{"measurements": [{elements}]}}'.encode()


def remaining_length(size: int) -> bytes:
    """Return the size as MQTT writes it behind a packet's first byte."""
    encoded = bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + remaining_length(len(body)) + body


def connect(client_id: str, username: str, password: str, keepalive: int = 600) -> bytes:
    """Return a CONNECT with a clean session."""
    head = _text(b"MQTT") + b"\x04\xc2" + keepalive.to_bytes(2, "big")
    return _packet(
        0x10, head + b"".join(_text(part.encode()) for part in (client_id, username, password))
    )


def subscribe(packet_id: int, topic_filter: str, qos: int) -> bytes:
    """Return a SUBSCRIBE to one filter."""
    body = packet_id.to_bytes(2, "big") + _text(topic_filter.encode()) + bytes((qos,))
    return _packet(0x82, body)


def publish(sensor: int, message: bytes, packet_id: int) -> bytes:
    """Return a QoS 1 PUBLISH of a sensor's measurements."""
    topic = f"measurements/{identifier(sensor)}".encode()
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + message)


def puback(packet_id: int) -> bytes:
    """Return a PUBACK."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def publishes(
    sensors: Sequence[int], count: int, measurements: int, first_millisecond: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield PUBLISH packets over the sensors in turn, each with its PUBACK."""
    for index in range(count):
        packet_id = index % PACKET_IDS + 1
        message = payload(first_millisecond + index * measurements, measurements)
        yield publish(sensors[index % len(sensors)], message, packet_id), puback(packet_id)


def chunks(packets: Sequence[bytes], size: int) -> list[tuple[bytes, int]]:
    """Return the packets joined, `size` at a time, each chunk with the number in it."""
    pieces = (packets[at : at + size] for at in range(0, len(packets), size))
    return [(b"".join(piece), len(piece)) for piece in pieces]


def heartbeat(sensor: int, revision: int, second: float, packet_id: int) -> bytes:
    """Return a QoS 1 PUBLISH by which a device says that it has applied a revision."""
    topic = f"heartbeats/{identifier(sensor)}".encode()
    element = f'{{"revision": {revision}, "timestamp": {second:.3f}, "success": true}}'
    message = f'{{"heartbeats": [{element}]}}'.encode()
    return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + message)


def received(body: bytes) -> tuple[bytes, bytes]:
    """Return packet id and message of a QoS 1 PUBLISH, by what follows its fixed header."""
    at = 2 + int.from_bytes(body[:2], "big")
    return body[at : at + 2], body[at + 2 :]

"""Packets as a client writes them, byte by byte, independently of what is tested."""

import struct

CLEAN = 0x02
WILL = 0x04
WILL_QOS_1 = 0x08
WILL_QOS_2 = 0x10
WILL_RETAIN = 0x20
PASSWORD = 0x40
USERNAME = 0x80


def length(number):
    written = b""
    while True:
        number, digit = divmod(number, 128)
        written += bytes([digit | (128 if number else 0)])
        if not number:
            return written


def packet(first, body):
    return bytes([first]) + length(len(body)) + body


def text(content):
    content = content.encode() if isinstance(content, str) else content
    return struct.pack(">H", len(content)) + content


def properties(*items):
    content = b"".join(items)
    return length(len(content)) + content


def connect(*payload, version=4, flags=CLEAN, keepalive=60, given=b"", name="MQTT"):
    """The body of a CONNECT whose payload are strings; `given` are bare properties."""
    head = text(name) + bytes([version, flags]) + struct.pack(">H", keepalive)
    if version == 5:
        head += properties(given)
    return head + b"".join(field if isinstance(field, Bare) else text(field) for field in payload)


class Bare(bytes):
    """Bytes that go into a payload without a length before them."""


def publish(topic="a/b", payload=b"{}", first=0x32, packet_id=7, version=4, given=b""):
    body = text(topic)
    if first & 0b0110:
        body += struct.pack(">H", packet_id)
    if version == 5:
        body += properties(given)
    return packet(first, body + payload)


def numbered(packet_id, *rest, version=4, given=b""):
    """The body of a packet that begins with a packet id, and in MQTT 5 with properties."""
    head = struct.pack(">H", packet_id)
    if version == 5:
        head += properties(given)
    return head + b"".join(rest)

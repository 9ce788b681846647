"""Packets: one JSON object that says all of a device at once, by a schema that is published.

Whoever validates by the schema and whoever sends a packet get the same answer: a test compares
`read_packet` with an implementation of JSON Schema.
"""

import itertools
from typing import Any, Final, NamedTuple

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import Reading, read_measurement, read_timestamp
from heliograph.ingest.strict_json import Fault, Rejected, find_flaw, quoted, read_exactly
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import fingerprint
from heliograph.model.identifiers import LONGEST_DEVICE_ID
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_MEASUREMENT, Kind, PacketRow
from heliograph.nearest import did_you_mean

SCHEMA_VERSION: Final = 1
LONGEST_STATUS: Final = 64

# Its version rises with every change, so that whoever keeps a copy can tell.
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": f"urn:heliograph:packet:{SCHEMA_VERSION}",
    "title": "Packet",
    "description": "What a device measured, and how it does.",
    "type": "object",
    "required": ["device_id", "measurements"],
    "additionalProperties": False,
    "properties": {
        "device_id": {
            "description": "The device: its device_id, or its UUID.",
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_DEVICE_ID,
        },
        "timestamp": {
            "description": "When it was measured: epoch seconds, or RFC 3339 with a zone."
            " Without one the time of receipt counts.",
            "type": ["number", "string", "null"],
        },
        "measurements": {
            "description": "What was measured, by name; numbers in the device's own units.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAXIMUM_ATTRIBUTES_OF_MEASUREMENT,
        },
        "status": {
            "description": "How the device does, in its own word.",
            "type": ["string", "null"],
            "maxLength": LONGEST_STATUS,
        },
        "battery_level": {
            "description": "The charge of its battery (percent, 0 to 100).",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 100,
        },
    },
    "examples": [
        {
            "device_id": "greenhouse-1",
            "timestamp": 1764460800,
            "measurements": {"temperature": 22.5, "humidity": 40},
            "status": "ok",
            "battery_level": 87,
        }
    ],
}
_MEMBERS: Final = tuple(SCHEMA["properties"])
# Of unknown members so many are told: a packet has room for a hundred thousand.
_MOST_NAMED: Final = 10


class PacketFault(NamedTuple):
    """What is wrong with a member of a packet; `path` leads there, empty for the packet itself."""

    path: tuple[str, ...]
    type: str
    message: str


class InvalidPacketError(Exception):
    """A packet is not what the schema says; `faults` are what is wrong with it."""

    def __init__(self, faults: list[PacketFault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults

    @property
    def fault(self) -> Fault:
        """Return how a rejected message is told about it."""
        first = self.faults[0]
        reason = _REASONS.get(first.type, RejectionReason.WRONG_TYPE)
        return Fault(None, reason, str(self)[:500])


_REASONS: Final = {
    "missing": RejectionReason.MISSING_MEMBER,
    "extra_forbidden": RejectionReason.UNKNOWN_MEMBER,
    "out_of_range": RejectionReason.NUMBER_OUT_OF_RANGE,
    "too_long": RejectionReason.TOO_LARGE,
    "invalid_timestamp": RejectionReason.INVALID_TIMESTAMP,
    "timestamp_in_future": RejectionReason.TIMESTAMP_IN_FUTURE,
}


class Packet(NamedTuple):
    """A packet that may be stored: its canonical text, and what it says was measured.

    The measurement has the packet's `status` and `battery_level` as attributes too, unless
    `measurements` has members of these names itself.
    """

    device_id: str
    text: str
    fingerprint: int
    reading: Reading

    def row(
        self,
        row_id: int,
        sensor: int | None,
        timestamp: int,
        receipt: int,
        network: str | None,
        principal: str,
        source: str,
    ) -> PacketRow:
        """Return its row; `network` is whose devices may be given it, None: everybody's."""
        frame = row_id, sensor, timestamp, self.fingerprint, receipt
        return *frame, self.device_id, network, principal, source, self.text


def read_packet(payload: bytes, now: int) -> Packet:
    """Return the packet that the payload is.

    Raises:
        Rejected: it is not JSON, or can't be stored.
        InvalidPacketError: it is not what the schema says.
    """
    packet = read_exactly(payload)
    if (flaw := find_flaw(packet, "", -1)) is not None:
        raise flaw
    faults = _faults(packet)
    timestamp = packet.get("timestamp") if isinstance(packet, dict) else None
    if not any(fault.path == ("timestamp",) for fault in faults):
        try:
            read_timestamp(timestamp, now)
        except Rejected as rejected:
            kind = rejected.fault.reason.value.lower()
            faults.append(PacketFault(("timestamp",), kind, rejected.fault.detail))
    if faults:
        raise InvalidPacketError(faults)
    said = {name: packet.get(name) for name in ("status", "battery_level")}
    value = {name: each for name, each in said.items() if each is not None}
    value |= packet["measurements"]
    reading = read_measurement({"value": value, "timestamp": timestamp}, now, True)
    text = canonical(packet).decode()
    device_id = packet["device_id"]
    # Its time is the key's own part, as with telemetry.
    content = {name: each for name, each in packet.items() if name != "timestamp"}
    return Packet(device_id, text, fingerprint(Kind.PACKET, content), reading)


def _faults(packet: Any) -> list[PacketFault]:
    if not isinstance(packet, dict):
        return [PacketFault((), "object_type", "The packet is not an object")]
    faults = [
        PacketFault((name,), "missing", f"{name} is missing")
        for name in SCHEMA["required"]
        if name not in packet
    ]
    for name in itertools.islice((name for name in packet if name not in _MEMBERS), _MOST_NAMED):
        message = f"There is no member {quoted(name)}{did_you_mean(name, _MEMBERS)}"
        faults.append(PacketFault((name,), "extra_forbidden", message))
    for name in _MEMBERS:
        if name in packet and (wrong := _CHECKS[name](packet[name])) is not None:
            kind, message = wrong
            faults.append(PacketFault((name,), kind, f"{name} {message}"))
    return faults


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _device_id(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return "string_type", "is not a text"
    if not 1 <= len(value) <= LONGEST_DEVICE_ID:
        return "string_length", f"does not have 1 to {LONGEST_DEVICE_ID} characters"
    return None


def _timestamp(value: Any) -> tuple[str, str] | None:
    if value is None or isinstance(value, str) or _is_number(value):
        return None
    return "timestamp_type", "is neither a number of epoch seconds nor an RFC 3339 text"


def _measurements(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "object_type", "is not an object"
    if not value:
        return "too_short", "is empty"
    if len(value) > MAXIMUM_ATTRIBUTES_OF_MEASUREMENT:
        return "too_long", f"has more than {MAXIMUM_ATTRIBUTES_OF_MEASUREMENT} members"
    return None


def _status(value: Any) -> tuple[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return "string_type", "is not a text"
    if len(value) > LONGEST_STATUS:
        return "too_long", f"has more than {LONGEST_STATUS} characters"
    return None


def _battery_level(value: Any) -> tuple[str, str] | None:
    if value is None:
        return None
    if not _is_number(value):
        return "float_type", "is not a number"
    if not 0 <= value <= 100:
        return "out_of_range", "is not between 0 and 100"
    return None


_CHECKS: Final = {
    "device_id": _device_id,
    "timestamp": _timestamp,
    "measurements": _measurements,
    "status": _status,
    "battery_level": _battery_level,
}

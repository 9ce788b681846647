"""What devices say, as it is stored and as it is read back.

On the way in, a record is a plain tuple, in the order of its table's columns: at 100,000 a
second an object each would cost more than storing it. On the way out it is a frozen struct.
"""

import enum
from typing import Any, Final, TypeAlias

import msgspec

# What is larger is rejected, however it comes.
MAXIMUM_PAYLOAD_BYTES = 1 << 20
# A measurement with more is rejected; of a sensor's attributes so many are known by name.
MAXIMUM_ATTRIBUTES_OF_MEASUREMENT = 1_024
MAXIMUM_ATTRIBUTES_OF_SENSOR = 1_000


class Kind(enum.StrEnum):
    """What a stored message is, or a committed event."""

    MEASUREMENT = "measurement"
    LOG = "log"
    HEARTBEAT = "heartbeat"
    STATUS = "status"
    PRESENCE = "presence"
    PACKET = "packet"
    REJECTED = "rejected"


class Severity(enum.StrEnum):
    """How bad a log message is, as its device says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# The first seven columns of each: id, sensor, timestamp, fingerprint, receipt_timestamp,
# revision, device_timestamp. The last is what a device without a clock gave in place of a
# time (a number before 2001-09-09, or one of 1970), in seconds, else None.
#
# A row whose element has an id of its own has it as one more, last column. Most have none, and
# are not made longer for it.

ID: Final = 0
SENSOR: Final = 1
TIMESTAMP: Final = 2
FINGERPRINT: Final = 3
REVISION: Final = 5
DEVICE_TIMESTAMP: Final = 6

_Frame: TypeAlias = tuple[int, int, int, int, int, int | None, float | None]
# … and value: the canonical text.
MeasurementRow: TypeAlias = tuple[*_Frame, str] | tuple[*_Frame, str, str]
# … and severity, subject, details.
LogRow: TypeAlias = tuple[*_Frame, str, str, str | None] | tuple[*_Frame, str, str, str | None, str]
# … and success, details (canonical text of the members that no column has).
HeartbeatRow: TypeAlias = (
    tuple[*_Frame, bool | None, str | None] | tuple[*_Frame, bool | None, str | None, str]
)
# id, sensor and timestamp of a row: what the server calls it, and where it is found.
RowName: TypeAlias = tuple[int, int, int]
# id, receipt_timestamp, sensor, principal, source (topic or route), payload (at most 64 KiB),
# size (of the whole payload, bytes), reason, detail, indexes (JSON text of those that were bad).
RejectedRow: TypeAlias = tuple[int, int, int | None, str, str, bytes, int, str, str, str | None]
# sensor, receipt_timestamp, status (None: it was cleared), whether it came through a broker.
StatusRow: TypeAlias = tuple[int, int, str | None, bool]
# sensor, whether it is connected to the listener, since when.
ConnectionRow: TypeAlias = tuple[int, bool, int]
# key (16 bytes), id of the first row, expiry (microseconds; None: as long as the row), answer.
DeliveryRow: TypeAlias = tuple[bytes, int, int | None, str | None]
# sensor, name of an attribute that the sensor has not had before.
AttributeRow: TypeAlias = tuple[int, str]
# id, sensor, timestamp, fingerprint, receipt_timestamp, device_id, network (None: it came from the
# administrator), principal, source (topic or route), payload (canonical text).
PacketRow: TypeAlias = tuple[int, int | None, int, int, int, str, str | None, str, str, str]
# rule, position, sensor, timestamp, fingerprint, message, network, type, body (JSON text), due_at,
# created_at: what is to be done once the packet with the message's id is stored.
ActionRow: TypeAlias = tuple[str, int, int, int, int, int | None, str | None, str, str, int, int]
# rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value (JSON text), the
# id from which on everything is of the same batch, and whether the rule has to look at the row
# whatever it remembers: a row that a rule looks at if it is stored and no repeat.
ObservationRow: TypeAlias = tuple[str, int, int, int, int, int, str, str | None, str, int, bool]


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """A value that a sensor measured. `value` is JSON text, as stored."""

    id: int
    timestamp: int
    fingerprint: int
    receipt_timestamp: int
    revision: int | None
    value: msgspec.Raw


class Log(msgspec.Struct, frozen=True, gc=False):
    """A line that a sensor logged."""

    id: int
    timestamp: int
    fingerprint: int
    receipt_timestamp: int
    revision: int | None
    severity: str
    subject: str
    details: str | None


class LogAggregate(msgspec.Struct, frozen=True, gc=False):
    """How often a sensor logged a subject, between which revisions and times."""

    severity: str
    subject: str
    minimum_revision: int | None
    maximum_revision: int | None
    minimum_timestamp: int
    maximum_timestamp: int
    count: int


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """A sign of life, and whether a configuration's revision was applied.

    `unknown_revision` tells that there was no such revision when it came.
    """

    id: int
    timestamp: int
    fingerprint: int
    receipt_timestamp: int
    revision: int | None
    success: bool | None
    details: str | None
    unknown_revision: bool = False


class PacketRecord(msgspec.Struct, frozen=True, gc=False):
    """A packet of a sensor; `payload` is all of it, as JSON text."""

    id: int
    timestamp: int
    fingerprint: int
    receipt_timestamp: int
    payload: str


class RejectedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that could not be accepted as what it claimed to be, and why."""

    id: int
    receipt_timestamp: int
    sensor: int | None
    principal: str
    source: str
    payload: bytes
    size: int
    reason: str
    detail: str
    indexes: str | None


class BrokerDrops(msgspec.Struct, frozen=True, gc=False):
    """How many messages a broker has dropped since its start, and when it said so.

    `uptime` is for how many seconds it had run then; None where it does not say that.
    """

    total: int
    uptime: int | None
    noted_at: int


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """The newest value of one attribute of a sensor, and which row it stands in."""

    name: str
    timestamp: int
    value: Any
    fingerprint: int = 0

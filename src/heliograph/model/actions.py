"""What actions are to do, as the outbox keeps it."""

import uuid
from typing import Final

import msgspec

from heliograph.model.canonical import canonical

# The type of the actions that publish what was posted; their body is a `PacketPublication`.
PUBLISH: Final = "publish"
# By which way.
LISTENER: Final = "listener"
BROKER: Final = "broker"


def idempotency_key(
    rule: str, position: int, type_: str, sensor: int, timestamp: int, fingerprint: int
) -> str:
    """Return the UUID of what a rule does once, by which a receiver knows it when it comes again.

    It is made of what the outbox is unique on, so it is the same however often the action is run,
    whoever runs it, and if what had entered it was rolled back.
    """
    name = canonical([rule, position, type_, sensor, timestamp, fingerprint]).decode()
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


class PacketPublication(msgspec.Struct, frozen=True):
    """What is to be published, and through what: LISTENER or BROKER."""

    topic: str
    payload: str
    through: str

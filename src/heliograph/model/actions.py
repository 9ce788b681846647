"""What actions are to do, as the outbox keeps it."""

from typing import Final

import msgspec

# The type of the actions that publish what was posted; their body is a `PacketPublication`.
PUBLISH: Final = "publish"
# By which way.
LISTENER: Final = "listener"
BROKER: Final = "broker"


class PacketPublication(msgspec.Struct, frozen=True):
    """What is to be published, and through what: LISTENER or BROKER."""

    topic: str
    payload: str
    through: str

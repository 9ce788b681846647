"""Where configurations are published: what the publisher asks of the link and the listener."""

from collections.abc import Sequence
from typing import Protocol


class Broker(Protocol):
    """The link to an external broker."""

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        ...

    @property
    def connects(self) -> int:
        """How often it has been connected."""
        ...

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return when the broker has taken the message.

        Raises:
            PublicationRefusedError: it does not take it.
            PublicationUnsettledError: it takes it neither nor says so.
            HeliographError: too much waits for it already.
        """
        ...


class Subscribers(Protocol):
    """The listener's clients."""

    async def configure(
        self, sensor: int, network_identifier: str, names: Sequence[str], payload: bytes
    ) -> None:
        """Send a configuration to those who subscribe to its topics now."""
        ...

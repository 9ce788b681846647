"""What the MQTT endpoint asks of the rest of the server, which hands itself in."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol

import msgspec

from heliograph.access.policy import Grants
from heliograph.model.event import Committed
from heliograph.model.principal import Principal

# In the place of a sensor's number: what the server itself publishes.
NO_SENSOR: Final = 0


class TopicMessage(msgspec.Struct, gc=False):
    """A message to show under each of its topics, the preferred one first.

    One of NO_SENSOR is the server's own, for those of the network; without a network, for all.
    Without a `payload` it is that of the `event`, made when somebody gets it.
    """

    topics: tuple[str, ...]
    sensor: int
    network_identifier: str
    payload: bytes | None
    event: Committed | None = None


class Outgoing(msgspec.Struct, eq=False, gc=False):
    """A message on its way to subscribers, from a sensor that was in this network then.

    `identifiers` are those of the subscriptions that select it.
    """

    topic: str
    payload: bytes
    qos: int
    sensor: int
    network_identifier: str
    identifiers: tuple[int, ...] = ()
    retain: bool = False
    # At QoS 0 the packet is the same for all clients of a version of MQTT.
    version: int = 0
    packet: bytes = b""


class Settled(Protocol):
    """Messages that come back after their commit, one or several; see `token_of`."""

    tokens: list[int]
    rows: list[tuple[Any, ...]]
    faults: Any
    size: int
    delivery: bytes | None
    dropped: str | None
    duplicates: dict[int, int] | None

    @property
    def first_id(self) -> int:
        """The id that the ledger keeps for it."""
        ...


class Host(Protocol):
    """Knows who connects and what they may see, and takes what they send.

    `generation` changes whenever a route that was given out may lead elsewhere.
    """

    @property
    def generation(self) -> int:
        """The registry's generation."""
        ...

    @property
    def commits(self) -> bool:
        """Whether what is taken is committed as far as the server knows."""
        ...

    async def login(self, username: str, password: bytes, address: str) -> Principal | None:
        """Return whose user name and password these are; None: nobody's.

        Raises:
            HeliographError: RATE_LIMITED, too many wrong passwords; QUEUE_FULL, too many wait.
        """
        ...

    def anonymous(self) -> Principal | None:
        """Return who connects without a user name; None: nobody may."""
        ...

    @property
    def in_flight(self) -> int:
        """How many bytes wait to be committed."""
        ...

    @property
    def committed(self) -> tuple[int, int]:
        """How many bytes were committed since the start, as in flight, and in how many commits."""
        ...

    @property
    def grants(self) -> Grants:
        """What is granted to whom, for `access.policy`."""
        ...

    async def route(self, principal: Principal, topic: str) -> Any:
        """Return where a topic leads for this principal, be it to rejection."""
        ...

    def known_route(self, principal: Principal, topic: str) -> Any:
        """Return what `route` would, if it is known at once; None: it has to be asked for."""
        ...

    def renewed(self, route: Any) -> Any:
        """Return where a route that was given out before a change leads now."""
        ...

    def accepts(self, route: Any) -> bool:
        """Return whether the route leads to a sensor."""
        ...

    def takes(self, route: Any) -> bool:
        """Return whether what is published there is taken: from a sensor, or a packet."""
        ...

    def receive(
        self,
        origin: Any,
        token: int,
        route: Any,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
    ) -> int:
        """Take a message; `origin.settled` is called with it after the commit.

        Returns:
            What it counts as in flight, in bytes.

        Raises:
            HeliographError: nothing is taken now, and reading has to stop.
        """
        ...

    def receive_status(
        self,
        origin: Any,
        token: int,
        route: Any,
        payload: bytes,
        delivery: bytes | None,
        redelivered: bool,
        *,
        retained: bool,
    ) -> int:
        """Take a status, `retained` if a broker has kept it for new subscribers; like `receive`."""
        ...

    def receive_empty(
        self, origin: Any, token: int, route: Any, delivery: bytes | None, redelivered: bool
    ) -> int:
        """Take an empty message with RETAIN, which ends what is retained [MQTT-3.3.1-6].

        Like `receive`.
        """
        ...

    def receive_oversize(self, origin: Any, token: int, route: Any, head: bytes, size: int) -> int:
        """Take note of a message whose payload is over the limit.

        Raises:
            HeliographError: as `receive`.
        """
        ...

    def ignore(self, origin: Any, token: int) -> int:
        """Let a message pass that says nothing new: it is acknowledged in its turn."""
        ...

    def receive_unreadable(self, origin: Any, token: int, topic: str, payload: bytes) -> int:
        """Take note of a message whose topic is no text.

        Raises:
            HeliographError: as `receive`.
        """
        ...

    async def forget(self, deliveries: Sequence[tuple[bytes, int]]) -> None:
        """Let the ledger forget deliveries that can't come again.

        Raises:
            StoreUnavailableError: not now; they expire by themselves.
        """
        ...

    def puback_reason(self, message: Any) -> int:
        """Return the MQTT 5 reason code that says what became of a settled message."""
        ...

    def entered(self, principal: Principal) -> None:
        """Note that the principal has one connection more."""
        ...

    def left(self, principal: Principal) -> None:
        """Note that the principal has one connection less."""
        ...

    def handed_over(self, principal: Principal) -> None:
        """Note that one of the principal's connections goes on at another server."""
        ...

    async def may_subscribe(self, principal: Principal, topic_filter: str) -> bool:
        """Return whether the principal may subscribe to this filter."""
        ...

    def watch(self) -> None:
        """Note that somebody subscribes, before they are told that they do."""
        ...

    @property
    def publish_topic(self) -> str:
        """The topic on which the server publishes what is for devices."""
        ...

    @property
    def longest_topic(self) -> int:
        """The length of the longest topic that there may be, in bytes."""
        ...

    @property
    def rights(self) -> int:
        """A number that changes whenever anybody's right to see something may have changed."""
        ...

    def may_see(self, principal: Principal, sensor: int, network_identifier: str) -> bool:
        """Return whether the principal may see what this sensor sends, or has sent.

        `network_identifier` is the sensor's network, as far as the server does not know better
        by now.
        """
        ...

    def message_of(self, event: Committed) -> TopicMessage | None:
        """Return a committed event as subscribers see it; None: it has no topic."""
        ...

    def payload_of(self, event: Committed) -> bytes:
        """Return what was stored of a message as a payload, where it has none of its own."""
        ...

    def retained(self, principal: Principal, topic_filter: str) -> AsyncIterator[Outgoing]:
        """Yield each retained message that the filter matches and the principal may see.

        They are to be asked for again by `may_see` when they are sent, if that is later.
        """
        ...

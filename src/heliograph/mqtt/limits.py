"""The bounds of the MQTT endpoint, in one place."""

import dataclasses

from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES

# A payload that is rejected is read all the same; the packet around it adds topic and properties.
MAXIMUM_PACKET_BYTES = MAXIMUM_PAYLOAD_BYTES + (128 << 10)
# Every packet but PUBLISH.
MAXIMUM_CONTROL_BYTES = 128 << 10
# A SUBSCRIBE of so many bytes is work enough for one turn.
LARGE_CONTROL_BYTES = 8 << 10
# Of who is not known yet: CONNECT, and what a client sends behind it before it is answered.
MAXIMUM_CONNECT_BYTES = 8 << 10
KEPT_BYTES = 64 << 10
# Of packets whose end has not come: what each connection may hold of them uncounted, and what
# all of them together may hold beyond that.
UNCOUNTED_BYTES = 64 << 10
MAXIMUM_UNFINISHED_BYTES = 32 << 20
IN_FLIGHT_BYTES = 24 << 20
OUTGOING_MESSAGES = 1_000
OUTGOING_BYTES = 1 << 20
OUTGOING_WINDOW = 64
# Of all sessions of a principal together: it may keep a hundred.
MAXIMUM_OWED_BYTES_OF_PRINCIPAL = 8 << 20
# Of all principals together, administrators included.
MAXIMUM_OWED_BYTES_IN_ALL = 96 << 20
WRITE_BUFFER_BYTES = 256 << 10
# Of messages to a subscriber that are written together.
OUTBOX_BYTES = 32 << 10
MAXIMUM_SUBSCRIPTIONS = 1_000
MAXIMUM_FILTER_BYTES = 64 << 10
MAXIMUM_SUBSCRIPTIONS_OF_PRINCIPAL = 10_000
# Of messages that are due to a principal's subscribers, or to all, and had no turn yet.
MAXIMUM_BEHIND_BYTES = 8 << 20
MAXIMUM_BEHIND_BYTES_IN_ALL = 64 << 20
MAXIMUM_ROUTES = 50_000
# Of topics that lead nowhere, which a client may invent without end; none of ours is as long.
MAXIMUM_REFUSED_ROUTES = 100
LONGEST_KEPT_TOPIC = 256
MAXIMUM_TOPIC_ALIASES = 64
MAXIMUM_FILTER_LEVELS = 16
MAXIMUM_SESSIONS = 100_000
MAXIMUM_SESSIONS_OF_PRINCIPAL = 100
LONGEST_SESSION_SECONDS = 7 * 86_400


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What an installation may set. A bound of 0 is none."""

    connections: int = 20_000
    connections_per_address: int = 0
    connections_per_principal: int = 0
    receive_maximum: int = 65_535
    connect_seconds: float = 10.0
    messages_per_minute: int = 0

"""Topic aliases: short numbers that a client of MQTT 5 uses for its topics."""

from typing import Final

from heliograph.mqtt.limits import LONGEST_KEPT_TOPIC, MAXIMUM_TOPIC_ALIASES
from heliograph.mqtt.properties import Properties
from heliograph.mqtt.reasons import ProtocolError, Reason


class TopicAliases:
    """The aliases that a client has set on its connection; they end with it [MQTT-3.3.2-7]."""

    __slots__ = ("_topics",)

    def __init__(self, maximum: int = MAXIMUM_TOPIC_ALIASES) -> None:
        self._topics: list[bytes] = [b""] * (maximum + 1)

    def resolve(self, topic: bytes, properties: Properties) -> bytes:
        """Return the topic that a PUBLISH means, and keep its alias.

        Raises:
            ProtocolError: an alias out of range [MQTT-3.3.2-9], one that was never set, or one
                for a topic that is longer than any there is: 64 of them would be 4 MiB.
        """
        alias = properties.topic_alias
        if alias is None:
            return topic
        if not 0 < alias < len(self._topics):
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "the topic alias is out of range")
        if len(topic) > LONGEST_KEPT_TOPIC:
            raise ProtocolError(Reason.TOPIC_NAME_INVALID, "an alias for a topic that is too long")
        if topic:
            self._topics[alias] = topic
        elif not self._topics[alias]:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "an unknown topic alias")
        return self._topics[alias]


# Of clients of MQTT 3.1.1, and until an opened connection gets its own.
NO_ALIASES: Final = TopicAliases(0)

"""What Heliograph's own topics mean."""

import enum
from typing import Final

from heliograph.model.identifiers import LONGEST_DEVICE_ID

# Of the topics that subscribers are shown, all `<kind>/<sensor>`.
SHOWN_LEVELS: Final = 2


class TopicKind(enum.StrEnum):
    """What a device topic carries; the value is the first level of the topic's own name."""

    MEASUREMENTS = "measurements"
    LOGS = "log-messages"
    HEARTBEATS = "heartbeats"
    STATUS = "status"
    CONFIGURATIONS = "configurations"


_KINDS: Final = {kind.value: kind for kind in TopicKind} | {
    "logs": TopicKind.LOGS,
    "acknowledgments": TopicKind.HEARTBEATS,
}

# The first levels of the topics on which devices publish, of those by which what a sensor sends is
# stored, and of those that are for them to read.
PUBLISHED: Final = tuple(n for n, kind in _KINDS.items() if kind is not TopicKind.CONFIGURATIONS)
SENT: Final = tuple(n for n in PUBLISHED if n != TopicKind.STATUS)
READ: Final = (TopicKind.CONFIGURATIONS.value,)

# A sensor is called by its UUID or its device_id.
LONGEST_OF_A_SENSOR: Final = max(map(len, _KINDS)) + 1 + LONGEST_DEVICE_ID


def parse_device_topic(topic: str) -> tuple[TopicKind, str] | None:
    """Return the kind and the sensor's identifier of `<kind>/<sensor>`; None for other topics."""
    first, _, sensor = topic.partition("/")
    kind = _KINDS.get(first)
    if kind is None or not sensor or "/" in sensor:
        return None
    return kind, sensor


def is_shown(topic_filter: str) -> bool:
    """Return whether the valid filter may select a topic that subscribers are shown."""
    # "sport/#" selects "sport" itself too.
    return topic_filter.removesuffix("/#").count("/") < SHOWN_LEVELS


def is_longer_than(topic_filter: str, longest: int) -> bool:
    """Return whether the filter is longer than any that selects a topic of so many bytes."""
    return len(topic_filter.removesuffix("/#").encode()) > longest

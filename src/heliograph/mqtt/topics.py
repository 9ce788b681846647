"""Topic names and filters of MQTT (4.7, 4.8), and what Heliograph's own topics mean."""

import enum
from typing import Final

from heliograph.model.identifiers import LONGEST_DEVICE_ID
from heliograph.mqtt.fields import LONGEST_STRING

SHARED: Final = "$share/"
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

# The first levels of the topics on which devices publish, and of those that are for them to read.
PUBLISHED: Final = tuple(n for n, kind in _KINDS.items() if kind is not TopicKind.CONFIGURATIONS)
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


def valid_topic(topic: str) -> bool:
    """Tell whether a message may be published under this name [MQTT-4.7.1-1] [MQTT-4.7.3-1..3]."""
    return "+" not in topic and "#" not in topic and _well_formed(topic)


def valid_filter(topic_filter: str) -> bool:
    """Tell whether one may subscribe to it [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1, -2]."""
    if not _well_formed(topic_filter):
        return False
    if topic_filter.startswith(SHARED):
        parts = shared(topic_filter)
        return parts is not None and _wildcards_fill_levels(parts[1])
    return _wildcards_fill_levels(topic_filter)


def shared(topic_filter: str) -> tuple[str, str] | None:
    """Return group and filter of `$share/<group>/<filter>`; None for any other filter."""
    if not topic_filter.startswith(SHARED):
        return None
    group, _, rest = topic_filter[len(SHARED) :].partition("/")
    if not group or "+" in group or "#" in group or not rest:
        return None
    return group, rest


def match(topic_filter: str, topic: str) -> bool:
    """Tell whether the valid filter selects the valid topic.

    A filter that begins with a wildcard selects no topic that begins with `$` [MQTT-4.7.2-1].
    Of a shared subscription, hand in the filter that `shared` returns.
    """
    if "+" not in topic_filter and "#" not in topic_filter:
        return topic_filter == topic
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        # "sport/#" selects "sport" itself too.
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(want in {"+", level} for want, level in zip(wanted, levels, strict=False))


def is_shown(topic_filter: str) -> bool:
    """Tell whether the valid filter may select a topic that subscribers are shown."""
    # "sport/#" selects "sport" itself too.
    return topic_filter.removesuffix("/#").count("/") < SHOWN_LEVELS


def is_longer_than(topic_filter: str, longest: int) -> bool:
    """Tell whether the filter is longer than any that selects a topic of so many bytes."""
    return len(topic_filter.removesuffix("/#").encode()) > longest


def _wildcards_fill_levels(topic_filter: str) -> bool:
    if "+" not in topic_filter and "#" not in topic_filter:
        return True
    levels = topic_filter.split("/")
    if "#" in levels[:-1]:
        return False
    return all(level in {"+", "#"} or not ("+" in level or "#" in level) for level in levels)


def _well_formed(text: str) -> bool:
    if not text or "\0" in text:
        return False
    try:
        return len(text.encode()) <= LONGEST_STRING
    except UnicodeEncodeError:
        return False

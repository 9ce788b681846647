"""Topic names and filters of MQTT (4.7, 4.8)."""

from typing import Final

from heliograph.mqtt.codec.fields import LONGEST_STRING

SHARED: Final = "$share/"


def valid_topic(topic: str) -> bool:
    """Return whether this may be the topic of a message [MQTT-4.7.1-1] [MQTT-4.7.3-1..3]."""
    return "+" not in topic and "#" not in topic and _well_formed(topic)


def valid_filter(topic_filter: str) -> bool:
    """Return whether one may subscribe to it [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1, -2]."""
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
    """Return whether the valid filter selects the valid topic.

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

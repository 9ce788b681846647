"""Topic names and filters (MQTT 5, 4.7 and 4.8)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mqtt.codec.topics import match, shared, valid_filter, valid_topic
from heliograph.mqtt.topics import TopicKind, parse_device_topic

levels = st.sampled_from(["", "a", "b", "sport", "$SYS"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = st.tuples(
    st.lists(st.one_of(levels, st.just("+")), min_size=1, max_size=4), st.sampled_from(["", "#"])
).map(lambda parts: "/".join([*parts[0], parts[1]] if parts[1] else parts[0])).filter(
    bool
) | st.just("#")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "selected"),
    [
        pytest.param("a/b", "a/b", True, id="equal"),
        pytest.param("a/b", "a/B", False, id="case"),
        pytest.param("a", "/a", False, id="leading separator"),
        pytest.param("sport/#", "sport", True, id="hash and the parent"),
        pytest.param("sport/#", "sport/", True, id="hash and an empty level"),
        pytest.param("sport/#", "sport/a/b", True, id="hash and deep levels"),
        pytest.param("sport/#", "sports", False, id="hash and another name"),
        pytest.param("sport/a/#", "sport", False, id="hash two levels below"),
        pytest.param("#", "a/b", True, id="hash alone"),
        pytest.param("#", "/", True, id="hash and a separator"),
        pytest.param("sport/+", "sport", False, id="plus is a level"),
        pytest.param("sport/+", "sport/", True, id="plus and an empty level"),
        pytest.param("sport/+", "sport/a", True, id="plus and a level"),
        pytest.param("sport/+", "sport/a/b", False, id="plus and two levels"),
        pytest.param("+", "/a", False, id="one plus and two levels"),
        pytest.param("/+", "/a", True, id="plus second"),
        pytest.param("+/+", "/a", True, id="plus twice"),
        pytest.param("+/+/#", "a/b", True, id="plus and hash"),
        pytest.param("#", "$SYS/a", False, id="MQTT-4.7.2-1 hash"),
        pytest.param("+/a", "$SYS/a", False, id="MQTT-4.7.2-1 plus"),
        pytest.param("$SYS/#", "$SYS/a", True, id="MQTT-4.7.2-1 named"),
        pytest.param("$SYS/+", "$SYS/a", True, id="MQTT-4.7.2-1 named, plus"),
        pytest.param("a/+", "a/$b", True, id="MQTT-4.7.2-1 on a later level"),
    ],
)
def test_match(topic_filter, topic, selected):
    assert match(topic_filter, topic) is selected


def as_pattern(topic_filter):
    """The filter as a regular expression: another way to the same answer."""
    if topic_filter == "#":
        return "[^$].*|"
    whole = topic_filter.endswith("/#")
    parts = topic_filter.removesuffix("/#").split("/")
    patterns = ["[^/]*" if part == "+" else re.escape(part) for part in parts]
    if parts[0] == "+":
        patterns[0] = r"(?!\$)[^/]*"
    return "/".join(patterns) + ("(/.*)?" if whole else "")


@given(filters, topics)
def test_match_agrees_with_a_regular_expression(topic_filter, topic):
    assert match(topic_filter, topic) is bool(re.fullmatch(as_pattern(topic_filter), topic))


@given(filters, topics)
def test_made_filters_and_topics_are_valid(topic_filter, topic):
    assert valid_filter(topic_filter)
    assert valid_topic(topic)


@pytest.mark.parametrize("text", ["", "a\0", "\ud800", "x" * 65_536, "ü" * 32_768])
def test_neither_topic_nor_filter(text):
    """[MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3]."""
    assert not valid_topic(text)
    assert not valid_filter(text)


@pytest.mark.parametrize("text", ["a", "/", "x" * 65_535, "ü" * 32_767, "$share", "$shared/a", " "])
def test_topic_and_filter(text):
    assert valid_topic(text)
    assert valid_filter(text)


@pytest.mark.parametrize("text", ["+", "#", "a/+/b", "a/#", "+/+", "/#", "$share/g/#"])
def test_filters_that_are_no_topics(text):
    """[MQTT-3.3.2-2]."""
    assert valid_filter(text)
    assert not valid_topic(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a#", id="MQTT-4.7.1-1"),
        pytest.param("#/a", id="MQTT-4.7.1-1 not last"),
        pytest.param("#/#", id="MQTT-4.7.1-1 twice"),
        pytest.param("a+", id="MQTT-4.7.1-2"),
        pytest.param("++", id="MQTT-4.7.1-2 twice"),
        pytest.param("+#", id="both"),
        pytest.param("$share/", id="MQTT-4.8.2-1 nothing"),
        pytest.param("$share//a", id="MQTT-4.8.2-1 empty group"),
        pytest.param("$share/+/a", id="MQTT-4.8.2-2 plus for a group"),
        pytest.param("$share/g#/a", id="MQTT-4.8.2-2 hash in a group"),
        pytest.param("$share/g", id="MQTT-4.8.2-2 no filter"),
        pytest.param("$share/g/", id="MQTT-4.8.2-2 empty filter"),
        pytest.param("$share/g/a#", id="bad filter"),
    ],
)
def test_no_filters(text):
    assert not valid_filter(text)


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        ("$share/g/a/+/b", ("g", "a/+/b")),
        ("$share/g//", ("g", "/")),
        ("$share/g/$SYS/x", ("g", "$SYS/x")),
        ("a/b/c", None),
        ("$shared/g/a", None),
        ("$share", None),
        ("$share/g", None),
    ],
)
def test_shared(topic_filter, parts):
    assert shared(topic_filter) == parts


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("measurements/a", (TopicKind.MEASUREMENTS, "a")),
        ("log-messages/a", (TopicKind.LOGS, "a")),
        ("logs/a", (TopicKind.LOGS, "a")),
        ("heartbeats/a", (TopicKind.HEARTBEATS, "a")),
        ("acknowledgments/a", (TopicKind.HEARTBEATS, "a")),
        ("status/a", (TopicKind.STATUS, "a")),
        ("configurations/a", (TopicKind.CONFIGURATIONS, "a")),
        ("measurements", None),
        ("measurements/", None),
        ("measurements/a/b", None),
        ("measurements/a/", None),
        ("/measurements/a", None),
        ("Measurements/a", None),
        ("a/measurements", None),
        ("packets/a", None),
        ("", None),
    ],
)
def test_device_topics(topic, parsed):
    assert parse_device_topic(topic) == parsed

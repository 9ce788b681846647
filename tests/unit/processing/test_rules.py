"""Rules: how JSON becomes one and again JSON, what is refused, and which sensors it falls upon."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.records import Kind
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.rules import (
    AlertSeverity,
    CompiledRule,
    Match,
    Occasion,
    document_of,
    falls_upon,
    parse,
)

HOT = {"attribute": "t", "above": 30, "clear_below": 28}
IDENTIFIER = "6f1c2f0a-1111-4222-8333-444455556666"
WHOLE: dict[str, Any] = {
    "name": "too hot",
    "enabled": False,
    "kinds": ["measurement", "heartbeat"],
    "match": {"sensors": [IDENTIFIER, "boiler"], "tags": ["attic", "cellar"]},
    "condition": {"all": [HOT, {"attribute": "mode", "one_of": ["on", None]}]},
    "for": 60,
    "clear_for": 0.5,
    "cooldown": 600,
    "late": True,
    "severity": "critical",
    "actions": [
        {"type": "sse", "on": "message", "template": {"t": "{{value.t}}"}},
        {"type": "mqtt", "on": "cleared", "topic": "fans/{{sensor.device_id}}", "payload": "off"},
        {"type": "webhook", "on": "raised", "url": "https://example.org/hook"},
        {"type": "webhook", "on": "raised", "channel": "signed", "payload": ["{{value}}"]},
        {"type": "script", "on": "raised", "script": "ring-the-bell"},
        {
            "type": "alert",
            "text": "{{sensor.device_id}} has {{value.t}} degrees",
            "channels": ["on-call"],
            "remind_every": 3600,
            "escalate": [{"after": 900, "severity": "critical", "channels": ["boss"]}],
        },
    ],
}


def test_a_rule_is_written_as_it_was_read() -> None:
    rule = parse(WHOLE)
    assert document_of(rule) == WHOLE
    assert (rule.hold, rule.severity) == (60, AlertSeverity.CRITICAL)
    assert rule.kinds == (Kind.MEASUREMENT, Kind.HEARTBEAT)
    assert [action.on for action in rule.actions][:2] == [Occasion.MESSAGE, Occasion.CLEARED]


def test_what_is_left_out_has_its_default() -> None:
    rule = parse({"name": "hot", "condition": HOT, "for": None})
    assert document_of(rule) == {
        "name": "hot",
        "enabled": True,
        "kinds": ["measurement"],
        "match": {"sensors": [], "tags": []},
        "condition": HOT,
        "for": 0,
        "clear_for": 0,
        "cooldown": 0,
        "late": False,
        "severity": "warning",
        "actions": [],
    }
    assert parse({"name": "l", "condition": {"subject": "boot"}}).kinds == (Kind.LOG,)
    assert parse({"name": "o", "condition": {"offline": 60}}).kinds == (Kind.PRESENCE,)


def test_steps_of_rising_severity_are_in_the_order_of_their_times() -> None:
    steps = [{"after": 600, "severity": "critical"}, {"after": 60, "severity": "warning"}]
    actions = [{"type": "alert", "escalate": steps}]
    rule = parse({"name": "hot", "condition": HOT, "actions": actions})
    assert rule.actions[0].members["escalate"] == steps[::-1]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"name": None}, "name", "is missing"),
    ({"name": "n" * 256}, "name", "is longer than 255 characters"),
    ({"condition": None}, "condition", "is missing"),
    ({"conditoin": HOT}, "conditoin", "did you mean `condition`?"),
    ({"condition": {"atribute": "t", "above": 3}}, "condition.atribute", "mean `attribute`?"),
    ({"condition": {"attribute": "t", "over": 3}}, "condition.over", "is not known"),
    ({"condition": {"cel": "value >"}}, "condition.cel", "Syntax error"),
    ({"enabled": 1}, "enabled", "1 is neither true nor false"),
    ({"for": -1}, "for", "-1 is not a duration"),
    ({"for": "60"}, "for", '"60" is not a number'),
    ({"cooldown": float("inf")}, "cooldown", "inf is not finite"),
    ({"severity": "fatal"}, "severity", "there are critical, info, warning"),
    ({"severity": "warn"}, "severity", "did you mean `warning`?"),
    ({"kinds": []}, "kinds", "has 0 items"),
    ({"kinds": ["measurements"]}, "kinds[0]", "did you mean `measurement`?"),
    ({"kinds": ["presence"]}, "kinds[0]", "is not known"),
    ({"kinds": ["measurement"], "condition": {"subject": "boot"}}, "kinds[0]", "is not known"),
    ({"match": []}, "match", "[] is not an object"),
    ({"match": {"sensor": ["a"]}}, "match.sensor", "did you mean `sensors`?"),
    (
        {"match": {"sensors": ["no such name"]}},
        "match.sensors[0]",
        "neither a UUID nor a device_id",
    ),
    ({"match": {"tags": ["a"] * 65}}, "match.tags", "has 65 items, not 0 to 64"),
    ({"condition": {"no_data": 60}, "for": 5}, "for", "means nothing with `no_data`"),
    ({"condition": {"no_data": 60}, "clear_for": 5}, "clear_for", "means nothing"),
    ({"condition": {"offline": 60}, "late": True}, "late", "means nothing with `offline`"),
    ({"actions": [{}]}, "actions[0].type", "is missing"),
    ({"actions": [{"type": "alert"}] * 17}, "actions", "has 17 items, not 0 to 16"),
    ({"actions": [{"type": "alert"}] * 2}, "actions", "more than one `alert`"),
    ({"actions": [{"type": "mqqt"}]}, "actions[0].type", "did you mean `mqtt`?"),
    ({"actions": [{"type": "mqtt"}]}, "actions[0].topic", "is missing"),
    ({"actions": [{"type": "mqtt", "topic": "a/#"}]}, "actions[0].topic", "has a wildcard"),
    *(
        ({"actions": [{"type": "alert", "remind_every": often}]}, "actions[0].remind_every", shown)
        for often, shown in ((1e-9, "less than 60 s"), (59, "less than 60 s"), (0, "not above 0"))
    ),
    ({"actions": [{"type": "mqtt", "topic": "a", "qos": 0}]}, "actions[0].qos", "it is QoS 1"),
    (
        {"actions": [{"type": "mqtt", "topic": "a", "retain": True}]},
        *("actions[0].retain", "not retained"),
    ),
    ({"actions": [{"type": "sse", "on": "raise"}]}, "actions[0].on", "did you mean `raised`?"),
    ({"actions": [{"type": "alert", "on": "raised"}]}, "actions[0].on", "is not known"),
    ({"actions": [{"type": "sse", "url": "x"}]}, "actions[0].url", "is not known"),
    ({"actions": [{"type": "webhook"}]}, "actions[0]", "either a `url` or the name of a `channel`"),
    (
        {"actions": [{"type": "webhook", "url": "https://a.b", "channel": "c"}]},
        "actions[0]",
        "either a `url` or the name",
    ),
    (
        {"actions": [{"type": "webhook", "url": "https://a.b/{{value.t}}"}]},
        "actions[0].url",
        "has a placeholder",
    ),
    ({"actions": [{"type": "script", "script": "../x"}]}, "actions[0].script", "leads out of"),
    ({"actions": [{"type": "script", "script": "/bin/sh"}]}, "actions[0].script", "leads out of"),
    (
        {"actions": [{"type": "webhook", "url": "file:///etc"}]},
        "actions[0].url",
        "begin with https",
    ),
    (
        {"actions": [{"type": "mqtt", "topic": "{{sensr.device_id}}"}]},
        "actions[0].topic",
        "`sensr` is not known: did you mean `sensor`?",
    ),
    (
        {"actions": [{"type": "alert", "escalate": [{"severity": "critical"}]}]},
        "actions[0].escalate[0].after",
        "is missing",
    ),
]


def test_what_is_wrong_is_refused_by_its_name() -> None:
    for change, place, problem in REFUSED:
        with pytest.raises(InvalidMemberError) as refused:
            parse({"name": "hot", "condition": HOT} | change)
        assert (change, refused.value.place) == (change, place)
        assert problem in refused.value.problem, (change, refused.value.problem)
    with pytest.raises(InvalidMemberError, match=r"^\[\] is not an object$"):
        parse([])


def test_a_rule_falls_upon_the_sensors_that_it_names_or_tags() -> None:
    def falls(match: dict[str, Any], tags: tuple[str, ...] = ()) -> bool:
        rule = parse({"name": "hot", "condition": HOT, "match": match})
        return falls_upon(rule.match, identifier=IDENTIFIER, device_id="boiler", tags=tags)

    assert falls({})
    assert falls({"sensors": [IDENTIFIER.upper()]})
    assert falls({"sensors": ["boiler", "oven"]})
    assert not falls({"sensors": ["oven"]}, ("attic",))
    assert falls({"tags": ["attic", "cellar"]}, ("attic",))
    assert not falls({"tags": ["attic"]}, ("Attic",))
    assert not falls({"tags": ["attic"]})
    assert falls({"sensors": ["oven"], "tags": ["attic"]}, ("attic", "old"))
    assert not falls_upon(Match(frozenset({"a"})), identifier="b", device_id=None, tags=())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(WHOLE)), json_values)
def test_a_rule_is_refused_or_read_the_same_from_what_it_is_written_as(
    member: str, value: Any
) -> None:
    try:
        rule = parse(WHOLE | {member: value})
    except InvalidMemberError as error:
        refused = error.place
    else:
        refused = member
        assert parse(msgspec.json.decode(msgspec.json.encode(document_of(rule)))) == rule
    assert refused.startswith(member)


def test_a_rule_knows_which_messages_it_has_to_see() -> None:
    def compiled(condition: dict[str, Any]) -> CompiledRule:
        return CompiledRule(parse({"name": "hot", "condition": condition}))

    assert not compiled(HOT).needs_each
    for each in ({"attribute": "t", "rate": 1}, {"no_data": 60}, {"offline": 60}):
        assert compiled(each).needs_each

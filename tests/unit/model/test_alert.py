"""What becomes of an alert: what users of such platforms complain of, as tests."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from heliograph.model.alert import (
    SETTLING,
    Alert,
    AlertEventKind,
    Escalation,
    NewAlert,
    Silence,
    Telling,
    clear,
    proceed,
    raise_again,
)
from heliograph.model.grouping import SEVERITIES, NoticeKind
from heliograph.model.time import HOUR, MINUTE

NEW = NewAlert("rule", 7, "network", "Too hot", "warning", "31 °C", 0)
ALERT = Alert(
    *(1, "rule", 7, "network", "Too hot", "warning", "31 °C", 0, 0),
    *(None, None, None, None, None, 1, None, Telling()),
    tags=("roof",),
)


def silence(start, end, **members):
    base = Silence("s", "network", None, None, None, start, end, None, None, 0)
    return replace(base, **members)


def kinds(alert, silences, until, step=MINUTE):
    """Return what is told, and when, if the clock looks only when it has been said that it must."""
    told = []
    at = 0
    while at <= until:
        alert, _, said = proceed(alert, silences, at)
        if said is not None:
            told.append((at // step, said.kind))
        if alert.due_at is None:
            break
        assert alert.due_at > at
        at = alert.due_at
    return alert, told


def test_the_first_notice_does_not_wait():
    after, _, told = proceed(ALERT, [], 5)
    assert told.kind is NoticeKind.RAISED
    assert after.due_at is None


def test_reminders_come_at_times_that_one_can_count_out():
    alert = replace(ALERT, telling=Telling(remind_every=10 * MINUTE))
    alert, _, _ = proceed(alert, [], 0)
    # The server was away: there is one reminder, and the next comes when it would have anyway.
    alert, _, told = proceed(alert, [], 34 * MINUTE)
    assert (told.kind, alert.due_at) == (NoticeKind.REMINDED, 40 * MINUTE)


def test_an_alert_that_flaps_is_one_alert():
    alert, _, _ = proceed(ALERT, [], 0)
    for minute in range(1, 20, 2):
        alert, _, told = proceed(clear(alert, minute, minute * MINUTE), [], minute * MINUTE)
        assert told.kind is NoticeKind.CLEARED
        alert = raise_again(alert, NEW, (minute + 1) * MINUTE)
        alert, _, told = proceed(alert, [], (minute + 1) * MINUTE)
        assert told.kind is NoticeKind.RAISED
    assert alert.count == 11
    cleared = clear(alert, 0, 0)
    assert raise_again(cleared, NEW, SETTLING - 1) is not None
    assert raise_again(cleared, NEW, SETTLING) is None
    assert raise_again(clear(alert, 0, 0, "alice"), NEW, 1) is None


def test_an_acknowledged_alert_is_quiet_however_often_it_comes():
    plan = Telling(remind_every=MINUTE, escalate=(Escalation(MINUTE, "critical"),))
    new = replace(NEW, remind_every=MINUTE, escalate=plan.escalate)
    alert, _, _ = proceed(replace(ALERT, telling=plan), [], 0)
    alert = replace(alert, acknowledged_at=1, acknowledged_by="alice")
    for minute in range(1, 60, 2):
        alert, events, told = proceed(clear(alert, minute, minute * MINUTE), [], minute * MINUTE)
        assert (events, told) == ([], None)
        alert = raise_again(alert, new, (minute + 1) * MINUTE)
        alert, events, told = proceed(alert, [], (minute + 1) * MINUTE)
        assert (events, told, alert.state) == ([], None, "acknowledged")
    # Nor does the end of a silence tell what is acknowledged, or the time what comes later.
    assert alert.severity == "warning"
    alert = replace(alert, telling=replace(alert.telling, silenced=True))
    alert, events, told = proceed(alert, [silence(0, MINUTE)], 2 * HOUR)
    assert (events, told, alert.severity, alert.due_at) == ([], None, "warning", None)


def test_an_alert_that_comes_again_is_no_less_severe_than_it_was():
    plan = replace(NEW, escalate=(Escalation(MINUTE, "critical"),))
    alert = replace(ALERT, telling=Telling(escalate=plan.escalate))
    alert, events, _ = proceed(alert, [], MINUTE)
    assert (events, alert.severity) == ([AlertEventKind.ESCALATED], "critical")
    alert, _, _ = proceed(clear(alert, 2, 2 * MINUTE), [], 2 * MINUTE)
    again = raise_again(alert, plan, 3 * MINUTE)
    again, events, told = proceed(again, [], 3 * MINUTE)
    assert (events, told.kind, again.severity) == ([], NoticeKind.RAISED, "critical")


def test_who_is_told_of_an_alert_that_rises_is_told_from_then_on():
    steps = (
        Escalation(10 * MINUTE, "critical", ("duty", "ops")),
        Escalation(20 * MINUTE, "critical", ("chief",)),
    )
    plan = Telling(("ops",), remind_every=15 * MINUTE, escalate=steps)
    alert, said = replace(ALERT, telling=plan), []
    while not said or said[-1][0] < 20:
        at = alert.due_at or 0
        alert, _, told = proceed(alert, [], at)
        said.append((at // MINUTE, told.kind, told.channels))
    assert said == [
        (0, NoticeKind.RAISED, ("ops",)),
        (10, NoticeKind.ESCALATED, ("ops", "duty")),
        (20, NoticeKind.ESCALATED, ("ops", "duty", "chief")),
    ]


def test_each_silence_is_noted_once_also_of_what_is_acknowledged():
    both = [silence(0, HOUR), silence(2 * HOUR, 3 * HOUR)]
    noted = [AlertEventKind.SILENCED]
    for acknowledged_at in (None, 1):
        alert, seen = replace(ALERT, acknowledged_at=acknowledged_at), []
        for at in (0, MINUTE, HOUR, 2 * HOUR, 2 * HOUR + MINUTE):
            alert, events, _ = proceed(alert, both, at)
            seen.append([each for each in events if each in noted])
        assert seen == [noted, [], [], noted, []]


def test_what_is_told_to_have_cleared_does_not_say_what_was_found():
    assert ALERT.notice(NoticeKind.RAISED).detail == "31 °C"
    assert ALERT.notice(NoticeKind.CLEARED).detail == ""


def test_a_silence_acts_at_once_and_what_holds_at_its_end_is_told():
    both = [silence(0, 10 * MINUTE), silence(8 * MINUTE, HOUR, tag="roof")]
    assert kinds(ALERT, both, 2 * HOUR)[1] == [(60, NoticeKind.RAISED)]
    within = [silence(0, HOUR), silence(1, MINUTE)]
    assert kinds(ALERT, within, 2 * HOUR)[1] == [(60, NoticeKind.RAISED)]
    assert kinds(ALERT, [silence(1, HOUR)], 2 * HOUR)[1] == [
        (0, NoticeKind.RAISED),
        (60, NoticeKind.REMINDED),
    ]
    acknowledged = replace(ALERT, acknowledged_at=1)
    assert kinds(acknowledged, both, 2 * HOUR)[1] == []
    # What has cleared of what people knew, too.
    known, _, _ = proceed(ALERT, [], 0)
    cleared = clear(known, MINUTE, MINUTE)
    assert kinds(cleared, [silence(0, HOUR)], 2 * HOUR)[1] == [(60, NoticeKind.CLEARED)]


def test_a_silence_is_about_what_it_names():
    for members, is_about in (
        ({}, True),
        ({"tag": "roof", "sensor": 7, "rule": "rule"}, True),
        ({"tag": "cellar"}, False),
        ({"sensor": 8}, False),
        ({"rule": "other"}, False),
        ({"network_identifier": "other"}, False),
        ({"network_identifier": None}, True),
    ):
        assert silence(0, 1, **members).is_about(ALERT) is is_about, members


def test_what_nobody_was_told_of_is_not_told_to_have_cleared():
    alert, _, told = proceed(ALERT, [silence(0, HOUR)], 0)
    assert told is None
    assert kinds(clear(alert, 1, 1), [silence(0, HOUR)], 2 * HOUR)[1] == []


_PLANS = st.builds(
    Telling,
    remind_every=st.none() | st.integers(1, 90).map(lambda minutes: minutes * MINUTE),
    escalate=st.lists(
        st.builds(
            Escalation,
            st.integers(1, 120).map(lambda minutes: minutes * MINUTE),
            st.sampled_from(SEVERITIES),
        ),
        max_size=3,
    ).map(lambda steps: tuple(sorted(steps, key=lambda step: step.after))),
)
_SILENCES = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 60)).map(
        lambda span: silence(span[0] * MINUTE, (span[0] + span[1]) * MINUTE)
    ),
    max_size=4,
)


@given(_PLANS, _SILENCES)
def test_nobody_is_told_during_a_silence_and_everybody_knows_after_it(plan, silences):
    alert, told = kinds(replace(ALERT, telling=plan), silences, 5 * HOUR)
    for minute, _ in told:
        assert not any(s.starts_at <= minute * MINUTE < s.ends_at for s in silences)
    assert told[0][1] is NoticeKind.RAISED
    assert all(kind is not NoticeKind.RAISED for _, kind in told[1:])
    worst = max([ALERT.severity, *(s.severity for s in plan.escalate)], key=SEVERITIES.index)
    assert alert.severity == worst

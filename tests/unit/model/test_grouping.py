"""Gathering of notices: when they are told, in how many digests, and in what words."""

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.grouping import (
    FIRST,
    MOST_GROUPS,
    NOTHING,
    SEVERITIES,
    Gathering,
    Group,
    Notice,
    NoticeKind,
    Pace,
    compose,
    flush,
    gather,
    next_due,
    worst,
)
from heliograph.model.time import HOUR, SECOND

WINDOW = 60 * SECOND
PACE = Pace(WINDOW, 20)
START = 1_800_000_000 * SECOND
RAISED, CLEARED = NoticeKind.RAISED, NoticeKind.CLEARED


def notice(sensor: str, kind: NoticeKind = RAISED, severity: str = "warning", rule: str = "hot"):
    return Notice(kind, severity, rule, sensor)


def kept(state: Gathering) -> Gathering:
    """Return the state as it is read again after it was stored."""
    return msgspec.json.decode(msgspec.json.encode(state), type=Gathering)


def test_the_first_is_told_at_once_and_the_rest_as_one():
    state, sent = gather(NOTHING, [notice("a")], START, PACE)
    assert [group.count for group in sent] == [1]
    assert next_due(state, PACE) is None
    for number in range(2_000):
        state, sent = gather(kept(state), [notice(f"s-{number}")], START + SECOND + number, PACE)
        assert sent == ()
    assert next_due(state, PACE) == START + WINDOW
    assert flush(state, START + WINDOW - 1, PACE)[1] == ()
    state, sent = flush(state, START + WINDOW, PACE)
    assert [(group.count, len(group.first)) for group in sent] == [(2_000, FIRST)]
    # That was a window's first again: the next one waits, if it comes soon.
    assert gather(state, [notice("b")], START + WINDOW + 1, PACE)[1] == ()
    assert gather(state, [notice("b")], START + 2 * WINDOW, PACE)[1] != ()


def test_digests_that_were_sent_later_than_now_do_not_count():
    """The clock was ahead, and is right again."""
    state = Gathering(sent=(START + 9 * HOUR,))
    assert gather(state, [notice("a")], START, Pace(WINDOW, 1))[1] != ()


def test_an_hour_that_has_room_again_does_not_end_a_window():
    pace = Pace(2 * HOUR, 1)
    state, _ = gather(NOTHING, [notice("a")], START, pace)
    state, sent = gather(state, [notice("b")], START + HOUR - 1, pace)
    assert (sent, next_due(state, pace)) == ((), START + 2 * HOUR)


def test_what_is_more_severe_does_not_wait():
    state, _ = gather(NOTHING, [notice("a")], START, PACE)
    state, sent = gather(state, [notice("b")], START + 1, PACE)
    assert sent == ()
    state, sent = gather(state, [notice("c", severity="critical")], START + 2, PACE)
    assert [group.severity for group in sent] == ["warning", "critical"]
    state, sent = gather(state, [notice("d", severity="critical")], START + 3, PACE)
    assert sent == ()
    # Good news of something critical is not.
    state, _ = gather(NOTHING, [notice("a")], START, PACE)
    assert gather(state, [notice("c", CLEARED, "critical")], START + 2, PACE)[1] == ()


def test_a_clock_that_was_put_back_keeps_nothing_waiting():
    state, _ = gather(NOTHING, [notice("a")], START, PACE)
    state, sent = gather(state, [notice("b")], START - HOUR, PACE)
    assert [group.count for group in sent] == [1]


class Sent(NamedTuple):
    at: int
    groups: tuple[Group, ...]


def play(steps: list[tuple[int, list[Notice]]], pace: Pace) -> tuple[list[Sent], Gathering]:
    """Let the time pass from step to step, with each flush when it is due, and to the end."""
    state, now, sent = NOTHING, START, []

    def note(at: int, groups: tuple[Group, ...]) -> None:
        if groups:
            sent.append(Sent(at, groups))

    def until(limit: int) -> None:
        nonlocal state
        while (due := next_due(state, pace)) is not None and due <= limit:
            state, groups = flush(kept(state), due, pace)
            assert groups, "what is due is sent"
            note(due, groups)

    for passed, notices in steps:
        now += passed
        until(now)
        state, groups = gather(kept(state), notices, now, pace)
        note(now, groups)
    until(now + 100 * HOUR)
    return sent, state


NOTICES = st.builds(
    Notice,
    st.sampled_from(list(NoticeKind)),
    st.sampled_from(SEVERITIES),
    st.sampled_from(["hot", "cold", "offline"]),
    st.sampled_from(["a", "b", "c"]),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, SECOND, WINDOW - 1, WINDOW, 10 * WINDOW, HOUR]),
        st.lists(NOTICES, max_size=3),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 5))
def test_each_is_told_once_soon_and_not_too_often(steps, per_hour):
    pace = Pace(WINDOW, per_hour)
    sent, state = play(steps, pace)
    assert state.groups == ()
    assert sum(group.count for each in sent for group in each.groups) == sum(
        len(notices) for _, notices in steps
    )
    times = [each.at for each in sent]
    assert times == sorted(times)
    for earlier, later in zip(times, times[per_hour:], strict=False):
        assert later - earlier >= HOUR
    # None waits longer than its window, unless its hour is full.
    unlimited, _ = play(steps, Pace(WINDOW, 1_000_000))
    now, told = START, 0
    waiting: list[tuple[int, int]] = []
    for passed, notices in steps:
        now += passed
        waiting += [(now, told := told + 1) for _ in notices]
    reached = 0
    for each in unlimited:
        reached += sum(group.count for group in each.groups)
        late = [at for at, number in waiting if number <= reached and at + WINDOW < each.at]
        waiting = [pair for pair in waiting if pair[1] > reached]
        assert late == []
    assert waiting == []


def test_what_is_kept_is_bounded():
    notices = [notice("x" * 500, rule=f"rule {rule}") for rule in range(60) for _ in range(15)]
    state, _ = gather(NOTHING, [notice("a")], START, PACE)
    state, _ = gather(state, notices, START + 1, PACE)
    assert len(state.groups) == MOST_GROUPS + 1
    assert state.groups[-1].rule == "other rules"
    assert sum(group.count for group in state.groups) == len(notices)
    assert len(msgspec.json.encode(state)) < (MOST_GROUPS + 2) * (FIRST + 1) * 250


def told(*notices: Notice, still_raised: int | None = None) -> tuple[str, str]:
    state, _ = gather(NOTHING, [notice("z", severity="critical")], START, PACE)
    groups = gather(state, notices, START + 1, PACE)[0].groups
    digest = compose(groups, "Roof", still_raised)
    assert digest.severity == worst(groups)
    assert digest.alerts == len(notices)
    return digest.title, digest.text


@pytest.mark.parametrize(
    ("notices", "still_raised", "title", "text"),
    [
        (
            [Notice(RAISED, "critical", "Boiler too hot", "boiler-1", "96.2")],
            1,
            "[critical] Boiler too hot: boiler-1 (96.2)",
            (
                "Boiler too hot: raised (critical), 1 sensor: boiler-1 (96.2)\n"
                "Raised at this moment: 1.\n\nNetwork: Roof\n"
            ),
        ),
        (
            [notice(f"s-{n}", rule="offline") for n in range(2_000)],
            None,
            "[warning] 2,000 sensors: offline",
            "offline: raised (warning), 2,000 sensors:\n"
            + "".join(f"  s-{n}\n" for n in range(10))
            + "  and 1,990 more\n\nNetwork: Roof\n",
        ),
        (
            [notice(f"s-{n}", CLEARED, rule="offline") for n in range(2)],
            0,
            "[all clear] 2 sensors: offline",
            (
                "offline: cleared, 2 sensors:\n  s-0\n  s-1\n"
                "All clear: no alert is raised any more.\n\nNetwork: Roof\n"
            ),
        ),
        (
            [notice("a", CLEARED, "critical")],
            3,
            "[cleared] hot: a",
            "hot: cleared, 1 sensor: a\nRaised at this moment: 3.\n\nNetwork: Roof\n",
        ),
        (
            [notice("a"), notice("b", NoticeKind.REMINDED), notice("c", CLEARED), notice("d")],
            0,
            "[warning] 2 raised, 1 still raised, 1 cleared",
            (
                "hot: raised (warning), 2 sensors:\n  a\n  d\n"
                "hot: still raised (warning), 1 sensor: b\nhot: cleared, 1 sensor: c\n"
                "\nNetwork: Roof\n"
            ),
        ),
    ],
)
def test_words(notices, still_raised, title, text):
    assert told(*notices, still_raised=still_raised) == (title, text)

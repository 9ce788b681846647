"""The states of a rule: when it raises and clears, whatever the order and the batches."""

import itertools
import math
import random
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.time import SECOND
from heliograph.processing.conditions import Verdict
from heliograph.processing.rules import CompiledRule, Occasion, parse
from heliograph.processing.state import (
    Observation,
    RuleState,
    Tick,
    Transition,
    advance,
    decode,
    encode,
    next_due,
    start,
)

HOT = {"attribute": "t", "above": 30, "clear_below": 28}
START = 1_800_000_000
ON_MESSAGE = {"actions": [{"type": "sse", "on": "message"}]}


def compiled(condition: dict[str, Any] = HOT, **members: Any) -> CompiledRule:
    return CompiledRule(parse({"name": "hot", "condition": condition, **members}))


def seen(at: float, value: Any, *, received: float | None = None, number: int = 0) -> Observation:
    """Return a message of so many seconds after START."""
    value = {"t": value} if isinstance(value, int | float | None) else value
    received = at if received is None else received
    return Observation(micro(at), number, micro(received), value)


def micro(at: float) -> int:
    return round((START + at) * SECOND)


def tick(at: float, since: float = -(10**9)) -> Tick:
    return Tick(micro(at), micro(since))


def run(
    rule: CompiledRule, events: Iterable[Observation | Tick], state: RuleState | None = None
) -> tuple[RuleState, list[Transition]]:
    state, transitions = state or RuleState(), []
    for event in events:
        state, made = advance(rule, state, event)
        transitions += made
    return state, transitions


def told(
    rule: CompiledRule, *events: Observation | Tick, state: RuleState | None = None
) -> list[str]:
    """Return what happens and when, in seconds after START."""
    marks = {Occasion.RAISED: "+", Occasion.CLEARED: "-", Occasion.MESSAGE: "m"}
    return [
        f"{marks[made.occasion]}{made.at / SECOND - START:g}"
        for made in run(rule, events, state)[1]
    ]


def test_without_durations_each_crossing_of_the_band_counts() -> None:
    values = [20, 31, 29, 31, 30, 27, 29, 31]
    assert told(compiled(), *map(seen, range(8), values)) == ["+1", "-5", "+7"]


def test_it_raises_after_for_of_holding_by_the_datas_own_time() -> None:
    rule = compiled(**{"for": 10})
    assert told(rule, seen(0, 31), seen(5, 31), seen(9, 29), seen(11, 31)) == ["+10"]
    assert told(rule, seen(0, 31), seen(5, 20), seen(9, 31), seen(18, 31)) == []
    # A value counts until the next one says otherwise, with a tick or without.
    assert told(rule, seen(0, 31), seen(600, 20)) == ["+10", "-600"]
    assert told(rule, seen(0, 31), tick(11.9)) == []
    assert told(rule, seen(0, 31), tick(12), tick(11), seen(600, 20)) == ["+10", "-600"]
    # What says otherwise just when it is due is waited for.
    assert told(rule, seen(0, 31), tick(10.5), seen(10, 20), tick(12)) == []
    # What comes an hour late is an hour late by the clock, too.
    assert told(rule, seen(0, 31, received=3600), tick(3611)) == []
    assert told(rule, seen(0, 31, received=3600), tick(3612)) == ["+10"]


def test_it_clears_after_clear_for() -> None:
    rule = compiled(clear_for=10)
    assert told(rule, seen(0, 31), seen(1, 20), seen(5, 31), seen(6, 20), seen(20, 20)) == [
        "+0",
        "-16",
    ]
    assert told(rule, seen(0, 31), seen(1, 20), seen(5, 29), tick(13)) == ["+0", "-11"]


def test_between_two_raises_is_the_cooldown_and_what_still_holds_raises_then() -> None:
    rule = compiled(cooldown=60)
    flapping = [seen(at, 31 if at % 2 == 0 else 20) for at in range(10)]
    assert told(rule, *flapping) == ["+0", "-1"]
    assert told(rule, *flapping, seen(10, 31), tick(61), tick(62)) == ["+0", "-1", "+60"]


def test_late_data_and_repeats_do_nothing_unless_the_rule_asks_for_it() -> None:
    late = [seen(at, 31) for at in range(0, 40, 10)]
    now = seen(100, 20)
    assert told(compiled(), now, *late, now, seen(110, 20)) == []
    rule = compiled(late=True, **{"for": 20})
    assert told(rule, now, *late, now, seen(110, 20)) == ["+20", "-110"]
    assert told(rule, now, late[0], late[1], seen(15, 20), late[2], late[3]) == []
    assert told(rule, now, *reversed(late)) == []
    assert told(rule, now, late[3], late[0], late[2]) == ["+20"]
    # Neither does it hold for longer because both old and new data do.
    assert told(rule, seen(100, 31), late[0], seen(110, 20)) == []
    assert told(compiled(), seen(0, 31), now, seen(0, 31)) == ["+0", "-100"]
    # The pipeline left the newer ones out, and knows how new they were.
    newest = Observation(micro(50), 1, micro(120), {"t": 31}, newest=micro(100))
    assert told(compiled(), newest) == []
    assert run(rule, [now, late[0], late[1], late[2]])[1][0].late


def test_late_raises_keep_the_cooldown() -> None:
    rule = compiled(late=True, cooldown=60)
    assert told(rule, seen(100, 31), seen(101, 20), seen(50, 31)) == ["+100", "-101"]
    assert told(rule, seen(100, 31), seen(101, 20), seen(30, 31)) == ["+100", "-101", "+30"]


def test_what_the_message_lacks_changes_nothing() -> None:
    rule = compiled(**{"for": 10})
    assert told(rule, seen(0, 31), seen(5, None), seen(8, {"u": 1}), seen(10, 31)) == ["+10"]


def test_changes_are_from_the_previous_number_in_the_order_of_time() -> None:
    rule = compiled({"attribute": "t", "change": 5})
    values = [seen(0, 20), seen(1, 26), seen(2, 27), seen(3, {"u": 1}), seen(4, 33)]
    assert told(rule, *values) == ["+1", "-2", "+4"]
    assert told(rule, seen(1, 20), seen(0, 50), seen(2, 21)) == []
    # What was between late ones is not known, whatever was thought of them when they came.
    late = Observation(micro(1), 0, micro(9), {"t": 90}, verdict=Verdict.HOLDS)
    assert told(compiled({"attribute": "t", "change": 5}, late=True), seen(2, 20), late) == []
    rate = compiled({"attribute": "t", "rate": 1})
    assert told(rate, seen(0, 20), seen(10, 29), seen(12, 31)) == ["+12"]


def test_no_data_counts_from_the_last_message_that_has_the_attribute() -> None:
    rule = compiled({"no_data": 60, "attribute": "t"})
    begun = start(rule, micro(0))
    assert told(rule, tick(59), tick(60), state=begun) == ["+60"]
    assert told(rule, seen(50, 1), tick(60), tick(109), state=begun) == []
    assert told(rule, seen(50, 1), tick(110), tick(111), state=begun) == ["+110"]
    assert told(rule, seen(50, {"u": 1}), tick(60), state=begun) == ["+60"]
    back = [tick(61), seen(70, 1), tick(71), tick(130)]
    assert told(rule, *back, state=begun) == ["+60", "-70", "+130"]
    # Late by their own time, but a sign of life.
    assert told(rule, seen(-900, 1, received=50), tick(109), state=begun) == []


def test_a_sensor_that_comes_back_while_the_clock_ticks_is_not_left_alarmed() -> None:
    rule = compiled({"no_data": 60})
    # It came before the tick, and is told of after it.
    assert told(rule, tick(65), seen(59, 1), tick(66), state=start(rule, micro(0))) == [
        "+60",
        "-60",
    ]
    state, _ = run(rule, [tick(65), seen(59, 1)], start(rule, micro(0)))
    assert next_due(rule, state) == micro(59 + 60)


def test_an_outage_of_the_server_is_no_silence_of_a_sensor() -> None:
    rule = compiled({"no_data": 60})
    state = start(rule, micro(0))
    assert told(rule, tick(1000, since=990), tick(1049, since=990), state=state) == []
    assert told(rule, tick(1050, since=990), state=state) == ["+1050"]
    assert next_due(rule, state, micro(990)) == micro(1050)


def test_offline_counts_from_the_disconnection() -> None:
    rule = compiled({"offline": 60}, clear_for=10)
    events = [seen(0, True), tick(500), seen(1000, False), tick(1059)]
    connections = [
        Observation(event.timestamp, 0, event.received_at, event.value["t"])
        if isinstance(event, Observation)
        else event
        for event in events
    ]
    assert told(rule, *connections) == []
    assert told(rule, *connections, tick(1060)) == ["+1060"]
    back = Observation(micro(1100), 0, micro(1100), value=True)
    assert told(rule, *connections, tick(1060), back, tick(1109)) == ["+1060"]
    assert told(rule, *connections, tick(1060), back, tick(1110)) == ["+1060", "-1110"]
    assert told(rule, *connections, back, tick(1110)) == []


def test_each_message_that_fulfils_the_condition_counts_where_an_action_asks_for_it() -> None:
    values = [seen(0, 31), seen(5, 32), seen(10, 33), seen(11, 29), seen(12, 34), seen(13, 20)]
    assert told(compiled(**ON_MESSAGE, **{"for": 10}), *values) == ["+10", "m10", "m12", "-13"]
    late = compiled(**ON_MESSAGE, late=True)
    assert told(late, seen(9, 31), seen(1, 31), seen(1, 31)) == ["+9", "m9", "m1"]


def test_a_raise_has_the_message_as_its_cause_that_began_it() -> None:
    rule = compiled(**{"for": 10})
    messages = [seen(0, 31, number=7), seen(20, 31, number=8)]
    for events in ([*messages], [messages[0], tick(15)]):
        [raised] = run(rule, events)[1]
        assert raised == Transition(Occasion.RAISED, micro(10), (micro(0), 7))


def test_a_noisy_signal_raises_once_where_the_naive_rule_fires_dozens_of_times() -> None:
    noise = random.Random(14)
    signal = [
        seen(at, 24 + 8 * math.sin(at / 600) + noise.gauss(0, 0.8)) for at in range(0, 1_880, 2)
    ]
    naive = [
        made for made in told(compiled({"attribute": "t", "above": 30}), *signal) if "+" in made
    ]
    assert len(naive) > 36
    steady = told(compiled({**HOT, "clear_below": 27}, **{"for": 60, "clear_for": 60}), *signal)
    assert [made[0] for made in steady] == ["+", "-"]


# What may come, in order: seconds since the one before, and the value.
steps = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([20, 27, 29, 31, 33, None])), max_size=25
)
rules = st.builds(
    lambda condition, hold, clear_for, cooldown, late: compiled(
        condition, **{"for": hold}, clear_for=clear_for, cooldown=cooldown, late=late
    ),
    st.sampled_from([HOT, {"attribute": "t", "above": 30}, {"attribute": "t", "change": 3}]),
    st.sampled_from([0, 1, 10]),
    st.sampled_from([0, 10]),
    st.sampled_from([0, 25]),
    st.booleans(),
)


def series(made: list[tuple[int, Any]]) -> list[Observation]:
    at, found = 0, []
    for number, (passed, value) in enumerate(made):
        at += passed
        found.append(seen(at, value, number=number, received=at + 100))
    return found


@given(rules, steps, st.randoms(use_true_random=False))
def test_neither_batches_nor_ticks_in_between_change_what_happens(
    rule: CompiledRule, made: list[tuple[int, Any]], chance: random.Random
) -> None:
    messages = series(made)
    end = Tick((messages[-1].received_at if messages else 0) + 60 * SECOND)
    events: list[Observation | Tick] = []
    for message, following in itertools.zip_longest(messages, messages[1:]):
        events.append(message)
        until = following.received_at if following else message.received_at
        events += [
            Tick(chance.randint(message.received_at, until)) for _ in range(chance.randint(0, 2))
        ]
    state, transitions = RuleState(), []
    for event in [*events, end]:
        state, more = advance(rule, decode(encode(state)), event)
        transitions += more
        due = next_due(rule, state)
        if isinstance(event, Tick):
            assert due is None or due > event.now
            assert advance(rule, state, event) == (state, [])
            assert advance(rule, state, Tick(event.now - SECOND)) == (state, [])
    assert (state, transitions) == run(rule, [*messages, end])


@given(rules, steps, st.randoms(use_true_random=False))
def test_messages_that_do_not_matter_can_be_left_out(
    rule: CompiledRule, made: list[tuple[int, Any]], chance: random.Random
) -> None:
    messages = series([(1 + passed, value) for passed, value in made])
    # Some come late.
    messages = sorted(
        messages, key=lambda each: each.timestamp + chance.choice([0, 0, 20]) * SECOND
    )
    whole, state = RuleState(), RuleState()
    of_all: list[Transition] = []
    of_some: list[Transition] = []
    newest = -(1 << 62)
    for message in messages:
        whole, transitions = advance(rule, whole, message)
        of_all += transitions
        verdict = rule.evaluate(message.value, message.timestamp, {})
        if rule.needs_each or not state.is_idle or verdict is Verdict.HOLDS:
            kept = msgspec.structs.replace(message, newest=newest)
            state, transitions = advance(rule, state, kept)
            of_some += transitions
        newest = max(newest, message.timestamp)
    assert of_some == of_all
    assert (state.raised, state.since) == (whole.raised, whole.since)


@given(rules, steps, st.randoms(use_true_random=False))
def test_raises_and_clears_take_turns_whatever_comes(
    rule: CompiledRule, made: list[tuple[int, Any]], chance: random.Random
) -> None:
    events: list[Observation | Tick] = [*series(made), *map(tick, range(0, 300, 40))]
    events += chance.sample(events, len(events) // 3)
    chance.shuffle(events)
    state, transitions = RuleState(), []
    for event in events:
        before = encode(state)
        after, more = advance(rule, state, event)
        assert encode(state) == before
        state, transitions = after, transitions + more
    occasions = [each.occasion for each in transitions]
    turns = itertools.cycle([Occasion.RAISED, Occasion.CLEARED])
    assert occasions == list(itertools.islice(turns, len(occasions)))
    assert state.raised == bool(len(occasions) % 2)


@given(rules, steps)
def test_a_raise_comes_only_after_holding_for_so_long(
    rule: CompiledRule, made: list[tuple[int, Any]]
) -> None:
    messages = series(made)
    said, previous = {}, {}
    for message in messages:
        value = message.value["t"]
        verdict = rule.evaluate(message.value, message.timestamp, previous)
        said[message.timestamp, message.fingerprint] = verdict
        if value is not None:
            previous = {"t": (message.timestamp, value)}
    raised = [each for each in run(rule, messages)[1] if each.occasion is Occasion.RAISED]
    for each in raised:
        assert said[each.cause] is Verdict.HOLDS
        assert each.at - each.cause[0] >= rule.hold
        since = [verdict for key, verdict in said.items() if each.cause <= key < (each.at, 0)]
        assert Verdict.CLEARS not in since
    raises = [each.at for each in raised]
    assert all(later - sooner >= rule.cooldown for sooner, later in itertools.pairwise(raises))

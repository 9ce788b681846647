"""Who is connected, in memory, and what of that has to be stored."""

from hypothesis import given
from hypothesis import strategies as st

from heliograph.access.connected import Connected


def test_a_sensor_is_connected_from_its_first_connection_to_the_end_of_its_last():
    connected = Connected()
    assert connected.find(1) == (False, None)
    connected.enter(1, 10)
    connected.enter(1, 11)
    connected.leave(1, 12)
    assert connected.find(1) == (True, 10)
    connected.leave(1, 13)
    assert connected.find(1) == (False, 13)
    assert connected.take(9) == [(1, False, 13)]


def test_where_others_have_connections_too_memory_knows_only_its_own():
    connected = Connected(alone=False)
    assert connected.find(1) is None
    connected.enter(1, 10)
    assert connected.find(1) == (True, 10)
    assert connected.all() == [(1, True, 10)]


def test_who_is_back_before_it_was_stored_was_never_gone():
    connected = Connected()
    connected.enter(1, 10)
    rows = connected.take(9)
    connected.settled(rows)
    assert rows == [(1, True, 10)]
    connected.leave(1, 20)
    connected.enter(1, 21)
    assert connected.take(9) == []
    assert connected.find(1) == (True, 10)


def test_who_was_there_for_a_moment_has_left():
    connected = Connected()
    connected.enter(1, 10)
    connected.leave(1, 11)
    assert connected.take(9) == [(1, False, 11)]


def test_who_is_back_while_its_end_is_written_is_written_again():
    connected = Connected()
    connected.enter(1, 10)
    connected.settled(connected.take(9))
    connected.leave(1, 20)
    rows = connected.take(9)
    connected.enter(1, 21)
    connected.settled(rows)
    assert connected.find(1) == (True, 21)
    assert connected.take(9) == [(1, True, 21)]


def test_an_end_that_was_never_a_beginning_is_none():
    connected = Connected()
    connected.enter(1, 10)
    connected.leave_all(11)
    connected.leave(1, 12)
    assert connected.take(9) == [(1, False, 11)]
    assert connected.all() == []


SENSORS = st.integers(1, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["enter", "leave"]), SENSORS),
        st.tuples(st.sampled_from(["take", "settle"]), st.integers(1, 2)),
    ),
    max_size=60,
)


@given(STEPS)
def test_what_is_stored_ends_as_what_is(steps):
    connected = Connected()
    noted = []
    connected.changed.set = lambda: noted.append(True)
    counts, stored, under_way = {}, {}, []
    for moment, (step, number) in enumerate(steps, 1):
        if step == "enter":
            counts[number] = counts.get(number, 0) + 1
            connected.enter(number, moment)
        elif step == "leave":
            if counts.get(number):
                counts[number] -= 1
                connected.leave(number, moment)
        elif step == "take" and not under_way:
            under_way = connected.take(number)
            assert len(under_way) <= number
        elif step == "settle" and under_way:
            stored.update({row[0]: row[1:] for row in under_way})
            connected.settled(under_way)
            under_way = []
        for each in (1, 2, 3):
            live, since = connected.find(each)
            assert live is bool(counts.get(each))
            if not live and since is None:  # memory says that the store knows
                assert not stored.get(each, (False, 0))[0]
    for rows in (under_way, connected.take(99)):
        stored.update({row[0]: row[1:] for row in rows})
        connected.settled(rows)
    assert not connected.take(99)
    for number, count in counts.items():
        assert stored.get(number, (False, 0))[0] is bool(count)
        if count:
            assert connected.find(number) == stored[number]
    assert bool(noted) is bool(counts)
    # What is over leaves nothing behind in memory.
    assert connected._ended == {}
    assert set(connected._since) == {number for number, count in counts.items() if count}
